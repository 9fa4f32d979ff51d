/* Elementwise functions and the gated GELU: vmath.h over arrays. The last, partial vector computes the same lanes. */
#include "tensor/err.h"
#include "tensor/kernel/k_table.h"
#include "tensor/kernel/vmath.h"

/* The first 16, or the first m < 16, elements at p. */
static inline v16 get(const float *p, int64_t m) { return m >= V_LANES ? v_load(p) : v_loadn(p, m); }
static inline void put(float *p, v16 x, int64_t m) {
    if (m >= V_LANES)
        v_store(p, x);
    else
        v_storen(p, x, m);
}

/* One loop per function, so that the choice of the function is outside the loop. */
#define MAP(f)                                                                                                         \
    static void map_##f(int64_t n, const float *x, float *y) {                                                         \
        for (int64_t i = 0; i < n; i += V_LANES) put(y + i, v_##f(get(x + i, n - i)), n - i);                          \
    }
MAP(silu)
MAP(gelu)
MAP(quick_gelu)
MAP(sigmoid)
MAP(exp)
MAP(log)
MAP(tanh)
MAP(erf)
MAP(sin)
MAP(cos)

void K(unary)(k_fn fn, int64_t n, const float *x, float *y) {
    static void (*const map[])(int64_t, const float *, float *) = {
        [K_SILU] = map_silu,       [K_GELU] = map_gelu, [K_QUICK_GELU] = map_quick_gelu,
        [K_SIGMOID] = map_sigmoid, [K_EXP] = map_exp,   [K_LOG] = map_log,
        [K_TANH] = map_tanh,       [K_ERF] = map_erf,   [K_SIN] = map_sin,
        [K_COS] = map_cos,
    };
    map[fn](n, x, y);
}

/* Adding to dx rounds the product first, so that accumulating gives what a separate gradient and an addition would. */
#define MAP_GRAD(f)                                                                                                    \
    static void grad_##f(int64_t n, const float *x, const float *dy, float *dx, int acc) {                             \
        for (int64_t i = 0; i < n; i += V_LANES) {                                                                     \
            v16 g = v_mul(get(dy + i, n - i), v_##f##_grad(get(x + i, n - i)));                                        \
            put(dx + i, acc ? v_add(get(dx + i, n - i), g) : g, n - i);                                                \
        }                                                                                                              \
    }
MAP_GRAD(silu)
MAP_GRAD(gelu)
MAP_GRAD(quick_gelu)
MAP_GRAD(sigmoid)

void K(unary_backward)(k_fn fn, int64_t n, const float *x, const float *dy, float *dx, int acc) {
    static void (*const grad[])(int64_t, const float *, const float *, float *, int) = {
        [K_SILU] = grad_silu,
        [K_GELU] = grad_gelu,
        [K_QUICK_GELU] = grad_quick_gelu,
        [K_SIGMOID] = grad_sigmoid,
    };
    TN_REQUIRE(fn <= K_SIGMOID); /* the others have no derivative here */
    grad[fn](n, x, dy, dx, acc);
}

/* Rows of a feed-forward layer come from memory, not from a cache, and functions as long as these fill the window in which
 * the processor looks ahead for loads: so they are asked for, AHEAD elements before their turn. */
enum { AHEAD = 128 };
static void ask(const float *p) { v_prefetch((uintptr_t)p + AHEAD * sizeof *p); }

void K(geglu)(int64_t rows, int64_t n, const float *x, float *y) {
    for (int64_t r = 0; r < rows; r++, x += 2 * n, y += n) {
        for (int64_t i = 0; i < n; i += V_LANES) {
            ask(x + i), ask(x + n + i);
            put(y + i, v_mul(get(x + i, n - i), v_gelu(get(x + n + i, n - i))), n - i);
        }
    }
}

/* One row of the gradient: with value a and gate b, da = dy gelu(b), db = dy a gelu'(b). */
void K(geglu_backward)(int64_t rows, int64_t n, const float *x, const float *dy, float *dx, int acc) {
    for (int64_t r = 0; r < rows; r++, x += 2 * n, dy += n, dx += 2 * n) {
        for (int64_t i = 0; i < n; i += V_LANES) {
            int64_t m = n - i;
            ask(x + i), ask(x + n + i), ask(dy + i);
            v16 a = get(x + i, m), b = get(x + n + i, m), g = get(dy + i, m);
            v16 da = v_mul(g, v_gelu(b)), db = v_mul(v_mul(g, a), v_gelu_grad(b));
            put(dx + i, acc ? v_add(get(dx + i, m), da) : da, m);
            put(dx + n + i, acc ? v_add(get(dx + n + i, m), db) : db, m);
        }
    }
}
