/* oneword demo: learns a word on the bundled model, tries it in every way, and shows what happened. */
#include "tools/demo.h"

#include "tensor/io/sys.h"
#include "tensor/rng.h"
#include "tools/bundle.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const opt_row rows[] = {
    {"concept", OPT_TEXT, offsetof(demo, concept), 0, 0, "NAME", "object to learn, a folder of testdata/world/concepts (default mango)"},
    {"o,output", OPT_TEXT, offsetof(demo, output), 0, 0, "DIR", "where results go (default build/demo)"},
    {"max-train-steps", OPT_INT, offsetof(demo, train_steps), 16, 1000000, "N", "steps of learning (default: those of train --preset quick)"},
    {"samples,n", OPT_INT, offsetof(demo, samples), 4, 1024, "N", "pictures that a word is judged by, and an eighth as many in each scene and style (default 16)"},
    {"steps", OPT_INT, offsetof(demo, steps), 1, 1000, "N", "steps of sampling (default 25)"},
    {"seed,S", OPT_INT, offsetof(demo, seed), 0, 9e18, "N", "seed of everything random (default 0)"},
    OPT_COMMON(demo, common),
};

static int run(int argc, char **argv);
const opt_command cmd_demo = {
    "demo", "learn a word on the bundled model and show it: report.html, sheet.png", "demo [--concept NAME] [-o DIR]",
    "Learns a word for five pictures that the bundled model has never seen, samples it before, while and after it is learned,\n"
    "in new scenes and styles and together with a second word, and measures it as section 5.1 of the paper does.",
    rows, sizeof rows / sizeof *rows, run};

/* ---- what to learn ---- */

/* The concept's initialiser, and another object drawn by the seed, out of index.json, where objects are what has a caption. */
static int read_index(demo *d, const tn_jval *root, tn_err *err) {
    const tn_jval *found = NULL;
    int64_t n = 0;
    for (const tn_jval *v = root->child; v; v = v->next) {
        if (!tn_json_get(v, "caption")) continue;
        if (strcmp(v->key, d->concept) == 0) found = v;
        else n++;
    }
    const tn_jval *word = tn_json_get(found, "initializer");
    if (!word || word->type != TN_JSON_STRING || n == 0 || strlen(d->concept) > 60) {
        return tn_fail(err, TN_EUSAGE, "--concept %s: no object of that name in %s/concepts/index.json", d->concept, d->world);
    }
    snprintf(d->initialiser, sizeof d->initialiser, "%s", word->string);
    tn_rng g;
    tn_rng_seed(&g, (uint64_t)d->seed);
    int64_t draw = tn_rng_randint(&g, n);
    for (const tn_jval *v = root->child; v; v = v->next) {
        if (tn_json_get(v, "caption") && v != found && draw-- == 0) snprintf(d->other, sizeof d->other, "%s", v->key);
    }
    return 0;
}

static int find_inputs(demo *d, tn_err *err) {
    char path[1200];
    tn_json *index;
    if (bundle_find(d->program, "world", d->world, sizeof d->world, err)) return -1;
    snprintf(path, sizeof path, "%s/concepts/index.json", d->world);
    if (tn_json_load(path, 0, &index, err)) return -1;
    int r = read_index(d, tn_json_root(index), err);
    tn_json_free(index);
    snprintf(d->token, sizeof d->token, "<%.60s>", d->concept);
    snprintf(d->model_dir, sizeof d->model_dir, "%s/model", d->world);
    snprintf(d->concept_dir, sizeof d->concept_dir, "%s/concepts/%.60s", d->world, d->concept);
    snprintf(d->templates_file, sizeof d->templates_file, "%s/templates-object.txt", d->world);
    return r;
}

/* The settings are those of a command line of `oneword train`, which the report shows. */
static int settings(demo *d, tn_err *err) {
    char seed[32], steps[32], folder[1200];
    char *argv[] = {"train", "--preset", "quick", "--model", d->model_dir, "--train-data-dir", d->concept_dir,
                    "--template-file", d->templates_file, "--placeholder-token", d->token, "--initializer-token", d->initialiser,
                    "--seed", seed, "--max-train-steps", steps, NULL};
    int argc = (int)(sizeof argv / sizeof *argv) - (d->train_steps ? 1 : 3);
    snprintf(seed, sizeof seed, "%lld", (long long)d->seed);
    snprintf(steps, sizeof steps, "%lld", (long long)d->train_steps);
    if (train_options_parse(argc, argv, &d->options, err) || train_options_config(&d->options, &d->cfg, err)) return -1;
    snprintf(d->command, sizeof d->command, "oneword train --preset quick --model %s --train-data-dir %s \\\n    --template-file %s "
             "\\\n    --placeholder-token '%s' --initializer-token %s --seed %s%s%s -o %s",
             d->model_dir, d->concept_dir, d->templates_file, d->token, d->initialiser, seed, d->train_steps ? " --max-train-steps " : "",
             d->train_steps ? steps : "", d->output);
    snprintf(folder, sizeof folder, "%s/concepts/" DEMO_STYLE, d->world);
    return pictures_load(d->concept_dir, &d->pics, err) || pictures_load(folder, &d->style, err) ? -1 : 0;
}

/* ---- learning ---- */

static eval_job job_of(demo *d, nn_model *m, const float *learned, int64_t n, opt_progress *bar) {
    return (eval_job){.c = &d->c, .model = m, .judge = &d->judge, .learned = learned, .rows = n, .steps = d->steps, .guidance = 4.0,
                      .seed = (uint64_t)d->seed, .bar = bar};
}

static int snapshot(demo *d, nn_model *m, nn_train *t, int i, tn_err *err) {
    const nn_word *w = nn_train_word(t);
    eval_job job = job_of(d, m, w->v, w->rows, NULL);
    d->at[i] = nn_train_steps_done(t);
    if (eval_make(&job, EVAL_PLAIN, d->token, DEMO_VIEWS, &d->snapshot[i], err)) return -1;
    d->similarity[i] = clip_pairs(&d->judge, d->snapshot[i].features, DEMO_VIEWS, d->features, d->pics.n);
    return 0;
}

/* Samples before the first step, after an eighth, a quarter, a half, and all of the steps. */
static int learn_steps(demo *d, nn_model *m, nn_train *t, tn_err *err) {
    opt_progress bar;
    nn_train_step s;
    char extra[80];
    double mean = 0.0;
    opt_progress_start(&bar, &d->common, "Learning", d->cfg.steps, 0);
    if (snapshot(d, m, t, 0, err)) return -1;
    for (int i = 1; i < DEMO_SNAPSHOTS; i++) {
        int64_t until = d->cfg.steps >> (DEMO_SNAPSHOTS - 1 - i);
        double start = tn_clock();
        while (nn_train_steps_done(t) < until) {
            if (nn_train_advance(t, &d->c, &s, err)) return -1;
            d->loss[s.step - 1] = s.loss;
            mean += (s.loss - mean) / (double)(s.step < 40 ? s.step : 40);
            snprintf(extra, sizeof extra, "loss %.4f, similarity %.2f", mean, d->similarity[i - 1]);
            opt_progress_step(&bar, s.step, extra);
        }
        d->seconds += tn_clock() - start;
        if (snapshot(d, m, t, i, err)) return -1;
    }
    opt_progress_end(&bar);
    return emb_append(&d->words, d->token, d->cfg.num_vectors, nn_train_word(t)->dim, nn_train_vectors(t, 0), err);
}

static int learn(demo *d, tn_err *err) {
    nn_model *m = NULL;
    nn_train *t = NULL;
    nn_templates templates = {0};
    int r = nn_model_load(d->model_dir, NN_LOAD_ALL, &m, err) || nn_templates_load(d->templates_file, &templates, err);
    if (!r && !d->cfg.resolution) d->cfg.resolution = gen_native_size(m);
    if (!r) r = nn_train_open(&d->c, m, &d->cfg, &templates, d->pics.image, d->pics.n, NULL, NULL, &t, err);
    if (!r && !(d->loss = calloc((size_t)d->cfg.steps, sizeof *d->loss))) r = tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r) r = learn_steps(d, m, t, err);
    nn_train_free(t);
    nn_templates_free(&templates);
    nn_model_free(m);
    return r ? -1 : 0;
}

/* ---- trying the word ---- */

static int load_words(demo *d, nn_model **m, tn_err *err) {
    char style[1200], other[1200];
    snprintf(style, sizeof style, "%s/learned/" DEMO_STYLE ".safetensors", d->world);
    snprintf(other, sizeof other, "%s/learned/%s.safetensors", d->world, d->other);
    if (emb_read(style, NULL, &d->words, err) || emb_read(other, NULL, &d->words, err)) return -1;
    if (nn_model_load(d->model_dir, NN_LOAD_ALL, m, err)) return -1;
    return emb_register(*m, &d->words, &d->learned, &d->rows, err);
}

static int try_words(demo *d, nn_model *m, tn_err *err) {
    static const char *const together[DEMO_COMPOSED] = {"a painting of a {} in the style of <" DEMO_STYLE ">", "a photo of a {} next to a red car"};
    const char *prompts[EVAL_PROMPTS];
    opt_progress bar;
    eval_job job = job_of(d, m, d->learned, d->rows, &bar);
    int64_t each = eval_work(&job, (int)d->samples, EVAL_PROMPTS, d->edit_samples), rest = eval_work(&job, 0, DEMO_COMPOSED, DEMO_VIEWS);
    for (int i = 0; i < EVAL_PROMPTS; i++) prompts[i] = eval_prompts[i].text;
    opt_progress_start(&bar, &d->common, "Sampling", DEMO_WORDS * each + rest, 0);
    for (int i = 0; i < DEMO_COMPOSED; i++) {
        if (eval_make(&job, together[i], d->token, DEMO_VIEWS, &d->composed[i], err)) return -1;
    }
    d->called[DEMO_LEARNED] = d->words.w[0].token, d->called[DEMO_INITIALISER] = d->initialiser, d->called[DEMO_OTHER] = d->words.w[2].token;
    for (int i = 0; i < DEMO_WORDS; i++) {
        if (eval_run(&job, d->called[i], d->features, d->pics.n, (int)d->samples, prompts, EVAL_PROMPTS, d->edit_samples, &d->word[i], err)) {
            return -1;
        }
    }
    opt_progress_end(&bar);
    return 0;
}

/* ---- the whole ---- */

static int save_word(const demo *d, tn_err *err) {
    char path[1200];
    emb_words one = {d->words.w, 1};
    if (snprintf(path, sizeof path, "%s/learned_embeds.safetensors", d->output) >= (int)sizeof path) {
        return tn_fail(err, TN_EUSAGE, "--output: the path is too long");
    }
    return emb_write(path, &one, err);
}

static int prepare(demo *d, tn_err *err) {
    char path[1200];
    if (opt_context(&d->common, &d->c, err) || find_inputs(d, err) || settings(d, err) || tn_make_dirs(d->output, err)) return -1;
    snprintf(path, sizeof path, "%s/clip", d->world);
    if (clip_open(path, &d->judge, err)) return -1;
    d->features = malloc((size_t)(d->pics.n * d->judge.width) * sizeof *d->features);
    if (!d->features) return tn_fail(err, TN_ENOMEM, "out of memory");
    return clip_see(&d->c, &d->judge, d->pics.image, d->pics.n, d->features, err);
}

static int demonstrate(demo *d, tn_err *err) {
    nn_model *m = NULL;
    if (prepare(d, err)) return -1;
    opt_note(&d->common, "1. Learning the word %s from %d pictures in %s, starting at \"%s\": %lld steps.", d->token, d->pics.n, d->concept_dir,
             d->initialiser, (long long)d->cfg.steps);
    if (learn(d, err) || save_word(d, err)) return -1;
    opt_note(&d->common, "2. Sampling %s in new scenes and styles, beside \"%s\" and <%s>, a word learned for something else.", d->token,
             d->initialiser, d->other);
    int r = load_words(d, &m, err) || try_words(d, m, err) || demo_write(d, err);
    nn_model_free(m);
    return r ? -1 : 0;
}

static bool tell(const demo *d) {
    static const char *const meaning[DEMO_WORDS] = {"the learned word", "the word it started from", "a word learned for something else"};
    char verdict[600];
    bool good = demo_verdict(d, verdict, sizeof verdict);
    printf("\n%-14s reconstruction   editability\n", "");
    for (int i = 0; i < DEMO_WORDS; i++) {
        printf("%-14s %.3f            %.3f         %s\n", d->called[i], d->word[i].reconstruction.value, d->word[i].mean_of_cosines.value, meaning[i]);
    }
    printf("(cosines in CLIP's space: samples against the %d pictures, samples in scenes and styles against their sentences)\n\n%s\n\n", d->pics.n,
           verdict);
    printf("%s/report.html   pictures, curves and numbers, for the browser\n%s/sheet.png     the pictures at a glance\n", d->output, d->output);
    printf("%s/learned_embeds.safetensors   the word; try it:\n  %s generate --model %s --embedding %s/learned_embeds.safetensors \\\n"
           "    -p \"a photo of a %s on the beach\" --cfg-scale 4 --batch 4 -o '%s/beach-%%d.png'\n",
           d->output, d->program, d->model_dir, d->output, d->token, d->output);
    return good;
}

static void release(demo *d) {
    for (int i = 0; i < DEMO_SNAPSHOTS; i++) eval_set_free(&d->snapshot[i]);
    for (int i = 0; i < DEMO_WORDS; i++) eval_word_free(&d->word[i]);
    for (int i = 0; i < DEMO_COMPOSED; i++) eval_set_free(&d->composed[i]);
    free(d->loss), free(d->learned), free(d->features);
    emb_free(&d->words);
    pictures_free(&d->pics), pictures_free(&d->style);
    clip_close(&d->judge);
    tn_ctx_free(&d->c);
}

static int run(int argc, char **argv) {
    demo d = {.program = argv[-1], .concept = "mango", .output = "build/demo", .samples = 16, .steps = 25};
    tn_err err;
    int r = opt_parse(&cmd_demo, argc, argv, &d, NULL, NULL, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    d.edit_samples = (int)(d.samples < 16 ? 1 : d.samples / 8);
    r = demonstrate(&d, &err);
    /* A word that was not learned is a failure of the demonstration, whatever the program did right. */
    int status = r ? opt_error(&err) : tell(&d) ? 0 : TN_EMISMATCH;
    release(&d);
    return status;
}
