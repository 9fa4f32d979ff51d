/* The driver of all matrix products, private to tensor/kernel: C[b] (+)= A[b] B[b] (+ bias) (+ add), with A and B given as
 * functions that copy ("pack") pieces of them into panels. A packer may read a plain matrix of any type, or gather
 * image columns for a convolution; the arithmetic is the driver's alone, and is the same for all: see k_matmul in
 * kernels.h. */
#ifndef TN_K_GEMM_H
#define TN_K_GEMM_H

#include "tensor/kernel/simd.h"

enum {
    GEMM_ROWS = V_TILE_ROWS,                /* the register tile: GEMM_ROWS x GEMM_COLS elements of C */
    GEMM_COLS = V_TILE_VECS * V_LANES,
    GEMM_SLACK = V_LANES                    /* a packer of A may write that much past the end of the last panel */
};

/* Rows m0..m0+rows and k0..k0+kc of A[batch] in panels of `height` rows, height <= GEMM_ROWS, the last as high as
 * is left. A panel of h rows that begins with row m lies at dst + m kc, as [k][h]. */
typedef void gemm_pack_a(const void *ctx, int64_t batch, int64_t m0, int64_t rows, int64_t height, int64_t k0,
                         int64_t kc, float *dst);

/* k0..k0+kc and columns n0..n0+cols of B[batch] in panels of GEMM_COLS columns, as dst[panel][k][column]; zeros fill
 * the last panel's vector, and a second vector without columns is left as it is. */
typedef void gemm_pack_b(const void *ctx, int64_t batch, int64_t k0, int64_t kc, int64_t n0, int64_t cols, float *dst);

typedef struct gemm {
    int64_t M, N, K, batch;
    gemm_pack_a *pack_a;
    gemm_pack_b *pack_b;
    const void *a_ctx, *b_ctx;
    float *C; /* row stride ldc, batch stride c_step */
    int64_t ldc, c_step;
    int64_t span, span_step, col_step; /* column n: n / span * span_step + n % span * col_step (plain: N, 0, 1) */
    const void *bias; /* as in k_matmul */
    tn_dtype bias_type;
    const float *add; /* NULL, or laid out as C: added after the bias; col_step is then 1 */
    int bias_rows, acc, threads;
    void *scratch;
} gemm;

void K(gemm)(const gemm *g);
size_t K(gemm_scratch)(const gemm *g); /* bytes; of g, the sizes and threads are read */

/* The register tile by itself, for kernels that do their own blocking: t[rows][GEMM_COLS] (+)= A B over kc steps of k, with
 * A as [k][lda], its first `rows` <= GEMM_ROWS elements in use, and B a panel [k][GEMM_COLS] with `cols` columns in use.
 * `first` starts the chains from zero. */
void K(gemm_tile)(int64_t rows, int64_t kc, int64_t cols, const float *a, int64_t lda, const float *b, float *t, int first);

/* A plain matrix as either operand, for the packers below. */
typedef struct gemm_view {
    const void *base;
    tn_dtype type;
    int64_t ld, step; /* row stride as it lies, batch stride */
    int trans;        /* it lies transposed */
} gemm_view;

void K(pack_a_view)(const void *view, int64_t batch, int64_t m0, int64_t rows, int64_t height, int64_t k0, int64_t kc,
                    float *dst);
void K(pack_b_view)(const void *view, int64_t batch, int64_t k0, int64_t kc, int64_t n0, int64_t cols, float *dst);

#endif
