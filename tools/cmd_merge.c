/* oneword merge: learned words of several files in one, and back. Vectors are not touched. */
#include "tools/embedding.h"
#include "tools/opt.h"

#include "tensor/io/json.h"
#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct merge_options {
    opt_common common;
    const char *output, *split;
    opt_list rename;
    bool auto_rename;
} merge_options;

#define AT(f) offsetof(merge_options, f)
static const opt_row rows[] = {
    {"o,output", OPT_TEXT, AT(output), 0, 0, "PATH", "the file to write; with --split the folder (required)"},
    {"rename", OPT_LIST, AT(rename), 0, 0, "OLD=NEW", "call the word NEW; where two files have an OLD, the later one (may be repeated)"},
    {"auto-rename", OPT_FLAG, AT(auto_rename), 0, 0, NULL, "a word whose name is taken gets a number: <cat> becomes <cat-2>"},
    {"split", OPT_TEXT, AT(split), 0, 0, "FILE", "the other way: a file for each word of FILE"},
    OPT_COMMON(merge_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_merge = {
    "merge", "learned words of several files in one file, and back",
    "merge [NAME=]FILE... -o FILE [--rename OLD=NEW] | merge --split FILE -o DIR",
    "Prints each word and the file it came from, or went to. The result is diffusers' format, F32.\n\n"
    "example:\n"
    "  oneword merge testdata/world/learned/mango.safetensors testdata/world/learned/comica.safetensors -o both.safetensors",
    rows, sizeof rows / sizeof *rows, run};

/* One line of the result: a word, and its file. */
static int report_word(const merge_options *o, const emb_word *w, const char *key, const char *file, tn_err *err) {
    tn_jw j;
    if (!o->common.json) {
        opt_put(w->token), fputs(" -> ", stdout), opt_put(file), putchar('\n');
        return 0;
    }
    tn_jw_init(&j, 0);
    tn_jw_open(&j, NULL, '{');
    tn_jw_string(&j, "token", w->token), tn_jw_int(&j, "vectors", w->n), tn_jw_string(&j, key, file);
    return opt_put_json(&j, err);
}

/* ---- names ---- */

/* Whether `longer` is the name of one vector of a word of several: "<cat>_1" where <cat> has two. */
static bool names_a_vector(const emb_word *w, const char *longer) {
    size_t n = strlen(w->token);
    int64_t k;
    if (strncmp(longer, w->token, n) != 0 || longer[n] != '_') return false;
    return tn_parse_int64(longer + n + 1, strlen(longer + n + 1), &k) && k >= 1 && k < w->n;
}

/* The word among the first n that cannot stand beside one called `name` of so many vectors; -1 for none. */
static int taken_by(const emb_words *words, int n, const char *name, int64_t vectors) {
    emb_word it = {.token = (char *)(uintptr_t)name, .n = vectors};
    for (int i = 0; i < n; i++) {
        const emb_word *w = &words->w[i];
        if (strcmp(w->token, name) == 0 || names_a_vector(w, name) || names_a_vector(&it, w->token)) return i;
    }
    return -1;
}

static int set_name(emb_word *w, const char *name, size_t len, tn_err *err) {
    char *copy = malloc(len + 1);
    if (!copy) return tn_fail(err, TN_ENOMEM, "out of memory");
    memcpy(copy, name, len), copy[len] = '\0';
    free(w->token);
    w->token = copy;
    return 0;
}

/* "<cat-2>", "<cat-3>", ...: the first that no word has, one of all of them. */
static int number_name(emb_words *words, int at, tn_err *err) {
    emb_word *w = &words->w[at];
    size_t len = strlen(w->token);
    bool closed = len > 1 && w->token[len - 1] == '>';
    char *name = malloc(len + 16);
    if (!name) return tn_fail(err, TN_ENOMEM, "out of memory");
    int n = 2, bad;
    do {
        snprintf(name, len + 16, "%.*s-%d%s", (int)(closed ? len - 1 : len), w->token, n++, closed ? ">" : "");
    } while (taken_by(words, words->n, name, w->n) >= 0);
    bad = set_name(w, name, strlen(name), err);
    free(name);
    return bad;
}

/* --rename: each from the last word of that name. */
static int rename_words(const merge_options *o, emb_words *words, tn_err *err) {
    for (int i = 0; i < o->rename.n; i++) {
        const char *old = o->rename.item[i], *equals = strchr(old, '=');
        if (!equals || equals == old || !equals[1])
            return tn_fail(err, TN_EUSAGE, "--rename %s: expected OLD=NEW", old);
        int at = words->n - 1;
        size_t n = (size_t)(equals - old);
        while (at >= 0 && (strlen(words->w[at].token) != n || memcmp(words->w[at].token, old, n) != 0)) at--;
        if (at < 0) return tn_fail(err, TN_EUSAGE, "--rename %s: no file has the word %.*s", old, (int)n, old);
        if (set_name(&words->w[at], equals + 1, strlen(equals + 1), err)) return -1;
    }
    return 0;
}

/* ---- one file of many ---- */

/* `source`: of each word, its index among the files. */
static int settle_names(const merge_options *o, const opt_list *files, emb_words *words, const int *source, tn_err *err) {
    if (rename_words(o, words, err)) return -1;
    for (int i = 0; i < words->n; i++) {
        const emb_word *w = &words->w[i];
        if (w->dim != words->w[0].dim) {
            return tn_fail(err, TN_EINPUT, "%s: %s has vectors of width %lld, %s in %s of %lld: they are of different models",
                           files->item[source[i]], w->token, (long long)w->dim, words->w[0].token, files->item[source[0]],
                           (long long)words->w[0].dim);
        }
        int other = taken_by(words, i, w->token, w->n);
        if (other >= 0 && o->auto_rename && number_name(words, i, err)) return -1;
        if (other < 0 || o->auto_rename) continue;
        return tn_fail(err, TN_EUSAGE, "%s and %s both have the word %s (--rename '%s=NEW' renames the later one, --auto-rename numbers it)",
                       files->item[source[other]], files->item[source[i]], w->token, w->token);
    }
    return 0;
}

/* Reads file i; *source grows with the words. */
static int read_file(const opt_list *files, int i, emb_words *words, int **source, tn_err *err) {
    int before = words->n;
    if (emb_read_argument(files->item[i], words, err)) return -1;
    int *grown = realloc(*source, (size_t)words->n * sizeof *grown);
    if (!grown) return tn_fail(err, TN_ENOMEM, "out of memory");
    *source = grown;
    for (int k = before; k < words->n; k++) grown[k] = i;
    return 0;
}

static int merge_files(const merge_options *o, const opt_list *files, emb_words *words, tn_err *err) {
    int *source = NULL, bad = 0;
    for (int i = 0; !bad && i < files->n; i++) bad = read_file(files, i, words, &source, err);
    if (!bad) bad = settle_names(o, files, words, source, err) || emb_write(o->output, words, err);
    for (int i = 0; !bad && i < words->n; i++) bad = report_word(o, &words->w[i], "source", files->item[source[i]], err);
    free(source);
    return bad ? -1 : 0;
}

/* ---- many files of one ---- */

/* A file name from a token: its letters, digits, '-', '.' and '@'; for all else '_', brackets left out. Bytes beyond ASCII stay
 * as they are: a name in any script is its own. */
static void file_name(const char *token, char *out, size_t size) {
    size_t n = 0;
    for (const char *p = token; *p && n + 1 < size; p++) {
        bool plain = ('a' <= *p && *p <= 'z') || ('A' <= *p && *p <= 'Z') || ('0' <= *p && *p <= '9') || strchr("-@_", *p) ||
                     (*p == '.' && n > 0) || (unsigned char)*p >= 0x80;
        if (*p != '<' && *p != '>') out[n++] = plain ? *p : '_';
    }
    if (n == 0) out[n++] = '_';
    out[n] = '\0';
}

/* DIR/NAME.safetensors for word i; with a number where a word before it has the same. */
static int split_path(const merge_options *o, const emb_words *words, int i, char *path, size_t size, tn_err *err) {
    char name[200], other[200];
    int same = 0;
    file_name(words->w[i].token, name, sizeof name);
    for (int k = 0; k < i; k++) {
        file_name(words->w[k].token, other, sizeof other);
        same += strcmp(name, other) == 0;
    }
    int n = same ? snprintf(path, size, "%s/%s-%d.safetensors", o->output, name, same + 1)
                 : snprintf(path, size, "%s/%s.safetensors", o->output, name);
    return n < (int)size ? 0 : tn_fail(err, TN_EUSAGE, "--output: the path is too long");
}

static int split_all(const merge_options *o, emb_words *words, tn_err *err) {
    char path[4096];
    if (emb_read(o->split, NULL, words, err) || tn_make_dirs(o->output, err)) return -1;
    for (int i = 0; i < words->n; i++) {
        emb_words one = {&words->w[i], 1};
        if (split_path(o, words, i, path, sizeof path, err) || emb_write(path, &one, err) ||
            report_word(o, &words->w[i], "file", path, err))
            return -1;
    }
    return 0;
}

static int check(const merge_options *o, const opt_list *files, tn_err *err) {
    if (!o->output) return tn_fail(err, TN_EUSAGE, "-o is needed");
    if (o->split && files->n) return tn_fail(err, TN_EUSAGE, "--split takes no other file: %s", files->item[0]);
    if (o->split && (o->rename.n || o->auto_rename)) return tn_fail(err, TN_EUSAGE, "--split renames nothing");
    if (!o->split && files->n == 0) return tn_fail(err, TN_EUSAGE, "a file of learned words is needed (oneword merge FILE... -o FILE)");
    return 0;
}

static int run(int argc, char **argv) {
    merge_options o = {.output = NULL};
    opt_list files = {.n = 0};
    emb_words words = {0};
    tn_err err;
    int r = opt_parse(&cmd_merge, argc, argv, &o, NULL, &files, &err);
    if (!r) r = check(&o, &files, &err);
    if (!r) r = o.split ? split_all(&o, &words, &err) : merge_files(&o, &files, &words, &err);
    emb_free(&words);
    return r < 0 ? opt_error(&err) : 0;
}
