/* Elementary functions and activations on sixteen lanes, the same bits on every instruction set.
 *
 * Polynomials were fitted by Remez exchange for these reductions (relative error below 2^-26 before rounding). Bounds
 * of the error in units in the last place of the result (0.5 is perfect), subnormal results included, as `make sweep`
 * checks them (functions over all 2^32 floats, derivatives over every fifth):
 *
 *     exp 1.0    sin 1.6 to |x| = 8192 pi    sigmoid 2.6      sigmoid' 4.2
 *     log 0.9    cos 1.6 to |x| = 8192 pi    silu 3.4         silu' 4.2
 *     tanh 1.4   erf 1.5                     quick_gelu 3.4   quick_gelu' 4.6
 *                                            gelu 5.3         gelu' 4.2
 *
 * silu', quick_gelu' and gelu' pass through zero as differences of two terms: their unit is that of the sum of the
 * absolute terms. The larger bounds are reached in the left tails, which other implementations compute as 1 - 1.
 *
 * NaN gives NaN. Nothing depends on the neighbouring lanes. */
#ifndef TN_VMATH_H
#define TN_VMATH_H

#include "tensor/kernel/simd.h"

/* ---- exp ---- */

/* e^(hi + lo) = p 2^n with p in [0.70, 1.42]. hi is clamped to [-120, 89], where the result is 0 and infinity whatever
 * it is multiplied with below; |lo| is far below 1 and carries what rounding took from hi. Reduction: r = x - n log 2
 * in two parts (Cody and Waite 1980), the first exact; then 1 + r + r^2 P(r). */
typedef struct v_power {
    v16 p, n;
} v_power;

V_INLINE v_power v_exp_parts(v16 hi, v16 lo) {
    hi = v_max(v_set1(-120.0f), v_min(v_set1(89.0f), hi)); /* in this order of arguments NaN stays NaN */
    v16 n = v_round(v_mul(hi, v_set1(0x1.715476p+0f)));
    v16 big = v_fnma(n, v_set1(0x1.62e430p-1f), hi);
    lo = v_fma(n, v_set1(0x1.05c610p-29f), lo);
    v16 r = v_add(big, lo);
    v16 p = v_fma(v_set1(0x1.6dbc6cp-10f), r, v_set1(0x1.124148p-7f));
    p = v_fma(p, r, v_set1(0x1.555454p-5f));
    p = v_fma(p, r, v_set1(0x1.555486p-3f));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_add(big, v_fma(v_mul(p, r), r, lo)); /* not r + ...: its rounding error would remain */
    v_power e = {v_add(v_set1(1.0f), p), n};
    return e;
}

V_INLINE v16 v_exp(v16 x) {
    v_power e = v_exp_parts(x, v_zero());
    return v_ldexp(e.p, e.n);
}

/* 2^x for x <= 1, within 1.0 ulp, subnormal results included; 2^0 is 1 exactly. The reduction is exact and overflow cannot
 * happen: two thirds of the time of v_exp. x is clamped to -160, where the result is 0. */
V_INLINE v16 v_exp2(v16 x) {
    x = v_max(v_set1(-160.0f), x); /* in this order of arguments NaN stays NaN */
    v16 n = v_round(x), r = v_sub(x, n);
    v16 p = v_fma(v_set1(0x1.41fbbcp-13f), r, v_set1(0x1.5f3e54p-10f));
    p = v_fma(p, r, v_set1(0x1.3b2d4cp-7f));
    p = v_fma(p, r, v_set1(0x1.c6aee8p-5f));
    p = v_fma(p, r, v_set1(0x1.ebfbdcp-3f));
    p = v_fma(p, r, v_set1(0x1.62e430p-1f));
    return v_ldexp(v_fma(p, r, v_set1(1.0f)), n);
}

/* ---- log ---- */

/* x = 2^n (1 + f), 1 + f in [sqrt(1/2), sqrt(2)): log x = n log 2 + f - f^2/2 + f^3 P(f). -infinity at 0, NaN below. */
V_INLINE v16 v_log(v16 x) {
    v16m small = v_lt(x, v_set1(0x1p-126f)); /* subnormal: scaled into the normal range */
    v16 scaled = v_select(small, v_mul(x, v_set1(0x1p23f)), x);
    v16i u = vi_sub(v_bits(scaled), vi_set1(0x3f3504f3)); /* bits of sqrt(1/2) */
    v16 n = v_sub(v_from_int(vi_sar(u, 23)), v_select(small, v_set1(23.0f), v_zero()));
    v16 f = v_sub(v_float(vi_add(vi_and(u, vi_set1(0x007fffff)), vi_set1(0x3f3504f3))), v_set1(1.0f));
    v16 p = v_fma(v_set1(0x1.1b42eep-4f), f, v_set1(-0x1.e2e9cep-4f));
    p = v_fma(p, f, v_set1(0x1.e6509cp-4f));
    p = v_fma(p, f, v_set1(-0x1.fb4324p-4f));
    p = v_fma(p, f, v_set1(0x1.2332c0p-3f));
    p = v_fma(p, f, v_set1(-0x1.5562e4p-3f));
    p = v_fma(p, f, v_set1(0x1.99a546p-3f));
    p = v_fma(p, f, v_set1(-0x1.ffffeep-3f));
    p = v_fma(p, f, v_set1(0x1.555546p-2f));
    p = v_fma(p, f, v_set1(-0.5f));
    p = v_fma(v_mul(f, f), p, v_mul(n, v_set1(-0x1.05c610p-29f)));
    v16 y = v_fma(n, v_set1(0x1.62e430p-1f), v_add(f, p));
    y = v_select(v_lt(x, v_set1(INFINITY)), y, x); /* infinity and NaN as they are */
    y = v_select(v_lt(x, v_zero()), v_set1(NAN), y);
    return v_select(v_eq(x, v_zero()), v_set1(-INFINITY), y);
}

/* ---- sine and cosine ---- */

/* sin(x + quarter pi/2) for |x| <= 8192 pi, NaN beyond; sin(-0) is 0. n = x 2/pi has at most 14 bits, so x - n pi/2
 * with pi/2 in three parts of 24 bits loses nothing that matters, even next to a multiple of pi/2. */
V_INLINE v16 v_sine(v16 x, int quarter) {
    v16 n = v_round(v_mul(x, v_set1(0x1.45f306p-1f)));
    v16 r = v_fnma(n, v_set1(0x1.921fb6p+0f), x);
    r = v_fnma(n, v_set1(-0x1.777a5cp-25f), r);
    r = v_fnma(n, v_set1(-0x1.ee59dap-50f), r);
    v16 z = v_mul(r, r);
    v16 s = v_fma(v_set1(-0x1.992c06p-13f), z, v_set1(0x1.1106fcp-7f));
    s = v_fma(s, z, v_set1(-0x1.555544p-3f));
    s = v_fma(v_mul(s, z), r, r);
    v16 c = v_fma(v_set1(0x1.99e33ap-16f), z, v_set1(-0x1.6c0c22p-10f));
    c = v_fma(c, z, v_set1(0x1.55554ap-5f));
    c = v_fma(c, z, v_set1(-0.5f));
    c = v_fma(c, z, v_set1(1.0f));
    v16i quadrant = vi_add(v_to_int(n), vi_set1(quarter));
    v16 y = v_select(vi_eq(vi_and(quadrant, vi_set1(1)), vi_set1(0)), s, c);
    y = v_float(vi_xor(v_bits(y), vi_shl(vi_and(quadrant, vi_set1(2)), 30)));
    return v_select(v_le(v_abs(x), v_set1(25735.927f)), y, v_set1(NAN));
}

V_INLINE v16 v_sin(v16 x) { return v_sine(x, 0); }
V_INLINE v16 v_cos(v16 x) { return v_sine(x, 1); }

/* ---- sigmoid, SiLU, QuickGELU and their derivatives ----
 *
 * With z = |x|, e = e^-z and s = sigmoid(-z) = e / (1 + e), of which no digit is ever lost, everything follows by
 * symmetry:
 *
 *     sigmoid(x) = x < 0 ? s : 1 / (1 + e)       sigmoid'(x) = s (1 - s) = e / (1 + e)^2
 *     silu(x)    = x sigmoid(x)                  = max(x, 0) - z s
 *     silu'(x)   = x < 0 ? t : 1 - t             t = silu'(-z) = s (1 - z (1 - s)) = e (1 + e - z) / (1 + e)^2
 *
 * The numerators are scaled by the exponent of e last, so that z s keeps its digits where e alone is subnormal. */

typedef struct v_logistic {
    v_power e; /* e^-z */
    v16 sum;   /* 1 + e^-z */
} v_logistic;

V_INLINE v_logistic v_logistic_of(v16 z_hi, v16 z_lo) {
    v_power e = v_exp_parts(v_neg(z_hi), v_neg(z_lo));
    v_logistic l = {e, v_add(v_set1(1.0f), v_ldexp(e.p, e.n))};
    return l;
}

/* max(x, 0), NaN staying NaN. */
V_INLINE v16 v_positive(v16 x) { return v_max(v_zero(), x); }

/* min(|x|, 120), NaN staying NaN: beyond it tails are 0, and infinity times 0 is avoided. */
V_INLINE v16 v_bounded_abs(v16 x) { return v_min(v_set1(120.0f), v_abs(x)); }

V_INLINE v16 v_sigmoid(v16 x) {
    v_power e = v_exp_parts(v_neg(v_abs(x)), v_zero());
    v16 small = v_ldexp(e.p, e.n), one = v_set1(1.0f);
    return v_div(v_select(v_lt(x, v_zero()), small, one), v_add(one, small));
}

V_INLINE v16 v_sigmoid_grad(v16 x) {
    v_logistic l = v_logistic_of(v_abs(x), v_zero());
    return v_ldexp(v_div(l.e.p, v_mul(l.sum, l.sum)), l.e.n);
}

/* max(x, 0) - |x| sigmoid(-z), z in two parts: z = |x| gives SiLU, z = 1.702 |x| QuickGELU. */
V_INLINE v16 v_silu_parts(v16 x, v16 z_hi, v16 z_lo) {
    v_logistic l = v_logistic_of(z_hi, z_lo);
    return v_sub(v_positive(x), v_ldexp(v_div(v_mul(v_bounded_abs(x), l.e.p), l.sum), l.e.n));
}

/* silu'(z) or silu'(-z) by the sign of x, z in two parts. */
V_INLINE v16 v_silu_grad_parts(v16 x, v16 z_hi, v16 z_lo) {
    v_logistic l = v_logistic_of(z_hi, z_lo);
    v16 t = v_ldexp(v_div(v_mul(v_sub(l.sum, z_hi), l.e.p), v_mul(l.sum, l.sum)), l.e.n);
    return v_select(v_lt(x, v_zero()), t, v_sub(v_set1(1.0f), t));
}

V_INLINE v16 v_silu(v16 x) { return v_silu_parts(x, v_bounded_abs(x), v_zero()); }
V_INLINE v16 v_silu_grad(v16 x) { return v_silu_grad_parts(x, v_bounded_abs(x), v_zero()); }

/* 1.702 min(|x|, 120) in two parts. */
V_INLINE v16 v_quick(v16 x, v16 *lo) {
    v16 z = v_bounded_abs(x), c = v_set1(0x1.b3b646p+0f), hi = v_mul(c, z);
    *lo = v_fma(v_set1(-0x1.78d4fep-26f), z, v_fma(c, z, v_neg(hi)));
    return hi;
}

/* x sigmoid(1.702 x) = silu(1.702 x) / 1.702, so that its derivative is silu'(1.702 x). */
V_INLINE v16 v_quick_gelu(v16 x) {
    v16 lo, hi = v_quick(x, &lo);
    return v_silu_parts(x, hi, lo);
}

V_INLINE v16 v_quick_gelu_grad(v16 x) {
    v16 lo, hi = v_quick(x, &lo);
    return v_silu_grad_parts(x, hi, lo);
}

/* ---- GELU (erf form), its derivative, erf, tanh ----
 *
 * With z = |x|, Q = Phi(-z) = e^(-z^2/2) M(z) and phi the normal density, again by symmetry:
 *
 *     gelu(x)  = x Phi(x)             = max(x, 0) - z Q
 *     gelu'(x) = Phi(x) + x phi(x)    = x < 0 ? t : 1 - t,  t = Q - z phi(z) = e^(-z^2/2) (M(z) - z / sqrt(2 pi))
 *
 * M(z) = erfcx(z / sqrt 2) / 2 falls slowly from 1/2 like 1/z, and with u = (z - 4) / (z + 4) it is (1 - u) times a
 * polynomial of degree 10 in u. Beyond z = 15 all tails are 0. */

typedef struct v_tail {
    v16 z, m;  /* min(|x|, 15), M(z) */
    v_power e; /* e^(-z^2/2), the square with its rounding error */
} v_tail;

V_INLINE v_tail v_tail_of(v16 x) {
    v16 z = v_min(v_set1(15.0f), v_abs(x)), one = v_set1(1.0f), four = v_set1(4.0f);
    v16 inverse = v_div(one, v_add(z, four)), u = v_mul(v_sub(z, four), inverse);
    v16 rest = v_fnma(u, z, v_fnma(four, v_add(u, one), z)); /* (z - 4) - u (z + 4): one step of Newton's method */
    u = v_fma(rest, inverse, u);
    v16 p = v_fma(v_set1(-0x1.150308p-18f), u, v_set1(-0x1.91ade6p-16f));
    p = v_fma(p, u, v_set1(0x1.7960d2p-16f));
    p = v_fma(p, u, v_set1(0x1.a72e92p-13f));
    p = v_fma(p, u, v_set1(-0x1.cb4e18p-12f));
    p = v_fma(p, u, v_set1(-0x1.edf2eep-11f));
    p = v_fma(p, u, v_set1(0x1.eed094p-8f));
    p = v_fma(p, u, v_set1(-0x1.7dff56p-6f));
    p = v_fma(p, u, v_set1(0x1.8c6d9cp-5f));
    p = v_fma(p, u, v_set1(-0x1.373e3ap-4f));
    p = v_fma(p, u, v_set1(0x1.82b4bcp-4f));
    v16 h = v_mul(v_set1(-0.5f), z), square = v_mul(h, z);
    v_tail t = {z, v_mul(p, v_sub(one, u)), v_exp_parts(square, v_fma(h, z, v_neg(square)))};
    return t;
}

V_INLINE v16 v_gelu(v16 x) {
    v_tail t = v_tail_of(x);
    return v_sub(v_positive(x), v_ldexp(v_mul(v_mul(t.z, t.m), t.e.p), t.e.n));
}

V_INLINE v16 v_gelu_grad(v16 x) {
    v_tail t = v_tail_of(x);
    v16 y = v_ldexp(v_mul(v_fnma(t.z, v_set1(0x1.988454p-2f), t.m), t.e.p), t.e.n);
    return v_select(v_lt(x, v_zero()), y, v_sub(v_set1(1.0f), y));
}

/* x + x P(x^2) for |x| <= 1, else 1 - 2 Phi(-sqrt(2) |x|) with the sign of x. */
V_INLINE v16 v_erf(v16 x) {
    v16 z = v_mul(x, x);
    v16 p = v_fma(v_set1(0x1.4ae4ccp-14f), z, v_set1(-0x1.a485eap-11f));
    p = v_fma(p, z, v_set1(0x1.5419f4p-8f));
    p = v_fma(p, z, v_set1(-0x1.b7fbb4p-6f));
    p = v_fma(p, z, v_set1(0x1.ce2d20p-4f));
    p = v_fma(p, z, v_set1(-0x1.81273ep-2f));
    p = v_fma(p, z, v_set1(0x1.06eba8p-3f));
    v_tail t = v_tail_of(v_mul(x, v_set1(0x1.6a09e6p+0f)));
    v16 far = v_fnma(v_set1(2.0f), v_ldexp(v_mul(t.m, t.e.p), t.e.n), v_set1(1.0f));
    return v_select(v_le(v_abs(x), v_set1(1.0f)), v_fma(x, p, x), v_copysign(far, x));
}

/* With a = |x|: a + a^3 P(a^2) for a <= 0.625, else 1 - 2 / (e^(2a) + 1); then the sign of x. */
V_INLINE v16 v_tanh(v16 x) {
    v16 a = v_abs(x), z = v_mul(a, a), one = v_set1(1.0f);
    v16 p = v_fma(v_set1(-0x1.76ac12p-8f), z, v_set1(0x1.5256d6p-6f));
    p = v_fma(p, z, v_set1(-0x1.b84448p-5f));
    p = v_fma(p, z, v_set1(0x1.110768p-3f));
    p = v_fma(p, z, v_set1(-0x1.555534p-2f));
    v16 near = v_fma(v_mul(a, z), p, a), far = v_sub(one, v_div(v_set1(2.0f), v_add(v_exp(v_add(a, a)), one)));
    return v_copysign(v_select(v_le(a, v_set1(0.625f)), near, far), x);
}

#endif
