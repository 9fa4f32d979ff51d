/* oneword train: pictures in, learned_embeds.safetensors out.
 *
 * OUTPUT/ holds  run.json (the resolved settings and the seed, written before step 1), checkpoint.safetensors,
 * log.jsonl, learned_embeds.safetensors at the end, val-stepN-i.png. Every file is replaced atomically: a run that is
 * killed at any moment goes on with --resume to the same bytes. */
#include "nn/train.h"
#include "tensor/io/sys.h"
#include "tools/captions.h"
#include "tools/embedding.h"
#include "tools/generate.h"
#include "tools/pictures.h"
#include "tools/stop.h"
#include "tools/train_options.h"

#include "nn/image/png.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(int argc, char **argv);
const opt_command cmd_train = {
    "train", "learn a word from 3 to 5 pictures",
    "train --model DIR --train-data-dir DIR --placeholder-token TOKEN [--initializer-token WORD] [options]",
    "presets (explicit options win):\n"
    "  diffusers  batch 1 x 4, 3000 steps, rate 5e-4 scaled by 4\n"
    "  paper      batch 4 x 2, 5000 steps, rate 5e-3 scaled by 8; sentences with a full stop\n"
    "  official   batch 2, 6100 steps, rate 5e-3 scaled by 2; the official code's 81 sentences, its regulariser, its start (the\n"
    "             first position added to the initializer's row, uniform noise without one), its way to several vectors\n"
    "  quick      batch 1, 400 steps, rate 1e-2 falling to 0, no mirroring: a word in minutes on a CPU\n\n"
    "The setups of the paper's section 5.2 (--num-vectors, --progressive, --embedding-reg-weight, --per-image-tokens, --captions,\n"
    "--learning-rate, --max-pictures) may be combined.\n\n"
    "example:\n"
    "  oneword train --model testdata/world/model --train-data-dir testdata/world/concepts/mango --preset quick \\\n"
    "    --template-file testdata/world/templates-object.txt --placeholder-token '<mango>' --initializer-token cat -o out",
    train_rows, TRAIN_NROWS, run};

typedef struct job {
    train_options o;
    nn_train_config cfg;
    tn_ctx c;
    nn_model *model;
    nn_templates templates;
    pictures pics;
    captions captions;
    emb_words initial; /* of --initializer-embedding */
    nn_train *train;
    nn_residency residency;
    size_t base;             /* memory that the program has before it encodes and learns */
    nn_need encoder, step;   /* what those two take */
    gen_needs validation;
    char fingerprint[65];
    opt_progress progress;
    double mean_loss; /* running mean for the progress line */
} job;

static int output_path(const job *j, const char *name, char *path, size_t cap, tn_err *err) {
    if (snprintf(path, cap, "%s/%s", j->o.output, name) < (int)cap) return 0;
    return tn_fail(err, TN_EUSAGE, "--output: the path is too long");
}

/* ---- the log ---- */

static int log_line(const job *j, tn_jw *w, tn_err *err) {
    char path[4096], *text = tn_jw_take(w);
    int r = text ? output_path(j, "log.jsonl", path, sizeof path, err) : tn_fail(err, TN_ENOMEM, "out of memory for the log");
    if (!r) {
        size_t n = strlen(text);
        text[n] = '\n'; /* in place of the NUL: lines are appended whole */
        r = tn_append_file(path, text, n + 1, err);
        if (j->o.common.json) fwrite(text, 1, n + 1, stdout), fflush(stdout);
    }
    free(text);
    return r;
}

static int log_step(const job *j, const nn_train_step *s, tn_err *err) {
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "event", "step"), tn_jw_int(&w, "step", s->step), tn_jw_number(&w, "loss", s->loss);
    if (j->cfg.reg_weight > 0.0) tn_jw_number(&w, "reg", s->reg);
    if (j->cfg.nswitches) tn_jw_int(&w, "vectors", s->vectors);
    if (j->cfg.stop_window) tn_jw_number(&w, "eval_loss", s->eval_loss), tn_jw_number(&w, "variance_ratio", s->variance);
    tn_jw_number(&w, "lr", s->lr), tn_jw_number(&w, "grad_norm", s->grad_norm);
    tn_jw_int(&w, "rss", (int64_t)tn_rss_now());
    tn_jw_close(&w, '}');
    return log_line(j, &w, err);
}

/* ---- run.json: what a resumed run needs to know that its command line may not say; and where it ended ---- */

static void store_setups(const job *j, tn_jw *w) {
    const nn_train_config *c = &j->cfg;
    if (c->reg_weight > 0.0) tn_jw_number(w, "embedding_reg_weight", c->reg_weight), tn_jw_string(w, "embedding_reg", j->o.reg_kind);
    if (j->o.progressive) tn_jw_string(w, "progressive", j->o.progressive);
    if (j->o.per_image) tn_jw_number(w, "per_image_share", c->per_image_share);
    if (j->o.captions) tn_jw_bool(w, "captions", true);
    if (j->o.compose) tn_jw_number(w, "compose_share", c->compose_share), tn_jw_int(w, "compose_pictures", c->compose_pictures);
    tn_jw_int(w, "pictures", j->pics.n);
    if (!c->stop_window) return;
    tn_jw_string(w, "early_stop", "dvar"), tn_jw_int(w, "early_stop_window", c->stop_window);
    tn_jw_number(w, "early_stop_threshold", c->stop_threshold);
    if (nn_train_stopped(j->train)) tn_jw_int(w, "stopped_after_step", nn_train_steps_done(j->train));
}

static int store_run(const job *j, tn_err *err) {
    char path[4096];
    tn_jw w;
    tn_jw_init(&w, 2);
    tn_jw_open(&w, NULL, '{');
    tn_jw_int(&w, "v", 1), tn_jw_int(&w, "seed", (int64_t)j->cfg.seed), tn_jw_string(&w, "model_sha256", j->fingerprint);
    tn_jw_string(&w, "preset", j->o.preset), tn_jw_string(&w, "learning_rate", j->o.learning_rate), tn_jw_bool(&w, "scale_lr", j->o.scale_lr);
    tn_jw_int(&w, "resolution", j->cfg.resolution), tn_jw_int(&w, "train_batch_size", j->cfg.batch);
    tn_jw_int(&w, "gradient_accumulation_steps", j->cfg.accumulate), tn_jw_int(&w, "max_train_steps", j->cfg.steps);
    tn_jw_int(&w, "num_vectors", j->cfg.num_vectors), tn_jw_string(&w, "conv", j->o.common.conv ? j->o.common.conv : "auto");
    tn_jw_open(&w, "placeholder_tokens", '[');
    for (int i = 0; i < j->cfg.nplaceholders; i++) tn_jw_string(&w, NULL, j->cfg.placeholder[i]);
    tn_jw_close(&w, ']');
    store_setups(j, &w);
    tn_jw_close(&w, '}');
    char *text = tn_jw_take(&w);
    int r = text ? output_path(j, "run.json", path, sizeof path, err) : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r) r = tn_write_atomic(path, text, strlen(text), err);
    free(text);
    return r;
}

/* The seed: given, or stored by the run that is resumed, or a new one. */
static int choose_seed(job *j, tn_err *err) {
    char path[4096];
    if (j->o.seed >= 0) return 0;
    if (output_path(j, "run.json", path, sizeof path, err)) return -1;
    if (!j->o.resume || !tn_exists(path)) {
        j->cfg.seed = tn_entropy() & 0x7fffffff;
        return 0;
    }
    tn_json *doc;
    if (tn_json_load(path, 0, &doc, err)) return -1;
    const tn_jval *seed = tn_json_get(tn_json_root(doc), "seed");
    int r = seed && seed->is_int && seed->integer >= 0 ? 0 : tn_fail(err, TN_EINPUT, "%s: no seed in it (give --seed)", path);
    if (!r) j->cfg.seed = (uint64_t)seed->integer;
    tn_json_free(doc);
    return r;
}

/* ---- results ---- */

static int save_words(const job *j, const char *name, tn_err *err) {
    char path[4096];
    emb_words words = {0};
    int r = output_path(j, name, path, sizeof path, err);
    for (int i = 0; !r && i < j->cfg.nplaceholders; i++) {
        r = emb_append(&words, j->cfg.placeholder[i], nn_train_in_use(j->train), nn_train_word(j->train)->dim, nn_train_vectors(j->train, i), err);
    }
    for (int i = 0; !r && j->o.save_per_image && i < j->pics.n; i++) {
        r = emb_append(&words, nn_train_image_token(j->train, i), 1, nn_train_word(j->train)->dim, nn_train_image_vector(j->train, i), err);
    }
    if (!r) r = emb_write(path, &words, err);
    emb_free(&words);
    return r;
}

static int save_checkpoint(const job *j, tn_err *err) {
    char path[4096];
    if (output_path(j, "checkpoint.safetensors", path, sizeof path, err)) return -1;
    return nn_train_save(j->train, j->fingerprint, path, err);
}

static int resume(job *j, tn_err *err) {
    char path[4096];
    bool latest = !j->o.resume_from || strcmp(j->o.resume_from, "latest") == 0;
    if (output_path(j, "checkpoint.safetensors", path, sizeof path, err)) return -1;
    if (!j->o.resume) {
        if (tn_exists(path)) opt_warn("%s is there already; starting over (--resume goes on from it)", path);
        return 0;
    }
    if (latest && !tn_exists(path)) {
        opt_note(&j->o.common, "no checkpoint in %s: starting at step 1", j->o.output);
        return 0;
    }
    if (nn_train_load(j->train, j->fingerprint, latest ? path : j->o.resume_from, err)) return -1;
    opt_note(&j->o.common, "going on after step %" PRId64, nn_train_steps_done(j->train));
    return 0;
}

static gen_request validation_request(const job *j) {
    const nn_word *w = nn_train_word(j->train);
    gen_request r = {.prompt = j->o.validation_prompt, .learned = w->v, .rows = w->rows, .steps = 25, .guidance = 7.5, .sampler = "ddim",
                     .seed = j->cfg.seed, .count = j->o.validation_images, .rules = j->cfg.rules,
                     .residency = j->residency == NN_STREAM ? NN_STREAM : NN_LEAVE};
    return r;
}

static int validate(job *j, int64_t step, tn_err *err) {
    nn_image images[64];
    gen_request r = validation_request(j);
    int bad = gen_pictures(&j->c, j->model, &r, images, err);
    nn_memory_part(&j->c, j->model, j->residency, &j->step);
    if (bad) return tn_fail_in(err, "validation");
    for (int64_t i = 0; i < r.count; i++) {
        char name[64], path[4096];
        snprintf(name, sizeof name, "val-step%06" PRId64 "-%" PRId64 ".png", step, i);
        nn_text text = {"prompt", (char *)(uintptr_t)r.prompt};
        if (!bad) bad = output_path(j, name, path, sizeof path, err) || nn_png_write(path, &images[i], &text, 1, err);
        nn_image_free(&images[i]);
    }
    return bad ? -1 : 0;
}

/* ---- the plan ---- */

/* The ways to run, the fastest first. Weights that are read again cost a few hundredths of a step; blocks that run again, a
 * third of one, the large ones less: so they run again in the order of their sizes, from 2^LARGEST elements on. */
enum { STAY, STREAM, AGAIN, LARGEST = 24, WAYS = AGAIN + LARGEST + 1 };

static nn_residency residency_of(int way) { return way == STAY ? NN_STAY : NN_STREAM; }
static int64_t checkpoint_of(int way) { return way < AGAIN ? 0 : (int64_t)1 << (LARGEST - (way - AGAIN)); }

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* The three parts follow each other, and each begins with what the one before took given back. */
static int bytes_of(void *arg, int way, size_t *out, tn_err *err) {
    job *j = arg;
    if (nn_train_measure(j->train, &j->c, checkpoint_of(way), &j->step, err)) return -1;
    nn_residency r = residency_of(way);
    size_t most = larger(nn_need_bytes(&j->encoder, r), nn_need_bytes(&j->step, r));
    if (j->o.validation_prompt) most = larger(most, gen_bytes(&j->validation, r == NN_STREAM ? NN_STREAM : NN_LEAVE));
    *out = j->base + nn_train_kept(j->train) + most;
    return 0;
}

static int plan(job *j, tn_err *err) {
    int way;
    size_t taken;
    char total[16], weights[16], step[16], encoder[16];
    gen_request r = validation_request(j);
    nn_model_rest(j->model); /* what is mapped by now is not the base */
    j->base = mem_base();
    if (nn_train_measure_encoder(j->train, &j->c, &j->encoder, err)) return -1;
    if (j->o.validation_prompt && gen_measure(&j->c, j->model, &r, &j->validation, err)) return -1;
    if (mem_choose(&j->o.limit, WAYS, STREAM, bytes_of, j, " (lower --resolution or --train-batch-size)", &way, &taken, err)) return -1;
    j->residency = residency_of(way), j->c.checkpoint = checkpoint_of(way);
    if (nn_train_measure(j->train, &j->c, j->c.checkpoint, &j->step, err)) return -1;
    opt_note(&j->o.common,
             "plan: %" PRId64 " steps of %" PRId64 " x %" PRId64 " pictures at %" PRId64 "x%" PRId64 ", seed %" PRIu64,
             j->cfg.steps, j->cfg.accumulate, j->cfg.batch, j->cfg.resolution, j->cfg.resolution, j->cfg.seed);
    opt_note(&j->o.common, "      memory %s: weights %s%s, activations %s%s, encoder %s", mem_text(total, taken),
             mem_text(weights, way == STAY ? j->step.weights : j->step.part), way == STAY ? "" : " at a time",
             mem_text(step, j->step.step + j->step.block), j->c.checkpoint == 1 ? " (blocks run again in backward)"
             : j->c.checkpoint ? " (large blocks run again in backward)" : "", mem_text(encoder, j->encoder.step));
    return 0;
}

/* How long it will take, by a first step that is not kept. */
static int estimate(job *j, tn_err *err) {
    double seconds;
    nn_memory_part(&j->c, j->model, j->residency, &j->step);
    if (nn_train_probe(j->train, &j->c, &seconds, err)) return -1;
    seconds *= (double)j->cfg.accumulate;
    double total = seconds * (double)(j->cfg.steps - nn_train_steps_done(j->train));
    opt_note(&j->o.common, "      %.3g s a step, %.3g %s in all", seconds, total < 6000 ? total / 60 : total / 3600, total < 6000 ? "minutes" : "hours");
    if (total > 7200 && strcmp(j->o.preset, "quick") != 0) {
        opt_note(&j->o.common, "      --preset quick learns a word in a fraction of that");
    }
    return 0;
}

/* ---- the loop ---- */

static int after_step(job *j, const nn_train_step *s, tn_err *err) {
    char extra[120], memory[16];
    j->mean_loss += (s->loss - j->mean_loss) * (s->step == 1 ? 1.0 : 0.05);
    snprintf(extra, sizeof extra, "loss %.4f, lr %.3g, %s", j->mean_loss, s->lr, mem_text(memory, tn_rss_now()));
    opt_progress_step(&j->progress, s->step, extra);
    if (log_step(j, s, err)) return -1;
    if (j->o.save_steps && s->step % j->o.save_steps == 0) {
        char name[64];
        snprintf(name, sizeof name, "learned_embeds-steps-%" PRId64 ".safetensors", s->step);
        if (save_words(j, name, err)) return -1;
    }
    if (j->o.validation_prompt && s->step % j->o.validation_steps == 0 && validate(j, s->step, err)) return -1;
    if (s->step % j->o.checkpointing_steps == 0 || nn_train_finished(j->train)) return save_checkpoint(j, err);
    return 0;
}

/* 0 finished, 1 stopped by a signal, -1 failed. */
static int loop(job *j, tn_err *err) {
    nn_train_step s;
    stop_listen();
    j->mean_loss = 0.0;
    opt_progress_start(&j->progress, &j->o.common, "Steps", j->cfg.steps, nn_train_steps_done(j->train));
    while (!nn_train_finished(j->train) && !stop_asked()) {
        if (nn_train_advance(j->train, &j->c, &s, err) || after_step(j, &s, err)) return -1;
    }
    opt_progress_end(&j->progress);
    if (nn_train_stopped(j->train)) {
        opt_note(&j->o.common, "\nthe loss of the fixed batch no longer moves: ended after step %" PRId64, nn_train_steps_done(j->train));
        return store_run(j, err);
    }
    if (nn_train_finished(j->train)) return 0;
    return save_checkpoint(j, err) ? -1 : 1;
}

/* At 512x512 a picture takes its time: half a minute on one core. */
static void on_picture(void *arg, int done, int total) {
    job *j = arg;
    opt_progress_step(&j->progress, done, NULL);
    if (done == total) opt_progress_end(&j->progress);
}

static int load_pictures(job *j, tn_err *err) {
    const train_options *o = &j->o;
    if (pictures_load(o->data, &j->pics, err)) return -1;
    int64_t keep = o->max_pictures && o->max_pictures < j->pics.n ? o->max_pictures : j->pics.n;
    if (o->captions && captions_load(o->captions, &j->pics, (int)keep, &j->captions, err)) return -1;
    j->cfg.captions = o->captions ? (const char *const *)j->captions.line : NULL;
    pictures_cut(&j->pics, (int)keep);
    if (o->compose) {
        pictures more;
        j->cfg.compose_from = j->pics.n;
        if (pictures_load(o->compose, &more, err)) return -1;
        if (o->max_pictures) pictures_cut(&more, (int)o->max_pictures);
        int r = pictures_join(&j->pics, &more, err);
        pictures_free(&more);
        if (r) return -1;
    }
    if (j->pics.skipped) opt_warn("%s: %d files are no pictures and were passed over", o->data, j->pics.skipped);
    return 0;
}

/* --initializer-embedding: the words of the file by the placeholders' names, or its only one. */
static int load_initial(job *j, tn_err *err) {
    nn_train_config *cfg = &j->cfg;
    const char *file = j->o.initializer_embedding;
    if (!file) return 0;
    if (emb_read(file, NULL, &j->initial, err)) return -1;
    for (int i = 0; i < cfg->nplaceholders; i++) {
        const emb_word *w = j->initial.n == 1 && cfg->nplaceholders == 1 ? j->initial.w : NULL;
        for (int k = 0; !w && k < j->initial.n; k++)
            if (strcmp(j->initial.w[k].token, cfg->placeholder[i]) == 0) w = &j->initial.w[k];
        if (!w) return tn_fail(err, TN_EUSAGE, "%s: no word %s in it", file, cfg->placeholder[i]);
        if (w->n != cfg->num_vectors || w->dim != j->model->text->cfg.t.width) {
            return tn_fail(err, TN_EUSAGE, "%s: %s has %" PRId64 " vectors of width %" PRId64 ", expected %" PRId64 " of %" PRId64
                           " (--num-vectors, and the model it was made for)", file, w->token, w->n, w->dim, cfg->num_vectors,
                           j->model->text->cfg.t.width);
        }
        cfg->initial[i] = w->v;
    }
    return 0;
}

static int load_inputs(job *j, tn_err *err) {
    train_options *o = &j->o;
    if (opt_context(&o->common, &j->c, err) || train_options_config(o, &j->cfg, err)) return -1;
    if (o->template_file ? nn_templates_load(o->template_file, &j->templates, err)
                         : nn_templates_builtin(o->templates, &j->templates, err)) return -1;
    if (nn_model_load(o->model, NN_LOAD_ALL, &j->model, err)) return -1;
    for (const char *line = j->model->notes; o->common.verbose && *line; line += strcspn(line, "\n"), line += *line == '\n') {
        opt_note(&o->common, "%.*s", (int)strcspn(line, "\n"), line);
    }
    if (load_pictures(j, err) || load_initial(j, err)) return -1;
    if (!j->cfg.resolution) j->cfg.resolution = gen_native_size(j->model);
    return nn_model_fingerprint(j->model, j->fingerprint, err);
}

/* Every picture through the autoencoder, which is not needed after that. */
static int encode(job *j, tn_err *err) {
    nn_memory_part(&j->c, j->model, j->residency, &j->encoder);
    int64_t composed = j->cfg.compose_share > 0.0 ? j->cfg.compose_pictures : 0;
    opt_progress_start(&j->progress, &j->o.common, "Encoding", j->pics.n + composed, 0);
    int r = nn_train_encode(j->train, &j->c, j->pics.image, on_picture, j, err);
    nn_model_rest(j->model);
    tn_ctx_free(&j->c);
    return r;
}

static int train(job *j, tn_err *err) {
    if (load_inputs(j, err) || choose_seed(j, err)) return -1;
    if (nn_train_open(&j->c, j->model, &j->cfg, &j->templates, NULL, j->pics.n, NULL, NULL, &j->train, err) || plan(j, err)) return -1;
    if (j->o.dry_run) return estimate(j, err);
    if (tn_make_dirs(j->o.output, err) || encode(j, err) || resume(j, err) || estimate(j, err) || store_run(j, err)) return -1;
    int r = loop(j, err);
    if (r == 1) opt_note(&j->o.common, "\nstopped after step %" PRId64 "; the same command with --resume goes on", nn_train_steps_done(j->train));
    if (r) return r;
    char text[16];
    if (j->o.common.verbose) opt_note(&j->o.common, "memory taken: %s", mem_text(text, tn_rss_peak()));
    return save_words(j, "learned_embeds.safetensors", err);
}

static int run(int argc, char **argv) {
    job j = {0};
    tn_err err;
    int r = train_options_parse(argc, argv, &j.o, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    r = train(&j, &err);
    if (r == 0 && !j.o.dry_run) printf("%s/learned_embeds.safetensors\n", j.o.output);
    nn_train_free(j.train);
    nn_model_free(j.model);
    nn_templates_free(&j.templates);
    pictures_free(&j.pics);
    captions_free(&j.captions);
    emb_free(&j.initial);
    tn_ctx_free(&j.c);
    return r < 0 ? opt_error(&err) : r ? 128 + stop_asked() : 0;
}
