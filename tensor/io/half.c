#include "tensor/io/half.h"

#include <string.h>

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float tn_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31) return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent) return float_of(sign | (exponent + 112) << 23 | fraction << 13); /* 112 = 127 - 15: the biases */
    if (!fraction) return float_of(sign);
    /* Subnormal: fraction * 2^-24. Normalise: shift until bit 10, the implicit one, is set. */
    for (exponent = 113; !(fraction & 0x400); exponent--) fraction <<= 1;
    return float_of(sign | exponent << 23 | (fraction & 0x3ff) << 13);
}

/* value >> shift, rounded to nearest, ties to even. */
static uint32_t shift_rounded(uint32_t value, unsigned shift) {
    uint32_t kept = value >> shift, rest = value & ((UINT32_C(1) << shift) - 1), half = UINT32_C(1) << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t tn_f32_to_f16(float f) {
    uint32_t bits = bits_of(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    uint32_t half;
    if (magnitude > 0x7f800000) {
        half = 0x7e00 | (magnitude >> 13 & 0x3ff); /* NaN */
    } else if (magnitude >= 0x477ff000) {
        half = 0x7c00; /* 65520 and more, infinity */
    } else if (magnitude >= 0x38800000) {
        /* 2^-14 and more: normal. A carry out of the fraction walks into the exponent. */
        half = shift_rounded(magnitude - (UINT32_C(112) << 23), 13);
    } else if (magnitude >= 0x33000000) {
        /* 2^-25 and more: the fraction with its implicit one, in units of 2^-24. */
        half = shift_rounded((magnitude & 0x7fffff) | 0x800000, 126 - (magnitude >> 23));
    } else {
        half = 0;
    }
    return (uint16_t)(sign | half);
}

float tn_bf16_to_f32(uint16_t h) { return float_of((uint32_t)h << 16); }

uint16_t tn_f32_to_bf16(float f) {
    uint32_t bits = bits_of(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)shift_rounded(bits, 16); /* a carry walks into the exponent, up to infinity */
}
