/* The way from words to pictures, on plain arrays: text encoder, sampling loop with classifier-free guidance, decoder.
 * Each function resets the context it is given, so nothing of it outlives a call but the memory.
 *
 * A sample's bits do not depend on what else is in the batch. */
#ifndef NN_PIPELINE_H
#define NN_PIPELINE_H

#include "nn/model.h"
#include "nn/sampler.h"

/* Tokens of a prompt: what the tokenizer's files state, at most what the text encoder has positions for. */
int nn_prompt_length(const nn_model *m);
/* The ids [nn_prompt_length] of a prompt as the text encoder takes them: learned words are moved behind its own table
 * where that is longer than the tokenizer's vocabulary. Errors are nn_tokenizer_encode's. */
int nn_prompt_ids(const nn_model *m, const char *prompt, nn_tokenizer_rules rules, int64_t *ids, tn_err *err);

/* ids [B,L], learned [rows, width] or NULL (the rows behind the vocabulary) -> out [B,L,width] */
int nn_encode_text(tn_ctx *c, const nn_text_model *m, const int64_t *ids, int64_t B, int64_t L, const float *learned,
                   int64_t rows, float *out, tn_err *err);

/* image [B,3,H,W] in [-1,1] -> moments [B,2*latent_channels,h,w] (mean, logvar clamped) */
int nn_encode_image(tn_ctx *c, const nn_vae *m, const float *image, int64_t B, int64_t H, int64_t W, float *moments,
                    tn_err *err);
/* latent [n] = (mean + exp(logvar/2) noise) * scaling_factor of one image's moments [2n]; noise NULL: the mean */
void nn_sample_posterior(const nn_vae *m, const tn_kernels *k, const float *moments, const float *noise, float *latent,
                         int64_t n);
/* latent [B,C,h,w] as the UNet sees it (divided by scaling_factor here) -> image [B,3,H,W], about [-1,1] */
int nn_decode_latent(tn_ctx *c, const nn_vae *m, const float *latent, int64_t B, int64_t h, int64_t w, float *image,
                     tn_err *err);

typedef struct nn_sampling {
    const nn_unet *unet;
    nn_sampler *sampler; /* initialised for B*C*h*w elements */
    int64_t B, h, w;
    const float *cond, *uncond; /* context [B,L,D]; uncond NULL or guidance 1: no guidance */
    int64_t L, D;
    float guidance;
    /* The step to begin with, 0 to n_steps: img2img begins mid-way, and with n_steps nothing is done. */
    int first;
    /* Called before the UNet sees the latent of step i, and once behind the last step with step = n_steps; may change
     * it. Nonzero, with err set, ends the run with -1. May be NULL. */
    int (*before)(void *arg, int step, float *latent, tn_err *err);
    /* Called with what the UNet predicts at timesteps[step] for the latent, after classifier-free guidance and before
     * the sampler's step; may change the prediction. Nonzero, with err set, ends the run with -1. May be NULL. The
     * context of the run is in use: one of its own is needed for further computing, here and in before. */
    int (*guide)(void *arg, int step, const float *latent, float *model_output, tn_err *err);
    /* Fills the noise of a step that needs some; may be NULL where none does. */
    void (*noise)(void *arg, int step, float *noise, size_t n);
    /* Called after every step, with the context in use; nonzero stops the run (nn_sample then returns 1). May be NULL. */
    int (*after)(void *arg, int step, const float *model_output, const float *latent);
    void *arg;
} nn_sampling;

/* latent [B,C,h,w]: in, standard normal noise (multiplied by init_noise_sigma here), with first > 0 a latent as noisy as
 * that step expects; out, the result. 0, 1 stopped, -1 error: TN_ENOMEM, TN_ENUMERIC where the latent is no longer
 * finite, what before and guide say. */
int nn_sample(tn_ctx *c, const nn_sampling *s, float *latent, tn_err *err);

/* Whether all n numbers are finite. */
bool nn_all_finite(const float *x, int64_t n);

#endif
