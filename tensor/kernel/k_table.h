/* The one list of kernels: prototypes for the files that define them, and the table of kernels.c, both for one
 * instruction set. Private to tensor/kernel; the rest of the tree sees kernels.h, where each entry is explained. */
#ifndef TN_K_TABLE_H
#define TN_K_TABLE_H

#include "tensor/kernel/simd.h"

#define K_LIST(X) \
    X(void, matmul, (const k_matmul *p)) \
    X(size_t, matmul_scratch, (const k_matmul *p)) \
    X(void, conv, (const k_conv *p)) \
    X(void, conv_dx, (const k_conv *p)) \
    X(void, conv_dw, (const k_conv *p)) \
    X(size_t, conv_scratch, (const k_conv *p)) \
    X(size_t, conv_dw_scratch, (const k_conv *p)) \
    X(void, winograd, (const k_conv *p)) \
    X(void, winograd_dx, (const k_conv *p)) \
    X(size_t, winograd_scratch, (const k_conv *p)) \
    X(void, winograd_dw, (const k_conv *p)) \
    X(size_t, winograd_dw_scratch, (const k_conv *p)) \
    X(void, attention, (const k_attention *p)) \
    X(void, attention_backward, (const k_attention *p)) \
    X(size_t, attention_scratch, (const k_attention *p)) \
    X(size_t, attention_backward_scratch, (const k_attention *p)) \
    X(void, group_norm, (const k_group_norm *p)) \
    X(void, group_norm_backward, (const k_group_norm *p)) \
    X(size_t, group_norm_scratch, (const k_group_norm *p)) \
    X(void, layer_norm, (const k_layer_norm *p)) \
    X(void, layer_norm_backward, (const k_layer_norm *p)) \
    X(size_t, layer_norm_scratch, (const k_layer_norm *p)) \
    X(void, softmax, (int64_t rows, int64_t n, const float *x, float *y)) \
    X(void, softmax_backward, (int64_t rows, int64_t n, const float *y, const float *dy, float *dx, int acc)) \
    X(void, unary, (k_fn fn, int64_t n, const float *x, float *y)) \
    X(void, unary_backward, (k_fn fn, int64_t n, const float *x, const float *dy, float *dx, int acc)) \
    X(void, geglu, (int64_t rows, int64_t n, const float *x, float *y)) \
    X(void, geglu_backward, (int64_t rows, int64_t n, const float *x, const float *dy, float *dx, int acc)) \
    X(void, add, (int64_t n, const float *a, const float *b, float *y)) \
    X(void, axpby, (int64_t n, float a, const float *x, float b, const float *y, float *z)) \
    X(void, mul, (int64_t n, const float *a, const float *b, float *y, int acc)) \
    X(void, widen, (int64_t n, const void *x, tn_dtype type, float *y)) \
    X(void, column_sum, (int64_t rows, int64_t n, const float *x, int64_t ld, float *y, int acc)) \
    X(float, sum, (int64_t n, const float *x)) \
    X(float, dot, (int64_t n, const float *a, const float *b)) \
    X(float, sum_sq_diff, (int64_t n, const float *a, const float *b, const float *w)) \
    X(void, adamw, (int64_t n, float *p, const float *g, float *m, float *v, double lr, double beta1, double beta2, \
                    double eps, double weight_decay, double step_size, double sqrt_bc2)) \
    X(float, peak, (int64_t n))

#define K_PROTOTYPE(ret, name, args) ret K(name) args;
K_LIST(K_PROTOTYPE)
#undef K_PROTOTYPE

#endif
