/* ref/ as a back end: every operator through its definition in double, rounded to float at its output.
 *
 * The only file of tensor/ that knows ref/. A context with use_ref set computes whole models this way (`oneword verify
 * --ref`), and the tests hold every tuned kernel against it. Slow, and it allocates: it is the audit, not the
 * product. */
#include "ref/ref.h"
#include "tensor/op/ops.h"

#include <stdlib.h>
#include <string.h>

void tn_ref_forward(tn_ctx *c, tn_node *n);
void tn_ref_backward(tn_ctx *c, tn_node *n);

/* One operator application in double: inputs, output and, backward, their gradients (NULL where not wanted). */
typedef struct call {
    const tn_node *n;
    const tn_attr *a;
    double *x[TN_MAX_IN], *y;
    double *dx[TN_MAX_IN], *dy;
    const int64_t *ids;
    double *row; /* workspace of attention: one row of probabilities */
} call;

static int64_t size(const call *k, int i) { return k->n->in[i] ? tn_numel(k->n->in[i]) : 0; }
static int64_t dim(const call *k, int i, int axis) { return tn_dim(k->n->in[i], axis); }
static int64_t last(const call *k, int i) { return tn_dim(k->n->in[i], -1); }
static int64_t rows(const call *k, int i) { return size(k, i) / last(k, i); }
static int64_t total(const call *k) { return tn_numel(k->n->out); }
static int64_t after_axis1(const call *k, int i) { return size(k, i) / (dim(k, i, 0) * dim(k, i, 1)); }

/* name_f: forward; name_b: backward, adding to dx */
/* The fused forms of linear, conv2d and group_norm are compositions of the definitions. */
static void add_same_f(call *k, int i) {
    if (k->x[i]) ref_add_broadcast(k->y, k->x[i], k->y, 1, total(k), 1);
}
static void add_same_b(call *k, int i) {
    if (k->dx[i]) ref_add_broadcast_backward(k->dy, NULL, k->dx[i], 1, total(k), 1);
}

static double *zeroes(int64_t n) {
    double *p = calloc((size_t)(n > 0 ? n : 1), sizeof *p);
    if (!p) TN_BUG("out of memory in the reference back end");
    return p;
}

/* Tokens that lie as an image are turned on their way in and out. */
static void linear_f(call *k) {
    int64_t K = dim(k, 1, 1), O = dim(k, 1, 0), B = dim(k, 0, 0), M = size(k, 0) / K, n = size(k, 0);
    double *x = zeroes(n), *y = zeroes(total(k));
    memcpy(x, k->x[0], (size_t)n * sizeof *x);
    if (k->a->ta) ref_nchw_to_tokens(k->x[0], x, B, K, M / B);
    ref_linear(x, k->x[1], k->x[2], y, M, K, O);
    memcpy(k->y, y, (size_t)total(k) * sizeof *y);
    if (k->a->tb) ref_tokens_to_nchw(y, k->y, B, O, M / B);
    add_same_f(k, 3);
    free(x), free(y);
}
static void linear_b(call *k) {
    int64_t K = dim(k, 1, 1), O = dim(k, 1, 0), B = dim(k, 0, 0), M = size(k, 0) / K, n = size(k, 0);
    double *x = zeroes(n), *dx = zeroes(n), *dy = zeroes(total(k));
    memcpy(x, k->x[0], (size_t)n * sizeof *x);
    if (k->a->ta) ref_nchw_to_tokens(k->x[0], x, B, K, M / B);
    if (k->a->tb) ref_tokens_to_nchw_backward(k->dy, dy, B, O, M / B);
    else memcpy(dy, k->dy, (size_t)total(k) * sizeof *dy);
    ref_linear_backward(x, k->x[1], dy, dx, k->dx[1], k->dx[2], M, K, O);
    if (k->dx[0] && k->a->ta) ref_nchw_to_tokens_backward(dx, k->dx[0], B, K, M / B);
    else if (k->dx[0]) ref_add_broadcast(k->dx[0], dx, k->dx[0], 1, n, 1);
    add_same_b(k, 3);
    free(x), free(dx), free(dy);
}

static void matmul_f(call *k) {
    ref_matmul(k->x[0], k->x[1], k->y, dim(k, 0, 0), dim(k, 0, k->a->ta ? 2 : 1), dim(k, 0, k->a->ta ? 1 : 2),
               dim(k, 1, k->a->tb ? 1 : 2), k->a->ta, k->a->tb);
}
static void matmul_b(call *k) {
    ref_matmul_backward(k->x[0], k->x[1], k->dy, k->dx[0], k->dx[1], dim(k, 0, 0), dim(k, 0, k->a->ta ? 2 : 1),
                        dim(k, 0, k->a->ta ? 1 : 2), dim(k, 1, k->a->tb ? 1 : 2), k->a->ta, k->a->tb);
}

static ref_conv_shape conv_shape(const call *k) {
    ref_conv_shape s = {dim(k, 0, 0), dim(k, 0, 1), dim(k, 0, 2), dim(k, 0, 3), dim(k, 1, 0), dim(k, 1, 2), dim(k, 1, 3),
                        tn_dim(k->n->out, 2), tn_dim(k->n->out, 3), k->a->stride, k->a->top, k->a->left};
    return s;
}
static void conv2d_f(call *k) {
    ref_conv_shape s = conv_shape(k);
    ref_conv2d(&s, k->x[0], k->x[1], k->x[2], k->y);
    if (k->x[3]) ref_add_broadcast(k->y, k->x[3], k->y, 1, size(k, 3), s.P * s.Q);
    add_same_f(k, 4);
}
static void upsample_conv2d_f(call *k) {
    ref_conv_shape s = conv_shape(k);
    s.H *= 2, s.W *= 2;
    ref_upsample_conv2d(&s, k->x[0], k->x[1], k->x[2], k->y);
}
static void upsample_conv2d_b(call *k) {
    ref_conv_shape s = conv_shape(k);
    s.H *= 2, s.W *= 2;
    ref_upsample_conv2d_backward(&s, k->x[0], k->x[1], k->dy, k->dx[0], k->dx[1], k->dx[2]);
}
static void conv2d_b(call *k) {
    ref_conv_shape s = conv_shape(k);
    ref_conv2d_backward(&s, k->x[0], k->x[1], k->dy, k->dx[0], k->dx[1], k->dx[2]);
    if (k->dx[3]) ref_add_broadcast_backward(k->dy, NULL, k->dx[3], 1, size(k, 3), s.P * s.Q);
    add_same_b(k, 4);
}

static void group_norm_f(call *k) {
    ref_group_norm(k->x[0], k->x[1], k->x[2], k->y, dim(k, 0, 0), dim(k, 0, 1), after_axis1(k, 0), k->a->groups, (double)k->a->eps);
    if (k->a->silu) ref_silu(k->y, k->y, total(k));
}
static void group_norm_b(call *k) {
    int64_t B = dim(k, 0, 0), C = dim(k, 0, 1), S = after_axis1(k, 0);
    double *dy = k->dy, *before = NULL, *dbefore = NULL;
    if (k->a->silu) {
        before = calloc((size_t)total(k), sizeof *before), dbefore = calloc((size_t)total(k), sizeof *dbefore);
        if (!before || !dbefore) TN_BUG("out of memory in the reference back end");
        ref_group_norm(k->x[0], k->x[1], k->x[2], before, B, C, S, k->a->groups, (double)k->a->eps);
        ref_silu_backward(before, k->dy, dbefore, total(k));
        dy = dbefore;
    }
    ref_group_norm_backward(k->x[0], k->x[1], dy, k->dx[0], k->dx[1], k->dx[2], B, C, S, k->a->groups, (double)k->a->eps);
    free(before), free(dbefore);
}
static void layer_norm_f(call *k) {
    ref_layer_norm(k->x[0], k->x[1], k->x[2], k->y, rows(k, 0), last(k, 0), (double)k->a->eps);
}
static void layer_norm_b(call *k) {
    ref_layer_norm_backward(k->x[0], k->x[1], k->dy, k->dx[0], k->dx[1], k->dx[2], rows(k, 0), last(k, 0), (double)k->a->eps);
}

static void attention_f(call *k) {
    ref_attention(k->x[0], k->x[1], k->x[2], k->y, dim(k, 0, 0), dim(k, 0, 1), dim(k, 1, 1), k->a->heads,
                  last(k, 0) / k->a->heads, (double)k->a->scale, k->a->causal);
}
static void attention_b(call *k) {
    ref_attention_backward(k->x[0], k->x[1], k->x[2], k->dy, k->dx[0], k->dx[1], k->dx[2], dim(k, 0, 0), dim(k, 0, 1),
                           dim(k, 1, 1), k->a->heads, last(k, 0) / k->a->heads, (double)k->a->scale, k->a->causal, k->row);
}

static void softmax_f(call *k) { ref_softmax(k->x[0], k->y, rows(k, 0), last(k, 0)); }
static void softmax_b(call *k) { ref_softmax_backward(k->y, k->dy, k->dx[0], rows(k, 0), last(k, 0)); }
static void silu_f(call *k) { ref_silu(k->x[0], k->y, total(k)); }
static void silu_b(call *k) { ref_silu_backward(k->x[0], k->dy, k->dx[0], total(k)); }
static void gelu_f(call *k) { ref_gelu(k->x[0], k->y, total(k)); }
static void gelu_b(call *k) { ref_gelu_backward(k->x[0], k->dy, k->dx[0], total(k)); }
static void quick_gelu_f(call *k) { ref_quick_gelu(k->x[0], k->y, total(k)); }
static void quick_gelu_b(call *k) { ref_quick_gelu_backward(k->x[0], k->dy, k->dx[0], total(k)); }
static void sigmoid_f(call *k) { ref_sigmoid(k->x[0], k->y, total(k)); }
static void sigmoid_b(call *k) { ref_sigmoid_backward(k->x[0], k->dy, k->dx[0], total(k)); }
static void geglu_f(call *k) { ref_geglu(k->x[0], k->y, rows(k, 0), last(k, 0) / 2); }
static void geglu_b(call *k) { ref_geglu_backward(k->x[0], k->dy, k->dx[0], rows(k, 0), last(k, 0) / 2); }

static void add_dims(const call *k, int64_t d[3]) {
    int64_t m = size(k, 1), rest = size(k, 0) / m;
    d[0] = rest, d[1] = m, d[2] = 1;
}
static void add_f(call *k) {
    int64_t d[3];
    add_dims(k, d);
    ref_add_broadcast(k->x[0], k->x[1], k->y, d[0], d[1], d[2]);
}
static void add_b(call *k) {
    int64_t d[3];
    add_dims(k, d);
    ref_add_broadcast_backward(k->dy, k->dx[0], k->dx[1], d[0], d[1], d[2]);
}
static void scale_f(call *k) { ref_scale(k->x[0], (double)k->a->scale, k->y, total(k)); }
static void scale_b(call *k) { ref_scale_backward(k->dy, (double)k->a->scale, k->dx[0], total(k)); }

static void upsample_nearest_f(call *k) {
    ref_upsample_nearest(k->x[0], k->y, dim(k, 0, 0) * dim(k, 0, 1), dim(k, 0, 2), dim(k, 0, 3), k->a->h, k->a->w);
}
static void upsample_nearest_b(call *k) {
    ref_upsample_nearest_backward(k->dy, k->dx[0], dim(k, 0, 0) * dim(k, 0, 1), dim(k, 0, 2), dim(k, 0, 3), k->a->h, k->a->w);
}
static void avg_pool2d_f(call *k) {
    ref_avg_pool2d(k->x[0], k->y, dim(k, 0, 0) * dim(k, 0, 1), dim(k, 0, 2), dim(k, 0, 3), k->a->h, k->a->stride);
}
static void avg_pool2d_b(call *k) {
    ref_avg_pool2d_backward(k->dy, k->dx[0], dim(k, 0, 0) * dim(k, 0, 1), dim(k, 0, 2), dim(k, 0, 3), k->a->h, k->a->stride);
}

static void concat_f(call *k) {
    ref_concat(k->x[0], k->x[1], k->y, dim(k, 0, 0), dim(k, 0, 1), dim(k, 1, 1), after_axis1(k, 0));
}
static void concat_b(call *k) {
    ref_concat_backward(k->dy, k->dx[0], k->dx[1], dim(k, 0, 0), dim(k, 0, 1), dim(k, 1, 1), after_axis1(k, 0));
}
static void slice_f(call *k) { ref_slice(k->x[0], k->y, dim(k, 0, 0), dim(k, 0, 1), after_axis1(k, 0), k->a->from, k->a->count); }
static void slice_b(call *k) {
    ref_slice_backward(k->dy, k->dx[0], dim(k, 0, 0), dim(k, 0, 1), after_axis1(k, 0), k->a->from, k->a->count);
}
static void nchw_to_tokens_f(call *k) { ref_nchw_to_tokens(k->x[0], k->y, dim(k, 0, 0), dim(k, 0, 1), after_axis1(k, 0)); }
static void nchw_to_tokens_b(call *k) {
    ref_nchw_to_tokens_backward(k->dy, k->dx[0], dim(k, 0, 0), dim(k, 0, 1), after_axis1(k, 0));
}
static void tokens_to_nchw_f(call *k) { ref_tokens_to_nchw(k->x[0], k->y, dim(k, 0, 0), dim(k, 0, 2), dim(k, 0, 1)); }
static void tokens_to_nchw_b(call *k) { ref_tokens_to_nchw_backward(k->dy, k->dx[0], dim(k, 0, 0), dim(k, 0, 2), dim(k, 0, 1)); }

static int64_t learned_rows(const call *k) { return k->n->in[2] ? dim(k, 2, 0) : 0; }
static void embedding_f(call *k) {
    ref_embedding(k->ids, k->x[1], k->x[2], k->y, size(k, 0), dim(k, 1, 0), learned_rows(k), dim(k, 1, 1));
}
static void embedding_b(call *k) {
    ref_embedding_backward(k->ids, k->dy, k->dx[1], k->dx[2], size(k, 0), dim(k, 1, 0), learned_rows(k), dim(k, 1, 1));
}
static void gather_rows_f(call *k) { ref_gather_rows(k->x[0], k->ids, k->y, dim(k, 0, 0), dim(k, 0, 1), dim(k, 0, 2)); }
static void gather_rows_b(call *k) {
    ref_gather_rows_backward(k->ids, k->dy, k->dx[0], dim(k, 0, 0), dim(k, 0, 1), dim(k, 0, 2));
}

static void mean_f(call *k) { ref_mean(k->x[0], k->y, rows(k, 0), last(k, 0)); }
static void mean_b(call *k) { ref_mean_backward(k->dy, k->dx[0], rows(k, 0), last(k, 0)); }
static void mse_f(call *k) { *k->y = ref_mse(k->x[0], k->x[1], k->x[2], size(k, 0)); }
static void mse_b(call *k) { ref_mse_backward(k->x[0], k->x[1], k->x[2], *k->dy, k->dx[0], k->dx[1], size(k, 0)); }
static void l2_normalize_f(call *k) { ref_l2_normalize(k->x[0], k->y, rows(k, 0), last(k, 0)); }
static void l2_normalize_b(call *k) { ref_l2_normalize_backward(k->x[0], k->dy, k->dx[0], rows(k, 0), last(k, 0)); }
static void cosine_similarity_f(call *k) { ref_cosine_similarity(k->x[0], k->x[1], k->y, dim(k, 0, 0), dim(k, 1, 0), last(k, 0)); }
static void cosine_similarity_b(call *k) {
    ref_cosine_similarity_backward(k->x[0], k->x[1], k->dy, k->dx[0], k->dx[1], dim(k, 0, 0), dim(k, 1, 0), last(k, 0));
}
static void clamp_f(call *k) { ref_clamp(k->x[0], k->y, total(k), (double)k->a->lo, (double)k->a->hi); }
static void clamp_b(call *k) { ref_clamp_backward(k->x[0], k->dy, k->dx[0], total(k), (double)k->a->lo, (double)k->a->hi); }
static void gaussian_sample_f(call *k) { ref_gaussian_sample(k->x[0], k->x[1], k->x[2], k->y, total(k)); }
static void gaussian_sample_b(call *k) {
    ref_gaussian_sample_backward(k->x[1], k->x[2], k->dy, k->dx[0], k->dx[1], total(k));
}
static void gaussian_kl_f(call *k) { ref_gaussian_kl(k->x[0], k->x[1], k->y, dim(k, 0, 0), size(k, 0) / dim(k, 0, 0)); }
static void gaussian_kl_b(call *k) {
    ref_gaussian_kl_backward(k->x[0], k->x[1], k->dy, k->dx[0], k->dx[1], dim(k, 0, 0), size(k, 0) / dim(k, 0, 0));
}
static void timestep_embedding_f(call *k) {
    ref_timestep_embedding(k->x[0], k->y, size(k, 0), k->a->dim, k->a->flip, (double)k->a->shift, (double)k->a->period);
}
static void timestep_embedding_b(call *k) { (void)k; } /* never on the tape */

static const struct {
    void (*forward)(call *), (*backward)(call *);
} table[TN_OP_COUNT] = {
#define TN_OP(name, formula, source) {name##_f, name##_b},
#include "tensor/op/ops.def"
#undef TN_OP
};

static int op_id(const tn_op *op) {
    for (int i = 0; i < TN_OP_COUNT; i++) {
        if (tn_op_get(i) == op) return i;
    }
    TN_BUG("operator %s is not in ops.def", op->name);
    return 0;
}

static double *widen(tn_ctx *c, const tn_tensor *t) {
    int64_t n = tn_numel(t);
    double *x = zeroes(n);
    float *f = malloc((size_t)n * sizeof *f);
    if (!f) TN_BUG("out of memory in the reference back end");
    c->k->widen(n, t->data, t->dtype, f);
    for (int64_t i = 0; i < n; i++) x[i] = (double)f[i];
    free(f);
    return x;
}

static void open_call(tn_ctx *c, const tn_node *n, call *k) {
    *k = (call){.n = n, .a = &n->a};
    for (int i = 0; i < n->nin; i++) {
        if (n->in[i] && n->in[i]->dtype == TN_I64) k->ids = n->in[i]->data;
        else if (n->in[i]) k->x[i] = widen(c, n->in[i]);
    }
    k->y = zeroes(tn_numel(n->out));
    if (n->op == tn_op_get(TN_OP_attention)) k->row = zeroes(n->in[1]->shape[1]);
}

static void close_call(call *k) {
    for (int i = 0; i < TN_MAX_IN; i++) free(k->x[i]), free(k->dx[i]);
    free(k->y), free(k->dy), free(k->row);
}

void tn_ref_forward(tn_ctx *c, tn_node *n) {
    call k;
    open_call(c, n, &k);
    table[op_id(n->op)].forward(&k);
    for (int64_t i = 0; i < total(&k); i++) ((float *)n->out->data)[i] = (float)k.y[i];
    close_call(&k);
}

void tn_ref_backward(tn_ctx *c, tn_node *n) {
    call k;
    open_call(c, n, &k);
    table[op_id(n->op)].forward(&k); /* what backward reads of y, in double */
    k.dy = zeroes(total(&k));
    for (int64_t i = 0; i < total(&k); i++) k.dy[i] = (double)n->out->grad[i];
    float *d[TN_MAX_IN];
    int acc[TN_MAX_IN];
    for (int i = 0; i < n->nin; i++) {
        if ((d[i] = tn_din(n, i, &acc[i]))) k.dx[i] = zeroes(tn_numel(n->in[i]));
    }
    table[op_id(n->op)].backward(&k);
    for (int i = 0; i < n->nin; i++) {
        for (int64_t j = 0; d[i] && j < tn_numel(n->in[i]); j++) d[i][j] = (float)(k.dx[i][j] + (acc[i] ? (double)d[i][j] : 0.0));
    }
    close_call(&k);
}
