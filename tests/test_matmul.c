/* Matrix products, convolution and the elementwise kernels against plain loops in double, on every instruction set of
 * this machine, and bit for bit between instruction sets and thread counts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/kernel/kernels.h"
#include "tests/test.h"

static const char *const set_names[] = {"scalar", "avx2", "avx512", "neon"};
enum { N_NAMES = 4 };
static const tn_kernels *sets[N_NAMES];
static int n_sets;
static uint64_t seed = 1;
static uint64_t digest = 14695981039346656037u; /* FNV-1a of all results, to compare machines by hand */

/* ---- memory with canaries: PAD floats on both sides ---- */

enum { PAD = 64 };
#define CANARY 12345.0f

static float *buffer(int64_t n) {
    float *p = malloc((size_t)(n + 2 * PAD) * sizeof *p);
    if (!p) abort();
    for (int64_t i = 0; i < n + 2 * PAD; i++) p[i] = CANARY;
    return p + PAD;
}

static void release(float *p) { free(p - PAD); }

static bool canaries_alive(const float *p, int64_t n) {
    for (int64_t i = 0; i < PAD; i++)
        if (p[-1 - i] != CANARY || p[n + i] != CANARY) return false;
    return true;
}

static float *random_buffer(int64_t n) {
    float *p = buffer(n);
    for (int64_t i = 0; i < n; i++) p[i] = test_rand(&seed);
    return p;
}

static float *copy_buffer(const float *x, int64_t n) {
    float *p = buffer(n);
    memcpy(p, x, (size_t)n * sizeof *p);
    return p;
}

/* Halves are made of the upper bits: a BF16 is the upper half of a float; an F16 is built from an integer below 2048.
 */
static uint16_t bf16_of(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)(u >> 16);
}

static uint16_t f16_of(float x) {
    int e;
    double m = frexp(fabs((double)x), &e); /* m 2^e, m in [0.5, 1) */
    if (x == 0 || e < -13) return 0;
    return (uint16_t)((x < 0 ? 0x8000 : 0) | ((e + 14) << 10) | ((int)(m * 2048) & 1023));
}

static float f16_value(uint16_t h) {
    int e = h >> 10 & 31;
    double m = e ? ldexp(1024 + (h & 1023), e - 25) : 0;
    return (float)(h & 0x8000 ? -m : m);
}

/* The values of x in the given type, in a block of exactly their size, so that a sanitizer sees reads beyond; x is
 * rounded to what the type holds. Caller frees. */
static void *as_type(float *x, int64_t n, tn_dtype type) {
    uint16_t *h = malloc(n ? (size_t)n * (type == TN_F32 ? sizeof(float) : sizeof *h) : 1);
    if (!h) abort();
    if (type == TN_F32) memcpy(h, x, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n && type != TN_F32; i++) {
        h[i] = type == TN_F16 ? f16_of(x[i]) : bf16_of(x[i]);
        uint32_t u = (uint32_t)h[i] << 16;
        if (type == TN_F16)
            x[i] = f16_value(h[i]);
        else
            memcpy(&x[i], &u, 4);
    }
    return h;
}

static void *scratch_of(size_t size, void **block) {
    *block = malloc(size + 64 + sizeof(float) * PAD);
    if (!*block) abort();
    char *p = (char *)*block + (64 - (uintptr_t)*block % 64) % 64;
    for (int i = 0; i < PAD; i++) memcpy(p + size + (size_t)i * sizeof(float), &(float){CANARY}, sizeof(float));
    return p;
}

static bool scratch_kept(const void *scratch, size_t size) {
    for (int i = 0; i < PAD; i++) {
        float x;
        memcpy(&x, (const char *)scratch + size + (size_t)i * sizeof(float), sizeof x);
        if (x != CANARY) return false;
    }
    return true;
}

/* Normalised squared error against doubles. */
static double nmse(const float *x, const double *want, int64_t n) {
    double e = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - want[i];
        e += d * d, s += want[i] * want[i];
    }
    return s > 0 ? e / s : e;
}

static void add_digest(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        for (int k = 0; k < 32; k += 8) digest = (digest ^ (u >> k & 255)) * 1099511628211u;
    }
}

static const int thread_counts[] = {1, 2, 3, 7};

/* Runs a kernel on every set and with several thread counts; the first result is checked against `want`, the others
 * against the first. */
typedef struct trial {
    void (*run)(const tn_kernels *k, void *arg, float *out, void *scratch, int threads);
    size_t (*scratch)(const tn_kernels *k, void *arg, int threads);
    void *arg;
    const float *before; /* what out holds at first */
    const double *want;
    int64_t n;
} trial;

static void run_trial(test_state *t, const trial *r, const char *what) {
    float *first = NULL;
    for (int s = 0; s < n_sets; s++)
        for (int i = 0; i < (sets[s]->name[0] == 's' ? 2 : 4); i++) {
            float *out = copy_buffer(r->before, r->n);
            size_t size = r->scratch(sets[s], r->arg, thread_counts[i]);
            void *block, *scratch = scratch_of(size, &block);
            r->run(sets[s], r->arg, out, scratch, thread_counts[i]);
            CHECKF(t, canaries_alive(out, r->n), "%s, %s: wrote outside", what, sets[s]->name);
            CHECKF(t, scratch_kept(scratch, size), "%s, %s: wrote behind the scratch", what, sets[s]->name);
            free(block);
            if (!first) {
                double e = nmse(out, r->want, r->n);
                CHECKF(t, e < 1e-12, "%s: error %g", what, e);
                add_digest(out, r->n);
                first = out;
                continue;
            }
            CHECKF(t, !memcmp(first, out, (size_t)r->n * sizeof *out), "%s: %s with %d threads differs in bits", what,
                   sets[s]->name, thread_counts[i]);
            release(out);
        }
    release(first);
}

/* ---- matmul ---- */

static void run_matmul(const tn_kernels *k, void *arg, float *out, void *scratch, int threads) {
    k_matmul p = *(k_matmul *)arg;
    p.C = out, p.scratch = scratch, p.threads = threads;
    k->matmul(&p);
}

static size_t scratch_matmul(const tn_kernels *k, void *arg, int threads) {
    k_matmul p = *(k_matmul *)arg;
    p.threads = threads;
    return k->matmul_scratch(&p);
}

/* Strides are a little longer than the rows; what lies between the rows must stay. bias: 0 none, 1 per column, 2 per
 * row. */
static void try_matmul(test_state *t, k_matmul p, int bias) {
    int64_t a_rows = p.a_trans ? p.K : p.M, b_rows = p.b_trans ? p.N : p.K;
    p.lda = (p.a_trans ? p.M : p.K) + 3, p.ldb = (p.b_trans ? p.K : p.N) + 1, p.ldc = p.N + 2;
    p.a_step = p.batch > 2 ? 0 : a_rows * p.lda, p.b_step = b_rows * p.ldb, p.c_step = p.M * p.ldc;
    int64_t na = a_rows * p.lda * p.batch, nb = b_rows * p.ldb * p.batch, nc = p.M * p.ldc * p.batch;
    float *a = random_buffer(na), *b = random_buffer(nb), *c = random_buffer(nc), *v = random_buffer(p.M + p.N);
    void *ta = as_type(a, na, p.a_type), *tb = as_type(b, nb, p.b_type), *tv = as_type(v, p.M + p.N, p.b_type);
    double *want = malloc((size_t)nc * sizeof *want);
    if (!want) abort();
    for (int64_t i = 0; i < nc; i++) want[i] = (double)c[i];
    for (int64_t z = 0; z < p.batch; z++)
        for (int64_t m = 0; m < p.M; m++)
            for (int64_t n = 0; n < p.N; n++) {
                double s = bias ? (double)v[bias == 2 ? m : n] : 0, *w = &want[z * p.c_step + m * p.ldc + n];
                for (int64_t k = 0; k < p.K; k++)
                    s += (double)a[z * p.a_step + (p.a_trans ? k * p.lda + m : m * p.lda + k)] *
                         (double)b[z * p.b_step + (p.b_trans ? n * p.ldb + k : k * p.ldb + n)];
                *w = p.acc ? *w + s : s;
            }
    p.A = ta, p.B = tb, p.bias = bias ? tv : NULL, p.bias_type = p.b_type, p.bias_rows = bias == 2;
    char what[120];
    snprintf(what, sizeof what, "M %d N %d K %d batch %d trans %d%d types %d%d acc %d bias %d", (int)p.M, (int)p.N,
             (int)p.K, (int)p.batch, p.a_trans, p.b_trans, (int)p.a_type, (int)p.b_type, p.acc, bias);
    trial r = {run_matmul, scratch_matmul, &p, c, want, nc};
    run_trial(t, &r, what);
    free(ta), free(tb), free(tv), free(want);
    release(a), release(b), release(c), release(v);
}

static void matmul_cases(test_state *t) {
    static const int shape[][3] = {{1, 1, 1},   {1, 40, 33},  {14, 32, 16}, {15, 33, 17}, {13, 31, 520},
                                   {77, 65, 9}, {30, 100, 5}, {7, 16, 0},   {2, 350, 20}, {1100, 3, 4},
                                   {20, 90, 530}, {1, 150, 200}, {1, 1043, 6}, {17, 40, 1021}}; /* the last: rows 4 KB apart */
    for (size_t s = 0; s < sizeof shape / sizeof shape[0]; s++)
        for (int f = 0; f < 4; f++) {
            k_matmul p = {0};
            p.M = shape[s][0], p.N = shape[s][1], p.K = shape[s][2], p.batch = 1 + (int)s % 3;
            p.a_trans = f & 1, p.b_trans = f >> 1;
            p.a_type = (tn_dtype)((s + (size_t)f) % 3), p.b_type = (tn_dtype)((s / 2 + (size_t)f) % 3);
            p.acc = ((int)s + f / 2) & 1;
            try_matmul(t, p, ((int)s + f) % 3);
        }
    k_matmul p = {0};
    p.M = 40, p.N = 70, p.K = 1100, p.batch = 1, p.acc = 1; /* three blocks of k, and the old C */
    try_matmul(t, p, 1);
}

/* An element is one chain of fmaf over ascending k, then the bias, the addend, and the old value: bit for bit. B lies as it
 * is or transposed; then few rows and more rows go different ways. */
static void order_case(test_state *t, int64_t M, int b_trans) {
    enum { N = 37, K = 700 };
    float *a = random_buffer(M * K), *b = random_buffer(K * N), *c = random_buffer(M * N), *v = random_buffer(N);
    float *add = random_buffer(M * N);
    for (int s = 0; s < n_sets; s++) {
        float *out = copy_buffer(c, M * N);
        k_matmul p = {.M = M, .N = N, .K = K, .batch = 1, .A = a, .lda = K, .B = b, .ldb = b_trans ? K : N, .b_trans = b_trans,
                      .C = out, .ldc = N, .bias = v, .add = add, .acc = 1, .threads = 1};
        void *block;
        p.scratch = scratch_of(sets[s]->matmul_scratch(&p), &block);
        sets[s]->matmul(&p);
        int wrong = 0;
        for (int64_t i = 0; i < M * N; i++) {
            float x = 0;
            for (int64_t k = 0; k < K; k++) x = fmaf(a[i / N * K + k], b[b_trans ? i % N * K + k : k * N + i % N], x);
            x = x + v[i % N];
            x = x + add[i];
            wrong += x + c[i] != out[i];
        }
        CHECKF(t, !wrong, "%s: M %d, %s: %d elements are not the chain", sets[s]->name, (int)M, b_trans ? "NT" : "NN", wrong);
        free(block), release(out);
    }
    release(a), release(b), release(c), release(v), release(add);
}

static void matmul_order(test_state *t) {
    for (int b_trans = 0; b_trans < 2; b_trans++) order_case(t, 1, b_trans), order_case(t, 5, b_trans), order_case(t, 20, b_trans);
}

/* ---- convolution ---- */

typedef struct conv_case {
    k_conv p;
    int which; /* 0 forward, 1 dx, 2 dw, 3 dbias */
} conv_case;

static void run_conv(const tn_kernels *k, void *arg, float *out, void *scratch, int threads) {
    const conv_case *c = arg;
    k_conv p = c->p;
    p.scratch = scratch, p.threads = threads;
    p.y = p.dx = p.dw = p.dbias = NULL;
    if (c->which == 0) p.y = out, k->conv(&p);
    if (c->which == 1) p.dx = out, k->conv_dx(&p);
    if (c->which == 2) p.dw = out, k->conv_dw(&p);
    if (c->which == 3) p.dbias = out, k->conv_dw(&p);
}

static size_t scratch_conv(const tn_kernels *k, void *arg, int threads) {
    k_conv p = ((conv_case *)arg)->p;
    p.threads = threads;
    return (((conv_case *)arg)->which < 2 ? k->conv_scratch : k->conv_dw_scratch)(&p);
}

/* Every product of the convolution, once: adds x w to y, dy w to dx, dy x to dw, in double. */
static void conv_loops(const k_conv *p, const float *w, double *y, double *dx, double *dw) {
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t o = 0; o < p->O; o++)
            for (int64_t yx = 0; yx < p->P * p->Q; yx++)
                for (int64_t c = 0; c < p->C; c++)
                    for (int64_t ij = 0; ij < p->KH * p->KW; ij++) {
                        int64_t h = yx / p->Q * p->stride + ij / p->KW - p->top;
                        int64_t v = yx % p->Q * p->stride + ij % p->KW - p->left;
                        if (h < 0 || h >= p->H || v < 0 || v >= p->W) continue;
                        int64_t iy = (b * p->O + o) * p->P * p->Q + yx, ix = ((b * p->C + c) * p->H + h) * p->W + v;
                        int64_t iw = (o * p->C + c) * p->KH * p->KW + ij;
                        y[iy] += (double)w[iw] * (double)p->x[ix];
                        dx[ix] += (double)w[iw] * (double)p->dy[iy];
                        dw[iw] += (double)p->dy[iy] * (double)p->x[ix];
                    }
}

static void try_conv(test_state *t, k_conv p) {
    int64_t n[4] = {p.batch * p.O * p.P * p.Q, p.batch * p.C * p.H * p.W, p.O * p.C * p.KH * p.KW, p.O};
    float *x = random_buffer(n[1]), *dy = random_buffer(n[0]), *w = random_buffer(n[2]), *bias = random_buffer(n[3]);
    void *tw = as_type(w, n[2], p.w_type), *tb = as_type(bias, n[3], p.w_type);
    float *before[4];
    double *want[4];
    for (int k = 0; k < 4; k++) {
        before[k] = random_buffer(n[k]);
        want[k] = calloc((size_t)n[k], sizeof(double));
        if (!want[k]) abort();
        for (int64_t i = 0; i < n[k] && p.acc; i++) want[k][i] = (double)before[k][i];
    }
    float *ex = as_type(x, n[1], TN_F32), *edy = as_type(dy, n[0], TN_F32);
    p.x = ex, p.dy = edy, p.w = tw, p.bias = tb, p.bias_type = p.w_type;
    for (int64_t i = 0; i < n[0]; i++) {
        int64_t o = i / (p.P * p.Q) % p.O;
        want[0][i] += (double)bias[o], want[3][o] += (double)dy[i];
    }
    conv_loops(&p, w, want[0], want[1], want[2]);
    for (int k = 0; k < 4; k++) {
        conv_case c = {p, k};
        trial r = {run_conv, scratch_conv, &c, before[k], want[k], n[k]};
        char what[160];
        snprintf(what, sizeof what, "%s: x %dx%dx%dx%d w %dx%dx%d stride %d pad %d,%d type %d acc %d",
                 (const char *[]){"conv", "conv_dx", "conv_dw", "dbias"}[k], (int)p.batch, (int)p.C, (int)p.H, (int)p.W,
                 (int)p.O, (int)p.KH, (int)p.KW, p.stride, p.top, p.left, (int)p.w_type, p.acc);
        run_trial(t, &r, what);
        release(before[k]), free(want[k]);
    }
    release(x), release(dy), release(w), release(bias), free(tw), free(tb), free(ex), free(edy);
}

static void conv_cases(test_state *t) {
    /* batch, C, H, W, O, KH, KW, P, Q, stride, top, left */
    static const int c[][12] = {
        {1, 3, 8, 8, 5, 3, 3, 8, 8, 1, 1, 1},    /* the usual one */
        {2, 17, 6, 7, 20, 3, 3, 6, 7, 1, 1, 1},  /* odd sizes, batch */
        {2, 5, 9, 8, 7, 3, 3, 4, 4, 2, 0, 0},    /* padded below and right only, as the VAE's downsampling */
        {1, 4, 9, 11, 6, 3, 3, 5, 6, 2, 1, 1},   /* the UNet's downsampling */
        {2, 18, 5, 6, 33, 1, 1, 5, 6, 1, 0, 0},  /* 1x1 */
        {1, 6, 7, 7, 3, 1, 1, 4, 4, 2, 0, 0},    /* 1x1, stride 2 */
        {2, 3, 28, 28, 16, 7, 7, 4, 4, 7, 0, 0}, /* patches, as CLIP's image tower */
        {1, 2, 5, 40, 3, 5, 2, 4, 43, 1, 1,
         3}, /* wider padding left and right than the window needs, rows longer than 16 */
        {1, 1, 4, 4, 1, 3, 3, 3, 4, 3, 2, 2},    /* stride 3, windows wholly outside */
        {3, 70, 3, 3, 15, 3, 3, 3, 3, 1, 1, 1},  /* images that share a vector, several blocks of k */
        {1, 2, 23, 24, 3, 3, 3, 23, 24, 1, 1, 1}, /* more than 512 columns */
        {3, 5, 4, 4, 9, 3, 3, 4, 4, 1, 1, 1},     /* small images: one vector each, of whole rows */
        {2, 60, 8, 8, 5, 3, 3, 8, 8, 1, 1, 1},    /* two blocks of k */
        {5, 3, 16, 16, 4, 3, 3, 16, 16, 1, 1, 1}, /* the largest of them; tasks that end inside a batch */
        {2, 3, 8, 2, 7, 3, 2, 8, 2, 1, 2, 1},     /* padding above only */
        {1, 3, 16, 1, 7, 1, 3, 16, 1, 1, 0, 0},   /* one column; padding on the right only */
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        k_conv p = {0};
        p.batch = c[i][0], p.C = c[i][1], p.H = c[i][2], p.W = c[i][3], p.O = c[i][4], p.KH = c[i][5], p.KW = c[i][6];
        p.P = c[i][7], p.Q = c[i][8], p.stride = c[i][9], p.top = c[i][10], p.left = c[i][11];
        p.w_type = (tn_dtype)(i % 3), p.acc = (int)i & 1;
        try_conv(t, p);
    }
}

/* ---- k_basic.c ---- */

/* The elementwise kernels on n elements, into out [7][n]. */
static void run_basic(const tn_kernels *k, int64_t n, const float *a, const float *b, float *out) {
    memcpy(out + 4 * n, a, (size_t)n * sizeof *a);
    k->add(n, a, b, out);
    memcpy(out + n, a, (size_t)n * sizeof *a);
    k->add(n, out + n, b, out + n); /* in place */
    k->axpby(n, 0.7f, a, -1.3f, b, out + 2 * n);
    k->axpby(n, 0.7f, a, 0, NULL, out + 3 * n);
    k->mul(n, a, b, out + 4 * n, 1);
    k->widen(n, a, TN_F32, out + 5 * n);
    k->mul(n, a, b, out + 6 * n, 0);
}

/* Columns of x [rows][n + 3], each one chain of additions: exactly that, on every instruction set. */
static void column_sums(test_state *t, int64_t rows, int64_t n) {
    int64_t ld = n + 3;
    float *x = random_buffer(rows * ld), *start = random_buffer(n), *want = buffer(n);
    for (int acc = 0; acc < 2; acc++) {
        for (int64_t j = 0; j < n; j++) {
            want[j] = acc ? start[j] : 0.0f;
            for (int64_t i = 0; i < rows; i++) want[j] += x[i * ld + j];
        }
        for (int s = 0; s < n_sets; s++) {
            float *y = buffer(n);
            memcpy(y, start, (size_t)n * sizeof *y);
            sets[s]->column_sum(rows, n, x, ld, y, acc);
            CHECKF(t, !memcmp(y, want, (size_t)n * sizeof *y) && canaries_alive(y, n), "%s: sums of %d x %d, acc %d", sets[s]->name,
                   (int)rows, (int)n, acc);
            release(y);
        }
    }
    release(x), release(start), release(want);
}

static void basic_cases(test_state *t) {
    static const int64_t sizes[] = {0, 1, 15, 16, 17, 100, 1024, 1025, 5000};
    for (size_t z = 0; z < sizeof sizes / sizeof sizes[0]; z++) {
        int64_t n = sizes[z];
        float *a = random_buffer(n), *b = random_buffer(n), *w = random_buffer(n), *first = NULL, sums[4][4];
        double *want = malloc((size_t)(7 * n + 1) * sizeof *want), sum[4] = {0};
        if (!want) abort();
        for (int64_t i = 0; i < n; i++) {
            double x = (double)a[i], y = (double)b[i];
            want[i] = want[n + i] = x + y, want[5 * n + i] = x;
            want[2 * n + i] = (double)0.7f * x - (double)1.3f * y, want[3 * n + i] = (double)0.7f * x;
            want[4 * n + i] = x + x * y, want[6 * n + i] = x * y;
            sum[0] += x, sum[1] += x * y, sum[2] += (x - y) * (x - y), sum[3] += (double)w[i] * (x - y) * (x - y);
        }
        for (int s = 0; s < n_sets; s++) {
            float *out = buffer(7 * n);
            const tn_kernels *k = sets[s];
            run_basic(k, n, a, b, out);
            sums[s][0] = k->sum(n, a), sums[s][1] = k->dot(n, a, b);
            sums[s][2] = k->sum_sq_diff(n, a, b, NULL), sums[s][3] = k->sum_sq_diff(n, a, b, w);
            int wrong = 0;
            for (int64_t i = 0; i < n; i++) wrong += out[2 * n + i] != fmaf(0.7f, a[i], -1.3f * b[i]);
            CHECKF(t, !wrong, "%s: axpby is not one fma, n %d", k->name, (int)n);
            CHECKF(t, nmse(out, want, 7 * n) < 1e-13, "%s: elementwise, n %d", k->name, (int)n);
            CHECKF(t, canaries_alive(out, 7 * n), "%s: elementwise, n %d: wrote outside", k->name, (int)n);
            for (int i = 0; i < 4; i++) {
                double e = fabs((double)sums[s][i] - sum[i]);
                CHECKF(t, e <= 1e-7 * (sqrt((double)n) + sum[2]), "%s: reduction %d, n %d: off by %g", k->name, i,
                       (int)n, e);
            }
            CHECKF(t, !memcmp(sums[0], sums[s], sizeof sums[s]), "%s: reductions differ in bits", k->name);
            if (s) {
                CHECKF(t, !memcmp(first, out, (size_t)(7 * n) * sizeof *out), "%s: elementwise differs in bits",
                       k->name);
                release(out);
            } else {
                first = out;
                add_digest(first, 7 * n), add_digest(sums[0], 4);
            }
        }
        release(first), release(a), release(b), release(w), free(want);
    }
}

/* Values of every kind through widen: the F16 of this file's own decoder, and special values by hand. */
static void widen_cases(test_state *t) {
    static const uint16_t half[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x83ff, 0x7c00,
                                    0xfc00, 0x3555, 0x2e66, 0x7bfe, 0x0200, 0x5640, 0xb800, 0x3c01, 0x8001};
    static const float value[] = {0,        -0.0f,         1,        -2,        65504,       0x1p-14f,
                                  0x1p-24f, -0x1.ff8p-15f, INFINITY, -INFINITY, 0x1.554p-2f, 0x1.998p-4f,
                                  65472,    0x1p-15f,      100,      -0.5f,     0x1.004p0f,  -0x1p-24f};
    enum { N = sizeof half / sizeof half[0] };
    for (int s = 0; s < n_sets; s++) {
        float out[N];
        sets[s]->widen(N, half, TN_F16, out);
        for (int i = 0; i < N; i++)
            CHECKF(t, !memcmp(&out[i], &value[i], 4), "%s: F16 %04x gave %a", sets[s]->name, half[i], (double)out[i]);
        sets[s]->widen(N, half, TN_BF16, out);
        for (int i = 0; i < N; i++) {
            uint32_t u;
            memcpy(&u, &out[i], 4);
            CHECKF(t, u == (uint32_t)half[i] << 16, "%s: BF16 %04x gave %08x", sets[s]->name, half[i], (unsigned)u);
        }
    }
}

/* Five steps of AdamW against the formulas in double. */
static void adamw_case(test_state *t) {
    enum { N = 37 };
    float *p0 = random_buffer(N), *g = random_buffer(5 * N), first[N];
    double lr = 5e-3, b1 = 0.9, b2 = 0.999, eps = 1e-8, wd = 1e-2, want[N], wm[N] = {0}, wv[N] = {0};
    for (int i = 0; i < N; i++) want[i] = (double)p0[i];
    for (int step = 1; step <= 5; step++)
        for (int i = 0; i < N; i++) {
            double x = (double)g[(step - 1) * N + i];
            wm[i] = b1 * wm[i] + (1 - b1) * x, wv[i] = b2 * wv[i] + (1 - b2) * x * x;
            want[i] -= lr * wd * want[i];
            want[i] -= lr * (wm[i] / (1 - pow(b1, step))) / (sqrt(wv[i] / (1 - pow(b2, step))) + eps);
        }
    for (int s = 0; s < n_sets; s++) {
        float p[N], m[N] = {0}, v[N] = {0};
        memcpy(p, p0, sizeof p);
        for (int step = 1; step <= 5; step++)
            sets[s]->adamw(N, p, g + (step - 1) * N, m, v, lr, b1, b2, eps, wd, lr / (1 - pow(b1, step)),
                           sqrt(1 - pow(b2, step)));
        CHECKF(t, nmse(p, want, N) < 1e-13, "%s: AdamW, error %g", sets[s]->name, nmse(p, want, N));
        if (s == 0) memcpy(first, p, sizeof p);
        CHECKF(t, !memcmp(first, p, sizeof p), "%s: AdamW differs in bits", sets[s]->name);
    }
    release(p0), release(g);
}

static void names_case(test_state *t) {
    int known = 1;
    CHECK(t, tn_kernels_named("sse9", &known) == NULL && !known);
    CHECK(t, tn_kernels_named("scalar", &known) == &tn_kernels_scalar && known);
    CHECK(t, tn_kernels_best() != NULL);
}

void test_main(test_state *t) {
    for (int i = 0; i < N_NAMES; i++) {
        int known;
        const tn_kernels *k = tn_kernels_named(set_names[i], &known);
        if (k) sets[n_sets++] = k;
    }
    if (test_section(t, "names")) names_case(t);
    if (test_section(t, "matmul")) matmul_cases(t);
    if (test_section(t, "order of a chain")) matmul_order(t);
    if (test_section(t, "conv")) conv_cases(t);
    if (test_section(t, "elementwise and reductions")) basic_cases(t);
    if (test_section(t, "column sums")) column_sums(t, 1, 1), column_sums(t, 5, 64), column_sums(t, 33, 150);
    if (test_section(t, "widen")) widen_cases(t);
    if (test_section(t, "adamw")) adamw_case(t);
    printf("digest %016llx over", (unsigned long long)digest);
    for (int i = 0; i < n_sets; i++) printf(" %s", sets[i]->name);
    printf("\n");
}
