/* oneword verify: golden cases against what is computed here. */
#include "tools/opt.h"
#include "tools/verify.h"

#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *clip_vocab;
    bool strict, ref;
    opt_common common;
} settings;

static const opt_row rows[] = {
    {"clip-vocab", OPT_TEXT, offsetof(settings, clip_vocab), 0, 0, "DIR",
     "vocab.json and merges.txt for tokenizer cases that bring none (default: clip-vocab/ beside their folder)"},
    {"strict", OPT_FLAG, offsetof(settings, strict), 0, 0, NULL, "count cases that are not supported as failed"},
    {"ref", OPT_FLAG, offsetof(settings, ref), 0, 0, NULL,
     "compute every operator by its definition, in double (slow)"},
    OPT_COMMON(settings, common),
};

typedef enum { PASSED, FAILED, UNSUPPORTED } outcome;

typedef struct report {
    const settings *set;
    int count[3];
} report;

/* The check that comes nearest to its bar: what a line says about a case that passed. */
static const verify_check *tightest(const verify_case *c) {
    const verify_check *best = NULL;
    for (int i = 0; i < c->n_checks; i++) {
        const verify_check *k = &c->check[i];
        if (!best || k->error * (best->bar > 0 ? best->bar : 1) > best->error * (k->bar > 0 ? k->bar : 1)) best = k;
    }
    return best;
}

static void print_check(const verify_check *k) {
    if (k->note) {
        printf("%s: %s", k->name, k->note);
        return;
    }
    printf("%s: normalised squared error %.3g", k->name, k->nmse);
    if (k->error != k->nmse) printf(", error %.3g", k->error);
    printf(" (bar %.3g)", k->bar);
    if (k->index >= 0) printf(", worst at element %lld: %.9g, golden %.9g", (long long)k->index, k->ours, k->golden);
}

static void print_text(const verify_case *c, const report *r, outcome how) {
    static const char *const words[] = {"ok    ", "FAILED", "unsup."};
    int first = verify_first_failure(c);
    printf("%s %s: ", words[how], c->path);
    if (c->err.code) {
        printf("%s\n", c->err.msg);
        return;
    }
    if (how == FAILED) {
        print_check(&c->check[first]);
        printf("\n");
    } else {
        const verify_check *k = tightest(c);
        printf("%s, %d compared", c->kind, c->n_checks);
        if (k) printf(", tightest %s %.2g", k->name, k->error);
        printf("\n");
    }
    for (int i = 0; r->set->common.verbose && i < first; i++) {
        printf("         ");
        print_check(&c->check[i]);
        printf("\n");
    }
}

static void print_json(const verify_case *c, outcome how, double seconds) {
    static const char *const words[] = {"passed", "failed", "unsupported"};
    int first = verify_first_failure(c);
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "case", c->path);
    tn_jw_string(&w, "kind", c->kind);
    tn_jw_string(&w, "result", words[how]);
    tn_jw_number(&w, "seconds", seconds);
    if (c->err.code) tn_jw_string(&w, "reason", c->err.msg);
    if (first < c->n_checks) tn_jw_string(&w, "first_divergence", c->check[first].name);
    tn_jw_open(&w, "tensors", '[');
    for (int i = 0; i < c->n_checks && i <= first; i++) { /* nothing after the first divergence */
        const verify_check *k = &c->check[i];
        tn_jw_open(&w, NULL, '{');
        tn_jw_string(&w, "name", k->name);
        tn_jw_bool(&w, "passed", k->passed);
        tn_jw_number(&w, "nmse", k->nmse);
        tn_jw_number(&w, "error", k->error);
        tn_jw_number(&w, "bar", k->bar);
        if (k->note) tn_jw_string(&w, "note", k->note);
        if (k->index >= 0) {
            tn_jw_int(&w, "worst", k->index);
            tn_jw_number(&w, "ours", k->ours);
            tn_jw_number(&w, "golden", k->golden);
        }
        tn_jw_close(&w, '}');
    }
    tn_jw_close(&w, ']');
    tn_jw_close(&w, '}');
    char *text = tn_jw_take(&w);
    printf("%s\n", text ? text : "{\"reason\":\"out of memory\"}");
    free(text);
}

/* A case that could be opened. */
static void run_case(verify_case *c, report *r) {
    double start = tn_clock();
    verify_run(c);
    outcome how = c->err.code == TN_EUNSUPPORTED                         ? UNSUPPORTED
                  : c->err.code || verify_first_failure(c) < c->n_checks ? FAILED
                                                                         : PASSED;
    if (how == UNSUPPORTED && r->set->strict) how = FAILED;
    r->count[how]++;
    if (r->set->common.json)
        print_json(c, how, tn_clock() - start);
    else if (how == FAILED || !r->set->common.quiet)
        print_text(c, r, how);
    fflush(stdout);
}

/* A file met in a folder counts as failed where it cannot be opened; one that was named ends the command. */
static int run_path(const char *path, bool named, tn_ctx *ctx, report *r, tn_err *err) {
    verify_case c;
    if (!verify_open(&c, path, ctx, r->set->clip_vocab, err)) {
        run_case(&c, r);
        verify_close(&c);
        return 0;
    }
    if (named || err->code == TN_ENOMEM) return -1;
    r->count[FAILED]++;
    c = (verify_case){.path = path, .kind = "", .err = *err};
    if (r->set->common.json)
        print_json(&c, FAILED, 0);
    else
        print_text(&c, r, FAILED);
    return 0;
}

static void print_summary(const report *r) {
    if (!r->set->common.json) {
        printf("%d passed, %d failed, %d unsupported\n", r->count[PASSED], r->count[FAILED], r->count[UNSUPPORTED]);
        return;
    }
    printf("{\"passed\":%d,\"failed\":%d,\"unsupported\":%d}\n", r->count[PASSED], r->count[FAILED],
           r->count[UNSUPPORTED]);
}

/* Without arguments: the goldens of the source tree that we stand in. */
static int default_paths(opt_list *paths, tn_err *err) {
    static const char *const places[] = {"testdata/golden", "testdata/world"};
    for (int i = 0; i < 2; i++) {
        if (tn_is_dir(places[i])) paths->item[paths->n++] = places[i];
    }
    return paths->n ? 0 : tn_fail(err, TN_EUSAGE, "no cases given, and no testdata/ in this folder");
}

static int verify_all(tn_ctx *ctx, const opt_list *paths, report *r, tn_err *err) {
    for (int i = 0; i < paths->n; i++) {
        verify_paths list = {0};
        int rc = verify_find(&list, paths->item[i], err);
        for (size_t k = 0; k < list.n && !rc; k++) rc = run_path(list.path[k], !tn_is_dir(paths->item[i]), ctx, r, err);
        verify_paths_free(&list);
        if (rc) return -1;
    }
    return 0;
}

static int run(int argc, char **argv) {
    settings set = {0};
    opt_list paths = {.n = 0};
    report r = {&set, {0}};
    tn_err err = {0};
    tn_ctx ctx;
    int rc = opt_parse(&cmd_verify, argc, argv, &set, NULL, &paths, &err);
    if (rc > 0) return 0;
    if (!rc && !paths.n) rc = default_paths(&paths, &err);
    if (rc || opt_context(&set.common, &ctx, &err)) return opt_error(&err);
    ctx.use_ref = set.ref;
    rc = verify_all(&ctx, &paths, &r, &err);
    tn_ctx_free(&ctx);
    if (rc) return opt_error(&err);
    print_summary(&r);
    return r.count[FAILED] ? TN_EMISMATCH : 0;
}

const opt_command cmd_verify = {
    .name = "verify",
    .summary = "compare with golden outputs of PyTorch, tensor by tensor",
    .usage = "verify [DIR|CASE...] [options]",
    .notes = "A model directory stands for its cases/, another folder for all cases below it, no argument for those in "
             "testdata/.\n"
             "The last line is `P passed, F failed, U unsupported`; the exit status is 7 if any failed.\n",
    .rows = rows,
    .nrows = (int)(sizeof rows / sizeof rows[0]),
    .run = run,
};
