/* Fused multiply-add of floats with the same bits whether or not the CPU has the instruction. */
#ifndef TN_FMA_H
#define TN_FMA_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* a b + c, rounded once. Where the compiler knows no fast instruction: the product of two floats is exact in double;
 * the sum is made with its rounding error (TwoSum) and rounded to odd, so that the final rounding to float cannot round
 * twice (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums"). */
static inline float tn_fmaf(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
    return fmaf(a, b, c);
#else
    double p = (double)a * (double)b, s = p + (double)c;
    double t = s - p, lost = (p - (s - t)) + ((double)c - t);
    if (lost < 0 || lost > 0) { /* inexact; never for NaN and infinities, whose `lost` is NaN */
        uint64_t bits;
        memcpy(&bits, &s, sizeof bits);
        if (!(bits & 1)) bits = (lost > 0) == (s > 0) ? bits + 1 : bits - 1;
        memcpy(&s, &bits, sizeof s);
    }
    return (float)s;
#endif
}

#endif
