/* oneword eval: how near a word's pictures are to the concept's, and to sentences, as CLIP sees it. */
#include "nn/train.h"
#include "tools/embedding.h"
#include "tools/evaluate.h"
#include "tools/pictures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    opt_common common;
    const char *model, *clip, *data, *prompts_file, *samples_dir, *text, *word, *cache;
    opt_list embedding, prompt;
    int64_t samples, edit_samples, steps, seed;
    double guidance;
} settings;

#define AT(f) offsetof(settings, f)
static const opt_row rows[] = {
    {"m,model,d", OPT_TEXT, AT(model), 0, 0, "DIR", "model directory as diffusers stores it"},
    {"clip", OPT_TEXT, AT(clip), 0, 0, "DIR", "CLIP directory, the judge (required)"},
    {"embedding,e", OPT_LIST, AT(embedding), 0, 0, "[NAME=]FILE", "learned word; the first one is judged (may be repeated)"},
    {"train-data-dir,data", OPT_TEXT, AT(data), 0, 0, "DIR", "the concept's pictures (required for reconstruction)"},
    {"word", OPT_TEXT, AT(word), 0, 0, "TEXT", "what to judge instead: any text in the place of {}"},
    {"p,prompt", OPT_LIST, AT(prompt), 0, 0, "TEXT", "sentence for editability with {} for the word (may be repeated; default: a list of 12)"},
    {"prompts", OPT_TEXT, AT(prompts_file), 0, 0, "FILE", "such sentences from a file, one a line"},
    {"samples,n", OPT_INT, AT(samples), 1, 4096, "N", "pictures for reconstruction (default 16; the paper: 64)"},
    {"edit-samples", OPT_INT, AT(edit_samples), 0, 4096, "N", "pictures a sentence for editability (default: as many; 0: no editability)"},
    {"steps", OPT_INT, AT(steps), 1, 1000, "N", "steps of DDIM (default 25)"},
    {"cfg-scale,guidance-scale,g", OPT_NUMBER, AT(guidance), 0, 1000, "X", "classifier-free guidance (default 4)"},
    {"seed,S", OPT_INT, AT(seed), 0, 9e18, "N", "picture i of every sentence has the noise of seed + i (default 0)"},
    {"samples-dir", OPT_TEXT, AT(samples_dir), 0, 0, "DIR", "judge the pictures of a folder; nothing is generated"},
    {"text", OPT_TEXT, AT(text), 0, 0, "TEXT", "with --samples-dir: the sentence for editability; {} is removed"},
    {"cache", OPT_TEXT, AT(cache), 0, 0, "DIR", "keep what the CLIP sees of each picture in a folder, for the next time"},
    OPT_COMMON(settings, common),
};

static int run(int argc, char **argv);
const opt_command cmd_eval = {
    "eval", "CLIP-space reconstruction and editability of a word, or of pictures",
    "eval --clip DIR --model DIR --embedding FILE --train-data-dir DIR [options]\n"
    "       oneword eval --clip DIR --samples-dir DIR [--train-data-dir DIR] [--text TEXT]",
    "reconstruction  mean cosine between pictures of \"a photo of a WORD\" and the concept's pictures, over all pairs\n"
    "editability     cosine between pictures of a sentence with the word and the sentence without it, in both definitions:\n"
    "                the mean of the cosines (the paper's published code), the cosine of the mean picture (the paper's text)\n"
    "In brackets, intervals of 95 % over samples: Student's t, for the cosine of the mean by a jackknife.\n\n"
    "example:\n"
    "  oneword eval --model testdata/world/model --clip testdata/world/clip --embedding out/learned_embeds.safetensors \\\n"
    "    --train-data-dir testdata/world/concepts/mango",
    rows, sizeof rows / sizeof *rows, run};

typedef struct job {
    settings o;
    tn_ctx c;
    nn_model *model;
    clip_judge judge;
    emb_words words;
    float *learned;
    int64_t learned_rows;
    nn_templates templates;
    const char *const *prompts;
    const char *builtin[EVAL_PROMPTS];
    int nprompts;
    pictures pics;
    float *features; /* of the concept's pictures */
    opt_progress bar;
} job;

static int check(const settings *o, tn_err *err) {
    if (!o->clip) return tn_fail(err, TN_EUSAGE, "--clip DIR is missing");
    if (o->samples_dir) {
        if (!o->data && !o->text) return tn_fail(err, TN_EUSAGE, "--samples-dir: give --train-data-dir, --text or both to compare with");
        return o->model || o->embedding.n ? tn_fail(err, TN_EUSAGE, "--samples-dir excludes --model and --embedding") : 0;
    }
    if (o->text) return tn_fail(err, TN_EUSAGE, "--text needs --samples-dir (for pictures that are generated: --prompt)");
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model DIR is missing");
    if (!o->data) return tn_fail(err, TN_EUSAGE, "--train-data-dir DIR is missing");
    if (!o->embedding.n && !o->word) return tn_fail(err, TN_EUSAGE, "--embedding FILE is missing (or --word TEXT)");
    if (o->prompt.n && o->prompts_file) return tn_fail(err, TN_EUSAGE, "--prompt and --prompts exclude each other");
    for (int i = 0; i < o->prompt.n; i++) {
        if (!strstr(o->prompt.item[i], "{}")) return tn_fail(err, TN_EUSAGE, "--prompt \"%s\": no {} for the word", o->prompt.item[i]);
    }
    return 0;
}

static float *room(const job *j, int n, tn_err *err) {
    float *f = malloc((size_t)(n * j->judge.width) * sizeof *f);
    if (!f) tn_fail(err, TN_ENOMEM, "out of memory for %d pictures", n);
    return f;
}

static int see_folder(job *j, const char *dir, pictures *p, float **features, tn_err *err) {
    if (pictures_load(dir, p, err)) return -1;
    if (p->skipped) opt_warn("%s: %d files are no pictures and were passed over", dir, p->skipped);
    if (!(*features = room(j, p->n, err))) return -1;
    return clip_see(&j->c, &j->judge, p->image, p->n, *features, err);
}

static void choose_prompts(job *j) {
    const settings *o = &j->o;
    if (o->prompts_file) {
        j->prompts = (const char *const *)j->templates.line, j->nprompts = j->templates.n;
    } else if (o->prompt.n) {
        j->prompts = o->prompt.item, j->nprompts = o->prompt.n;
    } else {
        for (int i = 0; i < EVAL_PROMPTS; i++) j->builtin[i] = eval_prompts[i].text;
        j->prompts = j->builtin, j->nprompts = EVAL_PROMPTS;
    }
}

/* ---- results ---- */

/* "NAME": the value, "NAME_interval": [from, to], null where one picture says nothing of it. */
static void put_estimate(tn_jw *w, const char *name, estimate e) {
    char key[64];
    snprintf(key, sizeof key, "%s_interval", name);
    tn_jw_number(w, name, e.value);
    tn_jw_open(w, key, '[');
    tn_jw_number(w, NULL, e.lo), tn_jw_number(w, NULL, e.hi);
    tn_jw_close(w, ']');
}

static void print_set_json(tn_jw *w, const char *prompt, const eval_set *set) {
    tn_jw_open(w, NULL, '{');
    tn_jw_string(w, "prompt", prompt), tn_jw_int(w, "samples", set->n);
    put_estimate(w, "mean_of_cosines", set->mean_of_cosines), put_estimate(w, "cosine_of_mean", set->cosine_of_mean);
    tn_jw_close(w, '}');
}

static int print_word_json(const job *j, const char *word, const eval_word *r, tn_err *err) {
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_int(&w, "v", 1), tn_jw_string(&w, "word", word), tn_jw_int(&w, "samples", r->plain.n), tn_jw_int(&w, "pictures", j->pics.n);
    tn_jw_int(&w, "seed", j->o.seed), tn_jw_int(&w, "steps", j->o.steps), tn_jw_number(&w, "guidance_scale", j->o.guidance);
    put_estimate(&w, "reconstruction", r->reconstruction);
    tn_jw_number(&w, "reconstruction_of_pictures", clip_within(&j->judge, j->features, j->pics.n));
    if (r->nedit) {
        tn_jw_open(&w, "editability", '{');
        put_estimate(&w, "mean_of_cosines", r->mean_of_cosines), put_estimate(&w, "cosine_of_mean", r->cosine_of_mean);
        tn_jw_open(&w, "prompts", '[');
        for (int i = 0; i < r->nedit; i++) print_set_json(&w, j->prompts[i], &r->edit[i]);
        tn_jw_close(&w, ']');
        tn_jw_close(&w, '}');
    }
    return opt_put_json(&w, err);
}

/* One line: the value, its interval, what it is. */
static void print_estimate(const char *name, estimate e, const char *what) {
    char interval[40] = "";
    if (e.n > 1) snprintf(interval, sizeof interval, "[%.4f, %.4f]", e.lo, e.hi);
    printf("%-15s %.4f  %-16s  %s\n", name, e.value, interval, what);
}

static void print_word(const job *j, const char *word, const eval_word *r) {
    char what[400];
    snprintf(what, sizeof what, "%d pictures of \"a photo of a %.200s\" against %d of the concept, all pairs", r->plain.n, word, j->pics.n);
    print_estimate("reconstruction", r->reconstruction, what);
    if (j->pics.n > 1) print_estimate("", (estimate){.value = clip_within(&j->judge, j->features, j->pics.n)}, "the concept's pictures among themselves");
    if (!r->nedit) return;
    print_estimate("editability", r->mean_of_cosines, "mean of the cosines (published code)");
    print_estimate("", r->cosine_of_mean, "cosine of the mean picture (paper)");
    printf("\n  code    paper   sentence, %d pictures each\n", r->edit[0].n);
    for (int i = 0; i < r->nedit; i++) {
        printf("  %.4f  %.4f  %s\n", r->edit[i].mean_of_cosines.value, r->edit[i].cosine_of_mean.value, j->prompts[i]);
    }
}

/* ---- the two ways ---- */

static int judge_word(job *j, tn_err *err) {
    const settings *o = &j->o;
    eval_word result;
    for (int i = 0; i < o->embedding.n; i++) {
        if (emb_read_argument(o->embedding.item[i], &j->words, err)) return -1;
    }
    if (o->prompts_file && nn_templates_load(o->prompts_file, &j->templates, err)) return -1;
    choose_prompts(j);
    if (nn_model_load(o->model, NN_LOAD_ALL, &j->model, err)) return -1;
    if (emb_register(j->model, &j->words, &j->learned, &j->learned_rows, err)) return -1;
    if (see_folder(j, o->data, &j->pics, &j->features, err)) return -1;
    const char *word = o->word ? o->word : j->words.w[0].token;
    int samples = (int)o->samples, edit_samples = (int)(o->edit_samples < 0 ? o->samples : o->edit_samples);
    eval_job e = {.c = &j->c, .model = j->model, .judge = &j->judge, .learned = j->learned, .rows = j->learned_rows, .steps = o->steps,
                  .guidance = o->guidance, .seed = (uint64_t)o->seed, .bar = &j->bar};
    opt_progress_start(&j->bar, &o->common, "Pictures x steps", eval_work(&e, samples, j->nprompts, edit_samples), 0);
    if (eval_run(&e, word, j->features, j->pics.n, samples, j->prompts, j->nprompts, edit_samples, &result, err)) return -1;
    opt_progress_end(&j->bar);
    for (int i = 0; i < result.nedit; i++) {
        if (result.edit[i].strange) opt_warn("\"%s\": the CLIP has never seen a word of it", j->prompts[i]);
    }
    int r = 0;
    if (o->common.json) r = print_word_json(j, word, &result, err);
    else print_word(j, word, &result);
    eval_word_free(&result);
    return r;
}

static int print_folder_json(const job *j, const eval_set *set, estimate reconstruction, tn_err *err) {
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_int(&w, "v", 1), tn_jw_string(&w, "samples_dir", j->o.samples_dir), tn_jw_int(&w, "samples", set->n);
    if (j->o.data) put_estimate(&w, "reconstruction", reconstruction);
    if (j->o.text) {
        tn_jw_open(&w, "editability", '{');
        put_estimate(&w, "mean_of_cosines", set->mean_of_cosines), put_estimate(&w, "cosine_of_mean", set->cosine_of_mean);
        tn_jw_close(&w, '}');
    }
    return opt_put_json(&w, err);
}

static int judge_folder(job *j, tn_err *err) {
    const settings *o = &j->o;
    pictures samples = {0};
    eval_set set = {0};
    estimate reconstruction = {0};
    int r = see_folder(j, o->samples_dir, &samples, &set.features, err);
    set.n = samples.n;
    if (!r && o->data) {
        r = see_folder(j, o->data, &j->pics, &j->features, err);
        if (!r) r = eval_reconstruction(&j->judge, set.features, set.n, j->features, j->pics.n, &reconstruction, err);
    }
    if (!r && o->text) r = eval_editability(&j->c, &j->judge, o->text, &set, err);
    if (!r && set.strange) opt_warn("\"%s\": the CLIP has never seen a word of it", o->text);
    if (!r && o->common.json) {
        r = print_folder_json(j, &set, reconstruction, err);
    } else if (!r) {
        char what[80];
        snprintf(what, sizeof what, "%d pictures against %d, all pairs", set.n, j->pics.n);
        if (o->data) print_estimate("reconstruction", reconstruction, what);
        if (o->text) print_estimate("editability", set.mean_of_cosines, "mean of the cosines (published code)");
        if (o->text) print_estimate("", set.cosine_of_mean, "cosine of the mean picture (paper)");
    }
    eval_set_free(&set);
    pictures_free(&samples);
    return r;
}

static int run(int argc, char **argv) {
    job j = {.o = {.samples = 16, .edit_samples = -1, .steps = 25, .guidance = 4.0}};
    tn_err err;
    int r = opt_parse(&cmd_eval, argc, argv, &j.o, NULL, NULL, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    r = check(&j.o, &err) || opt_context(&j.o.common, &j.c, &err) || clip_open(j.o.clip, &j.judge, &err);
    if (!r && j.o.cache) r = clip_keep(&j.judge, j.o.clip, j.o.cache, &err);
    if (!r) r = j.o.samples_dir ? judge_folder(&j, &err) : judge_word(&j, &err);
    free(j.learned), free(j.features);
    emb_free(&j.words);
    pictures_free(&j.pics);
    nn_templates_free(&j.templates);
    nn_model_free(j.model);
    clip_close(&j.judge);
    tn_ctx_free(&j.c);
    return r ? opt_error(&err) : 0;
}
