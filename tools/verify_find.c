/* Which files a path on the command line stands for. */
#include "tools/verify.h"

#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32 }; /* of folders: a link to a folder above must not send us round for ever */

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static char *join(const char *dir, const char *name) {
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = malloc(n);
    bool slash = *dir && dir[strlen(dir) - 1] == '/';
    if (path) snprintf(path, n, slash ? "%s%s" : "%s/%s", dir, name);
    return path;
}

/* Takes path over, whatever happens. */
static int push(verify_paths *list, char *path, tn_err *err) {
    if (path && list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 64;
        char **grown = realloc(list->path, cap * sizeof *grown);
        if (grown) list->path = grown, list->cap = cap;
    }
    if (!path || list->n == list->cap) {
        free(path);
        return tn_fail(err, TN_ENOMEM, "out of memory for %zu paths", list->n + 1);
    }
    list->path[list->n++] = path;
    return 0;
}

void verify_paths_free(verify_paths *list) {
    for (size_t i = 0; i < list->n; i++) free(list->path[i]);
    free(list->path);
    *list = (verify_paths){0};
}

/* Whether the first line of a file is one of a tokenizer case: logs of training are JSON lines as well. */
static bool is_tokenizer_case(const char *path) {
    char *text;
    size_t len;
    tn_json *doc = NULL;
    if (tn_read_file(path, 256 << 20, &text, &len, NULL)) return false;
    bool yes = !tn_json_parse(text, strcspn(text, "\n"), 0, &doc, NULL);
    const tn_jval *root = yes ? tn_json_root(doc) : NULL;
    yes = tn_json_get(root, "text") && (tn_json_get(root, "ids") || tn_json_get(root, "ids_hf"));
    tn_json_free(doc);
    free(text);
    return yes;
}

/* Whether a file met on the way is a case. All of cases/ is, so that a damaged one does not go unnoticed; elsewhere the
 * metadata decides. A folder of embedding files is one case, by what is expected of it. */
static bool is_case(const char *path, bool in_cases) {
    if (ends_with(path, ".jsonl")) return is_tokenizer_case(path);
    if (ends_with(path, "/expected.json")) return true;
    if (!ends_with(path, ".safetensors")) return false;
    tn_st *st;
    if (in_cases) return true;
    if (tn_st_open(path, 0, &st, NULL)) return false;
    bool yes = tn_st_meta(st, "case") != NULL;
    tn_st_close(st);
    return yes;
}

/* A folder: its files in order, then its subfolders go on the stack, so that the first is walked first. */
static int walk_one(verify_paths *found, verify_paths *stack, const char *dir, tn_err *err) {
    tn_list list;
    int depth = 0, rc = tn_list_dir(dir, &list, err);
    if (rc) return rc;
    for (const char *s = dir; *s; s++) depth += *s == '/';
    for (size_t i = list.n; i-- && !rc;) { /* backwards: the stack turns it round */
        char *path = join(dir, list.name[i]);
        if (path && tn_is_dir(path) && depth < MAX_DEPTH)
            rc = push(stack, path, err);
        else
            free(path);
    }
    for (size_t i = 0; i < list.n && !rc; i++) {
        char *path = join(dir, list.name[i]);
        if (path && !tn_is_dir(path) && is_case(path, ends_with(dir, "/cases") || !strcmp(dir, "cases")))
            rc = push(found, path, err);
        else
            free(path);
    }
    tn_list_free(&list);
    return rc;
}

static int walk(verify_paths *found, const char *dir, tn_err *err) {
    verify_paths stack = {0};
    char *start = join(dir, "");
    if (start) start[strlen(start) - 1] = '\0'; /* without the last slash */
    int rc = push(&stack, start, err);
    while (!rc && stack.n) {
        char *next = stack.path[--stack.n];
        rc = walk_one(found, &stack, next, err);
        free(next);
    }
    verify_paths_free(&stack);
    return rc;
}

int verify_find(verify_paths *list, const char *path, tn_err *err) {
    if (!tn_is_dir(path)) {
        char *copy = malloc(strlen(path) + 1);
        if (copy) strcpy(copy, path);
        return push(list, copy, err);
    }
    /* A model: its cases and nothing else that may lie in it. */
    char *cases = join(path, "cases");
    size_t before = list->n;
    int rc =
        cases ? walk(list, tn_is_dir(cases) ? cases : path, err) : tn_fail(err, TN_ENOMEM, "out of memory for a path");
    free(cases);
    if (!rc && list->n == before) rc = tn_fail(err, TN_EUSAGE, "%s: no golden cases in this folder", path);
    return rc;
}
