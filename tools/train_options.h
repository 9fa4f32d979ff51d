/* The options of `oneword train`: diffusers' names, presets, one resolved set. */
#ifndef TOOLS_TRAIN_OPTIONS_H
#define TOOLS_TRAIN_OPTIONS_H

#include "nn/train.h"
#include "tools/memory.h"
#include "tools/opt.h"

typedef struct train_options {
    opt_common common;
    const char *model, *data, *output, *preset, *template_file, *property, *learning_rate, *lr_scheduler, *tokenizer_mode;
    const char *resume_from, *validation_prompt, *reg_kind, *memory;
    const char *progressive, *captions, *compose, *early_stop, *initializer_embedding, *random_init, *expansion;
    mem_limit limit;
    opt_list placeholder, initializer;
    int64_t num_vectors, resolution, batch, accumulate, steps, warmup, checkpointing_steps, save_steps, validation_steps, validation_images, seed;
    int64_t max_pictures, compose_pictures, stop_window;
    double per_image_share, compose_share, stop_threshold;
    double beta1, beta2, epsilon, weight_decay, clip_norm, clip_value, reg_weight;
    bool scale_lr, center_crop, flip, no_flip, posterior_mean, resume, dry_run;
    bool per_image, save_per_image;
    nn_template_list templates; /* where there is no file */
    bool initial_position;      /* of the preset */
} train_options;

enum { TRAIN_NROWS = 70 };
extern const opt_row train_rows[TRAIN_NROWS];

/* Defaults of the preset, overridden by what was given; checks what needs no file. */
int train_options_parse(int argc, char **argv, train_options *o, tn_err *err);
/* What the library is told, but for what lies in files (captions, an initializer's embedding, the pictures of a second
 * concept). resolution 0 is left to the caller, who knows the model; seed likewise where it is -1. */
int train_options_config(const train_options *o, nn_train_config *cfg, tn_err *err);

#endif
