/* Timesteps, the common step, guidance. */
#include "nn/sampler.h"
#include "nn/sampler_step.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The i-th of n timesteps, from the noisiest down, with numpy's arithmetic: where N * i / n ends in .5 the rounding
 * depends on it. Half rounds to even. For a few n (61 of 1000) diffusers' trailing timesteps get one entry too many,
 * -1; not here. */
static double timestep_at(const nn_schedule_config *config, int i, int n) {
    int total = config->num_train_timesteps;
    switch (config->timestep_spacing) {
    case NN_SPACING_LEADING: return (double)(n - 1 - i) * (total / n) + config->steps_offset;
    case NN_SPACING_LINSPACE:
        if (i == 0 && n > 1) return total - 1;
        return n > 1 ? rint((n - 1 - i) * ((double)(total - 1) / (n - 1))) : 0;
    case NN_SPACING_TRAILING: {
        /* numpy.arange repeats its first difference, rounding included. */
        double difference = ((double)total - (double)total / n) - (double)total;
        return rint((double)total + i * difference) - 1;
    }
    default: TN_BUG("timestep_spacing %d", config->timestep_spacing); return 0;
    }
}

static nn_step plan_step(const nn_schedule *schedule, int t, int stride, double eta) {
    switch (schedule->config.scheduler) {
    case NN_SCHEDULER_DDPM: return nn_ddpm_step(schedule, t, stride);
    case NN_SCHEDULER_DDIM: return nn_ddim_step(schedule, t, stride, eta);
    case NN_SCHEDULER_DDIM_INVERSE: return nn_ddim_inverse_step(schedule, t, stride);
    default: TN_BUG("scheduler class %d", schedule->config.scheduler); return (nn_step){0};
    }
}

/* false where the prediction would divide by zero or a coefficient is none. */
static bool step_is_defined(const nn_step *step, int prediction_type) {
    if (prediction_type == NN_PREDICT_EPSILON && !(step->sqrt_alpha > 0)) return false;
    if (prediction_type == NN_PREDICT_SAMPLE && !(step->sqrt_beta > 0)) return false;
    return isfinite(step->from_x0) && isfinite(step->from_eps) && isfinite(step->from_sample) &&
           isfinite(step->from_noise);
}

/* Fills timesteps and steps. Every listed t steps by num_train_timesteps / num_inference_steps, also where the listed
 * ones are spaced otherwise: so does the public code. */
static int plan(nn_sampler *s, const nn_schedule *schedule, double eta, tn_err *err) {
    int total = s->config.num_train_timesteps, stride = total / s->n_steps;
    bool upwards = s->config.scheduler == NN_SCHEDULER_DDIM_INVERSE;
    for (int i = 0; i < s->n_steps; i++) {
        int t = (int)timestep_at(&s->config, upwards ? s->n_steps - 1 - i : i, s->n_steps);
        if (t < 0 || t >= total) {
            return tn_fail(err, TN_EINPUT, "scheduler: %d inference steps with steps_offset %d need timestep %d, "
                           "expected 0 to %d (take fewer steps)", s->n_steps, s->config.steps_offset, t, total - 1);
        }
        s->timesteps[i] = t;
        s->steps[i] = plan_step(schedule, t, stride, eta);
        if (!step_is_defined(&s->steps[i], s->config.prediction_type)) {
            return tn_fail(err, TN_EUNSUPPORTED, "scheduler: the step at timestep %d divides by zero with this "
                           "prediction_type (alphas_cumprod is %g there)", t, (double)schedule->alphas_cumprod[t]);
        }
    }
    return 0;
}

int nn_sampler_init(nn_sampler *s, const nn_schedule *schedule, int num_inference_steps, double eta, size_t n,
                    tn_err *err) {
    int total = schedule->config.num_train_timesteps;
    if (num_inference_steps < 1 || num_inference_steps > total) {
        return tn_fail(err, TN_EUSAGE, "scheduler: number of inference steps: expected 1 to %d, got %d", total,
                       num_inference_steps);
    }
    if (!(eta >= 0 && eta <= 1)) return tn_fail(err, TN_EUSAGE, "scheduler: eta: expected 0 to 1, got %g", eta);
    nn_sampler made = {.n_steps = num_inference_steps, .init_noise_sigma = 1.0, .config = schedule->config, .n = n};
    made.timesteps = malloc((size_t)made.n_steps * sizeof *made.timesteps);
    made.steps = malloc((size_t)made.n_steps * sizeof *made.steps);
    if (!made.timesteps || !made.steps) {
        nn_sampler_free(&made);
        return tn_fail(err, TN_ENOMEM, "scheduler: no memory for %d steps", num_inference_steps);
    }
    if (plan(&made, schedule, eta, err)) {
        nn_sampler_free(&made);
        return -1;
    }
    *s = made;
    return 0;
}

void nn_sampler_free(nn_sampler *s) {
    free(s->timesteps);
    free(s->steps);
    s->timesteps = NULL;
    s->steps = NULL;
}

bool nn_sampler_needs_noise(const nn_sampler *s, int i) {
    TN_REQUIRE(i >= 0 && i < s->n_steps);
    return s->steps[i].needs_noise;
}

/* z_0 and eps of one element, from whichever of eps, v and z_0 the model gives. */
static void predict(const nn_step *step, int prediction_type, float output, float sample, float *x0, float *eps) {
    switch (prediction_type) {
    case NN_PREDICT_EPSILON:
        *x0 = (sample - step->sqrt_beta * output) / step->sqrt_alpha;
        *eps = output;
        return;
    case NN_PREDICT_V:
        *x0 = step->sqrt_alpha * sample - step->sqrt_beta * output;
        *eps = step->sqrt_alpha * output + step->sqrt_beta * sample;
        return;
    default: /* NN_PREDICT_SAMPLE */
        *x0 = output;
        *eps = (sample - step->sqrt_alpha * output) / step->sqrt_beta;
        return;
    }
}

void nn_sampler_step(nn_sampler *s, int i, const float *model_output, const float *sample, const float *noise,
                     float *prev_sample, float *pred_original_sample) {
    TN_REQUIRE(noise || !nn_sampler_needs_noise(s, i));
    const nn_step *step = &s->steps[i];
    float limit = s->config.clip_sample ? (float)s->config.clip_sample_range : INFINITY;
    for (size_t k = 0; k < s->n; k++) {
        float x0, eps;
        predict(step, s->config.prediction_type, model_output[k], sample[k], &x0, &eps);
        /* Only z_0 is clipped, eps stays what was predicted. NaN passes through both comparisons. */
        if (x0 > limit) x0 = limit;
        if (x0 < -limit) x0 = -limit;
        float prev = step->from_x0 * x0 + step->from_eps * eps + step->from_sample * sample[k];
        if (step->needs_noise) prev += step->from_noise * noise[k];
        prev_sample[k] = prev;
        if (pred_original_sample) pred_original_sample[k] = x0;
    }
}

void nn_guidance(const float *uncond, const float *cond, float scale, float *out, size_t n) {
    for (size_t k = 0; k < n; k++) out[k] = uncond[k] + scale * (cond[k] - uncond[k]);
}
