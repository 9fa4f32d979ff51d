/* oneword interpolate: pictures between two pictures, or between two words. */
#include "tensor/io/json.h"
#include "tensor/io/sys.h"
#include "tools/embedding.h"
#include "tools/evaluate.h"
#include "tools/interpolate.h"
#include "tools/invert.h"
#include "tools/opt.h"
#include "tools/picture_out.h"
#include "tools/prompt.h"
#include "tools/sheet.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct interpolate_options {
    opt_common common;
    const char *model, *output, *sheet, *prompt, *negative, *image[2], *word[2], *tokenizer_mode;
    opt_list embedding;
    int64_t frames, steps, seed, width, height, resolution;
    double guidance;
} interpolate_options;

#define FIELD(name) offsetof(interpolate_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR",
     "model directory as diffusers saves it"},
    {"from-picture", OPT_TEXT, FIELD(image[0]), 0, 0, "FILE", "the picture at one end; with --to-picture"},
    {"to-picture", OPT_TEXT, FIELD(image[1]), 0, 0, "FILE", "the picture at the other end"},
    {"from-word", OPT_TEXT, FIELD(word[0]), 0, 0, "WORD",
     "the word at one end, learned or of the vocabulary; with --to-word"},
    {"to-word", OPT_TEXT, FIELD(word[1]), 0, 0, "WORD", "the word at the other end"},
    {"p,prompt", OPT_TEXT, FIELD(prompt), 0, 0, "TEXT",
     "what to draw, {} for the word (default: a photo of a {}; with pictures alone: nothing)"},
    {"n,negative-prompt", OPT_TEXT, FIELD(negative), 0, 0, "TEXT", "what not to draw (default: nothing)"},
    {"embedding", OPT_LIST, FIELD(embedding), 0, 0, "[NAME=]FILE", "a learned word; may be repeated"},
    {"frames,n-frames", OPT_INT, FIELD(frames), 2, 10000, "N", "pictures, ends included (default: 9)"},
    {"o,output", OPT_TEXT, FIELD(output), 0, 0, "FILE",
     "PNG or PPM; %d or %03d is the frame's number (default: frame-%02d.png)"},
    {"sheet", OPT_TEXT, FIELD(sheet), 0, 0, "FILE", "also all frames in one picture"},
    {"steps", OPT_INT, FIELD(steps), 2, 1000000, "N", "steps of DDIM, there and back (default: 50)"},
    {"cfg-scale,guidance-scale,scale,g", OPT_NUMBER, FIELD(guidance), 0, 1000, "X",
     "classifier-free guidance (default: 7.5; with pictures 1, none, or the ends are lost)"},
    {"S,seed", OPT_INT, FIELD(seed), -1, 9.2e18, "N", "of the noise between words; -1 is random (default)"},
    {"W,width", OPT_INT, FIELD(width), 8, 16384, "N", "in pixels, between words (default: the model's size)"},
    {"H,height", OPT_INT, FIELD(height), 8, 16384, "N", "in pixels, between words (default: the model's size)"},
    {"resolution", OPT_INT, FIELD(resolution), 1, 65536, "N",
     "squeeze the pictures to N x N first (default: their own size)"},
    {"tokenizer-mode", OPT_TEXT, FIELD(tokenizer_mode), 0, 0, "hf|openai", "rules of the tokenizer (default: hf)"},
    OPT_COMMON(interpolate_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_interpolate = {
    "interpolate",
    "pictures between two pictures, or between two words",
    "interpolate --model DIR --from-picture A --to-picture B [options]\n"
    "       oneword interpolate --model DIR --from-word A --to-word B [options]",
    "Between pictures: each is inverted to its noise (see invert), and the noise goes along the great circle from one "
    "to the other.\n"
    "Between words: the vectors do, and the noise stays. With both, a picture's word is the one of its end.\n\n"
    "  oneword interpolate --model testdata/world/model --from-word cat --to-word rabbit --seed 3 --sheet sheet.png\n"
    "  oneword interpolate --model testdata/world/model --from-picture testdata/world/concepts/bunbun/0.png \\\n"
    "    --to-picture testdata/world/concepts/mango/0.png -p 'a photo of a cat' --sheet sheet.png\n\n"
    "Prints the path of each frame, or with --json a line {\"file\", \"t\"}.",
    rows,
    sizeof rows / sizeof *rows,
    run};

/* What the word is called while it is between two. */
#define PLACEHOLDER "<|between|>"

typedef struct job {
    interpolate_options o;
    tn_ctx c;
    nn_model *m;
    emb_words words; /* those of files, then the one between */
    float *learned;
    int64_t learned_rows;
    float *ends[2]; /* [n, width] of the word at each end */
    int64_t nvectors;
    char *prompt; /* with the placeholder in it */
    latents noise[2];
    nn_image *frame;
    opt_progress bar;
    int64_t work_done;
} job;

static int settle(job *j, tn_err *err) {
    interpolate_options *o = &j->o;
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (!o->image[0] != !o->image[1]) return tn_fail(err, TN_EUSAGE, "--from-picture and --to-picture belong together");
    if (!o->word[0] != !o->word[1]) return tn_fail(err, TN_EUSAGE, "--from-word and --to-word belong together");
    if (!o->image[0] && !o->word[0])
        return tn_fail(err, TN_EUSAGE, "between what? (--from-picture and --to-picture, or --from-word and --to-word)");
    if (o->image[0] && (o->width || o->height))
        return tn_fail(err, TN_EUSAGE, "--width and --height are for words: the pictures have sizes (--resolution)");
    if (!o->image[0] && o->resolution)
        return tn_fail(err, TN_EUSAGE, "--resolution is for pictures (words have --width and --height)");
    if (!o->prompt) o->prompt = o->word[0] ? "a photo of a {}" : "";
    if (o->word[0] && !strstr(o->prompt, "{}"))
        return tn_fail(err, TN_EUSAGE, "--prompt \"%s\": no {} for the word", o->prompt);
    if (!o->word[0] && strstr(o->prompt, "{}"))
        return tn_fail(err, TN_EUSAGE, "--prompt \"%s\": {} is for a word, --from-word and --to-word", o->prompt);
    if (o->guidance < 0.0) o->guidance = o->image[0] ? 1.0 : 7.5;
    if (prompt_check("--prompt", o->prompt, err) || prompt_check("--negative-prompt", o->negative, err)) return -1;
    if (o->seed == -1) {
        o->seed = (int64_t)(tn_entropy() & 0x7fffffff);
        if (!o->image[0]) opt_note(&o->common, "seed %" PRId64, o->seed);
    }
    return out_try_pictures(o->output, o->frames, err) || (o->sheet && out_try_pictures(o->sheet, 1, err)) ? -1 : 0;
}

/* ---- words ---- */

/* The vectors of a word out of a file, or of one of the vocabulary. */
static int find_word(job *j, const char *word, float **out, int64_t *n, tn_err *err) {
    const nn_text_model *text = j->m->text;
    int64_t width = text->cfg.t.width;
    const emb_word *learned = NULL;
    for (int i = 0; i < j->words.n; i++) {
        if (strcmp(j->words.w[i].token, word) == 0) learned = &j->words.w[i];
    }
    int32_t id = learned ? -1 : nn_tokenizer_word(j->m->tokenizer, word);
    if (!learned && (id < 0 || id >= text->cfg.vocab))
        return tn_fail(err, TN_EUSAGE, "\"%s\" is neither a learned word (--embedding) nor one token of the vocabulary",
                       word);
    if (learned && learned->dim != width)
        return tn_fail(err, TN_EINPUT, "the word %s has vectors of width %" PRId64 ", the model %" PRId64, word,
                       learned->dim, width);
    *n = learned ? learned->n : 1;
    if (!(*out = malloc((size_t)(*n * width) * sizeof **out)))
        return tn_fail(err, TN_ENOMEM, "out of memory for the word %s", word);
    if (learned)
        memcpy(*out, learned->v, (size_t)(*n * width) * sizeof **out);
    else
        nn_text_row(&text->token, j->c.k, id, *out);
    return 0;
}

/* The word between becomes the last of the learned ones. */
static int prepare_words(job *j, tn_err *err) {
    const interpolate_options *o = &j->o;
    int64_t n[2];
    for (int i = 0; i < o->embedding.n; i++) {
        if (emb_read_argument(o->embedding.item[i], &j->words, err)) return -1;
    }
    if (o->word[0]) {
        if (find_word(j, o->word[0], &j->ends[0], &n[0], err) || find_word(j, o->word[1], &j->ends[1], &n[1], err))
            return -1;
        if (n[0] != n[1])
            return tn_fail(err, TN_EUSAGE, "%s has %" PRId64 " vectors and %s %" PRId64 ": expected as many",
                           o->word[0], n[0], o->word[1], n[1]);
        j->nvectors = n[0];
        if (emb_append(&j->words, PLACEHOLDER, n[0], j->m->text->cfg.t.width, j->ends[0], err)) return -1;
    }
    if (emb_register(j->m, &j->words, &j->learned, &j->learned_rows, err)) return -1;
    if (eval_fill(o->prompt, PLACEHOLDER, &j->prompt, err)) return -1;
    return prompt_remarks(j->m, "--prompt", j->prompt, prompt_rules(j->o.tokenizer_mode), nn_prompt_length(j->m), err);
}

/* ---- noise ---- */

static void invert_done(void *arg, int64_t done) {
    job *j = arg;
    opt_progress_step(&j->bar, j->work_done + done, NULL);
}

/* The noise of the picture at an end, inverted with the word of that end. */
static int invert_end(job *j, int end, tn_err *err) {
    const interpolate_options *o = &j->o;
    nn_image picture;
    latents latent;
    int64_t width = j->m->text->cfg.t.width;
    inv_request r = {.prompt = j->prompt,
                     .negative = o->negative,
                     .learned = j->learned,
                     .rows = j->learned_rows,
                     .steps = o->steps,
                     .guidance = o->guidance,
                     .rules = prompt_rules(j->o.tokenizer_mode),
                     .progress = invert_done,
                     .arg = j};
    if (j->ends[end])
        memcpy(j->learned + (j->learned_rows - j->nvectors) * width, j->ends[end],
               (size_t)(j->nvectors * width) * sizeof(float));
    if (latents_picture(o->image[end], j->m->vae, o->resolution, &picture, err)) return -1;
    int bad = latents_encode(&j->c, j->m->vae, &picture, &latent, err);
    nn_image_free(&picture);
    if (bad) return -1;
    bad = inv_noise(&j->c, j->m, &r, &latent, &j->noise[end], err);
    latents_free(&latent);
    j->work_done += inv_work(&r, false);
    if (bad || end == 0 || (j->noise[0].h == j->noise[1].h && j->noise[0].w == j->noise[1].w)) return bad;
    return tn_fail(err, TN_EINPUT, "%s and %s: expected pictures of one size (--resolution makes them so)", o->image[0],
                   o->image[1]);
}

/* ---- frames ---- */

static void frame_done(void *arg, int64_t done, int64_t total) {
    job *j = arg;
    (void)total;
    opt_progress_step(&j->bar, j->work_done + done, NULL);
}

static int make_frames(job *j, tn_err *err) {
    const interpolate_options *o = &j->o;
    int64_t f = nn_vae_factor(j->m->vae);
    bool pictures = o->image[0] != NULL;
    gen_request r = {.prompt = j->prompt,
                     .negative = o->negative,
                     .learned = j->learned,
                     .rows = j->learned_rows,
                     .width = pictures ? j->noise[0].w * f : o->width,
                     .height = pictures ? j->noise[0].h * f : o->height,
                     .steps = o->steps,
                     .guidance = o->guidance,
                     .sampler = "ddim",
                     .seed = (uint64_t)o->seed,
                     .rules = prompt_rules(j->o.tokenizer_mode),
                     .progress = frame_done,
                     .arg = j};
    between_ends e = {
        {j->noise[0].z, j->noise[1].z}, {j->ends[0], j->ends[1]}, j->learned_rows - j->nvectors, j->nvectors};
    if (!(j->frame = calloc((size_t)o->frames, sizeof *j->frame)))
        return tn_fail(err, TN_ENOMEM, "out of memory for %" PRId64 " frames", o->frames);
    return between_pictures(&j->c, j->m, &r, &e, o->frames, j->frame, err);
}

static int announce(const job *j, const char *path, int64_t i, tn_err *err) {
    tn_jw w;
    if (!j->o.common.json) {
        puts(path);
        return 0;
    }
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", path), tn_jw_number(&w, "t", (double)i / (double)(j->o.frames - 1));
    return opt_put_json(&w, err);
}

static int draw_sheet(const job *j, tn_err *err) {
    enum { COLUMNS = 9, CAPTION = 12 };
    const interpolate_options *o = &j->o;
    const char **caption = malloc((size_t)o->frames * sizeof *caption);
    char *text = malloc((size_t)o->frames * CAPTION), title[200];
    nn_image sheet = {0};
    int bad = caption && text ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the sheet");
    snprintf(title, sizeof title, "%s to %s", o->word[0] ? o->word[0] : o->image[0],
             o->word[1] ? o->word[1] : o->image[1]);
    for (int64_t i = 0; i < o->frames && !bad; i++) {
        caption[i] = text + i * CAPTION;
        snprintf(text + i * CAPTION, CAPTION, "%.3f", (double)i / (double)(o->frames - 1));
    }
    strip s = {.title = o->prompt,
               .image = j->frame,
               .caption = caption,
               .n = (int)o->frames,
               .columns = o->frames < COLUMNS ? (int)o->frames : COLUMNS};
    if (!bad)
        bad = sheet_draw(title, &s, 1, j->frame[0].width <= 128 ? 2 : 1, &sheet, err) ||
                      out_picture(o->sheet, &sheet, NULL, 0, err)
                  ? -1
                  : 0;
    nn_image_free(&sheet);
    free(caption), free(text);
    return bad;
}

static int write_all(job *j, tn_err *err) {
    const interpolate_options *o = &j->o;
    for (int64_t i = 0; i < o->frames; i++) {
        char path[4096];
        if (out_picture_path(o->output, i, o->frames, path, sizeof path, err) ||
            out_picture(path, &j->frame[i], NULL, 0, err) || announce(j, path, i, err))
            return -1;
    }
    return o->sheet ? draw_sheet(j, err) : 0;
}

static int interpolate(job *j, tn_err *err) {
    const interpolate_options *o = &j->o;
    if (settle(j, err) || opt_context(&o->common, &j->c, err) || nn_model_load(o->model, NN_LOAD_ALL, &j->m, err) ||
        prepare_words(j, err))
        return -1;
    opt_progress_start(&j->bar, &o->common, "interpolate",
                       o->frames * o->steps + (o->image[0] ? 2 * (o->steps - 1) : 0), 0);
    for (int end = 0; end < 2 && o->image[0]; end++) {
        if (invert_end(j, end, err)) return -1;
    }
    if (make_frames(j, err)) return -1;
    opt_progress_end(&j->bar);
    return write_all(j, err);
}

static int run(int argc, char **argv) {
    job j = {.o = {.output = "frame-%02d.png",
                   .negative = "",
                   .tokenizer_mode = "hf",
                   .frames = 9,
                   .steps = 50,
                   .seed = -1,
                   .guidance = -1.0}};
    tn_err err;
    int r = opt_parse(&cmd_interpolate, argc, argv, &j.o, NULL, NULL, &err);
    if (!r) {
        r = interpolate(&j, &err);
        for (int64_t i = 0; j.frame && i < j.o.frames; i++) nn_image_free(&j.frame[i]);
        for (int i = 0; i < 2; i++) latents_free(&j.noise[i]), free(j.ends[i]);
        free(j.frame), free(j.learned), free(j.prompt);
        emb_free(&j.words);
        nn_model_free(j.m);
        tn_ctx_free(&j.c);
    }
    return r < 0 ? opt_error(&err) : 0;
}
