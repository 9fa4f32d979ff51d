/* add (with broadcasting) and scale. Definitions: ref/add_scale.c.
 *
 * b is broadcast in one of two ways, both y[o,m,i] = a[o,m,i] + b[m]: along trailing dims (I = 1: equal shapes, bias,
 * position embedding) or along leading dims (O = 1: the time embedding [B,C] on an image [B,C,H,W]). */
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

static int add_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *a = n->in[0], *b = n->in[1];
    int shift = n->a.channel ? 0 : a->ndim - b->ndim;
    TN_FIT(n, b->ndim <= a->ndim);
    for (int i = 0; i < b->ndim; i++) TN_FIT(n, a->shape[i + shift] == b->shape[i]);
    for (int i = 0; i < a->ndim; i++) shape[i] = a->shape[i];
    return a->ndim;
}

/* Rows: leading dims: M rows of I elements, each with its own b; trailing dims: O rows of M elements, all with the
 * same b. */
typedef struct add_job {
    const tn_kernels *k;
    bool channel;
    int64_t rows, n;
    const float *a, *b;
    float *y;
    int acc;
} add_job;

static add_job job(const tn_ctx *c, const tn_node *n) {
    int64_t all = tn_numel(n->in[0]), m = tn_numel(n->in[1]);
    add_job j = {c->k, n->a.channel, n->a.channel ? m : all / m, n->a.channel ? all / m : m, NULL, NULL, NULL, 0};
    return j;
}

static void add_row(void *arg, int64_t r, int worker) {
    const add_job *j = arg;
    (void)worker;
    if (j->channel) j->k->add_scalar(j->n, j->a + r * j->n, j->b[r], j->y + r * j->n);
    else j->k->add(j->n, j->a + r * j->n, j->b, j->y + r * j->n);
}

static void add_range(void *arg, int64_t from, int64_t count) {
    const add_job *j = arg;
    j->k->add(count, j->a + from, j->b + from, j->y + from);
}

static void add_forward(tn_ctx *c, tn_node *n) {
    add_job j = job(c, n);
    j.a = n->in[0]->data, j.b = tn_widened(c, n->in[1]), j.y = n->out->data;
    if (!tn_live(c)) return;
    if (j.rows == 1 && !j.channel) tn_elementwise(c, j.n, add_range, &j);
    else tn_parallel_for(tn_threads_for(c->threads, 0.25 * (double)tn_numel(n->out)), j.rows, add_row, &j);
}

/* d (+)= dy over a range; used for the operand that keeps its shape. */
typedef struct pass_job {
    const tn_kernels *k;
    const float *dy;
    float *d;
    int acc;
} pass_job;

static void pass_range(void *arg, int64_t from, int64_t count) {
    const pass_job *j = arg;
    if (j->acc) j->k->add(count, j->d + from, j->dy + from, j->d + from);
    else j->k->axpby(count, 1.0f, j->dy + from, 0.0f, NULL, j->d + from);
}

static void pass(tn_ctx *c, int64_t n, const float *dy, float *d, int acc) {
    pass_job j = {c->k, dy, d, acc};
    if (tn_live(c)) tn_elementwise(c, n, pass_range, &j);
}

static void sum_row(void *arg, int64_t r, int worker) {
    const add_job *j = arg;
    (void)worker;
    float s = j->k->sum(j->n, j->a + r * j->n);
    j->y[r] = j->acc ? j->y[r] + s : s;
}

/* Over trailing dims: b's gradient is a chain over the rows; tasks own pieces of columns. */
static void sum_columns(void *arg, int64_t from, int64_t count) {
    const add_job *j = arg;
    for (int64_t r = 0; r < j->rows; r++) {
        const float *dy = j->a + r * j->n + from;
        if (r == 0 && !j->acc) j->k->axpby(count, 1.0f, dy, 0.0f, NULL, j->y + from);
        else j->k->add(count, j->y + from, dy, j->y + from);
    }
}

static void add_backward(tn_ctx *c, tn_node *n) {
    int acc;
    float *d = tn_din(n, 0, &acc);
    if (d) pass(c, tn_numel(n->out), n->out->grad, d, acc);
    add_job j = job(c, n);
    j.a = n->out->grad;
    j.y = tn_din(n, 1, &j.acc);
    if (!j.y || !tn_live(c)) return;
    if (j.channel) tn_parallel_for(tn_threads_for(c->threads, 0.25 * (double)tn_numel(n->out)), j.rows, sum_row, &j);
    else tn_elementwise(c, j.n, sum_columns, &j);
}

static const tn_case add_cases[] = {
    {"equal", {0}, 2, {{'x', 4, {2, 3, 5, 4}}, {'x', 4, {2, 3, 5, 4}}}},
    {"bias", {0}, 2, {{'x', 3, {2, 9, 17}}, {'w', 1, {17}}}},
    {"positions, F16", {0}, 2, {{'x', 3, {3, 7, 24}}, {'h', 2, {7, 24}}}},
    {"channel", {.channel = true}, 2, {{'x', 4, {2, 6, 5, 7}}, {'x', 2, {2, 6}}}},
    {"large", {0}, 2, {{'x', 2, {5, 8000}}, {'x', 2, {5, 8000}}}},
};
const tn_op tn_op_add = {"add", add_shape, NULL, add_forward, add_backward, add_cases, sizeof add_cases / sizeof *add_cases};

tn_tensor *tn_add(tn_ctx *c, tn_tensor *a, tn_tensor *b) { return tn_apply(c, &tn_op_add, NULL, 2, (tn_tensor *[]){a, b}); }

tn_tensor *tn_add_channel(tn_ctx *c, tn_tensor *a, tn_tensor *b) {
    return tn_apply(c, &tn_op_add, &(tn_attr){.channel = true}, 2, (tn_tensor *[]){a, b});
}

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
