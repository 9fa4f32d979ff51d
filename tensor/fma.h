/* Fused multiply-add of floats with the same bits whether or not the CPU has the instruction. */
#ifndef TN_FMA_H
#define TN_FMA_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* a b + c, rounded once. Without hardware: the product of two floats is exact in double; its sum with c is rounded to
 * odd (the last bit is set where the sum is inexact: Boldo and Melquiond, "Emulation of FMA and correctly rounded
 * sums", 2008), after which the rounding to float is right, as 53 >= 24 + 2. The error of the sum is Knuth's TwoSum; it
 * is NaN, and ignored, where the sum is not finite. No branches, so that compilers can vectorise it. */
static inline float tn_fmaf(float a, float b, float c) {
#if defined(__FP_FAST_FMAF) || defined(__FMA__)
    return fmaf(a, b, c);
#else
    double p = (double)a * (double)b, z = (double)c;
    double s = p + z, t = s - p, e = (p - (s - t)) + (z - t);
    uint64_t u;
    memcpy(&u, &s, 8);
    uint64_t sign = 0 - (u >> 63), toward = (uint64_t)(e > 0) - (uint64_t)(e < 0);
    u += ((toward ^ sign) - sign) &
         (0 - (~u & 1)); /* to the neighbour that is odd, away from 0 where e has the sign of s */
    memcpy(&s, &u, 8);
    return (float)s;
#endif
}

#endif
