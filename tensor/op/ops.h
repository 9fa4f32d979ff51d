/* The operators: typed constructors. Each lives with its shape rule, forward, backward and cases in one op_FAMILY.c;
 * its definition in double, with the derivation of its gradient, in ref/FAMILY.c. Weights (w, b, gamma, beta, table)
 * may be F32, F16 or BF16; everything else is F32. Optional inputs are marked [opt] and may be NULL. */
#ifndef TN_OPS_H
#define TN_OPS_H

#include "tensor/tensor.h"

enum tn_op_id {
#define TN_OP(name, formula, source) TN_OP_##name,
#include "tensor/op/ops.def"
#undef TN_OP
    TN_OP_COUNT
};

/* The operator by id, its name, formula and source. */
const tn_op *tn_op_get(int id);
typedef struct tn_op_text {
    const char *name, *formula, *source;
} tn_op_text;
extern const tn_op_text tn_op_texts[TN_OP_COUNT];

/* x [..., K], w [N, K], b [N] [opt] -> [..., N] */
tn_tensor *tn_linear(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b);
/* the same + add [..., N]: a residual */
tn_tensor *tn_linear_add(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, tn_tensor *add);
/* Tokens that lie as an image: x [B, K, H, W] -> [B, H*W, N]; x [B, H*W, K] + add [B, N, H, W] -> [B, N, H, W]. w may
 * be [N, K, 1, 1]. */
tn_tensor *tn_linear_from_image(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b);
tn_tensor *tn_linear_to_image(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, tn_tensor *add);
/* a [batch, M, K] (ta: [batch, K, M]), b [batch, K, N] (tb: [batch, N, K]) -> [batch, M, N] */
tn_tensor *tn_matmul(tn_ctx *c, tn_tensor *a, tn_tensor *b, bool ta, bool tb);
/* x [B, C, H, W], w [O, C, KH, KW], b [O] [opt] -> [B, O, P, Q]; padding on each side */
tn_tensor *tn_conv2d_pad(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, int stride, int top, int bottom, int left,
                         int right);
tn_tensor *tn_conv2d(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, int stride, int padding);
/* An odd window, stride 1, same size; + shift [B, O] [opt], the same for all pixels; + add [B, O, H, W] [opt] */
tn_tensor *tn_conv2d_add(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, tn_tensor *shift, tn_tensor *add);
/* x [B, C, H, W] shown at 2H x 2W (tn_upsample_nearest), then 3x3, padding 1: w [O, C, 3, 3], b [O] [opt] -> [B, O, 2H, 2W]. Where
 * Winograd's form is the choice these are the two operators; else one, which never has the larger image. */
tn_tensor *tn_upsample_conv2d(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b);
/* x [B, C, ...], gamma and beta [C]; silu: SiLU applied in the same pass */
tn_tensor *tn_group_norm(tn_ctx *c, tn_tensor *x, tn_tensor *gamma, tn_tensor *beta, int groups, float eps, bool silu);
/* x [..., C] */
tn_tensor *tn_layer_norm(tn_ctx *c, tn_tensor *x, tn_tensor *gamma, tn_tensor *beta, float eps);
/* q [B, N, H*D], k and v [B, M, H*D] -> [B, N, H*D]; scale 0 means D^-0.5 */
tn_tensor *tn_attention(tn_ctx *c, tn_tensor *q, tn_tensor *k, tn_tensor *v, int heads, float scale, bool causal);
tn_tensor *tn_softmax(tn_ctx *c, tn_tensor *x); /* over the last axis */
tn_tensor *tn_silu(tn_ctx *c, tn_tensor *x);
tn_tensor *tn_gelu(tn_ctx *c, tn_tensor *x);
tn_tensor *tn_quick_gelu(tn_ctx *c, tn_tensor *x);
tn_tensor *tn_sigmoid(tn_ctx *c, tn_tensor *x);
tn_tensor *tn_geglu(tn_ctx *c, tn_tensor *x);                /* [..., 2n] -> [..., n] */
/* b has the trailing dims of a: equal shapes, a bias, positions */
tn_tensor *tn_add(tn_ctx *c, tn_tensor *a, tn_tensor *b);
tn_tensor *tn_scale(tn_ctx *c, tn_tensor *x, float s);
tn_tensor *tn_upsample_nearest(tn_ctx *c, tn_tensor *x, int64_t h, int64_t w); /* [B, C, H, W] -> [B, C, h, w] */
tn_tensor *tn_avg_pool2d(tn_ctx *c, tn_tensor *x, int64_t kernel, int stride);
tn_tensor *tn_concat(tn_ctx *c, tn_tensor *a, tn_tensor *b);                       /* along axis 1 */
tn_tensor *tn_slice(tn_ctx *c, tn_tensor *x, int64_t from, int64_t count);         /* along axis 1 */
tn_tensor *tn_nchw_to_tokens(tn_ctx *c, tn_tensor *x);                             /* [B, C, H, W] -> [B, H*W, C] */
tn_tensor *tn_tokens_to_nchw(tn_ctx *c, tn_tensor *x, int64_t h, int64_t w);       /* [B, h*w, C] -> [B, C, h, w] */
/* ids I64 [...] in 0..V+L; table [V, C]; learned [L, C] [opt]: the rows behind the vocabulary -> [..., C] */
tn_tensor *tn_embedding(tn_ctx *c, tn_tensor *ids, tn_tensor *table, tn_tensor *learned);
tn_tensor *tn_gather_rows(tn_ctx *c, tn_tensor *x, tn_tensor *idx); /* x [B, L, C], idx I64 [B] -> [B, C] */
tn_tensor *tn_mean(tn_ctx *c, tn_tensor *x);                        /* [..., N] -> [...] */
tn_tensor *tn_mse(tn_ctx *c, tn_tensor *a, tn_tensor *b, tn_tensor *weight); /* scalar (ndim 0); weight like a [opt] */
tn_tensor *tn_l2_normalize(tn_ctx *c, tn_tensor *x);                /* rows of the last axis */
tn_tensor *tn_cosine_similarity(tn_ctx *c, tn_tensor *a, tn_tensor *b); /* [N, C], [M, C] -> [N, M] */
tn_tensor *tn_clamp(tn_ctx *c, tn_tensor *x, float lo, float hi);   /* gradient zero strictly outside */
tn_tensor *tn_gaussian_sample(tn_ctx *c, tn_tensor *mean, tn_tensor *logvar, tn_tensor *noise);
tn_tensor *tn_gaussian_kl(tn_ctx *c, tn_tensor *mean, tn_tensor *logvar); /* [B, ...] -> [B] */
/* t F32 [B] (fractions allowed) -> [B, dim]; not differentiable. Angles rounded to float32, as the public code does. */
tn_tensor *tn_timestep_embedding(tn_ctx *c, tn_tensor *t, int64_t dim, bool flip_sin_to_cos, float freq_shift,
                                 float max_period);

/* One AdamW step (Loshchilov & Hutter 1711.05101, algorithm 2) on n parameters; t counts from 1. */
typedef struct tn_adamw_config {
    double beta1, beta2, eps, weight_decay;
} tn_adamw_config;
void tn_adamw(tn_ctx *c, const tn_adamw_config *cfg, double lr, int64_t t, int64_t n, float *p, const float *g,
              float *m, float *v);

/* ---- for op_*.c ---- */

/* Backward of input i where it was added to the output, as wide as it: its gradient is the output's. NULL is fine. */
void tn_din_same(tn_ctx *c, tn_node *n, int i);
/* Data as F32: itself, or widened into scratch. */
const float *tn_widened(tn_ctx *c, const tn_tensor *t);
/* Runs fn(arg, from, count) over pieces of 0..n on all threads; pieces are of a fixed size that does not enter the
 * arithmetic. */
void tn_elementwise(tn_ctx *c, int64_t n, void (*fn)(void *arg, int64_t from, int64_t count), void *arg);

#endif
