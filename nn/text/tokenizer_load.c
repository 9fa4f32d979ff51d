/* Reading the tokenizer files of Hugging Face model folders. */
#include "nn/text/tokenizer_impl.h"

#include "tensor/io/json.h"
#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* transformers' CLIPTokenizer reads merges[1 : 49152 - 256 - 2 + 1] and no more. */
enum { MAX_FILE = 64 << 20, MAX_MERGES = 49152 - 256 - 2 };
enum { CONFIG_FLAGS = TN_JSON_PYTHON | TN_JSON_LAST_WINS };

/* "dir/name", to be freed. */
static char *join(const char *dir, const char *name) {
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = malloc(n);
    if (path) snprintf(path, n, "%s/%s", dir, name);
    return path;
}

/* Reads dir/name, which must be an object. An absent file leaves *doc NULL, whose members are absent too. */
static int load_json(const char *dir, const char *name, int flags, tn_json **doc, tn_err *err) {
    char *path = join(dir, name);
    *doc = NULL;
    if (!path) return tn_fail(err, TN_ENOMEM, "%s: no memory for a path", dir);
    int rc = tn_exists(path) ? tn_json_load(path, flags, doc, err) : 0;
    if (!rc && *doc && tn_json_root(*doc)->type != TN_JSON_OBJECT) {
        rc = tn_fail(err, TN_EINPUT, "%s: expected a JSON object", path);
        tn_json_free(*doc);
        *doc = NULL;
    }
    free(path);
    return rc;
}

static const tn_jval *get(const tn_json *doc, const char *key) {
    return doc ? tn_json_get(tn_json_root(doc), key) : NULL;
}

/* ---- vocabulary ---- */

/* The tokens of {"text": id, ...}, whose ids must be 0 .. n-1, each once. Messages begin with the file's name. */
static int read_vocab(nn_bpe *b, const tn_jval *vocab, const char *file, tn_err *err) {
    if (!vocab || vocab->type != TN_JSON_OBJECT || vocab->length == 0) {
        return tn_fail(err, TN_EINPUT, "%s: expected an object of tokens and ids", file);
    }
    size_t n = vocab->length;
    const char **text = calloc(n, sizeof *text);
    if (!text) return tn_fail(err, TN_ENOMEM, "%s: no memory for %zu tokens", file, n);
    int rc = 0;
    for (const tn_jval *v = vocab->child; v && !rc; v = v->next) {
        if (v->type != TN_JSON_NUMBER || !v->is_int || v->integer < 0 || (uint64_t)v->integer >= n) {
            rc = tn_fail(err, TN_EINPUT, "%s: the id of token '%s' is not a whole number from 0 to %zu (%zu tokens)",
                         file, v->key, n - 1, n);
        } else if (text[v->integer]) {
            rc = tn_fail(err, TN_EINPUT, "%s: tokens '%s' and '%s' have the same id %lld", file, text[v->integer],
                         v->key, (long long)v->integer);
        } else {
            text[v->integer] = v->key;
        }
    }
    for (size_t i = 0; i < n && !rc; i++) {
        rc = nn_bpe_add_token(b, text[i], err);
        if (rc) tn_fail_in(err, "%s", file);
    }
    free(text);
    return rc;
}

/* ---- merges ---- */

/* Splits "left right" at its one space, in place; false where it is not exactly two symbols. */
static bool two_symbols(char *line, char **right) {
    char *space = strchr(line, ' ');
    if (!space || space == line || !space[1] || strchr(space + 1, ' ')) return false;
    *space = '\0';
    *right = space + 1;
    return true;
}

/* Lines end in LF or CR LF. Line 1 is a header; blank lines at the end do not count. */
static int parse_merges(nn_bpe *b, char *text, size_t len, const char *file, tn_err *err) {
    if (strlen(text) != len) return tn_fail(err, TN_EINPUT, "%s: has a NUL byte at %zu", file, strlen(text));
    while (len && strchr(" \t\r\n", text[len - 1])) text[--len] = '\0';
    int number = 0;
    for (char *line = text, *next; line && b->n_merges < MAX_MERGES; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        size_t n = strlen(line);
        if (n && line[n - 1] == '\r') line[n - 1] = '\0';
        if (++number == 1) {
            /* The reference drops line 1 whatever it says: a file without header would silently lose a merge. */
            if (strstr(line, "#version")) continue;
            return tn_fail(err, TN_EINPUT, "%s:1: expected the header '#version: 0.2'", file);
        }
        char *right;
        if (!two_symbols(line, &right)) {
            return tn_fail(err, TN_EINPUT, "%s:%d: expected two symbols with a space between, got '%.80s'", file,
                           number, line);
        }
        if (nn_bpe_add_merge(b, line, right, err)) return tn_fail_in(err, "%s:%d", file, number);
    }
    return 0;
}

static int load_merges(nn_bpe *b, const char *dir, tn_err *err) {
    char *path = join(dir, "merges.txt"), *text = NULL;
    size_t len;
    if (!path) return tn_fail(err, TN_ENOMEM, "%s: no memory for a path", dir);
    int rc = tn_read_file(path, MAX_FILE, &text, &len, err);
    if (!rc) rc = parse_merges(b, text, len, path, err);
    free(text);
    free(path);
    return rc;
}

/* One element of "merges": "a b", or ["a", "b"] in files written since 2024. */
static int json_merge(nn_bpe *b, const tn_jval *m, tn_err *err) {
    if (m->type == TN_JSON_ARRAY && m->length == 2 && m->child->type == TN_JSON_STRING &&
        m->child->next->type == TN_JSON_STRING) {
        return nn_bpe_add_merge(b, m->child->string, m->child->next->string, err);
    }
    if (m->type != TN_JSON_STRING) return tn_fail(err, TN_EINPUT, "expected a string or a pair of strings");
    char *line = malloc(m->length + 1), *right;
    if (!line) return tn_fail(err, TN_ENOMEM, "no memory for a merge");
    memcpy(line, m->string, m->length + 1);
    int rc = two_symbols(line, &right) ? nn_bpe_add_merge(b, line, right, err)
                                       : tn_fail(err, TN_EINPUT, "expected two symbols, got '%.80s'", m->string);
    free(line);
    return rc;
}

/* A place kept in the vocabulary for later, by the convention of special tokens: "<|spare0|>". */
static bool is_reserved(const char *token) {
    size_t n = strlen(token);
    return n > 4 && memcmp(token, "<|", 2) == 0 && memcmp(token + n - 2, "|>", 2) == 0;
}

/* The reference would take merges that were cut short, and give other ids than the model learned. Every token that is
 * no single byte, not cut out of the text and not reserved must be made by some merge. */
static int check_reachable(const nn_tokenizer *tok, const char *dir, tn_err *err) {
    const nn_bpe *b = &tok->bpe;
    bool *made = calloc((size_t)b->n_tokens, sizeof *made);
    if (!made) return tn_fail(err, TN_ENOMEM, "%s: no memory", dir);
    for (size_t i = 0; i <= b->merge_mask; i++) {
        if (b->merge[i].left >= 0) made[b->merge[i].result] = true;
    }
    for (int c = 0; c < 256; c++) {
        if (b->byte[c] >= 0) made[b->byte[c]] = true;
        if (b->last_byte[c] >= 0) made[b->last_byte[c]] = true;
    }
    for (int i = 0; i < tok->n_added; i++) made[tok->added[i].id] = true;
    int lost = 0, first = 0;
    for (int i = b->n_tokens - 1; i >= 0; i--) {
        if (!made[i] && !is_reserved(b->token[i].text)) lost++, first = i;
    }
    free(made);
    if (!lost) return 0;
    return tn_fail(err, TN_EINPUT,
                   "%s: the %d merges never make token %d '%s' of the vocabulary, nor %d others (cut short?)", dir,
                   b->n_merges, first, b->token[first].text, lost - 1);
}

/* ---- the two layouts ---- */

static int load_pair(nn_tokenizer *tok, const char *dir, const tn_json *vocab, tn_err *err) {
    char *file = join(dir, "vocab.json");
    if (!file) return tn_fail(err, TN_ENOMEM, "%s: no memory for a path", dir);
    int rc = nn_bpe_init(&tok->bpe, MAX_MERGES) ? tn_fail(err, TN_ENOMEM, "%s: no memory for the merges", dir) : 0;
    if (!rc) rc = read_vocab(&tok->bpe, tn_json_root(vocab), file, err);
    if (!rc) rc = load_merges(&tok->bpe, dir, err);
    free(file);
    return rc;
}

static int load_single(nn_tokenizer *tok, const char *dir, const tn_json *doc, tn_err *err) {
    const tn_jval *model = get(doc, "model"), *merges = tn_json_get(model, "merges");
    const tn_jval *type = tn_json_get(model, "type"), *suffix = tn_json_get(model, "end_of_word_suffix");
    bool bpe = !type || (type->type == TN_JSON_STRING && !strcmp(type->string, "BPE"));
    if (!bpe || !suffix || suffix->type != TN_JSON_STRING || strcmp(suffix->string, "</w>")) {
        return tn_fail(err, TN_EUNSUPPORTED, "%s/tokenizer.json: expected a BPE model with end_of_word_suffix '</w>'",
                       dir);
    }
    if (!merges || merges->type != TN_JSON_ARRAY) {
        return tn_fail(err, TN_EINPUT, "%s/tokenizer.json: expected an array model.merges", dir);
    }
    if (nn_bpe_init(&tok->bpe, merges->length)) return tn_fail(err, TN_ENOMEM, "%s: no memory for the merges", dir);
    if (read_vocab(&tok->bpe, tn_json_get(model, "vocab"), "tokenizer.json", err)) return tn_fail_in(err, "%s", dir);
    size_t i = 0;
    for (const tn_jval *m = merges->child; m; m = m->next, i++) {
        if (json_merge(&tok->bpe, m, err)) return tn_fail_in(err, "%s/tokenizer.json: merge %zu", dir, i);
    }
    return 0;
}

/* ---- added and special tokens ---- */

/* A token is named by a string or by {"content": string, ...}. */
static const char *content(const tn_jval *v) {
    if (v && v->type == TN_JSON_OBJECT) v = tn_json_get(v, "content");
    return v && v->type == TN_JSON_STRING ? v->string : NULL;
}

typedef struct extra {
    const char *text;
    int64_t id;
} extra;

static int by_id(const void *a, const void *b) {
    int64_t x = ((const extra *)a)->id, y = ((const extra *)b)->id;
    return x < y ? -1 : x > y;
}

/* Collects one of {"text": id} (added_tokens.json), {"id": {"content": text}} (added_tokens_decoder of
 * tokenizer_config.json) and [{"id": id, "content": text}] (added_tokens of tokenizer.json). */
static int collect(const tn_jval *list, extra *e, size_t *n, tn_err *err) {
    for (const tn_jval *v = list ? list->child : NULL; v; v = v->next) {
        const tn_jval *id = v->type == TN_JSON_OBJECT ? tn_json_get(v, "id") : v;
        extra x = {content(v), -1};
        if (v->type == TN_JSON_NUMBER) x.text = v->key;
        bool ok = id && id->is_int;
        if (ok) x.id = id->integer;
        if (!ok && v->key) ok = tn_parse_int64(v->key, strlen(v->key), &x.id);
        if (!ok || !x.text || !*x.text || x.id < 0) {
            const char *name = v->key ? v->key : x.text ? x.text : "";
            return tn_fail(err, TN_EINPUT, "added token '%s': expected a text and an id", name);
        }
        e[(*n)++] = x;
    }
    return 0;
}

/* Appends added tokens to the vocabulary in the order of their ids, which must go on where it ends; the ones that are
 * in it already (start and end) must have the id they have there. */
static int add_extras(nn_tokenizer *tok, extra *e, size_t n, tn_err *err) {
    qsort(e, n, sizeof *e, by_id);
    for (size_t i = 0; i < n; i++) {
        int32_t id = nn_bpe_find(&tok->bpe, e[i].text);
        if (id < 0 && e[i].id == tok->bpe.n_tokens) {
            id = tok->bpe.n_tokens;
            if (nn_bpe_add_token(&tok->bpe, e[i].text, err)) return -1;
        }
        if (id != e[i].id) {
            return tn_fail(err, TN_EINPUT, "added token '%s': expected id %d, got %lld", e[i].text,
                           id < 0 ? tok->bpe.n_tokens : (int)id, (long long)e[i].id);
        }
        if (nn_tokenizer_register(tok, id, 1, false, err)) return -1;
    }
    return 0;
}

static int load_extras(nn_tokenizer *tok, const tn_jval *const lists[3], tn_err *err) {
    size_t total = 0, n = 0;
    for (int i = 0; i < 3; i++) total += lists[i] ? lists[i]->length : 0;
    extra *e = malloc((total + 1) * sizeof *e);
    if (!e) return tn_fail(err, TN_ENOMEM, "no memory for %zu added tokens", total);
    int rc = 0;
    for (int i = 0; i < 3 && !rc; i++) {
        bool container = lists[i] && (lists[i]->type == TN_JSON_OBJECT || lists[i]->type == TN_JSON_ARRAY);
        if (container) rc = collect(lists[i], e, &n, err);
    }
    if (!rc) rc = add_extras(tok, e, n, err);
    free(e);
    return rc;
}

/* special_tokens_map.json overrides tokenizer_config.json: SD 2 folders need that for their padding "!". */
static int special(nn_tokenizer *tok, const tn_json *config, const tn_json *map, const char *key, const char *fallback,
                   int32_t *id, tn_err *err) {
    const char *text = content(get(map, key));
    if (!text) text = content(get(config, key));
    if (!text) text = fallback;
    *id = nn_bpe_find(&tok->bpe, text);
    if (*id < 0) return tn_fail(err, TN_EINPUT, "the %s '%s' is not in the vocabulary", key, text);
    return nn_tokenizer_register(tok, *id, 1, true, err);
}

static int settings(nn_tokenizer *tok, const tn_json *config, const tn_json *map, tn_err *err) {
    static const char start[] = "<|startoftext|>", end[] = "<|endoftext|>"; /* defaults of CLIPTokenizer */
    if (special(tok, config, map, "bos_token", start, &tok->bos, err)) return -1;
    if (special(tok, config, map, "eos_token", end, &tok->eos, err)) return -1;
    if (special(tok, config, map, "unk_token", end, &tok->unk, err)) return -1;
    if (special(tok, config, map, "pad_token", end, &tok->pad, err)) return -1;
    tok->bpe.unk = tok->unk;
    const tn_jval *class = get(config, "tokenizer_class"), *max = get(config, "model_max_length");
    if (class && class->type == TN_JSON_STRING && !strstr(class->string, "CLIPTokenizer") &&
        strcmp(class->string, "PreTrainedTokenizerFast")) {
        return tn_fail(err, TN_EUNSUPPORTED, "tokenizer_class is '%s', expected CLIPTokenizer", class->string);
    }
    if (!max || max->type == TN_JSON_NULL) return 0;
    if (max->type != TN_JSON_NUMBER || !(max->number >= 2.0)) {
        return tn_fail(err, TN_EINPUT, "model_max_length: expected a number of at least 2");
    }
    tok->max_length = max->number < 1e6 ? (int)max->number : 0; /* "no limit" is written as 1e30 */
    return 0;
}

/* ---- all together ---- */

enum { VOCAB, SINGLE, CONFIG, MAP, ADDED, N_DOCS };

static int load(nn_tokenizer *tok, const char *dir, tn_json *doc[N_DOCS], tn_err *err) {
    static const char *const names[N_DOCS] = {"vocab.json", "tokenizer.json", "tokenizer_config.json",
                                              "special_tokens_map.json", "added_tokens.json"};
    for (int i = 0; i < N_DOCS; i++) {
        if (i == SINGLE && doc[VOCAB]) continue; /* the pair is what the reference reads */
        if (load_json(dir, names[i], i == VOCAB ? TN_JSON_PYTHON : CONFIG_FLAGS, &doc[i], err)) return -1;
        if (i == SINGLE && !doc[VOCAB] && !doc[SINGLE]) {
            return tn_fail(err, TN_EINPUT, "%s: expected a tokenizer: vocab.json and merges.txt, or tokenizer.json",
                           dir);
        }
    }
    if (doc[VOCAB] ? load_pair(tok, dir, doc[VOCAB], err) : load_single(tok, dir, doc[SINGLE], err)) return -1;
    nn_bpe_link_bytes(&tok->bpe);
    const tn_jval *lists[3] = {get(doc[SINGLE], "added_tokens"), get(doc[CONFIG], "added_tokens_decoder"),
                               doc[ADDED] ? tn_json_root(doc[ADDED]) : NULL};
    if (load_extras(tok, lists, err) || settings(tok, doc[CONFIG], doc[MAP], err)) return tn_fail_in(err, "%s", dir);
    tok->file_size = tok->bpe.n_tokens;
    return check_reachable(tok, dir, err);
}

int nn_tokenizer_load(const char *dir, nn_tokenizer **out, tn_err *err) {
    nn_tokenizer *tok = calloc(1, sizeof *tok);
    if (!tok) return tn_fail(err, TN_ENOMEM, "%s: no memory for a tokenizer", dir);
    tn_json *doc[N_DOCS] = {NULL};
    int rc = load(tok, dir, doc, err);
    for (int i = 0; i < N_DOCS; i++) tn_json_free(doc[i]);
    if (rc) {
        nn_tokenizer_free(tok);
        return -1;
    }
    *out = tok;
    return 0;
}
