/* Clocks, counts and the table of oneword bench; the peak of the machine. */
#include "tools/bench.h"

#include "tensor/io/sys.h"
#include "tensor/parallel.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- times ---- */

bool bench_again(const bench *b, bench_times *t) {
    enum { MOST = sizeof t->t / sizeof *t->t };
    if (t->n == 0) t->began = tn_clock();
    return t->n < b->least || (t->n < MOST && tn_clock() - t->began < b->budget);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(bench_times *t) {
    qsort(t->t, (size_t)t->n, sizeof *t->t, ascending);
    return t->n ? t->t[t->n / 2] : 0.0;
}

/* ---- names ---- */

/* Whether the comma-separated list has the name. */
static bool listed(const char *list, const char *name, size_t len) {
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',') {
        if (strcspn(p, ",") == len && memcmp(p, name, len) == 0) return true;
    }
    return false;
}

bool bench_wanted(const bench *b, const char *name) { return !b->only || listed(b->only, name, strlen(name)); }

int bench_check_names(const bench *b, tn_err *err) {
    static const char known[] = "machine,kernels,matmul,conv,attention,group_norm,layer_norm,silu,geglu,add";
    for (const char *p = b->only ? b->only : ""; *p; p += strcspn(p, ","), p += *p == ',') {
        size_t len = strcspn(p, ",");
        bool found = listed(known, p, len);
        for (int i = 0; !found && bench_network_name(i); i++) found = listed(bench_network_name(i), p, len);
        if (!found) return tn_fail(err, TN_EUSAGE, "--only: nothing is called \"%.*s\" (oneword bench --help lists the names)", (int)len, p);
    }
    return 0;
}

/* ---- counts ---- */

static bool wanted(const tn_node *n, int i) { return i < n->nin && n->in[i] && n->in[i]->need; }

/* scores and sums over M keys for each element of the queries [B,N,C]; backward has the scores again, dp, and dq,
 * dk, dv */
static double attention_flops(const tn_node *n, bool backward) {
    double product = 2.0 * (double)tn_numel(n->in[0]) * (double)n->in[1]->shape[1] * (n->a.causal ? 0.5 : 1.0);
    return product * (backward ? 2 + wanted(n, 0) + wanted(n, 1) + wanted(n, 2) : 2);
}

double bench_flops(const tn_node *n, bool backward) {
    if (n->op == tn_op_get(TN_OP_attention)) return attention_flops(n, backward);
    double depth; /* of the sum behind one element of the output */
    if (n->op == tn_op_get(TN_OP_linear)) depth = (double)n->in[1]->shape[1];
    else if (n->op == tn_op_get(TN_OP_matmul)) depth = (double)n->in[0]->shape[n->a.ta ? 1 : 2];
    else if (n->op == tn_op_get(TN_OP_conv2d) || n->op == tn_op_get(TN_OP_upsample_conv2d)) depth = (double)(tn_numel(n->in[1]) / n->in[1]->shape[0]);
    else return 0.0;
    return 2.0 * depth * (double)tn_numel(n->out) * (backward ? wanted(n, 0) + wanted(n, 1) : 1);
}

double bench_bytes(const tn_node *n, bool backward) {
    double sum = 4.0 * (double)tn_numel(n->out);
    for (int i = 0; i < n->nin; i++) {
        if (!n->in[i]) continue;
        double elements = (double)tn_numel(n->in[i]);
        sum += elements * (double)tn_dtype_size(n->in[i]->dtype);
        if (backward && wanted(n, i)) sum += 4.0 * elements;
    }
    return sum;
}

/* ---- the table ---- */

void bench_section(bench *b, const char *key, const char *title) {
    if (b->json) tn_jw_open(&b->w, key, '[');
    else printf("\n%-44s %10s %9s %7s %9s\n", title, "ms", "GFLOP/s", "GB/s", "of peak");
}

void bench_section_end(bench *b) {
    if (b->json) tn_jw_close(&b->w, ']');
}

static void row_json(bench *b, const char *name, const bench_work *k, double share) {
    tn_jw_open(&b->w, NULL, '{');
    tn_jw_string(&b->w, "name", name), tn_jw_number(&b->w, "seconds", k->seconds);
    if (k->flops > 0.0) tn_jw_number(&b->w, "gflops", k->flops / k->seconds * 1e-9);
    if (k->bytes > 0.0) tn_jw_number(&b->w, "gbs", k->bytes / k->seconds * 1e-9);
    if (share > 0.0) tn_jw_number(&b->w, "of_peak", share);
    if (k->memory) tn_jw_int(&b->w, "memory", (int64_t)k->memory);
    tn_jw_close(&b->w, '}');
}

/* A number in a column, or a blank. */
static void cell(int width, const char *format, double x) {
    char text[40] = "";
    if (x > 0.0) snprintf(text, sizeof text, format, x);
    printf(" %*s", width, text);
}

void bench_row(bench *b, const char *name, const bench_work *k) {
    double share = b->flops > 0.0 && k->flops > 0.0   ? k->flops / k->seconds / b->flops
                   : b->bytes > 0.0 && k->bytes > 0.0 ? k->bytes / k->seconds / b->bytes
                                                      : 0.0;
    if (b->json) {
        row_json(b, name, k, share);
        return;
    }
    printf("%-44s", name);
    cell(10, "%.3f", 1e3 * k->seconds), cell(9, "%.1f", 1e-9 * k->flops / k->seconds);
    cell(7, "%.1f", 1e-9 * k->bytes / k->seconds), cell(8, "%.1f%%", 100.0 * share);
    if (k->memory) printf("  %.1f MiB", (double)k->memory / (1024.0 * 1024.0));
    putchar('\n');
    fflush(stdout);
}

/* ---- the machine ---- */

enum {
    STEPS = 1000000,   /* of the peak kernel in one task: some milliseconds */
    ARRAY = 1 << 24,   /* floats: 64 MiB each, beyond the last cache */
    PIECES = 64
};

typedef struct machine_job {
    const tn_kernels *k;
    const float *a, *b;
    float *y; /* bandwidth: sums of a and b; peak: one float a task */
} machine_job;

static void peak_task(void *arg, int64_t i, int worker) {
    const machine_job *j = arg;
    (void)worker;
    j->y[i] = j->k->peak(STEPS);
}

static void stream_task(void *arg, int64_t i, int worker) {
    const machine_job *j = arg;
    int64_t n = ARRAY / PIECES;
    (void)worker;
    j->k->add(n, j->a + i * n, j->b + i * n, j->y + i * n);
}

static double time_tasks(const bench *b, int64_t tasks, void (*task)(void *, int64_t, int), machine_job *j) {
    bench_times t = {.n = 0};
    while (bench_again(b, &t)) {
        double start = tn_clock();
        tn_parallel_for(b->c->threads, tasks, task, j);
        t.t[t.n++] = tn_clock() - start;
    }
    return bench_median(&t);
}

int bench_machine(bench *b, tn_err *err) {
    float *arrays = malloc(3 * sizeof(float) * (size_t)ARRAY);
    if (!arrays) return tn_fail(err, TN_ENOMEM, "out of memory for three arrays of 64 MiB");
    memset(arrays, 0, 3 * sizeof(float) * (size_t)ARRAY);
    machine_job j = {b->c->k, arrays, arrays + ARRAY, arrays + 2 * ARRAY};
    int64_t tasks = b->c->threads;
    bench_work peak = {.flops = 2.0 * K_PEAK_FMAS * STEPS * (double)tasks}, stream = {.bytes = 3.0 * sizeof(float) * ARRAY};
    peak.seconds = time_tasks(b, tasks, peak_task, &j);
    stream.seconds = time_tasks(b, PIECES, stream_task, &j);
    free(arrays);
    bench_section(b, "machine", "machine");
    bench_row(b, "float32 multiply-adds in registers", &peak);
    bench_row(b, "y = a + b in memory", &stream);
    bench_section_end(b);
    b->flops = peak.flops / peak.seconds, b->bytes = stream.bytes / stream.seconds;
    return 0;
}
