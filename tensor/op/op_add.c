/* add (with broadcasting) and scale. Definitions: ref/add_scale.c.
 *
 * b is broadcast over leading dims: y[o,m] = a[o,m] + b[m] (equal shapes, a bias, position embeddings). A residual or a
 * time embedding behind a linear layer or a convolution is added by these themselves. */
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

static int add_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *a = n->in[0], *b = n->in[1];
    TN_FIT(n, b->ndim <= a->ndim);
    for (int i = 0; i < b->ndim; i++) TN_FIT(n, a->shape[i + a->ndim - b->ndim] == b->shape[i]);
    for (int i = 0; i < a->ndim; i++) shape[i] = a->shape[i];
    return a->ndim;
}

/* Rows of n elements, all with the same b. */
typedef struct add_job {
    const tn_kernels *k;
    int64_t rows, n;
    const float *a, *b;
    float *y;
    int acc;
} add_job;

static add_job job(const tn_ctx *c, const tn_node *n) {
    int64_t m = tn_numel(n->in[1]);
    add_job j = {.k = c->k, .rows = tn_numel(n->in[0]) / m, .n = m};
    return j;
}

static void add_row(void *arg, int64_t r, int worker) {
    const add_job *j = arg;
    (void)worker;
    j->k->add(j->n, j->a + r * j->n, j->b, j->y + r * j->n);
}

static void add_range(void *arg, int64_t from, int64_t count) {
    const add_job *j = arg;
    j->k->add(count, j->a + from, j->b + from, j->y + from);
}

static void add_forward(tn_ctx *c, tn_node *n) {
    add_job j = job(c, n);
    j.a = n->in[0]->data, j.b = tn_widened(c, n->in[1]), j.y = n->out->data;
    if (!tn_live(c)) return;
    if (j.rows == 1) tn_elementwise(c, j.n, add_range, &j);
    else tn_parallel_for(tn_threads_for(c->threads, 0.25 * (double)tn_numel(n->out)), j.rows, add_row, &j);
}

/* b's gradient is a chain over the rows; tasks own pieces of columns. */
static void sum_columns(void *arg, int64_t from, int64_t count) {
    const add_job *j = arg;
    for (int64_t r = 0; r < j->rows; r++) {
        const float *dy = j->a + r * j->n + from;
        if (r == 0 && !j->acc) j->k->axpby(count, 1.0f, dy, 0.0f, NULL, j->y + from);
        else j->k->add(count, j->y + from, dy, j->y + from);
    }
}

static void add_backward(tn_ctx *c, tn_node *n) {
    tn_din_same(c, n, 0);
    add_job j = job(c, n);
    j.a = n->out->grad;
    j.y = tn_din(n, 1, &j.acc);
    if (j.y && tn_live(c)) tn_elementwise(c, j.n, sum_columns, &j);
}

static const tn_case add_cases[] = {
    {"equal", {0}, 2, {{'x', 4, {2, 3, 5, 4}}, {'x', 4, {2, 3, 5, 4}}}},
    {"bias", {0}, 2, {{'x', 3, {2, 9, 17}}, {'w', 1, {17}}}},
    {"positions, F16", {0}, 2, {{'x', 3, {3, 7, 24}}, {'h', 2, {7, 24}}}},
    {"large", {0}, 2, {{'x', 2, {5, 8000}}, {'x', 2, {5, 8000}}}},
};
const tn_op tn_op_add = {"add", add_shape, NULL, add_forward, add_backward, add_cases, sizeof add_cases / sizeof *add_cases};

tn_tensor *tn_add(tn_ctx *c, tn_tensor *a, tn_tensor *b) { return tn_apply(c, &tn_op_add, NULL, 2, (tn_tensor *[]){a, b}); }

/* ---- scale ---- */

static int scale_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    return x->ndim;
}

typedef struct scale_job {
    const tn_kernels *k;
    float s;
    const float *x;
    float *y;
    int acc;
} scale_job;

static void scale_range(void *arg, int64_t from, int64_t count) {
    const scale_job *j = arg;
    j->k->axpby(count, j->s, j->x + from, j->acc ? 1.0f : 0.0f, j->acc ? j->y + from : NULL, j->y + from);
}

static void scale_forward(tn_ctx *c, tn_node *n) {
    scale_job j = {c->k, n->a.scale, n->in[0]->data, n->out->data, 0};
    if (tn_live(c)) tn_elementwise(c, tn_numel(n->out), scale_range, &j);
}

static void scale_backward(tn_ctx *c, tn_node *n) {
    scale_job j = {c->k, n->a.scale, n->out->grad, NULL, 0};
    j.y = tn_din(n, 0, &j.acc);
    if (j.y && tn_live(c)) tn_elementwise(c, tn_numel(n->out), scale_range, &j);
}

static const tn_case scale_cases[] = {{"tokens", {.scale = 0.18215f}, 1, {{'x', 3, {2, 5, 7}}}}};
const tn_op tn_op_scale = {"scale", scale_shape, NULL, scale_forward, scale_backward, scale_cases, 1};

tn_tensor *tn_scale(tn_ctx *c, tn_tensor *x, float s) { return tn_apply(c, &tn_op_scale, &(tn_attr){.scale = s}, 1, &x); }
