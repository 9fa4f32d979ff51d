/* The kernel table: what is hot enough to be compiled once per instruction set.
 *
 * Each k_*.c is written once on simd.h (16 lanes) and compiled per instruction set; kernels.c gathers one compile's
 * functions in a table, tn_kernels_NAME. cpu.c picks the table. Every kernel computes the same bits on every
 * instruction set and for any number of threads: what enters the arithmetic (order of summation, key blocks, splits)
 * depends on shapes only; how the work is cut into tiles does not enter it.
 *
 * Conventions: row-major float32 unless a type says otherwise; `acc` != 0 adds to the destination (gradients), 0
 * overwrites it; NULL gradient destinations are skipped. Kernels that take `threads` call tn_parallel_for themselves;
 * `scratch` points to at least KERNEL_scratch(p) bytes, 64-byte aligned (dry runs ask for the size with the same
 * struct). The others work on the range that they are given and are called from inside a parallel loop. */
#ifndef TN_KERNELS_H
#define TN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef enum { TN_F32, TN_F16, TN_BF16, TN_I64, TN_U8, TN_F64 } tn_dtype; /* the first three are computed with */

/* C[b] (+)= op(A[b]) op(B[b]) (+ bias) (+ add), with op(A) [M,K], op(B) [K,N], C [M,N], for b in 0..batch. Each element of C
 * is one chain of fused multiply-adds over k = 0..K-1 in order, starting from 0; bias, add and the old C are added after it. A
 * and B may lie as F32, F16 or BF16 (frozen weights as in the file) and are widened while panels are packed. */
typedef struct k_matmul {
    int64_t M, N, K, batch;
    const void *A; /* [M,K] or, with a_trans, [K,M]; row stride lda, batch stride a_step (elements; 0 shares one A) */
    const void *B; /* [K,N] or, with b_trans, [N,K] */
    float *C;      /* row stride ldc */
    int64_t lda, ldb, ldc, a_step, b_step, c_step;
    int a_trans, b_trans;
    tn_dtype a_type, b_type;
    const void *bias; /* NULL, or [N] (bias_rows 0), or [M] (bias_rows 1); one for all batches */
    tn_dtype bias_type;
    int bias_rows;
    const float *add; /* NULL, or a tensor laid out as C: a residual */
    int acc;
    int threads;
    void *scratch;
} k_matmul;

/* 2-D convolution, NCHW, weight [O,C,KH,KW] (PyTorch's cross-correlation), stride s, zero padding per side.
 * Forward: y[b,o,p,q] = sum over (c,i,j) in this order of w[o,c,i,j] x[b,c,p s + i - top, q s + j - left], then + bias[o],
 * + shift[b,o], + add[b,o,p,q], each where it is given.
 * dx: chain over (o,i,j). dw: chain over (b,p,q). Products with zeros of the padding may be missing, by the shape of an image alone:
 * they change a sum only where a weight is not finite, or the sum is -0 because it underflowed.
 *
 * doubled: x stands for an image of 2H x 2W that shows each pixel 2 x 2 times; KH = KW = 3, stride = top = left = 1, P = 2H, Q = 2W.
 * Taps that fall on the same pixel are added before they are multiplied (k_conv_doubled.c): 4 steps of a chain for each channel. */
typedef struct k_conv {
    int64_t batch, C, H, W, O, KH, KW, P, Q; /* P,Q: output height and width */
    int stride, top, left;                   /* bottom and right padding follow from P, Q */
    const float *x;                          /* [batch,C,H,W] */
    const void *w;                           /* [O,C,KH,KW] of w_type */
    tn_dtype w_type;
    const void *bias; /* NULL or [O] of bias_type */
    tn_dtype bias_type;
    const float *shift; /* NULL or [batch,O]: the time embedding */
    const float *add;   /* NULL or like y: a residual */
    float *y;        /* forward: [batch,O,P,Q] */
    const float *dy; /* backward: [batch,O,P,Q] */
    float *dx, *dw, *dbias;
    int tile;    /* Winograd's: 4 or 2 */
    int doubled; /* conv, conv_dx, conv_dw: see above */
    int acc;
    int threads;
    void *scratch;
} k_conv;

/* Multi-head attention; heads are contiguous slices of the last axis. q [B,N,H*D], k and v [B,M,H*D], y like q.
 * y = softmax(scale q k^T (causal: keys j <= i only)) v, streaming over key blocks (of a size that depends on shapes
 * only), so that probabilities are never stored whole. lse [B,H,N] = log2 sum exp of the scaled scores, kept for
 * backward. */
typedef struct k_attention {
    int64_t B, N, M, H, D;
    const float *q, *k, *v;
    float *y, *lse;
    float scale;
    int causal;
    const float *dy;       /* backward: also reads y and lse */
    float *dq, *dk, *dv;   /* each may be NULL; acc_* says whether it adds */
    int acc_q, acc_k, acc_v;
    int threads;
    void *scratch;
} k_attention;

/* Group norm over [B,C,S] with S = H*W; the statistics of one group are over C/G * S elements, variance biased.
 * mean and rstd [B,G] are written forward and read backward. silu != 0 applies SiLU to the result in the same pass. */
typedef struct k_group_norm {
    int64_t B, C, S, G;
    float eps;
    int silu;
    const float *x;
    const void *gamma, *beta; /* [C] of type wtype */
    tn_dtype wtype;
    float *y, *mean, *rstd;
    const float *dy;
    float *dx, *dgamma, *dbeta; /* backward */
    int acc_x, acc_w;
    int threads;
    void *scratch;
} k_group_norm;

/* Layer norm over the last axis of [R,C]. */
typedef struct k_layer_norm {
    int64_t R, C;
    float eps;
    const float *x;
    const void *gamma, *beta; /* [C] of type wtype */
    tn_dtype wtype;
    float *y, *mean, *rstd; /* [R] */
    const float *dy;
    float *dx, *dgamma, *dbeta;
    int acc_x, acc_w;
    int threads;
    void *scratch;
} k_layer_norm;

/* K_GELU is the form with erf. */
typedef enum { K_SILU, K_GELU, K_QUICK_GELU, K_SIGMOID, K_EXP, K_LOG, K_TANH, K_ERF, K_SIN, K_COS } k_fn;

enum { K_PEAK_FMAS = 12 * 16 };

typedef struct tn_kernels {
    const char *name; /* "scalar", "avx2", "avx512", "neon" */

    /* k_matmul.c, k_conv.c */
    void (*matmul)(const k_matmul *p);
    size_t (*matmul_scratch)(const k_matmul *p);
    void (*conv)(const k_conv *p);
    void (*conv_dx)(const k_conv *p);
    void (*conv_dw)(const k_conv *p); /* dw and dbias */
    size_t (*conv_scratch)(const k_conv *p); /* the larger of conv and conv_dx */
    size_t (*conv_dw_scratch)(const k_conv *p);

    /* k_winograd.c: the same sums for windows of 3x3 and stride 1, by transforms of tiles */
    void (*winograd)(const k_conv *p);
    void (*winograd_dx)(const k_conv *p);
    size_t (*winograd_scratch)(const k_conv *p); /* the larger of the two */
    void (*winograd_dw)(const k_conv *p);        /* dw alone, always in tiles of 4 */
    size_t (*winograd_dw_scratch)(const k_conv *p);

    /* k_attention.c, k_attention_backward.c */
    void (*attention)(const k_attention *p);
    void (*attention_backward)(const k_attention *p);
    size_t (*attention_scratch)(const k_attention *p);
    size_t (*attention_backward_scratch)(const k_attention *p);

    /* k_norm.c */
    void (*group_norm)(const k_group_norm *p);
    void (*group_norm_backward)(const k_group_norm *p);
    size_t (*group_norm_scratch)(const k_group_norm *p);
    void (*layer_norm)(const k_layer_norm *p);
    void (*layer_norm_backward)(const k_layer_norm *p);
    size_t (*layer_norm_scratch)(const k_layer_norm *p);
    void (*softmax)(int64_t rows, int64_t n, const float *x, float *y);                 /* over the last axis */
    void (*softmax_backward)(int64_t rows, int64_t n, const float *y, const float *dy, float *dx, int acc);

    /* k_unary.c: elementwise over n */
    void (*unary)(k_fn fn, int64_t n, const float *x, float *y);
    /* dx (+)= dy fn'(x); K_SILU to K_SIGMOID only */
    void (*unary_backward)(k_fn fn, int64_t n, const float *x, const float *dy, float *dx, int acc);
    /* x [rows,2n], y [rows,n] = x[:n] * gelu(x[n:]) */
    void (*geglu)(int64_t rows, int64_t n, const float *x, float *y);
    void (*geglu_backward)(int64_t rows, int64_t n, const float *x, const float *dy, float *dx, int acc);

    /* k_basic.c: elementwise over n, at memory bandwidth */
    void (*add)(int64_t n, const float *a, const float *b, float *y);           /* y = a + b; y may be a */
    /* z = fma(a, x, b*y); y may be NULL with b 0: z = a x */
    void (*axpby)(int64_t n, float a, const float *x, float b, const float *y, float *z);
    void (*mul)(int64_t n, const float *a, const float *b, float *y, int acc);  /* y (+)= a * b */
    void (*widen)(int64_t n, const void *x, tn_dtype type, float *y);           /* F16, BF16, F32 to F32, exact */
    /* y[j] (+)= x[0][j] + x[1][j] + ..: one chain for each of n columns of x [rows][ld] */
    void (*column_sum)(int64_t rows, int64_t n, const float *x, int64_t ld, float *y, int acc);
    /* Reductions in the fixed order of simd.h: 16 lanes over n in order, then the tree. */
    float (*sum)(int64_t n, const float *x);
    float (*dot)(int64_t n, const float *a, const float *b);
    float (*sum_sq_diff)(int64_t n, const float *a, const float *b, const float *w); /* sum w (a-b)^2; w NULL = 1 */
    /* One AdamW step on n parameters, PyTorch's order: p *= 1 - lr*wd; m, v updated; p -= step_size * m /
     * (sqrt(v)/sqrt_bc2 + eps) with step_size = lr / (1 - beta1^t), sqrt_bc2 = sqrt(1 - beta2^t) computed by the caller
     * in double. */
    void (*adamw)(int64_t n, float *p, const float *g, float *m, float *v, double lr, double beta1, double beta2,
                  double eps, double weight_decay, double step_size, double sqrt_bc2);
    /* n times K_PEAK_FMAS multiply-adds in registers, as fast as the machine can: what `oneword bench` measures
     * against. The result is there so that nothing is optimised away. */
    float (*peak)(int64_t n);
} tn_kernels;

/* The tables of this build; the ones the compiler could not make are absent (TN_HAVE_NAME). */
extern const tn_kernels tn_kernels_scalar;
#ifdef TN_HAVE_avx2
extern const tn_kernels tn_kernels_avx2;
#endif
#ifdef TN_HAVE_avx512
extern const tn_kernels tn_kernels_avx512;
#endif
#ifdef TN_HAVE_neon
extern const tn_kernels tn_kernels_neon;
#endif

/* cpu.c: the best table this machine can run, chosen once. */
const tn_kernels *tn_kernels_best(void);
/* By name; NULL where the name is unknown (*known = 0) or the machine or the build lacks it (*known = 1). */
const tn_kernels *tn_kernels_named(const char *name, int *known);

#endif
