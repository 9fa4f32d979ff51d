/* The transforms of Winograd's convolution in one dimension (Lavin and Gray, "Fast algorithms for convolutional neural networks",
 * 1509.09308; the construction is Toom and Cook's).
 *
 * Three taps g on m + 2 pixels d give m outputs y[k] = sum of g[i] d[k+i]. Read as polynomials, this is the transpose of a
 * product of degree m + 1, which is known from its values at m + 1 points p and at infinity:
 *
 *   y = A^T [ (G g) * (B^T d) ]              one product for each point, m + 2 in place of 3 m
 *
 *   G row p      1, p, p^2                   value of the taps;   at infinity 0, 0, 1
 *   B^T row p    coefficients of the product of (z - q) over the other points q; at infinity over all points
 *   A^T column p N 1, N p, ..., N p^(m-1)    with N = 1 / product of (p - q); at infinity 0, ..., 0, 1
 *
 * In two dimensions each transform is applied to columns, then to rows: 36 products for 16 pixels rather than 144
 * (m = 4), or 16 for 4 rather than 36 (m = 2).
 *
 * Points. m = 2 takes 0, 1, -1 and infinity: all factors are 1 or 1/2. For m = 4 the textbook's 0, 1, -1, 2, -2 make large
 * numbers that cancel. With a multiply-add any pair +-p costs the same, so we take +-5/8 and +-3/2 (Intel's oneDNN does
 * too), which are near the best: on normal data with 64 channels, error^2 / output^2 is 6e-13 against 28e-13 of the
 * textbook's points, and 1.6e-13 of the direct sum. Squares and products of the points are exact; the N are rounded.
 *
 * Pairs of points share their even and odd parts: for q the other point of m = 4,
 *   B^T row +-p  (d4 - q^2 d2) +- p (d3 - q^2 d1)         G row +-p  (g0 + p^2 g2) +- p g1
 *   A^T          N (m+ + m-), N p (m+ - m-), N p^2 (m+ + m-), N p^3 (m+ - m-)
 *
 * The gradient of the taps is the transpose of the same: dg = G^T [ (A dy) * (B^T d) ]. */
#ifndef TN_K_WINOGRAD_POINTS_H
#define TN_K_WINOGRAD_POINTS_H

#include "tensor/kernel/simd.h"

/* ---- one dimension: vectors of d at distance s, of r at distance t, in memory ---- */

/* In double, where all but the divisions are exact, and rounded once. */
#define P1 0.625
#define P2 1.5
#define Q1 (P1 * P1)
#define Q2 (P2 * P2)
#define N0 (1 / (Q1 * Q2))
#define N1 (1 / (2 * Q1 * (Q1 - Q2)))
#define N2 (1 / (2 * Q2 * (Q2 - Q1)))

static inline v16 scaled(double s, v16 x) { return v_mul(v_set1((float)s), x); }
static inline v16 plus(v16 c, double s, v16 x) { return v_fma(v_set1((float)s), x, c); } /* c + s x */

static inline void data4(const v16 d[6], float *r, int64_t t) {
    v16 even1 = plus(d[4], -Q2, d[2]), odd1 = plus(d[3], -Q2, d[1]);
    v16 even2 = plus(d[4], -Q1, d[2]), odd2 = plus(d[3], -Q1, d[1]);
    v_store(r, plus(plus(d[4], -(Q1 + Q2), d[2]), Q1 * Q2, d[0]));
    v_store(r + t, plus(even1, P1, odd1)), v_store(r + 2 * t, plus(even1, -P1, odd1));
    v_store(r + 3 * t, plus(even2, P2, odd2)), v_store(r + 4 * t, plus(even2, -P2, odd2));
    v_store(r + 5 * t, plus(plus(d[5], -(Q1 + Q2), d[3]), Q1 * Q2, d[1]));
}

static inline void data2(const v16 d[4], float *r, int64_t t) {
    v_store(r, v_sub(d[0], d[2])), v_store(r + t, v_add(d[1], d[2]));
    v_store(r + 2 * t, v_sub(d[2], d[1])), v_store(r + 3 * t, v_sub(d[3], d[1]));
}

static inline void weight4(v16 g0, v16 g1, v16 g2, v16 r[6]) {
    v16 even1 = plus(g0, Q1, g2), even2 = plus(g0, Q2, g2);
    r[0] = g0, r[1] = plus(even1, P1, g1), r[2] = plus(even1, -P1, g1);
    r[3] = plus(even2, P2, g1), r[4] = plus(even2, -P2, g1), r[5] = g2;
}

static inline void weight2(v16 g0, v16 g1, v16 g2, v16 r[4]) {
    v16 even = v_add(g0, g2);
    r[0] = g0, r[1] = v_add(even, g1), r[2] = v_sub(even, g1), r[3] = g2;
}

static inline void result4(const float *m, int64_t s, v16 r[4]) {
    v16 m0 = v_load(m), m1 = v_load(m + s), m2 = v_load(m + 2 * s), m3 = v_load(m + 3 * s), m4 = v_load(m + 4 * s);
    v16 m5 = v_load(m + 5 * s), sum1 = v_add(m1, m2), dif1 = v_sub(m1, m2), sum2 = v_add(m3, m4), dif2 = v_sub(m3, m4);
    r[0] = plus(plus(scaled(N0, m0), N1, sum1), N2, sum2);
    r[1] = plus(scaled(N1 * P1, dif1), N2 * P2, dif2);
    r[2] = plus(scaled(N1 * Q1, sum1), N2 * Q2, sum2);
    r[3] = plus(plus(m5, N1 * Q1 * P1, dif1), N2 * Q2 * P2, dif2);
}

static inline void result2(const float *m, int64_t s, v16 r[4]) {
    v16 m0 = v_load(m), m1 = v_load(m + s), m2 = v_load(m + 2 * s), m3 = v_load(m + 3 * s);
    r[0] = plus(m0, 0.5, v_add(m1, m2)), r[1] = plus(m3, 0.5, v_sub(m1, m2));
}

/* A dy */
static inline void spread4(v16 d0, v16 d1, v16 d2, v16 d3, float *r, int64_t t) {
    v16 even1 = scaled(N1, plus(d0, Q1, d2)), odd1 = plus(d1, Q1, d3), even2 = scaled(N2, plus(d0, Q2, d2)), odd2 = plus(d1, Q2, d3);
    v_store(r, scaled(N0, d0)), v_store(r + t, plus(even1, N1 * P1, odd1)), v_store(r + 2 * t, plus(even1, -N1 * P1, odd1));
    v_store(r + 3 * t, plus(even2, N2 * P2, odd2)), v_store(r + 4 * t, plus(even2, -N2 * P2, odd2)), v_store(r + 5 * t, d3);
}

/* G^T m */
static inline void taps4(const v16 m[6], v16 r[3]) {
    v16 sum1 = v_add(m[1], m[2]), dif1 = v_sub(m[1], m[2]), sum2 = v_add(m[3], m[4]), dif2 = v_sub(m[3], m[4]);
    r[0] = v_add(v_add(m[0], sum1), sum2);
    r[1] = plus(scaled(P1, dif1), P2, dif2);
    r[2] = plus(plus(m[5], Q1, sum1), Q2, sum2);
}

#endif
