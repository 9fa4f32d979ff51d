/* oneword diff: the first difference of two safetensors files, in the order in which the first was computed. */
#include "tools/opt.h"
#include "tools/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    double tolerance;
    bool common_only;
    opt_common common;
} settings;

static const opt_row rows[] = {
    {"tolerance", OPT_NUMBER, offsetof(settings, tolerance), 0, 1e300, "X",
     "normalised squared error up to which tensors are alike (default 0: every bit)"},
    {"common-only", OPT_FLAG, offsetof(settings, common_only), 0, 0, NULL, "pass over tensors that only one file has"},
    OPT_COMMON(settings, common),
};

static double *read_doubles(const tn_st_tensor *t, tn_err *err) {
    double *x = malloc(((size_t)t->count + 1) * sizeof *x);
    int rc = x ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for %s", t->name);
    if (!rc && tn_st_read_f64(t, x, err)) {
        int64_t *whole = malloc(((size_t)t->count + 1) * sizeof *whole);
        rc = whole ? tn_st_read_i64(t, whole, err) : tn_fail(err, TN_ENOMEM, "out of memory for %s", t->name);
        for (int64_t i = 0; i < t->count && !rc; i++) x[i] = (double)whole[i];
        free(whole);
    }
    if (rc) free(x);
    return rc ? NULL : x;
}

/* 0 alike, 1 different (k filled), -1 error. */
static int compare(const settings *set, const tn_st_tensor *a, const tn_st_tensor *b, verify_check *k, tn_err *err) {
    *k = (verify_check){.name = a->name, .index = -1};
    bool same_shape = a->ndim == b->ndim && !memcmp(a->shape, b->shape, sizeof a->shape[0] * (size_t)a->ndim);
    if (!same_shape)
        k->note = "the shapes differ";
    else if (a->dtype != b->dtype && set->tolerance == 0)
        k->note = "the types differ";
    if (k->note) return 1;
    if (a->dtype == b->dtype && !memcmp(a->data, b->data, (size_t)(a->end - a->begin))) return 0;
    double *x = read_doubles(a, err), *y = x ? read_doubles(b, err) : NULL;
    if (y) verify_measure(x, y, a->count, k);
    int rc = !y ? -1 : set->tolerance > 0 && k->nmse <= set->tolerance ? 0 : 1;
    free(x), free(y);
    return rc;
}

static void print(const settings *set, const verify_check *k) {
    if (set->common.json) {
        tn_jw w;
        tn_jw_init(&w, 0);
        tn_jw_open(&w, NULL, '{');
        tn_jw_string(&w, "first_difference", k->name);
        if (k->note)
            tn_jw_string(&w, "note", k->note);
        else {
            tn_jw_number(&w, "nmse", k->nmse);
            tn_jw_int(&w, "worst", k->index);
            tn_jw_number(&w, "a", k->ours);
            tn_jw_number(&w, "b", k->golden);
        }
        tn_jw_close(&w, '}');
        char *text = tn_jw_take(&w);
        if (text) printf("%s\n", text);
        free(text);
    } else if (k->note) {
        printf("first difference: %s: %s\n", k->name, k->note);
    } else {
        printf("first difference: %s: normalised squared error %.3g, worst at element %lld: %.9g, %.9g\n", k->name,
               k->nmse, (long long)k->index, k->ours, k->golden);
    }
}

/* One name: 0 alike, 1 different and printed, -1 error. */
static int visit(const settings *set, const char *name, const tn_st *a, const tn_st *b, int *compared, tn_err *err) {
    const tn_st_tensor *x = tn_st_find(a, name), *y = tn_st_find(b, name);
    verify_check k = {.name = name, .index = -1, .note = !x ? "only in the second file" : "only in the first file"};
    int rc = x && y ? compare(set, x, y, &k, err) : !set->common_only;
    *compared += x && y;
    if (rc > 0) print(set, &k);
    return rc;
}

/* The names in the order of a's computation, those it does not list in the order of the files. */
static int diff(const settings *set, const tn_st *a, const tn_st *b, int *compared, tn_err *err) {
    const char *order = tn_st_meta(a, "order");
    tn_json *doc = NULL;
    int rc = 0;
    if (order && tn_json_parse(order, strlen(order), 0, &doc, err)) return tn_fail_in(err, "metadata: order");
    const tn_jval *root = doc ? tn_json_root(doc) : NULL;
    for (size_t i = 0; i < a->n && !rc; i++) {
        if (!strncmp(a->tensor[i].name, "in.", 3)) rc = visit(set, a->tensor[i].name, a, b, compared, err);
    }
    for (const tn_jval *v = root && root->type == TN_JSON_ARRAY ? root->child : NULL; v && !rc; v = v->next) {
        if (v->type == TN_JSON_STRING) rc = visit(set, v->string, a, b, compared, err);
    }
    *compared = 0;
    for (size_t i = 0; i < a->n && !rc; i++) rc = visit(set, a->tensor[i].name, a, b, compared, err);
    for (size_t i = 0; i < b->n && !rc; i++) {
        if (!tn_st_find(a, b->tensor[i].name)) rc = visit(set, b->tensor[i].name, a, b, compared, err);
    }
    tn_json_free(doc);
    return rc;
}

static int run(int argc, char **argv) {
    settings set = {0};
    opt_list paths = {.n = 0};
    tn_err err = {0};
    tn_st *a = NULL, *b = NULL;
    int compared = 0, rc = opt_parse(&cmd_diff, argc, argv, &set, NULL, &paths, &err);
    if (rc > 0) return 0;
    if (!rc && paths.n != 2) rc = tn_fail(&err, TN_EUSAGE, "expected two safetensors files");
    if (!rc) rc = tn_st_open(paths.item[0], TN_MAP_COPY, &a, &err);
    if (!rc) rc = tn_st_open(paths.item[1], TN_MAP_COPY, &b, &err);
    if (!rc) rc = diff(&set, a, b, &compared, &err);
    tn_st_close(a), tn_st_close(b);
    if (rc < 0) return opt_error(&err);
    if (!rc && set.common.json)
        printf("{\"first_difference\":null,\"compared\":%d}\n", compared);
    else if (!rc)
        printf("no difference in %d tensors\n", compared);
    return rc ? TN_EMISMATCH : 0;
}

const opt_command cmd_diff = {
    .name = "diff",
    .summary = "name the first difference of two safetensors files",
    .usage = "diff A B [options]",
    .notes = "Tensors are visited in the order in which A was computed (traces have it), else in that of the file. "
             "Exit status 7 if the\n"
             "files differ.\n",
    .rows = rows,
    .nrows = (int)(sizeof rows / sizeof rows[0]),
    .run = run,
};
