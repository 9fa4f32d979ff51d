#include "tensor/dmath.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A double-double: the unevaluated sum hi + lo with |lo| <= ulp(hi)/2, about 106 bits. */
typedef struct dd {
    double hi, lo;
} dd;

/* Each constant is the sum of consecutive roundings of the exact value. */
static const dd ln2 = {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
static const dd third = {0x1.5555555555555p-2, 0x1.5555555555555p-56};
static const dd minus_sixth = {-0x1.5555555555555p-3, -0x1.5555555555555p-57};
static const double half_pi[3] = {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54, -0x1.f1976b7ed8fbcp-110};

/* a + b exactly (Knuth 1969, TwoSum). */
static dd two_sum(double a, double b) {
    double s = a + b;
    double t = s - a;
    return (dd){s, (a - (s - t)) + (b - t)};
}

/* a = hi + lo with 26 bits each (Veltkamp 1968), for |a| < 2^996. */
static dd split(double a) {
    double t = 134217729.0 * a; /* 2^27 + 1 */
    double hi = t - (t - a);
    return (dd){hi, a - hi};
}

/* a b exactly (Dekker 1971), where nothing over- or underflows. */
static dd two_prod(double a, double b) {
    double p = a * b;
    dd x = split(a), y = split(b);
    return (dd){p, ((x.hi * y.hi - p) + x.hi * y.lo + x.lo * y.hi) + x.lo * y.lo};
}

static dd dd_add(dd a, dd b) {
    dd s = two_sum(a.hi, b.hi), t = two_sum(a.lo, b.lo);
    s = two_sum(s.hi, s.lo + t.hi);
    return two_sum(s.hi, s.lo + t.lo);
}

static dd dd_mul(dd a, dd b) {
    dd p = two_prod(a.hi, b.hi);
    return two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

static dd dd_div(dd a, dd b) {
    double q = a.hi / b.hi;
    dd back = dd_mul(b, (dd){q, 0});
    dd rest = dd_add(a, (dd){-back.hi, -back.lo});
    return two_sum(q, rest.hi / b.hi);
}

static dd dd_scale(dd a, double power_of_2) { return (dd){a.hi * power_of_2, a.lo * power_of_2}; }

/* c[0] + c[1] x + ... + c[n-1] x^(n-1). */
static double polynomial(const double *c, size_t n, double x) {
    double s = c[n - 1];
    for (size_t i = n - 1; i-- > 0;) s = s * x + c[i];
    return s;
}
#define POLYNOMIAL(c, x) polynomial(c, sizeof(c) / sizeof *(c), x)

/* e^x = 2^k e^r with r = x - k ln 2, |r| <= 0.35; the Taylor series of e^r, its first three terms in double-double. The
 * rest is below 2^-7 of the sum, so its rounding errors are below 2^-7 ulp. */
static double exp_dd(dd x) {
    static const double taylor[] = {1.0 / 6,        1.0 / 24,        1.0 / 120,         1.0 / 720,
                                    1.0 / 5040,     1.0 / 40320,     1.0 / 362880,      1.0 / 3628800,
                                    1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
    double k = rint(x.hi * 0x1.71547652b82fep+0);
    dd step = dd_mul(ln2, (dd){-k, 0});
    dd r = dd_add(x, step);
    dd sum = dd_add(r, dd_scale(dd_mul(r, r), 0.5));
    sum = dd_add((dd){1, 0}, dd_add(sum, (dd){r.hi * r.hi * r.hi * POLYNOMIAL(taylor, r.hi), 0}));
    return ldexp(sum.hi, (int)k);
}

double tn_exp(double x) {
    if (x != x) return x;
    if (x > 710) return INFINITY;
    if (x < -746) return 0;
    return exp_dd((dd){x, 0});
}

/* log of x > 0. With x = 2^k m, m in [sqrt(1/2), sqrt(2)) and s = (m-1)/(m+1): log m = 2 atanh s = 2s (1 + s^2/3 +
 * s^4/5 + ...), |s| <= 0.1716. The result is good to about 2^-66 of itself, which is what pow needs. */
static dd log_dd(dd x) {
    static const double series[] = {1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11, 1.0 / 13, 1.0 / 15,
                                    1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23, 1.0 / 25};
    int k;
    double m = frexp(x.hi, &k);
    if (m < 0x1.6a09e667f3bcdp-1) m *= 2, k--;
    dd f = dd_add((dd){m, ldexp(x.lo, -k)}, (dd){-1, 0});
    dd s = dd_div(f, dd_add(f, (dd){2, 0}));
    dd z = dd_mul(s, s);
    dd p = dd_add(dd_mul(z, third), (dd){z.hi * z.hi * POLYNOMIAL(series, z.hi), 0});
    s = dd_scale(s, 2);
    dd log_m = dd_add(s, dd_mul(s, p));
    return dd_add(dd_mul(ln2, (dd){k, 0}), log_m);
}

double tn_log(double x) {
    if (x != x || x < 0) return NAN;
    if (x == 0) return -INFINITY;
    if (x == INFINITY) return x;
    return log_dd((dd){x, 0}).hi;
}

double tn_log1p(double x) {
    if (x != x || x < -1) return NAN;
    if (x == -1) return -INFINITY;
    if (x == INFINITY || fabs(x) < 0x1p-54) return x; /* x - x^2/2 rounds to x */
    return log_dd(two_sum(1, x)).hi;
}

double tn_pow(double x, double y) {
    if (y == 0) return 1;
    if (x != x || y != y || x < 0) return NAN;
    if (x == 1) return 1;
    if (x == 0 || x == INFINITY) return (x == 0) == (y > 0) ? 0 : INFINITY;
    /* |log x| >= 2^-54 here, so beyond |y| = 2^65 the result is 0 or infinity all the same. */
    if (fabs(y) > 0x1p65) y = y > 0 ? 0x1p65 : -0x1p65;
    dd e = dd_mul(log_dd((dd){x, 0}), (dd){y, 0});
    if (e.hi > 710) return INFINITY;
    if (e.hi < -746) return 0;
    return exp_dd(e);
}

/* sin(x + shift pi/2). Cody and Waite's reduction (1980) with pi/2 in three doubles and exact products: n has at most
 * 40 bits, so that r = x - n pi/2 is good to 2^-110 in absolute terms, and no double is nearer than about 2^-60 to a
 * multiple of pi/2. Then the Taylor series of sine or cosine on |r| <= pi/4. */
static double sine(double x, int shift) {
    static const double sin_tail[] = {1.0 / 120,
                                      -1.0 / 5040,
                                      1.0 / 362880,
                                      -1.0 / 39916800,
                                      1.0 / 6227020800.0,
                                      -1.0 / 1307674368000.0,
                                      1.0 / 355687428096000.0,
                                      -1.0 / 121645100408832000.0};
    static const double cos_tail[] = {1.0 / 24,
                                      -1.0 / 720,
                                      1.0 / 40320,
                                      -1.0 / 3628800,
                                      1.0 / 479001600.0,
                                      -1.0 / 87178291200.0,
                                      1.0 / 20922789888000.0,
                                      -1.0 / 6402373705728000.0};
    if (!(fabs(x) <= 0x1p40)) return NAN;
    double n = rint(x * 0x1.45f306dc9c883p-1);
    dd r = {x, 0};
    for (int i = 0; i < 3; i++) r = dd_add(r, two_prod(-n, half_pi[i]));
    dd z = dd_mul(r, r), y;
    int quadrant = (int)(((int64_t)n + shift) & 3);
    if (quadrant & 1) { /* 1 - z/2 + z^2 (1/24 - ...) */
        y = dd_add((dd){1, 0}, dd_scale(z, -0.5));
        y = dd_add(y, (dd){z.hi * z.hi * POLYNOMIAL(cos_tail, z.hi), 0});
    } else { /* r + r z (-1/6 + z (1/120 - ...)) */
        y = dd_add(minus_sixth, (dd){z.hi * POLYNOMIAL(sin_tail, z.hi), 0});
        y = dd_add(r, dd_mul(r, dd_mul(z, y)));
    }
    return quadrant & 2 ? -y.hi : y.hi;
}

double tn_sin(double x) {
    if (fabs(x) < 0x1p-27) return x; /* keeps the sign of zero; x - x^3/6 rounds to x */
    return sine(x, 0);
}

double tn_cos(double x) { return sine(x, 1); }

/* asin s = s (1 + c_1 z (1 + c_2 z (1 + ...))) with z = s^2 and c_n = (2n-1)^2 / (2n (2n+1)), the Taylor series by the ratio
 * of its terms; beyond 1/2, asin x = pi/2 - 2 asin sqrt((1-x)/2). For z <= 1/4 the terms left out are below 2^-56. */
double tn_asin(double x) {
    double a = fabs(x);
    if (!(a <= 1)) return NAN;
    bool folded = a > 0.5;
    double s = folded ? sqrt(0.5 * (1 - a)) : a, z = s * s, rest = 0;
    for (int n = 25; n > 0; n--) {
        double odd = 2 * n - 1;
        rest = odd * odd / (2.0 * n * (odd + 2)) * z * (1 + rest);
    }
    s += s * rest;
    if (folded) s = half_pi[0] - (2 * s - half_pi[1]);
    return x < 0 || (x == 0 && signbit(x)) ? -s : s;
}
