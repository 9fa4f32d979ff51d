/* The driver of all matrix products and its register tile, private to tensor/kernel. The arithmetic is that of k_matmul in
 * kernels.h: one chain of fused multiply-adds for each element, over ascending k. */
#ifndef TN_K_GEMM_H
#define TN_K_GEMM_H

#include "tensor/kernel/simd.h"

enum {
    GEMM_ROWS = V_TILE_ROWS, /* the register tile: GEMM_ROWS x GEMM_COLS elements of C */
    GEMM_COLS = V_TILE_VECS * V_LANES,
    GEMM_STEP = (GEMM_ROWS + 7) / 8 * 8 /* a step of k in a panel of A that lies transposed */
};

/* A matrix as it lies. */
typedef struct gemm_view {
    const void *base;
    tn_dtype type;
    int64_t ld, step; /* row stride as it lies, batch stride */
    int trans;        /* it lies transposed */
} gemm_view;

/* C[b] = A[b] B[b], + bias, + add, + the old C, each where it is asked for. `turned`: C and add lie transposed, element
 * (m, n) at n ldc + m. */
typedef struct gemm {
    int64_t M, N, K, batch;
    gemm_view A, B; /* [M,K], [K,N] */
    float *C;       /* row stride ldc, batch stride c_step */
    int64_t ldc, c_step;
    int turned;
    const void *bias; /* NULL, [N] or, with bias_rows, [M] */
    tn_dtype bias_type;
    int bias_rows;
    const float *add; /* NULL, or laid out as C */
    int acc, threads;
    void *scratch;
} gemm;

void K(gemm)(const gemm *g);
size_t K(gemm_scratch)(const gemm *g); /* bytes; of g, the sizes, types and threads are read */

/* Rows m0..m0+rows and k0..k0+kc of A[batch], widened, as dst[row * ld + k]; or, if A lies transposed, in panels of `height` <=
 * GEMM_ROWS rows, as dst[panel * ld + k * GEMM_STEP + row]. Copied along the rows in which it lies, in whole vectors: there is room
 * for one behind a row, or a panel. */
void K(pack_a)(const gemm_view *v, int64_t batch, int64_t m0, int64_t rows, int64_t k0, int64_t kc, int64_t height, float *dst,
               int64_t ld);

/* k0..k0+kc and columns n0..n0+cols of B[batch] in panels of GEMM_COLS columns, as dst[panel][k][column]; zeros fill
 * the last panel's vector, and a second vector without columns is left as it is. */
void K(pack_b)(const gemm_view *v, int64_t batch, int64_t k0, int64_t kc, int64_t n0, int64_t cols, float *dst);

/* The register tile by itself, for kernels that do their own blocking: t[rows][GEMM_COLS] (+)= A B over kc steps of k, with
 * A as [k][lda], its first `rows` <= GEMM_ROWS elements in use, and B a panel [k][GEMM_COLS] with `cols` columns in use.
 * `first` starts the chains from zero. */
void K(gemm_tile)(int64_t rows, int64_t kc, int64_t cols, const float *a, int64_t lda, const float *b, float *t, int first);

/* The same for any number of rows, in tiles of even height. */
static inline void gemm_rows(int64_t n, int64_t kc, int64_t cols, const float *a, int64_t lda, const float *b, float *t, int first) {
    int64_t height = ceil_div(n, ceil_div(n, GEMM_ROWS));
    for (int64_t r = 0; r < n; r += height)
        K(gemm_tile)(min64(height, n - r), kc, cols, a + r, lda, b, t + r * GEMM_COLS, first);
}

#endif
