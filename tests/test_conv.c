/* Convolution bit for bit: every result is one chain of fused multiply-adds in the order that kernels.h promises, whatever way the
 * shape is cut; on each instruction set and for several numbers of threads. Errors against doubles, and writes outside:
 * test_matmul.c. */
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/kernel/kernels.h"

static uint64_t seed = 7;

static float *numbers(int64_t n) {
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    if (!x) abort();
    for (int64_t i = 0; i < n; i++) x[i] = test_rand(&seed);
    return x;
}

/* x[b, c, h, w] of images H x W, 0 outside. */
static float at(const float *x, int64_t channel, int64_t H, int64_t W, int64_t h, int64_t w) {
    return h >= 0 && h < H && w >= 0 && w < W ? x[(channel * H + h) * W + w] : 0;
}

/* What is added to the sum of element i of y, in order. */
static float added(const k_conv *p, int64_t i, float s, float y) {
    int64_t image = i / p->Q / p->P; /* and output */
    s = s + ((const float *)p->bias)[image % p->O];
    if (p->shift) s = s + p->shift[image];
    s = s + p->add[i];
    return p->acc ? s + y : s;
}

static void chain_y(const k_conv *p, float *y) {
    for (int64_t i = 0; i < p->batch * p->O * p->P * p->Q; i++) {
        int64_t q = i % p->Q, r = i / p->Q % p->P, o = i / p->Q / p->P % p->O, b = i / p->Q / p->P / p->O;
        float s = 0;
        for (int64_t k = 0; k < p->C * p->KH * p->KW; k++) {
            int64_t c = k / p->KW / p->KH, h = r * p->stride + k / p->KW % p->KH - p->top, w = q * p->stride + k % p->KW - p->left;
            s = fmaf(((const float *)p->w)[o * p->C * p->KH * p->KW + k], at(p->x, b * p->C + c, p->H, p->W, h, w), s);
        }
        y[i] = p->bias ? added(p, i, s, y[i]) : s;
    }
}

/* Only taps that meet output pixels for some size of the image are in the chain: those of the pixel's phase. */
static void chain_dx(const k_conv *p, float *dx) {
    for (int64_t n = 0; n < p->batch * p->C * p->H * p->W; n++) {
        int64_t w = n % p->W, h = n / p->W % p->H, c = n / p->W / p->H % p->C, b = n / p->W / p->H / p->C;
        float s = 0;
        for (int64_t o = 0; o < p->O; o++)
            for (int64_t i = 0; i < p->KH; i++)
                for (int64_t j = 0; j < p->KW; j++) {
                    int64_t r = h + p->top - i, q = w + p->left - j;
                    if (r % p->stride || q % p->stride) continue;
                    float v = at(p->dy, b * p->O + o, p->P, p->Q, r / p->stride, q / p->stride);
                    s = fmaf(((const float *)p->w)[((o * p->C + c) * p->KH + i) * p->KW + j], v, s);
                }
        dx[n] = p->acc ? s + dx[n] : s;
    }
}

static void chain_dw(const k_conv *p, float *dw) {
    for (int64_t n = 0; n < p->O * p->C * p->KH * p->KW; n++) {
        int64_t j = n % p->KW, i = n / p->KW % p->KH, c = n / p->KW / p->KH % p->C, o = n / p->KW / p->KH / p->C;
        float s = 0;
        for (int64_t k = 0; k < p->batch * p->P * p->Q; k++) {
            int64_t q = k % p->Q, r = k / p->Q % p->P, b = k / p->Q / p->P;
            float x = at(p->x, b * p->C + c, p->H, p->W, r * p->stride + i - p->top, q * p->stride + j - p->left);
            s = fmaf(p->dy[((b * p->O + o) * p->P + r) * p->Q + q], x, s);
        }
        dw[n] = p->acc ? s + dw[n] : s;
    }
}

/* Where x is doubled first: the convolution with stride 2 from y to x whose window is e = (w2, w1 + w2, w0 + w1, w0) in each
 * direction. Forward is its dx, dx is it forward, and dw gathers its dw. */
static k_conv folded(const k_conv *p, float *e) {
    const float *w = p->w;
    for (int64_t n = 0; n < p->C * p->O * 16; n++) {
        int64_t j = n % 4, i = n / 4 % 4, o = n / 16 % p->O, c = n / 16 / p->O;
        const float *at = w + (o * p->C + c) * 9;
        float sum[3];
        for (int64_t k = 0; k < 3; k++) sum[k] = i == 0 ? at[6 + k] : i == 3 ? at[k] : at[3 * (2 - i) + k] + at[3 * (3 - i) + k];
        e[n] = j == 0 ? sum[2] : j == 3 ? sum[0] : sum[2 - j] + sum[3 - j];
    }
    k_conv q = {.batch = p->batch, .C = p->O, .H = p->P, .W = p->Q, .O = p->C, .KH = 4, .KW = 4, .P = p->H, .Q = p->W, .stride = 2,
                .top = 1, .left = 1, .x = p->dy, .dy = p->x, .w = e};
    return q;
}

static void chain_doubled(const k_conv *p, int which, float *out) {
    int64_t ny = p->batch * p->O * p->P * p->Q, nx = p->batch * p->C * p->H * p->W, ne = p->C * p->O * 16;
    float *e = numbers(ne), *sum = numbers(ny > nx ? (ny > ne ? ny : ne) : nx > ne ? nx : ne);
    k_conv q = folded(p, e);
    (which == 0 ? chain_dx : which == 1 ? chain_y : chain_dw)(&q, sum);
    for (int64_t i = 0; which == 0 && i < ny; i++) out[i] = added(p, i, sum[i], out[i]);
    for (int64_t i = 0; which == 1 && i < nx; i++) out[i] = p->acc ? sum[i] + out[i] : sum[i];
    for (int64_t n = 0; which == 2 && n < p->O * p->C * 9; n++) {
        int64_t j = 2 - n % 3, i = 2 - n / 3 % 3, c = n / 9 % p->C, o = n / 9 / p->C;
        const float *de = sum + (c * p->O + o) * 16;
        float dw = (de[4 * i + j] + de[4 * i + 4 + j]) + (de[4 * i + j + 1] + de[4 * i + 5 + j]);
        out[n] = p->acc ? dw + out[n] : dw;
    }
    free(e), free(sum);
}

/* One of forward, dx, dw on one table; the result, to be freed. */
static float *run(const tn_kernels *k, k_conv p, int which, const float *before, int64_t n) {
    void *aligned = NULL; /* only then may results go past the caches */
    float *out = posix_memalign(&aligned, 64, (size_t)n * sizeof *out) ? NULL : aligned;
    size_t size = (which == 2 ? k->conv_dw_scratch : k->conv_scratch)(&p);
    char *block = malloc(size + 64);
    if (!out || !block) abort();
    memcpy(out, before, (size_t)n * sizeof *out);
    memset(block, 0xff, size + 64); /* NaN, wherever a lane that counts is not written */
    p.scratch = block + (64 - (uintptr_t)block % 64) % 64;
    if (which == 0) p.y = out, k->conv(&p);
    if (which == 1) p.dx = out, k->conv_dx(&p);
    if (which == 2) p.dw = out, k->conv_dw(&p);
    free(block);
    return out;
}

static void check(test_state *t, k_conv p, int which) {
    static const char *names[] = {"scalar", "avx2", "avx512", "neon"}, *what[] = {"conv", "conv_dx", "conv_dw"};
    int64_t sizes[] = {p.batch * p.O * p.P * p.Q, p.batch * p.C * p.H * p.W, p.O * p.C * p.KH * p.KW}, n = sizes[which];
    float *before = numbers(n), *want = malloc((size_t)n * sizeof *want);
    if (!want) abort();
    memcpy(want, before, (size_t)n * sizeof *want);
    if (p.doubled) chain_doubled(&p, which, want);
    else (which == 0 ? chain_y : which == 1 ? chain_dx : chain_dw)(&p, want);
    for (int s = 0; s < 4; s++) {
        int known;
        const tn_kernels *k = tn_kernels_named(names[s], &known);
        for (int z = 0, threads; k && (threads = (int[]){1, 2, 3, 7, 0}[z]); z++) {
            p.threads = threads;
            float *out = run(k, p, which, before, n);
            int64_t wrong = 0;
            for (int64_t i = 0; i < n; i++) wrong += memcmp(&out[i], &want[i], sizeof *out) != 0;
            CHECKF(t, !wrong, "%s%s, %s, %d threads: x %dx%dx%dx%d w %dx%dx%d stride %d: %d of %d elements are not the chain", what[which],
                   p.doubled ? " doubled" : "", names[s], threads, (int)p.batch, (int)p.C, (int)p.H, (int)p.W, (int)p.O, (int)p.KH, (int)p.KW, p.stride,
                   (int)wrong, (int)n);
            free(out);
        }
    }
    free(before), free(want);
}

static void check_all(test_state *t, k_conv p) {
    float *x = numbers(p.batch * p.C * p.H * p.W), *w = numbers(p.O * p.C * p.KH * p.KW), *bias = numbers(p.O);
    float *dy = numbers(p.batch * p.O * p.P * p.Q), *shift = numbers(p.batch * p.O), *add = numbers(p.batch * p.O * p.P * p.Q);
    p.x = x, p.w = w, p.bias = bias, p.dy = dy, p.shift = shift, p.add = add;
    for (int which = 0; which < 3; which++) check(t, p, which);
    p.shift = NULL; /* then a 1x1 window may be a matrix product */
    for (int which = 0; which < 3 && p.KH * p.KW == 1; which++) check(t, p, which);
    free(x), free(w), free(bias), free(dy), free(shift), free(add);
}

void test_main(test_state *t) {
    /* batch, C, H, W, O, KH, KW, P, Q, stride, top, left */
    static const int cases[][12] = {
        {1, 5, 20, 32, 30, 3, 3, 20, 32, 1, 1, 1},    /* rows of whole vectors, two regions, three panels */
        {1, 3, 9, 160, 4, 3, 3, 9, 160, 1, 1, 1},     /* stripes of columns */
        {1, 2, 13, 150, 3, 3, 3, 13, 150, 1, 1, 1},   /* stripes, the last vector not full */
        {1, 70, 8, 8, 15, 3, 3, 8, 8, 1, 1, 1},       /* two rows a vector, blocks of channels */
        {7, 4, 8, 8, 33, 3, 3, 8, 8, 1, 1, 1},        /* several images in a region */
        {3, 3, 5, 5, 4, 3, 3, 5, 5, 1, 1, 1},         /* images that end within a vector */
        {1, 6, 16, 64, 7, 3, 3, 8, 32, 2, 1, 1},      /* stride 2, rows of whole vectors */
        {2, 6, 18, 22, 7, 3, 3, 9, 11, 2, 1, 1},      /* stride 2, not */
        {1, 4, 17, 65, 5, 3, 3, 8, 32, 2, 0, 0},      /* stride 2, padding to the right and below */
        {1, 3, 20, 70, 2, 5, 4, 5, 16, 4, 1, 1},      /* stride 4, window as long */
        {2, 70, 8, 8, 64, 3, 3, 8, 8, 1, 1, 1},       /* small images: blocks of channels */
        {9, 66, 4, 4, 80, 3, 3, 4, 4, 1, 1, 1},       /* groups of them, a panel of one vector */
        {1, 34, 5, 31, 47, 3, 3, 5, 31, 1, 1, 1},     /* several tiles a row, rows of M that are no whole vector */
        {2, 35, 41, 30, 36, 3, 3, 41, 30, 1, 1, 1},   /* tasks of a part of an image, the rest with a part of the next */
        {3, 33, 6, 1, 32, 3, 3, 6, 1, 1, 1, 1},       /* one column: both its neighbours are outside */
        {2, 33, 1, 7, 32, 3, 3, 1, 7, 1, 1, 1},       /* one row */
        {2, 300, 3, 11, 17, 1, 1, 3, 11, 1, 0, 0},    /* 1x1 */
        {1, 50, 16, 17, 37, 1, 1, 16, 17, 1, 0, 0},   /* 1x1, many pixels, adding */
        {2, 18, 20, 13, 33, 1, 1, 20, 13, 1, 0, 0},   /* the same, two images */
        {1, 9, 6, 12, 5, 1, 1, 3, 6, 2, 0, 0},        /* 1x1, stride 2: phases without taps */
        {1, 2, 12, 10, 3, 7, 7, 12, 10, 1, 3, 3},     /* a large window */
        {1, 3, 6, 4, 2, 3, 3, 10, 18, 1, 3, 8},       /* padding wider than the image */
        {2, 30, 4, 3, 43, 3, 3, 4, 3, 1, 1, 1},       /* fewer pixels than outputs: whole panels and a last one */
        {2, 5, 4, 9, 75, 3, 3, 4, 9, 1, 1, 1},        /* the same, adding to dw */
        {1, 7, 7, 9, 29, 3, 3, 3, 4, 2, 0, 1},        /* the same, stride 2 */
        {1, 3, 2, 19, 60, 3, 3, 2, 19, 1, 1, 1},      /* the same, rows longer than a vector */
        {2, 37, 7, 11, 4, 3, 3, 7, 11, 1, 1, 1},      /* few outputs */
        {1, 40, 9, 8, 3, 4, 3, 7, 10, 1, 1, 2},       /* the same, adding, an even window, more padding */
        {1, 33, 2, 3, 8, 3, 3, 2, 3, 1, 1, 1},        /* the same with fewer pixels than channels */
        {1, 704, 1, 1, 1000, 3, 3, 1, 1, 1, 1, 1},    /* dw, adding, larger than the caches */
        {1, 704, 1, 1, 1000, 3, 3, 1, 1, 1, 1, 1},    /* the same, past them */
        {1, 63, 35, 130, 62, 3, 3, 35, 130, 1, 1, 1}, /* an image that is copied: stripes of columns, blocks of channels */
        {2, 31, 67, 62, 32, 3, 3, 67, 62, 1, 1, 1},   /* two of them, adding */
        {1, 32, 2, 2100, 31, 3, 3, 2, 2100, 1, 1, 1}, /* two rows */
    };
    /* doubled: batch, C, H, W, O */
    static const int doubled[][5] = {
        {1, 70, 5, 16, 30},  /* rows of whole vectors, blocks of channels */
        {1, 3, 21, 96, 4},   /* stripes of columns */
        {1, 5, 9, 150, 15},  /* the last vector not full */
        {1, 40, 8, 8, 29},   /* two rows a vector */
        {3, 4, 5, 7, 6},     /* images that end within a vector */
        {2, 2, 1, 1, 3},     /* one pixel */
    };
    if (test_section(t, "chains")) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            const int *c = cases[i];
            k_conv p = {.batch = c[0], .C = c[1], .H = c[2], .W = c[3], .O = c[4], .KH = c[5], .KW = c[6], .P = c[7], .Q = c[8],
                        .stride = c[9], .top = c[10], .left = c[11], .acc = (int)i & 1};
            check_all(t, p);
        }
    }
    if (test_section(t, "doubled")) {
        for (size_t i = 0; i < sizeof doubled / sizeof doubled[0]; i++) {
            const int *c = doubled[i];
            k_conv p = {.batch = c[0], .C = c[1], .H = c[2], .W = c[3], .O = c[4], .KH = 3, .KW = 3, .P = 2 * c[2], .Q = 2 * c[3],
                        .stride = 1, .top = 1, .left = 1, .acc = (int)i & 1, .doubled = 1};
            check_all(t, p);
        }
    }
}
