/* The noise schedule of a diffusion model: what scheduler_config.json says, the tables that follow from it, and the
 * training side of the process (adding noise, the target of the loss). Sampling is in nn/sampler.h.
 *
 * Notation, Ho et al. 2020 (2006.11239): z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps, abar_t the product of (1 -
 * beta_s) over s <= t, t = 0 .. num_train_timesteps - 1. abar is called alphas_cumprod as in diffusers.
 *
 * The tables are float32 and equal those of diffusers 0.31 on PyTorch bit for bit, because models were trained and are
 * compared with those; the reasons for each rounding are given where it happens. */
#ifndef NN_SCHEDULE_H
#define NN_SCHEDULE_H

#include "tensor/err.h"
#include "tensor/io/json.h"
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    NN_SCHEDULER_DDPM,
    NN_SCHEDULER_DDIM,
    NN_SCHEDULER_DDIM_INVERSE,
    NN_SCHEDULER_OTHER,  /* a class of diffusers that is not built in */
    NN_SCHEDULER_UNKNOWN /* no such class is known here */
} nn_scheduler_class;

typedef enum {
    NN_BETA_LINEAR,        /* linspace(beta_start, beta_end) */
    NN_BETA_SCALED_LINEAR, /* linspace(sqrt(beta_start), sqrt(beta_end))^2; CompVis calls this one "linear" */
    NN_BETA_SQUAREDCOS,    /* Nichol & Dhariwal 2021 (2102.09672) eq. 17, capped at 0.999 */
    NN_BETA_SIGMOID        /* sigmoid over [-6, 6], scaled to [beta_start, beta_end] */
} nn_beta_schedule;

typedef enum {
    NN_PREDICT_EPSILON, /* the noise */
    NN_PREDICT_V,       /* sqrt(abar) eps - sqrt(1 - abar) z_0: Salimans & Ho 2022 (2202.00512) */
    NN_PREDICT_SAMPLE   /* z_0 */
} nn_prediction_type;

/* Which of the training timesteps are visited: Lin et al. 2023 (2305.08891) table 2. */
typedef enum { NN_SPACING_LEADING, NN_SPACING_LINSPACE, NN_SPACING_TRAILING } nn_timestep_spacing;

/* The variance of DDPM's reverse step. */
typedef enum {
    NN_VARIANCE_FIXED_SMALL,     /* of the posterior q(z_s | z_t, z_0) */
    NN_VARIANCE_FIXED_SMALL_LOG, /* the same by way of its logarithm */
    NN_VARIANCE_FIXED_LARGE      /* beta */
} nn_variance_type;

/* One scheduler_config.json. Field names are the keys of the file. */
typedef struct nn_schedule_config {
    int scheduler;           /* nn_scheduler_class: DDPM, DDIM or DDIM_INVERSE */
    int num_train_timesteps; /* 1 .. 1000000 */
    double beta_start, beta_end;
    int beta_schedule;    /* nn_beta_schedule */
    float *trained_betas; /* [num_train_timesteps], owned, in place of the four above; NULL where the file has none */
    int prediction_type;  /* nn_prediction_type */
    int timestep_spacing; /* nn_timestep_spacing */
    int steps_offset;     /* added to the timesteps of leading spacing */
    int variance_type;    /* nn_variance_type; DDPM */
    bool set_alpha_to_one; /* before the first timestep alphas_cumprod is 1, not alphas_cumprod[0]; DDIM, its inverse */
    bool clip_sample;      /* clamp the predicted z_0 to +-clip_sample_range */
    double clip_sample_range;
    bool rescale_betas_zero_snr; /* make the last alphas_cumprod zero: Lin et al. 2023, algorithm 1 */
    char warning[256];           /* what was ignored, in words; "" where nothing was */
} nn_schedule_config;

/* What a class name of diffusers ("DDIMScheduler") means here. */
nn_scheduler_class nn_scheduler_class_of(const char *name);

/* The defaults of diffusers 0.31, the same for the three classes built in: 1000 steps, linear 1e-4 .. 0.02, epsilon,
 * leading, offset 0, clip_sample, set_alpha_to_one. They are not Stable Diffusion's settings; its files have those. */
void nn_schedule_config_default(nn_schedule_config *config, nn_scheduler_class scheduler);

/* Reads the object of a scheduler_config.json as the class it names, or as class_override ("DDPMScheduler" for
 * training) where that is not NULL. A missing key takes the class default, a key that only other classes read is
 * ignored, an unknown one is named in config->warning. TN_EUNSUPPORTED: a class, or a value of a known key, that is not
 * built in, by name; TN_EINPUT: wrong types, numbers out of range. *config is untouched on failure. */
int nn_schedule_config_parse(const tn_jval *json, const char *class_override, nn_schedule_config *config, tn_err *err);
void nn_schedule_config_free(nn_schedule_config *config);

/* What StableDiffusionPipeline does to any configuration it is given: steps_offset 1, clip_sample false. Early files of
 * the hub lack both, and without this their timesteps and pictures differ from everyone else's. Not for configurations
 * that are to be taken literally. */
void nn_schedule_config_for_stable_diffusion(nn_schedule_config *config);

typedef struct nn_schedule {
    nn_schedule_config config; /* trained_betas NULL: they are in betas */
    float *betas;              /* [num_train_timesteps], after rescaling */
    float *alphas_cumprod;     /* [num_train_timesteps] */
} nn_schedule;

/* Computes the tables. config may be freed afterwards. TN_ENOMEM; TN_EINPUT where the betas give no valid
 * alphas_cumprod. */
int nn_schedule_init(nn_schedule *schedule, const nn_schedule_config *config, tn_err *err);
void nn_schedule_free(nn_schedule *schedule);

/* out = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise, n elements; out may be one of the inputs. 0 <= t <
 * num_train_timesteps. */
void nn_add_noise(const nn_schedule *schedule, const float *x0, const float *noise, int t, float *out, size_t n);
/* out = sqrt(abar_t) noise - sqrt(1 - abar_t) x0: the target of v-prediction. */
void nn_velocity(const nn_schedule *schedule, const float *x0, const float *noise, int t, float *out, size_t n);
/* What the model is trained to give for nn_add_noise's result: the noise, the velocity or x0, by prediction_type. */
void nn_training_target(const nn_schedule *schedule, const float *x0, const float *noise, int t, float *out, size_t n);
/* What the model's output says of x0: the solution of the equations above, out = (sample - sqrt(1 - abar_t) eps) /
 * sqrt(abar_t) for epsilon prediction. abar_t > 0 but for prediction of x0 itself. out may be one of the inputs. */
void nn_predict_x0(const nn_schedule *schedule, const float *sample, const float *model_output, int t, float *out,
                   size_t n);
/* Signal to noise ratio abar_t / (1 - abar_t). */
double nn_snr(const nn_schedule *schedule, int t);

#endif
