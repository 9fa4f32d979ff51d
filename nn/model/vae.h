/* AutoencoderKL (Rombach et al. 2112.10752; Esser et al. 2012.09841): pictures in [-1,1] to latents and back. */
#ifndef NN_VAE_H
#define NN_VAE_H

#include "nn/weights.h"
#include "tensor/io/json.h"

typedef struct nn_vae_config {
    int64_t in_channels, out_channels, latent_channels, layers_per_block, groups;
    int nblocks;
    int64_t block_out[NN_LIST_MAX];
    float scaling_factor;
    bool quant_conv, post_quant_conv, mid_attention;
    int64_t sample_size;
} nn_vae_config;

typedef struct nn_vae nn_vae; /* opaque but for the configuration and the weights */
const nn_vae_config *nn_vae_cfg(const nn_vae *m);
nn_params *nn_vae_params(nn_vae *m);
const nn_weights *nn_vae_weights(const nn_vae *m);
int64_t nn_vae_factor(const nn_vae *m); /* pixels per latent: 2^(blocks-1) */

/* A vae/ directory: config.json + diffusion_pytorch_model.safetensors. */
int nn_vae_load(const char *dir, nn_vae **out, tn_err *err);
/* From config.json alone: the parameters' names and shapes, no data. Of use for its parameters only. */
int nn_vae_outline(const char *dir, nn_vae **out, tn_err *err);
void nn_vae_free(nn_vae *m);
/* image [B,3,H,W], H and W multiples of nn_vae_factor, -> moments [B,2*latent_channels,h,w]: mean, then logvar not yet
 * clamped. Traces encoder.*, moments. */
tn_tensor *nn_vae_encode(tn_ctx *c, const nn_vae *m, tn_tensor *image);
tn_tensor *nn_vae_mean(tn_ctx *c, tn_tensor *moments);
tn_tensor *nn_vae_logvar(tn_ctx *c, tn_tensor *moments); /* clamped to [-30,20] */
/* latent, already divided by scaling_factor, [B,4,h,w] -> image [B,3,H,W], not clamped. Traces post_quant_conv,
 * decoder.*. */
tn_tensor *nn_vae_decode(tn_ctx *c, const nn_vae *m, tn_tensor *latent);

#endif
