/* What the samplers share: every step of DDPM and DDIM is linear in the predicted z_0 and eps and the sample. */
#ifndef NN_SAMPLER_STEP_H
#define NN_SAMPLER_STEP_H

#include "nn/schedule.h"

/* sample = sqrt_alpha z_0 + sqrt_beta eps gives the prediction;
 * prev = from_x0 z_0 + from_eps eps + from_sample sample + from_noise noise, summed in this order, is the step. */
typedef struct nn_step {
    float sqrt_alpha, sqrt_beta;
    float from_x0, from_eps, from_sample, from_noise;
    bool needs_noise;
} nn_step;

/* alphas_cumprod[t], and `beyond` for the t < 0 that lie before the first training step. */
static inline float nn_alpha_at(const nn_schedule *schedule, int t, float beyond) {
    return t >= 0 ? schedule->alphas_cumprod[t] : beyond;
}

/* The coefficients of the step from timestep t to t - stride (DDIM inversion: from t - stride to t). */
nn_step nn_ddpm_step(const nn_schedule *schedule, int t, int stride);
nn_step nn_ddim_step(const nn_schedule *schedule, int t, int stride, double eta);
nn_step nn_ddim_inverse_step(const nn_schedule *schedule, int t, int stride);

#endif
