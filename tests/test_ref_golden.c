/* ref/ against PyTorch: every file of testdata/golden/ops/cases, forward to 1e-12 of the largest element of the float64
 * result, gradients to the rounding to float32 in which they are stored. An operator without a mapping here is a
 * failure. */
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tests/ref_calls.h"
#include "tests/test.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one golden file -------------------------------------------------------------------------------------------- */

typedef struct golden {
    const char *name;
    tn_st *file;
    tn_json *settings;
    const tn_jval *attrs; /* root of the settings */
    void *owned[32];      /* freed with the file */
    int owned_count;
} golden;

typedef struct array {
    double *v; /* NULL where the file has no such tensor */
    int64_t *ids;
    int64_t dim[4], count;
    int rank;
} array;

static void *keep(golden *g, int64_t count, size_t size) {
    void *p = calloc((size_t)count + 1, size);
    if (!p || g->owned_count == 32) abort();
    return g->owned[g->owned_count++] = p;
}

static double *zeros(golden *g, int64_t count) { return keep(g, count, sizeof(double)); }

static array get(golden *g, const char *name) {
    array a = {NULL, NULL, {1, 1, 1, 1}, 1, 0};
    const tn_st_tensor *file = tn_st_find(g->file, name);
    if (!file) return a;
    if (file->ndim > 4) abort();
    for (a.rank = 0; a.rank < file->ndim; a.rank++) a.dim[a.rank] = file->shape[a.rank];
    a.count = file->count;
    a.v = zeros(g, a.count);
    if (file->dtype != TN_ST_I64) {
        if (tn_st_read_f64(file, a.v, NULL)) abort();
        return a;
    }
    a.ids = keep(g, a.count, sizeof *a.ids);
    if (tn_st_read_i64(file, a.ids, NULL)) abort();
    for (int64_t i = 0; i < a.count; i++) a.v[i] = (double)a.ids[i];
    return a;
}

static double number(const golden *g, const char *key) { return tn_json_get(g->attrs, key)->number; }
static int64_t integer(const golden *g, const char *key) { return tn_json_get(g->attrs, key)->integer; }
static int flag(const golden *g, const char *key) { return tn_json_get(g->attrs, key)->boolean; }

static bool open_golden(golden *g, const char *path, tn_err *err) {
    if (tn_st_open(path, 0, &g->file, err)) return false;
    const char *text = tn_st_meta(g->file, "attrs");
    if (!text || tn_json_parse(text, strlen(text), 0, &g->settings, err)) return false;
    g->attrs = tn_json_root(g->settings);
    return true;
}

static void close_golden(golden *g) {
    for (int i = 0; i < g->owned_count; i++) free(g->owned[i]);
    tn_json_free(g->settings);
    tn_st_close(g->file);
}

/* ---- comparison ------------------------------------------------------------------------------------------------- */

/* |got - want| <= relative |want| + 1e-12 max |want|. A golden that is all zeros must be met exactly; a missing one
 * fails. */
static void compare(test_state *t, const golden *g, const char *what, const double *got, array want, double relative) {
    double max = 0, worst = 0;
    if (!CHECKF(t, want.v != NULL, "%s: no %s", g->name, what)) return;
    for (int64_t i = 0; i < want.count; i++) max = fmax(max, fabs(want.v[i]));
    for (int64_t i = 0; i < want.count; i++) {
        double over = fabs(got[i] - want.v[i]) - relative * fabs(want.v[i]);
        worst = fmax(worst, isnan(over) ? INFINITY : over);
    }
    CHECKF(t, worst <= 1e-12 * max, "%s: %s is off by %.3g of the largest element", g->name, what, worst / max);
}

static void compare_result(test_state *t, golden *g, const char *name, const double *got) {
    compare(t, g, name, got, get(g, name), 0);
}

static void compare_gradient(test_state *t, golden *g, const char *name, const double *got) {
    compare(t, g, name, got, get(g, name), ldexp(1, -24)); /* half a unit in the last place of float32 */
}

/* ---- from attributes and shapes to the dimensions of a call ----------------------------------------------------- */

typedef struct shapes {
    array in[3], y;
} shapes;

static void dims_linear(const golden *g, const shapes *s, call *c) {
    (void)g;
    c->n[1] = s->in[1].dim[1];
    c->n[2] = s->in[1].dim[0];
    c->n[0] = s->in[0].count / c->n[1];
}

static void dims_matmul(const golden *g, const shapes *s, call *c) {
    c->n[0] = s->in[0].dim[0];
    c->n[1] = s->in[0].dim[1];
    c->n[2] = s->in[0].dim[2];
    c->n[3] = s->y.dim[2];
    c->n[5] = strcmp(tn_json_get(g->attrs, "op")->string, "matmul_bt") == 0;
}

static void dims_conv2d(const golden *g, const shapes *s, call *c) {
    const tn_jval *left = tn_json_get(g->attrs, "zero_pad_left_right_top_bottom")->child;
    const int64_t *x = s->in[0].dim, *w = s->in[1].dim, *y = s->y.dim;
    const int64_t n[12] = {
        x[0],         x[1], x[2], x[3], w[0], w[2], w[3], y[2], y[3], integer(g, "stride"), left->next->next->integer,
        left->integer};
    memcpy(c->n, n, sizeof n);
}

static void dims_group_norm(const golden *g, const shapes *s, call *c) {
    c->n[0] = s->in[0].dim[0];
    c->n[1] = s->in[0].dim[1];
    c->n[2] = s->in[0].dim[2] * s->in[0].dim[3];
    c->n[3] = integer(g, "num_groups");
    c->p[0] = number(g, "eps");
}

static void dims_layer_norm(const golden *g, const shapes *s, call *c) {
    c->n[1] = s->in[1].count;
    c->n[0] = s->in[0].count / c->n[1];
    c->p[0] = number(g, "eps");
}

static void dims_attention(const golden *g, const shapes *s, call *c) {
    c->n[0] = s->in[0].dim[0];
    c->n[1] = s->in[0].dim[1];
    c->n[2] = s->in[1].dim[1];
    c->n[3] = integer(g, "heads");
    c->n[4] = integer(g, "head_dim");
    c->n[5] = flag(g, "causal");
    c->p[0] = number(g, "scale");
}

static void dims_elements(const golden *g, const shapes *s, call *c) {
    (void)g;
    c->n[0] = s->in[0].count;
}

/* [R,N] with N the last axis of the output. */
static void dims_rows(const golden *g, const shapes *s, call *c) {
    (void)g;
    c->n[1] = s->y.dim[s->y.rank - 1];
    c->n[0] = s->y.count / c->n[1];
}

static void dims_mean(const golden *g, const shapes *s, call *c) {
    (void)g;
    c->n[0] = s->y.count;
    c->n[1] = s->in[0].count / s->y.count;
}

static void dims_upsample(const golden *g, const shapes *s, call *c) {
    const int64_t *x = s->in[0].dim, n[5] = {x[0] * x[1], x[2], x[3], s->y.dim[2], s->y.dim[3]};
    (void)g;
    memcpy(c->n, n, sizeof n);
}

static void dims_avg_pool2d(const golden *g, const shapes *s, call *c) {
    const int64_t *x = s->in[0].dim;
    const int64_t n[5] = {x[0] * x[1], x[2], x[3], integer(g, "kernel"), integer(g, "stride")};
    memcpy(c->n, n, sizeof n);
}

static void dims_embedding(const golden *g, const shapes *s, call *c) {
    (void)g;
    c->n[1] = s->in[0].dim[0];
    c->n[3] = s->in[0].dim[1];
    c->n[0] = s->y.count / c->n[3];
}

static void dims_cosine(const golden *g, const shapes *s, call *c) {
    (void)g;
    c->n[0] = s->in[0].dim[0];
    c->n[1] = s->in[1].dim[0];
    c->n[2] = s->in[0].dim[1];
}

/* The file's operator; ours, with the names of the inputs and the dimensions of the call, or what to run instead. */
typedef struct mapping {
    const char *op, *ref, *in[3];
    void (*dims)(const golden *, const shapes *, call *);
    void (*run)(test_state *, golden *);
} mapping;

static const ref_op *find_op(const char *name) {
    for (int i = 0; i < REF_OP_COUNT; i++)
        if (strcmp(ref_ops[i].name, name) == 0) return &ref_ops[i];
    abort();
}

static void run_mapped(test_state *t, golden *g, const mapping *m) {
    const ref_op *op = find_op(m->ref);
    shapes s = {.y = get(g, "out.y.f64")};
    call c = {.ids = get(g, "in.ids").ids, .dy = get(g, "in.cotangent").v, .y = zeros(g, s.y.count)};
    char name[64];
    for (int k = 0; k < 3 && m->in[k]; k++) {
        snprintf(name, sizeof name, "in.%s", m->in[k]);
        s.in[k] = get(g, name);
        c.in[k] = s.in[k].v;
        if (c.in[k]) c.d[k] = zeros(g, s.in[k].count);
    }
    m->dims(g, &s, &c);
    op->forward(&c);
    compare_result(t, g, "out.y.f64", c.y);
    op->backward(&c);
    for (int k = 0; k < 3; k++) {
        if (!c.d[k]) continue;
        snprintf(name, sizeof name, "grad.%s", m->in[k]);
        compare_gradient(t, g, name, c.d[k]);
    }
}

/* ---- operators that are not one call ---------------------------------------------------------------------------- */

/* The posterior as the VAE uses it: split the moments, clamp, sample and measure; all gradients meet in the moments. */
static void run_gaussian(test_state *t, golden *g) {
    array moments = get(g, "in.moments"), noise = get(g, "in.noise");
    const tn_jval *lo = tn_json_get(g->attrs, "clamp")->child;
    int64_t B = moments.dim[0], C = moments.dim[1] / 2, S = moments.dim[2] * moments.dim[3], n = B * C * S;
    double *mean = zeros(g, n), *raw = zeros(g, n), *logvar = zeros(g, n), *z = zeros(g, n), *kl = zeros(g, B);
    ref_slice(moments.v, mean, B, 2 * C, S, 0, C);
    ref_slice(moments.v, raw, B, 2 * C, S, C, C);
    ref_clamp(raw, logvar, n, lo->number, lo->next->number);
    ref_gaussian_sample(mean, logvar, noise.v, z, n);
    ref_gaussian_kl(mean, logvar, kl, B, C * S);
    compare_result(t, g, "out.mean.f64", mean);
    compare_result(t, g, "out.logvar.f64", logvar);
    compare_result(t, g, "out.sample.f64", z);
    compare_result(t, g, "out.kl.f64", kl);

    double *dmean = get(g, "in.cotangent_mean").v, *dlogvar = get(g, "in.cotangent_logvar").v;
    double *draw = zeros(g, n), *dmoments = zeros(g, moments.count);
    ref_gaussian_sample_backward(logvar, noise.v, get(g, "in.cotangent_sample").v, dmean, dlogvar, n);
    ref_gaussian_kl_backward(mean, logvar, get(g, "in.cotangent_kl").v, dmean, dlogvar, B, C * S);
    ref_clamp_backward(raw, dlogvar, draw, n, lo->number, lo->next->number);
    ref_slice_backward(dmean, dmoments, B, 2 * C, S, 0, C);
    ref_slice_backward(draw, dmoments, B, 2 * C, S, C, C);
    compare_gradient(t, g, "grad.moments", dmoments);
}

static void run_timestep(test_state *t, golden *g) {
    array steps = get(g, "in.timesteps");
    int64_t dim = integer(g, "dim");
    double *y = zeros(g, steps.count * dim);
    ref_timestep_embedding(steps.v, y, steps.count, dim, flag(g, "flip_sin_to_cos"), number(g, "downscale_freq_shift"),
                           number(g, "max_period"));
    compare_result(t, g, "out.y.f64", y);
}

/* The parameters after each of the steps. */
static void run_adamw(test_state *t, golden *g) {
    array p = get(g, "in.param"), grads = get(g, "in.grads");
    const tn_jval *beta1 = tn_json_get(g->attrs, "betas")->child;
    double *m = zeros(g, p.count), *v = zeros(g, p.count), *y = zeros(g, grads.count);
    for (int64_t step = 0; step < integer(g, "steps"); step++) {
        ref_adamw(p.v, grads.v + step * p.count, m, v, p.count, step + 1, number(g, "lr"), beta1->number,
                  beta1->next->number, number(g, "eps"), number(g, "weight_decay"));
        memcpy(y + step * p.count, p.v, (size_t)p.count * sizeof *y);
    }
    compare_result(t, g, "out.y.f64", y);
}

/* ---- the walk --------------------------------------------------------------------------------------------------- */

static const mapping mappings[] = {
    {"linear", "linear", {"x", "weight", "bias"}, dims_linear, NULL},
    {"matmul", "matmul", {"a", "b", NULL}, dims_matmul, NULL},
    {"matmul_bt", "matmul", {"a", "b", NULL}, dims_matmul, NULL},
    {"conv2d", "conv2d", {"x", "weight", "bias"}, dims_conv2d, NULL},
    {"group_norm", "group_norm", {"x", "weight", "bias"}, dims_group_norm, NULL},
    {"layer_norm", "layer_norm", {"x", "weight", "bias"}, dims_layer_norm, NULL},
    {"attention", "attention", {"q", "k", "v"}, dims_attention, NULL},
    {"softmax", "softmax", {"x", NULL, NULL}, dims_rows, NULL},
    {"sigmoid", "sigmoid", {"x", NULL, NULL}, dims_elements, NULL},
    {"silu", "silu", {"x", NULL, NULL}, dims_elements, NULL},
    {"gelu", "gelu", {"x", NULL, NULL}, dims_elements, NULL},
    {"quick_gelu", "quick_gelu", {"x", NULL, NULL}, dims_elements, NULL},
    {"geglu", "geglu", {"x", NULL, NULL}, dims_rows, NULL},
    {"upsample_nearest", "upsample_nearest", {"x", NULL, NULL}, dims_upsample, NULL},
    {"avg_pool2d", "avg_pool2d", {"x", NULL, NULL}, dims_avg_pool2d, NULL},
    {"embedding", "embedding", {"weight", NULL, NULL}, dims_embedding, NULL},
    {"mean", "mean", {"x", NULL, NULL}, dims_mean, NULL},
    {"mse_loss", "mse", {"input", "target", NULL}, dims_elements, NULL},
    {"cosine_similarity", "cosine_similarity", {"a", "b", NULL}, dims_cosine, NULL},
    {"diagonal_gaussian", NULL, {NULL}, NULL, run_gaussian},
    {"timestep_embedding", NULL, {NULL}, NULL, run_timestep},
    {"adamw", NULL, {NULL}, NULL, run_adamw},
};
enum { MAPPINGS = sizeof mappings / sizeof mappings[0] };

static void run(test_state *t, golden *g, bool *seen) {
    const char *op = tn_json_get(g->attrs, "op")->string;
    for (int i = 0; i < MAPPINGS; i++)
        if (strcmp(mappings[i].op, op) == 0) {
            seen[i] = true;
            if (mappings[i].run)
                mappings[i].run(t, g);
            else
                run_mapped(t, g, &mappings[i]);
            return;
        }
    CHECKF(t, false, "%s: unknown operator %s", g->name, op);
}

void test_main(test_state *t) {
    bool seen[MAPPINGS] = {false};
    DIR *dir = opendir(test_data("golden/ops/cases"));
    if (!CHECK(t, dir != NULL)) return;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[512];
        tn_err err = {0};
        golden g = {.name = e->d_name};
        if (!strstr(e->d_name, ".safetensors") || !test_section(t, e->d_name)) continue;
        snprintf(path, sizeof path, "golden/ops/cases/%s", e->d_name);
        if (CHECKF(t, open_golden(&g, test_data(path), &err), "%s: not readable: %s", path, err.msg)) run(t, &g, seen);
        close_golden(&g);
    }
    closedir(dir);
    for (int i = 0; i < MAPPINGS && !t->filter; i++) CHECKF(t, seen[i], "no golden of %s", mappings[i].op);
}
