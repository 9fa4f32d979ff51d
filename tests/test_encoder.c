/* The encoder of pictures to a word: it starts at the word of the kind, its gradients in both ways of learning are those of
 * differences of the loss, it comes back from its file. */
#include "nn/encoder.h"
#include "tensor/rng.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES = 3, EACH = 2, FEATURES = 12, WIDTH = 128, HIDDEN = 10, CHANNELS = 4, SIDE = 4, LATENT = CHANNELS * SIDE * SIDE };

typedef struct lesson {
    float features[NAMES * EACH * FEATURES], kind[NAMES * WIDTH], word[NAMES * WIDTH], latents[NAMES * EACH * LATENT];
    nn_lessons l;
    nn_encoder_config cfg;
    nn_encoder e;
    tn_ctx c, model_c;
} lesson;

static void open_lesson(test_state *t, lesson *s) {
    tn_err err;
    tn_rng g;
    tn_rng_seed(&g, 5);
    tn_rng_randn(&g, s->features, NAMES * EACH * FEATURES), tn_rng_randn(&g, s->kind, NAMES * WIDTH);
    tn_rng_randn(&g, s->word, NAMES * WIDTH), tn_rng_randn(&g, s->latents, NAMES * EACH * LATENT);
    for (int i = 0; i < NAMES * WIDTH; i++) s->kind[i] *= 0.1f, s->word[i] *= 0.1f;
    s->l = (nn_lessons){NAMES, EACH, s->features, s->kind, s->word, s->latents, CHANNELS, SIDE};
    s->cfg = (nn_encoder_config){4, 0.3, 9, {0.9, 0.999, 1e-8, 0.01}};
    tn_ctx_init(&s->c, NULL, 1), tn_ctx_init(&s->model_c, NULL, 1);
    CHECK(t, nn_encoder_new(FEATURES, WIDTH, HIDDEN, 3, &s->e, &err) == 0);
}

static void close_lesson(lesson *s) {
    nn_encoder_free(&s->e);
    tn_ctx_free(&s->c), tn_ctx_free(&s->model_c);
}

static void test_start(test_state *t) {
    lesson s;
    tn_err err;
    float word[WIDTH];
    open_lesson(t, &s);
    CHECK(t, nn_encoder_apply(&s.c, &s.e, s.features, EACH, s.kind, word, &err) == 0);
    CHECK(t, memcmp(word, s.kind, sizeof word) == 0);
    /* The last bias moves every word by s = 0.1 of it. */
    ((float *)s.e.b[2].data)[7] = 2.0f;
    CHECK(t, nn_encoder_apply(&s.c, &s.e, s.features, EACH, s.kind, word, &err) == 0);
    CHECK(t, fabsf(word[7] - s.kind[7] - 0.2f) < 1e-6f && word[6] == s.kind[6]);
    close_lesson(&s);
}

/* The loss of the step that comes next, and nothing moved: the same draws each time. */
static double loss_now(lesson *s, const nn_practice *p, tn_err *err) {
    double loss = NAN;
    s->e.updates = 0;
    if (p ? nn_encoder_practise(&s->c, &s->e, &s->l, &s->cfg, p, 0.0, &loss, err)
          : nn_encoder_study(&s->c, &s->e, &s->l, &s->cfg, 0.0, &loss, err))
        return NAN;
    return loss;
}

/* Along the gradient of each parameter in turn. */
static void test_gradient(test_state *t, lesson *s, const nn_practice *p, double h, double tolerance) {
    tn_err err = {0};
    tn_rng g;
    tn_rng_seed(&g, 6);
    tn_rng_randn(&g, s->e.w[2].data, (size_t)tn_numel(&s->e.w[2])); /* zeros would hide what lies before them */
    for (int64_t i = 0; i < tn_numel(&s->e.w[2]); i++) ((float *)s->e.w[2].data)[i] *= 0.3f;
    for (int i = 0; i < 2 * NN_ENCODER_LAYERS; i++) {
        tn_tensor *w = i % 2 ? &s->e.b[i / 2] : &s->e.w[i / 2];
        int64_t n = tn_numel(w);
        CHECKF(t, isfinite(loss_now(s, p, &err)), "%s", err.msg);
        float *direction = malloc((size_t)n * sizeof *direction), *kept = malloc((size_t)n * sizeof *kept);
        double norm = 0.0, loss[2];
        if (!CHECK(t, direction && kept)) return;
        memcpy(direction, w->grad, (size_t)n * sizeof *kept), memcpy(kept, w->data, (size_t)n * sizeof *kept);
        for (int64_t k = 0; k < n; k++) norm += (double)direction[k] * (double)direction[k];
        norm = sqrt(norm);
        for (int side = 0; side < 2; side++) {
            for (int64_t k = 0; k < n; k++)
                ((float *)w->data)[k] = kept[k] + (float)((side ? h : -h) * (double)direction[k] / norm);
            loss[side] = loss_now(s, p, &err);
        }
        memcpy(w->data, kept, (size_t)n * sizeof *kept);
        double slope = (loss[1] - loss[0]) / (2.0 * h);
        CHECKF(t, norm > 0.0 && fabs(slope - norm) < tolerance * norm, "layer %d: gradient %g, difference %g", i / 2, norm, slope);
        free(direction), free(kept);
    }
}

static void test_study(test_state *t) {
    lesson s;
    tn_err err;
    double first, loss = 0.0;
    open_lesson(t, &s);
    test_gradient(t, &s, NULL, 1e-2, 0.01);
    nn_encoder_free(&s.e);
    CHECK(t, nn_encoder_new(FEATURES, WIDTH, HIDDEN, 3, &s.e, &err) == 0);
    s.cfg.closeness = 0.0, s.cfg.adam.weight_decay = 0.0;
    CHECK(t, nn_encoder_study(&s.c, &s.e, &s.l, &s.cfg, 0.02, &first, &err) == 0);
    for (int i = 0; i < 200; i++) CHECK(t, nn_encoder_study(&s.c, &s.e, &s.l, &s.cfg, 0.02, &loss, &err) == 0);
    CHECKF(t, loss < 0.1 * first, "three names are not learned: loss %g, then %g", first, loss);
    close_lesson(&s);
}

static void test_practice(test_state *t) {
    lesson s;
    tn_err err = {0};
    nn_model *m;
    nn_schedule schedule;
    int64_t prompt[] = {0, 20, 4, 7, 300, 1};
    open_lesson(t, &s);
    s.cfg.batch = 2, s.cfg.closeness = 0.05;
    if (CHECKF(t, nn_model_load("testdata/world/model", NN_LOAD_ALL, &m, &err) == 0, "%s", err.msg)) {
        if (CHECK(t, nn_schedule_init(&schedule, &m->schedule, &err) == 0)) {
            nn_practice p = {m, &schedule, prompt, 6, 4, &s.model_c};
            test_gradient(t, &s, &p, 5e-2, 0.03);
            nn_schedule_free(&schedule);
        }
        nn_model_free(m);
    }
    close_lesson(&s);
}

static void test_file(test_state *t) {
    lesson s;
    nn_encoder back;
    tn_err err;
    char path[600], *about = NULL;
    double loss;
    float a[WIDTH], b[WIDTH];
    open_lesson(t, &s);
    snprintf(path, sizeof path, "%s/encoder.safetensors", test_tmp("encoder"));
    CHECK(t, nn_encoder_study(&s.c, &s.e, &s.l, &s.cfg, 0.01, &loss, &err) == 0);
    CHECK(t, nn_encoder_save(&s.e, "this and that", path, &err) == 0);
    if (CHECK(t, nn_encoder_load(path, &back, &about, &err) == 0)) {
        CHECK(t, strcmp(about, "this and that") == 0 && back.features == FEATURES && back.width == WIDTH && back.hidden == HIDDEN);
        CHECK(t, nn_encoder_apply(&s.c, &s.e, s.features, EACH, s.kind, a, &err) == 0);
        CHECK(t, nn_encoder_apply(&s.c, &back, s.features, EACH, s.kind, b, &err) == 0 && memcmp(a, b, sizeof a) == 0);
        CHECK(t, memcmp(a, s.kind, sizeof a) != 0);
        nn_encoder_free(&back);
        free(about);
    }
    size_t n;
    unsigned char *bytes = test_read(path, &n);
    for (size_t cut = 0; bytes && cut < n; cut += 53) { /* every cut of the file is refused */
        test_write(path, bytes, cut);
        CHECK(t, nn_encoder_load(path, &back, &about, &err) == -1 && err.code == TN_EINPUT);
    }
    free(bytes);
    CHECK(t, nn_encoder_load(test_data("world/learned/mango.safetensors"), &back, &about, &err) == -1 && err.code == TN_EINPUT);
    close_lesson(&s);
}

void test_main(test_state *t) {
    if (test_section(t, "start")) test_start(t);
    if (test_section(t, "known words")) test_study(t);
    if (test_section(t, "diffusion")) test_practice(t);
    if (test_section(t, "file")) test_file(t);
}
