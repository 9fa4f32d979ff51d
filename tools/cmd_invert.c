/* oneword invert: a picture to the noise that DDIM makes it from, or how far that and the way back miss it. */
#include "nn/fit/latent_fit.h"
#include "tensor/io/json.h"
#include "tools/embedding.h"
#include "tools/invert.h"
#include "tools/opt.h"
#include "tools/picture_out.h"
#include "tools/prompt.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct invert_options {
    opt_common common;
    const char *model, *input, *output, *prompt, *negative, *steps, *guidance, *rule, *tokenizer_mode;
    opt_list embedding;
    int64_t resolution;
    bool round_trip;
} invert_options;

#define FIELD(name) offsetof(invert_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR",
     "model directory as diffusers saves it"},
    {"i,input", OPT_TEXT, FIELD(input), 0, 0, "FILE", "the picture; or as an argument"},
    {"o,output", OPT_TEXT, FIELD(output), 0, 0, "FILE", "safetensors file for the noise (default: noise.safetensors)"},
    {"p,prompt", OPT_TEXT, FIELD(prompt), 0, 0, "TEXT", "what the picture shows (default: nothing)"},
    {"n,negative-prompt", OPT_TEXT, FIELD(negative), 0, 0, "TEXT", "where guidance leads away from (default: nothing)"},
    {"embedding", OPT_LIST, FIELD(embedding), 0, 0, "[NAME=]FILE", "a learned word for the prompt; may be repeated"},
    {"steps", OPT_TEXT, FIELD(steps), 0, 0, "N[,N...]",
     "steps of DDIM (default: 50, the official code: 250); a list for --round-trip (default: 10,20,50)"},
    {"cfg-scale,guidance-scale,scale,g", OPT_TEXT, FIELD(guidance), 0, 0, "X[,X...]",
     "classifier-free guidance on the way (default: 1, none; the official code: 5); a list for --round-trip (default: "
     "1,2,5)"},
    {"rule", OPT_TEXT, FIELD(rule), 0, 0, "official|diffusers",
     "where a step takes its prediction (default: official, at its beginning)"},
    {"round-trip", OPT_FLAG, FIELD(round_trip), 0, 0, NULL,
     "write no noise, but print the error of going there and back"},
    {"resolution", OPT_INT, FIELD(resolution), 1, 65536, "N",
     "squeeze the picture to N x N first (default: its own size)"},
    {"tokenizer-mode", OPT_TEXT, FIELD(tokenizer_mode), 0, 0, "hf|openai", "rules of the tokenizer (default: hf)"},
    OPT_COMMON(invert_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_invert = {
    "invert",
    "a picture to the noise that makes it (DDIM inversion)",
    "invert --model DIR [options] PICTURE",
    "Writes \"latent\" [1, channels, h, w]: the x_T from which DDIM, with the same prompt, steps and guidance, makes "
    "about this picture.\n"
    "generate --latent FILE starts there, with another prompt if you like: the paper's bipartite editing (appendix "
    "A).\n\n"
    "  oneword invert --model testdata/world/model -p 'a photo of a cat' testdata/world/concepts/bunbun/0.png\n"
    "  oneword generate --model testdata/world/model --latent noise.safetensors -p 'a photo of a red cat' --steps 50 "
    "--cfg-scale 2\n\n"
    "--round-trip prints a line for each number of steps and guidance: the mean squared error of the latent and the "
    "PSNR of the\n"
    "picture against the original. More steps help; guidance above 1 breaks the inversion.",
    rows,
    sizeof rows / sizeof *rows,
    run};

enum { MOST = 32 }; /* entries of a list */

typedef struct job {
    invert_options o;
    tn_ctx c;
    nn_model *m;
    emb_words words;
    float *learned;
    int64_t learned_rows;
    double steps[MOST], guidance[MOST];
    int nsteps, nguidance;
    nn_image image;
    latents latent;
    opt_progress bar;
    int64_t done;
} job;

/* "1,2.5": numbers within lo..hi. */
static int read_list(const char *name, const char *text, double lo, double hi, bool whole, double *out, int *n,
                     tn_err *err) {
    *n = 0;
    for (const char *s = text;; s++) {
        size_t len = strcspn(s, ",");
        double x;
        if (*n == MOST) return tn_fail(err, TN_EUSAGE, "--%s: at most %d numbers", name, MOST);
        if (!tn_parse_double(s, len, &x) || !(x >= lo && x <= hi) || (whole && x != floor(x)))
            return tn_fail(err, TN_EUSAGE, "--%s \"%s\": expected %s from %g to %g, several with commas between", name,
                           text, whole ? "whole numbers" : "numbers", lo, hi);
        out[(*n)++] = x;
        s += len;
        if (!*s) return 0;
    }
}

static int settle(job *j, tn_err *err) {
    invert_options *o = &j->o;
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (!o->input) return tn_fail(err, TN_EUSAGE, "a picture is needed (oneword invert --model DIR PICTURE)");
    if (o->round_trip && o->output) return tn_fail(err, TN_EUSAGE, "--round-trip writes no noise: leave out --output");
    const char *steps = o->steps        ? o->steps
                        : o->round_trip ? "10,20,50"
                                        : "50",
               *guidance = o->guidance     ? o->guidance
                           : o->round_trip ? "1,2,5"
                                           : "1";
    if (read_list("steps", steps, 2, 1000000, true, j->steps, &j->nsteps, err) ||
        read_list("cfg-scale", guidance, 0, 1000, false, j->guidance, &j->nguidance, err))
        return -1;
    if (!o->round_trip && (j->nsteps > 1 || j->nguidance > 1))
        return tn_fail(err, TN_EUSAGE, "several --steps or --cfg-scale are for --round-trip");
    if (!o->output) o->output = "noise.safetensors";
    if (prompt_check("--prompt", o->prompt, err) || prompt_check("--negative-prompt", o->negative, err)) return -1;
    return o->round_trip ? 0 : out_try(o->output, err);
}

static int load(job *j, tn_err *err) {
    const invert_options *o = &j->o;
    for (int i = 0; i < o->embedding.n; i++) {
        if (emb_read_argument(o->embedding.item[i], &j->words, err)) return -1;
    }
    if (opt_context(&o->common, &j->c, err) || nn_model_load(o->model, NN_LOAD_ALL, &j->m, err) ||
        emb_register(j->m, &j->words, &j->learned, &j->learned_rows, err))
        return -1;
    if (prompt_remarks(j->m, "--prompt", o->prompt, prompt_rules(j->o.tokenizer_mode), nn_prompt_length(j->m), err) ||
        prompt_unused(j->m, &j->words, o->prompt, o->negative, prompt_rules(j->o.tokenizer_mode), err))
        return -1;
    if (latents_picture(o->input, j->m->vae, o->resolution, &j->image, err)) return -1;
    return latents_encode(&j->c, j->m->vae, &j->image, &j->latent, err);
}

static void step_done(void *arg, int64_t done) {
    job *j = arg;
    opt_progress_step(&j->bar, j->done + done, NULL);
}

static inv_request request(job *j, double steps, double guidance) {
    return (inv_request){.prompt = j->o.prompt,
                         .negative = j->o.negative,
                         .learned = j->learned,
                         .rows = j->learned_rows,
                         .steps = (int64_t)steps,
                         .guidance = guidance,
                         .rule = strcmp(j->o.rule, "diffusers") == 0 ? NN_INVERT_DIFFUSERS : NN_INVERT_OFFICIAL,
                         .rules = prompt_rules(j->o.tokenizer_mode),
                         .progress = step_done,
                         .arg = j};
}

/* ---- there ---- */

static int announce(const job *j, const latents *noise, tn_err *err) {
    tn_jw w;
    if (!j->o.common.json) {
        puts(j->o.output);
        return 0;
    }
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", j->o.output);
    tn_jw_open(&w, "shape", '[');
    tn_jw_int(&w, NULL, 1), tn_jw_int(&w, NULL, nn_vae_cfg(j->m->vae)->latent_channels), tn_jw_int(&w, NULL, noise->h),
        tn_jw_int(&w, NULL, noise->w);
    tn_jw_close(&w, ']');
    tn_jw_int(&w, "steps", (int64_t)j->steps[0]), tn_jw_number(&w, "cfg_scale", j->guidance[0]),
        tn_jw_string(&w, "rule", j->o.rule);
    return opt_put_json(&w, err);
}

static int invert(job *j, tn_err *err) {
    char steps[32], guidance[32];
    latents noise;
    inv_request r = request(j, j->steps[0], j->guidance[0]);
    opt_progress_start(&j->bar, &j->o.common, "invert", inv_work(&r, false), 0);
    if (inv_noise(&j->c, j->m, &r, &j->latent, &noise, err)) return -1;
    opt_progress_end(&j->bar);
    snprintf(steps, sizeof steps, "%" PRId64, r.steps), snprintf(guidance, sizeof guidance, "%.9g", r.guidance);
    const latents_note notes[] = {{"prompt", j->o.prompt},
                                  {"negative_prompt", j->o.negative},
                                  {"steps", steps},
                                  {"cfg_scale", guidance},
                                  {"rule", j->o.rule}};
    int bad = latents_write(j->o.output, j->m->vae, &noise, notes, sizeof notes / sizeof *notes, err) ||
              announce(j, &noise, err);
    latents_free(&noise);
    return bad ? -1 : 0;
}

/* ---- and back ---- */

/* Decibels, of which there may be infinitely many. */
static void put_psnr(tn_jw *w, const char *key, double psnr) {
    if (isinf(psnr))
        tn_jw_null(w, key);
    else
        tn_jw_number(w, key, psnr);
}

static int print_bound(job *j, tn_err *err) {
    nn_image decoded;
    tn_jw w;
    if (latents_decode(&j->c, j->m->vae, &j->latent, 0, &decoded, err)) return -1;
    double psnr = nn_psnr(&j->image, &decoded);
    nn_image_free(&decoded);
    if (!j->o.common.json) {
        printf("the autoencoder alone: %.2f dB\n\nsteps  guidance  MSE of the latent  PSNR of the picture\n", psnr);
        return 0;
    }
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "picture", j->o.input), tn_jw_string(&w, "prompt", j->o.prompt),
        tn_jw_string(&w, "rule", j->o.rule);
    put_psnr(&w, "autoencoder_psnr", psnr);
    return opt_put_json(&w, err);
}

static int print_trip(job *j, double steps, double guidance, tn_err *err) {
    inv_request r = request(j, steps, guidance);
    nn_image back;
    double mse;
    tn_jw w;
    if (inv_round_trip(&j->c, j->m, &r, &j->latent, &mse, &back, err)) return -1;
    j->done += inv_work(&r, true);
    double psnr = nn_psnr(&j->image, &back);
    nn_image_free(&back);
    if (!j->o.common.json) {
        printf("%5" PRId64 "  %8g  %17.6g  %16.2f dB\n", r.steps, guidance, mse, psnr);
        return 0;
    }
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_int(&w, "steps", r.steps), tn_jw_number(&w, "cfg_scale", guidance), tn_jw_number(&w, "latent_mse", mse);
    put_psnr(&w, "psnr", psnr);
    return opt_put_json(&w, err);
}

static int round_trips(job *j, tn_err *err) {
    int64_t work = 0;
    for (int s = 0; s < j->nsteps; s++) {
        inv_request r = request(j, j->steps[s], 1.0);
        work += inv_work(&r, true) * j->nguidance;
    }
    if (print_bound(j, err)) return -1;
    opt_progress_start(&j->bar, &j->o.common, "invert", work, 0);
    for (int g = 0; g < j->nguidance; g++) {
        for (int s = 0; s < j->nsteps; s++) {
            if (print_trip(j, j->steps[s], j->guidance[g], err)) return -1;
            fflush(stdout);
        }
    }
    opt_progress_end(&j->bar);
    return 0;
}

static int run(int argc, char **argv) {
    job j = {.o = {.prompt = "", .negative = "", .rule = "official", .tokenizer_mode = "hf"}};
    opt_list rest = {.n = 0};
    tn_err err;
    int r = opt_parse(&cmd_invert, argc, argv, &j.o, NULL, &rest, &err);
    if (!r && rest.n + (j.o.input != NULL) > 1) r = tn_fail(&err, TN_EUSAGE, "one picture at a time");
    if (!r) {
        if (rest.n) j.o.input = rest.item[0];
        r = settle(&j, &err) || load(&j, &err) || (j.o.round_trip ? round_trips(&j, &err) : invert(&j, &err)) ? -1 : 0;
        tn_ctx_free(&j.c);
        nn_model_free(j.m);
        emb_free(&j.words);
        nn_image_free(&j.image);
        latents_free(&j.latent);
        free(j.learned);
    }
    return r < 0 ? opt_error(&err) : 0;
}
