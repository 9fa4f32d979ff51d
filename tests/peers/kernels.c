/* kernels OPENBLAS BLIS [FILTER]: our matrix products and convolutions beside those of OpenBLAS, BLIS and oneDNN, in one
 * process, in turn, at the shapes of tools/bench_kernels.c. Lines: KIND WAY SHAPE CONTENDER GFLOP/s, separated by tabs; each
 * is the median over all turns. OPENBLAS and BLIS are paths of shared libraries, "-" for none.
 *
 * oneDNN's convolutions: "blocked" is the primitive alone, its operands in the layouts it likes best, "nchw" has source and
 * destination reordered from and to the layout of images, which is what ours starts from and ends with. Weights are in its
 * layout before the clock starts. */
#include "tensor/io/sys.h"
#include "tools/bench.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 5, FEW_TURNS = 3, MOST = 8 };
static const double slice = 0.025; /* seconds of one contender's turn, or one run where that takes longer */
static const double long_run = 0.1; /* seconds from which on there are few turns */

static void must(int ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "kernels: %s\n", what);
    exit(1);
}

/* ---- contenders ---- */

/* One that takes its turn: run returns the seconds it took. */
typedef struct contender {
    const char *name;
    double (*run)(void *arg);
    void *arg;
    double t[4096];
    int n;
} contender;

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void race(const char *kind, const char *way, const char *shape, double flops, contender *c, int n) {
    int turns = TURNS;
    for (int turn = -1; turn < turns; turn++) { /* the first warms up */
        for (int i = 0; i < n; i++) {
            double began = tn_clock();
            do {
                double t = c[i].run(c[i].arg);
                if (turn >= 0 && c[i].n < 4096) c[i].t[c[i].n++] = t;
                if (t > long_run) turns = FEW_TURNS;
            } while (turn >= 0 && tn_clock() - began < slice);
        }
    }
    for (int i = 0; i < n; i++) {
        qsort(c[i].t, (size_t)c[i].n, sizeof *c[i].t, ascending);
        printf("%s\t%s\t%s\t%s\t%.2f\n", kind, way, shape, c[i].name, 1e-9 * flops / c[i].t[c[i].n / 2]);
    }
    fflush(stdout);
}

/* With the form of convolution that is faster for the shape, and with the direct one. */
static double run_form(bench_kernel *k, tn_conv_form form) {
    tn_err err;
    k->c->conv = form;
    must(bench_kernel_run(k, &err) == 0, "out of memory");
    return k->last.seconds;
}

static double run_ours(void *arg) { return run_form(arg, TN_CONV_AUTO); }
static double run_direct(void *arg) { return run_form(arg, TN_CONV_DIRECT); }
static double run_winograd(void *arg) { return run_form(arg, TN_CONV_WINOGRAD); }

/* ---- matrix products ---- */

typedef void (*cblas_fn)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                         float beta, float *c, int ldc);

typedef struct product {
    cblas_fn cblas; /* NULL: oneDNN */
    int M, N, K, batch, ta, tb;
    float *a, *b, *c;
} product;

static double run_product(void *arg) {
    const product *p = arg;
    size_t a = (size_t)p->M * (size_t)p->K, b = (size_t)p->K * (size_t)p->N, c = (size_t)p->M * (size_t)p->N;
    int lda = p->ta ? p->M : p->K, ldb = p->tb ? p->K : p->N;
    double start = tn_clock();
    for (size_t i = 0; i < (size_t)p->batch; i++) {
        if (p->cblas)
            p->cblas(101, p->ta ? 112 : 111, p->tb ? 112 : 111, p->M, p->N, p->K, 1.0f, p->a + i * a, lda, p->b + i * b, ldb, 0.0f, p->c + i * c, p->N);
        else
            dnnl_sgemm(p->ta ? 'T' : 'N', p->tb ? 'T' : 'N', p->M, p->N, p->K, 1.0f, p->a + i * a, lda, p->b + i * b, ldb, 0.0f, p->c + i * c, p->N);
    }
    return tn_clock() - start;
}

static float *numbers(size_t n) {
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    must(x != NULL, "out of memory");
    for (size_t i = 0; i < n; i++) x[i] = (float)((i * 2654435761u >> 8) & 0xffff) / 65536.0f - 0.5f;
    return x;
}

typedef struct libraries {
    cblas_fn openblas, blis;
} libraries;

static cblas_fn open_cblas(const char *path) {
    if (strcmp(path, "-") == 0) return NULL;
    void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    must(h != NULL, path);
    cblas_fn f;
    void *symbol = dlsym(h, "cblas_sgemm");
    must(symbol != NULL, "no cblas_sgemm");
    memcpy(&f, &symbol, sizeof f);
    return f;
}

static void race_products(tn_ctx *c, const libraries *l, const bench_shape *s) {
    int M = (int)s->d[0], N = (int)s->d[1], K = (int)s->d[2], batch = (int)s->d[3];
    double flops = 2.0 * M * N * K * batch;
    float *a = numbers((size_t)M * (size_t)K * (size_t)batch), *b = numbers((size_t)K * (size_t)N * (size_t)batch), *y = numbers((size_t)M * (size_t)N * (size_t)batch);
    for (int way = BENCH_NN; way <= BENCH_TN; way++) {
        bench_kernel ours, half;
        static contender e[MOST];
        memset(e, 0, sizeof e);
        product p = {NULL, M, N, K, batch, way == BENCH_TN, way == BENCH_NT, a, b, y}, open = p, blis = p;
        open.cblas = l->openblas, blis.cblas = l->blis;
        int n = 0;
        bench_kernel_open(&ours, c, s, (bench_way)way), bench_kernel_open(&half, c, s, BENCH_NT_F16);
        e[n].name = "ours", e[n].run = run_ours, e[n++].arg = &ours;
        if (l->openblas) e[n].name = "openblas", e[n].run = run_product, e[n++].arg = &open;
        if (l->blis) e[n].name = "blis", e[n].run = run_product, e[n++].arg = &blis;
        e[n].name = "onednn", e[n].run = run_product, e[n++].arg = &p;
        if (way == BENCH_NT && bench_way_applies(s, BENCH_NT_F16)) e[n].name = "ours-f16", e[n].run = run_ours, e[n++].arg = &half;
        race("matmul", bench_way_names[way], s->name, flops, e, n);
        bench_kernel_close(&ours), bench_kernel_close(&half);
    }
    free(a), free(b), free(y);
}

/* ---- convolutions ---- */

#define OK(call) must((call) == dnnl_success, #call)
enum { SOURCE, WEIGHTS, TARGET };

/* A primitive with operands in its own layouts and in plain ones. */
typedef struct convolution {
    dnnl_stream_t stream;
    dnnl_primitive_t primitive, reorder[3]; /* of inputs: from plain; of the result: to plain */
    dnnl_memory_t own[3], plain[3];
    dnnl_exec_arg_t args[3];
    int result, nchw;
} convolution;

static dnnl_memory_t memory(dnnl_engine_t engine, const dnnl_memory_desc_t *d) {
    dnnl_memory_t m;
    void *data;
    OK(dnnl_memory_create(&m, d, engine, DNNL_MEMORY_ALLOCATE));
    OK(dnnl_memory_get_data_handle(m, &data));
    float *x = data;
    for (size_t i = 0; i < dnnl_memory_desc_get_size(d) / sizeof *x; i++) x[i] = (float)((i * 2654435761u >> 8) & 0xffff) / 65536.0f - 0.5f;
    return m;
}

static dnnl_primitive_t reorder(dnnl_engine_t engine, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to) {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t p;
    OK(dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, NULL));
    OK(dnnl_primitive_create(&p, pd));
    dnnl_primitive_desc_destroy(pd);
    return p;
}

static void move(const convolution *c, int i) {
    dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, i == c->result ? c->own[i] : c->plain[i]}, {DNNL_ARG_TO, i == c->result ? c->plain[i] : c->own[i]}};
    OK(dnnl_primitive_execute(c->reorder[i], c->stream, 2, args));
}

static double run_convolution(void *arg) {
    const convolution *c = arg;
    double start = tn_clock();
    for (int i = 0; i < 3; i++) {
        if (c->nchw && i != c->result && i != WEIGHTS) move(c, i);
    }
    OK(dnnl_primitive_execute(c->primitive, c->stream, 3, c->args));
    if (c->nchw && c->result != WEIGHTS) move(c, c->result);
    OK(dnnl_stream_wait(c->stream));
    return tn_clock() - start;
}

/* Describes forward, or backward to `result`; false where oneDNN has no such implementation. */
static bool describe(dnnl_engine_t engine, const bench_shape *s, int result, dnnl_alg_kind_t alg, dnnl_memory_desc_t plain[3], dnnl_primitive_desc_t *pd) {
    const int64_t *d = s->d, pad = d[5] / 2, h = (d[3] + 2 * pad - d[5]) / d[6] + 1, w = (d[4] + 2 * pad - d[5]) / d[6] + 1;
    dnnl_dims_t dims[3] = {{d[0], d[1], d[3], d[4]}, {d[2], d[1], d[5], d[5]}, {d[0], d[2], h, w}}, stride = {d[6], d[6]}, padding = {pad, pad};
    dnnl_memory_desc_t any[3];
    for (int i = 0; i < 3; i++) {
        OK(dnnl_memory_desc_init_by_tag(&any[i], 4, dims[i], dnnl_f32, dnnl_format_tag_any));
        OK(dnnl_memory_desc_init_by_tag(&plain[i], 4, dims[i], dnnl_f32, dnnl_abcd));
    }
    dnnl_convolution_desc_t cd;
    dnnl_primitive_desc_t forward;
    OK(dnnl_convolution_forward_desc_init(&cd, result == TARGET ? dnnl_forward_inference : dnnl_forward_training, result == TARGET ? alg : dnnl_convolution_auto,
                                          &any[SOURCE], &any[WEIGHTS], NULL, &any[TARGET], stride, padding, padding));
    if (dnnl_primitive_desc_create(&forward, &cd, NULL, engine, NULL) != dnnl_success) return false;
    *pd = forward;
    if (result == TARGET) return true;
    if (result == SOURCE) OK(dnnl_convolution_backward_data_desc_init(&cd, alg, &any[SOURCE], &any[WEIGHTS], &any[TARGET], stride, padding, padding));
    else OK(dnnl_convolution_backward_weights_desc_init(&cd, alg, &any[SOURCE], &any[WEIGHTS], NULL, &any[TARGET], stride, padding, padding));
    bool there = dnnl_primitive_desc_create(pd, &cd, NULL, engine, forward) == dnnl_success;
    dnnl_primitive_desc_destroy(forward);
    return there;
}

static bool convolution_open(convolution *c, dnnl_engine_t engine, dnnl_stream_t stream, const bench_shape *s, int result, dnnl_alg_kind_t alg) {
    dnnl_memory_desc_t plain[3];
    dnnl_primitive_desc_t pd;
    if (!describe(engine, s, result, alg, plain, &pd)) return false;
    static const dnnl_query_t query[2][3] = {{dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md},
                                             {dnnl_query_diff_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_dst_md}};
    static const int arg[2][3] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST}, {DNNL_ARG_DIFF_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    *c = (convolution){.stream = stream, .result = result};
    OK(dnnl_primitive_create(&c->primitive, pd));
    for (int i = 0; i < 3; i++) {
        int gradient = result != TARGET && (i == result || i == TARGET);
        const dnnl_memory_desc_t *own = dnnl_primitive_desc_query_md(pd, query[gradient][i], 0);
        c->own[i] = memory(engine, own), c->plain[i] = memory(engine, &plain[i]);
        c->reorder[i] = i == result ? reorder(engine, own, &plain[i]) : reorder(engine, &plain[i], own);
        c->args[i] = (dnnl_exec_arg_t){arg[gradient][i], c->own[i]};
        if (i != result) move(c, i);
    }
    dnnl_primitive_desc_destroy(pd);
    return true;
}

static void convolution_close(convolution *c) {
    dnnl_primitive_destroy(c->primitive);
    for (int i = 0; i < 3; i++) {
        dnnl_primitive_destroy(c->reorder[i]);
        dnnl_memory_destroy(c->own[i]), dnnl_memory_destroy(c->plain[i]);
    }
}

static void race_convolutions(tn_ctx *c, dnnl_engine_t engine, dnnl_stream_t stream, const bench_shape *s) {
    static const struct {
        bench_way way;
        int result;
    } ways[] = {{BENCH_FORWARD, TARGET}, {BENCH_DX, SOURCE}, {BENCH_DW, WEIGHTS}};
    const int64_t *d = s->d;
    double flops = 2.0 * (double)(d[0] * d[1] * d[2] * d[5] * d[5]) * (double)(d[3] / d[6] * (d[4] / d[6]));
    for (int i = 0; i < 3; i++) {
        static contender e[MOST];
        memset(e, 0, sizeof e);
        bench_kernel ours, ours_direct, ours_winograd;
        convolution direct, nchw, winograd;
        int n = 0;
        bool forms = d[5] == 3 && d[6] == 1;
        bench_kernel_open(&ours, c, s, ways[i].way), ours_direct = ours_winograd = ours;
        e[n].name = "ours", e[n].run = run_ours, e[n++].arg = &ours;
        if (forms) e[n].name = "ours-direct", e[n].run = run_direct, e[n++].arg = &ours_direct;
        if (forms) e[n].name = "ours-winograd", e[n].run = run_winograd, e[n++].arg = &ours_winograd;
        bool there = convolution_open(&direct, engine, stream, s, ways[i].result, dnnl_convolution_direct);
        if (there) {
            nchw = direct, nchw.nchw = 1;
            e[n].name = "onednn-direct", e[n].run = run_convolution, e[n++].arg = &direct;
            e[n].name = "onednn-direct-nchw", e[n].run = run_convolution, e[n++].arg = &nchw;
        }
        bool fast = ways[i].result != WEIGHTS && convolution_open(&winograd, engine, stream, s, ways[i].result, dnnl_convolution_winograd);
        if (fast) e[n].name = "onednn-winograd", e[n].run = run_convolution, e[n++].arg = &winograd;
        race("conv", bench_way_names[ways[i].way], s->name, flops, e, n);
        bench_kernel_close(&ours), bench_kernel_close(&ours_direct), bench_kernel_close(&ours_winograd);
        if (there) convolution_close(&direct);
        if (fast) convolution_close(&winograd);
    }
}

int main(int argc, char **argv) {
    must(argc >= 3, "usage: kernels OPENBLAS BLIS [FILTER]");
    libraries l = {open_cblas(argv[1]), open_cblas(argv[2])};
    const char *filter = argc > 3 ? argv[3] : "";
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    OK(dnnl_engine_create(&engine, dnnl_cpu, 0));
    OK(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    tn_ctx c;
    tn_ctx_init(&c, NULL, 0);
    for (const bench_shape *s = bench_shapes; s->name; s++) {
        if (!strstr(s->name, filter)) continue;
        if (s->kind == BENCH_MATMUL) race_products(&c, &l, s);
        if (s->kind == BENCH_CONV) race_convolutions(&c, engine, stream, s);
    }
    tn_ctx_free(&c);
    return 0;
}
