/* upsample_nearest and avg_pool2d. Definitions: ref/resample.c. One task a plane of one channel. */
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

#include <string.h>

typedef struct plane_job {
    const float *src;
    float *dst;
    int64_t H, W, P, Q; /* input and output size */
    int64_t kernel;
    int stride, acc;
} plane_job;

static plane_job job(const tn_node *n, const float *src, float *dst, int acc) {
    const tn_tensor *x = n->in[0], *y = n->out;
    plane_job j = {src, dst, x->shape[2], x->shape[3], y->shape[2], y->shape[3], n->a.h, n->a.stride, acc};
    return j;
}

static int64_t planes(const tn_node *n) { return n->out->shape[0] * n->out->shape[1]; }

static void clear(const plane_job *j, float *dx) {
    for (int64_t i = 0; i < j->H * j->W && !j->acc; i++) dx[i] = 0.0f;
}

/* ---- upsample_nearest: source index floor(i * in / out) ---- */

static int upsample_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim == 4 && n->a.h > 0 && n->a.w > 0);
    shape[0] = x->shape[0], shape[1] = x->shape[1], shape[2] = n->a.h, shape[3] = n->a.w;
    return 4;
}

/* The first index of an output of `to` elements that shows element i of an input of `from`, or one behind it. */
static int64_t first_shown(int64_t i, int64_t from, int64_t to) { return (i * to + from - 1) / from; }

/* An input row is spread once and copied to the other rows that show it. */
static void upsample_plane(void *arg, int64_t plane, int worker) {
    const plane_job *j = arg;
    (void)worker;
    const float *x = j->src + plane * j->H * j->W;
    float *y = j->dst + plane * j->P * j->Q;
    for (int64_t h = 0, p = 0; h < j->H; h++, x += j->W) {
        int64_t end = first_shown(h + 1, j->H, j->P);
        float *row = y + p * j->Q;
        for (int64_t w = 0, q = 0; w < j->W && p < end; w++) {
            for (int64_t stop = first_shown(w + 1, j->W, j->Q); q < stop; q++) row[q] = x[w];
        }
        for (int64_t same = p + 1; same < end; same++) memcpy(y + same * j->Q, row, (size_t)j->Q * sizeof *row);
        p = end;
    }
}

static void upsample_plane_backward(void *arg, int64_t plane, int worker) {
    const plane_job *j = arg;
    (void)worker;
    const float *dy = j->src + plane * j->P * j->Q;
    float *dx = j->dst + plane * j->H * j->W;
    clear(j, dx);
    for (int64_t h = 0, p = 0; h < j->H; h++, dx += j->W) {
        for (int64_t end = first_shown(h + 1, j->H, j->P); p < end; p++, dy += j->Q) {
            for (int64_t w = 0, q = 0; w < j->W; w++) {
                for (int64_t stop = first_shown(w + 1, j->W, j->Q); q < stop; q++) dx[w] += dy[q];
            }
        }
    }
}

static void upsample_forward(tn_ctx *c, tn_node *n) {
    plane_job j = job(n, n->in[0]->data, n->out->data, 0);
    if (tn_live(c)) tn_parallel_for(tn_threads_for(c->threads, (double)tn_numel(n->out)), planes(n), upsample_plane, &j);
}

static void upsample_backward(tn_ctx *c, tn_node *n) {
    int acc;
    float *dx = tn_din(n, 0, &acc);
    plane_job j = job(n, n->out->grad, dx, acc);
    if (dx && tn_live(c)) tn_parallel_for(tn_threads_for(c->threads, (double)tn_numel(n->out)), planes(n), upsample_plane_backward, &j);
}

static const tn_case upsample_cases[] = {
    {"twice", {.h = 8, .w = 10}, 1, {{'x', 4, {2, 3, 4, 5}}}},
    {"to 7x9", {.h = 7, .w = 9}, 1, {{'x', 4, {1, 2, 4, 5}}}},
    {"one pixel", {.h = 2, .w = 2}, 1, {{'x', 4, {1, 4, 1, 1}}}},
};
const tn_op tn_op_upsample_nearest = {"upsample_nearest", upsample_shape, NULL, upsample_forward, upsample_backward,
                                      upsample_cases, sizeof upsample_cases / sizeof *upsample_cases};

tn_tensor *tn_upsample_nearest(tn_ctx *c, tn_tensor *x, int64_t h, int64_t w) {
    return tn_apply(c, &tn_op_upsample_nearest, &(tn_attr){.h = h, .w = w}, 1, &x);
}

/* ---- avg_pool2d ---- */

static int pool_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim == 4 && n->a.stride >= 1 && n->a.h >= 1 && x->shape[2] >= n->a.h && x->shape[3] >= n->a.h);
    shape[0] = x->shape[0], shape[1] = x->shape[1];
    shape[2] = (x->shape[2] - n->a.h) / n->a.stride + 1, shape[3] = (x->shape[3] - n->a.h) / n->a.stride + 1;
    return 4;
}

static void pool_plane(void *arg, int64_t plane, int worker) {
    const plane_job *j = arg;
    (void)worker;
    const float *x = j->src + plane * j->H * j->W;
    float *y = j->dst + plane * j->P * j->Q;
    for (int64_t p = 0; p < j->P; p++) {
        for (int64_t q = 0; q < j->Q; q++) {
            float s = 0.0f;
            for (int64_t i = 0; i < j->kernel; i++) {
                for (int64_t k = 0; k < j->kernel; k++) s += x[(p * j->stride + i) * j->W + q * j->stride + k];
            }
            y[p * j->Q + q] = s / (float)(j->kernel * j->kernel);
        }
    }
}

static void pool_plane_backward(void *arg, int64_t plane, int worker) {
    const plane_job *j = arg;
    (void)worker;
    const float *dy = j->src + plane * j->P * j->Q;
    float *dx = j->dst + plane * j->H * j->W;
    clear(j, dx);
    for (int64_t p = 0; p < j->P; p++) {
        for (int64_t q = 0; q < j->Q; q++) {
            float g = dy[p * j->Q + q] / (float)(j->kernel * j->kernel);
            for (int64_t i = 0; i < j->kernel; i++) {
                for (int64_t k = 0; k < j->kernel; k++) dx[(p * j->stride + i) * j->W + q * j->stride + k] += g;
            }
        }
    }
}

static void pool_forward(tn_ctx *c, tn_node *n) {
    plane_job j = job(n, n->in[0]->data, n->out->data, 0);
    if (tn_live(c)) tn_parallel_for(tn_threads_for(c->threads, (double)tn_numel(n->in[0])), planes(n), pool_plane, &j);
}

static void pool_backward(tn_ctx *c, tn_node *n) {
    int acc;
    float *dx = tn_din(n, 0, &acc);
    plane_job j = job(n, n->out->grad, dx, acc);
    if (dx && tn_live(c)) tn_parallel_for(tn_threads_for(c->threads, (double)tn_numel(n->in[0])), planes(n), pool_plane_backward, &j);
}

static const tn_case pool_cases[] = {
    {"2x2", {.h = 2, .stride = 2}, 1, {{'x', 4, {2, 3, 6, 4}}}},
    {"3x3 overlapping", {.h = 3, .stride = 2}, 1, {{'x', 4, {1, 2, 8, 7}}}},
};
const tn_op tn_op_avg_pool2d = {"avg_pool2d", pool_shape, NULL, pool_forward, pool_backward, pool_cases,
                                sizeof pool_cases / sizeof *pool_cases};

tn_tensor *tn_avg_pool2d(tn_ctx *c, tn_tensor *x, int64_t kernel, int stride) {
    return tn_apply(c, &tn_op_avg_pool2d, &(tn_attr){.h = kernel, .stride = stride}, 1, &x);
}
