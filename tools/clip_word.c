#include "tools/clip_word.h"

#include "tools/evaluate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the word is called while it is learned: the files give it its name. */
#define PLACEHOLDER "<|word|>"

typedef struct learning {
    tn_ctx *c;
    const clip_judge *judge;
    const clip_word_request *r;
    int64_t L, P;
    int64_t *ids;                    /* [nsentences, L] */
    float *pictures, *coarse, *seen; /* [P], [P], [npictures or nsentences, P] */
} learning;

/* The mean of n unit vectors, made one. */
static void mean_direction(const float *x, int n, int64_t P, float *out) {
    double length = 0.0;
    for (int64_t p = 0; p < P; p++) {
        double sum = 0.0;
        for (int i = 0; i < n; i++) sum += (double)x[i * P + p];
        out[p] = (float)(sum / n), length += sum / n * (sum / n);
    }
    for (int64_t p = 0; p < P && length > 0.0; p++) out[p] = (float)((double)out[p] / sqrt(length));
}

static int find_poles(learning *l, tn_err *err) {
    const clip_word_request *r = l->r;
    if (clip_see(l->c, l->judge, r->pictures, r->npictures, l->seen, err)) return -1;
    mean_direction(l->seen, r->npictures, l->P, l->pictures);
    for (int i = 0; i < r->nsentences; i++) {
        char *text;
        if (eval_fill(r->sentences[i], r->coarse, &text, err)) return -1;
        int bad = clip_read(l->c, l->judge, text, l->seen + i * l->P, NULL, err);
        free(text);
        if (bad) return -1;
    }
    mean_direction(l->seen, r->nsentences, l->P, l->coarse);
    return 0;
}

/* The placeholder is the first row behind the table, whose rows may be more than the vocabulary's words. */
static int encode_sentence(learning *l, int i, tn_err *err) {
    nn_tokens t;
    char *text;
    int64_t vocab = l->judge->clip->text.cfg.vocab, known = nn_tokenizer_get_facts(l->judge->tokenizer).file_size;
    if (!strstr(l->r->sentences[i], "{}"))
        return tn_fail(err, TN_EUSAGE, "the sentence \"%s\" has no {} for the word", l->r->sentences[i]);
    if (eval_fill(l->r->sentences[i], PLACEHOLDER, &text, err)) return -1;
    int bad = nn_tokenizer_encode(l->judge->tokenizer, text, strlen(text), NN_RULES_HF, (int)l->L, &t, err);
    free(text);
    if (bad) return -1;
    for (int64_t k = 0; k < l->L; k++) l->ids[i * l->L + k] = t.ids[k] < known ? t.ids[k] : t.ids[k] - known + vocab;
    nn_tokens_free(&t);
    return 0;
}

static int start(learning *l, float *v, tn_err *err) {
    const nn_text_model *text = &l->judge->clip->text;
    int32_t id = nn_tokenizer_word(l->judge->tokenizer, l->r->coarse);
    if (id < 0 || id >= text->cfg.vocab)
        return tn_fail(err, TN_EUSAGE, "\"%s\": expected a word that is one token of the CLIP", l->r->coarse);
    nn_text_row(&text->token, l->c->k, id, v);
    return 0;
}

static int learn(learning *l, nn_clip_word *f, float *v, tn_err *err) {
    int32_t first;
    if (start(l, v, err) || find_poles(l, err) || nn_tokenizer_add(l->judge->tokenizer, PLACEHOLDER, 1, &first, err))
        return -1;
    int bad = 0;
    for (int i = 0; i < l->r->nsentences && !bad; i++) bad = encode_sentence(l, i, err);
    nn_tokenizer_take_back(l->judge->tokenizer, first);
    return bad ? -1
               : nn_clip_word_fit(l->c, l->judge->clip, f, l->ids, l->r->nsentences, l->L, l->pictures, l->coarse, v,
                                  err);
}

int clip_word_learn(tn_ctx *c, const clip_judge *judge, const clip_word_request *r, nn_clip_word *f, float *v,
                    tn_err *err) {
    learning l = {.c = c, .judge = judge, .r = r, .L = judge->clip->text.cfg.positions, .P = judge->width};
    size_t P = (size_t)l.P, most = (size_t)(r->npictures > r->nsentences ? r->npictures : r->nsentences);
    l.ids = malloc((size_t)(r->nsentences * l.L) * sizeof *l.ids);
    l.pictures = malloc((2 + most) * P * sizeof *l.pictures);
    int bad = l.ids && l.pictures ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a word");
    if (!bad) {
        l.coarse = l.pictures + P, l.seen = l.coarse + P;
        bad = learn(&l, f, v, err);
    }
    free(l.ids), free(l.pictures);
    return bad;
}

int clip_word_carry(const tn_ctx *c, const clip_judge *judge, const nn_model *m, const float *v, float *out,
                    nn_word_map *map, tn_err *err) {
    if (nn_word_map_between(c->k, &judge->clip->text, judge->tokenizer, m->text, m->tokenizer, c->threads, map, err))
        return -1;
    nn_word_map_apply(map, v, out);
    return 0;
}
