/* Where the time of a network goes: by operator, and by operator and shape. */
#include "tensor/io/sys.h"
#include "tools/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What the runs spent on one operator at one shape. */
typedef struct share {
    char name[48];
    int64_t calls;
    double seconds[2]; /* forward, backward */
    double flops, bytes, floor;
} share;

enum { MOST = 400 };
typedef struct shares {
    const bench *b;
    share row[MOST];
    int n;
} shares;

static const char *op_name(const tn_node *n) {
    for (int i = 0; i < TN_OP_COUNT; i++) {
        if (tn_op_get(i) == n->op) return tn_op_texts[i].name;
    }
    return "?";
}

/* "conv2d 3x3 640@32x32", "linear 4096 x 320", "attention 4096 to 77, 8 x 40" */
static void describe(const tn_node *n, char *out, size_t size) {
    const int64_t *y = n->out->shape, *x = n->in[0]->shape;
    int dims = n->out->ndim, used = snprintf(out, size, "%s", op_name(n));
    char *at = out + used;
    size -= (size_t)used;
    if (n->op == tn_op_get(TN_OP_conv2d) || n->op == tn_op_get(TN_OP_upsample_conv2d))
        snprintf(at, size, " %" PRId64 "x%" PRId64 " %" PRId64 ">%" PRId64 "@%" PRId64, n->in[1]->shape[2], n->in[1]->shape[3], x[1], y[1], y[2]);
    else if (n->op == tn_op_get(TN_OP_linear))
        snprintf(at, size, " %" PRId64 " x %" PRId64 ">%" PRId64, tn_numel(n->out) / n->in[1]->shape[0], n->in[1]->shape[1], n->in[1]->shape[0]);
    else if (n->op == tn_op_get(TN_OP_attention))
        snprintf(at, size, " %" PRId64 " to %" PRId64 ", %d x %" PRId64, x[1], n->in[1]->shape[1], n->a.heads, x[2] / n->a.heads);
    else if (dims == 4) snprintf(at, size, " %" PRId64 "@%" PRId64, y[1], y[2]);
    else if (dims > 1) snprintf(at, size, " %" PRId64 " x %" PRId64, tn_numel(n->out) / y[dims - 1], y[dims - 1]);
}

static share *row_of(shares *s, const char *name) {
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->row[i].name, name) == 0) return &s->row[i];
    }
    if (s->n == MOST) return &s->row[MOST - 1];
    share *r = &s->row[s->n++];
    snprintf(r->name, sizeof r->name, "%s", s->n == MOST ? "others" : name);
    return r;
}

static void observe(void *arg, const tn_node *n, bool backward, double seconds) {
    shares *s = arg;
    char name[48];
    describe(n, name, sizeof name);
    share *r = row_of(s, name);
    double flops = bench_flops(n, backward), bytes = bench_bytes(n, backward);
    double compute = s->b->flops > 0.0 ? flops / s->b->flops : 0.0, memory = s->b->bytes > 0.0 ? bytes / s->b->bytes : 0.0;
    r->calls += !backward, r->seconds[backward] += seconds, r->flops += flops, r->bytes += bytes;
    r->floor += compute > memory ? compute : memory;
}

static double both(const share *r) { return r->seconds[0] + r->seconds[1]; }

/* Adds up the shapes of each operator. */
static void merge(const shares *fine, shares *out) {
    for (int i = 0; i < fine->n; i++) {
        char name[48];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(fine->row[i].name, " "), fine->row[i].name);
        const share *from = &fine->row[i];
        share *to = row_of(out, name);
        to->calls += from->calls, to->flops += from->flops, to->bytes += from->bytes, to->floor += from->floor;
        to->seconds[0] += from->seconds[0], to->seconds[1] += from->seconds[1];
    }
}

static void print_row(bench *b, const share *r, double runs, double total) {
    double seconds = both(r), rate = 1e-9 / seconds;
    if (b->json) {
        tn_jw_open(&b->w, NULL, '{');
        tn_jw_string(&b->w, "name", r->name), tn_jw_number(&b->w, "calls", (double)r->calls / runs);
        tn_jw_number(&b->w, "forward", r->seconds[0] / runs), tn_jw_number(&b->w, "backward", r->seconds[1] / runs);
        if (r->flops > 0.0) tn_jw_number(&b->w, "gflops", r->flops * rate);
        tn_jw_number(&b->w, "gbs", r->bytes * rate), tn_jw_number(&b->w, "floor", r->floor / runs);
        tn_jw_close(&b->w, '}');
        return;
    }
    printf("%-44s %6.0f %9.2f %9.2f %6.1f%%", r->name, (double)r->calls / runs, 1e3 * r->seconds[0] / runs, 1e3 * r->seconds[1] / runs, 100.0 * seconds / total);
    if (r->flops > 0.0) printf(" %8.1f", r->flops * rate);
    else printf(" %8s", "");
    printf(" %7.1f %9.2f\n", r->bytes * rate, 1e3 * r->floor / runs);
}

/* The rows by falling time, down to a thousandth of the whole. */
static void print_shares(bench *b, const char *title, shares *s, double runs, double total) {
    if (b->json) tn_jw_open(&b->w, title, '[');
    else printf("\n%-44s %6s %9s %9s %7s %8s %7s %9s\n", title, "calls", "fwd ms", "bwd ms", "share", "GFLOP/s", "GB/s", "floor ms");
    for (;;) {
        share *most = NULL;
        for (int i = 0; i < s->n; i++) {
            if (both(&s->row[i]) > (most ? both(most) : 0.001 * total)) most = &s->row[i];
        }
        if (!most) break;
        print_row(b, most, runs, total);
        most->seconds[0] = most->seconds[1] = 0.0;
    }
    if (b->json) tn_jw_close(&b->w, ']');
}

int bench_profile(bench *b, const char *name, int (*run)(tn_ctx *c, void *arg, tn_err *err), void *arg, tn_err *err) {
    shares fine = {.b = b}, coarse = {.b = b};
    bench_times t = {.n = 0};
    char title[100];
    tn_ctx c;
    tn_ctx_init(&c, b->c->k, b->c->threads);
    c.conv = b->c->conv;
    int r = run(&c, arg, err);
    c.profile = observe, c.profile_arg = &fine;
    double total = 0.0;
    while (!r && bench_again(b, &t)) {
        double start = tn_clock();
        r = run(&c, arg, err);
        total += t.t[t.n++] = tn_clock() - start;
    }
    tn_ctx_free(&c);
    if (r) return r;
    merge(&fine, &coarse);
    double runs = t.n, inside = 0.0;
    for (int i = 0; i < fine.n; i++) inside += both(&fine.row[i]);
    share rest = {.name = "outside operators", .calls = 0, .seconds = {total - inside, 0.0}};
    if (coarse.n < MOST && total > inside) coarse.row[coarse.n++] = rest;
    snprintf(title, sizeof title, "operators of %s", name);
    print_shares(b, title, &coarse, runs, total);
    snprintf(title, sizeof title, "operators and shapes of %s", name);
    print_shares(b, title, &fine, runs, total);
    return 0;
}
