/* Tokenizer cases: JSON lines of text and ids, unpadded, with start and end, at most 77. `ids` follow openai's rules,
 * `ids_hf` those of Hugging Face; `ids_ftfy` are those of a cleaner that is not part of either and are not compared. */
#include "tools/verify.h"

#include "nn/text/tokenizer.h"
#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IDS = 77, MAX_FILE = 256 << 20 };

/* One of the two lists of a line. */
static const struct {
    const char *key;
    nn_tokenizer_rules rules;
} lists[] = {{"ids", NN_RULES_OPENAI}, {"ids_hf", NN_RULES_HF}};

/* ---- which vocabulary ---- */

/* A candidate fits if its start and end are those of the file's first list. */
static bool fits(const nn_tokenizer *t, const tn_jval *ids) {
    nn_tokenizer_facts f = nn_tokenizer_get_facts(t);
    const tn_jval *last = ids->child;
    while (last && last->next) last = last->next;
    return last && ids->child->integer == f.bos && last->integer == f.eos;
}

static nn_tokenizer *try_folder(const char *dir, const tn_jval *ids) {
    nn_tokenizer *t = NULL;
    if (!dir || !tn_is_dir(dir) || nn_tokenizer_load(dir, &t, NULL)) return NULL;
    if (fits(t, ids)) return t;
    nn_tokenizer_free(t);
    return NULL;
}

/* Every subfolder of dir, those first whose name the file's name begins with ("tiny" for tiny_added_tokens.jsonl), with
 * `below` behind it. */
static nn_tokenizer *try_subfolders(verify_case *c, const char *dir, const char *below, const char *stem,
                                    const tn_jval *ids, char **used) {
    tn_list list;
    nn_tokenizer *t = NULL;
    if (!dir || !tn_is_dir(dir) || tn_list_dir(dir, &list, NULL)) return NULL;
    for (int pass = 0; pass < 2 && !t; pass++) {
        for (size_t i = 0; i < list.n && !t; i++) {
            bool named = !strncmp(stem, list.name[i], strlen(list.name[i]));
            char *path = named == !pass ? verify_join(c, dir, "/", list.name[i]) : NULL;
            *used = path ? verify_join(c, path, below, NULL) : NULL;
            t = *used ? try_folder(*used, ids) : NULL;
        }
    }
    tn_list_free(&list);
    return t;
}

/* In the file's folder and below it; --clip-vocab; beside the folder: clip-vocab/, the tokenizers of models; testdata/.
 */
static nn_tokenizer *find_vocabulary(verify_case *c, const tn_jval *ids, char **used) {
    const char *slash = strrchr(c->path, '/'), *stem = slash ? slash + 1 : c->path;
    char *beside = verify_join(c, c->model, "/clip-vocab", NULL),
         *given = c->clip_vocab ? verify_join(c, c->clip_vocab, NULL, NULL) : NULL;
    nn_tokenizer *t = try_folder(*used = c->folder, ids);
    if (!t) t = try_subfolders(c, c->folder, "", stem, ids, used);
    if (!t) t = try_folder(*used = given, ids);
    if (!t) t = try_folder(*used = beside, ids);
    if (!t) t = try_subfolders(c, c->model, "/tokenizer", stem, ids, used);
    if (!t) t = try_subfolders(c, c->model, "", stem, ids, used);
    if (!t) t = try_folder(*used = verify_join(c, "testdata/clip-vocab", NULL, NULL), ids);
    return t;
}

/* A folder of WordPiece: a list of words, no merges. */
static bool is_wordpiece(verify_case *c) {
    char *txt = verify_join(c, c->folder, "/vocab.txt", NULL), *json = verify_join(c, c->folder, "/vocab.json", NULL);
    return txt && json && tn_exists(txt) && !tn_exists(json);
}

/* ---- one line ---- */

/* Adds {"NAME": id, ...}, one vector a name, in the order of the ids, which must be those that they get. */
static void add_tokens(verify_case *c, nn_tokenizer *t, const tn_jval *added) {
    int32_t next = nn_tokenizer_get_facts(t).size;
    for (size_t i = 0; i < added->length && !c->err.code; i++, next++) {
        const tn_jval *v = added->child;
        while (v && v->integer != next) v = v->next;
        int32_t id;
        if (!v)
            verify_bad(c, "added_tokens: none has id %d", (int)next);
        else
            nn_tokenizer_add(t, v->key, 1, &id, &c->err);
    }
}

/* Encodes to at most MAX_IDS. Where that would cut an added token, which a prompt for a picture must not lose, the text
 * is encoded whole and cut here: the end token stays. */
static int encode(const nn_tokenizer *t, const char *text, size_t len, nn_tokenizer_rules rules, nn_tokens *got,
                  tn_err *err) {
    tn_err refused;
    if (!nn_tokenizer_encode(t, text, len, rules, MAX_IDS, got, &refused)) return 0;
    if (nn_tokenizer_encode(t, text, len, rules, (int)(4 * len) + MAX_IDS, got, err)) return -1;
    if (got->n_real > MAX_IDS) {
        got->ids[MAX_IDS - 1] = got->ids[got->n_real - 1];
        got->n_real = MAX_IDS;
    }
    return 0;
}

static void check_list(verify_case *c, const nn_tokenizer *t, const char *text, size_t len, int which,
                       const tn_jval *ids, int line) {
    char number[40];
    nn_tokens got;
    snprintf(number, sizeof number, "line %d ", line);
    verify_check k = {.name = verify_join(c, number, lists[which].key, NULL), .index = -1, .passed = true};
    if (c->err.code || encode(t, text, len, lists[which].rules, &got, &c->err)) return;
    const tn_jval *v = ids->child;
    for (int i = 0; i < got.n_real || v; i++, v = v ? v->next : NULL) {
        double ours = i < got.n_real ? (double)got.ids[i] : -1, golden = v ? v->number : -1;
        if (ours == golden) continue;
        if (k.passed) k.passed = false, k.index = i, k.ours = ours, k.golden = golden;
        k.error++;
    }
    nn_tokens_free(&got);
    verify_record(c, &k);
}

/* Strings of our JSON end at a NUL. A text that holds one is read with the noncharacter U+FDD0 in its place. */
static void hide_nul(char *line) {
    for (char *s = line; *s; s++) {
        if (*s != '\\') continue;
        if (!strncmp(s, "\\u0000", 6)) memcpy(s, "\\ufdd0", 6);
        s += s[1] != '\0';
    }
}

static size_t restore_nul(char *s) {
    size_t n = 0;
    for (const char *p = s; *p; n++) {
        bool nul = !strncmp(p, "\xef\xb7\x90", 3);
        s[n] = nul ? '\0' : *p;
        p += nul ? 3 : 1;
    }
    s[n] = '\0';
    return n;
}

typedef struct vocabulary {
    nn_tokenizer *t;
    char *folder;
    bool extended; /* has added tokens: of one line alone */
} vocabulary;

static void open_vocabulary(verify_case *c, vocabulary *v, const tn_jval *root, const tn_jval *ids) {
    const tn_jval *added = tn_json_get(root, "added_tokens");
    if (!v->t && !v->folder && !(v->t = find_vocabulary(c, ids, &v->folder))) {
        verify_bad(c, "no vocabulary found whose start token is %lld (give --clip-vocab DIR)",
                   ids->child ? (long long)ids->child->integer : -1);
        return;
    }
    if (v->extended) {
        nn_tokenizer_free(v->t);
        v->t = NULL;
        nn_tokenizer_load(v->folder, &v->t, &c->err);
    }
    v->extended = added != NULL;
    if (added && !c->err.code) add_tokens(c, v->t, added);
}

static void check_line(verify_case *c, vocabulary *v, const tn_jval *root, int line) {
    const tn_jval *text = tn_json_get(root, "text"), *first = NULL;
    for (int i = 1; i >= 0; i--) first = tn_json_get(root, lists[i].key) ? tn_json_get(root, lists[i].key) : first;
    if (!text || text->type != TN_JSON_STRING || !first || first->type != TN_JSON_ARRAY) {
        verify_bad(c, "line %d: expected a text and its ids", line);
        return;
    }
    open_vocabulary(c, v, root, first);
    char *copy = verify_join(c, text->string, NULL, NULL);
    size_t len = copy ? restore_nul(copy) : 0;
    for (int i = 0; i < 2 && !c->err.code; i++) {
        const tn_jval *ids = tn_json_get(root, lists[i].key);
        if (ids) check_list(c, v->t, copy, len, i, ids, line);
    }
}

void verify_tokenizer(verify_case *c) {
    char *text = NULL;
    size_t len;
    vocabulary v = {0};
    int line = 0;
    if (is_wordpiece(c)) {
        verify_unsupported(c, "WordPiece tokenizers are not built in");
        return;
    }
    if (tn_read_file(c->path, MAX_FILE, &text, &len, &c->err)) return;
    for (char *s = text, *end; *s && !c->err.code; s = end) {
        tn_json *doc = NULL;
        end = s + strcspn(s, "\n");
        if (*end) *end++ = '\0';
        line++;
        hide_nul(s);
        if (!s[strspn(s, " \t\r")]) continue;
        if (tn_json_parse(s, strlen(s), 0, &doc, &c->err))
            tn_fail_in(&c->err, "line %d", line);
        else
            check_line(c, &v, tn_json_root(doc), line);
        tn_json_free(doc);
    }
    if (!c->err.code && !c->n_checks) verify_bad(c, "no line with a text and its ids");
    nn_tokenizer_free(v.t);
    free(text);
}
