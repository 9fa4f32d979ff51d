/* Elementwise work and reductions at the speed of memory. */
#include "tensor/kernel/k_table.h"

/* 0..n in steps of 16 with the lanes that are left: body sees i and m (16, or fewer in the last step). */
#define EACH_VECTOR(n, i, m) \
    for (int64_t i = 0, m = min64(16, n); i < (n); i += 16, m = min64(16, (n) - i))

static v16 take(const float *p, int64_t m) { return m == 16 ? v_load(p) : v_loadn(p, m); }

static void put(float *p, v16 x, int64_t m) {
    if (m == 16)
        v_store(p, x);
    else
        v_storen(p, x, m);
}

void K(add)(int64_t n, const float *a, const float *b, float *y) {
    EACH_VECTOR(n, i, m) put(y + i, v_add(take(a + i, m), take(b + i, m)), m);
}

void K(axpby)(int64_t n, float a, const float *x, float b, const float *y, float *z) {
    v16 va = v_set1(a), vb = v_set1(b);
    if (y) {
        EACH_VECTOR(n, i, m) put(z + i, v_fma(va, take(x + i, m), v_mul(vb, take(y + i, m))), m);
    } else {
        EACH_VECTOR(n, i, m) put(z + i, v_mul(va, take(x + i, m)), m);
    }
}

void K(mul)(int64_t n, const float *a, const float *b, float *y, int acc) {
    EACH_VECTOR(n, i, m) {
        v16 p = v_mul(take(a + i, m), take(b + i, m));
        put(y + i, acc ? v_add(take(y + i, m), p) : p, m);
    }
}

void K(widen)(int64_t n, const void *x, tn_dtype type, float *y) {
    EACH_VECTOR(n, i, m) put(y + i, m == 16 ? v_load_typed(x, type, i) : v_loadn_typed(x, type, i, m), m);
}

/* Long sums: blocks of 1024 elements in 16 lanes and the tree, the blocks in double and in order, so that the
 * rounding error does not grow with n. The lanes that a last vector lacks add zeros. */
enum { BLOCK = 1024 };

/* Four vectors at a time: an addition takes four cycles and each column is a chain of them. */
void K(column_sum)(int64_t rows, int64_t n, const float *x, int64_t ld, float *y, int acc) {
    int64_t j = 0;
    for (; j + 64 <= n; j += 64) {
        v16 s0 = v_zero(), s1 = s0, s2 = s0, s3 = s0;
        if (acc) s0 = v_load(y + j), s1 = v_load(y + j + 16), s2 = v_load(y + j + 32), s3 = v_load(y + j + 48);
        for (int64_t i = 0; i < rows; i++) {
            const float *r = x + i * ld + j;
            s0 = v_add(s0, v_load(r)), s1 = v_add(s1, v_load(r + 16));
            s2 = v_add(s2, v_load(r + 32)), s3 = v_add(s3, v_load(r + 48));
        }
        v_store(y + j, s0), v_store(y + j + 16, s1), v_store(y + j + 32, s2), v_store(y + j + 48, s3);
    }
    EACH_VECTOR(n - j, k, m) {
        v16 s = acc ? take(y + j + k, m) : v_zero();
        for (int64_t i = 0; i < rows; i++) s = v_add(s, take(x + i * ld + j + k, m));
        put(y + j + k, s, m);
    }
}

float K(sum)(int64_t n, const float *x) {
    double total = 0;
    for (int64_t j = 0; j < n; j += BLOCK) {
        v16 s = v_zero();
        EACH_VECTOR(min64(BLOCK, n - j), i, m) s = v_add(s, take(x + j + i, m));
        total += (double)v_reduce_add(s);
    }
    return (float)total;
}

float K(dot)(int64_t n, const float *a, const float *b) {
    double total = 0;
    for (int64_t j = 0; j < n; j += BLOCK) {
        v16 s = v_zero();
        EACH_VECTOR(min64(BLOCK, n - j), i, m) s = v_fma(take(a + j + i, m), take(b + j + i, m), s);
        total += (double)v_reduce_add(s);
    }
    return (float)total;
}

float K(sum_sq_diff)(int64_t n, const float *a, const float *b, const float *w) {
    double total = 0;
    for (int64_t j = 0; j < n; j += BLOCK) {
        v16 s = v_zero();
        EACH_VECTOR(min64(BLOCK, n - j), i, m) {
            v16 d = v_sub(take(a + j + i, m), take(b + j + i, m));
            s = v_fma(w ? v_mul(d, take(w + j + i, m)) : d, d, s);
        }
        total += (double)v_reduce_add(s);
    }
    return (float)total;
}

/* Loshchilov and Hutter, "Decoupled weight decay regularization", algorithm 2, with the roundings of PyTorch's
 * single-tensor AdamW on float tensors: every scalar is computed in double and rounded once. */
void K(adamw)(int64_t n, float *p, const float *g, float *m, float *v, double lr, double beta1, double beta2,
              double eps, double weight_decay, double step_size, double sqrt_bc2) {
    v16 keep = v_set1((float)(1 - lr * weight_decay)), b1 = v_set1((float)beta1), b1c = v_set1((float)(1 - beta1));
    v16 b2 = v_set1((float)beta2), b2c = v_set1((float)(1 - beta2)), ve = v_set1((float)eps);
    v16 step = v_set1((float)-step_size), bc2 = v_set1((float)sqrt_bc2);
    EACH_VECTOR(n, i, c) {
        v16 vg = take(g + i, c);
        v16 vm = v_fma(b1c, vg, v_mul(take(m + i, c), b1)), vv = v_fma(v_mul(b2c, vg), vg, v_mul(take(v + i, c), b2));
        v16 denom = v_add(v_div(v_sqrt(vv), bc2), ve);
        put(m + i, vm, c);
        put(v + i, vv, c);
        put(p + i, v_add(v_mul(take(p + i, c), keep), v_div(v_mul(step, vm), denom)), c);
    }
}

/* Two multiply-adds a cycle that take four cycles each need eight chains. Twelve where registers are as wide as v16;
 * else six, each stepped twice, which are 12 registers of AVX2 and 24 of NEON. */
#define PEAK_EACH(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define PEAK_START(i) v16 c##i = v_load(start + i), d##i = v_load(start + 8 + i);
#define PEAK_FIRST(i) c##i = v_fma(c##i, half, one);
#define PEAK_SECOND(i) \
    if (V_TILE_VECS == 2) d##i = v_fma(d##i, half, one); \
    else c##i = v_fma(c##i, half, one);
#define PEAK_SUM(i) sum = v_add(sum, v_add(c##i, d##i));

float K(peak)(int64_t n) {
    float start[32]; /* no two registers alike: the compiler would make them one */
    for (int i = 0; i < 32; i++) start[i] = (float)i;
    v16 half = v_set1(0.5f), one = v_set1(1.0f), sum = v_zero();
    PEAK_EACH(PEAK_START)
    for (; n > 0; n--) {
        PEAK_EACH(PEAK_FIRST)
        PEAK_EACH(PEAK_SECOND)
    }
    PEAK_EACH(PEAK_SUM)
    return v_reduce_add(sum);
}
