/* A decoder fitted to one picture: the background of an edit as it was, without a seam (Blended latent diffusion,
 * Avrahami et al. 2022, 2206.02779, section 3.3). */
#ifndef NN_EDIT_DECODER_H
#define NN_EDIT_DECODER_H

#include "nn/pipeline.h"

typedef struct nn_decoder_fit {
    const float *latent;       /* [C,h,w] of the edited picture, as the UNet gives it */
    int64_t h, w;
    const float *foreground;   /* [3,H,W], what the decoder makes of it, in [-1,1] */
    const float *background;   /* [3,H,W], the picture that was edited */
    const unsigned char *mask; /* [H,W], 1 is foreground */
    int64_t steps;
    double rate;         /* of Adam */
    double preservation; /* weight of the background's part of the loss */
    /* Called after each step; may be NULL. */
    void (*progress)(void *arg, int64_t step, double loss);
    void *arg;
} nn_decoder_fit;

/* The settings of the public code: 75 steps of 1e-4, the background counts a hundredfold. */
enum { NN_DECODER_STEPS = 75, NN_DECODER_PRESERVATION = 100 };
#define NN_DECODER_RATE 1e-4

/* Minimises mean(m (D(z) - foreground)^2) + preservation mean((1 - m) (D(z) - background)^2) over the weights of the
 * decoder, in a copy of the autoencoder of folder `dir`, and decodes the latent with it: image [3,H,W]. The public code
 * encodes the edited picture again and fits that; here it is the latent that the picture was decoded from, as in the
 * paper. TN_ENUMERIC: the loss is not finite; TN_ENOMEM, and what loading brings. */
int nn_decoder_refine(tn_ctx *c, const char *dir, const nn_decoder_fit *f, float *image, tn_err *err);

/* What the copy takes besides the context: weights, gradients and Adam's two moments. In a dry run (for nn_measure)
 * nn_decoder_refine touches neither pictures nor mask, which may be NULL. */
size_t nn_decoder_copy_bytes(const nn_vae *m);

#endif
