/* What forward and backward attention share, private to tensor/kernel: a product of matrices that lie in caches, and the
 * ways between rows (tokens x width, as the network has them) and lanes (width x tokens). */
#ifndef TN_K_ATTENTION_H
#define TN_K_ATTENTION_H

#include "tensor/kernel/k_table.h"

enum {
    ATTN_BLOCK = 80, /* tokens of a block; enters the arithmetic */
    ATTN_ROWS = V_TILE_ROWS >= 8 ? 8 : 5 /* rows of the register tile; both divide 80 and the usual widths 40, 80, 160 */
};

/* Element (r, t) of a matrix is at[r * row + t * step]. */
typedef struct attn_view {
    const float *at;
    int64_t row, step;
} attn_view;

/* What becomes of the sums A b of a product, c [rows][16 vecs] of row stride ldc. */
typedef struct attn_end {
    enum { ATTN_ADD, ATTN_PROB, ATTN_DS } kind;
    const float *of_row; /* [rows] */
    const float *prob;   /* as c */
    /* ATTN_ADD: c += sum; ATTN_PROB: c = 2^(sum - of_row); ATTN_DS: c = prob (sum - of_row) */
} attn_end;

/* A [rows][depth], b [depth][16 vecs] of row stride ldb; the sum over depth is one chain from 0. Rows are done ATTN_ROWS
 * at a time: A, c, of_row and prob have that many, the ones behind `rows` holding anything. */
void K(attn_product)(attn_view a, int64_t rows, int64_t depth, const float *b, int64_t ldb, int64_t vecs, float *c,
                     int64_t ldc, attn_end end);

/* c [rows][D] += A b, for b [depth][D] as attn_twice leaves it. */
void K(attn_product_rows)(attn_view a, int64_t rows, int64_t depth, const float *b, int64_t ldb, int64_t D, float *c,
                          int64_t ldc);
/* Where the last vector of a row of b is at most half full, puts its half into the other half too. */
void K(attn_twice)(float *b, int64_t ldb, int64_t depth, int64_t D);

/* xt [D][ld] = factor x^T for x [n][D] of row stride `stride`; zeros in the lanes up to the next vector. */
void K(attn_to_lanes)(const float *x, int64_t stride, int64_t n, int64_t D, float factor, float *xt, int64_t ld);
/* x = (xt factor)^T, one factor per lane. */
void K(attn_from_lanes)(const float *xt, int64_t ld, int64_t n, int64_t D, const float *factor, float *x, int64_t stride);

/* Scores are made in units of log 2, exp(x) = 2^(x / log 2), for v_exp2 is cheaper than v_exp: the factor of q. */
static inline float attn_scale(const k_attention *p) { return (float)(1.4426950408889634 * (double)p->scale); }

/* One head of x [B,length,H*D] is copied into consecutive rows before it is used: in the network's layout, rows lie
 * H*D floats apart, and where that is a multiple of 1 KB or so they would all fall into a few sets of the first-level
 * cache. For the same reason a row takes an odd number of cache lines. */
static inline int64_t attn_pitch(int64_t D) { return (ceil_div(D, V_LANES) | 1) * V_LANES; }
static inline int64_t attn_packed_floats(int64_t length, int64_t D) {
    return round_up(length, ATTN_ROWS) * attn_pitch(D) + V_LANES;
}

/* All heads of x [B,length,H*D], times factor: dst [B*H][attn_packed_floats], a row of a head every attn_pitch floats. */
void K(attn_pack)(const float *x, int64_t B, int64_t length, int64_t H, int64_t D, float factor, int threads, float *dst);

#endif
