/* Multi-head attention. Definition: ref/attention.c. Probabilities are never stored: forward keeps one log-sum-exp a
 * row, and backward computes them again. */
#include "tensor/op/ops.h"

#include <math.h>

static int shape_rule(const tn_node *n, int64_t *shape) {
    const tn_tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    TN_FIT(n, q->ndim == 3 && k->ndim == 3 && v->ndim == 3 && n->a.heads > 0 && q->shape[2] % n->a.heads == 0);
    TN_FIT(n, q->shape[0] == k->shape[0] && k->shape[0] == v->shape[0] && k->shape[1] == v->shape[1]);
    TN_FIT(n, q->shape[2] == k->shape[2] && q->shape[2] == v->shape[2]);
    TN_FIT(n, !n->a.causal || q->shape[1] == k->shape[1]);
    for (int i = 0; i < 3; i++) shape[i] = q->shape[i];
    return 3;
}

static int64_t saved(const tn_node *n) { return n->in[0]->shape[0] * n->a.heads * n->in[0]->shape[1]; }

static k_attention problem(tn_ctx *c, const tn_node *n) {
    const tn_tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    k_attention p = {.B = q->shape[0], .N = q->shape[1], .M = k->shape[1], .H = n->a.heads, .D = q->shape[2] / n->a.heads,
                     .q = q->data, .k = k->data, .v = v->data, .y = n->out->data, .lse = n->saved, .scale = n->a.scale,
                     .causal = n->a.causal, .dy = n->out->grad, .threads = c->threads};
    return p;
}

static void forward(tn_ctx *c, tn_node *n) {
    k_attention p = problem(c, n);
    p.scratch = tn_scratch(c, c->k->attention_scratch(&p));
    if (tn_live(c)) c->k->attention(&p);
}

static void backward(tn_ctx *c, tn_node *n) {
    k_attention p = problem(c, n);
    p.dq = tn_din(n, 0, &p.acc_q), p.dk = tn_din(n, 1, &p.acc_k), p.dv = tn_din(n, 2, &p.acc_v);
    p.scratch = tn_scratch(c, c->k->attention_backward_scratch(&p));
    if (tn_live(c)) c->k->attention_backward(&p);
}

#define QKV(B, N, M, C) 3, {{'x', 3, {B, N, C}}, {'x', 3, {B, M, C}}, {'x', 3, {B, M, C}}}
static const tn_case cases[] = {
    {"self", {.heads = 8, .scale = 0.35355339f}, QKV(2, 5, 5, 64)},
    {"cross, width 40", {.heads = 2, .scale = 0.15811388f}, QKV(1, 10, 13, 80)},
    {"cross, 77 keys", {.heads = 2, .scale = 0.5f}, QKV(1, 16, 77, 8)},
    {"causal, 77", {.heads = 2, .scale = 0.40824829f, .causal = true}, QKV(1, 77, 77, 12)},
    {"causal, one token", {.heads = 2, .scale = 0.25f, .causal = true}, QKV(1, 1, 1, 32)},
    {"one head of 160", {.heads = 1, .scale = 0.07905694f}, QKV(1, 4, 6, 160)},
    {"many keys", {.heads = 1, .scale = 0.2f}, QKV(1, 70, 300, 24)},
};
const tn_op tn_op_attention = {"attention", shape_rule, saved, forward, backward, cases, sizeof cases / sizeof *cases};

tn_tensor *tn_attention(tn_ctx *c, tn_tensor *q, tn_tensor *k, tn_tensor *v, int heads, float scale, bool causal) {
    TN_REQUIRE(heads > 0 && tn_dim(q, -1) % heads == 0);
    if (scale == 0.0f) scale = (float)(1.0 / sqrt((double)(tn_dim(q, -1) / heads)));
    tn_attr a = {.heads = heads, .scale = scale, .causal = causal};
    return tn_apply(c, &tn_op_attention, &a, 3, (tn_tensor *[]){q, k, v});
}
