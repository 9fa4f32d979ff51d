/* Text to number, correctly rounded and blind to the locale: the one number parser of the project.
 *
 * Most numbers take the short way: a mantissa below 2^53 and a power of ten up to 10^22 are both exact doubles, so that
 * one multiplication or division rounds once (Clinger, "How to read floating point numbers accurately", PLDI 1990).
 * Every other one is divided out in big integers, bit by bit: slow (microseconds) but short enough to be checked by
 * reading. */
#include "tensor/io/json.h"

#include <math.h>
#include <string.h>

/* 768 significant digits decide the rounding of every double (the longest midpoint between two has 767); digits after
 * that only matter by being zero or not. */
enum { MAX_DIGITS = 768, LIMBS = 128 }; /* 10^1100 and 768 digits times 10^309 both have fewer than 4096 bits */

/* A non-negative integer, 32-bit limbs, least significant first; limb[n-1] != 0, zero has n = 0. */
typedef struct big {
    int n;
    uint32_t limb[LIMBS];
} big;

static void big_mul_add(big *a, uint32_t factor, uint32_t add) {
    uint64_t carry = add;
    for (int i = 0; i < a->n; i++) {
        carry += (uint64_t)a->limb[i] * factor;
        a->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (!carry) return;
    TN_REQUIRE(a->n < LIMBS);
    a->limb[a->n++] = (uint32_t)carry;
}

static void big_mul_pow10(big *a, int power) {
    for (; power >= 9; power -= 9) big_mul_add(a, 1000000000u, 0);
    for (; power > 0; power--) big_mul_add(a, 10, 0);
}

static int big_bits(const big *a) {
    if (!a->n) return 0;
    int bits = 32 * (a->n - 1);
    for (uint32_t top = a->limb[a->n - 1]; top; top >>= 1) bits++;
    return bits;
}

static void big_shift_left(big *a, int shift) {
    for (; shift >= 16; shift -= 16) big_mul_add(a, 1u << 16, 0);
    big_mul_add(a, 1u << shift, 0);
}

static int big_compare(const big *a, const big *b) {
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    for (int i = a->n - 1; i >= 0; i--)
        if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

/* a -= b, which must not be larger. */
static void big_subtract(big *a, const big *b) {
    uint64_t borrow = 0;
    for (int i = 0; i < a->n; i++) {
        uint64_t take = borrow + (i < b->n ? b->limb[i] : 0);
        borrow = a->limb[i] < take;
        a->limb[i] = (uint32_t)(a->limb[i] - take);
    }
    while (a->n && !a->limb[a->n - 1]) a->n--;
}

/* The double nearest to num / den, ties to even; both positive. */
static double divide_rounded(big *num, big *den) {
    /* Scale until 1 <= num/den < 2; the value is then num/den * 2^exponent. */
    int exponent = big_bits(num) - big_bits(den);
    if (exponent > 0) big_shift_left(den, exponent);
    if (exponent < 0) big_shift_left(num, -exponent);
    if (big_compare(num, den) < 0) big_shift_left(num, 1), exponent--;

    /* A normal number has 53 bits; a subnormal one loses a bit for each power of two below 2^-1022. */
    int precision = exponent >= -1022 ? 53 : 53 - (-1022 - exponent);
    if (precision < 0) return 0.0; /* less than half of the smallest subnormal */
    uint64_t quotient = 0;
    for (int i = 0; i <= precision; i++) { /* one bit more than is kept: it decides the rounding */
        int bit = big_compare(num, den) >= 0;
        if (bit) big_subtract(num, den);
        quotient = quotient << 1 | (unsigned)bit;
        big_shift_left(num, 1);
    }
    int half = (int)(quotient & 1), beyond = num->n != 0;
    quotient >>= 1;
    if (half && (beyond || (quotient & 1))) quotient++;
    return ldexp((double)quotient, exponent - precision + 1);
}

/* What the grammar found: value = digits * 10^exponent, with the significant digits as they stand in the text. */
typedef struct decimal {
    unsigned char digit[MAX_DIGITS + 1]; /* 0..9, no leading zeros; one more than counts, for "and something follows" */
    int n;
    int64_t exponent;
} decimal;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Adds one digit; `after_point` says on which side it stood. */
static void take_digit(decimal *d, int digit, bool after_point) {
    if (after_point) d->exponent--;
    if (d->n == 0 && digit == 0) return;
    if (d->n < MAX_DIGITS) {
        d->digit[d->n++] = (unsigned char)digit;
        return;
    }
    /* Beyond the last digit that counts: remember one digit 1 for all that is not zero. */
    d->exponent++;
    if (digit && d->n == MAX_DIGITS) d->digit[d->n++] = 1, d->exponent--;
}

/* Reads [digits][.digits][e[sign]digits] of text[at..len) with a digit on one side of the point; false on anything
 * else. */
static bool scan_decimal(const char *text, size_t at, size_t len, decimal *d) {
    d->n = 0, d->exponent = 0;
    bool any = false, point = false;
    for (; at < len; at++) {
        if (text[at] == '.' && !point) {
            point = true;
        } else if (is_digit(text[at])) {
            take_digit(d, text[at] - '0', point);
            any = true;
        } else {
            break;
        }
    }
    if (!any) return false;
    if (at == len) return true;
    if (text[at] != 'e' && text[at] != 'E') return false;
    bool negative = ++at < len && text[at] == '-';
    if (at < len && (text[at] == '-' || text[at] == '+')) at++;
    if (at == len) return false;
    int64_t e = 0;
    for (; at < len; at++) {
        if (!is_digit(text[at])) return false;
        if (e < INT64_C(1000000000000000)) e = 10 * e + (text[at] - '0'); /* more than any text can hold zeros for */
    }
    d->exponent += negative ? -e : e;
    return true;
}

static double decimal_to_double(const decimal *d) {
    static const double pow10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (d->n == 0) return 0.0;
    if (d->n + d->exponent > 310) return HUGE_VAL;
    if (d->n + d->exponent < -325) return 0.0;
    int exponent = (int)d->exponent;
    if (d->n <= 15 && exponent >= -22 && exponent <= 22) {
        double mantissa = 0.0;
        for (int i = 0; i < d->n; i++) mantissa = 10.0 * mantissa + d->digit[i];
        return exponent < 0 ? mantissa / pow10[-exponent] : mantissa * pow10[exponent];
    }
    big num = {0, {0}}, den = {1, {1}};
    for (int i = 0; i < d->n; i++) big_mul_add(&num, 10, d->digit[i]);
    if (exponent > 0) big_mul_pow10(&num, exponent);
    if (exponent < 0) big_mul_pow10(&den, -exponent);
    return divide_rounded(&num, &den);
}

bool tn_parse_double(const char *text, size_t len, double *out) {
    bool negative = len > 0 && text[0] == '-';
    size_t at = len > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    decimal d;
    if (!scan_decimal(text, at, len, &d)) return false;
    double v = decimal_to_double(&d);
    if (isinf(v)) return false;
    *out = negative ? -v : v;
    return true;
}

bool tn_parse_int64(const char *text, size_t len, int64_t *out) {
    bool negative = len > 0 && text[0] == '-';
    size_t at = len > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    if (at == len) return false;
    uint64_t limit = (uint64_t)INT64_MAX + (negative ? 1 : 0), v = 0;
    for (; at < len; at++) {
        if (!is_digit(text[at])) return false;
        unsigned digit = (unsigned)(text[at] - '0');
        if (v > (limit - digit) / 10) return false;
        v = 10 * v + digit;
    }
    *out = !negative ? (int64_t)v : v == limit ? INT64_MIN : -(int64_t)v;
    return true;
}
