/* Text encoder, UNet, autoencoder and CLIP against what PyTorch computes with the same weights: every output, every
 * intermediate result and every gradient of every case in testdata, by the tuned kernels, and one model through ref/ in
 * double.
 *
 * The measure is the squared error over the squared golden (NMSE), which no scale can hide; for a parameter's gradient
 * it is over the largest one of the case, since gradients that nearly cancel have no scale of their own. A worst error
 * of at most four times what PyTorch itself loses in float32 (attrs.f32_deviation) passes as well. Each tensor of a
 * case must have been compared. */
#include "nn/model/clip.h"
#include "nn/model/unet.h"
#include "nn/model/vae.h"
#include "tensor/op/ops.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The models of one folder; NULL what it does not hold. */
typedef struct models {
    nn_text_model *text;
    nn_unet *unet;
    nn_vae *vae;
    nn_clip *clip;
} models;

/* One case being compared. */
typedef struct golden {
    test_state *t;
    const char *label;
    tn_st *st;
    tn_json *attrs;
    tn_ctx c;
    void *buffer[64]; /* tensors read, freed at the end */
    int nbuffer;
    bool *seen;
    double largest_norm, largest_value; /* of the parameter gradients; of all gradients */
    double forward_bar, gradient_bar;
} golden;

/* ---- reading ---- */

static const tn_st_tensor *must_find(golden *g, const char *name) {
    const tn_st_tensor *s = tn_st_find(g->st, name);
    if (!s) printf("%s: no tensor %s\n", g->label, name), abort();
    return s;
}

static void *keep(golden *g, size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p || g->nbuffer == 64) abort();
    return g->buffer[g->nbuffer++] = p;
}

static float *floats(golden *g, const tn_st_tensor *s) {
    float *v = keep(g, (size_t)s->count * sizeof *v);
    if (tn_st_read_f32(s, v, NULL)) abort();
    return v;
}

/* An input as a leaf; integers become I64, or F32 with `real` (timesteps). */
static tn_tensor *input(golden *g, const char *name, bool need, bool real) {
    const tn_st_tensor *s = must_find(g, name);
    if (s->dtype == TN_ST_F32) return tn_leaf(&g->c, TN_F32, s->ndim, s->shape, floats(g, s), need);
    int64_t *ids = keep(g, (size_t)s->count * sizeof *ids);
    if (tn_st_read_i64(s, ids, NULL)) abort();
    if (!real) return tn_leaf(&g->c, TN_I64, s->ndim, s->shape, ids, false);
    float *v = keep(g, (size_t)s->count * sizeof *v);
    for (int64_t i = 0; i < s->count; i++) v[i] = (float)ids[i];
    return tn_leaf(&g->c, TN_F32, s->ndim, s->shape, v, need);
}

/* ---- comparing ---- */

static double deviation(const golden *g, const char *name) {
    const tn_jval *d = tn_json_get(tn_json_root(g->attrs), "f32_deviation"), *v = tn_json_get(d, name);
    if (!v && strncmp(name, "grad.param.", 11) == 0) v = tn_json_get(d, "grad.param.*");
    return v && v->child ? v->child->number : 0.0;
}

static double squares(const float *v, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    return sum;
}

static double largest(const float *v, int64_t n) {
    double max = 0;
    for (int64_t i = 0; i < n; i++) max = fmax(max, fabs((double)v[i]));
    return max;
}

static bool is_gradient(const char *name) { return strncmp(name, "grad.", 5) == 0; }

static void compare(golden *g, const char *name, const float *got, int64_t n) {
    const tn_st_tensor *s = must_find(g, name);
    g->seen[s - g->st->tensor] = true;
    if (!CHECKF(g->t, n == s->count, "%s: %s: %lld elements, golden %lld", g->label, name, (long long)n,
                (long long)s->count))
        return;
    const float *want = floats(g, s);
    double error = 0, worst = 0, scale = squares(want, n);
    for (int64_t i = 0; i < n; i++) {
        double d = (double)got[i] - (double)want[i];
        error += d * d, worst = fmax(worst, fabs(d));
        if (!(d == d)) worst = INFINITY, error = INFINITY;
    }
    free(g->buffer[--g->nbuffer]);
    if (scale == 0) {
        CHECKF(g->t, worst <= 5e-5 * g->largest_value, "%s: %s: golden is zero, got up to %g", g->label, name, worst);
        return;
    }
    if (strncmp(name, "grad.param.", 11) == 0) scale = g->largest_norm;
    double nmse = error / scale, bar = is_gradient(name) ? g->gradient_bar : g->forward_bar;
    bool by_deviation = !g->c.use_ref && worst <= 4 * deviation(g, name);
    CHECKF(g->t, nmse <= bar || by_deviation, "%s: %s: NMSE %.3g, worst %.3g", g->label, name, nmse, worst);
}

static void compare_tensor(golden *g, const char *name, const tn_tensor *x) {
    compare(g, name, tn_f32(x), tn_numel(x));
}

static void on_trace(void *arg, const char *name, const tn_tensor *x) {
    golden *g = arg;
    char full[200];
    snprintf(full, sizeof full, "trace.%s", name);
    if (tn_st_find(g->st, full)) compare_tensor(g, full, x);
}

/* The gradient of an input; one that nothing arrived at is a failure. */
static void compare_grad(golden *g, const char *name, const tn_tensor *x) {
    if (CHECKF(g->t, x->grad && x->grad_set, "%s: %s: no gradient arrived", g->label, name))
        compare(g, name, x->grad, tn_numel(x));
}

static void compare_param_grads(golden *g, const nn_params *params) {
    for (size_t i = 0; i < g->st->n; i++) {
        const char *name = g->st->tensor[i].name;
        if (strncmp(name, "grad.param.", 11) != 0) continue;
        const nn_param *p = nn_param_find(params, name + 11);
        if (CHECKF(g->t, p, "%s: no parameter %s", g->label, name + 11)) compare_grad(g, name, p->t);
    }
}

static void find_largest(golden *g) {
    for (size_t i = 0; i < g->st->n; i++) {
        const tn_st_tensor *s = &g->st->tensor[i];
        if (!is_gradient(s->name)) continue;
        float *v = floats(g, s);
        g->largest_value = fmax(g->largest_value, largest(v, s->count));
        if (strncmp(s->name, "grad.param.", 11) == 0) g->largest_norm = fmax(g->largest_norm, squares(v, s->count));
        free(g->buffer[--g->nbuffer]);
    }
}

/* ---- the kinds of cases ---- */

static void seed(golden *g, tn_tensor *out, const char *cotangent) {
    tn_seed(&g->c, out, floats(g, must_find(g, cotangent)));
}

static void run_text(golden *g, models *m) {
    tn_ctx *c = &g->c;
    tn_tensor *ids = input(g, "in.input_ids", false, false), *rows = nn_text_embed(c, m->text, ids, NULL);
    if (!rows->need) rows = tn_leaf(c, TN_F32, 3, rows->shape, rows->data, true);
    tn_tensor *y = nn_text_encode(c, m->text, rows, "");
    compare_tensor(g, "out.last_hidden_state", y);
    compare_tensor(g, "out.pooled", nn_text_pool(c, m->text, y, ids));
    seed(g, y, "in.cotangent");
    tn_backward(c);
    compare_grad(g, "grad.inputs_embeds", rows);
    compare_param_grads(g, &m->text->weights.params);
}

static void run_unet(golden *g, models *m) {
    tn_tensor *x = input(g, "in.sample", true, false), *context = input(g, "in.encoder_hidden_states", true, false);
    tn_tensor *y = nn_unet_forward(&g->c, m->unet, x, input(g, "in.timestep", false, true), context);
    compare_tensor(g, "out.sample", y);
    seed(g, y, "in.cotangent");
    tn_backward(&g->c);
    compare_grad(g, "grad.sample", x);
    compare_grad(g, "grad.encoder_hidden_states", context);
    compare_param_grads(g, nn_unet_params(m->unet));
}

static void run_vae_encode(golden *g, models *m) {
    tn_ctx *c = &g->c;
    tn_tensor *x = input(g, "in.image", true, false), *moments = nn_vae_encode(c, m->vae, x);
    tn_tensor *mean = nn_vae_mean(c, moments), *logvar = nn_vae_logvar(c, moments);
    compare_tensor(g, "out.mean", mean);
    compare_tensor(g, "out.logvar", logvar);
    float *std = keep(g, (size_t)tn_numel(logvar) * sizeof *std);
    for (int64_t i = 0; i < tn_numel(logvar); i++) std[i] = (float)exp(0.5 * (double)tn_f32(logvar)[i]);
    compare(g, "out.std", std, tn_numel(logvar));
    tn_tensor *z = tn_gaussian_sample(c, mean, logvar, input(g, "in.noise", false, false));
    compare_tensor(g, "out.latent", tn_scale(c, z, nn_vae_cfg(m->vae)->scaling_factor));
    seed(g, mean, "in.cotangent_mean");
    seed(g, logvar, "in.cotangent_logvar");
    tn_backward(c);
    compare_grad(g, "grad.image", x);
    compare_param_grads(g, nn_vae_params(m->vae));
}

static void run_vae_decode(golden *g, models *m) {
    tn_tensor *x = input(g, "in.latent", true, false), *y = nn_vae_decode(&g->c, m->vae, x);
    compare_tensor(g, "out.image", y);
    seed(g, y, "in.cotangent");
    tn_backward(&g->c);
    compare_grad(g, "grad.latent", x);
    compare_param_grads(g, nn_vae_params(m->vae));
}

/* logits_per_image = exp(logit_scale) * image_embeds . text_embeds^T */
static void compare_logits(golden *g, models *m, tn_tensor *image, tn_tensor *text) {
    tn_tensor *cosine = tn_cosine_similarity(&g->c, image, text);
    int64_t N = cosine->shape[0], M = cosine->shape[1];
    float *per_image = keep(g, (size_t)(N * M) * sizeof(float)), *per_text = keep(g, (size_t)(N * M) * sizeof(float));
    float log_scale;
    g->c.k->widen(1, m->clip->logit_scale.data, m->clip->logit_scale.dtype, &log_scale);
    for (int64_t i = 0; i < N * M; i++) {
        per_image[i] = (float)(exp((double)log_scale) * (double)tn_f32(cosine)[i]);
        per_text[i % M * N + i / M] = per_image[i];
    }
    compare(g, "out.logits", per_image, N * M);
    compare(g, "out.logits_per_image", per_image, N * M);
    compare(g, "out.logits_per_text", per_text, N * M);
}

static void run_clip(golden *g, models *m) {
    tn_ctx *c = &g->c;
    tn_tensor *pixels = input(g, "in.pixel_values", true, false);
    tn_tensor *image = nn_clip_image_features(c, m->clip, pixels);
    tn_tensor *text = nn_clip_text_features(c, m->clip, input(g, "in.input_ids", false, false), NULL);
    tn_tensor *embeds = tn_l2_normalize(c, image);
    compare_tensor(g, "out.image_features", image);
    compare_tensor(g, "out.text_features", text);
    compare_tensor(g, "out.image_embeds", embeds);
    compare_tensor(g, "out.text_embeds", tn_l2_normalize(c, text));
    compare_logits(g, m, image, text);
    seed(g, embeds, "in.cotangent");
    tn_backward(c);
    compare_grad(g, "grad.pixel_values", pixels);
}

static const struct kind {
    const char *name;
    void (*run)(golden *, models *);
} kinds[] = {{"text_encoder", run_text}, {"unet", run_unet},         {"vae_encode", run_vae_encode},
             {"vae_decode", run_vae_decode}, {"clip_similarity", run_clip}};

static nn_params *params_of(models *m, const char *kind) {
    return strcmp(kind, "unet") == 0           ? nn_unet_params(m->unet)
           : strcmp(kind, "text_encoder") == 0 ? &m->text->weights.params
           : strncmp(kind, "vae", 3) == 0      ? nn_vae_params(m->vae)
                                               : &m->clip->weights.params;
}

/* Everything of one case; false where it is of another kind (the chains of whole pipelines). */
static bool run_case(test_state *t, models *m, const char *path, bool use_ref) {
    golden g = {.t = t, .label = path, .forward_bar = use_ref ? 1e-11 : 1e-10, .gradient_bar = use_ref ? 1e-11 : 1e-9};
    tn_err err = {0, ""};
    size_t k = 0, nkinds = sizeof kinds / sizeof *kinds;
    if (!CHECKF(t, tn_st_open(path, 0, &g.st, &err) == 0, "%s", err.msg)) return false;
    const char *kind = tn_st_meta(g.st, "case"), *attrs = tn_st_meta(g.st, "attrs");
    while (k < nkinds && strcmp(kinds[k].name, kind) != 0) k++;
    if (k == nkinds) {
        tn_st_close(g.st);
        return false;
    }
    if (!attrs || tn_json_parse(attrs, strlen(attrs), TN_JSON_PYTHON, &g.attrs, &err)) abort();
    if (!(g.seen = calloc(g.st->n, sizeof *g.seen))) abort();
    find_largest(&g);
    tn_ctx_init(&g.c, NULL, 2);
    g.c.use_ref = use_ref, g.c.record = true, g.c.trace = on_trace, g.c.trace_arg = &g;
    nn_params *params = params_of(m, kind);
    if (nn_params_need(params, g.largest_norm > 0, &err)) abort();
    kinds[k].run(&g, m);
    nn_params_need(params, false, NULL);
    for (size_t i = 0; i < g.st->n; i++) {
        const char *name = g.st->tensor[i].name;
        CHECKF(t, g.seen[i] || strncmp(name, "in.", 3) == 0, "%s: %s was never compared", path, name);
    }
    while (g.nbuffer) free(g.buffer[--g.nbuffer]);
    free(g.seen);
    tn_ctx_free(&g.c);
    tn_json_free(g.attrs);
    tn_st_close(g.st);
    return true;
}

/* ---- folders ---- */

static models load(test_state *t, const char *folder, bool clip) {
    models m = {NULL, NULL, NULL, NULL};
    char path[600];
    tn_err err = {0, ""};
    if (clip) {
        CHECKF(t, nn_clip_load(folder, &m.clip, &err) == 0, "%s", err.msg);
        return m;
    }
    snprintf(path, sizeof path, "%s/text_encoder", folder);
    bool ok = CHECKF(t, nn_text_load(path, &m.text, &err) == 0, "%s", err.msg);
    snprintf(path, sizeof path, "%s/unet", folder);
    ok = CHECKF(t, nn_unet_load(path, &m.unet, &err) == 0, "%s", err.msg) && ok;
    snprintf(path, sizeof path, "%s/vae", folder);
    ok = CHECKF(t, nn_vae_load(path, &m.vae, &err) == 0, "%s", err.msg) && ok;
    if (!ok) exit(1);
    return m;
}

static void unload(models *m) {
    nn_text_free(m->text);
    nn_unet_free(m->unet);
    nn_vae_free(m->vae);
    nn_clip_free(m->clip);
}

static void test_folder(test_state *t, const char *name, bool clip, int expected) {
    char folder[300], path[900];
    tn_list cases;
    tn_err err = {0, ""};
    if (!test_section(t, name)) return;
    snprintf(folder, sizeof folder, "testdata/%s", name);
    models m = load(t, folder, clip);
    snprintf(path, sizeof path, "%s/cases", folder);
    if (!CHECKF(t, tn_list_dir(path, &cases, &err) == 0, "%s", err.msg)) return;
    int ran = 0;
    for (size_t i = 0; i < cases.n; i++) {
        snprintf(path, sizeof path, "%s/cases/%s", folder, cases.name[i]);
        ran += run_case(t, &m, path, false);
    }
    CHECKF(t, ran == expected, "%s: %d cases ran, expected %d", folder, ran, expected);
    tn_list_free(&cases);
    unload(&m);
}

/* The same through ref/, where an error of the model code has nowhere to hide. Measured: NMSE 1e-13 from rounding each
 * operator's output to float32, and 4e-12 where t > 0, as PyTorch rounds the sinusoid's angle to float32 and ref/ does
 * not. */
static void test_ref(test_state *t) {
    static const char *const cases[] = {"text_basic",         "unet_basic",   "unet_t0",
                                        "unet_not_divisible", "vae_encode_0", "vae_decode_0"};
    char path[300];
    if (!test_section(t, "ref")) return;
    models m = load(t, "testdata/golden/tiny-sd15", false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(path, sizeof path, "testdata/golden/tiny-sd15/cases/%s.safetensors", cases[i]);
        CHECKF(t, run_case(t, &m, path, true), "%s: not run", path);
    }
    unload(&m);
    m = load(t, "testdata/golden/tiny-clip", true);
    CHECK(t, run_case(t, &m, "testdata/golden/tiny-clip/cases/similarity.safetensors", true));
    unload(&m);
}

/* ---- memory and threads ---- */

/* The gradients of one UNet step: of the text, then of conv_in. */
enum { CONTEXT = 5 * 24, CONV_IN = 8 * 4 * 9 };
static size_t unet_step(nn_unet *m, bool checkpoint, int threads, bool dry, float *grads) {
    tn_ctx c;
    tn_ctx_init(&c, NULL, threads);
    if (dry) tn_ctx_set_dry(&c);
    c.record = true, c.checkpoint = checkpoint;
    uint64_t rand = 3;
    tn_tensor *x = tn_leaf(&c, TN_F32, 4, (int64_t[]){2, 4, 9, 10}, NULL, false);
    tn_tensor *context = tn_leaf(&c, TN_F32, 3, (int64_t[]){2, 5, 24}, NULL, true),
              *t = tn_leaf(&c, TN_F32, 1, (int64_t[]){2}, NULL, false);
    for (int64_t i = 0; !dry && i < tn_numel(x); i++) tn_f32(x)[i] = test_rand(&rand);
    for (int64_t i = 0; !dry && i < tn_numel(context); i++) tn_f32(context)[i] = test_rand(&rand);
    if (!dry) tn_f32(t)[0] = 17.0f, tn_f32(t)[1] = 801.0f;
    if (nn_params_need(nn_unet_params(m), true, NULL)) abort();
    tn_seed(&c, nn_unet_forward(&c, m, x, t, context), NULL);
    tn_backward(&c);
    if (grads) {
        memcpy(grads, context->grad, 2 * CONTEXT * sizeof *grads);
        memcpy(grads + 2 * CONTEXT, nn_param_find(nn_unet_params(m), "conv_in.weight")->t->grad,
               CONV_IN * sizeof *grads);
    }
    nn_params_need(nn_unet_params(m), false, NULL);
    size_t peak = tn_ctx_peak(&c);
    tn_ctx_free(&c);
    return peak;
}

static void test_modes(test_state *t) {
    enum { N = 2 * CONTEXT + CONV_IN };
    float plain[N], other[N];
    if (!test_section(t, "modes")) return;
    models m = load(t, "testdata/golden/tiny-sd15", false);
    size_t kept = unet_step(m.unet, false, 1, false, plain), small = unet_step(m.unet, true, 1, false, other);
    CHECKF(t, memcmp(plain, other, sizeof plain) == 0, "checkpointing changes the gradients");
    CHECKF(t, small < kept, "checkpointing takes %zu bytes, without %zu", small, kept);
    for (int i = 0; i < 3; i++) {
        int threads = (int[]){2, 3, 7}[i];
        unet_step(m.unet, i == 1, threads, false, other);
        CHECKF(t, memcmp(plain, other, sizeof plain) == 0, "%d threads change the gradients", threads);
    }
    CHECKF(t, unet_step(m.unet, false, 1, true, NULL) == kept, "a dry run predicts another amount than %zu", kept);
    CHECKF(t, unet_step(m.unet, true, 1, true, NULL) == small, "a dry run predicts another amount than %zu", small);
    unload(&m);
}

/* The encoder's log variance is held between -30 and 20 (diffusers DiagonalGaussianDistribution), which no golden reaches. */
static void test_logvar(test_state *t) {
    if (!test_section(t, "log variance")) return;
    tn_ctx c;
    tn_ctx_init(&c, NULL, 1);
    float raw[8] = {-99.0f, 1.0f, 2.0f, 99.0f, -30.5f, -29.5f, 19.5f, 20.5f}, want[4] = {-30.0f, -29.5f, 19.5f, 20.0f};
    tn_tensor *moments = tn_leaf(&c, TN_F32, 4, (int64_t[]){1, 2, 2, 2}, raw, false);
    CHECK(t, memcmp(nn_vae_mean(&c, moments)->data, raw, sizeof want) == 0);
    CHECK(t, memcmp(nn_vae_logvar(&c, moments)->data, want, sizeof want) == 0);
    tn_ctx_free(&c);
}

void test_main(test_state *t) {
    test_logvar(t);
    test_folder(t, "golden/tiny-sd15", false, 15);
    test_folder(t, "golden/tiny-sd21", false, 6);
    test_folder(t, "golden/tiny-clip", true, 1);
    test_folder(t, "world/model", false, 4);
    test_folder(t, "world/clip", true, 1);
    test_ref(t);
    test_modes(t);
}
