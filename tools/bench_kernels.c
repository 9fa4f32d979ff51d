/* Operators at the shapes they have in Stable Diffusion 1.5 at 512x512, batch 1. Each is run on the tape as in a model;
 * the profile hook of the context times the operator alone, without the making of its inputs. */
#include "tools/bench.h"

#include "tensor/rng.h"
#include <stdio.h>
#include <stdlib.h>

/* Inputs are pieces of one array of random numbers, so that no run waits for them to be filled. */
enum { POOL = 1 << 25 };

typedef struct maker {
    tn_ctx *c;
    float *pool;
    int64_t used;
} maker;

static tn_tensor *input(maker *m, int ndim, const int64_t *shape, bool need) {
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    if (m->used + n > POOL) m->used = 0;
    tn_tensor *t = tn_leaf(m->c, TN_F32, ndim, shape, m->pool + m->used, need);
    m->used += n;
    return t;
}

/* One row of the table: an operator by its sizes. dx and dw: whose gradient is wanted; with neither it is the
 * forward. */
typedef struct kernel_case {
    const char *name;
    tn_tensor *(*run)(maker *m, const int64_t *d, bool dx, bool dw);
    int64_t d[4];
} kernel_case;

/* d: rows, inputs, outputs */
static tn_tensor *linear(maker *m, const int64_t *d, bool dx, bool dw) {
    tn_tensor *x = input(m, 2, (int64_t[]){d[0], d[1]}, dx);
    return tn_linear(m->c, x, input(m, 2, (int64_t[]){d[2], d[1]}, dw), NULL);
}

/* d: channels, side, kernel */
static tn_tensor *conv(maker *m, const int64_t *d, bool dx, bool dw) {
    tn_tensor *x = input(m, 4, (int64_t[]){1, d[0], d[1], d[1]}, dx);
    return tn_conv2d(m->c, x, input(m, 4, (int64_t[]){d[0], d[0], d[2], d[2]}, dw), NULL, 1, (int)(d[2] / 2));
}

/* d: queries, keys, channels, heads */
static tn_tensor *attention(maker *m, const int64_t *d, bool dx, bool dw) {
    tn_tensor *q = input(m, 3, (int64_t[]){1, d[0], d[2]}, dx), *k = input(m, 3, (int64_t[]){1, d[1], d[2]}, dw);
    return tn_attention(m->c, q, k, input(m, 3, (int64_t[]){1, d[1], d[2]}, dw), (int)d[3], 0.0f, false);
}

/* d: channels, side */
static tn_tensor *group_norm(maker *m, const int64_t *d, bool dx, bool dw) {
    tn_tensor *x = input(m, 4, (int64_t[]){1, d[0], d[1], d[1]}, dx), *gamma = input(m, 1, d, dw), *beta = input(m, 1, d, dw);
    return tn_group_norm(m->c, x, gamma, beta, 32, 1e-5f, true);
}

/* d: rows, channels */
static tn_tensor *layer_norm(maker *m, const int64_t *d, bool dx, bool dw) {
    tn_tensor *x = input(m, 2, d, dx), *gamma = input(m, 1, d + 1, dw), *beta = input(m, 1, d + 1, dw);
    return tn_layer_norm(m->c, x, gamma, beta, 1e-5f);
}

static tn_tensor *silu(maker *m, const int64_t *d, bool dx, bool dw) {
    (void)dw;
    return tn_silu(m->c, input(m, 2, d, dx));
}

static tn_tensor *geglu(maker *m, const int64_t *d, bool dx, bool dw) {
    (void)dw;
    return tn_geglu(m->c, input(m, 2, d, dx));
}

static tn_tensor *add(maker *m, const int64_t *d, bool dx, bool dw) {
    tn_tensor *a = input(m, 2, d, dx);
    return tn_add(m->c, a, input(m, 2, d, dw));
}

static const kernel_case products[] = {
    {"linear 4096 x 320 -> 320", linear, {4096, 320, 320}},
    {"linear 1024 x 640 -> 640", linear, {1024, 640, 640}},
    {"linear 256 x 1280 -> 1280", linear, {256, 1280, 1280}},
    {"linear 77 x 768 -> 768", linear, {77, 768, 768}},
    {"conv 3x3, 320 at 64x64", conv, {320, 64, 3}},
    {"conv 3x3, 640 at 32x32", conv, {640, 32, 3}},
    {"conv 3x3, 1280 at 16x16", conv, {1280, 16, 3}},
    {"conv 3x3, 1280 at 8x8", conv, {1280, 8, 3}},
};
static const kernel_case attentions[] = {
    {"attention 4096 tokens, 8 x 40", attention, {4096, 4096, 320, 8}},
    {"attention 1024 tokens, 8 x 80", attention, {1024, 1024, 640, 8}},
    {"attention 4096 to 77 tokens, 8 x 40", attention, {4096, 77, 320, 8}},
};
static const kernel_case passes[] = {
    {"group norm + SiLU, 320 at 64x64", group_norm, {320, 64}}, {"layer norm 4096 x 320", layer_norm, {4096, 320}},
    {"SiLU 4096 x 320", silu, {4096, 320}},                     {"GEGLU 4096 x 2560", geglu, {4096, 2560}},
    {"add 4096 x 320", add, {4096, 320}},
};

/* What the hook has seen of the operator that is measured. */
typedef struct observed {
    bool backward;
    bench_times times;
    double flops, bytes;
} observed;

static void observe(void *arg, const tn_node *n, bool backward, double seconds) {
    observed *o = arg;
    if (backward != o->backward) return;
    o->times.t[o->times.n++] = seconds;
    o->flops = bench_flops(n, backward), o->bytes = bench_bytes(n, backward);
}

static int measure(bench *b, maker *m, const kernel_case *k, const char *suffix, bool dx, bool dw, tn_err *err) {
    observed o = {.backward = dx || dw};
    tn_ctx *c = b->c;
    c->profile = observe, c->profile_arg = &o, c->record = o.backward;
    for (int warm = 1; warm || bench_again(b, &o.times); warm = 0) {
        tn_ctx_reset(c);
        tn_tensor *y = k->run(m, k->d, dx, dw);
        if (o.backward) {
            tn_seed(c, y, m->pool);
            tn_backward(c);
        }
        if (warm) o.times.n = 0;
    }
    c->profile = NULL, c->record = false;
    if (tn_ctx_status(c, err)) return -1;
    char name[80];
    snprintf(name, sizeof name, "%s%s", k->name, suffix);
    bench_work work = {.seconds = bench_median(&o.times), .flops = o.flops, .bytes = o.flops > 0.0 ? 0.0 : o.bytes};
    bench_row(b, name, &work);
    return 0;
}

#define COUNT(table) (sizeof table / sizeof *table)

static int measure_all(bench *b, maker *m, tn_err *err) {
    for (size_t i = 0; i < COUNT(products); i++) {
        if (measure(b, m, &products[i], "", false, false, err) || measure(b, m, &products[i], ", dx", true, false, err) ||
            measure(b, m, &products[i], ", dw", false, true, err)) return -1;
    }
    for (size_t i = 0; i < COUNT(attentions); i++) {
        if (measure(b, m, &attentions[i], "", false, false, err) || measure(b, m, &attentions[i], ", backward", true, true, err)) return -1;
    }
    for (size_t i = 0; i < COUNT(passes); i++) {
        if (measure(b, m, &passes[i], "", false, false, err) || measure(b, m, &passes[i], ", dx", true, false, err)) return -1;
    }
    return 0;
}

int bench_kernels(bench *b, tn_err *err) {
    maker m = {b->c, malloc(sizeof(float) * (size_t)POOL), 0};
    tn_rng g;
    if (!m.pool) return tn_fail(err, TN_ENOMEM, "out of memory for 128 MiB of numbers");
    tn_rng_seed(&g, 1);
    tn_rng_rand(&g, m.pool, POOL);
    bench_section(b, "operators", "operators");
    int r = measure_all(b, &m, err);
    bench_section_end(b);
    free(m.pool);
    return r;
}
