#include "nn/text/tokenizer.h"

#include "nn/text/clean.h"
#include "nn/text/tokenizer_impl.h"
#include "nn/text/unicode.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 4 << 20, MAX_NAME = 1000 };

void nn_tokenizer_free(nn_tokenizer *tok) {
    if (!tok) return;
    nn_bpe_free(&tok->bpe);
    free(tok->added);
    free(tok);
}

nn_tokenizer_facts nn_tokenizer_get_facts(const nn_tokenizer *tok) {
    return (nn_tokenizer_facts){tok->bos,          tok->eos,       tok->pad,       tok->unk,
                                tok->bpe.n_tokens, tok->file_size, tok->max_length};
}

const char *nn_tokenizer_text(const nn_tokenizer *tok, int32_t id) {
    return id >= 0 && id < tok->bpe.n_tokens ? tok->bpe.token[id].text : NULL;
}

int nn_tokenizer_register(nn_tokenizer *tok, int32_t id, int n_vectors, bool special, tn_err *err) {
    for (int i = 0; i < tok->n_added; i++) {
        if (tok->added[i].id != id) continue;
        tok->added[i].special |= special;
        return 0;
    }
    if (tok->n_added == NN_MAX_ADDED) return tn_fail(err, TN_EINPUT, "more than %d added tokens", NN_MAX_ADDED);
    nn_added *a = realloc(tok->added, ((size_t)tok->n_added + 1) * sizeof *a);
    if (!a) return tn_fail(err, TN_ENOMEM, "no memory for %d added tokens", tok->n_added + 1);
    tok->added = a;
    const char *text = tok->bpe.token[id].text;
    size_t len = strlen(text);
    int i = tok->n_added++;
    for (; i && a[i - 1].len < len; i--) a[i] = a[i - 1];
    a[i] = (nn_added){text, len, id, n_vectors, special};
    tok->starts[(unsigned char)text[0]] = true;
    return 0;
}

/* ---- cutting added tokens out of the raw text ---- */

/* The longest added token at s, NULL where there is none. By openai's rules the special tokens are none. */
static const nn_added *added_at(const nn_tokenizer *tok, const char *s, size_t len, nn_tokenizer_rules rules) {
    if (!tok->starts[(unsigned char)s[0]]) return NULL;
    for (int i = 0; i < tok->n_added; i++) {
        const nn_added *a = &tok->added[i];
        if (a->special && rules != NN_RULES_HF) continue;
        if (a->len <= len && !memcmp(s, a->text, a->len)) return a;
    }
    return NULL;
}

/* Whether NAME_1 follows NAME, spaces between: then the prompt spells the vectors out, as training templates do. */
static bool written_out(const nn_tokenizer *tok, const nn_added *a, const char *s, size_t len,
                        nn_tokenizer_rules rules) {
    size_t i = 0;
    while (i < len && (s[i] == ' ' || (s[i] >= '\t' && s[i] <= '\r'))) i++;
    const nn_added *second = i < len ? added_at(tok, s + i, len - i, rules) : NULL;
    return second && second->id == a->id + 1;
}

static char fold(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static bool same_but_case(const char *s, const char *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (fold(s[i]) != fold(want[i])) return false;
    }
    return true;
}

/* Looks for an added token that only differs in the case of A-Z: the usual slip that leaves a concept out of the
 * picture. */
static int find_near_miss(const nn_tokenizer *tok, const char *s, size_t len, nn_tokens *t) {
    for (int k = 0; k < tok->n_added; k++) {
        const nn_added *a = &tok->added[k];
        if (a->special || !a->n_vectors) continue;
        for (size_t i = 0; i + a->len <= len; i++) {
            if (!same_but_case(s + i, a->text, a->len)) continue;
            t->near_miss = malloc(a->len + 1);
            if (!t->near_miss) return -1;
            memcpy(t->near_miss, s + i, a->len);
            t->near_miss[a->len] = '\0';
            t->near_miss_of = a->text;
            return 0;
        }
    }
    return 0;
}

/* ---- encoding ---- */

typedef struct encoder {
    const nn_tokenizer *tok;
    nn_tokenizer_rules rules;
    size_t keep; /* tokens that will be kept */
    nn_ids ids;
    nn_bpe_work work;
    nn_tokens *t; /* near_miss and split are filled on the way */
} encoder;

/* Notes a word whose tokens begin at ids.v[from], if it fell apart and its beginning is kept. */
static int note_split(encoder *e, const char *word, size_t len, size_t from) {
    size_t n = e->ids.n - from;
    if (n < 2 || from >= e->keep) return 0;
    nn_split_word *grown = realloc(e->t->split, ((size_t)e->t->n_split + 1) * sizeof *grown);
    if (!grown) return -1;
    e->t->split = grown;
    nn_split_word *w = &grown[e->t->n_split];
    *w = (nn_split_word){malloc(len + 1), (int)n, false};
    if (!w->text) return -1;
    memcpy(w->text, word, len);
    w->text[len] = '\0';
    for (size_t i = from; i < e->ids.n && !w->bare_byte; i++) w->bare_byte = nn_bpe_is_byte(&e->tok->bpe, e->ids.v[i]);
    e->t->n_split++;
    return 0;
}

/* BPE of one word, given as code points; buf holds 4 bytes for each. */
static int encode_word(encoder *e, const uint32_t *s, size_t n, char *buf) {
    const nn_bpe *b = &e->tok->bpe;
    size_t len = 0, from = e->ids.n;
    for (size_t i = 0; i < n; i++) len += nn_utf8_encode(s[i], buf + len);
    buf[len] = '\0';
    /* These two are tokens by themselves in the reference's table of words that are known without merging. */
    if (!strcmp(buf, "<|startoftext|>") || !strcmp(buf, "<|endoftext|>")) {
        int32_t id = nn_bpe_find(b, buf);
        return nn_ids_push(&e->ids, id < 0 ? b->unk : id);
    }
    if (nn_bpe_word(b, buf, len, &e->work, &e->ids)) return -1;
    return note_split(e, buf, len, from);
}

/* The text between two added tokens. */
static int encode_plain(encoder *e, const char *text, size_t len, tn_err *err) {
    if (!len) return 0;
    uint32_t *s;
    size_t n, pos = 0, start;
    if (nn_clean(text, len, e->rules, &s, &n, err)) return -1;
    char *buf = malloc(4 * n + 1);
    int rc = buf ? 0 : -1;
    if (!rc && !e->t->near_miss) rc = find_near_miss(e->tok, text, len, e->t);
    while (!rc && nn_next_word(s, n, &pos, &start)) rc = encode_word(e, s + start, pos - start, buf);
    free(buf);
    free(s);
    return rc ? tn_fail(err, TN_ENOMEM, "tokenizer: no memory for a text of %zu bytes", len) : 0;
}

static int encode_text(encoder *e, const char *text, size_t len, tn_err *err) {
    size_t plain = 0;
    for (size_t i = 0; i < len;) {
        const nn_added *a = added_at(e->tok, text + i, len - i, e->rules);
        if (!a) {
            i++;
            continue;
        }
        if (encode_plain(e, text + plain, i - plain, err)) return -1;
        i += a->len;
        plain = i;
        int n = a->n_vectors < 2 || written_out(e->tok, a, text + i, len - i, e->rules) ? 1 : a->n_vectors;
        for (int k = 0; k < n; k++) {
            if (nn_ids_push(&e->ids, a->id + k)) return tn_fail(err, TN_ENOMEM, "tokenizer: no memory for the ids");
        }
    }
    return encode_plain(e, text + plain, len - plain, err);
}

/* What truncation removes: an error for a vector of nn_tokenizer_add, a note for an added token of the files. */
static int check_cut(const encoder *e, int max_length, tn_err *err) {
    const nn_tokenizer *tok = e->tok;
    for (size_t i = e->keep; i < e->ids.n; i++) {
        int32_t id = e->ids.v[i];
        if (id >= tok->file_size) {
            return tn_fail(err, TN_EUSAGE,
                           "the prompt has %zu tokens, the model takes %d: the learned vector '%s' would be cut off "
                           "(shorten the prompt)",
                           e->ids.n + 2, max_length, tok->bpe.token[id].text);
        }
        for (int k = 0; k < tok->n_added && !e->t->cut; k++) {
            if (tok->added[k].id == id && !tok->added[k].special) e->t->cut = tok->added[k].text;
        }
    }
    return 0;
}

static int finish(encoder *e, int max_length, tn_err *err) {
    if (check_cut(e, max_length, err)) return -1;
    nn_tokens *t = e->t;
    size_t kept = e->ids.n < e->keep ? e->ids.n : e->keep;
    t->ids = malloc((size_t)max_length * sizeof *t->ids);
    if (!t->ids) return tn_fail(err, TN_ENOMEM, "tokenizer: no memory for %d ids", max_length);
    t->length = max_length;
    t->n_real = (int)kept + 2;
    t->n_total = (int)e->ids.n + 2;
    t->ids[0] = e->tok->bos;
    if (kept) memcpy(t->ids + 1, e->ids.v, kept * sizeof *t->ids);
    t->ids[kept + 1] = e->tok->eos;
    for (int i = t->n_real; i < max_length; i++) t->ids[i] = e->tok->pad;
    return 0;
}

int nn_tokenizer_encode(const nn_tokenizer *tok, const char *text, size_t len, nn_tokenizer_rules rules, int max_length,
                        nn_tokens *out, tn_err *err) {
    TN_REQUIRE(max_length >= 2);
    if (len > MAX_TEXT) return tn_fail(err, TN_EUSAGE, "a prompt of %zu bytes: at most %d", len, MAX_TEXT);
    nn_tokens t = {0};
    encoder e = {.tok = tok, .rules = rules, .keep = (size_t)max_length - 2, .t = &t};
    int rc = encode_text(&e, text, len, err);
    if (!rc) rc = finish(&e, max_length, err);
    free(e.ids.v);
    free(e.work.mem);
    if (rc) {
        nn_tokens_free(&t);
    } else {
        *out = t;
    }
    return rc;
}

void nn_tokens_free(nn_tokens *t) {
    for (int i = 0; i < t->n_split; i++) free(t->split[i].text);
    free(t->split);
    free(t->near_miss);
    free(t->ids);
    memset(t, 0, sizeof *t);
}

/* ---- placeholders ---- */

int32_t nn_tokenizer_word(const nn_tokenizer *tok, const char *word) {
    nn_tokens t;
    /* Four places: start, the word, perhaps a second token, end. */
    if (nn_tokenizer_encode(tok, word, strlen(word), NN_RULES_HF, 4, &t, NULL)) return -1;
    int32_t id = t.n_total == 3 ? t.ids[1] : -1;
    nn_tokens_free(&t);
    return id;
}

/* White space and control characters would never survive to be compared with the prompt as it was typed. */
static int check_name(const nn_tokenizer *tok, const char *name, tn_err *err) {
    size_t len = strlen(name);
    if (!len) return tn_fail(err, TN_EUSAGE, "the placeholder token is empty (write for example '<cat-toy>')");
    if (len > MAX_NAME) return tn_fail(err, TN_EUSAGE, "a placeholder token of %zu bytes: at most %d", len, MAX_NAME);
    if (!nn_utf8_valid(name, len)) return tn_fail(err, TN_EUSAGE, "the placeholder token is not UTF-8");
    uint32_t points[MAX_NAME];
    size_t n = nn_utf8_decode(name, len, points);
    for (size_t i = 0; i < n; i++) {
        if (!nn_uni_isspace(points[i]) && !(nn_uni_flags(points[i]) & NN_UNI_CONTROL)) continue;
        return tn_fail(err, TN_EUSAGE, "the placeholder token '%s' contains white space or control characters", name);
    }
    /* A known word would lose its meaning in every prompt. */
    bool taken = nn_bpe_find(&tok->bpe, name) >= 0;
    if (taken || nn_tokenizer_word(tok, name) >= 0) {
        return tn_fail(err, TN_EUSAGE, "the placeholder token '%s' is %s (choose a new one, for example '<%s>')", name,
                       taken ? "in use already" : "a word that the vocabulary has already", name);
    }
    return 0;
}

/* NAME, NAME_1, NAME_2, ... */
static void vector_name(char text[MAX_NAME + 16], const char *name, int i) {
    if (i == 0) {
        snprintf(text, MAX_NAME + 16, "%s", name);
    } else {
        snprintf(text, MAX_NAME + 16, "%s_%d", name, i);
    }
}

int nn_tokenizer_add(nn_tokenizer *tok, const char *name, int n_vectors, int32_t *first_id, tn_err *err) {
    if (n_vectors < 1 || n_vectors > NN_MAX_ADDED - tok->n_added) {
        return tn_fail(err, TN_EUSAGE, "the placeholder token '%s': expected 1 to %d vectors, got %d", name,
                       NN_MAX_ADDED - tok->n_added, n_vectors);
    }
    if (check_name(tok, name, err)) return -1;
    char text[MAX_NAME + 16];
    /* All names before the first is added: a refusal leaves no half of a placeholder. */
    for (int i = 1; i < n_vectors; i++) {
        vector_name(text, name, i);
        bool taken = nn_bpe_find(&tok->bpe, text) >= 0;
        if (taken) return tn_fail(err, TN_EUSAGE, "'%s' of the placeholder '%s' is in use", text, name);
    }
    int32_t first = tok->bpe.n_tokens;
    for (int i = 0; i < n_vectors; i++) {
        vector_name(text, name, i);
        if (nn_bpe_add_token(&tok->bpe, text, err)) return -1;
        if (nn_tokenizer_register(tok, first + i, i ? 0 : n_vectors, false, err)) return -1;
    }
    *first_id = first;
    return 0;
}

void nn_tokenizer_take_back(nn_tokenizer *tok, int size) {
    TN_REQUIRE(size >= tok->file_size);
    if (size >= tok->bpe.n_tokens) return;
    int kept = 0;
    for (int i = 0; i < tok->n_added; i++) {
        if (tok->added[i].id < size) tok->added[kept++] = tok->added[i];
    }
    tok->n_added = kept;
    nn_bpe_truncate(&tok->bpe, size);
}
