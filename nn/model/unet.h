/* UNet2DConditionModel (Rombach et al. 2112.10752, section 3.3; Ho et al. 2006.11239): predicts the noise in a latent,
 * given the timestep and the text. */
#ifndef NN_UNET_H
#define NN_UNET_H

#include "nn/model/blocks.h"
#include "tensor/io/json.h"

enum { NN_UNET_MAX_BLOCKS = NN_LIST_MAX };

typedef struct nn_unet_config {
    int64_t in_channels, out_channels, sample_size;
    int nblocks;
    int64_t block_out[NN_UNET_MAX_BLOCKS];
    int64_t layers[NN_UNET_MAX_BLOCKS];            /* layers_per_block of each down block */
    bool down_attention[NN_UNET_MAX_BLOCKS], up_attention[NN_UNET_MAX_BLOCKS];
    int64_t heads[NN_UNET_MAX_BLOCKS]; /* attention_head_dim, which is the number of heads, per down block */
    int64_t cross_dim[NN_UNET_MAX_BLOCKS];         /* cross_attention_dim per down block */
    bool linear_projection, center_input_sample, flip_sin_to_cos;
    float freq_shift, norm_eps;
    int64_t groups, downsample_padding;
} nn_unet_config;

typedef struct nn_unet nn_unet;
const nn_unet_config *nn_unet_cfg(const nn_unet *m);
nn_params *nn_unet_params(nn_unet *m);
const nn_weights *nn_unet_weights(const nn_unet *m);

/* A unet/ directory: config.json + diffusion_pytorch_model.safetensors. */
int nn_unet_load(const char *dir, nn_unet **out, tn_err *err);
/* From config.json alone: the parameters' names and shapes, no data. Of use for its parameters only. */
int nn_unet_outline(const char *dir, nn_unet **out, tn_err *err);
void nn_unet_free(nn_unet *m);
/* What the UNet sees of a text: keys and values for each transformer, in the order they run. */
enum { NN_UNET_MAX_LAYERS = 16, NN_UNET_MAX_TRANSFORMERS = NN_UNET_MAX_BLOCKS * (2 * NN_UNET_MAX_LAYERS + 1) + 1 };
typedef struct nn_unet_text {
    int n;
    nn_text_kv kv[NN_UNET_MAX_TRANSFORMERS];
} nn_unet_text;
/* context [B,L,D]. The tensors may come from another context than the one they are used in, and outlive its steps. */
void nn_unet_read(tn_ctx *c, const nn_unet *m, tn_tensor *context, nn_unet_text *out);

/* sample [B,C,H,W], timestep F32 [B] (may be fractional) -> [B,C,H,W]. Traces time_proj,
 * time_embedding, conv_in, down_blocks.i, mid_block, up_blocks.i. Any H, W >= 1: where a skip is not twice as large,
 * upsampling goes to its size. */
tn_tensor *nn_unet_denoise(tn_ctx *c, const nn_unet *m, tn_tensor *sample, tn_tensor *timestep, const nn_unet_text *text);
/* Both in one: context [B,L,D]. */
tn_tensor *nn_unet_forward(tn_ctx *c, const nn_unet *m, tn_tensor *sample, tn_tensor *timestep, tn_tensor *context);

#endif
