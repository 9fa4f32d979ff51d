/* The two 16-bit float formats, one number at a time and with integer arithmetic alone: the same bits on every machine.
 * Kernels have their own vector forms; these serve files and tests. */
#ifndef TN_HALF_H
#define TN_HALF_H

#include <stdint.h>

float tn_f16_to_f32(uint16_t h);  /* IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits; exact */
uint16_t tn_f32_to_f16(float f);  /* nearest, ties to even; from 65520 on infinity; NaN stays (quiet) NaN */
float tn_bf16_to_f32(uint16_t h); /* bfloat16: the upper half of a float; exact */
uint16_t tn_f32_to_bf16(float f); /* nearest, ties to even; NaN stays (quiet) NaN */

#endif
