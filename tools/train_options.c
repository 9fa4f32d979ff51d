#include "tools/train_options.h"

#include "tensor/io/json.h"
#include "tools/prompt.h"
#include <stdio.h>
#include <string.h>

#define AT(f) offsetof(train_options, f)
const opt_row train_rows[TRAIN_NROWS] = {
    {"m,model,pretrained-model-name-or-path,d", OPT_TEXT, AT(model), 0, 0, "DIR", "model directory as diffusers stores it (required)"},
    {"train-data-dir,data", OPT_TEXT, AT(data), 0, 0, "DIR", "folder with the pictures, 3 to 5 of them (required)"},
    {"placeholder-token", OPT_LIST, AT(placeholder), 0, 0, "TOKEN", "the new word, as \"<my-cat>\" (required; may be repeated)"},
    {"initializer-token", OPT_LIST, AT(initializer), 0, 0, "WORD", "a known word to start from (default: random); one for each placeholder"},
    {"initializer-embedding", OPT_TEXT, AT(initializer_embedding), 0, 0, "FILE", "vectors to start from, under the placeholder's name, or the file's only word"},
    {"random-init", OPT_TEXT, AT(random_init), 0, 0, "vocabulary|uniform", "a random start: like the vocabulary's entries, or in [0,1) (default vocabulary, official: uniform)"},
    {"num-vectors", OPT_INT, AT(num_vectors), 1, 75, "N", "vectors of the word (default 1)"},
    {"expansion", OPT_TEXT, AT(expansion), 0, 0, "written|truncated", "sentences too long for all vectors: refused, or cut at the end (default written, official: truncated)"},
    {"progressive", OPT_TEXT, AT(progressive), 0, 0, "STEP,STEP,...", "one vector more after each of these steps (paper: 2000,4000), starting with one"},
    {"per-image-tokens", OPT_FLAG, AT(per_image), 0, 0, NULL, "a token of its own for each picture i, TOKEN@i: sentences \"... TOKEN with TOKEN@i\""},
    {"per-image-share", OPT_NUMBER, AT(per_image_share), 0, 1, "X", "share of the sentences that name it (default 0.25, paper: 1)"},
    {"save-per-image", OPT_FLAG, AT(save_per_image), 0, 0, NULL, "write the pictures' tokens to the result too"},
    {"captions", OPT_TEXT, AT(captions), 0, 0, "FILE", "a sentence for each picture, \"NAME.png: a photo of {} on a bed\" a line"},
    {"max-pictures", OPT_INT, AT(max_pictures), 1, 1000000, "N", "take the first N pictures by name (default: all)"},
    {"compose", OPT_TEXT, AT(compose), 0, 0, "DIR", "pictures of a second concept, learned together: two placeholders, and pictures with both"},
    {"compose-share", OPT_NUMBER, AT(compose_share), 0, 1, "X", "share of the pictures with both (default 0.1)"},
    {"compose-pictures", OPT_INT, AT(compose_pictures), 1, 100000, "N", "how many of them are made (default 64)"},
    {"learnable-property", OPT_TEXT, AT(property), 0, 0, "object|style", "which built-in sentences (default object)"},
    {"template-file", OPT_TEXT, AT(template_file), 0, 0, "FILE", "sentences of your own, {} for the word, one a line"},
    {"o,output,output-dir", OPT_TEXT, AT(output), 0, 0, "DIR", "where results go (default textual-inversion)"},
    {"preset,presets", OPT_TEXT, AT(preset), 0, 0, "diffusers|paper|official|quick", "settings to start from (default diffusers): see below"},
    {"resolution", OPT_INT, AT(resolution), 8, 8192, "N", "side of the training pictures (default: the model's)"},
    {"center-crop", OPT_FLAG, AT(center_crop), 0, 0, NULL, "crop the middle square (default: squeeze the picture to a square)"},
    {"flip", OPT_FLAG, AT(flip), 0, 0, NULL, "mirror half of the pictures (default of diffusers and official)"},
    {"no-flip", OPT_FLAG, AT(no_flip), 0, 0, NULL, "never mirror them: for text and asymmetric things (default of quick)"},
    {"train-batch-size", OPT_INT, AT(batch), 1, 1024, "N", "pictures a step"},
    {"gradient-accumulation-steps", OPT_INT, AT(accumulate), 1, 1024, "N", "batches a step"},
    {"max-train-steps", OPT_INT, AT(steps), 1, 10000000, "N", "optimiser steps"},
    {"learning-rate,lr", OPT_TEXT, AT(learning_rate), 0, 0, "RATE", "a number, or RATE:STEP,RATE:STEP,... ; taken as it is unless --scale-lr"},
    {"scale-lr", OPT_FLAG, AT(scale_lr), 0, 0, NULL, "multiply the rate by batch size and accumulation"},
    {"lr-scheduler", OPT_TEXT, AT(lr_scheduler), 0, 0, "constant|constant_with_warmup|linear|cosine", "course of the rate (default constant, quick: cosine)"},
    {"lr-warmup-steps", OPT_INT, AT(warmup), 0, 10000000, "N", "steps of linear warm-up (default 0)"},
    {"adam-beta1", OPT_NUMBER, AT(beta1), 0, 0.999999999, "X", "AdamW (default 0.9)"},
    {"adam-beta2", OPT_NUMBER, AT(beta2), 0, 0.999999999, "X", "AdamW (default 0.999)"},
    {"adam-weight-decay", OPT_NUMBER, AT(weight_decay), 0, 1000, "X", "AdamW (default 0.01)"},
    {"adam-epsilon", OPT_NUMBER, AT(epsilon), 1e-300, 1, "X", "AdamW (default 1e-8)"},
    {"max-grad-norm", OPT_NUMBER, AT(clip_norm), 0, 1e9, "X", "clip the gradient's norm (default: no)"},
    {"clip-grad-value", OPT_NUMBER, AT(clip_value), 0, 1e9, "X", "clip each entry of the gradient (default: no)"},
    {"embedding-reg-weight", OPT_NUMBER, AT(reg_weight), 0, 1e9, "X", "weight of the distance to the initial vectors in the loss (default 0)"},
    {"embedding-reg", OPT_TEXT, AT(reg_kind), 0, 0, "l2|official", "that distance: squared norm, or the official code's formula (default l2, official: official)"},
    {"early-stop", OPT_TEXT, AT(early_stop), 0, 0, "none|dvar", "end when the loss of a fixed batch no longer moves, at --max-train-steps at the latest (default none)"},
    {"early-stop-window", OPT_INT, AT(stop_window), 2, 1000000, "N", "dvar: over so many steps (default 310)"},
    {"early-stop-threshold", OPT_NUMBER, AT(stop_threshold), 0, 1, "X", "dvar: their variance below X times that of all steps (default 0.15)"},
    {"posterior-mean", OPT_FLAG, AT(posterior_mean), 0, 0, NULL, "latents without the encoder's noise (default: sampled at every step)"},
    {"tokenizer-mode", OPT_TEXT, AT(tokenizer_mode), 0, 0, "hf|openai", "cleaning rules of the tokenizer (default hf)"},
    {"seed,S", OPT_INT, AT(seed), -1, 9e18, "N", "random seed (default: a random one, stored in the output)"},
    {"checkpointing-steps", OPT_INT, AT(checkpointing_steps), 1, 10000000, "N", "save a checkpoint every N steps (default 500)"},
    {"save-steps", OPT_INT, AT(save_steps), 1, 10000000, "N", "also write learned_embeds-steps-N.safetensors every N steps (default: never)"},
    {"resume", OPT_FLAG, AT(resume), 0, 0, NULL, "go on from the checkpoint in --output; starts over where there is none"},
    {"resume-from-checkpoint", OPT_TEXT, AT(resume_from), 0, 0, "FILE", "the same from a checkpoint file (latest: the one in --output)"},
    {"validation-prompt", OPT_TEXT, AT(validation_prompt), 0, 0, "TEXT", "generate pictures of this prompt while training"},
    {"validation-steps", OPT_INT, AT(validation_steps), 1, 10000000, "N", "every N steps (default 100)"},
    {"num-validation-images", OPT_INT, AT(validation_images), 1, 64, "N", "how many (default 4)"},
    {"memory,max-ram", OPT_TEXT, AT(memory), 0, 0, MEM_META, MEM_HELP},
    {"dry-run", OPT_FLAG, AT(dry_run), 0, 0, NULL, "print the plan (memory, time) and stop"},
    {"push-to-hub", OPT_IGNORED, 0, 0, 0, NULL, "nothing is uploaded"},
    {"report-to", OPT_IGNORED, 0, 0, 0, "NAME", "the log is OUTPUT/log.jsonl"},
    {"logging-dir", OPT_IGNORED, 0, 0, 0, "DIR", "the log is OUTPUT/log.jsonl"},
    {"enable-xformers-memory-efficient-attention", OPT_IGNORED, 0, 0, 0, NULL, "attention never stores its probabilities"},
    {"gradient-checkpointing", OPT_IGNORED, 0, 0, 0, NULL, "chosen from --memory"},
    {"allow-tf32", OPT_IGNORED, 0, 0, 0, NULL, "a GPU setting"},
    {"dataloader-num-workers", OPT_IGNORED, 0, 0, 0, "N", "pictures are encoded once, before training"},
    {"repeats", OPT_IGNORED, 0, 0, 0, "N", "steps are counted by --max-train-steps alone"},
    OPT_COMMON(train_options, common),
};


/* diffusers: the command of its textual inversion README. paper: Gal et al. 2208.01618, section 3 and appendix D, two GPUs of
 * batch 4. official: rinongal/textual_inversion, v1-finetune.yaml on one GPU, and what its code does otherwise than the
 * paper says. quick: what finds a word in minutes on a CPU (measured on the bundled model, tests/README.md). */
typedef struct preset {
    const char *name, *rate, *course, *reg_kind, *random_init, *expansion;
    bool scale, flip, initial_position;
    int64_t batch, accumulate, steps;
    double per_image_share;
    nn_template_list templates;
} preset;
static const preset presets[] = {
    {"diffusers", "5e-4", "constant", "l2", "vocabulary", "written", true, true, false, 1, 4, 3000, 0.25, NN_TEMPLATES_OBJECT},
    {"paper", "5e-3", "constant", "l2", "vocabulary", "written", true, true, false, 4, 2, 5000, 1.0, NN_TEMPLATES_PAPER},
    {"official", "5e-3", "constant", "official", "uniform", "truncated", true, true, true, 2, 1, 6100, 0.25, NN_TEMPLATES_OFFICIAL},
    {"quick", "1e-2", "cosine", "l2", "vocabulary", "written", false, false, false, 1, 1, 400, 0.25, NN_TEMPLATES_OBJECT},
};

static bool was_given(const bool *given, size_t field) {
    for (int i = 0; i < TRAIN_NROWS; i++) {
        if (given[i] && train_rows[i].field == field && train_rows[i].type != OPT_IGNORED) return true;
    }
    return false;
}

static void apply_preset(const bool *given, train_options *o) {
    const preset *p = presets;
    while (strcmp(p->name, o->preset)) p++;
    if (!was_given(given, AT(batch))) o->batch = p->batch;
    if (!was_given(given, AT(accumulate))) o->accumulate = p->accumulate;
    if (!was_given(given, AT(steps))) o->steps = p->steps;
    if (!was_given(given, AT(learning_rate))) {
        o->learning_rate = p->rate, o->scale_lr = o->scale_lr || p->scale;
        if (!was_given(given, AT(lr_scheduler))) o->lr_scheduler = p->course;
    }
    if (!o->no_flip) o->flip = o->flip || p->flip;
    if (!o->reg_kind) o->reg_kind = p->reg_kind;
    if (!o->random_init) o->random_init = p->random_init;
    if (!o->expansion) o->expansion = p->expansion;
    if (!was_given(given, AT(per_image_share))) o->per_image_share = p->per_image_share;
    o->initial_position = p->initial_position;
    o->templates = o->property && strcmp(o->property, "style") == 0 ? NN_TEMPLATES_STYLE : p->templates;
}

/* Setups that are only a number of an option without the option that turns them on. */
static int check_setups(const bool *given, const train_options *o, tn_err *err) {
    bool stop = strcmp(o->early_stop, "dvar") == 0;
    if (o->initializer_embedding && o->initializer.n)
        return tn_fail(err, TN_EUSAGE, "--initializer-embedding and --initializer-token exclude each other");
    if (o->captions && (o->template_file || o->property))
        return tn_fail(err, TN_EUSAGE, "--captions are the sentences: --template-file and --learnable-property exclude them");
    if (o->compose && (o->captions || o->per_image))
        return tn_fail(err, TN_EUSAGE, "--compose excludes --captions and --per-image-tokens");
    if (o->compose && o->placeholder.n != 2)
        return tn_fail(err, TN_EUSAGE, "--compose learns two words: give --placeholder-token twice");
    if (!o->compose && (was_given(given, AT(compose_share)) || was_given(given, AT(compose_pictures))))
        return tn_fail(err, TN_EUSAGE, "--compose-share and --compose-pictures are of --compose DIR");
    if (!o->per_image && (was_given(given, AT(per_image_share)) || o->save_per_image))
        return tn_fail(err, TN_EUSAGE, "--per-image-share and --save-per-image are of --per-image-tokens");
    if (!stop && (was_given(given, AT(stop_window)) || was_given(given, AT(stop_threshold))))
        return tn_fail(err, TN_EUSAGE, "--early-stop-window and --early-stop-threshold are of --early-stop dvar");
    if (o->progressive && o->validation_prompt) /* a prompt stands for all vectors, those to come too */
        return tn_fail(err, TN_EUSAGE, "--progressive and --validation-prompt exclude each other");
    return 0;
}

/* "2000,4000": rising. The vectors are then one more than the steps, unless they were given. */
static int parse_progressive(const char *text, bool vectors_given, nn_train_config *cfg, tn_err *err) {
    for (const char *p = text; p;) {
        size_t len = strcspn(p, ",");
        int64_t step, last = cfg->nswitches ? cfg->switch_at[cfg->nswitches - 1] : 0;
        if (cfg->nswitches == NN_MAX_SWITCHES || !tn_parse_int64(p, len, &step) || step <= last)
            return tn_fail(err, TN_EUSAGE, "--progressive \"%s\": expected rising steps as 2000,4000", text);
        cfg->switch_at[cfg->nswitches++] = step;
        p = p[len] ? p + len + 1 : NULL;
    }
    if (!vectors_given) cfg->num_vectors = cfg->nswitches + 1;
    if (cfg->num_vectors <= cfg->nswitches) {
        return tn_fail(err, TN_EUSAGE, "--progressive %s makes %d vectors, --num-vectors says %lld", text, cfg->nswitches + 1,
                       (long long)cfg->num_vectors);
    }
    return 0;
}

static int check(const train_options *o, tn_err *err) {
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model DIR is missing");
    if (!o->data) return tn_fail(err, TN_EUSAGE, "--train-data-dir DIR is missing");
    if (o->placeholder.n == 0) return tn_fail(err, TN_EUSAGE, "--placeholder-token TOKEN is missing");
    if (o->placeholder.n > NN_MAX_PLACEHOLDERS) return tn_fail(err, TN_EUSAGE, "more than %d placeholders", NN_MAX_PLACEHOLDERS);
    if (o->initializer.n != 0 && o->initializer.n != o->placeholder.n) {
        return tn_fail(err, TN_EUSAGE, "%d placeholders but %d initializer tokens (give one for each, or none)", o->placeholder.n, o->initializer.n);
    }
    if (o->flip && o->no_flip) return tn_fail(err, TN_EUSAGE, "--flip and --no-flip exclude each other");
    if (o->template_file && o->property) return tn_fail(err, TN_EUSAGE, "--template-file and --learnable-property exclude each other");
    return 0;
}

int train_options_parse(int argc, char **argv, train_options *o, tn_err *err) {
    bool given[TRAIN_NROWS];
    *o = (train_options){.output = "textual-inversion", .preset = "diffusers", .lr_scheduler = "constant", .tokenizer_mode = "hf", .early_stop = "none",
                         .compose_share = 0.1, .compose_pictures = 64, .stop_window = 310, .stop_threshold = 0.15,
                         .num_vectors = 0, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 1e-2, .seed = -1,
                         .checkpointing_steps = 500, .validation_steps = 100, .validation_images = 4};
    int r = opt_parse(&cmd_train, argc, argv, o, given, NULL, err);
    if (r) return r;
    apply_preset(given, o);
    if (o->resume_from) o->resume = true;
    if (mem_parse(o->memory, &o->limit, err) || check_setups(given, o, err)) return -1;
    return check(o, err);
}

int train_options_config(const train_options *o, nn_train_config *cfg, tn_err *err) {
    *cfg = (nn_train_config){.nplaceholders = o->placeholder.n, .num_vectors = o->num_vectors ? o->num_vectors : 1, .resolution = o->resolution,
                             .center_crop = o->center_crop, .flip = o->flip, .posterior_mean = o->posterior_mean,
                             .rules = prompt_rules(o->tokenizer_mode),
                             .batch = o->batch, .accumulate = o->accumulate, .steps = o->steps,
                             .adam = {o->beta1, o->beta2, o->epsilon, o->weight_decay},
                             .clip_norm = o->clip_norm, .clip_value = o->clip_value, .reg_weight = o->reg_weight,
                             .reg_kind = strcmp(o->reg_kind, "l2") == 0 ? NN_REG_L2 : NN_REG_OFFICIAL,
                             .seed = o->seed < 0 ? 0 : (uint64_t)o->seed,
                             .noise_kind = strcmp(o->random_init, "uniform") == 0 ? NN_NOISE_UNIFORM : NN_NOISE_VOCABULARY,
                             .initial_position = o->initial_position,
                             .expansion = strcmp(o->expansion, "written") == 0 ? NN_EXPAND_WRITTEN : NN_EXPAND_TRUNCATED,
                             .per_image_share = o->per_image ? o->per_image_share : 0.0};
    if (o->compose) cfg->compose_share = o->compose_share, cfg->compose_pictures = o->compose_pictures;
    if (strcmp(o->early_stop, "dvar") == 0) cfg->stop_window = o->stop_window, cfg->stop_threshold = o->stop_threshold;
    if (o->progressive && parse_progressive(o->progressive, o->num_vectors > 0, cfg, err)) return -1;
    for (int i = 0; i < o->placeholder.n; i++) {
        cfg->placeholder[i] = o->placeholder.item[i];
        cfg->initializer[i] = o->initializer.n ? o->initializer.item[i] : NULL;
    }
    if (nn_lr_parse(o->learning_rate, &cfg->lr, err)) return -1;
    bool course = strcmp(o->lr_scheduler, "constant") != 0;
    if (cfg->lr.kind == NN_LR_PIECEWISE && (course || o->warmup)) {
        return tn_fail(err, TN_EUSAGE, "a piecewise --learning-rate excludes --lr-scheduler and --lr-warmup-steps");
    }
    if (strcmp(o->lr_scheduler, "linear") == 0) cfg->lr.kind = NN_LR_LINEAR;
    if (strcmp(o->lr_scheduler, "cosine") == 0) cfg->lr.kind = NN_LR_COSINE;
    cfg->lr.warmup = course ? o->warmup : 0, cfg->lr.total = o->steps;
    double factor = o->scale_lr ? (double)(o->batch * o->accumulate) : 1.0;
    cfg->lr.base *= factor;
    for (int i = 0; i < cfg->lr.pieces; i++) cfg->lr.rate[i] *= factor;
    return 0;
}
