/* What the elementwise kernels should give, in double with the C library, and how far a float is from it. Shared by the
 * strided test (test_math.c) and the exhaustive sweep (sweep.c). */
#ifndef UNARY_CASES_H
#define UNARY_CASES_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tensor/kernel/kernels.h"

/* One function or derivative: the reference at x. *scale is the size that errors are measured against: |f(x)|, but the
 * sum of the absolute terms where a derivative is a difference and passes through zero. `bar` is the largest error
 * allowed, in units in the last place of *scale; it is stated in tensor/kernel/vmath.h. */
typedef struct unary_case {
    const char *name;
    k_fn fn;
    bool grad;
    double bar;
    double (*ref)(double x, double *scale);
} unary_case;

/* 1 / (1 + e^-x) without loss in the left tail */
static inline double logistic(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static inline double phi_sum(double x) { return erfc(-x * 0.70710678118654752440) / 2; }
static inline double phi(double x) { return exp(-x * x / 2) * 0.39894228040143267794; }

static inline double value(double y, double *scale) {
    *scale = fabs(y);
    return y;
}
static inline double sum(double a, double b, double *scale) {
    *scale = fabs(a) + fabs(b);
    return a + b;
}
/* x times a tail that is 0 at minus infinity */
static inline double gated(double x, double gate) { return gate == 0 ? 0 : x * gate; }

static inline double want_silu(double x, double *s) { return value(gated(x, logistic(x)), s); }
static inline double want_gelu(double x, double *s) { return value(gated(x, phi_sum(x)), s); }
static inline double want_quick_gelu(double x, double *s) { return value(gated(x, logistic(1.702 * x)), s); }
static inline double want_sigmoid(double x, double *s) { return value(logistic(x), s); }
static inline double want_exp(double x, double *s) { return value(exp(x), s); }
static inline double want_log(double x, double *s) { return value(x < 0 ? NAN : log(x), s); }
static inline double want_tanh(double x, double *s) { return value(tanh(x), s); }
static inline double want_erf(double x, double *s) { return value(erf(x), s); }
static inline double want_sin(double x, double *s) { return value(fabs(x) <= (double)25735.927f ? sin(x) : NAN, s); }
static inline double want_cos(double x, double *s) { return value(fabs(x) <= (double)25735.927f ? cos(x) : NAN, s); }
static inline double want_silu_grad(double x, double *s) {
    double p = logistic(x), q = logistic(-x);
    return sum(p, gated(x, p * q), s);
}
static inline double want_gelu_grad(double x, double *s) { return sum(phi_sum(x), gated(x, phi(x)), s); }
static inline double want_quick_gelu_grad(double x, double *s) { return want_silu_grad(1.702 * x, s); }
static inline double want_sigmoid_grad(double x, double *s) { return value(logistic(x) * logistic(-x), s); }

/* The unit in the last place of a float of that size; subnormals have the unit of the smallest. By bits, as it is hot.
 */
static inline double unit_of(double size) {
    uint64_t u;
    memcpy(&u, &size, sizeof u);
    uint64_t e = u >> 52 & 0x7ff, least = 1023 - 126;
    u = ((e > least ? e : least) - 23) << 52;
    memcpy(&size, &u, sizeof u);
    return size;
}

/* |got - want| in units in the last place of `scale`. Huge where one is NaN, or one of a sign infinite, and the other
 * is not. */
static inline double ulp_error(float got, double want, double scale) {
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want) ? 0 : 1e30;
    if (fabs(want) >= 0x1.ffffffp127) return isinf(got) && (got > 0) == (want > 0) ? 0 : 1e30; /* rounds to infinity */
    double g = isinf(got) ? copysign(0x1p128, got) : (double)got;
    return fabs(g - want) / unit_of(scale);
}

static inline bool same_float(float a, float b) { return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b)); }

/* y = f(x), or y = dy f'(x). */
static inline void unary_run(const tn_kernels *k, const unary_case *c, int64_t n, const float *x, const float *dy,
                             float *y) {
    if (c->grad)
        k->unary_backward(c->fn, n, x, dy, y, 0);
    else
        k->unary(c->fn, n, x, y);
}

static const unary_case unary_cases[] = {
    {"exp", K_EXP, false, 1, want_exp},
    {"log", K_LOG, false, 0.9, want_log},
    {"sin", K_SIN, false, 1.6, want_sin},
    {"cos", K_COS, false, 1.6, want_cos},
    {"tanh", K_TANH, false, 1.4, want_tanh},
    {"erf", K_ERF, false, 1.5, want_erf},
    {"sigmoid", K_SIGMOID, false, 2.6, want_sigmoid},
    {"silu", K_SILU, false, 3.4, want_silu},
    {"quick_gelu", K_QUICK_GELU, false, 3.4, want_quick_gelu},
    {"gelu", K_GELU, false, 5.3, want_gelu},
    {"sigmoid'", K_SIGMOID, true, 4.2, want_sigmoid_grad},
    {"silu'", K_SILU, true, 4.2, want_silu_grad},
    {"quick_gelu'", K_QUICK_GELU, true, 4.6, want_quick_gelu_grad},
    {"gelu'", K_GELU, true, 4.2, want_gelu_grad},
};
enum { N_UNARY_CASES = sizeof unary_cases / sizeof *unary_cases };

#endif
