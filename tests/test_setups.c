/* The parts of the paper's setups that a run's file does not show: sentences and ids of progressive and truncated words, vectors
 * that wait, composed pictures, the rule of DVAR, the built-in sentences of the presets. */
#include "nn/dvar.h"
#include "nn/image/resize.h"
#include "nn/train_impl.h"
#include "nn/tune.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_dvar(test_state *t) {
    /* 1 2 3 4 5 5 5: the last three are equal, the last four have variance 3/16, all have 110/49. */
    const double loss[] = {1, 2, 3, 4, 5, 5, 5};
    nn_dvar d = {0};
    tn_err err;
    for (int i = 0; i < 7; i++) {
        CHECK(t, nn_dvar_add(&d, loss[i], &err) == 0);
        if (i < 3) CHECK(t, nn_dvar_ratio(&d, 4) == 1.0);
    }
    CHECK(t, nn_dvar_ratio(&d, 3) == 0.0 && nn_dvar_ratio(&d, 7) == 1.0);
    CHECK(t, fabs(nn_dvar_ratio(&d, 4) - 3.0 / 16.0 / (110.0 / 49.0)) < 1e-15);
    nn_dvar_free(&d);
    for (int i = 0; i < 600; i++) CHECK(t, nn_dvar_add(&d, 0.5, &err) == 0); /* grows; no variance at all */
    CHECK(t, nn_dvar_ratio(&d, 3) == 1.0 && d.n == 600);
    nn_dvar_free(&d);
}

static void test_lists(test_state *t) {
    nn_templates x, plain;
    tn_err err;
    CHECK(t, nn_templates_builtin(NN_TEMPLATES_OFFICIAL, &x, &err) == 0 && x.n == 81);
    int unlike = 0;
    for (int i = 0; i < x.n; i++) {
        bool seen = false;
        for (int j = 0; j < i; j++) seen = seen || strcmp(x.line[i], x.line[j]) == 0;
        unlike += !seen;
    }
    CHECK(t, unlike == 57 && strcmp(x.line[27], "an illustration of a {}") == 0);
    nn_templates_free(&x);
    CHECK(t, nn_templates_builtin(NN_TEMPLATES_PAPER, &x, &err) == 0 && x.n == 27);
    CHECK(t, nn_templates_builtin(NN_TEMPLATES_OBJECT, &plain, &err) == 0);
    for (int i = 0; i < 27; i++) {
        size_t n = strlen(plain.line[i]);
        CHECK(t, strlen(x.line[i]) == n + 1 && memcmp(x.line[i], plain.line[i], n) == 0 && x.line[i][n] == '.');
    }
    nn_templates_free(&x), nn_templates_free(&plain);
}

enum { PICTURES = 2, RESOLUTION = 32 };

typedef struct setup {
    tn_ctx c;
    nn_model *model;
    nn_templates templates;
    nn_image pictures[PICTURES];
    nn_train_config cfg;
    nn_train *train;
} setup;

static const nn_train_config plain_run = {
    .placeholder = {"<new>"}, .initializer = {"cat"}, .nplaceholders = 1, .num_vectors = 1, .resolution = RESOLUTION, .batch = 1,
    .accumulate = 1, .steps = 4, .lr = {.kind = NN_LR_CONSTANT, .base = 5e-3}, .adam = {0.9, 0.999, 1e-8, 1e-2}, .seed = 7};

static bool open_run(test_state *t, setup *s, const nn_train_config *cfg) {
    tn_err err = {0};
    *s = (setup){.cfg = *cfg};
    tn_ctx_init(&s->c, NULL, 1);
    bool ok = nn_model_load("testdata/world/model", NN_LOAD_ALL, &s->model, &err) == 0 &&
              nn_templates_load(test_data("world/templates-object.txt"), &s->templates, &err) == 0 &&
              nn_image_load(test_data("world/concepts/mango/0.png"), &s->pictures[0], &err) == 0 &&
              nn_image_load(test_data("world/concepts/vaso/0.png"), &s->pictures[1], &err) == 0;
    ok = ok && nn_train_open(&s->c, s->model, &s->cfg, &s->templates, s->pictures, PICTURES, NULL, NULL, &s->train, &err) == 0;
    return CHECKF(t, ok, "%s", err.msg);
}

static void close_run(setup *s) {
    nn_train_free(s->train);
    nn_model_free(s->model);
    nn_templates_free(&s->templates);
    for (int i = 0; i < PICTURES; i++) nn_image_free(&s->pictures[i]);
    tn_ctx_free(&s->c);
}

/* The id of the k-th vector of a sentence that has it at 5: begin, a photo of a, .... */
static int64_t id_of(const setup *s, int stage, int64_t index, int64_t picture, int at) {
    int64_t ids[100];
    nn_train_sentence(s->train, stage, index, picture, ids);
    return ids[at];
}

/* AdamW's first step: decay, and then every number by the rate, whatever the size of its gradient. */
static void check_first_step(test_state *t, const nn_word *w, int64_t row) {
    double lr = plain_run.lr.base, keep = 1.0 - lr * plain_run.adam.weight_decay;
    int off = 0;
    for (int64_t i = row * w->dim; i < (row + 1) * w->dim; i++) {
        double moved = fabs((double)w->v[i] - keep * (double)w->initial[i]);
        off += fabs(moved - lr) > 0.02 * lr;
    }
    CHECKF(t, off <= 2, "vector %d: %d numbers did not move by the rate in its first step", (int)row, off);
}

static void test_progressive(test_state *t) {
    setup s;
    nn_train_step step;
    tn_err err = {0};
    nn_train_config cfg = plain_run;
    cfg.num_vectors = 3, cfg.nswitches = 2, cfg.switch_at[0] = 1, cfg.switch_at[1] = 2;
    if (open_run(t, &s, &cfg)) {
        nn_tokenizer_facts facts = nn_tokenizer_get_facts(s.model->tokenizer);
        int64_t vocab = s.model->text->cfg.vocab;
        const int64_t want[3][5] = {{vocab, facts.eos, facts.pad, facts.pad, facts.pad},
                                    {vocab, vocab + 1, facts.eos, facts.pad, facts.pad},
                                    {vocab, vocab + 1, vocab + 2, facts.eos, facts.pad}};
        for (int stage = 0; stage < 3; stage++) {
            for (int i = 0; i < 5; i++) CHECK(t, id_of(&s, stage, 0, 0, 5 + i) == want[stage][i]);
        }
        const nn_word *w = nn_train_word(s.train);
        size_t row = (size_t)w->dim * sizeof(float);
        for (int64_t k = 0; k < 4; k++) {
            CHECK(t, nn_train_advance(s.train, &s.c, &step, &err) == 0 && step.vectors == (k < 2 ? k + 1 : 3));
            for (int64_t r = 0; r < 3; r++) { /* those that wait have not moved */
                bool moved = memcmp(w->v + r * w->dim, w->initial + r * w->dim, row) != 0;
                CHECKF(t, moved == (r < step.vectors), "step %d, vector %d: %s", (int)k, (int)r, moved ? "moved" : "did not move");
            }
            if (k == 1 || k == 2) check_first_step(t, w, k);
        }
    }
    close_run(&s);
}

/* Widened after the tokenizer: what nn_expand_placeholder makes of the sentence with one token. */
static void test_truncated(test_state *t) {
    setup one, s;
    nn_train_config cfg = plain_run;
    int64_t want[100], ids[100];
    cfg.expansion = NN_EXPAND_TRUNCATED;
    if (open_run(t, &one, &cfg)) {
        cfg.num_vectors = 27; /* begin, "a photo of a", 27 vectors: the end token is lost */
        if (open_run(t, &s, &cfg)) {
            int64_t vocab = s.model->text->cfg.vocab;
            for (int i = 0; i < s.train->nbase; i++) {
                nn_train_sentence(one.train, 0, i, 0, want);
                nn_expand_placeholder(want, s.train->L, vocab, vocab, 27);
                nn_train_sentence(s.train, 0, i, 0, ids);
                CHECK(t, memcmp(want, ids, (size_t)s.train->L * sizeof *ids) == 0);
            }
        }
        close_run(&s);
    }
    close_run(&one);
    nn_train *train;
    tn_err err = {0};
    nn_model *m;
    cfg.expansion = NN_EXPAND_WRITTEN; /* the same is refused, and says why */
    if (CHECK(t, nn_model_load("testdata/world/model", NN_LOAD_ALL, &m, &err) == 0)) {
        char line[] = "a photo of a {}";
        nn_templates one_line = {(char *[]){line}, 1};
        CHECK(t, nn_train_open(&one.c, m, &cfg, &one_line, NULL, 1, NULL, NULL, &train, &err) == -1 && err.code == TN_EUSAGE);
        nn_model_free(m);
    }
}

static void test_per_image(test_state *t) {
    setup s;
    nn_train_config cfg = plain_run;
    const char *const captions[] = {"a photo of a {}", "a photo of a {}."};
    cfg.per_image_share = 1.0, cfg.noise_kind = NN_NOISE_UNIFORM, cfg.captions = captions;
    if (open_run(t, &s, &cfg)) {
        const nn_train *r = s.train;
        int64_t vocab = s.model->text->cfg.vocab;
        CHECK(t, strcmp(nn_train_image_token(r, 1), "<new>@1") == 0 && r->nsentences == 2 * r->nbase);
        for (int64_t p = 0; p < PICTURES; p++) /* "... <new> with <new>@p" */
            CHECK(t, id_of(&s, 0, r->nbase, p, 5) == vocab && id_of(&s, 0, r->nbase, p, 7) == vocab + 1 + p);
        CHECK(t, id_of(&s, 0, 0, 1, 5) == vocab); /* without it */
        int64_t plain[100], stopped[100]; /* a full stop stays at the end: ids 9 and on of "... <new>@1." */
        nn_train_sentence(r, 0, r->nbase - 1, 1, plain), nn_train_sentence(r, 0, r->nsentences - 1, 1, stopped);
        CHECK(t, stopped[7] == vocab + 2 && stopped[8] == plain[6] && plain[6] != plain[7]);
        const float *v = nn_train_image_vector(r, 0);
        bool inside = true;
        for (int64_t i = 0; i < 2 * r->word.dim; i++) inside = inside && v[i] >= 0.0f && v[i] < 1.0f;
        CHECK(t, inside && memcmp(v, nn_train_image_vector(r, 1), (size_t)r->word.dim * sizeof *v) != 0);
    }
    close_run(&s);
}

/* A composed picture is the first one outside of one box, whose sides are a quarter to a half of it. */
static void test_composed(test_state *t) {
    setup s;
    nn_train_config cfg = plain_run;
    cfg.placeholder[1] = "<other>", cfg.initializer[1] = "vase", cfg.nplaceholders = 2;
    cfg.compose_from = 1, cfg.compose_pictures = 3, cfg.compose_share = 0.5;
    if (open_run(t, &s, &cfg)) {
        nn_image plain, made, again;
        tn_err err;
        CHECK(t, nn_resize(&s.pictures[0], RESOLUTION, RESOLUTION, NN_BICUBIC, &plain, &err) == 0);
        for (int64_t k = 0; k < 3; k++) {
            CHECK(t, nn_train_composed(s.train, s.pictures, k, &made, &err) == 0);
            CHECK(t, nn_train_composed(s.train, s.pictures, k, &again, &err) == 0);
            CHECK(t, memcmp(made.rgb, again.rgb, 3 * RESOLUTION * RESOLUTION) == 0);
            int64_t lo[2] = {RESOLUTION, RESOLUTION}, hi[2] = {-1, -1};
            for (int64_t i = 0; i < RESOLUTION * RESOLUTION; i++) {
                int64_t at[2] = {i % RESOLUTION, i / RESOLUTION};
                if (memcmp(plain.rgb + 3 * i, made.rgb + 3 * i, 3) == 0) continue;
                for (int d = 0; d < 2; d++) lo[d] = at[d] < lo[d] ? at[d] : lo[d], hi[d] = at[d] > hi[d] ? at[d] : hi[d];
            }
            for (int d = 0; d < 2; d++) { /* a border may be of equal colours */
                int64_t side = hi[d] - lo[d] + 1;
                CHECKF(t, side >= RESOLUTION / 4 - 3 && side < RESOLUTION / 2, "box of side %d", (int)side);
            }
            nn_image_free(&made), nn_image_free(&again);
        }
        nn_image_free(&plain);
        int n, sentences = s.train->nbase / 3;
        CHECK(t, nn_train_group(s.train, 0, &n) == 0 && n == sentences && nn_train_group(s.train, 1, &n) == sentences);
        CHECK(t, nn_train_group(s.train, PICTURES, &n) == 2 * sentences && n == sentences);
        int64_t vocab = s.model->text->cfg.vocab;
        CHECK(t, id_of(&s, 0, sentences, 1, 5) == vocab + 1 && id_of(&s, 0, 2 * sentences, 2, 5) == vocab &&
                     id_of(&s, 0, 2 * sentences, 2, 7) == vocab + 1); /* "<new> and <other>" */
    }
    close_run(&s);
}

/* The loss of the last drawn batch, one parameter moved by `step` along its gradient of norm `norm`. */
static double loss_along(setup *s, tn_tensor *p, double step, double norm) {
    nn_inversion_batch b = nn_train_batch(s->train);
    tn_err err;
    double loss = NAN;
    float *w = p->data, *kept = malloc((size_t)tn_numel(p) * sizeof *kept);
    if (!kept) return NAN;
    memcpy(kept, w, (size_t)tn_numel(p) * sizeof *kept);
    for (int64_t i = 0; i < tn_numel(p); i++) w[i] += (float)(step * (double)p->grad[i] / norm);
    b.texts = NULL;
    if (nn_inversion_loss(&s->c, s->model, &s->train->schedule, &s->train->word, &b, &loss, &err)) loss = NAN;
    memcpy(w, kept, (size_t)tn_numel(p) * sizeof *kept);
    free(kept);
    return loss;
}

/* Along its gradient a parameter changes the loss by the gradient's norm. */
static void check_gradient(test_state *t, setup *s, const char *name) {
    const nn_param *p = nn_param_find(nn_unet_params(s->model->unet), name);
    if (!p) p = nn_param_find(&s->model->text->weights.params, name);
    if (!CHECKF(t, p && p->t->grad_set, "%s has no gradient", name)) return;
    double norm = 0.0, h = 3e-2;
    for (int64_t k = 0; k < tn_numel(p->t); k++) norm += (double)p->t->grad[k] * (double)p->t->grad[k];
    norm = sqrt(norm);
    double slope = (loss_along(s, p->t, h, norm) - loss_along(s, p->t, -h, norm)) / (2.0 * h);
    CHECKF(t, fabs(slope - norm) < 0.03 * norm, "%s: gradient %g, difference %g", name, norm, slope);
}

/* Gradients of weights all over both networks against differences of the loss; a rate of zero; a rate; the model afterwards. */
static void test_tune(test_state *t) {
    static const char *const names[] = {"conv_out.weight", "down_blocks.0.resnets.0.conv1.weight", "conv_in.bias",
                                        "text_model.final_layer_norm.weight", "text_model.embeddings.token_embedding.weight",
                                        "text_model.encoder.layers.0.mlp.fc1.weight"};
    setup s;
    nn_train_step step, again;
    nn_tune *tune = NULL;
    tn_err err = {0};
    nn_train_config cfg = plain_run;
    cfg.lr.base = 0.0;
    if (open_run(t, &s, &cfg) && CHECK(t, nn_tune_open(s.train, &tune, &err) == 0)) {
        for (int64_t k = 1; k <= 2; k++) {
            CHECK(t, nn_tune_advance(tune, &s.c, &step, &err) == 0 && step.step == k && step.grad_norm > 0.0);
            for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_gradient(t, &s, names[i]);
        }
        s.cfg.lr.base = 1e-4; /* the steps that a rate of zero left out: the same loss, then a smaller one */
        double before = loss_along(&s, nn_unet_params(s.model->unet)->p[0].t, 0.0, 1.0);
        CHECK(t, before == step.loss);
        CHECK(t, nn_tune_advance(tune, &s.c, &again, &err) == 0);
        before = again.loss;
        CHECK(t, loss_along(&s, nn_unet_params(s.model->unet)->p[0].t, 0.0, 1.0) < before);
        nn_tune_free(tune);
        const tn_tensor *w = nn_param_find(nn_unet_params(s.model->unet), "conv_out.weight")->t;
        CHECK(t, w->dtype == TN_F16 && !w->grad && nn_weights_are_mapped(nn_unet_weights(s.model->unet), w->data));
    }
    close_run(&s);
}

void test_main(test_state *t) {
    if (test_section(t, "dvar")) test_dvar(t);
    if (test_section(t, "built-in sentences")) test_lists(t);
    if (test_section(t, "progressive")) test_progressive(t);
    if (test_section(t, "truncated")) test_truncated(t);
    if (test_section(t, "per-image tokens")) test_per_image(t);
    if (test_section(t, "composed pictures")) test_composed(t);
    if (test_section(t, "pivotal tuning")) test_tune(t);
}
