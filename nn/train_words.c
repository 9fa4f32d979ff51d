/* Where a run's vectors start, and its sentences. */
#include "nn/train_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the initial vectors ---- */

/* What a word looks like when nothing is known of it: normal noise with the standard deviation of the vocabulary's
 * entries; or the official code's. */
static void random_rows(const nn_train *t, const tn_kernels *k, uint64_t seed, int64_t rows, float *out, float *row) {
    const tn_tensor *table = &t->model->text->token;
    int64_t V = table->shape[0], C = table->shape[1];
    tn_rng g;
    tn_rng_seed(&g, seed);
    if (t->cfg->noise_kind == NN_NOISE_UNIFORM) {
        tn_rng_rand(&g, out, (size_t)(rows * C));
        return;
    }
    double sum = 0.0;
    for (int64_t i = 0; i < V; i++) {
        nn_text_row(table, k, i, row);
        for (int64_t j = 0; j < C; j++) sum += (double)row[j] * (double)row[j];
    }
    float spread = (float)sqrt(sum / (double)(V * C));
    tn_rng_randn(&g, out, (size_t)(rows * C));
    for (int64_t i = 0; i < rows * C; i++) out[i] *= spread;
}

/* The initialiser's n tokens are spread over the V vectors: vector i starts as token i*n/V (A1111's rule; with one
 * token all vectors start equal, as in diffusers). */
static int rows_of_text(const nn_train *t, const tn_kernels *k, const char *text, float *out, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    const nn_text_model *m = t->model->text;
    int64_t V = cfg->num_vectors, C = m->cfg.t.width;
    nn_tokens tokens;
    if (nn_tokenizer_encode(t->model->tokenizer, text, strlen(text), cfg->rules, nn_prompt_length(t->model), &tokens,
                            err))
        return -1;
    int64_t n = tokens.n_real - 2;
    int r = 0;
    if (n < 1)
        r = tn_fail(err, TN_EUSAGE, "initializer token \"%s\" is empty", text);
    else if (n > V && V > 1)
        r = tn_fail(err, TN_EUSAGE,
                    "initializer \"%s\" has %" PRId64 " tokens for %" PRId64 " vectors (give --num-vectors %" PRId64
                    " or a shorter one)",
                    text, n, V, n);
    else if (n > 1 && V == 1)
        r = tn_fail(err, TN_EUSAGE,
                    "initializer \"%s\" is %" PRId64
                    " tokens, expected one (choose a word the model knows, or --num-vectors %" PRId64 ")",
                    text, n, n);
    for (int64_t i = 0; !r && i < V; i++) {
        int64_t id = tokens.ids[1 + i * n / V];
        if (id >= m->token.shape[0])
            r = tn_fail(err, TN_EUSAGE, "initializer \"%s\" is a placeholder itself", text);
        else
            nn_text_row(&m->token, k, id, out + i * C);
        if (r || !cfg->initial_position) continue;
        nn_text_row(&m->position, k, 0, t->word.grad); /* not in use yet */
        for (int64_t j = 0; j < C; j++) out[i * C + j] += t->word.grad[j];
    }
    nn_tokens_free(&tokens);
    return r;
}

static int initial_rows(nn_train *t, const tn_kernels *k, int placeholder, float *out, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    if (cfg->initial[placeholder]) {
        memcpy(out, cfg->initial[placeholder], (size_t)(cfg->num_vectors * t->word.dim) * sizeof *out);
        return 0;
    }
    if (cfg->initializer[placeholder]) return rows_of_text(t, k, cfg->initializer[placeholder], out, err);
    random_rows(t, k, cfg->seed + (uint64_t)placeholder, cfg->num_vectors, out, t->word.grad);
    return 0;
}

/* "PLACEHOLDER@i" for each picture, added to the tokenizer. */
static int add_image_tokens(nn_train *t, tn_err *err) {
    const char *placeholder = t->cfg->placeholder[0];
    size_t size = strlen(placeholder) + 20;
    t->image_token = calloc((size_t)t->npictures, sizeof *t->image_token);
    if (!t->image_token) return tn_fail(err, TN_ENOMEM, "out of memory for the pictures' tokens");
    for (int i = 0; i < t->npictures; i++) {
        int32_t first;
        if (!(t->image_token[i] = malloc(size)))
            return tn_fail(err, TN_ENOMEM, "out of memory for the pictures' tokens");
        snprintf(t->image_token[i], size, "%s@%d", placeholder, i);
        if (nn_tokenizer_add(t->model->tokenizer, t->image_token[i], 1, &first, err)) return -1;
    }
    return 0;
}

int nn_train_prepare_word(nn_train *t, const tn_kernels *k, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    bool images = cfg->per_image_share > 0.0;
    t->image_row = cfg->num_vectors * cfg->nplaceholders;
    if (nn_word_init(&t->word, t->image_row + (images ? t->npictures : 0), t->model->text->cfg.t.width, err)) return -1;
    int64_t C = t->word.dim;
    for (int i = 0; i < cfg->nplaceholders; i++) { /* before they are added: an initialiser is not one of them */
        if (initial_rows(t, k, i, t->word.v + i * cfg->num_vectors * C, err)) return -1;
    }
    for (int i = 0; images && i < t->npictures; i++) {
        uint64_t seed = nn_train_seed(cfg->seed, NN_DRAW_IMAGE, (uint64_t)i);
        random_rows(t, k, seed, 1, t->word.v + (t->image_row + i) * C, t->word.grad);
    }
    memcpy(t->word.initial, t->word.v, (size_t)(t->word.rows * C) * sizeof(float));
    for (int i = 0; i < cfg->nplaceholders; i++) {
        int32_t first;
        if (nn_tokenizer_add(t->model->tokenizer, cfg->placeholder[i], (int)cfg->num_vectors, &first, err)) return -1;
    }
    return images ? add_image_tokens(t, err) : 0;
}

/* ---- sentences ---- */

/* "{}" becomes `name`; a sentence without "{}" is taken as it is (it may name the word itself). `end` comes behind it,
 * but before a full stop. */
static char *fill_template(const char *line, const char *name, const char *end) {
    size_t used = strlen(name), len = strlen(line);
    bool stop = len > 0 && line[len - 1] == '.';
    char *out = malloc(len * (used + 1) + strlen(end) + 1), *o = out;
    if (!out) return NULL;
    for (const char *p = line; p < line + len - stop;) {
        if (p[0] == '{' && p[1] == '}') {
            memcpy(o, name, used), o += used, p += 2;
        } else {
            *o++ = *p++;
        }
    }
    strcpy(o, end);
    if (stop) strcat(o, ".");
    return out;
}

/* What "{}" stands for in a group: all placeholders in a row; with two concepts, one, the other, or both. */
static int name_of_group(const nn_train_config *cfg, int group, char *out, size_t size, tn_err *err) {
    bool composed = cfg->compose_from > 0;
    size_t used = 0;
    out[0] = '\0';
    for (int i = composed && group < 2 ? group : 0; i < (composed && group < 2 ? group + 1 : cfg->nplaceholders); i++) {
        const char *between = used == 0 ? "" : composed ? " and " : " ";
        int n = snprintf(out + used, size - used, "%s%s", between, cfg->placeholder[i]);
        if (n < 0 || (size_t)n >= size - used) return tn_fail(err, TN_EUSAGE, "the placeholders are too long");
        used += (size_t)n;
    }
    return 0;
}

/* Leaves out the vectors that are not in use yet: what follows moves left, padding moves in. */
static void drop_rows(const nn_train *t, int stage, const int32_t *ids, int64_t n, int64_t *out) {
    const nn_train_config *cfg = t->cfg;
    nn_tokenizer_facts facts = nn_tokenizer_get_facts(t->model->tokenizer);
    int64_t vocab = t->model->text->cfg.vocab, kept = 0, used = cfg->num_vectors - cfg->nswitches + stage;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = (int64_t)ids[i] - facts.file_size;
        if (row >= 0 && row < t->image_row && row % cfg->num_vectors >= used) continue;
        out[kept++] = row < 0 ? ids[i] : vocab + row;
    }
    for (int64_t i = kept; i < n; i++) out[i] = facts.pad;
}

/* A sentence as it is at each stage, into sentences[stage][index]. */
static int encode_text(nn_train *t, const char *text, int index, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    nn_tokens tokens;
    /* Widened after the tokenizer, L tokens may become L * num_vectors; the rest is cut. */
    int64_t n = cfg->expansion == NN_EXPAND_TRUNCATED ? t->L * cfg->num_vectors : t->L;
    if (nn_tokenizer_encode(t->model->tokenizer, text, strlen(text), cfg->rules, (int)n, &tokens, err)) return -1;
    int64_t *ids = malloc((size_t)n * sizeof *ids);
    int r = ids ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the sentences");
    for (int stage = 0; !r && stage <= cfg->nswitches; stage++) {
        bool learned = false;
        drop_rows(t, stage, tokens.ids, n, ids);
        memcpy(t->sentences + ((int64_t)stage * t->nsentences + index) * t->L, ids, (size_t)t->L * sizeof *ids);
        for (int64_t i = 0; i < t->L; i++) learned = learned || ids[i] >= t->model->text->cfg.vocab;
        if (!learned) r = tn_fail(err, TN_EUSAGE, "the sentence \"%s\" does not contain the placeholder", text);
    }
    free(ids);
    nn_tokens_free(&tokens);
    return r;
}

/* One line under the name of a group, and where there are per-image tokens, once more with that of picture 0. */
static int encode_line(nn_train *t, const char *line, const char *name, int index, tn_err *err) {
    char end[200];
    for (int dual = 0; dual * t->nbase < t->nsentences; dual++) {
        const char *token = dual ? t->image_token[0] : "";
        if (snprintf(end, sizeof end, "%s%s", dual ? " with " : "", token) >= (int)sizeof end)
            return tn_fail(err, TN_EUSAGE, "the placeholder %s is too long", t->cfg->placeholder[0]);
        char *text = fill_template(line, name, end);
        int r = text ? encode_text(t, text, dual * t->nbase + index, err)
                     : tn_fail(err, TN_ENOMEM, "out of memory for the sentences");
        free(text);
        if (r) return -1;
    }
    return 0;
}

int nn_train_prepare_sentences(nn_train *t, const nn_templates *templates, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    char name[2000];
    int groups = cfg->compose_from > 0 ? 3 : 1, each = cfg->captions ? t->npictures : templates->n;
    t->L = nn_prompt_length(t->model);
    t->nbase = groups * each, t->nsentences = t->image_token ? 2 * t->nbase : t->nbase;
    t->sentences = malloc((size_t)((cfg->nswitches + 1) * t->nsentences * t->L) * sizeof *t->sentences);
    if (!t->sentences) return tn_fail(err, TN_ENOMEM, "out of memory for the sentences");
    for (int i = 0; i < t->nbase; i++) {
        const char *line = cfg->captions ? cfg->captions[i] : templates->line[i % each];
        if (name_of_group(cfg, i / each, name, sizeof name, err) || encode_line(t, line, name, i, err)) return -1;
    }
    return 0;
}

int nn_train_group(const nn_train *t, int64_t picture, int *n) {
    const nn_train_config *cfg = t->cfg;
    *n = cfg->captions ? 1 : cfg->compose_from > 0 ? t->nbase / 3 : t->nbase;
    if (cfg->captions) return (int)picture;
    if (cfg->compose_from == 0) return 0;
    return *n * (picture >= t->npictures ? 2 : picture >= cfg->compose_from);
}

void nn_train_sentence(const nn_train *t, int stage, int64_t index, int64_t picture, int64_t *ids) {
    int64_t token = t->model->text->cfg.vocab + t->image_row;
    memcpy(ids, t->sentences + (stage * t->nsentences + index) * t->L, (size_t)t->L * sizeof *ids);
    for (int64_t i = 0; index >= t->nbase && i < t->L; i++) ids[i] += ids[i] == token ? picture : 0;
}

int nn_train_stage(const nn_train *t, int64_t step) {
    int stage = 0;
    while (stage < t->cfg->nswitches && t->cfg->switch_at[stage] <= step) stage++;
    return stage;
}
