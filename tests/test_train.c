/* Learning a word on the bundled model: sentences, learning rates, regulariser, clipping, optimiser; the same vectors
 * for any threads, with and without checkpointing, and across an interruption; what a checkpoint refuses. */
#include "nn/train.h"
#include "tensor/rng.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool near(double a, double b, double rel) { return fabs(a - b) <= rel * fabs(b); }

/* ---- small parts ---- */

static void test_templates(test_state *t) {
    nn_templates x;
    tn_err err;
    CHECK(t, nn_templates_builtin(false, &x, &err) == 0 && x.n == 27);
    int different = 0;
    for (int i = 0; i < x.n; i++) {
        bool seen = false;
        for (int j = 0; j < i; j++) seen = seen || strcmp(x.line[i], x.line[j]) == 0;
        different += !seen;
        CHECK(t, strstr(x.line[i], "{}") != NULL);
    }
    CHECK(t, different == 27);
    nn_templates_free(&x);
    CHECK(t, nn_templates_builtin(true, &x, &err) == 0 && x.n == 19);
    nn_templates_free(&x);
    char path[600];
    snprintf(path, sizeof path, "%s/t.txt", test_tmp("templates"));
    const char text[] = "# comment\r\n\r\na photo of [name]\r\n  \nthe {} and {}\n";
    test_write(path, text, sizeof text - 1);
    CHECK(t, nn_templates_load(path, &x, &err) == 0 && x.n == 2);
    CHECK(t, x.n == 2 && strcmp(x.line[0], "a photo of {}") == 0 && strcmp(x.line[1], "the {} and {}") == 0);
    nn_templates_free(&x);
    test_write(path, "no place for it\n", 16);
    CHECK(t, nn_templates_load(path, &x, &err) == -1 && err.code == TN_EINPUT);
    test_write(path, "a\0{}", 4);
    CHECK(t, nn_templates_load(path, &x, &err) == -1 && err.code == TN_EINPUT);
}

static void test_rates(test_state *t) {
    nn_lr lr;
    tn_err err;
    CHECK(t, nn_lr_parse("5e-3", &lr, &err) == 0 && lr.kind == NN_LR_CONSTANT && nn_lr_at(&lr, 7) == 5e-3);
    CHECK(t, nn_lr_parse("5e-3:100, 1e-3:1000,1e-4", &lr, &err) == 0 && lr.kind == NN_LR_PIECEWISE);
    CHECK(t, nn_lr_at(&lr, 99) == 5e-3 && nn_lr_at(&lr, 100) == 1e-3 && nn_lr_at(&lr, 999) == 1e-3 && nn_lr_at(&lr, 100000) == 1e-4);
    static const char *const bad[] = {"", "x", "1e-3:", "1e-3:5:6", "1e-3:100,1e-4:100", "nan", "inf", "-1", "1,5", "1e-3:-5", "1e-3,"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bool refused = nn_lr_parse(bad[i], &lr, &err) == -1 && err.code == TN_EUSAGE;
        CHECKF(t, refused || strcmp(bad[i], "1,5") == 0, "learning rate \"%s\" was taken", bad[i]);
    }
    nn_lr linear = {.kind = NN_LR_LINEAR, .base = 2.0, .warmup = 10, .total = 110};
    CHECK(t, nn_lr_at(&linear, 0) == 0.0 && nn_lr_at(&linear, 5) == 1.0 && nn_lr_at(&linear, 10) == 2.0 && nn_lr_at(&linear, 60) == 1.0);
    nn_lr cosine = {.kind = NN_LR_COSINE, .base = 2.0, .warmup = 0, .total = 100};
    CHECK(t, nn_lr_at(&cosine, 0) == 2.0 && near(nn_lr_at(&cosine, 50), 1.0, 1e-15) && near(nn_lr_at(&cosine, 25), 1.0 + sqrt(0.5), 1e-15));
}

static void test_word(test_state *t) {
    nn_word w;
    tn_err err;
    CHECK(t, nn_word_init(&w, 2, 3, &err) == 0);
    for (int i = 0; i < 6; i++) w.v[i] = (float)i, w.initial[i] = 0.0f;
    /* rows (0,1,2) and (3,4,5): squared norms 5 and 50, sum (3,5,7) */
    CHECK(t, near(nn_inversion_regularise(&w, 0, 2, NN_REG_L2, 0.5), 27.5, 1e-12));
    CHECK(t, w.grad[0] == 0.0f && w.grad[5] == 2.5f); /* weight * 2 * 5 / 2 rows */
    memset(w.grad, 0, 6 * sizeof(float));
    CHECK(t, near(nn_inversion_regularise(&w, 0, 2, NN_REG_OFFICIAL, 1.0), 83.0 / 4.0, 1e-12));
    CHECK(t, w.grad[0] == 1.5f && w.grad[3] == 1.5f && w.grad[2] == 3.5f);
    for (int i = 0; i < 6; i++) w.grad[i] = i == 0 ? 3.0f : i == 1 ? -4.0f : 0.0f;
    CHECK(t, near(nn_inversion_clip(&w, 1.0, 0.0), 5.0, 1e-12) && near((double)w.grad[1], -0.8, 1e-5));
    w.grad[0] = 3.0f, w.grad[1] = -4.0f;
    nn_inversion_clip(&w, 0.0, 0.5);
    CHECK(t, w.grad[0] == 0.5f && w.grad[1] == -0.5f);
    /* With zero gradient AdamW only decays: (1 - lr wd)^n. */
    tn_ctx c;
    tn_ctx_init(&c, NULL, 1);
    tn_adamw_config adam = {0.9, 0.999, 1e-8, 0.01};
    memset(w.grad, 0, 6 * sizeof(float));
    w.v[0] = 1.0f;
    for (int i = 0; i < 5000; i++) nn_inversion_update(&c, &w, &adam, 0.02);
    CHECK(t, near((double)w.v[0], 0.36784, 2e-3) && w.updates == 5000);
    tn_ctx_free(&c);
    nn_word_free(&w);
}

static void test_expand(test_state *t) {
    int64_t ids[] = {0, 5, 9, 6, 9, 1}, want[] = {0, 5, 100, 101, 102, 6};
    nn_expand_placeholder(ids, 6, 9, 100, 3);
    CHECK(t, memcmp(ids, want, sizeof ids) == 0);
    int64_t one[] = {0, 9, 1}, want_one[] = {0, 100, 1};
    nn_expand_placeholder(one, 3, 9, 100, 1);
    CHECK(t, memcmp(one, want_one, sizeof one) == 0);
}

/* ---- the run ---- */

static const char *const concept_files[] = {"world/concepts/mango/0.png", "world/concepts/mango/1.png", "world/concepts/mango/2.png"};
enum { PICTURES = 3 };

typedef struct setup {
    tn_ctx c;
    nn_model *model;
    nn_templates templates;
    nn_image pictures[PICTURES];
    nn_train_config cfg;
    nn_train *train;
} setup;

static bool open_setup(setup *s, const char *isa, int threads, int64_t vectors, tn_err *err) {
    *s = (setup){.cfg = {.placeholder = {"<new>"}, .initializer = {"cat"}, .nplaceholders = 1, .num_vectors = vectors, .resolution = 64,
                         .flip = true, .batch = 2, .accumulate = 2, .steps = 4, .lr = {.kind = NN_LR_CONSTANT, .base = 5e-3},
                         .adam = {0.9, 0.999, 1e-8, 1e-2}, .seed = 7}};
    tn_ctx_init(&s->c, isa ? tn_kernels_named(isa, &(int){0}) : NULL, threads);
    bool ok = nn_model_load("testdata/world/model", NN_LOAD_ALL, &s->model, err) == 0 &&
              nn_templates_load(test_data("world/templates-object.txt"), &s->templates, err) == 0;
    for (int i = 0; ok && i < PICTURES; i++) ok = nn_image_load(test_data(concept_files[i]), &s->pictures[i], err) == 0;
    return ok && nn_train_open(&s->c, s->model, &s->cfg, &s->templates, s->pictures, PICTURES, NULL, NULL, &s->train, err) == 0;
}

static void close_setup(setup *s) {
    nn_train_free(s->train);
    nn_model_free(s->model);
    nn_templates_free(&s->templates);
    for (int i = 0; i < PICTURES; i++) nn_image_free(&s->pictures[i]);
    tn_ctx_free(&s->c);
}

/* The vectors after `steps` steps; false where something failed. */
static bool learn(test_state *t, const char *isa, int threads, bool checkpoint, int64_t vectors, int steps, float *out) {
    setup s;
    tn_err err = {0};
    nn_train_step step;
    bool ok = open_setup(&s, isa, threads, vectors, &err);
    s.c.checkpoint = checkpoint;
    for (int i = 0; ok && i < steps; i++) ok = nn_train_advance(s.train, &s.c, &step, &err) == 0 && step.loss > 0.0 && step.step == i + 1;
    CHECKF(t, ok, "training failed: %s", err.msg);
    if (ok) memcpy(out, nn_train_vectors(s.train, 0), (size_t)(vectors * 128) * sizeof(float));
    close_setup(&s);
    return ok;
}

static void test_same_bits(test_state *t) {
    float base[2 * 128], other[2 * 128];
    if (!learn(t, NULL, 1, false, 2, 2, base)) return;
    static const char *const isa[] = {"avx2", "avx512", "neon"};
    static const int threads[] = {2, 3, 7};
    for (int i = 0; i < 3; i++) {
        if (learn(t, NULL, threads[i], i == 1, 2, 2, other)) CHECKF(t, memcmp(base, other, sizeof base) == 0, "other vectors with %d threads", threads[i]);
        int known;
        if (!tn_kernels_named(isa[i], &known)) continue;
        if (learn(t, isa[i], 2, false, 2, 2, other)) CHECKF(t, memcmp(base, other, sizeof base) == 0, "other vectors with %s", isa[i]);
    }
    CHECK(t, memcmp(base, base + 128, 128 * sizeof(float)) != 0); /* two vectors go different ways */
}

static void test_resume(test_state *t) {
    float whole[128];
    char path[600];
    setup s;
    tn_err err = {0};
    nn_train_step step;
    if (!learn(t, NULL, 2, false, 1, 4, whole)) return;
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", test_tmp("resume"));
    bool ok = open_setup(&s, NULL, 2, 1, &err);
    for (int i = 0; ok && i < 2; i++) ok = nn_train_advance(s.train, &s.c, &step, &err) == 0;
    CHECK(t, ok && nn_train_save(s.train, "model-a", path, &err) == 0);
    close_setup(&s);
    ok = open_setup(&s, NULL, 1, 1, &err);
    CHECK(t, nn_train_load(s.train, "model-b", path, &err) == -1 && err.code == TN_EINPUT && nn_train_steps_done(s.train) == 0);
    CHECKF(t, ok && nn_train_load(s.train, "model-a", path, &err) == 0 && nn_train_steps_done(s.train) == 2, "loading: %s", err.msg);
    for (int i = 0; ok && i < 2; i++) ok = nn_train_advance(s.train, &s.c, &step, &err) == 0;
    CHECK(t, ok && memcmp(whole, nn_train_vectors(s.train, 0), sizeof whole) == 0);
    s.cfg.seed = 8; /* settings are compared when loading */
    CHECK(t, nn_train_load(s.train, "model-a", path, &err) == -1 && strstr(err.msg, "settings"));
    close_setup(&s);
    /* Every cut of the file is refused. */
    size_t n;
    unsigned char *bytes = test_read(path, &n);
    ok = open_setup(&s, NULL, 1, 1, &err);
    for (size_t cut = 0; ok && bytes && cut < n; cut += 97) {
        test_write(path, bytes, cut);
        CHECK(t, nn_train_load(s.train, "model-a", path, &err) == -1 && nn_train_steps_done(s.train) == 0);
    }
    free(bytes);
    close_setup(&s);
}

/* With a rate of 0 the vector stays, so that the micro-steps of one accumulated step can be taken singly: their mean is its
 * gradient. */
static void test_accumulation(test_state *t) {
    float sum[128] = {0};
    for (int64_t accumulate = 1; accumulate <= 3; accumulate += 2) {
        setup s;
        tn_err err = {0};
        nn_train_step step;
        bool ok = open_setup(&s, NULL, 1, 1, &err);
        s.cfg.lr.base = 0.0, s.cfg.accumulate = accumulate;
        for (int i = 0; ok && i < (accumulate == 1 ? 3 : 1); i++) {
            ok = nn_train_advance(s.train, &s.c, &step, &err) == 0;
            const float *grad = ok ? nn_train_word(s.train)->grad : sum;
            double off = 0.0, size = 0.0;
            for (int j = 0; j < 128; j++) {
                if (accumulate == 1) sum[j] += grad[j] / 3.0f;
                off += pow((double)(grad[j] - sum[j]), 2.0), size += pow((double)sum[j], 2.0);
            }
            CHECKF(t, accumulate == 1 || (size > 0.0 && off <= 1e-10 * size), "the mean of 3 gradients: off by %.1e of %.1e", off, size);
        }
        CHECKF(t, ok, "accumulation: %s", err.msg);
        close_setup(&s);
    }
}

/* The plan is of the sentence that takes the most; none takes much less. */
static void test_memory_plan(test_state *t) {
    setup s;
    tn_err err = {0};
    nn_train_step step;
    size_t last = SIZE_MAX;
    bool ok = open_setup(&s, NULL, 2, 1, &err);
    for (int i = 0; ok && i < 3; i++) {
        int64_t checkpoint = i == 0 ? 0 : i == 1 ? 20000 : 1;
        nn_need need;
        tn_ctx c;
        tn_ctx_init(&c, NULL, 2);
        CHECK(t, nn_train_measure(s.train, &c, checkpoint, &need, &err) == 0);
        c.checkpoint = checkpoint;
        nn_memory_part(&c, s.model, i ? NN_STREAM : NN_STAY, &need);
        CHECK(t, nn_train_advance(s.train, &c, &step, &err) == 0);
        size_t planned = need.step + need.block, taken = tn_ctx_peak(&c);
        CHECKF(t, taken <= planned && taken > planned - planned / 20, "checkpoint %d: planned %zu bytes, took %zu", i, planned, taken);
        CHECKF(t, planned < last, "checkpoint %d takes %zu bytes, with fewer blocks %zu", i, planned, last);
        last = planned;
        tn_ctx_free(&c);
    }
    nn_need encoder;
    tn_ctx c;
    tn_ctx_init(&c, NULL, 2);
    CHECK(t, ok && nn_train_measure_encoder(s.train, &c, &encoder, &err) == 0);
    CHECK(t, ok && nn_train_encode(s.train, &c, s.pictures, NULL, NULL, &err) == 0);
    CHECKF(t, encoder.step == tn_ctx_peak(&c), "encoder: planned %zu bytes, took %zu", encoder.step, tn_ctx_peak(&c));
    CHECK(t, encoder.weights > 2 * encoder.part);
    tn_ctx_free(&c);
    close_setup(&s);
}

static void refused(test_state *t, const char *placeholder, const char *initializer, int64_t vectors, int64_t resolution, int code) {
    setup s;
    tn_err err = {0};
    nn_train *train = NULL;
    if (!open_setup(&s, NULL, 1, 1, &err)) {
        CHECKF(t, false, "%s", err.msg);
    } else {
        nn_model *m;
        CHECK(t, nn_model_load("testdata/world/model", NN_LOAD_ALL, &m, &err) == 0);
        s.cfg.placeholder[0] = placeholder, s.cfg.initializer[0] = initializer, s.cfg.num_vectors = vectors, s.cfg.resolution = resolution;
        int words = nn_tokenizer_get_facts(m->tokenizer).size;
        int r = nn_train_open(&s.c, m, &s.cfg, &s.templates, s.pictures, PICTURES, NULL, NULL, &train, &err);
        CHECKF(t, r == -1 && err.code == code, "placeholder %s, initializer %s: result %d, code %d, %s", placeholder, initializer, r, err.code, err.msg);
        CHECK(t, nn_tokenizer_get_facts(m->tokenizer).size == words && nn_tokenizer_word(m->tokenizer, "<x>") == -1);
        s.cfg.placeholder[0] = "<x>", s.cfg.initializer[0] = "cat", s.cfg.num_vectors = 2, s.cfg.resolution = 64; /* all is as it was */
        CHECKF(t, nn_train_open(&s.c, m, &s.cfg, &s.templates, NULL, PICTURES, NULL, NULL, &train, &err) == 0, "after a refusal: %s", err.msg);
        CHECK(t, nn_tokenizer_word(m->tokenizer, "<x>_1") == words + 1);
        nn_train_free(train);
        nn_model_free(m);
    }
    close_setup(&s);
}

static void test_refusals(test_state *t) {
    refused(t, "cat", "cat", 1, 64, TN_EUSAGE);
    refused(t, "", "cat", 1, 64, TN_EUSAGE);
    refused(t, "<a b>", "cat", 1, 64, TN_EUSAGE);
    refused(t, "<x>", "cat dog fish", 1, 64, TN_EUSAGE);
    refused(t, "<x>", "", 1, 64, TN_EUSAGE);
    refused(t, "<x>", "cat", 1, 63, TN_EUSAGE);
    refused(t, "<x>", "cat", 31, 64, TN_EUSAGE); /* the sentence would lose vectors */
}

void test_main(test_state *t) {
    if (test_section(t, "templates")) test_templates(t);
    if (test_section(t, "learning rate")) test_rates(t);
    if (test_section(t, "word")) test_word(t);
    if (test_section(t, "expand")) test_expand(t);
    if (test_section(t, "same bits")) test_same_bits(t);
    if (test_section(t, "resume")) test_resume(t);
    if (test_section(t, "accumulation")) test_accumulation(t);
    if (test_section(t, "memory plan")) test_memory_plan(t);
    if (test_section(t, "refusals")) test_refusals(t);
}
