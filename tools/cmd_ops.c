/* oneword ops: the operators, their formulas and where they come from. */
#include "tensor/op/ops.h"
#include "tools/opt.h"

#include "tensor/io/json.h"
#include <stdio.h>
#include <stdlib.h>

static const opt_row rows[] = {OPT_COMMON(opt_common, threads)};

static int run(int argc, char **argv);
const opt_command cmd_ops = {"ops", "the operators: formula and source of each", "ops [--json]", NULL, rows, sizeof rows / sizeof *rows, run};

static int run(int argc, char **argv) {
    opt_common o = {0};
    tn_err err;
    int r = opt_parse(&cmd_ops, argc, argv, &o, NULL, NULL, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    for (int i = 0; i < TN_OP_COUNT; i++) {
        const tn_op_text *t = &tn_op_texts[i];
        if (!o.json) {
            printf("%-20s %s\n%-20s [%s]\n", t->name, t->formula, "", t->source);
            continue;
        }
        tn_jw w;
        tn_jw_init(&w, 0);
        tn_jw_open(&w, NULL, '{');
        tn_jw_string(&w, "name", t->name), tn_jw_string(&w, "formula", t->formula), tn_jw_string(&w, "source", t->source);
        tn_jw_close(&w, '}');
        char *text = tn_jw_take(&w);
        if (text) puts(text);
        free(text);
    }
    return 0;
}
