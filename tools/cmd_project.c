/* oneword project: a latent found by optimisation through the decoder, for a picture or for a sentence. */
#include "nn/fit/latent_fit.h"
#include "nn/image/preprocess.h"
#include "nn/model.h"
#include "tensor/dmath.h"
#include "tensor/io/json.h"
#include "tensor/io/sys.h"
#include "tools/clip_score.h"
#include "tools/generate.h"
#include "tools/latents.h"
#include "tools/opt.h"
#include "tools/picture_out.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct project_options {
    opt_common common;
    const char *model, *image, *clip, *prompt, *clip_image, *output, *save_latents;
    int64_t steps, seed, cutouts, resolution;
    double lr;
} project_options;

#define FIELD(name) offsetof(project_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR",
     "model directory as diffusers saves it"},
    {"i,image", OPT_TEXT, FIELD(image), 0, 0, "FILE",
     "the picture to be found; with --clip: to begin with (default: noise)"},
    {"clip", OPT_TEXT, FIELD(clip), 0, 0, "DIR", "CLIP directory: look for what --prompt or --clip-image shows"},
    {"p,prompt", OPT_TEXT, FIELD(prompt), 0, 0, "TEXT", "with --clip: the sentence"},
    {"clip-image", OPT_TEXT, FIELD(clip_image), 0, 0, "FILE",
     "with --clip: a picture to be like, in place of the sentence"},
    {"o,output", OPT_TEXT, FIELD(output), 0, 0, "FILE", "PNG or PPM for the picture (default: projected.png)"},
    {"save-latents", OPT_TEXT, FIELD(save_latents), 0, 0, "FILE",
     "safetensors file for the latent (default: latent.safetensors)"},
    {"steps", OPT_INT, FIELD(steps), 0, 1000000, "N", "steps of Adam (default: 75; with --clip 100)"},
    {"learning-rate,lr", OPT_NUMBER, FIELD(lr), 0, 1000, "X", "of Adam (default: 0.1)"},
    {"cutouts", OPT_INT, FIELD(cutouts), 1, 1024, "N",
     "with --clip: squares that CLIP is shown at each step (default: 16)"},
    {"S,seed", OPT_INT, FIELD(seed), -1, 9.2e18, "N",
     "with --clip: of the noise and the cutouts; -1 is random (default)"},
    {"resolution", OPT_INT, FIELD(resolution), 1, 65536, "N",
     "squeeze the picture to N x N first (default: its own size; of noise: the model's)"},
    OPT_COMMON(project_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_project = {
    "project",
    "the latent whose picture comes nearest to a picture, or to a sentence",
    "project --model DIR --image PICTURE [options]\n"
    "       oneword project --model DIR --clip DIR --prompt TEXT [options]",
    "With a picture: GAN-inversion. The encoder's latent, then Adam on it so that the decoder gives the picture back; "
    "prints the PSNR\n"
    "of both. With --clip: VQGAN-CLIP with this decoder. No diffusion takes part; prints the cosine before and "
    "after.\n\n"
    "  oneword project --model testdata/world/model -i testdata/world/concepts/bunbun/0.png\n"
    "  oneword project --model testdata/world/model --clip testdata/world/clip -p 'a photo of a red car' --seed 1\n\n"
    "With --json a line {\"file\", \"latents\", \"steps\", \"psnr_encoder\", \"psnr\"}, or {..., \"cosine_first\", "
    "\"cosine\"}.",
    rows,
    sizeof rows / sizeof *rows,
    run};

typedef struct job {
    project_options o;
    tn_ctx c;
    nn_model *m;
    clip_judge judge;
    latents latent;
    nn_image start, made; /* of the start, what its latent decodes to in the end */
    opt_progress bar;
} job;

static int settle(job *j, tn_err *err) {
    project_options *o = &j->o;
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (!o->clip && (o->prompt || o->clip_image))
        return tn_fail(err, TN_EUSAGE, "--prompt and --clip-image need a judge: --clip DIR");
    if (!o->clip && !o->image) return tn_fail(err, TN_EUSAGE, "--image is needed (or --clip DIR and --prompt TEXT)");
    if (o->clip && !o->prompt == !o->clip_image)
        return tn_fail(err, TN_EUSAGE, "--clip: expected --prompt or --clip-image, one of them");
    if (o->steps < 0) o->steps = o->clip ? 100 : 75;
    if (o->clip && o->seed == -1) {
        o->seed = (int64_t)(tn_entropy() & 0x7fffffff);
        opt_note(&o->common, "seed %" PRId64, o->seed);
    }
    return out_try_pictures(o->output, 1, err) || out_try(o->save_latents, err) ? -1 : 0;
}

static int step_done(void *arg, int64_t step, double loss) {
    char extra[40];
    snprintf(extra, sizeof extra, "loss %.5f", loss);
    opt_progress_step(arg, step + 1, extra);
    return 0;
}

static nn_latent_fit fit_of(job *j) {
    opt_progress_start(&j->bar, &j->o.common, "project", j->o.steps, 0);
    return (nn_latent_fit){.steps = j->o.steps, .lr = j->o.lr, .after = step_done, .arg = &j->bar};
}

/* ---- results ---- */

static int save(job *j, tn_err *err) {
    char steps[32];
    snprintf(steps, sizeof steps, "%" PRId64, j->o.steps);
    const latents_note note = {"steps", steps};
    opt_progress_end(&j->bar);
    return out_picture(j->o.output, &j->made, NULL, 0, err) ||
                   latents_write(j->o.save_latents, j->m->vae, &j->latent, &note, 1, err)
               ? -1
               : 0;
}

/* Decibels, of which there may be infinitely many. */
static void put(tn_jw *w, const char *key, double x) {
    if (isinf(x))
        tn_jw_null(w, key);
    else
        tn_jw_number(w, key, x);
}

/* A figure of the start and of the result: PSNR, or a cosine. */
static int print(const job *j, double first, double last, tn_err *err) {
    bool clip = j->o.clip != NULL;
    if (!j->o.common.json) {
        printf("%s\n%s\n", j->o.output, j->o.save_latents);
        if (clip)
            printf("%.4f  cosine at the start\n%.4f", first, last);
        else
            printf("%.2f dB  by the encoder\n%.2f dB", first, last);
        printf("  after %" PRId64 " steps\n", j->o.steps);
        return 0;
    }
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", j->o.output), tn_jw_string(&w, "latents", j->o.save_latents),
        tn_jw_int(&w, "steps", j->o.steps);
    if (clip) tn_jw_int(&w, "seed", j->o.seed);
    put(&w, clip ? "cosine_first" : "psnr_encoder", first), put(&w, clip ? "cosine" : "psnr", last);
    return opt_put_json(&w, err);
}

/* ---- to a picture ---- */

static int project_picture(job *j, tn_err *err) {
    double first = 0.0, last = 0.0;
    nn_image encoded = {0};
    float *pixels = malloc(3 * (size_t)(j->start.width * j->start.height) * sizeof *pixels);
    if (!pixels) return tn_fail(err, TN_ENOMEM, "out of memory for the picture");
    nn_image_to_signed(&j->start, pixels);
    nn_latent_fit f = fit_of(j);
    int bad = latents_decode(&j->c, j->m->vae, &j->latent, 0, &encoded, err) ||
              nn_latent_fit_image(&j->c, j->m->vae, &f, pixels, j->latent.z, j->latent.h, j->latent.w, err) ||
              latents_decode(&j->c, j->m->vae, &j->latent, 0, &j->made, err);
    if (!bad) first = nn_psnr(&j->start, &encoded), last = nn_psnr(&j->start, &j->made);
    free(pixels);
    nn_image_free(&encoded);
    return bad || save(j, err) || print(j, first, last, err) ? -1 : 0;
}

/* ---- to a sentence ---- */

static int target_of(job *j, float *target, tn_err *err) {
    const project_options *o = &j->o;
    nn_image like;
    bool strange = false;
    if (o->prompt) {
        if (clip_read(&j->c, &j->judge, o->prompt, target, &strange, err)) return -1;
        if (strange) opt_warn("\"%s\": the CLIP has never seen a word of it", o->prompt);
        return 0;
    }
    if (nn_image_load(o->clip_image, &like, err)) return -1;
    int bad = clip_see(&j->c, &j->judge, &like, 1, target, err);
    nn_image_free(&like);
    return bad;
}

static int project_sentence(job *j, tn_err *err) {
    const project_options *o = &j->o;
    tn_rng g;
    tn_rng_seed(&g, (uint64_t)o->seed);
    if (!o->image) tn_rng_randn(&g, j->latent.z, (size_t)j->latent.n);
    float *target = malloc((size_t)j->judge.width * sizeof *target);
    if (!target) return tn_fail(err, TN_ENOMEM, "out of memory");
    nn_latent_fit f = fit_of(j);
    int bad = target_of(j, target, err) ||
              nn_latent_fit_clip(&j->c, j->m->vae, j->judge.clip, &f, target, o->cutouts, &g, j->latent.z, j->latent.h,
                                 j->latent.w, err) ||
              latents_decode(&j->c, j->m->vae, &j->latent, 0, &j->made, err) || save(j, err);
    free(target);
    if (bad) return -1;
    return print(j, tn_cos(sqrt(2.0 * f.first)), tn_cos(sqrt(2.0 * f.last)), err); /* the loss is theta^2 / 2 */
}

/* What the descent begins with: a picture's latent, or room for noise. */
static int begin(job *j, tn_err *err) {
    const project_options *o = &j->o;
    if (o->image) {
        if (latents_picture(o->image, j->m->vae, o->resolution, &j->start, err)) return -1;
        return latents_encode(&j->c, j->m->vae, &j->start, &j->latent, err);
    }
    int64_t f = nn_vae_factor(j->m->vae), size = o->resolution ? o->resolution : gen_native_size(j->m), side = size / f;
    if (gen_check_size(j->m, size, size, err)) return -1;
    j->latent = (latents){1, side, side, nn_vae_cfg(j->m->vae)->latent_channels * side * side, NULL};
    j->latent.z = malloc((size_t)j->latent.n * sizeof *j->latent.z);
    return j->latent.z ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a latent");
}

static int project(job *j, tn_err *err) {
    const project_options *o = &j->o;
    if (settle(j, err) || opt_context(&o->common, &j->c, err) ||
        nn_model_load(o->model, NN_LOAD_VAE | NN_LOAD_UNET, &j->m, err))
        return -1;
    if ((o->clip && clip_open(o->clip, &j->judge, err)) || begin(j, err)) return -1;
    return o->clip ? project_sentence(j, err) : project_picture(j, err);
}

static int run(int argc, char **argv) {
    job j = {.o = {.output = "projected.png",
                   .save_latents = "latent.safetensors",
                   .steps = -1,
                   .seed = -1,
                   .cutouts = 16,
                   .lr = 0.1}};
    tn_err err;
    int r = opt_parse(&cmd_project, argc, argv, &j.o, NULL, NULL, &err);
    if (!r) {
        r = project(&j, &err);
        nn_image_free(&j.start), nn_image_free(&j.made);
        latents_free(&j.latent);
        clip_close(&j.judge);
        nn_model_free(j.m);
        tn_ctx_free(&j.c);
    }
    return r < 0 ? opt_error(&err) : 0;
}
