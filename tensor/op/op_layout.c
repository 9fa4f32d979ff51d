/* concat, slice, nchw_to_tokens, tokens_to_nchw: copies between layouts. Definitions: ref/layout.c. */
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

#include <string.h>

/* dst = src, or dst += src, on all threads */
typedef struct copy_job {
    const tn_kernels *k;
    const float *src;
    float *dst;
    int acc;
} copy_job;

static void copy_range(void *arg, int64_t from, int64_t count) {
    const copy_job *j = arg;
    if (j->acc) j->k->add(count, j->dst + from, j->src + from, j->dst + from);
    else memcpy(j->dst + from, j->src + from, (size_t)count * sizeof *j->dst);
}

static void add_to(tn_ctx *c, int64_t n, const float *src, float *dst, int acc) {
    copy_job j = {c->k, src, dst, acc};
    tn_elementwise(c, n, copy_range, &j);
}

static int64_t inner(const tn_tensor *x) {
    int64_t n = 1;
    for (int i = 2; i < x->ndim; i++) n *= x->shape[i];
    return n;
}

/* ---- concat: y[o] = a[o] then b[o], rows of A*I and B*I floats ---- */

static int concat_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *a = n->in[0], *b = n->in[1];
    TN_FIT(n, a->ndim == b->ndim && a->ndim >= 2);
    for (int i = 0; i < a->ndim; i++) {
        TN_FIT(n, i == 1 || a->shape[i] == b->shape[i]);
        shape[i] = a->shape[i];
    }
    shape[1] += b->shape[1];
    return a->ndim;
}

static void concat_forward(tn_ctx *c, tn_node *n) {
    if (!tn_live(c)) return;
    const float *a = n->in[0]->data, *b = n->in[1]->data;
    float *y = n->out->data;
    int64_t O = n->out->shape[0], na = tn_numel(n->in[0]) / O, nb = tn_numel(n->in[1]) / O;
    for (int64_t o = 0; o < O; o++) {
        add_to(c, na, a + o * na, y + o * (na + nb), 0);
        add_to(c, nb, b + o * nb, y + o * (na + nb) + na, 0);
    }
}

static void concat_backward(tn_ctx *c, tn_node *n) {
    const float *dy = n->out->grad;
    int64_t O = n->out->shape[0], row = tn_numel(n->out) / O, offset = 0;
    for (int i = 0; i < 2; i++) {
        int acc;
        int64_t ni = tn_numel(n->in[i]) / O;
        float *d = tn_din(n, i, &acc);
        for (int64_t o = 0; d && o < O && tn_live(c); o++) add_to(c, ni, dy + o * row + offset, d + o * ni, acc);
        offset += ni;
    }
}

static const tn_case concat_cases[] = {
    {"channels", {0}, 2, {{'x', 4, {2, 3, 4, 5}}, {'x', 4, {2, 6, 4, 5}}}},
    {"tokens", {0}, 2, {{'x', 3, {2, 1, 7}}, {'x', 3, {2, 16, 7}}}},
};
const tn_op tn_op_concat = {"concat", concat_shape, NULL, concat_forward, concat_backward, concat_cases,
                            sizeof concat_cases / sizeof *concat_cases};

tn_tensor *tn_concat(tn_ctx *c, tn_tensor *a, tn_tensor *b) { return tn_apply(c, &tn_op_concat, NULL, 2, (tn_tensor *[]){a, b}); }

/* ---- slice ---- */

static int slice_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim >= 2 && n->a.from >= 0 && n->a.count > 0 && n->a.from + n->a.count <= x->shape[1]);
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[1] = n->a.count;
    return x->ndim;
}

static void slice_forward(tn_ctx *c, tn_node *n) {
    if (!tn_live(c)) return;
    const tn_tensor *x = n->in[0];
    int64_t I = inner(x), row = x->shape[1] * I, len = n->a.count * I;
    for (int64_t o = 0; o < x->shape[0]; o++) {
        add_to(c, len, (const float *)x->data + o * row + n->a.from * I, (float *)n->out->data + o * len, 0);
    }
}

static void slice_backward(tn_ctx *c, tn_node *n) {
    const tn_tensor *x = n->in[0];
    int acc;
    float *dx = tn_din(n, 0, &acc);
    if (!dx || !tn_live(c)) return;
    int64_t I = inner(x), row = x->shape[1] * I, len = n->a.count * I;
    if (!acc) memset(dx, 0, (size_t)tn_numel(x) * sizeof *dx);
    for (int64_t o = 0; o < x->shape[0]; o++) add_to(c, len, n->out->grad + o * len, dx + o * row + n->a.from * I, 1);
}

static const tn_case slice_cases[] = {
    {"second half", {.from = 4, .count = 4}, 1, {{'x', 4, {2, 8, 3, 3}}}},
    {"rows", {.from = 1, .count = 2}, 1, {{'x', 2, {3, 5}}}},
};
const tn_op tn_op_slice = {"slice", slice_shape, NULL, slice_forward, slice_backward, slice_cases,
                           sizeof slice_cases / sizeof *slice_cases};

tn_tensor *tn_slice(tn_ctx *c, tn_tensor *x, int64_t from, int64_t count) {
    return tn_apply(c, &tn_op_slice, &(tn_attr){.from = from, .count = count}, 1, &x);
}

/* ---- nchw_to_tokens and back: per image a transpose of [R,C] to [C,R], in tiles that stay in L1 ---- */

typedef struct transpose_job {
    const float *src;
    float *dst;
    int64_t R, C;
    int acc;
} transpose_job;

enum { TILE = 32 };

static void transpose_task(void *arg, int64_t task, int worker) {
    const transpose_job *j = arg;
    (void)worker;
    int64_t tiles = (j->R + TILE - 1) / TILE, image = task / tiles, r0 = task % tiles * TILE;
    int64_t r1 = r0 + TILE < j->R ? r0 + TILE : j->R;
    const float *x = j->src + image * j->R * j->C;
    float *y = j->dst + image * j->R * j->C;
    for (int64_t c0 = 0; c0 < j->C; c0 += TILE) {
        int64_t c1 = c0 + TILE < j->C ? c0 + TILE : j->C;
        for (int64_t c = c0; c < c1; c++) {
            for (int64_t r = r0; r < r1; r++) {
                float v = x[r * j->C + c];
                y[c * j->R + r] = j->acc ? y[c * j->R + r] + v : v;
            }
        }
    }
}

static void transpose(tn_ctx *c, int64_t B, int64_t R, int64_t C, const float *src, float *dst, int acc) {
    transpose_job j = {src, dst, R, C, acc};
    if (!dst || !tn_live(c)) return;
    tn_parallel_for(tn_threads_for(c->threads, 0.25 * (double)(B * R * C)), B * ((R + TILE - 1) / TILE), transpose_task, &j);
}

static int to_tokens_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim == 4);
    shape[0] = x->shape[0], shape[1] = x->shape[2] * x->shape[3], shape[2] = x->shape[1];
    return 3;
}

static void to_tokens_forward(tn_ctx *c, tn_node *n) {
    const tn_tensor *y = n->out;
    transpose(c, y->shape[0], y->shape[2], y->shape[1], n->in[0]->data, y->data, 0);
}

static void to_tokens_backward(tn_ctx *c, tn_node *n) {
    const tn_tensor *y = n->out;
    int acc;
    float *dx = tn_din(n, 0, &acc);
    transpose(c, y->shape[0], y->shape[1], y->shape[2], y->grad, dx, acc);
}

static const tn_case to_tokens_cases[] = {{"image", {0}, 1, {{'x', 4, {2, 35, 5, 7}}}}, {"large", {0}, 1, {{'x', 4, {1, 3, 9, 40}}}}};
const tn_op tn_op_nchw_to_tokens = {"nchw_to_tokens", to_tokens_shape, NULL, to_tokens_forward, to_tokens_backward,
                                    to_tokens_cases, sizeof to_tokens_cases / sizeof *to_tokens_cases};

tn_tensor *tn_nchw_to_tokens(tn_ctx *c, tn_tensor *x) { return tn_apply(c, &tn_op_nchw_to_tokens, NULL, 1, &x); }

static int to_nchw_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim == 3 && x->shape[1] == n->a.h * n->a.w);
    shape[0] = x->shape[0], shape[1] = x->shape[2], shape[2] = n->a.h, shape[3] = n->a.w;
    return 4;
}

static void to_nchw_forward(tn_ctx *c, tn_node *n) {
    const tn_tensor *x = n->in[0];
    transpose(c, x->shape[0], x->shape[1], x->shape[2], x->data, n->out->data, 0);
}

static void to_nchw_backward(tn_ctx *c, tn_node *n) {
    const tn_tensor *x = n->in[0];
    int acc;
    float *dx = tn_din(n, 0, &acc);
    transpose(c, x->shape[0], x->shape[2], x->shape[1], n->out->grad, dx, acc);
}

static const tn_case to_nchw_cases[] = {{"image", {.h = 5, .w = 7}, 1, {{'x', 3, {2, 35, 6}}}}};
const tn_op tn_op_tokens_to_nchw = {"tokens_to_nchw", to_nchw_shape, NULL, to_nchw_forward, to_nchw_backward, to_nchw_cases, 1};

tn_tensor *tn_tokens_to_nchw(tn_ctx *c, tn_tensor *x, int64_t h, int64_t w) {
    return tn_apply(c, &tn_op_tokens_to_nchw, &(tn_attr){.h = h, .w = w}, 1, &x);
}
