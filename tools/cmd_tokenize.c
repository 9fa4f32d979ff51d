/* oneword tokenize: what the text encoder is given for a prompt. */
#include "nn/config.h"
#include "tensor/io/json.h"
#include "tools/embedding.h"
#include "tools/opt.h"
#include "tools/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tokenize_options {
    opt_common common;
    const char *model, *mode, *prompt;
    opt_list embedding;
    bool padding;
} tokenize_options;

#define FIELD(name) offsetof(tokenize_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR",
     "model directory, or a folder with vocab.json and merges.txt"},
    {"p,prompt", OPT_TEXT, FIELD(prompt), 0, 0, "TEXT", "the prompt; or as an argument"},
    {"embedding", OPT_LIST, FIELD(embedding), 0, 0, "[NAME=]FILE", "a learned word; may be repeated"},
    {"tokenizer-mode", OPT_TEXT, FIELD(mode), 0, 0, "hf|openai", "rules of the tokenizer (default: hf)"},
    {"padding", OPT_FLAG, FIELD(padding), 0, 0, NULL, "show the padding too"},
    OPT_COMMON(tokenize_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_tokenize = {"tokenize",
                                  "the tokens of a prompt",
                                  "tokenize --model DIR [options] PROMPT",
                                  "One line a token: position, id, text. \"</w>\" ends a word.",
                                  rows,
                                  sizeof rows / sizeof *rows,
                                  run};

/* The tokenizer of a model directory, with as much of the model as learned words need; or that of a bare folder of
 * vocabulary. *length is how many tokens the text encoder reads. */
static int load(const tokenize_options *o, nn_model **m, int *length, tn_err *err) {
    char *index = nn_join(o->model, "model_index.json");
    if (!index) return tn_fail(err, TN_ENOMEM, "out of memory");
    bool bare = !tn_exists(index) && tn_is_dir(o->model) && o->embedding.n == 0;
    free(index);
    if (bare) {
        nn_model *made = calloc(1, sizeof *made);
        if (!made) return tn_fail(err, TN_ENOMEM, "out of memory");
        *m = made;
        if (nn_tokenizer_load(o->model, &made->tokenizer, err)) return -1;
        *length = 77; /* CLIP's, where the files say nothing */
    } else {
        if (nn_model_load(o->model, NN_LOAD_TOKENIZER | NN_LOAD_TEXT, m, err)) return -1;
        *length = (int)(*m)->text->cfg.positions;
    }
    int stated = nn_tokenizer_get_facts((*m)->tokenizer).max_length;
    if (stated >= 2 && (bare || stated < *length)) *length = stated;
    return 0;
}

static int show(const tokenize_options *o, const nn_model *m, const nn_tokens *t, tn_err *err) {
    int n = o->padding ? t->length : t->n_real;
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_open(&w, "tokens", '[');
    for (int i = 0; i < n; i++) {
        const char *text = nn_tokenizer_text(m->tokenizer, t->ids[i]);
        if (!o->common.json) {
            printf("%d\t%d\t", i, (int)t->ids[i]);
            opt_put(text);
            putchar('\n');
        }
        tn_jw_open(&w, NULL, '{');
        tn_jw_int(&w, "position", i), tn_jw_int(&w, "id", t->ids[i]), tn_jw_string(&w, "text", text);
        tn_jw_close(&w, '}');
    }
    tn_jw_close(&w, ']');
    tn_jw_int(&w, "length", t->length), tn_jw_int(&w, "used", t->n_real), tn_jw_int(&w, "needed", t->n_total);
    tn_jw_close(&w, '}');
    char *line = tn_jw_take(&w);
    if (line && o->common.json) puts(line);
    bool failed = !line;
    free(line);
    return failed ? tn_fail(err, TN_ENOMEM, "out of memory") : 0;
}

static int tokenize(const tokenize_options *o, nn_model **m, emb_words *words, tn_err *err) {
    nn_tokens t;
    float *learned = NULL;
    int64_t count;
    int length = 0;
    nn_tokenizer_rules rules = prompt_rules(o->mode);
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (!o->prompt)
        return tn_fail(err, TN_EUSAGE, "a prompt is needed (oneword tokenize --model DIR 'a photo of a cat')");
    for (int i = 0; i < o->embedding.n; i++) {
        if (emb_read_argument(o->embedding.item[i], words, err)) return -1;
    }
    if (load(o, m, &length, err)) return -1;
    if (words->n && emb_register(*m, words, &learned, &count, err)) return -1;
    free(learned);
    if (prompt_check("prompt", o->prompt, err)) return -1;
    if (nn_tokenizer_encode((*m)->tokenizer, o->prompt, strlen(o->prompt), rules, length, &t, err)) return -1;
    int bad = prompt_remarks(*m, "prompt", o->prompt, rules, length, err) || show(o, *m, &t, err) ? -1 : 0;
    nn_tokens_free(&t);
    return bad;
}

static int run(int argc, char **argv) {
    tokenize_options o = {.mode = "hf"};
    opt_list rest = {.n = 0};
    nn_model *m = NULL;
    emb_words words = {0};
    tn_err err;
    int r = opt_parse(&cmd_tokenize, argc, argv, &o, NULL, &rest, &err);
    if (!r && rest.n + (o.prompt != NULL) > 1)
        r = tn_fail(&err, TN_EUSAGE, "one prompt at a time (quote it: 'a photo of a cat')");
    if (!r) {
        if (rest.n) o.prompt = rest.item[0];
        r = tokenize(&o, &m, &words, &err);
        nn_model_free(m);
        emb_free(&words);
    }
    return r < 0 ? opt_error(&err) : 0;
}
