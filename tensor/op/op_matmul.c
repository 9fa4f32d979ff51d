/* linear and matmul: both are one call of the matmul kernel, and so is each of their gradients.
 * Definition: ref/matmul.c; what linear adds to it: ref/add_scale.c, ref/layout.c. */
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

static void run(tn_ctx *c, k_matmul *p) {
    p->threads = c->threads;
    p->scratch = tn_scratch(c, c->k->matmul_scratch(p));
    if (tn_live(c)) c->k->matmul(p);
}

/* ---- linear: y[N,O] = x[N,K] w[O,K]^T + b, + add ----
 *
 * Tokens may lie as an image [K,H,W], which is their matrix turned: going in (attribute ta) or coming out (tb). The
 * kernel reads and writes either way, so a transformer's projections need no pass that turns its image. */

typedef struct layer {
    int64_t images, N, K, O; /* tokens that lie as tokens are one image */
    int64_t ldx, ldy;        /* row strides of x and y as they lie */
} layer;

static layer layer_of(const tn_node *n) {
    const tn_tensor *x = n->in[0], *w = n->in[1];
    layer l = {.images = n->a.ta || n->a.tb ? x->shape[0] : 1, .O = w->shape[0]};
    l.K = tn_numel(w) / l.O, l.N = tn_numel(x) / (l.images * l.K);
    l.ldx = n->a.ta ? l.N : l.K, l.ldy = n->a.tb ? l.N : l.O;
    return l;
}

/* A weight [O,K,1,1], of a convolution with a window of one pixel, is as good as [O,K]. */
static int linear_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *add = n->in[3];
    int64_t K = x->shape[n->a.ta ? 1 : x->ndim - 1], O = w->shape[0];
    int ndim = x->ndim;
    TN_FIT(n, x->ndim >= 1 && w->ndim >= 2 && w->shape[1] == K && tn_numel(w) == O * K);
    TN_FIT(n, !b || (b->ndim == 1 && b->shape[0] == O));
    if (n->a.ta) {
        TN_FIT(n, ndim == 4 && !n->a.tb);
        shape[0] = x->shape[0], shape[1] = x->shape[2] * x->shape[3], shape[2] = O, ndim = 3;
    } else if (n->a.tb) {
        TN_FIT(n, ndim == 3 && x->shape[1] == n->a.h * n->a.w);
        shape[0] = x->shape[0], shape[1] = O, shape[2] = n->a.h, shape[3] = n->a.w, ndim = 4;
    } else {
        for (int i = 0; i < ndim - 1; i++) shape[i] = x->shape[i];
        shape[ndim - 1] = O;
    }
    for (int i = 0; add && i < ndim; i++) TN_FIT(n, add->ndim == ndim && add->shape[i] == shape[i]);
    return ndim;
}

static void linear_forward(tn_ctx *c, tn_node *n) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *add = n->in[3];
    layer l = layer_of(n);
    k_matmul p = {.batch = l.images, .K = l.K, .C = n->out->data, .ldc = l.ldy, .c_step = l.N * l.O, .bias_rows = n->a.tb};
    if (n->a.tb) { /* y^T = w x^T */
        p.M = l.O, p.A = w->data, p.a_type = w->dtype, p.lda = l.K;
        p.N = l.N, p.B = x->data, p.ldb = l.K, p.b_step = l.N * l.K;
    } else {
        p.M = l.N, p.A = x->data, p.a_trans = n->a.ta, p.lda = l.ldx, p.a_step = l.N * l.K;
        p.N = l.O, p.B = w->data, p.b_type = w->dtype, p.ldb = l.K;
    }
    p.b_trans = 1;
    if (b) p.bias = b->data, p.bias_type = b->dtype;
    if (add) p.add = add->data;
    run(c, &p);
}

/* db[j] = sum over tokens of dy[i,j]: a chain over i. Tasks own 64 columns. */
typedef struct bias_sum {
    const tn_kernels *k;
    const float *dy;
    float *db;
    layer l;
    int acc;
} bias_sum;

enum { COLUMNS = 64 };

static void sum_columns(void *arg, int64_t task, int worker) {
    const bias_sum *s = arg;
    int64_t j = task * COLUMNS, left = s->l.O - j;
    (void)worker;
    s->k->column_sum(s->l.N, left < COLUMNS ? left : COLUMNS, s->dy + j, s->l.O, s->db + j, s->acc);
}

/* The same of images: channel by channel, the images in order. */
static void sum_channel(void *arg, int64_t o, int worker) {
    const bias_sum *s = arg;
    (void)worker;
    for (int64_t b = 0; b < s->l.images; b++) {
        float sum = s->k->sum(s->l.N, s->dy + (b * s->l.O + o) * s->l.N);
        s->db[o] = b || s->acc ? s->db[o] + sum : sum;
    }
}

static void bias_gradient(tn_ctx *c, tn_node *n, layer l) {
    bias_sum s = {.k = c->k, .dy = n->out->grad, .l = l};
    s.db = tn_din(n, 2, &s.acc);
    if (!s.db || !tn_live(c)) return;
    int threads = tn_threads_for(c->threads, 0.1 * (double)tn_numel(n->out));
    s.l.N *= n->a.tb ? 1 : l.images;
    if (n->a.tb) tn_parallel_for(threads, l.O, sum_channel, &s);
    else tn_parallel_for(threads, (l.O + COLUMNS - 1) / COLUMNS, sum_columns, &s);
}

/* dw[O,K] = dy[N,O]^T x[N,K], image after image. */
static void weight_gradient(tn_ctx *c, tn_node *n, layer l) {
    int acc;
    float *dw = tn_din(n, 1, &acc);
    for (int64_t b = 0; dw && b < l.images; b++, acc = 1) {
        const float *x = n->in[0]->data, *dy = n->out->grad;
        k_matmul p = {.M = l.O, .N = l.K, .K = l.N, .batch = 1, .A = tn_live(c) ? dy + b * l.N * l.O : dy, .lda = l.ldy,
                      .a_trans = !n->a.tb, .B = tn_live(c) ? x + b * l.N * l.K : x, .ldb = l.ldx, .b_trans = n->a.ta, .C = dw,
                      .ldc = l.K, .acc = acc};
        run(c, &p);
    }
}

static void linear_backward(tn_ctx *c, tn_node *n) {
    const tn_tensor *w = n->in[1];
    layer l = layer_of(n);
    tn_din_same(c, n, 3);
    k_matmul p = {.batch = l.images, .K = l.O, .c_step = l.N * l.K, .ldc = l.ldx};
    if ((p.C = tn_din(n, 0, &p.acc))) { /* dx[N,K] = dy[N,O] w[O,K]; of an image dx^T = w^T dy^T */
        if (n->a.ta) {
            p.M = l.K, p.A = w->data, p.a_type = w->dtype, p.a_trans = 1, p.lda = l.K;
            p.N = l.N, p.B = n->out->grad, p.b_trans = 1, p.ldb = l.O, p.b_step = l.N * l.O;
        } else {
            p.M = l.N, p.A = n->out->grad, p.a_trans = n->a.tb, p.lda = l.ldy, p.a_step = l.N * l.O;
            p.N = l.K, p.B = w->data, p.b_type = w->dtype, p.ldb = l.K;
        }
        run(c, &p);
    }
    weight_gradient(c, n, l);
    bias_gradient(c, n, l);
}

static const tn_case linear_cases[] = {
    {"plain", {0}, 4, {{'x', 2, {5, 24}}, {'w', 2, {17, 24}}, {'w', 1, {17}}, {0}}},
    {"tokens, no bias", {0}, 4, {{'x', 3, {2, 9, 33}}, {'w', 2, {40, 33}}, {0}, {0}}},
    {"F16 weights", {0}, 4, {{'x', 3, {1, 7, 64}}, {'h', 2, {130, 64}}, {'h', 1, {130}}, {0}}},
    {"BF16 weights", {0}, 4, {{'x', 2, {1, 320}}, {'b', 2, {48, 320}}, {'b', 1, {48}}, {0}}},
    {"one element", {0}, 4, {{'x', 2, {1, 1}}, {'w', 2, {1, 1}}, {'w', 1, {1}}, {0}}},
    {"K past a cache block", {0}, 4, {{'x', 2, {3, 1031}}, {'w', 2, {19, 1031}}, {'w', 1, {19}}, {0}}},
    {"residual", {0}, 4, {{'x', 3, {2, 9, 24}}, {'w', 2, {37, 24}}, {'w', 1, {37}}, {'x', 3, {2, 9, 37}}}},
    {"from an image", {.ta = true}, 4, {{'x', 4, {2, 24, 5, 7}}, {'w', 2, {37, 24}}, {'w', 1, {37}}, {0}}},
    {"from an image, 1x1, F16", {.ta = true}, 4, {{'x', 4, {1, 33, 4, 8}}, {'h', 4, {19, 33, 1, 1}}, {'h', 1, {19}}, {0}}},
    {"to an image", {.tb = true, .h = 5, .w = 7}, 4, {{'x', 3, {2, 35, 24}}, {'w', 4, {37, 24, 1, 1}}, {'w', 1, {37}}, {'x', 4, {2, 37, 5, 7}}}},
    {"to an image, F16", {.tb = true, .h = 4, .w = 8}, 4, {{'x', 3, {1, 32, 33}}, {'h', 2, {19, 33}}, {'h', 1, {19}}, {0}}},
};
const tn_op tn_op_linear = {"linear", linear_shape, NULL, linear_forward, linear_backward, linear_cases,
                            sizeof linear_cases / sizeof *linear_cases};

static tn_tensor *linear(tn_ctx *c, const tn_attr *a, tn_tensor *x, tn_tensor *w, tn_tensor *b, tn_tensor *add) {
    return tn_apply(c, &tn_op_linear, a, 4, (tn_tensor *[]){x, w, b, add});
}

tn_tensor *tn_linear(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b) { return linear(c, NULL, x, w, b, NULL); }

tn_tensor *tn_linear_add(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, tn_tensor *add) {
    return linear(c, NULL, x, w, b, add);
}

tn_tensor *tn_linear_from_image(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b) {
    return linear(c, &(tn_attr){.ta = true}, x, w, b, NULL);
}

tn_tensor *tn_linear_to_image(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, tn_tensor *add) {
    return linear(c, &(tn_attr){.tb = true, .h = add->shape[2], .w = add->shape[3]}, x, w, b, add);
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
