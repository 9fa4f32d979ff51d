/* Every function of ref/ behind one signature, so that a test can treat all operators alike: inputs, an output, the
 * output's gradient, gradients of the inputs, and the dimensions in the order in which the function takes them. */
#ifndef REF_CALLS_H
#define REF_CALLS_H

#include "ref/ref.h"

#include <stddef.h>
#include <stdlib.h>

typedef struct call {
    int64_t n[12];      /* dimensions and integer settings */
    double p[2];        /* real settings: eps, scale, bounds */
    const int64_t *ids; /* for the operators that look up rows */
    double *in[3];      /* NULL where absent (a linear layer without bias) */
    double *y;
    const double *dy;
    double *d[3]; /* gradients of in[0], in[1], in[2]; NULL where not wanted */
} call;

static ref_conv_shape conv_shape(const call *c) {
    ref_conv_shape s = {c->n[0], c->n[1], c->n[2], c->n[3],      c->n[4],       c->n[5],
                        c->n[6], c->n[7], c->n[8], (int)c->n[9], (int)c->n[10], (int)c->n[11]};
    return s;
}

static void conv2d(const call *c) {
    ref_conv_shape s = conv_shape(c);
    ref_conv2d(&s, c->in[0], c->in[1], c->in[2], c->y);
}

static void conv2d_backward(const call *c) {
    ref_conv_shape s = conv_shape(c);
    ref_conv2d_backward(&s, c->in[0], c->in[1], c->dy, c->d[0], c->d[1], c->d[2]);
}

static void upsample_conv2d(const call *c) {
    ref_conv_shape s = conv_shape(c);
    ref_upsample_conv2d(&s, c->in[0], c->in[1], c->in[2], c->y);
}

static void upsample_conv2d_backward(const call *c) {
    ref_conv_shape s = conv_shape(c);
    ref_upsample_conv2d_backward(&s, c->in[0], c->in[1], c->dy, c->d[0], c->d[1], c->d[2]);
}

static void attention_backward(const call *c) {
    double row[128];
    if (c->n[2] > 128) abort();
    ref_attention_backward(c->in[0], c->in[1], c->in[2], c->dy, c->d[0], c->d[1], c->d[2], c->n[0], c->n[1], c->n[2],
                           c->n[3], c->n[4], c->p[0], (int)c->n[5], row);
}

/* OP(name, how many of the inputs have a gradient, forward, backward), with the dimensions as ref.h orders them. */
#define X c->in[0]
#define Z c->in[1]
#define W c->in[2]
#define Y c->y
#define DY c->dy
#define DX c->d[0]
#define DZ c->d[1]
#define DW c->d[2]
#define N(i) c->n[i]
#define P(i) c->p[i]
#define REF_OPS(OP)                                                                                                    \
    OP(linear, 3, ref_linear(X, Z, W, Y, N(0), N(1), N(2)),                                                            \
       ref_linear_backward(X, Z, DY, DX, DZ, DW, N(0), N(1), N(2)))                                                    \
    OP(matmul, 2, ref_matmul(X, Z, Y, N(0), N(1), N(2), N(3), (int)N(4), (int)N(5)),                                   \
       ref_matmul_backward(X, Z, DY, DX, DZ, N(0), N(1), N(2), N(3), (int)N(4), (int)N(5)))                            \
    OP(conv2d, 3, conv2d(c), conv2d_backward(c))                                                                       \
    OP(upsample_conv2d, 3, upsample_conv2d(c), upsample_conv2d_backward(c))                                            \
    OP(group_norm, 3, ref_group_norm(X, Z, W, Y, N(0), N(1), N(2), N(3), P(0)),                                        \
       ref_group_norm_backward(X, Z, DY, DX, DZ, DW, N(0), N(1), N(2), N(3), P(0)))                                    \
    OP(layer_norm, 3, ref_layer_norm(X, Z, W, Y, N(0), N(1), P(0)),                                                    \
       ref_layer_norm_backward(X, Z, DY, DX, DZ, DW, N(0), N(1), P(0)))                                                \
    OP(attention, 3, ref_attention(X, Z, W, Y, N(0), N(1), N(2), N(3), N(4), P(0), (int)N(5)), attention_backward(c))  \
    OP(softmax, 1, ref_softmax(X, Y, N(0), N(1)),                                                                      \
       (ref_softmax(X, Y, N(0), N(1)), ref_softmax_backward(Y, DY, DX, N(0), N(1))))                                   \
    OP(sigmoid, 1, ref_sigmoid(X, Y, N(0)), ref_sigmoid_backward(X, DY, DX, N(0)))                                     \
    OP(silu, 1, ref_silu(X, Y, N(0)), ref_silu_backward(X, DY, DX, N(0)))                                              \
    OP(gelu, 1, ref_gelu(X, Y, N(0)), ref_gelu_backward(X, DY, DX, N(0)))                                              \
    OP(quick_gelu, 1, ref_quick_gelu(X, Y, N(0)), ref_quick_gelu_backward(X, DY, DX, N(0)))                            \
    OP(geglu, 1, ref_geglu(X, Y, N(0), N(1)), ref_geglu_backward(X, DY, DX, N(0), N(1)))                               \
    OP(add_broadcast, 2, ref_add_broadcast(X, Z, Y, N(0), N(1), N(2)),                                                 \
       ref_add_broadcast_backward(DY, DX, DZ, N(0), N(1), N(2)))                                                       \
    OP(scale, 1, ref_scale(X, P(0), Y, N(0)), ref_scale_backward(DY, P(0), DX, N(0)))                                  \
    OP(upsample_nearest, 1, ref_upsample_nearest(X, Y, N(0), N(1), N(2), N(3), N(4)),                                  \
       ref_upsample_nearest_backward(DY, DX, N(0), N(1), N(2), N(3), N(4)))                                            \
    OP(avg_pool2d, 1, ref_avg_pool2d(X, Y, N(0), N(1), N(2), N(3), N(4)),                                              \
       ref_avg_pool2d_backward(DY, DX, N(0), N(1), N(2), N(3), N(4)))                                                  \
    OP(concat, 2, ref_concat(X, Z, Y, N(0), N(1), N(2), N(3)),                                                         \
       ref_concat_backward(DY, DX, DZ, N(0), N(1), N(2), N(3)))                                                        \
    OP(slice, 1, ref_slice(X, Y, N(0), N(1), N(2), N(3), N(4)),                                                        \
       ref_slice_backward(DY, DX, N(0), N(1), N(2), N(3), N(4)))                                                       \
    OP(nchw_to_tokens, 1, ref_nchw_to_tokens(X, Y, N(0), N(1), N(2)),                                                  \
       ref_nchw_to_tokens_backward(DY, DX, N(0), N(1), N(2)))                                                          \
    OP(tokens_to_nchw, 1, ref_tokens_to_nchw(X, Y, N(0), N(1), N(2)),                                                  \
       ref_tokens_to_nchw_backward(DY, DX, N(0), N(1), N(2)))                                                          \
    OP(embedding, 2, ref_embedding(c->ids, X, Z, Y, N(0), N(1), N(2), N(3)),                                           \
       ref_embedding_backward(c->ids, DY, DX, DZ, N(0), N(1), N(2), N(3)))                                             \
    OP(gather_rows, 1, ref_gather_rows(X, c->ids, Y, N(0), N(1), N(2)),                                                \
       ref_gather_rows_backward(c->ids, DY, DX, N(0), N(1), N(2)))                                                     \
    OP(mean, 1, ref_mean(X, Y, N(0), N(1)), ref_mean_backward(DY, DX, N(0), N(1)))                                     \
    OP(mse, 2, *Y = ref_mse(X, Z, W, N(0)), ref_mse_backward(X, Z, W, *DY, DX, DZ, N(0)))                              \
    OP(l2_normalize, 1, ref_l2_normalize(X, Y, N(0), N(1)), ref_l2_normalize_backward(X, DY, DX, N(0), N(1)))          \
    OP(cosine_similarity, 2, ref_cosine_similarity(X, Z, Y, N(0), N(1), N(2)),                                         \
       ref_cosine_similarity_backward(X, Z, DY, DX, DZ, N(0), N(1), N(2)))                                             \
    OP(clamp, 1, ref_clamp(X, Y, N(0), P(0), P(1)), ref_clamp_backward(X, DY, DX, N(0), P(0), P(1)))                   \
    OP(gaussian_sample, 2, ref_gaussian_sample(X, Z, W, Y, N(0)),                                                      \
       ref_gaussian_sample_backward(Z, W, DY, DX, DZ, N(0)))                                                           \
    OP(gaussian_kl, 2, ref_gaussian_kl(X, Z, Y, N(0), N(1)), ref_gaussian_kl_backward(X, Z, DY, DX, DZ, N(0), N(1)))

#define DEFINE(name, grads, forward, backward)                                                                         \
    static void name##_f(const call *c) { forward; }                                                                   \
    static void name##_b(const call *c) { backward; }
REF_OPS(DEFINE)

typedef struct ref_op {
    const char *name;
    int grads;
    void (*forward)(const call *);
    void (*backward)(const call *);
} ref_op;

#define ENTRY(name, grads, forward, backward) {#name, grads, name##_f, name##_b},
static const ref_op ref_ops[] = {REF_OPS(ENTRY)};
enum { REF_OP_COUNT = sizeof ref_ops / sizeof ref_ops[0] };

#undef X
#undef Z
#undef W
#undef Y
#undef DY
#undef DX
#undef DZ
#undef DW
#undef N
#undef P
#undef DEFINE
#undef ENTRY

#endif
