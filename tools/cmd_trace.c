/* oneword trace: every named tensor of a case's run, as safetensors, to lay beside another's with `oneword diff`. */
#include "tools/opt.h"
#include "tools/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *output, *clip_vocab;
    bool ref;
    opt_common common;
} settings;

static const opt_row rows[] = {
    {"o,output", OPT_TEXT, offsetof(settings, output), 0, 0, "FILE", "the safetensors file to write"},
    {"ref", OPT_FLAG, offsetof(settings, ref), 0, 0, NULL,
     "compute every operator by its definition, in double (slow)"},
    OPT_COMMON(settings, common),
};

/* The inputs as they lie in the case. */
static void record_inputs(const verify_case *c, tn_st_writer *w) {
    for (size_t i = 0; c->st && i < c->st->n; i++) {
        const tn_st_tensor *t = &c->st->tensor[i];
        if (!strncmp(t->name, "in.", 3)) tn_st_add_raw(w, t->name, t->dtype, t->ndim, t->shape, t->data);
    }
}

static int trace(const settings *set, const char *path, tn_ctx *ctx, tn_err *err) {
    verify_case c;
    tn_jw order;
    if (verify_open(&c, path, ctx, set->clip_vocab, err)) return -1;
    tn_jw_init(&order, 0);
    tn_jw_open(&order, NULL, '[');
    c.recorder = tn_st_writer_new(), c.order = &order;
    int rc = c.recorder ? 0 : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!rc) {
        record_inputs(&c, c.recorder);
        verify_run(&c);
    }
    tn_jw_close(&order, ']');
    char *names = tn_jw_take(&order);
    if (!rc && c.err.code) {
        *err = c.err;
        rc = tn_fail_in(err, "%s", path);
    }
    if (!rc && !names) rc = tn_fail(err, TN_ENOMEM, "out of memory");
    if (!rc) {
        tn_st_add_meta(c.recorder, "kind", c.kind);
        tn_st_add_meta(c.recorder, "order", names);
        rc = tn_st_write(c.recorder, set->output, err);
    }
    if (!rc) opt_note(&set->common, "%s: %d tensors compared on the way", set->output, c.n_checks);
    free(names);
    tn_st_writer_free(c.recorder);
    verify_close(&c);
    return rc;
}

static int run(int argc, char **argv) {
    settings set = {0};
    opt_list paths = {.n = 0};
    tn_err err = {0};
    tn_ctx ctx;
    int rc = opt_parse(&cmd_trace, argc, argv, &set, NULL, &paths, &err);
    if (rc > 0) return 0;
    if (!rc && (paths.n != 1 || !set.output))
        rc = tn_fail(&err, TN_EUSAGE, "expected one case and -o FILE (see `oneword trace --help`)");
    if (rc || opt_context(&set.common, &ctx, &err)) return opt_error(&err);
    ctx.use_ref = set.ref;
    rc = trace(&set, paths.item[0], &ctx, &err);
    tn_ctx_free(&ctx);
    return rc ? opt_error(&err) : 0;
}

const opt_command cmd_trace = {
    .name = "trace",
    .summary = "write every named tensor of a golden case's run to a file",
    .usage = "trace CASE -o FILE [options]",
    .notes = "Inputs are in.*, results out.*, gradients grad.*, what lies between trace.*, as in the case; the "
             "metadata's `order` lists\n"
             "them as they were computed. `oneword diff A B` names the first difference of two such files.\n",
    .rows = rows,
    .nrows = (int)(sizeof rows / sizeof rows[0]),
    .run = run,
};
