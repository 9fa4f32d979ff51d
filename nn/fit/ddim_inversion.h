/* DDIM inversion: from a picture's latent to the noise that DDIM makes it from (Song et al. 2020, 2010.02502,
 * section 4.3; Dhariwal & Nixon 2105.05233, appendix F). A step of DDIM, solved for its input, needs the prediction at
 * that input, which is not known yet; taking it where the chain stands is exact in the limit of many steps. With
 * classifier-free guidance the prediction changes too fast along the way for that: the paper (Gal et al. 2208.01618,
 * appendix A) shows what becomes of it. */
#ifndef NN_DDIM_INVERSION_H
#define NN_DDIM_INVERSION_H

#include "nn/pipeline.h"

/* Where the prediction for the step from noise level a_i to a_{i+1} is taken. Timesteps are DDIM's, upwards.
 *
 * OFFICIAL (rinongal/textual_inversion): at tau_i, where the sample is:
 *     x_{i+1} = sqrt(a_{i+1}) x0(x_i, tau_i) + sqrt(1 - a_{i+1}) eps(x_i, tau_i),
 * from tau_0 to tau_{S-1}, S - 1 predictions; the picture's latent counts as the sample at tau_0.
 * DIFFUSERS (DDIMInverseScheduler): at tau_{i+1}, where the sample goes to; S predictions, the first step from below
 * tau_0. */
typedef enum { NN_INVERT_OFFICIAL, NN_INVERT_DIFFUSERS } nn_inversion_rule;

/* Plans the inversion of a run of DDIM of `steps` steps over samples of n elements; the sampler is for nn_sample. The
 * schedule is DDIM's. Errors are nn_sampler_init's; TN_EUSAGE for fewer than two steps. */
int nn_ddim_inversion_init(nn_sampler *s, const nn_schedule *schedule, nn_inversion_rule rule, int steps, size_t n,
                           tn_err *err);

/* latent [B,C,h,w], in: of pictures, out: noise. `like` says what to invert with (unet, B, h, w, cond, uncond, L, D,
 * guidance, and after with its arg); its sampler is not used. 0, 1 stopped by after, -1. */
int nn_ddim_invert(tn_ctx *c, const nn_sampling *like, const nn_schedule *schedule, nn_inversion_rule rule, int steps,
                   float *latent, tn_err *err);

/* There and back with the same text and guidance: latent [B,C,h,w] stays, `noise` and `back` (of its size) receive x_T
 * and what DDIM (eta 0) makes of it; *mse the mean squared difference of back and latent. As nn_ddim_invert otherwise.
 */
int nn_ddim_round_trip(tn_ctx *c, const nn_sampling *like, const nn_schedule *schedule, nn_inversion_rule rule,
                       int steps, const float *latent, float *noise, float *back, double *mse, tn_err *err);

#endif
