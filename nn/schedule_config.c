/* scheduler_config.json into nn_schedule_config: one table of keys. Names and defaults: diffusers 0.31, schedulers/. */
#include "nn/schedule.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TIMESTEPS = 1000000 };

typedef enum {
    KEY_COUNT,  /* whole number, min .. max, into an int */
    KEY_NUMBER, /* min .. max, into a double */
    KEY_BOOL,   /* into a bool */
    KEY_CHOICE, /* one of the names, its index into an int */
    KEY_CHOICE_OR_NULL,
    KEY_FALSE,  /* a feature that is not built in: must be off */
    KEY_BETAS   /* null, or num_train_timesteps numbers; read last */
} key_type;

static const char *const beta_schedules[] = {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", NULL};
static const char *const prediction_types[] = {"epsilon", "v_prediction", "sample", NULL};
static const char *const spacings[] = {"leading", "linspace", "trailing", NULL};
static const char *const variances[] = {"fixed_small", "fixed_small_log", "fixed_large", NULL};

#define DDPM (1u << NN_SCHEDULER_DDPM)
#define DDIM (1u << NN_SCHEDULER_DDIM)
#define INVERSE (1u << NN_SCHEDULER_DDIM_INVERSE)
#define EACH (DDPM | DDIM | INVERSE)
#define FIELD(name) #name, offsetof(nn_schedule_config, name)

static const struct key {
    const char *name;
    size_t offset;
    key_type type;
    unsigned classes; /* the classes that read it */
    double min, max;
    const char *const *names;
} keys[] = {
    {FIELD(num_train_timesteps), KEY_COUNT, EACH, 1, MAX_TIMESTEPS, NULL},
    {FIELD(beta_start), KEY_NUMBER, EACH, 0, 1, NULL},
    {FIELD(beta_end), KEY_NUMBER, EACH, 0, 1, NULL},
    {FIELD(beta_schedule), KEY_CHOICE, EACH, 0, 0, beta_schedules},
    {FIELD(trained_betas), KEY_BETAS, EACH, 0, 1, NULL},
    {FIELD(prediction_type), KEY_CHOICE, EACH, 0, 0, prediction_types},
    {FIELD(timestep_spacing), KEY_CHOICE, EACH, 0, 0, spacings},
    {FIELD(steps_offset), KEY_COUNT, EACH, 0, MAX_TIMESTEPS, NULL},
    {FIELD(variance_type), KEY_CHOICE_OR_NULL, DDPM, 0, 0, variances},
    {FIELD(set_alpha_to_one), KEY_BOOL, DDIM | INVERSE, 0, 0, NULL},
    {FIELD(clip_sample), KEY_BOOL, EACH, 0, 0, NULL},
    {FIELD(clip_sample_range), KEY_NUMBER, EACH, 0, 3.0e38, NULL},
    {FIELD(rescale_betas_zero_snr), KEY_BOOL, EACH, 0, 0, NULL},
    {"thresholding", 0, KEY_FALSE, EACH, 0, 0, NULL},
};

/* Keys that only other classes read, or that act only together with thresholding, or that old versions wrote: no
 * effect. */
static const char *const ignored[] = {
    "algorithm_type", "dynamic_thresholding_ratio", "euler_at_final", "final_sigmas_type", "interpolation_type",
    "lambda_min_clipped", "lower_order_final", "original_inference_steps", "sample_max_value", "sigma_max", "sigma_min",
    "skip_prk_steps", "solver_order", "solver_type", "tensor_format", "timestep_scaling", "timestep_type",
    "use_beta_sigmas", "use_exponential_sigmas", "use_karras_sigmas", "use_lu_lambdas", NULL};

static const char *const other_classes[] = {
    "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler", "DPMSolverMultistepInverseScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler", "IPNDMScheduler", "LCMScheduler",
    "TCDScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler", "FlowMatchEulerDiscreteScheduler", NULL};

static int index_of(const char *const *names, const char *name) {
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], name) == 0) return i;
    }
    return -1;
}

nn_scheduler_class nn_scheduler_class_of(const char *name) {
    if (strcmp(name, "DDPMScheduler") == 0) return NN_SCHEDULER_DDPM;
    if (strcmp(name, "DDIMScheduler") == 0) return NN_SCHEDULER_DDIM;
    if (strcmp(name, "DDIMInverseScheduler") == 0) return NN_SCHEDULER_DDIM_INVERSE;
    return index_of(other_classes, name) >= 0 ? NN_SCHEDULER_OTHER : NN_SCHEDULER_UNKNOWN;
}

void nn_schedule_config_default(nn_schedule_config *config, nn_scheduler_class scheduler) {
    TN_REQUIRE(scheduler <= NN_SCHEDULER_DDIM_INVERSE);
    memset(config, 0, sizeof *config);
    config->scheduler = (int)scheduler;
    config->num_train_timesteps = 1000;
    config->beta_start = 0.0001;
    config->beta_end = 0.02;
    config->beta_schedule = NN_BETA_LINEAR;
    config->trained_betas = NULL;
    config->prediction_type = NN_PREDICT_EPSILON;
    config->timestep_spacing = NN_SPACING_LEADING;
    config->variance_type = NN_VARIANCE_FIXED_SMALL;
    config->set_alpha_to_one = true;
    config->clip_sample = true;
    config->clip_sample_range = 1.0;
}

void nn_schedule_config_for_stable_diffusion(nn_schedule_config *config) {
    config->steps_offset = 1;
    config->clip_sample = false;
}

void nn_schedule_config_free(nn_schedule_config *config) {
    free(config->trained_betas);
    config->trained_betas = NULL;
}

/* A value as it may appear in a message. */
static const char *describe(const tn_jval *v, char *buffer, size_t size) {
    switch (v->type) {
    case TN_JSON_NULL: return "null";
    case TN_JSON_BOOL: return v->boolean ? "true" : "false";
    case TN_JSON_STRING: snprintf(buffer, size, "\"%s\"", v->string); return buffer;
    case TN_JSON_ARRAY: snprintf(buffer, size, "an array of %zu", v->length); return buffer;
    case TN_JSON_OBJECT: return "an object";
    case TN_JSON_NUMBER: break;
    }
    if (v->is_int) {
        snprintf(buffer, size, "%lld", (long long)v->integer);
    } else {
        snprintf(buffer, size, "%.9g", v->number);
    }
    return buffer;
}

static int bad_value(const tn_jval *v, const char *expected, tn_err *err) {
    char text[96];
    return tn_fail(err, TN_EINPUT, "scheduler: %s: expected %s, got %s", v->key, expected,
                   describe(v, text, sizeof text));
}

static int bad_range(const tn_jval *v, const char *what, const struct key *key, tn_err *err) {
    char expected[64];
    snprintf(expected, sizeof expected, "a %s from %.9g to %.9g", what, key->min, key->max);
    return bad_value(v, expected, err);
}

static int read_choice(const struct key *key, const tn_jval *v, int *field, tn_err *err) {
    if (v->type != TN_JSON_STRING) return bad_value(v, "a name", err);
    int choice = index_of(key->names, v->string);
    if (choice < 0) {
        char known[128] = "";
        for (int i = 0; key->names[i]; i++) {
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", key->names[i]);
        }
        return tn_fail(err, TN_EUNSUPPORTED, "scheduler: %s \"%s\" is not supported (known: %s)", key->name, v->string,
                       known);
    }
    *field = choice;
    return 0;
}

/* trained_betas, once num_train_timesteps is known; PyTorch keeps them as float32. */
static int read_betas(const tn_jval *v, nn_schedule_config *config, tn_err *err) {
    size_t n = (size_t)config->num_train_timesteps;
    if (v->type == TN_JSON_NULL) return 0;
    if (v->type != TN_JSON_ARRAY || v->length != n) {
        char expected[64];
        snprintf(expected, sizeof expected, "null or an array of num_train_timesteps = %zu numbers", n);
        return bad_value(v, expected, err);
    }
    float *betas = malloc(n * sizeof *betas);
    if (!betas) return tn_fail(err, TN_ENOMEM, "scheduler: no memory for %zu betas", n);
    size_t i = 0;
    for (const tn_jval *item = v->child; item; item = item->next, i++) {
        if (item->type != TN_JSON_NUMBER || !(item->number >= 0 && item->number <= 1)) {
            char text[96];
            free(betas);
            return tn_fail(err, TN_EINPUT, "scheduler: trained_betas[%zu]: expected a number from 0 to 1, got %s", i,
                           describe(item, text, sizeof text));
        }
        betas[i] = (float)item->number;
    }
    config->trained_betas = betas;
    return 0;
}

static int read_key(const struct key *key, const tn_jval *v, nn_schedule_config *config, tn_err *err) {
    void *field = (char *)config + key->offset;
    switch (key->type) {
    case KEY_COUNT:
        if (v->type != TN_JSON_NUMBER || !v->is_int || (double)v->integer < key->min || (double)v->integer > key->max) {
            return bad_range(v, "whole number", key, err);
        }
        *(int *)field = (int)v->integer;
        return 0;
    case KEY_NUMBER:
        /* The negated comparison refuses NaN, which Python's JSON can hold. */
        if (v->type != TN_JSON_NUMBER || !(v->number >= key->min && v->number <= key->max)) {
            return bad_range(v, "number", key, err);
        }
        *(double *)field = v->number;
        return 0;
    case KEY_BOOL:
        if (v->type != TN_JSON_BOOL) return bad_value(v, "true or false", err);
        *(bool *)field = v->boolean;
        return 0;
    case KEY_CHOICE_OR_NULL: /* DPM-Solver writes "variance_type": null, and its files are read as DDPM for training */
        if (v->type == TN_JSON_NULL) return 0;
        return read_choice(key, v, field, err);
    case KEY_CHOICE: return read_choice(key, v, field, err);
    case KEY_FALSE:
        if (v->type != TN_JSON_BOOL) return bad_value(v, "true or false", err);
        if (v->boolean) return tn_fail(err, TN_EUNSUPPORTED, "scheduler: %s true is not supported", key->name);
        return 0;
    case KEY_BETAS: return 0;
    }
    return 0;
}

/* Appends the name as far as there is room. Warnings are for terminals: bytes other than printable ASCII become '?'. */
static void warn_unknown(nn_schedule_config *config, const char *name) {
    size_t used = strlen(config->warning);
    snprintf(config->warning + used, sizeof config->warning - used, "%s%s",
             used ? ", " : "scheduler: unknown keys ignored: ", name);
    for (char *c = config->warning + used; *c; c++) {
        if (*c < 0x20 || *c > 0x7e) *c = '?';
    }
}

static int read_member(const tn_jval *v, nn_schedule_config *config, tn_err *err) {
    if (v->key[0] == '_') return 0; /* _class_name, _diffusers_version: notes of the writer */
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(keys[i].name, v->key) != 0) continue;
        if (!(keys[i].classes & 1u << config->scheduler)) return 0;
        return read_key(&keys[i], v, config, err);
    }
    if (index_of(ignored, v->key) < 0) warn_unknown(config, v->key);
    return 0;
}

/* The class to read the file as: the override, or what the file names. */
static int choose_class(const tn_jval *json, const char *class_override, nn_scheduler_class *scheduler, tn_err *err) {
    const tn_jval *named = tn_json_get(json, "_class_name");
    if (!class_override && (!named || named->type != TN_JSON_STRING)) {
        return tn_fail(err, TN_EINPUT, "scheduler: _class_name: expected the name of a scheduler class, got %s",
                       named ? "something else" : "nothing");
    }
    const char *name = class_override ? class_override : named->string;
    *scheduler = nn_scheduler_class_of(name);
    if (*scheduler == NN_SCHEDULER_OTHER || *scheduler == NN_SCHEDULER_UNKNOWN) {
        return tn_fail(err, TN_EUNSUPPORTED, "scheduler: class \"%s\" is %s (known: DDPMScheduler, DDIMScheduler, "
                       "DDIMInverseScheduler)", name, *scheduler == NN_SCHEDULER_OTHER ? "not built in" : "unknown");
    }
    return 0;
}

/* What can be judged only when all keys are read. */
static int check_together(const tn_jval *json, nn_schedule_config *config, tn_err *err) {
    if (config->beta_end < config->beta_start) {
        return tn_fail(err, TN_EINPUT, "scheduler: beta_end: expected at least beta_start %.9g, got %.9g",
                       config->beta_start, config->beta_end);
    }
    if (config->steps_offset >= config->num_train_timesteps) {
        return tn_fail(err, TN_EINPUT, "scheduler: steps_offset: expected less than num_train_timesteps %d, got %d",
                       config->num_train_timesteps, config->steps_offset);
    }
    if (config->scheduler == NN_SCHEDULER_DDIM_INVERSE && config->timestep_spacing == NN_SPACING_LINSPACE) {
        return tn_fail(err, TN_EUNSUPPORTED, "scheduler: timestep_spacing \"linspace\" is not supported by "
                       "DDIMInverseScheduler (known: leading, trailing)");
    }
    const tn_jval *betas = tn_json_get(json, "trained_betas");
    return betas ? read_betas(betas, config, err) : 0;
}

int nn_schedule_config_parse(const tn_jval *json, const char *class_override, nn_schedule_config *config, tn_err *err) {
    nn_scheduler_class scheduler = NN_SCHEDULER_UNKNOWN;
    nn_schedule_config read;
    if (!json || json->type != TN_JSON_OBJECT) return tn_fail(err, TN_EINPUT, "scheduler: expected a JSON object");
    if (choose_class(json, class_override, &scheduler, err)) return -1;
    nn_schedule_config_default(&read, scheduler);
    for (const tn_jval *v = json->child; v; v = v->next) {
        if (read_member(v, &read, err)) return -1;
    }
    if (check_together(json, &read, err)) return -1;
    *config = read;
    return 0;
}
