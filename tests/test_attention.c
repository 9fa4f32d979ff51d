/* The attention kernel on every instruction set of this machine, against ref/; the same bits everywhere; gradients that
 * are not wanted or are added to; scores large enough to overflow a naive softmax; nothing written behind the scratch.
 */
#include "ref/ref.h"
#include "tensor/kernel/kernels.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    int64_t B, N, M, H, D;
    int causal;
} shape;

/* Blocks of 80 tokens, tiles of 32 queries, vectors of 16 and register tiles of 5 or 8 rows: sizes below, at and above
 * each. The last three are cut into ranges: of keys, of queries, of keys under a causal mask. */
static const shape shapes[] = {
    {1, 1, 1, 1, 1, 0},     {2, 5, 3, 8, 8, 0},     {1, 16, 77, 2, 4, 0},   {1, 100, 77, 2, 40, 0},
    {1, 70, 81, 1, 160, 0}, {1, 3, 7, 1, 513, 0},   {1, 161, 64, 1, 6, 0},  {1, 1, 300, 1, 64, 0},
    {1, 300, 1, 1, 5, 0},   {1, 65, 170, 2, 80, 0}, {1, 1, 1, 2, 16, 1},    {1, 77, 77, 2, 6, 1},
    {1, 11, 11, 2, 64, 1},  {2, 170, 170, 1, 3, 1}, {1, 200, 33, 1, 16, 1}, {1, 33, 200, 2, 40, 1},
    {1, 90, 500, 1, 8, 0},  {2, 500, 40, 1, 20, 0}, {1, 730, 730, 1, 8, 1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, TENSORS = 6 };

static const char *const tensor_names[TENSORS] = {"y", "lse", "dq", "dk", "dv", "y (no lse)"};

/* Inputs and outputs of one run. */
typedef struct run {
    k_attention p;
    size_t size[TENSORS]; /* floats */
    float *out[TENSORS];
} run;

static float *floats(size_t n, uint64_t *seed, float scale) {
    float *x = malloc((n + 1) * sizeof *x);
    if (!x) abort();
    for (size_t i = 0; i < n; i++) x[i] = seed ? scale * test_rand(seed) : scale;
    return x;
}

static run make_run(shape s, float spread) {
    run r;
    uint64_t seed = 1234567;
    size_t nq = (size_t)(s.B * s.N * s.H * s.D), nk = (size_t)(s.B * s.M * s.H * s.D), rows = (size_t)(s.B * s.H * s.N);
    memset(&r, 0, sizeof r);
    r.p.B = s.B, r.p.N = s.N, r.p.M = s.M, r.p.H = s.H, r.p.D = s.D, r.p.causal = s.causal;
    r.p.scale = (float)(1.0 / sqrt((double)s.D));
    r.p.q = floats(nq, &seed, spread), r.p.k = floats(nk, &seed, spread);
    r.p.v = floats(nk, &seed, 2), r.p.dy = floats(nq, &seed, 2);
    size_t size[TENSORS] = {nq, rows, nq, nk, nk, nq};
    memcpy(r.size, size, sizeof size);
    for (int i = 0; i < TENSORS; i++) r.out[i] = floats(size[i], NULL, 7.0f);
    return r;
}

static void free_run(run *r) {
    for (int i = 0; i < TENSORS; i++) free(r->out[i]);
    free((void *)(uintptr_t)r->p.q), free((void *)(uintptr_t)r->p.k);
    free((void *)(uintptr_t)r->p.v), free((void *)(uintptr_t)r->p.dy);
}

/* Scratch of exactly the stated size, with a canary behind it. */
static void call(test_state *t, const tn_kernels *k, void (*kernel)(const k_attention *), k_attention *p) {
    size_t size = (kernel == k->attention ? k->attention_scratch : k->attention_backward_scratch)(p);
    unsigned char *room = malloc(size + 128), canary[64];
    if (!room) abort();
    unsigned char *at = room + (64 - (uintptr_t)room % 64) % 64;
    memset(canary, 0xa5, sizeof canary);
    memset(at, 0xff, size); /* NaNs: scratch that is read before it is written shows */
    memcpy(at + size, canary, sizeof canary);
    p->scratch = at;
    kernel(p);
    CHECKF(t, memcmp(at + size, canary, sizeof canary) == 0, "%s writes behind its scratch", k->name);
    free(room);
}

static void compute(test_state *t, const tn_kernels *k, run *r, int threads) {
    r->p.threads = threads;
    r->p.y = r->out[5], r->p.lse = NULL;
    call(t, k, k->attention, &r->p);
    r->p.y = r->out[0], r->p.lse = r->out[1];
    call(t, k, k->attention, &r->p);
    r->p.dq = r->out[2], r->p.dk = r->out[3], r->p.dv = r->out[4];
    call(t, k, k->attention_backward, &r->p);
}

static double *doubles(const float *x, size_t n) {
    double *y = calloc(n + 1, sizeof *y);
    if (!y) abort();
    for (size_t i = 0; x && i < n; i++) y[i] = (double)x[i];
    return y;
}

/* sum (got - want)^2 / sum want^2, the whole sum where want is all zeros. */
static double nmse(const float *got, const double *want, size_t n) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) error += pow((double)got[i] - want[i], 2), norm += want[i] * want[i];
    return norm > 0 ? error / norm : error;
}

/* log2 sum exp of the scores, [B,H,N]. */
static void reference_lse(const run *r, double *lse) {
    const k_attention *p = &r->p;
    for (int64_t i = 0; i < p->B * p->H * p->N; i++) {
        int64_t n = i % p->N, h = i / p->N % p->H, b = i / p->N / p->H;
        double max = -INFINITY, sum = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t j = 0; j < p->M && !(p->causal && j > n); j++) {
                double s = 0;
                for (int64_t d = 0; d < p->D; d++)
                    s += (double)p->q[((b * p->N + n) * p->H + h) * p->D + d] *
                         (double)p->k[((b * p->M + j) * p->H + h) * p->D + d];
                s *= (double)p->scale;
                if (pass == 0) max = fmax(max, s);
                if (pass == 1) sum += exp(s - max);
            }
        lse[i] = (max + log(sum)) / log(2.0);
    }
}

/* The six tensors by ref/. */
static void reference(const run *r, double *want[TENSORS]) {
    const k_attention *p = &r->p;
    double *q = doubles(p->q, r->size[0]), *k = doubles(p->k, r->size[3]), *v = doubles(p->v, r->size[3]);
    double *dy = doubles(p->dy, r->size[0]), *row = doubles(NULL, (size_t)p->M);
    for (int i = 0; i < TENSORS; i++) want[i] = doubles(NULL, r->size[i]);
    ref_attention(q, k, v, want[0], p->B, p->N, p->M, p->H, p->D, (double)p->scale, p->causal);
    reference_lse(r, want[1]);
    ref_attention_backward(q, k, v, dy, want[2], want[3], want[4], p->B, p->N, p->M, p->H, p->D, (double)p->scale,
                           p->causal, row);
    memcpy(want[5], want[0], r->size[0] * sizeof(double));
    free(q), free(k), free(v), free(dy), free(row);
}

static const tn_kernels *kernels_at(int i) {
    static const char *const names[] = {"scalar", "avx2", "avx512", "neon"};
    int known;
    return tn_kernels_named(names[i], &known);
}

/* Accuracy of the scalar table with one thread; every other table and number of threads must give its bits. */
static void test_shape(test_state *t, shape s, float spread, double forward_bar, double gradient_bar) {
    static const int threads[] = {1, 2, 3, 7};
    double *want[TENSORS];
    run first = make_run(s, spread);
    compute(t, kernels_at(0), &first, 1);
    reference(&first, want);
    for (int i = 0; i < TENSORS; i++) {
        double error = nmse(first.out[i], want[i], first.size[i]), bar = i >= 2 && i <= 4 ? gradient_bar : forward_bar;
        if (s.M == 1 && (i == 2 || i == 3)) bar = 0; /* one key has probability 1 whatever q and k are: exact zeros */
        CHECKF(t, error <= bar, "N %d M %d D %d causal %d: %s has error %.3g, allowed %.3g", (int)s.N, (int)s.M,
               (int)s.D, s.causal, tensor_names[i], error, bar);
        free(want[i]);
    }
    for (int isa = 0; isa < 4; isa++)
        for (int j = 0; j < 4; j++) {
            const tn_kernels *k = kernels_at(isa);
            if (!k) continue;
            run other = make_run(s, spread);
            compute(t, k, &other, threads[j]);
            for (int i = 0; i < TENSORS; i++)
                CHECKF(t, memcmp(first.out[i], other.out[i], first.size[i] * sizeof(float)) == 0,
                       "N %d M %d D %d causal %d: %s differs between scalar and %s with %d threads", (int)s.N, (int)s.M,
                       (int)s.D, s.causal, tensor_names[i], k->name, threads[j]);
            free_run(&other);
        }
    free_run(&first);
}

/* Each gradient alone, and each added to what was there: the bits of the overwriting run with all three. */
static void test_gradient_choices(test_state *t, const tn_kernels *k) {
    shape s = {1, 90, 85, 2, 24, 0};
    run all = make_run(s, 2), some = make_run(s, 2);
    compute(t, k, &all, 1);
    compute(t, k, &some, 1);
    for (int choice = 0; choice < 8; choice++) {
        float **slot[3] = {&some.p.dq, &some.p.dk, &some.p.dv};
        for (int i = 0; i < 3; i++) {
            *slot[i] = choice >> i & 1 ? some.out[2 + i] : NULL;
            for (size_t j = 0; j < some.size[2 + i]; j++) some.out[2 + i][j] = (float)j;
        }
        some.p.acc_q = 1, some.p.acc_k = choice & 1, some.p.acc_v = 1;
        call(t, k, k->attention_backward, &some.p);
        for (int i = 0; i < 3; i++) {
            int acc = i == 1 ? some.p.acc_k : 1, wanted = choice >> i & 1;
            size_t wrong = 0;
            for (size_t j = 0; j < some.size[2 + i]; j++) {
                float old = (float)j, gradient = all.out[2 + i][j];
                wrong += some.out[2 + i][j] != (!wanted ? old : acc ? old + gradient : gradient);
            }
            CHECKF(t, wrong == 0, "%s choice %d: %s wrong in %d places", k->name, choice, tensor_names[2 + i],
                   (int)wrong);
        }
    }
    free_run(&all), free_run(&some);
}

/* A NaN in one query stays in its row; the causal mask hides a NaN in later keys' scores from earlier queries. */
static void test_nan(test_state *t, const tn_kernels *k) {
    shape s = {1, 40, 90, 1, 8, 0};
    run r = make_run(s, 1);
    ((float *)(uintptr_t)r.p.q)[5 * 8 + 3] = NAN;
    compute(t, k, &r, 1);
    int wrong = 0;
    for (int i = 0; i < 40 * 8; i++) wrong += !isnan(r.out[0][i]) != (i / 8 != 5);
    CHECKF(t, wrong == 0, "%s: NaN not in exactly its row, %d places", k->name, wrong);
    free_run(&r);
}

/* Two keys with the scores x and 0, values 1 and 0: y = e^x / (1 + e^x), and its relative error stays a few units in the
 * last place until y is subnormal. Zero lies behind. */
static void test_tail(test_state *t, const tn_kernels *k) {
    enum { N = 2000 };
    shape s = {1, N, 2, 1, 1, 0};
    run r = make_run(s, 1);
    double worst = 0;
    for (int i = 0; i < N; i++) ((float *)(uintptr_t)r.p.q)[i] = -(float)i / 18;
    ((float *)(uintptr_t)r.p.k)[0] = 1, ((float *)(uintptr_t)r.p.k)[1] = 0;
    ((float *)(uintptr_t)r.p.v)[0] = 1, ((float *)(uintptr_t)r.p.v)[1] = 0;
    compute(t, k, &r, 1);
    for (int i = 0; i < N; i++) {
        double x = (double)r.p.q[i], y = 1 / (1 + exp(-x)), ulp = fmax(y, 0x1p-126) * 0x1p-23;
        worst = fmax(worst, fabs((double)r.out[0][i] - y) / (ulp * (4 + 2 * fabs(x))));
    }
    CHECKF(t, worst < 1, "%s: error %.3g of what is allowed", k->name, worst);
    CHECKF(t, r.out[0][N - 1] == 0, "%s: e^-111 is %g", k->name, (double)r.out[0][N - 1]);
    free_run(&r);
}

void test_main(test_state *t) {
    if (test_section(t, "shapes"))
        for (int i = 0; i < SHAPES; i++) test_shape(t, shapes[i], 2, 1e-12, 1e-11);
    /* Scores of several hundred, so that probabilities are nearly 0 or 1 and their exponents need range: the relative
     * error of exp(s) is the absolute one of s, about 300 * 2^-24. */
    if (test_section(t, "large scores")) {
        shape s = {1, 70, 170, 1, 40, 0}, c = {1, 170, 170, 1, 16, 1};
        test_shape(t, s, 30, 1e-9, 1e-7);
        test_shape(t, c, 30, 1e-9, 1e-7);
    }
    for (int isa = 0; isa < 4; isa++) {
        const tn_kernels *k = kernels_at(isa);
        if (k && test_section(t, "gradient choices")) test_gradient_choices(t, k);
        if (k && test_section(t, "NaN")) test_nan(t, k);
        if (k && test_section(t, "tail of the softmax")) test_tail(t, k);
    }
}
