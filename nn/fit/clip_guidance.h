/* CLIP-guided diffusion (Crowson 2021, "CLIP Guided Diffusion"; Dhariwal & Nichol 2105.05233, eq. 14): at every step
 * the prediction of the finished picture is decoded and shown to CLIP, and eps is moved along the gradient of its
 * distance from a sentence or a picture. In a latent model the gradient goes back through the decoder. The diffusion
 * model need not know the sentence: in the paper (Gal et al. 2208.01618, 4.2) this is one of the baselines. */
#ifndef NN_CLIP_GUIDANCE_H
#define NN_CLIP_GUIDANCE_H

#include "nn/fit/clip_view.h"
#include "nn/model/vae.h"
#include "nn/schedule.h"

typedef struct nn_clip_guidance {
    const nn_vae *vae;
    const nn_clip *clip;
    const nn_schedule *schedule; /* of the run */
    const float *target;         /* [P], unit: CLIP's features of what is wanted */
    double scale;                /* eps' = eps + scale sqrt(1 - abar) g; 0: none */
    int64_t cutouts;             /* 0: CLIP sees the whole picture */
    uint64_t seed;               /* of the cutouts: sample i at a step draws from (seed + i, step) */
    int64_t h, w;                /* of a latent */
    tn_ctx *c;                   /* not the one that the run is in */
    double loss;                 /* of the last sample that was looked at; for the curious */
} nn_clip_guidance;

/* x0 [C,h,w], a latent as the UNet sees it -> grad [C,h,w] of 2 asin(||f(D(x0)) - target|| / 2)^2, the mean over the
 * views, and the loss itself in g->loss. TN_ENOMEM; TN_ENUMERIC where it is not finite. */
int nn_clip_guidance_gradient(nn_clip_guidance *g, const nn_views *views, const float *x0, float *grad, tn_err *err);

/* Changes what a model predicted for latent [B,C,h,w] at timestep t as if eps had become eps + scale sqrt(1 - abar) g,
 * g the gradient with respect to the predicted x0 (for eps, v and x0 predictions alike). With scale 0 nothing is
 * touched. For nn_sampling's guide. Samples do not depend on each other. Errors as above. */
int nn_clip_guidance_apply(nn_clip_guidance *g, int step, double t, int64_t B, const float *latent, float *model_output,
                           tn_err *err);

/* What it computes for one sample, on a context that only counts: for nn_measure. `guidance` is an nn_clip_guidance. Of
 * weights nn_measure sees those of the decoder; nn_clip_guidance_weights are CLIP's, those of the image tower, in
 * bytes. */
int nn_clip_guidance_dry(tn_ctx *c, void *guidance, tn_err *err);
size_t nn_clip_guidance_weights(const nn_clip *m);

#endif
