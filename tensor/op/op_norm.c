/* group_norm and layer_norm. Definition: ref/norm.c. Statistics (mean, 1/std) are kept for backward. */
#include "tensor/op/ops.h"

/* gamma and beta for a kernel that takes one type for both: as they lie, or both widened. */
static tn_dtype affine(tn_ctx *c, const tn_node *n, const void **gamma, const void **beta) {
    const tn_tensor *g = n->in[1], *b = n->in[2];
    if (g->dtype == b->dtype) {
        *gamma = g->data, *beta = b->data;
        return g->dtype;
    }
    *gamma = tn_widened(c, g), *beta = tn_widened(c, b);
    return TN_F32;
}

static int same_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    return x->ndim;
}

/* ---- group_norm ---- */

static int group_norm_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim >= 2 && n->a.groups > 0 && x->shape[1] % n->a.groups == 0);
    TN_FIT(n, tn_numel(n->in[1]) == x->shape[1] && tn_numel(n->in[2]) == x->shape[1]);
    return same_shape(n, shape);
}

static int64_t group_norm_saved(const tn_node *n) { return 2 * n->in[0]->shape[0] * n->a.groups; }

static k_group_norm group_norm_problem(tn_ctx *c, const tn_node *n) {
    const tn_tensor *x = n->in[0];
    int64_t B = x->shape[0], C = x->shape[1];
    k_group_norm p = {.B = B, .C = C, .S = tn_numel(x) / (B * C), .G = n->a.groups, .eps = n->a.eps, .silu = n->a.silu,
                      .x = x->data, .y = n->out->data, .mean = n->saved, .rstd = n->saved + B * n->a.groups,
                      .dy = n->out->grad, .threads = c->threads};
    p.wtype = affine(c, n, &p.gamma, &p.beta);
    p.scratch = tn_scratch(c, c->k->group_norm_scratch(&p));
    return p;
}

static void group_norm_forward(tn_ctx *c, tn_node *n) {
    k_group_norm p = group_norm_problem(c, n);
    if (tn_live(c)) c->k->group_norm(&p);
}

/* The two weight gradients share one acc flag in the kernel; leaves that were set apart are brought together by
 * zeroes. */
static void weight_grads(tn_ctx *c, tn_node *n, float **dgamma, float **dbeta, int *acc) {
    int ag = 0, ab = 0;
    *dgamma = tn_din(n, 1, &ag), *dbeta = tn_din(n, 2, &ab);
    *acc = ag | ab;
    for (int i = 1; i <= 2; i++) {
        float *d = i == 1 ? *dgamma : *dbeta;
        if (!d || !*acc || (i == 1 ? ag : ab) || !tn_live(c)) continue;
        for (int64_t j = 0; j < tn_numel(n->in[i]); j++) d[j] = 0.0f;
    }
}

static void group_norm_backward(tn_ctx *c, tn_node *n) {
    k_group_norm p = group_norm_problem(c, n);
    p.dx = tn_din(n, 0, &p.acc_x);
    weight_grads(c, n, &p.dgamma, &p.dbeta, &p.acc_w);
    if (tn_live(c)) c->k->group_norm_backward(&p);
}

static const tn_case group_norm_cases[] = {
    {"4 groups", {.groups = 4, .eps = 1e-5f}, 3, {{'x', 4, {2, 16, 5, 7}}, {'w', 1, {16}}, {'w', 1, {16}}}},
    {"32 groups, F16", {.groups = 32, .eps = 1e-6f}, 3, {{'x', 4, {1, 64, 4, 4}}, {'h', 1, {64}}, {'h', 1, {64}}}},
    {"one group", {.groups = 1, .eps = 1e-5f}, 3, {{'x', 4, {2, 6, 3, 5}}, {'w', 1, {6}}, {'w', 1, {6}}}},
    {"mixed types", {.groups = 2, .eps = 1e-5f}, 3, {{'x', 4, {1, 6, 3, 5}}, {'w', 1, {6}}, {'b', 1, {6}}}},
    {"SiLU", {.groups = 3, .eps = 1e-5f, .silu = true}, 3, {{'x', 4, {2, 12, 9, 5}}, {'w', 1, {12}}, {'w', 1, {12}}}},
    {"long", {.groups = 2, .eps = 1e-6f, .silu = true}, 3, {{'x', 4, {1, 4, 40, 41}}, {'w', 1, {4}}, {'w', 1, {4}}}},
};
const tn_op tn_op_group_norm = {"group_norm", group_norm_shape, group_norm_saved, group_norm_forward, group_norm_backward,
                                group_norm_cases, sizeof group_norm_cases / sizeof *group_norm_cases};

tn_tensor *tn_group_norm(tn_ctx *c, tn_tensor *x, tn_tensor *gamma, tn_tensor *beta, int groups, float eps, bool silu) {
    tn_attr a = {.groups = groups, .eps = eps, .silu = silu};
    return tn_apply(c, &tn_op_group_norm, &a, 3, (tn_tensor *[]){x, gamma, beta});
}

/* ---- layer_norm ---- */

static int layer_norm_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim >= 1 && tn_numel(n->in[1]) == tn_dim(x, -1) && tn_numel(n->in[2]) == tn_dim(x, -1));
    return same_shape(n, shape);
}

static int64_t layer_norm_rows(const tn_node *n) { return tn_numel(n->in[0]) / tn_dim(n->in[0], -1); }
static int64_t layer_norm_saved(const tn_node *n) { return 2 * layer_norm_rows(n); }

static k_layer_norm layer_norm_problem(tn_ctx *c, const tn_node *n) {
    const tn_tensor *x = n->in[0];
    int64_t R = layer_norm_rows(n);
    k_layer_norm p = {.R = R, .C = tn_dim(x, -1), .eps = n->a.eps, .x = x->data, .y = n->out->data, .mean = n->saved,
                      .rstd = n->saved + R, .dy = n->out->grad, .threads = c->threads};
    p.wtype = affine(c, n, &p.gamma, &p.beta);
    p.scratch = tn_scratch(c, c->k->layer_norm_scratch(&p));
    return p;
}

static void layer_norm_forward(tn_ctx *c, tn_node *n) {
    k_layer_norm p = layer_norm_problem(c, n);
    if (tn_live(c)) c->k->layer_norm(&p);
}

static void layer_norm_backward(tn_ctx *c, tn_node *n) {
    k_layer_norm p = layer_norm_problem(c, n);
    p.dx = tn_din(n, 0, &p.acc_x);
    weight_grads(c, n, &p.dgamma, &p.dbeta, &p.acc_w);
    if (tn_live(c)) c->k->layer_norm_backward(&p);
}

static const tn_case layer_norm_cases[] = {
    {"tokens", {.eps = 1e-5f}, 3, {{'x', 3, {2, 7, 24}}, {'w', 1, {24}}, {'w', 1, {24}}}},
    {"wide, F16", {.eps = 1e-5f}, 3, {{'x', 2, {5, 320}}, {'h', 1, {320}}, {'h', 1, {320}}}},
    {"two columns", {.eps = 1e-5f}, 3, {{'x', 2, {6, 2}}, {'b', 1, {2}}, {'b', 1, {2}}}},
};
const tn_op tn_op_layer_norm = {"layer_norm", layer_norm_shape, layer_norm_saved, layer_norm_forward, layer_norm_backward,
                                layer_norm_cases, sizeof layer_norm_cases / sizeof *layer_norm_cases};

tn_tensor *tn_layer_norm(tn_ctx *c, tn_tensor *x, tn_tensor *gamma, tn_tensor *beta, float eps) {
    return tn_apply(c, &tn_op_layer_norm, &(tn_attr){.eps = eps}, 3, (tn_tensor *[]){x, gamma, beta});
}
