/* oneword clip-word: a word tuned where CLIP compares pictures with sentences, then put into a model. */
#include "tensor/io/json.h"
#include "tools/clip_word.h"
#include "tools/embedding.h"
#include "tools/opt.h"
#include "tools/picture_out.h"
#include "tools/pictures.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct clip_word_options {
    opt_common common;
    const char *model, *clip, *data, *placeholder, *coarse, *output;
    opt_list sentences;
    int64_t steps;
    double lr, temperature;
} clip_word_options;

#define FIELD(name) offsetof(clip_word_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR",
     "model directory that the word is for"},
    {"clip", OPT_TEXT, FIELD(clip), 0, 0, "DIR", "CLIP directory that it is tuned in (required)"},
    {"train-data-dir,data", OPT_TEXT, FIELD(data), 0, 0, "DIR", "the concept's pictures (required)"},
    {"placeholder-token", OPT_TEXT, FIELD(placeholder), 0, 0, "TOKEN", "what the word is called (required)"},
    {"initializer-token", OPT_TEXT, FIELD(coarse), 0, 0, "WORD",
     "what kind of thing it is: the start, and what is pushed away (required)"},
    {"p,prompt", OPT_LIST, FIELD(sentences), 0, 0, "TEXT",
     "sentence with {} for the word; may be repeated (default: a photo of a {})"},
    {"max-train-steps,steps", OPT_INT, FIELD(steps), 0, 1000000, "N", "steps of Adam (default: 40)"},
    {"learning-rate,lr", OPT_NUMBER, FIELD(lr), 0, 1000, "X", "of Adam (default: 0.01)"},
    {"temperature", OPT_NUMBER, FIELD(temperature), 1e-3, 1000, "X", "of the cosines in the loss (default: 0.25)"},
    {"o,output", OPT_TEXT, FIELD(output), 0, 0, "FILE", "the word's file (default: learned_embeds.safetensors)"},
    OPT_COMMON(clip_word_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_clip_word = {"clip-word",
                                   "a word tuned in CLIP's space (PALAVRA's second stage), for comparison",
                                   "clip-word --model DIR --clip DIR --train-data-dir DIR --placeholder-token TOKEN "
                                   "--initializer-token WORD [options]",
                                   "Moves the word's vector until CLIP's sentence with it lies near the pictures and "
                                   "away from the sentence with WORD. No diffusion\n"
                                   "takes part, so this is no setting of train. Where the CLIP's table of words is the "
                                   "model's own, the vector is the model's as it is;\n"
                                   "else it is carried over by a linear map, fitted to the words that both know by "
                                   "ridge regression. The output says which.\n\n"
                                   "  oneword clip-word --model testdata/world/model --clip testdata/world/clip "
                                   "--train-data-dir testdata/world/concepts/mango \\\n"
                                   "    --placeholder-token '<mango>' --initializer-token cat\n\n"
                                   "Prints the file and three lines, or with --json one object.",
                                   rows,
                                   sizeof rows / sizeof *rows,
                                   run};

typedef struct job {
    clip_word_options o;
    tn_ctx c;
    nn_model *m;
    clip_judge judge;
    pictures pics;
    emb_words words;
    nn_word_map map;
    opt_progress bar;
} job;

static int settle(const clip_word_options *o, tn_err *err) {
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model DIR is missing");
    if (!o->clip) return tn_fail(err, TN_EUSAGE, "--clip DIR is missing");
    if (!o->data) return tn_fail(err, TN_EUSAGE, "--train-data-dir DIR is missing");
    if (!o->placeholder) return tn_fail(err, TN_EUSAGE, "--placeholder-token TOKEN is missing");
    if (!o->coarse) return tn_fail(err, TN_EUSAGE, "--initializer-token WORD is missing");
    return out_try(o->output, err);
}

static int load(job *j, tn_err *err) {
    const clip_word_options *o = &j->o;
    int32_t first;
    if (opt_context(&o->common, &j->c, err) || nn_model_load(o->model, NN_LOAD_TEXT | NN_LOAD_TOKENIZER, &j->m, err))
        return -1;
    if (nn_tokenizer_add(j->m->tokenizer, o->placeholder, 1, &first, err))
        return -1; /* refused now, not when it is used */
    nn_tokenizer_take_back(j->m->tokenizer, first);
    if (clip_open(o->clip, &j->judge, err) || pictures_load(o->data, &j->pics, err)) return -1;
    if (j->pics.skipped) opt_warn("%s: %d files are no pictures and were passed over", o->data, j->pics.skipped);
    return 0;
}

static int step_done(void *arg, int64_t step, double loss) {
    char extra[40];
    snprintf(extra, sizeof extra, "loss %.4f", loss);
    opt_progress_step(arg, step + 1, extra);
    return 0;
}

static int learn(job *j, nn_clip_word *f, tn_err *err) {
    static const char *const usual[] = {"a photo of a {}"};
    const clip_word_options *o = &j->o;
    int64_t from = j->judge.clip->text.cfg.t.width, to = j->m->text->cfg.t.width;
    clip_word_request r = {o->coarse, o->sentences.n ? o->sentences.item : usual, o->sentences.n ? o->sentences.n : 1,
                           j->pics.image, j->pics.n};
    float *v = malloc((size_t)(from + to) * sizeof *v);
    if (!v) return tn_fail(err, TN_ENOMEM, "out of memory for a word");
    opt_progress_start(&j->bar, &o->common, "clip-word", o->steps, 0);
    int bad = clip_word_learn(&j->c, &j->judge, &r, f, v, err) ||
              clip_word_carry(&j->c, &j->judge, j->m, v, v + from, &j->map, err) ||
              emb_append(&j->words, o->placeholder, 1, to, v + from, err) || emb_write(o->output, &j->words, err);
    if (!bad) opt_progress_end(&j->bar);
    free(v);
    return bad ? -1 : 0;
}

static int print_json(const job *j, const nn_clip_word *f, tn_err *err) {
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", j->o.output), tn_jw_string(&w, "token", j->o.placeholder),
        tn_jw_int(&w, "steps", f->steps);
    tn_jw_number(&w, "loss_first", f->first), tn_jw_number(&w, "loss", f->last);
    tn_jw_number(&w, "pictures_first", f->near_first), tn_jw_number(&w, "pictures", f->near_last);
    tn_jw_number(&w, "coarse_first", f->coarse_first), tn_jw_number(&w, "coarse", f->coarse_last);
    tn_jw_string(&w, "carried", j->map.same ? "as it is" : "linear map"), tn_jw_int(&w, "shared_words", j->map.words);
    if (!j->map.same) tn_jw_number(&w, "ridge", j->map.ridge), tn_jw_number(&w, "explained", j->map.explained);
    return opt_put_json(&w, err);
}

static int print(const job *j, const nn_clip_word *f, tn_err *err) {
    if (j->o.common.json) return print_json(j, f, err);
    printf("%s\ncosine to the pictures %.4f, was %.4f; to the sentence with \"%s\" %.4f, was %.4f\n", j->o.output,
           f->near_last, f->near_first, j->o.coarse, f->coarse_last, f->coarse_first);
    if (j->map.same)
        puts("the CLIP's table of words is the model's own: the vector is as it was tuned");
    else
        printf("carried over by a linear map of %" PRId64
               " shared words (ridge %g), which explains %.1f %% of words left out\n",
               j->map.words, j->map.ridge, 100.0 * j->map.explained);
    return 0;
}

static int run(int argc, char **argv) {
    job j = {.o = {.output = "learned_embeds.safetensors", .steps = 40, .lr = 0.01, .temperature = 0.25}};
    tn_err err;
    int r = opt_parse(&cmd_clip_word, argc, argv, &j.o, NULL, NULL, &err);
    if (!r) {
        nn_clip_word f = {
            .steps = j.o.steps, .lr = j.o.lr, .temperature = j.o.temperature, .after = step_done, .arg = &j.bar};
        r = settle(&j.o, &err) || load(&j, &err) || learn(&j, &f, &err) || print(&j, &f, &err) ? -1 : 0;
        nn_word_map_free(&j.map);
        emb_free(&j.words);
        pictures_free(&j.pics);
        clip_close(&j.judge);
        nn_model_free(j.m);
        tn_ctx_free(&j.c);
    }
    return r < 0 ? opt_error(&err) : 0;
}
