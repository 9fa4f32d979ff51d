/* Steps that are not done, because their result is known or nobody asks for it; the bits are those of doing them: keys
 * and values of the text once for all images, no backward before the first cross-attention, nor for the text before the
 * learned word. And what a caller may do between steps. On the bundled model. */
#include "nn/pipeline.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

enum { B = 2, L = 7, D = 128, SIDE = 16, N = B * 4 * SIDE * SIDE };

typedef struct setup {
    nn_model *m;
    tn_ctx c;
    float latent[N], context[2 * B * L * D];
} setup;

static bool open_setup(test_state *t, setup *s) {
    tn_err err = {0};
    uint64_t seed = 5;
    for (int i = 0; i < N; i++) s->latent[i] = test_rand(&seed);
    for (int i = 0; i < 2 * B * L * D; i++) s->context[i] = test_rand(&seed);
    tn_ctx_init(&s->c, NULL, 2);
    return CHECKF(t, nn_model_load("testdata/world/model", NN_LOAD_ALL, &s->m, &err) == 0, "%s", err.msg);
}

static void close_setup(setup *s) {
    nn_model_free(s->m);
    tn_ctx_free(&s->c);
}

/* ---- the text once a prompt ---- */

/* Calls of linear at one step and before the first. */
typedef struct calls {
    int64_t linear, per_step[4];
    int steps;
} calls;

static void count_linear(void *arg, const tn_node *n, bool backward, double seconds) {
    calls *k = arg;
    (void)seconds;
    k->linear += !backward && strcmp(n->op->name, "linear") == 0;
}

static int next_step(void *arg, int step, const float *model_output, const float *latent) {
    calls *k = arg;
    (void)model_output, (void)latent;
    k->per_step[step] = k->linear, k->linear = 0, k->steps++;
    return 0;
}

/* The sampling loop with the whole UNet, text included, at each step. */
static void sample_plainly(setup *s, const nn_sampling *how, float *latent, calls *k) {
    float *y = malloc(3 * N * sizeof *y), *e = y + 2 * N;
    tn_err err;
    for (int i = 0; y && i < how->sampler->n_steps; i++) {
        float t[2 * B];
        if (tn_ctx_begin(&s->c, false, &err)) abort();
        for (int j = 0; j < 2 * B; j++) t[j] = (float)how->sampler->timesteps[i];
        memcpy(y, latent, N * sizeof *y), memcpy(y + N, latent, N * sizeof *y);
        tn_tensor *x = tn_leaf(&s->c, TN_F32, 4, (int64_t[]){2 * B, 4, SIDE, SIDE}, y, false);
        tn_tensor *context = tn_leaf(&s->c, TN_F32, 3, (int64_t[]){2 * B, L, D}, s->context, false);
        tn_tensor *time = tn_leaf(&s->c, TN_F32, 1, (int64_t[]){2 * B}, t, false);
        const float *out = tn_f32(nn_unet_forward(&s->c, s->m->unet, x, time, context));
        nn_guidance(out, out + N, how->guidance, e, N);
        nn_sampler_step(how->sampler, i, e, latent, NULL, latent, NULL);
        next_step(k, i, NULL, NULL);
    }
    free(y);
}

static void test_text_once(test_state *t) {
    setup *s = malloc(sizeof *s);
    nn_schedule schedule;
    nn_sampler sampler;
    tn_err err = {0};
    calls once = {0}, always = {0};
    if (!s || !open_setup(t, s)) abort();
    if (nn_schedule_init(&schedule, &s->m->schedule, &err) || nn_sampler_init(&sampler, &schedule, 3, 0.0, N, &err)) abort();
    nn_sampling how = {.unet = s->m->unet, .sampler = &sampler, .B = B, .h = SIDE, .w = SIDE, .uncond = s->context,
                       .cond = s->context + B * L * D, .L = L, .D = D, .guidance = 3.0f, .after = next_step, .arg = &once};
    float *latent = malloc(2 * N * sizeof *latent), *plain = latent + N;
    memcpy(latent, s->latent, N * sizeof *latent), memcpy(plain, s->latent, N * sizeof *plain);
    s->c.profile = count_linear, s->c.profile_arg = &once;
    CHECKF(t, nn_sample(&s->c, &how, latent, &err) == 0, "%s", err.msg);
    s->c.profile_arg = &always;
    sample_plainly(s, &how, plain, &always);
    CHECKF(t, memcmp(latent, plain, N * sizeof *latent) == 0, "keys and values made once change the samples");
    CHECKF(t, memcmp(latent, s->latent, N * sizeof *latent) != 0, "sampling does nothing");
    CHECK(t, once.steps == 3 && always.steps == 3);
    nn_unet_text text;
    s->c.profile = NULL;
    tn_tensor *context = tn_leaf(&s->c, TN_F32, 3, (int64_t[]){2 * B, L, D}, s->context, false);
    nn_unet_read(&s->c, s->m->unet, context, &text);
    for (int i = 0; i < 3; i++) {
        int more = i ? 2 * text.n : 0; /* the loop reads the text before its first step */
        CHECKF(t, once.per_step[i] + more == always.per_step[i], "step %d: %d products of the text too many", i,
               (int)(once.per_step[i] + more - always.per_step[i]));
    }
    free(latent);
    nn_sampler_free(&sampler), nn_schedule_free(&schedule);
    close_setup(s), free(s);
}

/* ---- what a run may be changed with ---- */

enum { STEPS = 4 };

/* Keeps the latent that each step begins with, and the prediction it is made with. */
typedef struct hooks {
    float latent[STEPS + 1][N], output[STEPS][N];
    int before, guide, fail_at; /* calls; the step that fails, -1 none */
    float change;               /* added to the first number of each */
} hooks;

static int keep_latent(void *arg, int step, float *latent, tn_err *err) {
    hooks *k = arg;
    k->before++;
    memcpy(k->latent[step], latent, sizeof k->latent[step]);
    latent[0] += k->change;
    return step == k->fail_at ? tn_fail(err, TN_EINPUT, "step %d fails", step) : 0;
}

static int keep_output(void *arg, int step, const float *latent, float *output, tn_err *err) {
    hooks *k = arg;
    (void)latent, (void)err;
    k->guide++;
    memcpy(k->output[step], output, sizeof k->output[step]);
    output[1] += k->change;
    return 0;
}

static void test_hooks(test_state *t) {
    setup *s = malloc(sizeof *s);
    hooks *k = calloc(2, sizeof *k);
    float *latent = malloc(2 * N * sizeof *latent), *plain = latent + N;
    nn_schedule schedule;
    nn_sampler sampler;
    tn_err err = {0};
    if (!s || !k || !latent || !open_setup(t, s)) abort();
    if (nn_schedule_init(&schedule, &s->m->schedule, &err) || nn_sampler_init(&sampler, &schedule, STEPS, 0.0, N, &err)) abort();
    nn_sampling how = {.unet = s->m->unet, .sampler = &sampler, .B = B, .h = SIDE, .w = SIDE, .uncond = s->context,
                       .cond = s->context + B * L * D, .L = L, .D = D, .guidance = 3.0f, .arg = k};
    memcpy(plain, s->latent, N * sizeof *plain), memcpy(latent, plain, N * sizeof *latent);
    k->fail_at = -1;
    CHECKF(t, nn_sample(&s->c, &how, plain, &err) == 0, "%s", err.msg);
    how.before = keep_latent, how.guide = keep_output;
    CHECKF(t, nn_sample(&s->c, &how, latent, &err) == 0, "%s", err.msg);
    CHECKF(t, memcmp(latent, plain, N * sizeof *latent) == 0, "looking on changes the samples");
    CHECK(t, k->before == STEPS + 1 && k->guide == STEPS && memcmp(k->latent[STEPS], plain, sizeof k->latent[0]) == 0);
    for (int first = 1; first <= STEPS; first++) { /* each run begun mid-way ends where the whole one did */
        memcpy(latent, k->latent[first], N * sizeof *latent);
        how.first = first, k[1] = (hooks){.fail_at = -1}, how.arg = &k[1];
        CHECKF(t, nn_sample(&s->c, &how, latent, &err) == 0, "%s", err.msg);
        CHECKF(t, memcmp(latent, plain, N * sizeof *latent) == 0, "begun at step %d", first);
        CHECK(t, k[1].before == STEPS + 1 - first && k[1].guide == STEPS - first);
    }
    how.first = STEPS - 1, k[1].change = 0.5f; /* one step by hand, from the latent and the prediction that were changed */
    memcpy(latent, k->latent[STEPS - 1], N * sizeof *latent);
    CHECKF(t, nn_sample(&s->c, &how, latent, &err) == 0, "%s", err.msg);
    k->latent[STEPS - 1][0] += 0.5f, k[1].output[STEPS - 1][1] += 0.5f;
    nn_sampler_step(&sampler, STEPS - 1, k[1].output[STEPS - 1], k->latent[STEPS - 1], NULL, plain, NULL);
    plain[0] += 0.5f;
    CHECKF(t, memcmp(latent, plain, N * sizeof *latent) == 0, "what before and guide change is not what the step takes");
    k[1].fail_at = STEPS;
    CHECK(t, nn_sample(&s->c, &how, latent, &err) == -1 && strstr(err.msg, "fails"));
    free(latent), free(k);
    nn_sampler_free(&sampler), nn_schedule_free(&schedule);
    close_setup(s), free(s);
}

/* ---- no backward before the first cross-attention ---- */

typedef struct seen {
    int attention[2], conv_in[2]; /* forward, backward */
} seen;

static void count(void *arg, const tn_node *n, bool backward, double seconds) {
    seen *k = arg;
    (void)seconds;
    k->attention[backward] += strcmp(n->op->name, "attention") == 0;
    k->conv_in[backward] += strcmp(n->op->name, "conv2d") == 0 && n->in[0]->shape[1] == 4;
}

/* The gradient of the text [B,L,D] with the image wanting one too, or not. */
static void text_gradient(setup *s, bool image_too, float *grad, seen *k) {
    float time[B] = {17.0f, 801.0f};
    tn_err err;
    if (tn_ctx_begin(&s->c, true, &err)) abort();
    s->c.profile = count, s->c.profile_arg = k;
    tn_tensor *x = tn_leaf(&s->c, TN_F32, 4, (int64_t[]){B, 4, SIDE, SIDE}, s->latent, image_too);
    tn_tensor *context = tn_leaf(&s->c, TN_F32, 3, (int64_t[]){B, L, D}, s->context, true);
    tn_seed(&s->c, nn_unet_forward(&s->c, s->m->unet, x, tn_leaf(&s->c, TN_F32, 1, (int64_t[]){B}, time, false), context), NULL);
    tn_backward(&s->c);
    memcpy(grad, context->grad, B * L * D * sizeof *grad);
    s->c.profile = NULL;
}

static void test_before_the_text(test_state *t) {
    setup *s = malloc(sizeof *s);
    float *grad = malloc(2 * B * L * D * sizeof *grad), *whole = grad + B * L * D;
    if (!s || !grad || !open_setup(t, s)) abort();
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        seen less = {{0}, {0}}, all = {{0}, {0}};
        s->c.checkpoint = checkpoint;
        text_gradient(s, false, grad, &less), text_gradient(s, true, whole, &all);
        CHECKF(t, memcmp(grad, whole, B * L * D * sizeof *grad) == 0, "backward through conv_in changes the text's gradient");
        CHECK(t, all.conv_in[0] == 1 && all.conv_in[1] == 1 && less.conv_in[0] == 1 && less.conv_in[1] == 0);
        CHECKF(t, all.attention[1] == less.attention[1] + 1, "%d attentions in backward, with the first one's %d",
               less.attention[1], all.attention[1]);
    }
    free(grad);
    close_setup(s), free(s);
}

/* ---- the text before the word ---- */

/* The context of texts with the learned token at different places, and the gradient of the learned rows, given a random
 * gradient of the context. */
enum { TEXT = 32, ROWS = 2 };
static void encode(setup *s, nn_text_cache *cache, const int64_t *ids, float *out) {
    float learned[ROWS * D], cotangent[B * TEXT * D];
    uint64_t seed = 9;
    tn_err err;
    for (int i = 0; i < ROWS * D; i++) learned[i] = 0.02f * test_rand(&seed);
    for (int i = 0; i < B * TEXT * D; i++) cotangent[i] = test_rand(&seed);
    if (tn_ctx_begin(&s->c, true, &err)) abort();
    tn_tensor *v = tn_leaf(&s->c, TN_F32, 2, (int64_t[]){ROWS, D}, learned, true);
    tn_tensor *y = nn_text_encode_cached(&s->c, s->m->text, cache, ids, B, TEXT, v);
    tn_seed(&s->c, y, cotangent);
    memcpy(out, y->data, sizeof cotangent);
    tn_backward(&s->c);
    memcpy(out + B * TEXT * D, v->grad, sizeof learned);
}

/* Rows that linear sees, forward and backward: the work. */
static void count_rows(void *arg, const tn_node *n, bool backward, double seconds) {
    int64_t *rows = arg;
    (void)seconds;
    if (strcmp(n->op->name, "linear") == 0) rows[backward] += tn_numel(n->out) / tn_dim(n->out, -1);
}

static void test_before_the_word(test_state *t) {
    enum { SIZE = B * TEXT * D + ROWS * D };
    setup *s = malloc(sizeof *s);
    float *plain = malloc(2 * SIZE * sizeof *plain), *cached = plain + SIZE;
    nn_text_cache *cache = nn_text_cache_new();
    if (!s || !plain || !cache || !open_setup(t, s)) abort();
    int64_t V = s->m->text->token.shape[0], ids[B * TEXT], rows[2][2] = {{0}};
    for (int round = 0; round < 6; round++) { /* texts of rounds 3 to 5 are known; 4 checkpointed; 5 with another end */
        int at = 1 + 9 * (round % 3);
        for (int i = 0; i < B * TEXT; i++) ids[i] = i % TEXT < at ? (7 * i + round % 3) % V : (5 * i + round) % V;
        ids[at] = V, ids[at + 1] = V + 1, ids[TEXT + at + 2] = V + 1;
        s->c.checkpoint = round == 4;
        s->c.profile = count_rows, s->c.profile_arg = rows[0];
        encode(s, NULL, ids, plain);
        s->c.profile_arg = rows[1];
        encode(s, cache, ids, cached);
        CHECKF(t, memcmp(plain, cached, SIZE * sizeof *plain) == 0, "round %d: what is known changes the bits", round);
    }
    for (int i = 0; i < 2; i++) CHECKF(t, rows[1][i] > 0 && 10 * rows[1][i] < 8 * rows[0][i], "%d rows of %d", (int)rows[1][i], (int)rows[0][i]);
    for (int i = 0; i < B * TEXT; i++) ids[i] = i; /* no learned token: all is done */
    encode(s, NULL, ids, plain), encode(s, cache, ids, cached);
    CHECK(t, memcmp(plain, cached, B * TEXT * D * sizeof *plain) == 0);
    for (int i = 0; i < 200; i++) { /* more texts than are kept */
        ids[0] = i, ids[TEXT] = i + 1, ids[1] = V;
        encode(s, NULL, ids, plain), encode(s, cache, ids, cached);
        if (!CHECK(t, memcmp(plain, cached, SIZE * sizeof *plain) == 0)) break;
    }
    nn_text_cache_free(cache);
    free(plain);
    close_setup(s), free(s);
}

void test_main(test_state *t) {
    if (test_section(t, "before the word")) test_before_the_word(t);
    if (test_section(t, "the text once a prompt")) test_text_once(t);
    if (test_section(t, "hooks of a run")) test_hooks(t);
    if (test_section(t, "before the text")) test_before_the_text(t);
}
