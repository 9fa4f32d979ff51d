/* Samplers: which timesteps are visited, and how one sample becomes the next, given what the model predicted.
 *
 * A run is
 *     nn_sampler_init(&s, &schedule, num_inference_steps, eta, n, &err);
 *     sample = init_noise_sigma * standard normal noise
 *     for i in 0 .. s.n_steps - 1:
 *         output = model(sample, s.timesteps[i])
 *         noise = nn_sampler_needs_noise(&s, i) ? standard normal noise : NULL
 *         nn_sampler_step(&s, i, output, sample, noise, sample, NULL)
 * in this order of i, because a multistep sampler keeps earlier outputs.
 *
 * Built in: DDPM (Ho et al. 2020), DDIM (Song et al. 2020, 2010.02502) and DDIM inversion, as in diffusers 0.31. Every
 * coefficient and element is computed in float32 in its order, so that chains equal PyTorch's bit for bit
 * (but for fixed_small_log, which is computed without log and exp). */
#ifndef NN_SAMPLER_H
#define NN_SAMPLER_H

#include "nn/schedule.h"

struct nn_step;

typedef struct nn_sampler {
    int n_steps;             /* evaluations of the model; a sampler may need more than num_inference_steps */
    double *timesteps;       /* [n_steps], what the model receives; whole numbers but for samplers in sigma */
    double init_noise_sigma; /* standard deviation of the first sample */
    nn_schedule_config config;
    size_t n;              /* elements of a sample */
    struct nn_step *steps; /* [n_steps] */
} nn_sampler;

/* Plans a run of the sampler that the schedule's configuration names, over samples of n elements. eta, 0 to 1, is the
 * share of DDPM's noise in DDIM's step (eq. 16); the other samplers ignore it. DDIM inversion visits the timesteps
 * upwards and turns an image's latent into the noise that DDIM would make it from. The schedule may be freed
 * afterwards. TN_EUSAGE: eta or num_inference_steps out of range; TN_EINPUT: timesteps beyond the schedule;
 * TN_EUNSUPPORTED: a step that would divide by zero (epsilon prediction at zero SNR); TN_ENOMEM. */
int nn_sampler_init(nn_sampler *s, const nn_schedule *schedule, int num_inference_steps, double eta, size_t n,
                    tn_err *err);
void nn_sampler_free(nn_sampler *s);

/* Whether step i adds noise. */
bool nn_sampler_needs_noise(const nn_sampler *s, int i);

/* Step i, 0 <= i < n_steps. prev_sample (the next, less noisy one) may be sample; pred_original_sample, the prediction
 * of z_0 (clipped where the configuration says so), may be NULL; noise may be NULL where it is not needed. */
void nn_sampler_step(nn_sampler *s, int i, const float *model_output, const float *sample, const float *noise,
                     float *prev_sample, float *pred_original_sample);

/* Classifier-free guidance (Ho & Salimans 2022, 2207.12598, as used by Stable Diffusion): out = uncond + scale * (cond
 * - uncond), n elements; out may be one of the inputs. */
void nn_guidance(const float *uncond, const float *cond, float scale, float *out, size_t n);

#endif
