/* oneword encoder: pictures straight to a word. `encoder train` learns from the names that a model knows, `encoder apply` gives the
 * word of a folder of pictures; `oneword train --initializer-embedding` goes on from there. */
#include "nn/encoder.h"
#include "nn/pipeline.h"
#include "nn/train.h"
#include "tools/embedding.h"
#include "tools/entities.h"
#include "tools/pictures.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct encoder_options {
    opt_common common;
    const char *model, *clip, *output;
    const char *names, *examples;
    int64_t pictures, sampling_steps, hidden, batch, steps, diffusion_steps, hold_out, seed;
    double guidance, rate, diffusion_rate, weight_decay, closeness;
    const char *encoder, *data, *kind, *placeholder;
} encoder_options;

#define AT(f) offsetof(encoder_options, f)
static const opt_row rows[] = {
    {"m,model,pretrained-model-name-or-path,d", OPT_TEXT, AT(model), 0, 0, "DIR", "model directory as diffusers stores it (required)"},
    {"clip", OPT_TEXT, AT(clip), 0, 0, "DIR", "the CLIP that looks at the pictures (required)"},
    {"o,output", OPT_TEXT, AT(output), 0, 0, "FILE", "train: the encoder; apply: the word (required)"},
    {"names", OPT_TEXT, AT(names), 0, 0, "FILE", "train: \"NAME KIND\" a line, each one token of the model (required)"},
    {"examples", OPT_TEXT, AT(examples), 0, 0, "FILE", "train: what was seen of them is kept here, and taken from here (default: OUTPUT.examples)"},
    {"pictures", OPT_INT, AT(pictures), 1, 1000, "N", "train: pictures of each name (default 4)"},
    {"sampling-steps", OPT_INT, AT(sampling_steps), 1, 1000, "N", "train: steps of DDIM for them (default 15)"},
    {"guidance-scale", OPT_NUMBER, AT(guidance), 0, 1000, "X", "train: their guidance (default 4)"},
    {"hidden", OPT_INT, AT(hidden), 1, 65536, "N", "train: width of the two hidden layers (default 256)"},
    {"train-batch-size", OPT_INT, AT(batch), 1, 1024, "N", "train: names a step (default 16)"},
    {"max-train-steps", OPT_INT, AT(steps), 0, 10000000, "N", "train: steps towards the vectors of the names (default 300)"},
    {"learning-rate,lr", OPT_NUMBER, AT(rate), 0, 1, "X", "train: their rate, falling to 0 (default 1e-3)"},
    {"diffusion-steps", OPT_INT, AT(diffusion_steps), 0, 10000000, "N", "train: then steps by the loss of the diffusion model (default 0)"},
    {"diffusion-learning-rate", OPT_NUMBER, AT(diffusion_rate), 0, 1, "X", "train: their rate, falling to 0 (default 5e-5)"},
    {"weight-decay", OPT_NUMBER, AT(weight_decay), 0, 1000, "X", "train: AdamW's (default 0.1)"},
    {"closeness", OPT_NUMBER, AT(closeness), 0, 1e9, "X", "train: weight of the distance to the kind's vector (default 0.01)"},
    {"hold-out", OPT_INT, AT(hold_out), 0, 1000000, "N", "train: names that are only judged by (default 24, the last ones)"},
    {"seed,S", OPT_INT, AT(seed), 0, 9e18, "N", "train: random seed (default 0)"},
    {"encoder", OPT_TEXT, AT(encoder), 0, 0, "FILE", "apply: what train made (required)"},
    {"train-data-dir,data", OPT_TEXT, AT(data), 0, 0, "DIR", "apply: the pictures (required)"},
    {"initializer-token,kind", OPT_TEXT, AT(kind), 0, 0, "WORD", "apply: the word for their kind (required)"},
    {"placeholder-token", OPT_TEXT, AT(placeholder), 0, 0, "TOKEN", "apply: the new word, as \"<my-cat>\" (required)"},
    OPT_COMMON(encoder_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_encoder = {
    "encoder", "pictures straight to a word",
    "encoder train --model DIR --clip DIR --names FILE -o FILE | encoder apply --model DIR --clip DIR --encoder FILE\n"
    "       --train-data-dir DIR --initializer-token WORD --placeholder-token TOKEN -o FILE",
    "example, for the bundled world (train: minutes, apply: a second):\n"
    "  oneword encoder train --model testdata/world/model --clip testdata/world/clip --names testdata/world/entities.txt -o encoder.safetensors\n"
    "  oneword encoder apply --model testdata/world/model --clip testdata/world/clip --encoder encoder.safetensors \\\n"
    "    --train-data-dir testdata/world/concepts/mango --initializer-token cat --placeholder-token '<mango>' -o mango.safetensors\n"
    "  oneword train --preset quick --max-train-steps 50 --initializer-embedding mango.safetensors ...",
    rows, sizeof rows / sizeof *rows, run};

typedef struct job {
    encoder_options o;
    tn_ctx c, model_c; /* the encoder's and the model's */
    nn_model *model;
    clip_judge clip;
    nn_encoder encoder;
    entities names;
    sightings seen;
    float *kind, *word; /* [names, width] */
} job;

/* Which models an encoder is of. */
static int describe(const job *j, char out[200], tn_err *err) {
    char model[65], clip[65];
    if (nn_model_fingerprint(j->model, model, err) || clip_fingerprint(j->o.clip, clip, err)) return -1;
    snprintf(out, 200, "model=%s clip=%s", model, clip);
    return 0;
}

static int open_models(job *j, tn_err *err) {
    if (opt_context(&j->o.common, &j->c, err) || opt_context(&j->o.common, &j->model_c, err)) return -1;
    return nn_model_load(j->o.model, NN_LOAD_ALL, &j->model, err) || clip_open(j->o.clip, &j->clip, err) ? -1 : 0;
}

/* A word's row of the text encoder's table. */
static int row_of(const job *j, const char *word, float *out, tn_err *err) {
    const tn_tensor *table = &j->model->text->token;
    int32_t id = nn_tokenizer_word(j->model->tokenizer, word);
    if (id < 0 || id >= table->shape[0]) return tn_fail(err, TN_EUSAGE, "\"%s\" is not one token of the model", word);
    nn_text_row(table, j->c.k, id, out);
    return 0;
}

/* ---- train ---- */

static int learn_names(job *j, tn_err *err) {
    int64_t C = j->model->text->cfg.t.width;
    size_t n = (size_t)(j->names.n * C);
    j->kind = malloc(n * sizeof *j->kind), j->word = malloc(n * sizeof *j->word);
    if (!j->kind || !j->word) return tn_fail(err, TN_ENOMEM, "out of memory");
    for (int i = 0; i < j->names.n; i++) {
        if (row_of(j, j->names.kind[i], j->kind + i * C, err) || row_of(j, j->names.name[i], j->word + i * C, err)) return -1;
    }
    return 0;
}

/* The first n names from `from` on. */
static nn_lessons lessons_of(const job *j, int64_t from, int64_t n) {
    const sightings *s = &j->seen;
    int64_t C = j->encoder.width, latent = s->channels * s->side * s->side;
    return (nn_lessons){n, s->each, s->features + from * s->each * j->encoder.features, j->kind + from * C, j->word + from * C,
                        s->latents + from * s->each * latent, s->channels, s->side};
}

/* Over the names held out: the squared distance from the encoder's word to the model's, as a part of the kind's. */
static int judge(job *j, const nn_lessons *l, double *part, tn_err *err) {
    int64_t C = j->encoder.width, F = j->encoder.features;
    double off = 0.0, of = 0.0;
    float *word = malloc((size_t)C * sizeof *word);
    int r = word ? 0 : tn_fail(err, TN_ENOMEM, "out of memory");
    for (int64_t i = 0; !r && i < l->n; i++) {
        r = nn_encoder_apply(&j->c, &j->encoder, l->features + i * l->each * F, l->each, l->kind + i * C, word, err);
        for (int64_t k = 0; !r && k < C; k++) {
            double known = (double)l->word[i * C + k], a = known - (double)word[k], b = known - (double)l->kind[i * C + k];
            off += a * a, of += b * b;
        }
    }
    free(word);
    *part = of > 0.0 ? off / of : 0.0;
    return r;
}

/* "a photo of a WORD" with the first name in the word's place, and where that is. */
static int find_place(const job *j, int64_t *ids, int64_t *place, tn_err *err) {
    char text[300];
    int length = nn_prompt_length(j->model);
    snprintf(text, sizeof text, "a photo of a %.200s", j->names.name[0]);
    if (nn_prompt_ids(j->model, text, NN_RULES_HF, ids, err)) return -1;
    int32_t id = nn_tokenizer_word(j->model->tokenizer, j->names.name[0]);
    for (*place = 0; *place < length && ids[*place] != id; ++*place) {}
    return *place < length ? 0 : tn_fail(err, TN_EUSAGE, "\"%s\" is lost in a sentence", j->names.name[0]);
}

static int practise(job *j, const nn_lessons *l, const nn_encoder_config *cfg, opt_progress *bar, tn_err *err) {
    nn_schedule schedule;
    int64_t length = nn_prompt_length(j->model), place, steps = j->o.diffusion_steps, *ids = malloc((size_t)length * sizeof *ids);
    double loss, mean = 0.0;
    char extra[60];
    if (!ids) return tn_fail(err, TN_ENOMEM, "out of memory");
    int r = find_place(j, ids, &place, err);
    if (r || (r = nn_schedule_init(&schedule, &j->model->schedule, err))) {
        free(ids);
        return -1;
    }
    nn_practice p = {j->model, &schedule, ids, length, place, &j->model_c};
    nn_lr lr = {.kind = NN_LR_COSINE, .base = j->o.diffusion_rate, .total = steps};
    for (int64_t i = 0; !r && i < steps; i++) {
        if ((r = nn_encoder_practise(&j->c, &j->encoder, l, cfg, &p, nn_lr_at(&lr, i), &loss, err))) break;
        mean += (loss - mean) * (i == 0 ? 1.0 : 0.05);
        snprintf(extra, sizeof extra, "diffusion loss %.4f", mean);
        opt_progress_step(bar, j->o.steps + i + 1, extra);
    }
    nn_schedule_free(&schedule);
    free(ids);
    return r ? -1 : 0;
}

static int learn(job *j, const nn_lessons *l, tn_err *err) {
    const encoder_options *o = &j->o;
    nn_encoder_config cfg = {o->batch, o->closeness, (uint64_t)o->seed, {0.9, 0.999, 1e-8, o->weight_decay}};
    nn_lr lr = {.kind = NN_LR_COSINE, .base = o->rate, .total = o->steps};
    opt_progress bar;
    char extra[60];
    double loss;
    opt_progress_start(&bar, &o->common, "Steps", o->steps + o->diffusion_steps, 0);
    for (int64_t i = 0; i < o->steps; i++) {
        if (nn_encoder_study(&j->c, &j->encoder, l, &cfg, nn_lr_at(&lr, i), &loss, err)) return -1;
        snprintf(extra, sizeof extra, "loss %.4f", loss);
        opt_progress_step(&bar, i + 1, extra);
    }
    if (practise(j, l, &cfg, &bar, err)) return -1;
    opt_progress_end(&bar);
    return 0;
}

static int report_training(const job *j, int64_t held, double part, tn_err *err) {
    tn_jw w;
    if (held) opt_note(&j->o.common, "%" PRId64 " names held out: the encoder's words are off by %.2f of what the kind's are", held, part);
    if (!j->o.common.json) {
        puts(j->o.output);
        return 0;
    }
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", j->o.output), tn_jw_int(&w, "names", j->names.n), tn_jw_int(&w, "held_out", held);
    if (held) tn_jw_number(&w, "part_of_kinds_error", part);
    return opt_put_json(&w, err);
}

static int train(job *j, tn_err *err) {
    const encoder_options *o = &j->o;
    char about[200], path[4096];
    double part = 0.0;
    if (!o->names) return tn_fail(err, TN_EUSAGE, "--names FILE is needed");
    if (snprintf(path, sizeof path, "%s%s", o->examples ? o->examples : o->output, o->examples ? "" : ".examples") >= (int)sizeof path)
        return tn_fail(err, TN_EUSAGE, "--output: the path is too long");
    if (entities_load(o->names, &j->names, err)) return -1;
    if (o->hold_out >= j->names.n) return tn_fail(err, TN_EUSAGE, "--hold-out %" PRId64 " of %d names", o->hold_out, j->names.n);
    if (open_models(j, err) || learn_names(j, err)) return -1;
    j->seen = (sightings){.path = path, .each = o->pictures, .steps = o->sampling_steps, .guidance = o->guidance, .seed = (uint64_t)o->seed};
    if (entities_see(&j->names, &j->model_c, j->model, &j->clip, o->clip, &j->seen, &o->common, err) ||
        nn_encoder_new(j->clip.width, j->model->text->cfg.t.width, o->hidden, (uint64_t)o->seed, &j->encoder, err))
        return -1;
    int64_t learned = j->names.n - o->hold_out;
    nn_lessons l = lessons_of(j, 0, learned), held = lessons_of(j, learned, o->hold_out);
    if (learn(j, &l, err) || judge(j, &held, &part, err) || describe(j, about, err)) return -1;
    return nn_encoder_save(&j->encoder, about, o->output, err) || report_training(j, o->hold_out, part, err) ? -1 : 0;
}

/* ---- apply ---- */

static int give_word(job *j, const pictures *p, const float *features, tn_err *err) {
    int64_t C = j->encoder.width;
    emb_words words = {0};
    float *v = malloc((size_t)(2 * C) * sizeof *v);
    if (!v) return tn_fail(err, TN_ENOMEM, "out of memory");
    int r = row_of(j, j->o.kind, v, err) || nn_encoder_apply(&j->c, &j->encoder, features, p->n, v, v + C, err) ||
            emb_append(&words, j->o.placeholder, 1, C, v + C, err) || emb_write(j->o.output, &words, err);
    emb_free(&words);
    free(v);
    if (!r) puts(j->o.output);
    return r ? -1 : 0;
}

static int apply(job *j, tn_err *err) {
    const encoder_options *o = &j->o;
    char about[200], *made_for = NULL;
    pictures p = {0};
    if (!o->encoder || !o->data || !o->kind || !o->placeholder) {
        return tn_fail(err, TN_EUSAGE, "%s is needed", !o->encoder ? "--encoder FILE" : !o->data ? "--train-data-dir DIR"
                       : !o->kind ? "--initializer-token WORD" : "--placeholder-token TOKEN");
    }
    if (nn_encoder_load(o->encoder, &j->encoder, &made_for, err)) return -1;
    int r = open_models(j, err) || describe(j, about, err);
    if (!r && strcmp(about, made_for) != 0) r = tn_fail(err, TN_EINPUT, "%s: made for another model or another CLIP", o->encoder);
    if (!r && (j->encoder.features != j->clip.width || j->encoder.width != j->model->text->cfg.t.width))
        r = tn_fail(err, TN_EINPUT, "%s: its sizes are not those of the model it names", o->encoder);
    free(made_for);
    if (r || pictures_load(o->data, &p, err)) return -1;
    float *features = malloc((size_t)(p.n * j->clip.width) * sizeof *features);
    r = features ? clip_see(&j->model_c, &j->clip, p.image, p.n, features, err) : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r) r = give_word(j, &p, features, err);
    free(features);
    pictures_free(&p);
    return r ? -1 : 0;
}

static int dispatch(job *j, const opt_list *rest, tn_err *err) {
    const encoder_options *o = &j->o;
    bool trains = rest->n == 1 && strcmp(rest->item[0], "train") == 0, applies = rest->n == 1 && strcmp(rest->item[0], "apply") == 0;
    if (!trains && !applies) return tn_fail(err, TN_EUSAGE, "train or apply is needed (oneword encoder train ...)");
    if (!o->model || !o->clip || !o->output)
        return tn_fail(err, TN_EUSAGE, "%s is needed", !o->model ? "--model DIR" : !o->clip ? "--clip DIR" : "-o FILE");
    return trains ? train(j, err) : apply(j, err);
}

static int run(int argc, char **argv) {
    job j = {.o = {.pictures = 4, .sampling_steps = 15, .guidance = 4.0, .hidden = 256, .batch = 16, .steps = 300, .rate = 1e-3,
                   .diffusion_rate = 5e-5, .weight_decay = 0.1, .closeness = 0.01, .hold_out = 24}};
    opt_list rest = {.n = 0};
    tn_err err;
    int r = opt_parse(&cmd_encoder, argc, argv, &j.o, NULL, &rest, &err);
    if (!r) r = dispatch(&j, &rest, &err);
    nn_encoder_free(&j.encoder);
    entities_free(&j.names);
    free(j.seen.features), free(j.seen.latents), free(j.kind), free(j.word);
    clip_close(&j.clip);
    nn_model_free(j.model);
    tn_ctx_free(&j.c), tn_ctx_free(&j.model_c);
    return r < 0 ? opt_error(&err) : 0;
}
