/* DDIM (Song et al. 2020, eq. 12 and 16) and its inversion. Public implementation: diffusers 0.31, scheduling_ddim.py
 * and scheduling_ddim_inverse.py. */
#include "nn/sampler_step.h"
#include <math.h>

/* alphas_cumprod where the chain ends and its inversion begins. */
static float final_alpha(const nn_schedule *schedule) {
    return schedule->config.set_alpha_to_one ? 1.0f : schedule->alphas_cumprod[0];
}

nn_step nn_ddim_step(const nn_schedule *schedule, int t, int stride, double eta) {
    float alpha_prod = schedule->alphas_cumprod[t];
    float alpha_prod_prev = nn_alpha_at(schedule, t - stride, final_alpha(schedule));
    float beta_prod = 1.0f - alpha_prod, beta_prod_prev = 1.0f - alpha_prod_prev;
    float variance = beta_prod_prev / beta_prod * (1.0f - alpha_prod / alpha_prod_prev);
    float sigma = (float)eta * sqrtf(variance);

    nn_step step = {0};
    step.sqrt_alpha = sqrtf(alpha_prod);
    step.sqrt_beta = sqrtf(beta_prod);
    step.from_x0 = sqrtf(alpha_prod_prev);
    /* At zero SNR with eta 1 the difference is zero, and rounding may leave it just below. */
    step.from_eps = sqrtf(fmaxf(beta_prod_prev - sigma * sigma, 0.0f));
    step.from_noise = sigma;
    step.needs_noise = eta > 0;
    return step;
}

/* The same deterministic step taken upwards: the sample is at noise level t - stride, the result at t, the model is
 * asked at t. */
nn_step nn_ddim_inverse_step(const nn_schedule *schedule, int t, int stride) {
    float alpha_prod = nn_alpha_at(schedule, t - stride, final_alpha(schedule));
    float alpha_prod_next = schedule->alphas_cumprod[t];

    nn_step step = {0};
    step.sqrt_alpha = sqrtf(alpha_prod);
    step.sqrt_beta = sqrtf(1.0f - alpha_prod);
    step.from_x0 = sqrtf(alpha_prod_next);
    step.from_eps = sqrtf(1.0f - alpha_prod_next);
    return step;
}
