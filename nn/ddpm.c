/* DDPM: ancestral sampling from the posterior, Ho et al. 2020 eq. 6 and 7, generalised to strides (a step of several
 * training timesteps has alpha = abar_t / abar_s). Public implementation: diffusers 0.31, scheduling_ddpm.py. */
#include "nn/sampler_step.h"
#include <math.h>

/* The standard deviation of the noise. The lower clamp is the public one; it leaves 1e-10 of noise in a step whose
 * target has none. exp(0.5 log variance) of fixed_small_log is the square root of the same number. */
static float noise_scale(int variance_type, float beta_prod, float beta_prod_prev, float beta) {
    switch (variance_type) {
    case NN_VARIANCE_FIXED_SMALL:
    case NN_VARIANCE_FIXED_SMALL_LOG: return sqrtf(fmaxf(beta_prod_prev / beta_prod * beta, 1e-20f));
    case NN_VARIANCE_FIXED_LARGE: return sqrtf(beta);
    default: TN_BUG("variance_type %d", variance_type); return 0;
    }
}

nn_step nn_ddpm_step(const nn_schedule *schedule, int t, int stride) {
    float alpha_prod = schedule->alphas_cumprod[t];
    float alpha_prod_prev = nn_alpha_at(schedule, t - stride, 1.0f);
    float beta_prod = 1.0f - alpha_prod, beta_prod_prev = 1.0f - alpha_prod_prev;
    float alpha = alpha_prod / alpha_prod_prev;
    float beta = 1.0f - alpha;

    nn_step step = {0};
    step.sqrt_alpha = sqrtf(alpha_prod);
    step.sqrt_beta = sqrtf(beta_prod);
    step.from_x0 = sqrtf(alpha_prod_prev) * beta / beta_prod;
    step.from_sample = sqrtf(alpha) * beta_prod_prev / beta_prod;
    step.needs_noise = t > 0;
    if (step.needs_noise) {
        step.from_noise = noise_scale(schedule->config.variance_type, beta_prod, beta_prod_prev, beta);
    }
    return step;
}
