/* oneword bench: one table of the machine's peak, of operators at real shapes and of whole networks. Never a test:
 * times depend on what else the machine does. */
#include "tensor/io/sys.h"
#include "tools/bench.h"
#include "tools/bundle.h"
#include "tools/opt.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct bench_options {
    opt_common common;
    const char *model;
    double seconds;
    bool profile, only_model;
} bench_options;

#define FIELD(name) offsetof(bench_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR", "model directory as diffusers saves it (default: the bundled one)"},
    {"seconds", OPT_NUMBER, FIELD(seconds), 0, 3600, "X", "time for each row (default: 0.5); at least 3 runs in any case"},
    {"profile", OPT_FLAG, FIELD(profile), 0, 0, NULL, "also the time by operator, of the UNet and of an inversion step"},
    {"only-model", OPT_FLAG, FIELD(only_model), 0, 0, NULL, "leave out the operators at the shapes of Stable Diffusion"},
    OPT_COMMON(bench_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_bench = {
    "bench", "times of operators and networks, beside the machine's peak", "bench [--model DIR] [--profile] [options]",
    "Medians of wall-clock time. \"of peak\" compares with the multiply-adds or the memory traffic that this machine reached\n"
    "a moment before, with the same number of threads. GFLOP/s count what the textbook needs, GB/s each operand once.",
    rows, sizeof rows / sizeof *rows, run};

static int measure(const bench_options *o, bench *b, const char *dir, tn_err *err) {
    if (b->json) {
        tn_jw_init(&b->w, 2);
        tn_jw_open(&b->w, NULL, '{');
        tn_jw_string(&b->w, "kernels", b->c->k->name), tn_jw_int(&b->w, "threads", b->c->threads), tn_jw_string(&b->w, "model", dir);
    } else {
        printf("kernels %s, %d thread%s, model %s\n", b->c->k->name, b->c->threads, b->c->threads == 1 ? "" : "s", dir);
    }
    if (bench_machine(b, err) || (!o->only_model && bench_kernels(b, err)) || bench_models(b, dir, o->profile, err)) return -1;
    double rss = (double)tn_rss_peak();
    if (!b->json) {
        if (rss > 0.0) printf("\npeak memory of the process %.1f MiB\n", rss / (1024.0 * 1024.0));
        return 0;
    }
    tn_jw_int(&b->w, "rss_peak", (int64_t)rss);
    tn_jw_close(&b->w, '}');
    return 0;
}

static int run(int argc, char **argv) {
    bench_options o = {.seconds = 0.5};
    char path[4096];
    tn_err err;
    tn_ctx c;
    int r = opt_parse(&cmd_bench, argc, argv, &o, NULL, NULL, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    if (opt_context(&o.common, &c, &err) || (!o.model && bundle_find(argv[-1], "world/model", path, sizeof path, &err))) return opt_error(&err);
    bench b = {.c = &c, .budget = o.seconds, .json = o.common.json};
    r = measure(&o, &b, o.model ? o.model : path, &err);
    char *text = b.json ? tn_jw_take(&b.w) : NULL;
    if (!r && text) puts(text);
    free(text);
    tn_ctx_free(&c);
    return r ? opt_error(&err) : 0;
}
