/* Fused multiply-add of floats with the same bits whether or not the CPU has the instruction. */
#ifndef TN_FMA_H
#define TN_FMA_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* a b + c, rounded once. Without hardware: the product of two floats is exact in double; its sum with c is rounded to
 * odd (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008), after which the rounding to float is
 * right, as 53 >= 24 + 2. Rounding to odd: cut towards zero, then set the last bit where something was cut off. What
 * the sum lost is e, by Knuth's TwoSum; the sum lies beyond the exact value, one unit above the cut, where their signs
 * differ. All of it is arithmetic on 64-bit integers without comparisons or branches: what SSE2 has, so that compilers
 * vectorise it. */
static inline float tn_fmaf(float a, float b, float c) {
#if defined(__FP_FAST_FMAF) || defined(__FMA__)
    return fmaf(a, b, c);
#else
    double p = (double)a * (double)b, z = (double)c;
    double s = p + z, t = s - p, e = (p - (s - t)) + (z - t);
    uint64_t u, v;
    memcpy(&u, &s, 8);
    memcpy(&v, &e, 8);
    uint64_t size = v & 0x7fffffffffffffffu;                      /* of e: 0; or up to infinity; or NaN: s is not finite */
    uint64_t cut = (0 - size) & ~(0x7ff0000000000000u - size); /* top bit: e is neither 0 nor NaN */
    u = (u - (((u ^ v) & cut) >> 63)) | cut >> 63;
    memcpy(&s, &u, 8);
    return (float)s;
#endif
}

#endif
