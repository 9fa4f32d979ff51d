/* oneword tune: pivotal tuning. A learned word is fixed, and the model learns around it; a model folder of its own comes out.
 *
 * model_index.json is written last: a folder that was left unfinished is no model. */
#include "nn/config.h"
#include "nn/tune.h"
#include "tensor/io/sys.h"
#include "tools/embedding.h"
#include "tools/generate.h"
#include "tools/memory.h"
#include "tools/opt.h"
#include "tools/pictures.h"
#include "tools/stop.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tune_options {
    opt_common common;
    const char *model, *embedding, *data, *template_file, *property, *output, *learning_rate, *dtype, *memory;
    mem_limit limit;
    int64_t resolution, batch, accumulate, steps, seed, checkpointing_steps;
    double beta1, beta2, epsilon, weight_decay;
    bool center_crop, no_flip, posterior_mean, resume, dry_run;
} tune_options;

#define AT(f) offsetof(tune_options, f)
static const opt_row rows[] = {
    {"m,model,pretrained-model-name-or-path,d", OPT_TEXT, AT(model), 0, 0, "DIR", "model directory as diffusers stores it (required)"},
    {"embedding,e", OPT_TEXT, AT(embedding), 0, 0, "[NAME=]FILE", "the learned word (required)"},
    {"train-data-dir,data", OPT_TEXT, AT(data), 0, 0, "DIR", "the pictures that it was learned from (required)"},
    {"o,output,output-dir", OPT_TEXT, AT(output), 0, 0, "DIR", "where the model goes; must not hold one yet (required)"},
    {"learnable-property", OPT_TEXT, AT(property), 0, 0, "object|style", "which built-in sentences (default object)"},
    {"template-file", OPT_TEXT, AT(template_file), 0, 0, "FILE", "sentences of your own, {} for the word, one a line"},
    {"max-train-steps", OPT_INT, AT(steps), 1, 10000000, "N", "optimiser steps (default 350)"},
    {"learning-rate,lr", OPT_TEXT, AT(learning_rate), 0, 0, "RATE", "a number, or RATE:STEP,RATE:STEP,... (default 1e-7)"},
    {"train-batch-size", OPT_INT, AT(batch), 1, 1024, "N", "pictures a step (default 1)"},
    {"gradient-accumulation-steps", OPT_INT, AT(accumulate), 1, 1024, "N", "batches a step (default 1)"},
    {"resolution", OPT_INT, AT(resolution), 8, 8192, "N", "side of the training pictures (default: the model's)"},
    {"center-crop", OPT_FLAG, AT(center_crop), 0, 0, NULL, "crop the middle square (default: squeeze the picture to a square)"},
    {"no-flip", OPT_FLAG, AT(no_flip), 0, 0, NULL, "do not mirror half of the pictures"},
    {"posterior-mean", OPT_FLAG, AT(posterior_mean), 0, 0, NULL, "latents without the encoder's noise"},
    {"adam-beta1", OPT_NUMBER, AT(beta1), 0, 0.999999999, "X", "AdamW (default 0.9)"},
    {"adam-beta2", OPT_NUMBER, AT(beta2), 0, 0.999999999, "X", "AdamW (default 0.999)"},
    {"adam-weight-decay", OPT_NUMBER, AT(weight_decay), 0, 1000, "X", "AdamW (default 0.01)"},
    {"adam-epsilon", OPT_NUMBER, AT(epsilon), 1e-300, 1, "X", "AdamW (default 1e-8)"},
    {"seed,S", OPT_INT, AT(seed), 0, 9e18, "N", "random seed (default 0)"},
    {"dtype", OPT_TEXT, AT(dtype), 0, 0, "f16|bf16|f32", "type of the weights written (default f32: small steps vanish in the others)"},
    {"checkpointing-steps", OPT_INT, AT(checkpointing_steps), 1, 10000000, "N", "save a checkpoint every N steps, 12 bytes a weight (default 100)"},
    {"resume", OPT_FLAG, AT(resume), 0, 0, NULL, "go on from the checkpoint in --output; starts over where there is none"},
    {"memory,max-ram", OPT_TEXT, AT(memory), 0, 0, MEM_META, MEM_HELP},
    {"dry-run", OPT_FLAG, AT(dry_run), 0, 0, NULL, "print the plan and stop"},
    OPT_COMMON(tune_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_tune = {
    "tune", "pivotal tuning: the model learns around a fixed word",
    "tune --model DIR --embedding FILE --train-data-dir DIR -o DIR [options]",
    "Text encoder and UNet learn with AdamW, all of their weights; the result is a model folder with the word in\n"
    "learned_embeds.safetensors. It takes 16 bytes a weight besides the step: 16 GiB for Stable Diffusion 1.x.\n\n"
    "example:\n"
    "  oneword tune --model testdata/world/model --embedding testdata/world/learned/mango.safetensors \\\n"
    "    --train-data-dir testdata/world/concepts/mango --template-file testdata/world/templates-object.txt \\\n"
    "    --max-train-steps 100 --learning-rate 1e-5 -o tuned",
    rows, sizeof rows / sizeof *rows, run};

typedef struct job {
    tune_options o;
    nn_train_config cfg;
    tn_ctx c;
    nn_model *model;
    nn_templates templates;
    pictures pics;
    emb_words words;
    nn_train *train;
    nn_tune *tune;
    opt_progress progress;
    size_t base;
    nn_need encoder, step;
    char fingerprint[65];
} job;

/* ---- the folder ---- */

static int copy_file(const char *from, const char *to, tn_err *err) {
    tn_map map;
    if (tn_map_open(from, 0, &map, err)) return -1;
    int r = tn_write_atomic(to, map.data, map.len, err);
    tn_map_close(&map);
    return r;
}

/* The files of a component's folder; those of a learned part without their weights. */
static int copy_folder(const char *from, const char *to, bool learned, tn_err *err) {
    tn_list list;
    if (tn_list_dir(from, &list, err)) return -1;
    int r = tn_make_dirs(to, err);
    for (size_t i = 0; !r && i < list.n; i++) {
        if (learned && strcmp(list.name[i], "config.json") != 0) continue;
        char *source = nn_join(from, list.name[i]), *target = nn_join(to, list.name[i]);
        if (!source || !target) r = tn_fail(err, TN_ENOMEM, "%s: out of memory", from);
        else if (!tn_is_dir(source)) r = copy_file(source, target, err);
        free(source), free(target);
    }
    tn_list_free(&list);
    return r;
}

static int write_weights(const job *j, const nn_params *params, const char *folder, const char *stem, tn_err *err) {
    tn_st_dtype type = j->o.dtype[0] == 'b' ? TN_ST_BF16 : strcmp(j->o.dtype, "f16") == 0 ? TN_ST_F16 : TN_ST_F32;
    char path[4200];
    if (snprintf(path, sizeof path, "%s/%s/%s.safetensors", j->o.output, folder, stem) >= (int)sizeof path)
        return tn_fail(err, TN_EUSAGE, "--output: the path is too long");
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    tn_st_add_meta(w, "format", "pt");
    for (int i = 0; i < params->n; i++) {
        const tn_tensor *t = params->p[i].t;
        if (t->data) tn_st_add(w, params->p[i].name, type, t->ndim, t->shape, t->data);
    }
    int r = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    return r;
}

static int write_word(const job *j, tn_err *err) {
    char *path = nn_join(j->o.output, "learned_embeds.safetensors");
    int r = path ? emb_write(path, &j->words, err) : tn_fail(err, TN_ENOMEM, "out of memory");
    free(path);
    return r;
}

static int write_model(const job *j, tn_err *err) {
    tn_list list;
    int r = tn_list_dir(j->model->dir, &list, err);
    if (r) return -1;
    for (size_t i = 0; !r && i < list.n; i++) {
        char *from = nn_join(j->model->dir, list.name[i]), *to = nn_join(j->o.output, list.name[i]);
        bool learned = strcmp(list.name[i], "unet") == 0 || strcmp(list.name[i], "text_encoder") == 0;
        if (!from || !to) r = tn_fail(err, TN_ENOMEM, "out of memory");
        else if (tn_is_dir(from)) r = copy_folder(from, to, learned, err);
        free(from), free(to);
    }
    tn_list_free(&list);
    if (r || write_weights(j, &j->model->text->weights.params, "text_encoder", "model", err) ||
        write_weights(j, nn_unet_params(j->model->unet), "unet", "diffusion_pytorch_model", err) || write_word(j, err))
        return -1;
    char *from = nn_join(j->model->dir, "model_index.json"), *to = nn_join(j->o.output, "model_index.json");
    r = from && to ? copy_file(from, to, err) : tn_fail(err, TN_ENOMEM, "out of memory");
    free(from), free(to);
    return r;
}

/* ---- the plan ---- */

/* The ways to run, the fastest first: blocks that run again in backward, the large ones before the small ones. */
enum { LARGEST = 24, WAYS = LARGEST + 2 };
static int64_t checkpoint_of(int way) { return way == 0 ? 0 : (int64_t)1 << (LARGEST - (way - 1)); }

static int bytes_of(void *arg, int way, size_t *out, tn_err *err) {
    job *j = arg;
    if (nn_tune_measure(j->train, &j->c, checkpoint_of(way), &j->step, err)) return -1;
    size_t step = nn_tune_bytes(j->model) + j->step.step + j->step.block, encoder = nn_need_bytes(&j->encoder, NN_STAY);
    *out = j->base + (step > encoder ? step : encoder);
    return 0;
}

static int plan(job *j, tn_err *err) {
    int way;
    size_t taken;
    char total[16], kept[16], step[16];
    nn_model_rest(j->model);
    j->base = mem_base();
    if (nn_train_measure_encoder(j->train, &j->c, &j->encoder, err)) return -1;
    if (mem_choose(&j->o.limit, WAYS, 1, bytes_of, j, " (the weights, their gradients and moments are kept in F32)", &way, &taken, err)) return -1;
    if (j->o.limit.kind == MEM_FREE && j->o.limit.bytes && taken > j->o.limit.bytes) {
        return tn_fail(err, TN_ENOMEM, "this run needs %s and the machine has %s free (--memory fast tries all the same)",
                       mem_text(total, taken), mem_text(kept, j->o.limit.bytes));
    }
    j->c.checkpoint = checkpoint_of(way);
    if (nn_tune_measure(j->train, &j->c, j->c.checkpoint, &j->step, err)) return -1;
    opt_note(&j->o.common, "plan: %" PRId64 " steps of %" PRId64 " x %" PRId64 " pictures at %" PRId64 "x%" PRId64 ", seed %" PRIu64,
             j->cfg.steps, j->cfg.accumulate, j->cfg.batch, j->cfg.resolution, j->cfg.resolution, j->cfg.seed);
    opt_note(&j->o.common, "      memory %s: weights, gradients and moments %s, activations %s%s", mem_text(total, taken),
             mem_text(kept, nn_tune_bytes(j->model)), mem_text(step, j->step.step + j->step.block),
             j->c.checkpoint ? " (blocks run again in backward)" : "");
    return 0;
}

/* ---- the run ---- */

static int check(tune_options *o, tn_err *err) {
    if (!o->model || !o->embedding || !o->data || !o->output) {
        return tn_fail(err, TN_EUSAGE, "%s is needed", !o->model ? "--model DIR" : !o->embedding ? "--embedding FILE"
                       : !o->data ? "--train-data-dir DIR" : "-o DIR");
    }
    if (o->template_file && o->property) return tn_fail(err, TN_EUSAGE, "--template-file and --learnable-property exclude each other");
    char *index = nn_join(o->output, "model_index.json");
    bool there = index && tn_exists(index);
    free(index);
    if (there) return tn_fail(err, TN_EUSAGE, "%s: there is a model already", o->output);
    return mem_parse(o->memory, &o->limit, err);
}

/* The word as the start of a run that is never advanced. All words of the file stand in a sentence side by side. */
static int fix_words(job *j, tn_err *err) {
    if (emb_read_argument(j->o.embedding, &j->words, err)) return -1;
    if (j->words.n > NN_MAX_PLACEHOLDERS) return tn_fail(err, TN_EUSAGE, "%s: more than %d words", j->o.embedding, NN_MAX_PLACEHOLDERS);
    j->cfg.nplaceholders = j->words.n, j->cfg.num_vectors = j->words.w[0].n;
    for (int i = 0; i < j->words.n; i++) {
        const emb_word *w = &j->words.w[i];
        if (w->n != j->cfg.num_vectors || w->dim != j->model->text->cfg.t.width)
            return tn_fail(err, TN_EINPUT, "%s: %s has %" PRId64 " vectors of width %" PRId64 ", expected %" PRId64 " of %" PRId64,
                           j->o.embedding, w->token, w->n, w->dim, j->cfg.num_vectors, j->model->text->cfg.t.width);
        j->cfg.placeholder[i] = w->token, j->cfg.initial[i] = w->v;
    }
    return 0;
}

static int load(job *j, tn_err *err) {
    const tune_options *o = &j->o;
    j->cfg = (nn_train_config){.resolution = o->resolution, .center_crop = o->center_crop, .flip = !o->no_flip, .posterior_mean = o->posterior_mean,
                               .batch = o->batch, .accumulate = o->accumulate, .steps = o->steps, .seed = (uint64_t)o->seed,
                               .adam = {o->beta1, o->beta2, o->epsilon, o->weight_decay}};
    if (nn_lr_parse(o->learning_rate, &j->cfg.lr, err) || opt_context(&o->common, &j->c, err)) return -1;
    if (o->template_file ? nn_templates_load(o->template_file, &j->templates, err)
                         : nn_templates_builtin(o->property && strcmp(o->property, "style") == 0 ? NN_TEMPLATES_STYLE : NN_TEMPLATES_OBJECT,
                                                &j->templates, err)) return -1;
    if (nn_model_load(o->model, NN_LOAD_ALL, &j->model, err) || pictures_load(o->data, &j->pics, err) || fix_words(j, err) ||
        nn_model_fingerprint(j->model, j->fingerprint, err)) return -1;
    if (!j->cfg.resolution) j->cfg.resolution = gen_native_size(j->model);
    return nn_train_open(&j->c, j->model, &j->cfg, &j->templates, NULL, j->pics.n, NULL, NULL, &j->train, err);
}

static int resume(job *j, const char *checkpoint, tn_err *err) {
    if (!j->o.resume) {
        if (tn_exists(checkpoint)) opt_warn("%s is there already; starting over (--resume goes on from it)", checkpoint);
        return 0;
    }
    if (!tn_exists(checkpoint)) {
        opt_note(&j->o.common, "no checkpoint in %s: starting at step 1", j->o.output);
        return 0;
    }
    if (nn_tune_load(j->tune, j->fingerprint, checkpoint, err)) return -1;
    opt_note(&j->o.common, "going on after step %" PRId64, nn_tune_steps_done(j->tune));
    return 0;
}

/* 0 finished, 1 stopped by a signal, -1 failed. */
static int learn(job *j, const char *checkpoint, tn_err *err) {
    nn_train_step s;
    char extra[80];
    int64_t first = nn_tune_steps_done(j->tune);
    double mean = 0.0;
    stop_listen();
    opt_progress_start(&j->progress, &j->o.common, "Steps", j->cfg.steps, first);
    while (nn_tune_steps_done(j->tune) < j->cfg.steps && !stop_asked()) {
        if (nn_tune_advance(j->tune, &j->c, &s, err)) return -1;
        mean += (s.loss - mean) * (s.step == first + 1 ? 1.0 : 0.05);
        snprintf(extra, sizeof extra, "loss %.4f, lr %.3g", mean, s.lr);
        opt_progress_step(&j->progress, s.step, extra);
        bool due = s.step % j->o.checkpointing_steps == 0 && s.step < j->cfg.steps;
        if (due && nn_tune_save(j->tune, j->fingerprint, checkpoint, err)) return -1;
    }
    opt_progress_end(&j->progress);
    if (nn_tune_steps_done(j->tune) >= j->cfg.steps) return 0;
    if (nn_tune_save(j->tune, j->fingerprint, checkpoint, err)) return -1;
    opt_note(&j->o.common, "\nstopped after step %" PRId64 "; the same command with --resume goes on", nn_tune_steps_done(j->tune));
    return 1;
}

/* The checkpoint goes when the model is there: it is three times as large. */
static int finish(job *j, tn_err *err) {
    char *checkpoint = nn_join(j->o.output, "checkpoint.safetensors");
    int r = checkpoint ? resume(j, checkpoint, err) : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r) r = learn(j, checkpoint, err);
    if (!r) r = write_model(j, err) || tn_remove_file(checkpoint, err) ? -1 : 0;
    free(checkpoint);
    return r;
}

static int tune(job *j, tn_err *err) {
    if (check(&j->o, err) || load(j, err) || plan(j, err)) return -1;
    if (j->o.dry_run) return 0;
    if (tn_make_dirs(j->o.output, err) || nn_train_encode(j->train, &j->c, j->pics.image, NULL, NULL, err)) return -1;
    nn_memory_part(&j->c, j->model, NN_LEAVE, &j->step);
    if (nn_tune_open(j->train, &j->tune, err)) return -1;
    nn_model_rest(j->model);
    return finish(j, err);
}

static int run(int argc, char **argv) {
    job j = {.o = {.learning_rate = "1e-7", .dtype = "f32", .batch = 1, .accumulate = 1, .steps = 350, .beta1 = 0.9, .beta2 = 0.999,
                   .epsilon = 1e-8, .weight_decay = 1e-2, .checkpointing_steps = 100}};
    tn_err err;
    int r = opt_parse(&cmd_tune, argc, argv, &j.o, NULL, NULL, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    r = tune(&j, &err);
    if (!r && !j.o.dry_run) puts(j.o.output);
    nn_tune_free(j.tune);
    nn_train_free(j.train);
    nn_model_free(j.model);
    nn_templates_free(&j.templates);
    pictures_free(&j.pics);
    emb_free(&j.words);
    tn_ctx_free(&j.c);
    return r < 0 ? opt_error(&err) : r ? 128 + stop_asked() : 0;
}
