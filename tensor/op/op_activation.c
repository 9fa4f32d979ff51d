/* softmax, silu, gelu, quick_gelu, sigmoid, geglu. Definitions: ref/softmax.c, ref/activation.c. */
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

static int same_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    return x->ndim;
}

/* ---- elementwise functions ---- */

typedef struct unary_job {
    const tn_kernels *k;
    k_fn fn;
    const float *x, *dy;
    float *y; /* y forward, dx backward */
    int acc;
} unary_job;

static void unary_forward_range(void *arg, int64_t from, int64_t count) {
    const unary_job *j = arg;
    j->k->unary(j->fn, count, j->x + from, j->y + from);
}

static void unary_backward_range(void *arg, int64_t from, int64_t count) {
    const unary_job *j = arg;
    j->k->unary_backward(j->fn, count, j->x + from, j->dy + from, j->y + from, j->acc);
}

static void unary_forward(tn_ctx *c, tn_node *n, k_fn fn) {
    unary_job j = {c->k, fn, n->in[0]->data, NULL, n->out->data, 0};
    if (tn_live(c)) tn_elementwise(c, tn_numel(n->out), unary_forward_range, &j);
}

static void unary_backward(tn_ctx *c, tn_node *n, k_fn fn) {
    unary_job j = {c->k, fn, n->in[0]->data, n->out->grad, NULL, 0};
    j.y = tn_din(n, 0, &j.acc);
    if (j.y && tn_live(c)) tn_elementwise(c, tn_numel(n->out), unary_backward_range, &j);
}

static const tn_case unary_cases[] = {
    {"image", {0}, 1, {{'x', 4, {2, 3, 5, 7}}}},
    {"one", {0}, 1, {{'x', 1, {1}}}},
    {"several pieces", {0}, 1, {{'x', 2, {3, 16389}}}},
};

/* name, kernel function: forward, backward, the operator and its constructor */
#define UNARY(name, fn)                                                                                                  \
    static void name##_forward(tn_ctx *c, tn_node *n) { unary_forward(c, n, fn); }                                       \
    static void name##_backward(tn_ctx *c, tn_node *n) { unary_backward(c, n, fn); }                                     \
    const tn_op tn_op_##name = {#name, same_shape, NULL, name##_forward, name##_backward, unary_cases,                   \
                                sizeof unary_cases / sizeof *unary_cases};                                               \
    tn_tensor *tn_##name(tn_ctx *c, tn_tensor *x) { return tn_apply(c, &tn_op_##name, NULL, 1, &x); }
UNARY(silu, K_SILU)
UNARY(gelu, K_GELU)
UNARY(quick_gelu, K_QUICK_GELU)
UNARY(sigmoid, K_SIGMOID)

/* ---- row by row: softmax and geglu ---- */

typedef struct row_job {
    const tn_kernels *k;
    bool softmax;
    int64_t rows, n; /* n: length of an output row */
    const float *x, *y, *dy;
    float *out;
    int acc;
} row_job;

enum { ROWS = 8 }; /* rows a task: enough to pay for handing it out */

static int64_t row_tasks(const row_job *j) { return (j->rows + ROWS - 1) / ROWS; }

static int row_threads(const tn_ctx *c, const row_job *j) { return tn_threads_for(c->threads, 0.5 * (double)(j->rows * j->n)); }

static int64_t row_count(const row_job *j, int64_t task) {
    int64_t left = j->rows - task * ROWS;
    return left < ROWS ? left : ROWS;
}

static void rows_forward(void *arg, int64_t task, int worker) {
    const row_job *j = arg;
    (void)worker;
    int64_t r = task * ROWS, count = row_count(j, task);
    if (j->softmax) j->k->softmax(count, j->n, j->x + r * j->n, j->out + r * j->n);
    else j->k->geglu(count, j->n, j->x + 2 * r * j->n, j->out + r * j->n);
}

static void rows_backward(void *arg, int64_t task, int worker) {
    const row_job *j = arg;
    (void)worker;
    int64_t r = task * ROWS, count = row_count(j, task), o = r * j->n;
    if (j->softmax) j->k->softmax_backward(count, j->n, j->y + o, j->dy + o, j->out + o, j->acc);
    else j->k->geglu_backward(count, j->n, j->x + 2 * o, j->dy + o, j->out + 2 * o, j->acc);
}

static void row_forward(tn_ctx *c, tn_node *n, bool softmax) {
    int64_t len = tn_dim(n->out, -1);
    row_job j = {c->k, softmax, tn_numel(n->out) / len, len, n->in[0]->data, NULL, NULL, n->out->data, 0};
    if (tn_live(c)) tn_parallel_for(row_threads(c, &j), row_tasks(&j), rows_forward, &j);
}

static void row_backward(tn_ctx *c, tn_node *n, bool softmax) {
    int64_t len = tn_dim(n->out, -1);
    row_job j = {c->k, softmax, tn_numel(n->out) / len, len, n->in[0]->data, n->out->data, n->out->grad, NULL, 0};
    j.out = tn_din(n, 0, &j.acc);
    if (j.out && tn_live(c)) tn_parallel_for(row_threads(c, &j), row_tasks(&j), rows_backward, &j);
}

static void softmax_forward(tn_ctx *c, tn_node *n) { row_forward(c, n, true); }
static void softmax_backward(tn_ctx *c, tn_node *n) { row_backward(c, n, true); }
static const tn_case softmax_cases[] = {
    {"77", {0}, 1, {{'x', 2, {4, 77}}}},
    {"one", {0}, 1, {{'x', 2, {3, 1}}}},
    {"600", {0}, 1, {{'x', 3, {1, 19, 600}}}},
};
const tn_op tn_op_softmax = {"softmax", same_shape, NULL, softmax_forward, softmax_backward, softmax_cases,
                             sizeof softmax_cases / sizeof *softmax_cases};
tn_tensor *tn_softmax(tn_ctx *c, tn_tensor *x) { return tn_apply(c, &tn_op_softmax, NULL, 1, &x); }

static int geglu_shape(const tn_node *n, int64_t *shape) {
    int ndim = same_shape(n, shape);
    TN_FIT(n, ndim >= 1 && shape[ndim - 1] % 2 == 0);
    shape[ndim - 1] /= 2;
    return ndim;
}

static void geglu_forward(tn_ctx *c, tn_node *n) { row_forward(c, n, false); }
static void geglu_backward(tn_ctx *c, tn_node *n) { row_backward(c, n, false); }
static const tn_case geglu_cases[] = {
    {"tokens", {0}, 1, {{'x', 3, {2, 9, 48}}}},
    {"odd", {0}, 1, {{'x', 2, {17, 14}}}},
};
const tn_op tn_op_geglu = {"geglu", geglu_shape, NULL, geglu_forward, geglu_backward, geglu_cases,
                           sizeof geglu_cases / sizeof *geglu_cases};
tn_tensor *tn_geglu(tn_ctx *c, tn_tensor *x) { return tn_apply(c, &tn_op_geglu, NULL, 1, &x); }
