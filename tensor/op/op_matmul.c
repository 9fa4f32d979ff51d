/* linear and matmul: both are one call of the matmul kernel, and so is each of their gradients.
 * Definition: ref/matmul.c. */
#include "tensor/op/ops.h"

static int64_t rows(const tn_tensor *x) { return tn_numel(x) / tn_dim(x, -1); }

/* ---- linear: y[M,N] = x[M,K] w[N,K]^T + b ---- */

static int linear_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2];
    TN_FIT(n, x->ndim >= 1 && w->ndim == 2 && tn_dim(x, -1) == w->shape[1]);
    TN_FIT(n, !b || (b->ndim == 1 && b->shape[0] == w->shape[0]));
    for (int i = 0; i < x->ndim - 1; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] = w->shape[0];
    return x->ndim;
}

static void run(tn_ctx *c, k_matmul *p) {
    p->threads = c->threads;
    p->scratch = tn_scratch(c, c->k->matmul_scratch(p));
    if (tn_live(c)) c->k->matmul(p);
}

static void linear_forward(tn_ctx *c, tn_node *n) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2];
    int64_t K = w->shape[1], N = w->shape[0];
    k_matmul p = {.M = rows(x), .N = N, .K = K, .batch = 1, .A = x->data, .lda = K, .B = w->data, .ldb = K, .b_trans = 1,
                  .b_type = w->dtype, .C = n->out->data, .ldc = N};
    if (b) p.bias = b->data, p.bias_type = b->dtype;
    run(c, &p);
}

/* db[j] = sum over rows of dy[i,j]: a chain over i. Tasks own 64 columns. */
typedef struct column_sum {
    const float *dy;
    float *db;
    int64_t M, N;
    int acc;
} column_sum;

static void column_sum_range(void *arg, int64_t from, int64_t count) {
    const column_sum *s = arg;
    for (int64_t j = from; j < from + count; j++) {
        if (!s->acc) s->db[j] = 0.0f;
    }
    for (int64_t i = 0; i < s->M; i++) {
        for (int64_t j = from; j < from + count; j++) s->db[j] += s->dy[i * s->N + j];
    }
}

static void linear_backward(tn_ctx *c, tn_node *n) {
    const tn_tensor *x = n->in[0], *w = n->in[1];
    int64_t M = rows(x), K = w->shape[1], N = w->shape[0];
    const float *dy = n->out->grad;
    int acc;
    float *d;
    if ((d = tn_din(n, 0, &acc))) { /* dx[M,K] = dy[M,N] w[N,K] */
        k_matmul p = {.M = M, .N = K, .K = N, .batch = 1, .A = dy, .lda = N, .B = w->data, .ldb = K, .b_type = w->dtype,
                      .C = d, .ldc = K, .acc = acc};
        run(c, &p);
    }
    if ((d = tn_din(n, 1, &acc))) { /* dw[N,K] = dy[M,N]^T x[M,K] */
        k_matmul p = {.M = N, .N = K, .K = M, .batch = 1, .A = dy, .lda = N, .a_trans = 1, .B = x->data, .ldb = K, .C = d,
                      .ldc = K, .acc = acc};
        run(c, &p);
    }
    if ((d = tn_din(n, 2, &acc)) && tn_live(c)) {
        column_sum s = {dy, d, M, N, acc};
        tn_elementwise(c, N, column_sum_range, &s);
    }
}

static const tn_case linear_cases[] = {
    {"plain", {0}, 3, {{'x', 2, {5, 24}}, {'w', 2, {17, 24}}, {'w', 1, {17}}}},
    {"tokens, no bias", {0}, 3, {{'x', 3, {2, 9, 33}}, {'w', 2, {40, 33}}, {0}}},
    {"F16 weights", {0}, 3, {{'x', 3, {1, 7, 64}}, {'h', 2, {130, 64}}, {'h', 1, {130}}}},
    {"BF16 weights", {0}, 3, {{'x', 2, {1, 320}}, {'b', 2, {48, 320}}, {'b', 1, {48}}}},
    {"one element", {0}, 3, {{'x', 2, {1, 1}}, {'w', 2, {1, 1}}, {'w', 1, {1}}}},
    {"K past a cache block", {0}, 3, {{'x', 2, {3, 1031}}, {'w', 2, {19, 1031}}, {'w', 1, {19}}}},
};
const tn_op tn_op_linear = {"linear", linear_shape, NULL, linear_forward, linear_backward, linear_cases,
                            sizeof linear_cases / sizeof *linear_cases};

tn_tensor *tn_linear(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b) {
    return tn_apply(c, &tn_op_linear, NULL, 3, (tn_tensor *[]){x, w, b});
}

/* ---- matmul: y[b] = op(a[b]) op(b[b]) ---- */

typedef struct dims {
    int64_t batch, M, K, N;
} dims;

static dims matmul_dims(const tn_node *n) {
    const tn_tensor *a = n->in[0], *b = n->in[1];
    dims d = {a->shape[0], a->shape[n->a.ta ? 2 : 1], a->shape[n->a.ta ? 1 : 2], b->shape[n->a.tb ? 1 : 2]};
    return d;
}

static int matmul_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *a = n->in[0], *b = n->in[1];
    TN_FIT(n, a->ndim == 3 && b->ndim == 3 && a->shape[0] == b->shape[0]);
    dims d = matmul_dims(n);
    TN_FIT(n, d.K == b->shape[n->a.tb ? 2 : 1]);
    shape[0] = d.batch, shape[1] = d.M, shape[2] = d.N;
    return 3;
}

/* C[batch] = op(A) op(B) with dense operands: leading dimensions follow from the shapes. */
static void dense(tn_ctx *c, const dims *d, const float *A, bool ta, const float *B, bool tb, float *C, int acc) {
    k_matmul p = {.M = d->M, .N = d->N, .K = d->K, .batch = d->batch, .A = A, .lda = ta ? d->M : d->K, .a_step = d->M * d->K,
                  .a_trans = ta, .B = B, .ldb = tb ? d->K : d->N, .b_step = d->K * d->N, .b_trans = tb, .C = C, .ldc = d->N,
                  .c_step = d->M * d->N, .acc = acc};
    run(c, &p);
}

static void matmul_forward(tn_ctx *c, tn_node *n) {
    dims d = matmul_dims(n);
    dense(c, &d, n->in[0]->data, n->a.ta, n->in[1]->data, n->a.tb, n->out->data, 0);
}

/* da = dy op(b)^T, stored transposed where a is; db = op(a)^T dy likewise. */
static void matmul_backward(tn_ctx *c, tn_node *n) {
    dims d = matmul_dims(n), da = {d.batch, d.M, d.N, d.K}, dat = {d.batch, d.K, d.N, d.M};
    dims db = {d.batch, d.K, d.M, d.N}, dbt = {d.batch, d.N, d.M, d.K};
    const float *a = n->in[0]->data, *b = n->in[1]->data, *dy = n->out->grad;
    bool ta = n->a.ta, tb = n->a.tb;
    int acc;
    float *g;
    if ((g = tn_din(n, 0, &acc))) {
        if (!ta) dense(c, &da, dy, false, b, !tb, g, acc);
        else dense(c, &dat, b, tb, dy, true, g, acc);
    }
    if ((g = tn_din(n, 1, &acc))) {
        if (!tb) dense(c, &db, a, !ta, dy, false, g, acc);
        else dense(c, &dbt, dy, true, a, ta, g, acc);
    }
}

static const tn_case matmul_cases[] = {
    {"NN", {0}, 2, {{'x', 3, {3, 17, 19}}, {'x', 3, {3, 19, 13}}}},
    {"NT", {.tb = true}, 2, {{'x', 3, {2, 7, 5}}, {'x', 3, {2, 9, 5}}}},
    {"TN", {.ta = true}, 2, {{'x', 3, {2, 33, 20}}, {'x', 3, {2, 33, 40}}}},
    {"TT", {.ta = true, .tb = true}, 2, {{'x', 3, {1, 6, 21}}, {'x', 3, {1, 35, 6}}}},
    {"vector", {0}, 2, {{'x', 3, {1, 1, 33}}, {'x', 3, {1, 33, 1}}}},
};
const tn_op tn_op_matmul = {"matmul", matmul_shape, NULL, matmul_forward, matmul_backward, matmul_cases,
                            sizeof matmul_cases / sizeof *matmul_cases};

tn_tensor *tn_matmul(tn_ctx *c, tn_tensor *a, tn_tensor *b, bool ta, bool tb) {
    return tn_apply(c, &tn_op_matmul, &(tn_attr){.ta = ta, .tb = tb}, 2, (tn_tensor *[]){a, b});
}
