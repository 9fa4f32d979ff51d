/* What UNet and autoencoder are built of: residual blocks, resampling, attention. Each bind function fills a zeroed
 * struct from the tensors below `prefix`; each forward function is one tn_block, whose argument is that struct. */
#ifndef NN_BLOCKS_H
#define NN_BLOCKS_H

#include "nn/weights.h"

/* Row of a binding table for field NAME of struct TYPE. */
#define NN_ROW(type, name, suffix, dims) {suffix, NULL, offsetof(type, name), dims, 0}
/* The weight and the bias under one name: NAME_w, NAME_b, SUFFIX.weight, SUFFIX.bias. */
#define NN_ROWS(type, name, suffix, wdims, bdims) \
    NN_ROW(type, name##_w, suffix ".weight", wdims), NN_ROW(type, name##_b, suffix ".bias", bdims)

/* A convolution on its own. */
typedef struct nn_conv {
    tn_tensor w, b;
} nn_conv;
int nn_conv_bind(nn_binder *b, const char *prefix, nn_conv *conv, int64_t in, int64_t out, int64_t kernel, tn_err *err);
tn_tensor *nn_conv_forward(tn_ctx *c, const nn_conv *conv, tn_tensor *x); /* stride 1, same size */

/* Scale and shift of a norm. */
typedef struct nn_norm {
    tn_tensor w, b;
} nn_norm;
int nn_norm_bind(nn_binder *b, const char *prefix, nn_norm *norm, int64_t channels, tn_err *err);

/* ResnetBlock2D: norm, SiLU, conv, + time, norm, SiLU, conv, + shortcut. He et al. 1512.03385 as Ho et al. 2006.11239
 * use it. */
typedef struct nn_resnet {
    nn_norm norm1, norm2;
    nn_conv conv1, conv2, shortcut; /* shortcut: where the number of channels changes */
    tn_tensor time_w, time_b;       /* [out, time], absent in the autoencoder */
    int groups;
    float eps;
} nn_resnet;
/* time: width of the time embedding, 0 for none */
int nn_resnet_bind(nn_binder *b, const char *prefix, nn_resnet *r, int64_t in, int64_t out, int64_t time,
                   int64_t groups, float eps, tn_err *err);
/* x [B,in,H,W] -> [B,out,H,W]; time [B,T], already through SiLU, or NULL; skip [B,S,H,W] or NULL: joins x in axis 1 */
tn_tensor *nn_resnet_forward(tn_ctx *c, const nn_resnet *r, tn_tensor *x, tn_tensor *time, tn_tensor *skip);

/* 3x3, stride 2. padding 1 is on all sides; 0 means zeros on the right and at the bottom, as in the autoencoder. */
tn_tensor *nn_downsample(tn_ctx *c, const nn_conv *conv, tn_tensor *x, int64_t padding);
/* nearest to h x w, then 3x3 */
tn_tensor *nn_upsample(tn_ctx *c, const nn_conv *conv, tn_tensor *x, int64_t h, int64_t w);

/* Transformer2DModel with one BasicTransformerBlock: self-attention, cross-attention, GEGLU (Shazeer 2002.05202), each
 * behind a layer norm and with a residual; Rombach et al. 2112.10752, appendix E.2.1. */
typedef struct nn_transformer {
    nn_norm norm, norm1, norm2, norm3;
    tn_tensor proj_in_w, proj_in_b, proj_out_w, proj_out_b; /* [C,C], or [C,C,1,1] before SD 2 */
    tn_tensor q1_w, k1_w, v1_w, o1_w, o1_b;                 /* self */
    tn_tensor q2_w, k2_w, v2_w, o2_w, o2_b;                 /* cross: k and v [C,D] */
    tn_tensor ff1_w, ff1_b, ff2_w, ff2_b;                   /* [8C,C], [C,4C] */
    int groups, heads;
} nn_transformer;
int nn_transformer_bind(nn_binder *b, const char *prefix, nn_transformer *t, int64_t channels, int64_t context,
                        int64_t heads, int64_t groups, bool linear, tn_err *err); /* linear: projections are [C,C] */
/* What cross-attention sees of a text: keys and values [B,L,C]. They depend on nothing else, so they stand outside the block:
 * made once where a text meets many images, and not again where the block runs again. */
typedef struct nn_text_kv {
    tn_tensor *k, *v;
} nn_text_kv;
/* context [B,L,D] */
nn_text_kv nn_transformer_text(tn_ctx *c, const nn_transformer *t, tn_tensor *context);
/* x [B,C,H,W] -> [B,C,H,W] */
tn_tensor *nn_transformer_forward(tn_ctx *c, const nn_transformer *t, tn_tensor *x, const nn_text_kv *text);

/* The autoencoder's attention: one head as wide as the image has channels. */
typedef struct nn_image_attention {
    nn_norm norm;
    tn_tensor q_w, q_b, k_w, k_b, v_w, v_b, o_w, o_b;
    int groups;
} nn_image_attention;
int nn_image_attention_bind(nn_binder *b, const char *prefix, nn_image_attention *a, int64_t channels, int64_t groups,
                            tn_err *err);
tn_tensor *nn_image_attention_forward(tn_ctx *c, const nn_image_attention *a, tn_tensor *x);

/* Shows t to the tracer as PREFIX NAME.i */
void nn_trace_at(tn_ctx *c, const char *prefix, const char *name, int64_t i, const tn_tensor *t);
/* PREFIX NAME.i.REST into out[120]; names of blocks are bounded by the tables that they come from. */
const char *nn_name(char *out, const char *prefix, const char *name, int64_t i, const char *rest);
enum { NN_NAME_SIZE = 120 };

#endif
