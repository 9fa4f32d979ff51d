/* Latents found by optimisation through the decoder, which stays as it is.
 *
 * To a picture: GAN-inversion's argmin_z ||D(z) - x||^2 (Zhu et al. 1609.03552; Abdal et al. 1904.03189) with this
 * decoder for the generator, from the encoder's own answer. Settings of the public blended-latent-diffusion code: Adam,
 * rate 0.1, 75 steps, on latents as the UNet sees them. To a sentence: VQGAN-CLIP (Crowson et al. 2204.08583): the
 * cutouts of D(z) are moved towards the sentence in CLIP's space. */
#ifndef NN_LATENT_FIT_H
#define NN_LATENT_FIT_H

#include "nn/fit/clip_view.h"
#include "nn/image/image.h"
#include "nn/model/vae.h"

/* Blocks of the decoder with at least so many inputs run again in backward instead of keeping what they computed:
 * pictures up to about 128 x 128 are kept whole, for larger ones memory matters more. The bits are the same. */
enum { NN_FIT_CHECKPOINT = 1 << 20 };

typedef struct nn_latent_fit {
    int64_t steps;
    double lr;
    /* Called after each step with the loss before it; nonzero stops. May be NULL. */
    int (*after)(void *arg, int64_t step, double loss);
    void *arg;
    double first,
        last; /* out: mean squared error of [-1,1], clamped, at the start and of the result; the loss of CLIP */
} nn_latent_fit;

/* latent [C,h,w]: in, the start; out, the best of all iterates, start included, by the error of the picture (clamped to
 * [-1,1]): never worse than the start. image [3,H,W] in [-1,1]. 0, 1 stopped, -1: TN_ENOMEM, TN_ENUMERIC. */
int nn_latent_fit_image(tn_ctx *c, const nn_vae *vae, nn_latent_fit *f, const float *image, float *latent, int64_t h,
                        int64_t w, tn_err *err);
/* latent [C,h,w]: in, the start; out, the last iterate. target [P] is a unit vector; `cutouts` squares are drawn from
 * *g at each step. first and last are the loss of the whole picture, without cutouts. */
int nn_latent_fit_clip(tn_ctx *c, const nn_vae *vae, const nn_clip *clip, nn_latent_fit *f, const float *target,
                       int64_t cutouts, tn_rng *g, float *latent, int64_t h, int64_t w, tn_err *err);

/* 10 log10(255^2 / mean squared difference) of two pictures of one size, in decibel; infinity where they are equal. */
double nn_psnr(const nn_image *a, const nn_image *b);

#endif
