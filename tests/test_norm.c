/* Group norm, layer norm and softmax on every instruction set of this machine, against ref/: accuracy also where the
 * mean is large or the variance tiny, the same bits everywhere, half-precision weights, gradients that are added to or
 * not wanted. */
#include "ref/ref.h"
#include "tensor/kernel/kernels.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const tn_kernels *kernels_at(int i) {
    static const char *const names[] = {"scalar", "avx2", "avx512", "neon"};
    int known;
    return tn_kernels_named(names[i], &known);
}

/* What one case computes, for group norm with [B,C,S] and for layer norm with B rows of C, S = G = 1. */
typedef struct norm_case {
    int64_t B, C, S, G;
    int silu;
    double mean, spread; /* of x */
    float eps;
} norm_case;

enum { Y, DX, DGAMMA, DBETA, MEAN, RSTD, OUTPUTS };
static const char *const output_names[OUTPUTS] = {"y", "dx", "dgamma", "dbeta", "mean", "rstd"};

typedef struct run {
    norm_case c;
    size_t n, channels, groups;
    float *x, *dy, *gamma, *beta, *out[OUTPUTS];
    size_t size[OUTPUTS];
} run;

static float *floats(size_t n, float value) {
    float *x = malloc((n + 1) * sizeof *x);
    if (!x) abort();
    for (size_t i = 0; i < n; i++) x[i] = value;
    return x;
}

static run make_run(norm_case c) {
    run r;
    uint64_t seed = 987654321;
    r.c = c;
    r.n = (size_t)(c.B * c.C * c.S), r.channels = (size_t)c.C, r.groups = (size_t)(c.B * c.G);
    r.x = floats(r.n, 0), r.dy = floats(r.n, 0), r.gamma = floats(r.channels, 0), r.beta = floats(r.channels, 0);
    for (size_t i = 0; i < r.n; i++) {
        r.x[i] = (float)(c.mean + c.spread * (double)test_rand(&seed));
        r.dy[i] = test_rand(&seed);
    }
    /* Multiples of 1/32 up to 2 are exact in F16 and in BF16. */
    for (size_t i = 0; i < r.channels; i++) {
        r.gamma[i] = rintf(32.0f * test_rand(&seed)) / 32.0f + 1.0f;
        r.beta[i] = rintf(32.0f * test_rand(&seed)) / 32.0f;
    }
    size_t size[OUTPUTS] = {r.n, r.n, r.channels, r.channels, r.groups, r.groups};
    for (int i = 0; i < OUTPUTS; i++) r.size[i] = size[i], r.out[i] = floats(size[i], 3.0f);
    return r;
}

static void free_run(run *r) {
    free(r->x), free(r->dy), free(r->gamma), free(r->beta);
    for (int i = 0; i < OUTPUTS; i++) free(r->out[i]);
}

/* F16 or BF16 of numbers that both hold exactly. */
static uint16_t *narrow(const float *x, size_t n, tn_dtype type) {
    uint16_t *h = calloc(n + 1, sizeof *h);
    if (!h) abort();
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        uint32_t f16 = x[i] == 0 ? 0 : ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 1023);
        h[i] = (uint16_t)(type == TN_BF16 ? bits >> 16 : (bits >> 16 & 0x8000) | f16);
    }
    return h;
}

/* Scratch of exactly the stated size, aligned, full of NaNs, with a canary behind it. */
typedef struct room {
    unsigned char *base, *at;
    size_t size;
} room;

static room make_room(size_t size) {
    room m = {malloc(size + 128), NULL, size};
    if (!m.base) abort();
    m.at = m.base + (64 - (uintptr_t)m.base % 64) % 64;
    memset(m.at, 0xff, size), memset(m.at + size, 0xa5, 64);
    return m;
}

static void close_room(test_state *t, const char *name, room m) {
    int written = 0;
    for (size_t i = 0; i < 64; i++) written += m.at[m.size + i] != 0xa5;
    CHECKF(t, written == 0, "%s writes %d bytes behind its scratch", name, written);
    free(m.base);
}

/* Forward and backward with the weights as `type`; mask says which gradients are wanted, acc whether they are added. */
static void compute(test_state *t, const tn_kernels *k, run *r, int layer, tn_dtype type, int threads, int mask,
                    int acc) {
    norm_case c = r->c;
    uint16_t *gamma16 = narrow(r->gamma, r->channels, type), *beta16 = narrow(r->beta, r->channels, type);
    const void *gamma = type == TN_F32 ? (void *)r->gamma : gamma16, *beta = type == TN_F32 ? (void *)r->beta : beta16;
    float *dx = mask & 1 ? r->out[DX] : NULL, *dgamma = mask & 2 ? r->out[DGAMMA] : NULL,
          *dbeta = mask & 4 ? r->out[DBETA] : NULL;
    k_group_norm g = {c.B,          c.C,          c.S,   c.G, c.eps,  c.silu, r->x, gamma, beta,    type, r->out[Y],
                      r->out[MEAN], r->out[RSTD], r->dy, dx,  dgamma, dbeta,  acc,  acc,   threads, NULL};
    k_layer_norm l = {c.B,          c.C,   c.eps, r->x,   gamma, beta, type, r->out[Y], r->out[MEAN],
                      r->out[RSTD], r->dy, dx,    dgamma, dbeta, acc,  acc,  threads,   NULL};
    room m = make_room(layer ? k->layer_norm_scratch(&l) : k->group_norm_scratch(&g));
    g.scratch = l.scratch = m.at;
    if (layer)
        k->layer_norm(&l), k->layer_norm_backward(&l);
    else
        k->group_norm(&g), k->group_norm_backward(&g);
    close_room(t, k->name, m);
    free(gamma16), free(beta16);
}

static double *doubles(const float *x, size_t n) {
    double *y = calloc(n + 1, sizeof *y);
    if (!y) abort();
    for (size_t i = 0; x && i < n; i++) y[i] = (double)x[i];
    return y;
}

static double nmse(const float *got, const double *want, size_t n) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) error += pow((double)got[i] - want[i], 2), norm += want[i] * want[i];
    return norm > 0 ? error / norm : error;
}

/* y, dx, dgamma, dbeta by ref/. SiLU is applied behind it, and its derivative to dy before it. */
static void reference(const run *r, int layer, double *want[4]) {
    norm_case c = r->c;
    double *x = doubles(r->x, r->n), *gamma = doubles(r->gamma, r->channels), *beta = doubles(r->beta, r->channels);
    double *dy = doubles(r->dy, r->n), *dt = doubles(NULL, r->n), eps = (double)c.eps;
    for (int i = 0; i < 4; i++) want[i] = doubles(NULL, r->size[i]);
    double *affine = doubles(NULL, r->n);
    if (layer)
        ref_layer_norm(x, gamma, beta, affine, c.B, c.C, eps);
    else
        ref_group_norm(x, gamma, beta, affine, c.B, c.C, c.S, c.G, eps);
    memcpy(want[Y], affine, r->n * sizeof(double));
    if (c.silu) ref_silu(affine, want[Y], (int64_t)r->n), ref_silu_backward(affine, dy, dt, (int64_t)r->n);
    if (layer)
        ref_layer_norm_backward(x, gamma, dy, want[DX], want[DGAMMA], want[DBETA], c.B, c.C, eps);
    else
        ref_group_norm_backward(x, gamma, c.silu ? dt : dy, want[DX], want[DGAMMA], want[DBETA], c.B, c.C, c.S, c.G,
                                eps);
    free(x), free(gamma), free(beta), free(dy), free(dt), free(affine);
}

static void same_bits(test_state *t, const run *a, const run *b, const char *what, const char *isa) {
    for (int i = 0; i < OUTPUTS; i++)
        CHECKF(t, memcmp(a->out[i], b->out[i], a->size[i] * sizeof(float)) == 0, "C %d S %d: %s differs, %s %s",
               (int)a->c.C, (int)a->c.S, output_names[i], isa, what);
}

static void test_case(test_state *t, norm_case c, int layer) {
    static const int threads[] = {1, 2, 3, 7};
    double *want[4];
    run first = make_run(c);
    compute(t, kernels_at(0), &first, layer, TN_F32, 1, 7, 0);
    reference(&first, layer, want);
    for (int i = 0; i < 4; i++) {
        double error = nmse(first.out[i], want[i], first.size[i]);
        CHECKF(t, error <= (i == Y ? 1e-12 : 1e-11), "%s B %d C %d S %d G %d mean %g spread %g: %s has error %.3g",
               layer ? "layer" : "group", (int)c.B, (int)c.C, (int)c.S, (int)c.G, c.mean, c.spread, output_names[i],
               error);
        free(want[i]);
    }
    for (int isa = 0; isa < 4; isa++) {
        const tn_kernels *k = kernels_at(isa);
        if (!k) continue;
        for (int j = 0; j < 4; j++) {
            run other = make_run(c);
            compute(t, k, &other, layer, TN_F32, threads[j], 7, 0);
            same_bits(t, &first, &other, "F32 weights", k->name);
            free_run(&other);
        }
        run half = make_run(c);
        compute(t, k, &half, layer, TN_F16, 2, 7, 0);
        same_bits(t, &first, &half, "F16 weights", k->name);
        compute(t, k, &half, layer, TN_BF16, 2, 7, 0);
        same_bits(t, &first, &half, "BF16 weights", k->name);
        free_run(&half);
    }
    free_run(&first);
}

/* Every choice of gradients, added: what was there plus the bits of the overwriting run; the others untouched. */
static void test_choices(test_state *t, const tn_kernels *k, norm_case c, int layer) {
    run all = make_run(c), some = make_run(c);
    compute(t, k, &all, layer, TN_F32, 1, 7, 0);
    for (int mask = 0; mask < 8; mask++) {
        for (int i = DX; i <= DBETA; i++)
            for (size_t j = 0; j < some.size[i]; j++) some.out[i][j] = 3.0f;
        compute(t, k, &some, layer, TN_F32, 2, mask, 1);
        for (int i = DX; i <= DBETA; i++) {
            int wrong = 0, wanted = mask >> (i - DX) & 1;
            for (size_t j = 0; j < some.size[i]; j++) wrong += some.out[i][j] != (wanted ? 3.0f + all.out[i][j] : 3.0f);
            CHECKF(t, wrong == 0, "%s mask %d layer %d: %s wrong in %d places", k->name, mask, layer, output_names[i],
                   wrong);
        }
    }
    free_run(&all), free_run(&some);
}

/* A group with one element: y = beta and the gradients of x and gamma are zeros, exactly. */
static void test_one_element(test_state *t, const tn_kernels *k) {
    norm_case c = {3, 20, 1, 20, 0, 1, 1, 1e-5f};
    run r = make_run(c);
    compute(t, k, &r, 0, TN_F32, 1, 7, 0);
    int wrong = 0;
    for (size_t i = 0; i < r.n; i++) wrong += (r.out[Y][i] != r.beta[i % 20]) + (r.out[DX][i] != 0);
    for (size_t i = 0; i < r.channels; i++) wrong += r.out[DGAMMA][i] != 0;
    CHECKF(t, wrong == 0, "%s: %d values are not exact", k->name, wrong);
    free_run(&r);
}

/* softmax and its backward of R rows of n numbers, x times `spread`. */
static void test_softmax(test_state *t, int64_t R, int64_t n, float spread) {
    size_t size = (size_t)(R * n);
    float *x = floats(size, 0), *dy = floats(size, 0), *y[2] = {floats(size, 0), floats(size, 0)};
    float *dx[2] = {floats(size, 0), floats(size, 0)};
    uint64_t seed = 55;
    for (size_t i = 0; i < size; i++) x[i] = spread * test_rand(&seed), dy[i] = test_rand(&seed);
    double *x64 = doubles(x, size), *dy64 = doubles(dy, size), *y64 = doubles(NULL, size), *dx64 = doubles(NULL, size);
    ref_softmax(x64, y64, R, n);
    ref_softmax_backward(y64, dy64, dx64, R, n);
    for (int isa = 0; isa < 4; isa++) {
        const tn_kernels *k = kernels_at(isa);
        if (!k) continue;
        int now = isa > 0; /* slot 0 keeps the scalar result */
        k->softmax(R, n, x, y[now]);
        k->softmax_backward(R, n, y[now], dy, dx[now], 0);
        CHECKF(t, nmse(y[now], y64, size) <= 1e-12, "%s n %d: y has error %.3g", k->name, (int)n,
               nmse(y[now], y64, size));
        CHECKF(t, nmse(dx[now], dx64, size) <= 1e-11, "%s n %d: dx has error %.3g", k->name, (int)n,
               nmse(dx[now], dx64, size));
        CHECKF(t, memcmp(y[0], y[now], size * 4) == 0 && memcmp(dx[0], dx[now], size * 4) == 0, "%s n %d: bits",
               k->name, (int)n);
        k->softmax_backward(R, n, y[0], dy, dx[1], 0);
        k->softmax_backward(R, n, y[0], dy, dx[1], 1);
        int wrong = 0;
        for (size_t i = 0; i < size; i++) wrong += dx[1][i] != 2 * dx[0][i];
        CHECKF(t, wrong == 0, "%s n %d: added twice is not double in %d places", k->name, (int)n, wrong);
    }
    free(x), free(dy), free(y[0]), free(y[1]), free(dx[0]), free(dx[1]);
    free(x64), free(dy64), free(y64), free(dx64);
}

static void test_softmax_special(test_state *t, const tn_kernels *k) {
    float x[20], y[20];
    for (int i = 0; i < 20; i++) x[i] = i < 15 ? -INFINITY : 100.0f;
    k->softmax(1, 20, x, y);
    CHECKF(t, y[0] == 0 && y[14] == 0 && y[15] == 0.2f && y[19] == 0.2f, "%s: masked elements", k->name);
    x[3] = NAN;
    k->softmax(1, 20, x, y);
    CHECKF(t, isnan(y[0]) && isnan(y[19]), "%s: a NaN spoils its row", k->name);
}

void test_main(test_state *t) {
    /* Sizes around 16 lanes, 1024-element blocks, 128-row and 64-column blocks; the last two of each list are hard
     * cases. */
    static const norm_case groups[] = {
        {2, 6, 15, 1, 0, 0, 1, 1e-5f},     {1, 64, 16, 32, 0, 0.5, 1, 1e-6f},  {2, 16, 35, 4, 1, 0, 2, 1e-5f},
        {1, 4, 1040, 2, 1, 0.2, 1, 1e-5f}, {1, 3, 2050, 1, 0, 0, 1, 1e-6f},    {3, 10, 7, 5, 1, 0, 1, 1e-5f},
        {1, 8, 36, 4, 0, 1000, 1, 1e-6f},  {1, 4, 100, 2, 0, 1e6, 0.5, 1e-6f}, {1, 8, 36, 2, 1, 3, 1e-3, 1e-5f},
    };
    static const norm_case layers[] = {
        {14, 24, 1, 1, 0, 0, 1, 1e-5f},     {1, 77, 1, 1, 0, 0, 1, 1e-5f},    {300, 65, 1, 1, 0, 0, 1, 1e-5f},
        {5, 1280, 1, 1, 0, 0, 3, 1e-5f},    {5, 40, 1, 1, 0, 3000, 1, 1e-5f}, {5, 40, 1, 1, 0, 1e6, 0.5, 1e-5f},
        {9, 32, 1, 1, 0, 0.1, 1e-2, 1e-5f},
    };
    if (test_section(t, "group norm"))
        for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) test_case(t, groups[i], 0);
    if (test_section(t, "layer norm"))
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) test_case(t, layers[i], 1);
    if (test_section(t, "softmax")) {
        static const int64_t lengths[] = {1, 9, 16, 33, 77, 600, 2500};
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) test_softmax(t, 5, lengths[i], 3);
        test_softmax(t, 5, 33, 80);
    }
    for (int isa = 0; isa < 4; isa++) {
        const tn_kernels *k = kernels_at(isa);
        if (k && test_section(t, "choices of gradients"))
            for (size_t i = 2; i < 4; i++) test_choices(t, k, groups[i], 0), test_choices(t, k, layers[i], 1);
        if (k && test_section(t, "one element")) test_one_element(t, k);
        if (k && test_section(t, "softmax, special values")) test_softmax_special(t, k);
    }
}
