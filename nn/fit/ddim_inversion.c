#include "nn/fit/ddim_inversion.h"

#include "nn/sampler_step.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* DDIM's own plan turned round: its timesteps upwards, and the coefficients of each step. */
static void turn_round(nn_sampler *s, const nn_schedule *schedule) {
    int S = s->n_steps;
    for (int i = 0; i < S / 2; i++) {
        double t = s->timesteps[i];
        s->timesteps[i] = s->timesteps[S - 1 - i], s->timesteps[S - 1 - i] = t;
    }
    for (int i = 0; i + 1 < S; i++) {
        float here = schedule->alphas_cumprod[(int)s->timesteps[i]],
              next = schedule->alphas_cumprod[(int)s->timesteps[i + 1]];
        s->steps[i] = (nn_step){.sqrt_alpha = sqrtf(here),
                                .sqrt_beta = sqrtf(1.0f - here),
                                .from_x0 = sqrtf(next),
                                .from_eps = sqrtf(1.0f - next)};
    }
    s->n_steps = S - 1; /* from the last timestep there is nowhere to go */
}

int nn_ddim_inversion_init(nn_sampler *s, const nn_schedule *schedule, nn_inversion_rule rule, int steps, size_t n,
                           tn_err *err) {
    nn_schedule ddim = *schedule; /* shares the tables */
    ddim.config.scheduler = rule == NN_INVERT_DIFFUSERS ? NN_SCHEDULER_DDIM_INVERSE : NN_SCHEDULER_DDIM;
    if (rule == NN_INVERT_DIFFUSERS) return nn_sampler_init(s, &ddim, steps, 0.0, n, err);
    if (steps < 2) return tn_fail(err, TN_EUSAGE, "DDIM inversion: expected at least 2 steps, got %d", steps);
    if (nn_sampler_init(s, &ddim, steps, 0.0, n, err)) return -1;
    turn_round(s, schedule);
    return 0;
}

static size_t elements(const nn_sampling *s) {
    return (size_t)(s->B * nn_unet_cfg(s->unet)->in_channels * s->h * s->w);
}

/* `like` with a sampler of its own and nothing drawn. */
static int run(tn_ctx *c, const nn_sampling *like, nn_sampler *sampler, float *latent, tn_err *err) {
    nn_sampling s = {.unet = like->unet,
                     .sampler = sampler,
                     .B = like->B,
                     .h = like->h,
                     .w = like->w,
                     .cond = like->cond,
                     .uncond = like->uncond,
                     .L = like->L,
                     .D = like->D,
                     .guidance = like->guidance,
                     .after = like->after,
                     .arg = like->arg};
    return nn_sample(c, &s, latent, err);
}

int nn_ddim_invert(tn_ctx *c, const nn_sampling *like, const nn_schedule *schedule, nn_inversion_rule rule, int steps,
                   float *latent, tn_err *err) {
    nn_sampler sampler;
    if (nn_ddim_inversion_init(&sampler, schedule, rule, steps, elements(like), err)) return -1;
    int r = run(c, like, &sampler, latent, err);
    nn_sampler_free(&sampler);
    return r;
}

int nn_ddim_round_trip(tn_ctx *c, const nn_sampling *like, const nn_schedule *schedule, nn_inversion_rule rule,
                       int steps, const float *latent, float *noise, float *back, double *mse, tn_err *err) {
    size_t n = elements(like);
    nn_schedule ddim = *schedule;
    nn_sampler sampler;
    ddim.config.scheduler = NN_SCHEDULER_DDIM;
    memcpy(noise, latent, n * sizeof *noise);
    int r = nn_ddim_invert(c, like, schedule, rule, steps, noise, err);
    if (r) return r;
    memcpy(back, noise, n * sizeof *back);
    if (nn_sampler_init(&sampler, &ddim, steps, 0.0, n, err)) return -1;
    r = run(c, like, &sampler, back, err);
    nn_sampler_free(&sampler);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += ((double)back[i] - (double)latent[i]) * ((double)back[i] - (double)latent[i]);
    *mse = sum / (double)n;
    return r;
}
