/* Pictures made from another picture: by strength (SDEdit, Meng et al. 2021, 2108.01073; "img2img"), within a mask
 * (Blended latent diffusion, Avrahami et al. 2022, 2206.02779), and with another picture's low band (ILVR, Choi et al.
 * 2021, 2108.02938). All three are what happens between the steps of nn_sample, and may be combined.
 *
 *     nn_edit_open(m, &config, &picture, &mask, &edit, &err)           checks, masks
 *     nn_edit_encode(c, m, &edit, &err)                                the picture's latent
 *     nn_edit_run_open(&run, &edit, m, &schedule, &sampler, B, seed0, &err)
 *     nn_edit_begin(&run, latent);                                     noise -> what the first step begins with
 *     nn_sample with .first = nn_edit_first(..), nn_edit_before, nn_edit_guide
 *     nn_edit_develop(&run, decoded)                                   the decoder's output -> the picture
 *     nn_edit_fit(...)                                                 with NN_BACKGROUND_DECODER
 *
 * gen_pictures of tools/generate.h does so. */
#ifndef NN_EDIT_H
#define NN_EDIT_H

#include "nn/edit/decoder.h"
#include "nn/image/image.h"
#include "tensor/rng.h"

/* What is kept where the mask is 0. */
typedef enum {
    NN_BACKGROUND_LATENT, /* the picture's latent: its pixels as the autoencoder gives them */
    NN_BACKGROUND_PASTE,  /* the picture's pixels */
    NN_BACKGROUND_DECODER /* its pixels as a decoder fitted to them gives them: no seam */
} nn_background;

typedef struct nn_edit_config {
    int64_t width, height; /* of the result; 0: the picture's own */
    int64_t steps, first;  /* steps of the sampler; the one to begin with, 0 (from noise) to steps */
    bool invert;           /* of the mask: black changes */
    int64_t shrink;        /* the mask begins dilated and shrinks so many times to its own shape */
    nn_background background;
    int64_t decoder_steps;  /* of NN_BACKGROUND_DECODER; 0: NN_DECODER_STEPS */
    int64_t low_pass;       /* N of nn_low_pass; 0: none */
    bool low_pass_pixels;   /* in pixels, by way of the autoencoder in each step; else in the latent */
    int64_t low_pass_until; /* the low band is exchanged after the steps up to this one; -1: after all */
} nn_edit_config;

/* The step to begin with so that int(steps * strength) are left, as diffusers' img2img counts; strength 0 to 1. */
int64_t nn_edit_first(int64_t steps, double strength);

typedef struct nn_edit {
    nn_edit_config cfg; /* width and height set */
    nn_image picture;   /* width x height */
    float *pixels;      /* [3,height,width], the same in [-1,1] */
    float *latent;      /* [C,h,w], its mean latent as the UNet sees it; once encoded */
    int64_t C, h, w;
    unsigned char *mask;  /* [height,width]; NULL: none, everything changes */
    unsigned char *masks; /* [shrink + 1, h,w], the widest first, NULL with mask */
} nn_edit;

/* Checks the settings against the picture and makes the masks. mask may be NULL, else it has the picture's own size. A
 * picture of another size than width x height is resized (Lanczos). TN_EUSAGE: a size that does not fit the autoencoder,
 * a mask of another size, a low band that does not divide the size, what needs a mask and has none; TN_ENOMEM. Free also
 * after a failure. */
int nn_edit_open(const nn_model *m, const nn_edit_config *cfg, const nn_image *picture, const nn_image *mask,
                 nn_edit *out, tn_err *err);
/* Encodes the picture: the posterior's mean. TN_ENUMERIC, TN_ENOMEM. */
int nn_edit_encode(tn_ctx *c, const nn_model *m, nn_edit *e, tn_err *err);
void nn_edit_free(nn_edit *e); /* leaves it zeroed */
/* Whether the mask leaves the sampler nothing to change: no latent pixel lies in it. */
bool nn_edit_is_empty(const nn_edit *e);

/* ---- one batch of samples ---- */

typedef struct nn_edit_run {
    const nn_edit *e;
    const nn_model *m;
    const nn_schedule *schedule;
    const nn_sampler *sampler;
    int64_t B;
    tn_rng *rng;  /* [B] */
    float *noisy; /* [C,h,w], the picture at a step's level of noise */
    float *z0;    /* [B,C,h,w], what is added to the latents behind the next step; NULL but with low_pass_pixels */
    float *image; /* [3,H,W], decoded; NULL likewise */
    bool pending; /* z0 is filled */
    tn_ctx own;   /* for the autoencoder: that of the sampling loop is in use */
} nn_edit_run;

/* B samples, sample i of seed + i. The noise that the picture gets in each step is from a generator of its own, torch's
 * seeded with seed + i + 2^31, so that the sampler's noise is that of a run without a picture. like: kernels, threads
 * and form of convolution. Everything else must outlive the run. TN_ENOMEM. */
int nn_edit_run_open(nn_edit_run *r, const nn_edit *e, const nn_model *m, const nn_schedule *schedule,
                     const nn_sampler *sampler, int64_t B, uint64_t seed, const tn_ctx *like, tn_err *err);
void nn_edit_run_free(nn_edit_run *r);
/* latent [B,C,h,w]: in, standard normal noise; out, what step `first` begins with. */
void nn_edit_begin(const nn_edit_run *r, float *latent);
/* To be called as `before` and `guide` of nn_sampling. */
int nn_edit_before(nn_edit_run *r, int step, float *latent, tn_err *err);
int nn_edit_guide(nn_edit_run *r, int step, const float *latent, float *model_output, tn_err *err);

/* ---- pictures ---- */

/* What is left to do with the decoder's output [3,H,W]: the low band in pixels; and in bytes, the background pasted. */
int nn_edit_develop(const nn_edit *e, float *image, nn_image *out, tn_err *err);
/* The background by a decoder fitted to it, for the latent [C,h,w] of one result; *image is replaced. progress(arg,
 * step, loss) may be NULL. */
int nn_edit_fit(tn_ctx *c, const nn_model *m, const nn_edit *e, const float *latent, nn_image *image,
                void (*progress)(void *arg, int64_t step, double loss), void *arg, tn_err *err);

#endif
