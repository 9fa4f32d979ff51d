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
    bench_setting setting;
    const char *only;
    double seconds;
    int64_t runs;
} bench_options;

#define FIELD(name) offsetof(bench_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(setting.dir), 0, 0, "DIR", "model directory as diffusers saves it (default: the bundled one)"},
    {"size,W,width", OPT_INT, FIELD(setting.pixels), 8, 16384, "N", "side of the pictures (default: what the model was made for)"},
    {"batch,b", OPT_INT, FIELD(setting.batch), 1, 1024, "N", "of the networks (default: 1)"},
    {"tokens", OPT_INT, FIELD(setting.tokens), 1, 65536, "N", "of a text (default: the text encoder's)"},
    {"only", OPT_TEXT, FIELD(only), 0, 0, "NAME,...", "these sections and networks alone; peak memory is then theirs"},
    {"seconds", OPT_NUMBER, FIELD(seconds), 0, 3600, "X", "time for each row (default: 0.5)"},
    {"runs", OPT_INT, FIELD(runs), 1, 256, "N", "of each row in any case, behind one that does not count (default: 3)"},
    {"profile", OPT_FLAG, FIELD(setting.profile), 0, 0, NULL, "also the time by operator and shape"},
    OPT_COMMON(bench_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_bench = {
    "bench", "times of kernels and networks, beside the machine's peak", "bench [--model DIR] [--only NAME,...] [--profile] [options]",
    "Names: machine; kernels, or matmul, conv, attention, group_norm, layer_norm, silu, geglu, add; the networks text,\n"
    "text-bwd, unet, unet-bwd, inversion, vae-encode, vae-decode, and train (all weights, F32; only where it is named).\n"
    "Medians of wall-clock time. \"of peak\" compares with the multiply-adds or the memory traffic that this machine reached\n"
    "a moment before, with the same number of threads. GFLOP/s count what the textbook needs, GB/s each operand once. The\n"
    "floor of an operator is what it would take at both.",
    rows, sizeof rows / sizeof *rows, run};

static int measure(bench *b, const bench_setting *s, tn_err *err) {
    if (b->json) {
        tn_jw_init(&b->w, 2);
        tn_jw_open(&b->w, NULL, '{');
        tn_jw_string(&b->w, "kernels", b->c->k->name), tn_jw_int(&b->w, "threads", b->c->threads), tn_jw_string(&b->w, "model", s->dir);
    } else {
        printf("kernels %s, %d thread%s, model %s\n", b->c->k->name, b->c->threads, b->c->threads == 1 ? "" : "s", s->dir);
    }
    if (bench_wanted(b, "machine") && bench_machine(b, err)) return -1;
    if (bench_kernels(b, err) || bench_models(b, s, err)) return -1;
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
    bench_options o = {.seconds = 0.5, .runs = 3};
    char path[4096];
    tn_err err;
    tn_ctx c;
    int r = opt_parse(&cmd_bench, argc, argv, &o, NULL, NULL, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    if (opt_context(&o.common, &c, &err) || (!o.setting.dir && bundle_find(argv[-1], "world/model", path, sizeof path, &err))) return opt_error(&err);
    if (!o.setting.dir) o.setting.dir = path;
    bench b = {.c = &c, .budget = o.seconds, .least = o.runs, .only = o.only, .json = o.common.json};
    r = bench_check_names(&b, &err) || measure(&b, &o.setting, &err);
    char *text = b.json ? tn_jw_take(&b.w) : NULL;
    if (!r && text) puts(text);
    free(text);
    tn_ctx_free(&c);
    return r ? opt_error(&err) : 0;
}
