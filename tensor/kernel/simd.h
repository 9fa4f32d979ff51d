/* Sixteen float lanes on every machine.
 *
 * One vector type with the same lanes and the same rounding in every back end: one AVX-512 register, two AVX2
 * registers, four NEON registers or a plain array. Every operation is IEEE binary32, rounded to nearest even, so a
 * kernel written on it computes the same bits wherever it is compiled (NaN payloads apart). This is the only file with
 * instruction-set conditionals; the build defines TN_ISA and TN_ISA_NAME for one NAME of avx512, avx2, neon, scalar.
 *
 *   v16   16 floats                     v_...
 *   v16i  16 int32, wrapping            vi_...
 *   v16m  16 truth values               v_lt ... v_eq, vi_eq, v_first make them, v_select and v_any (is one true?) read them
 *
 * What a name does not say:
 *   v_fma(a,b,c) = a*b + c and v_fnma(a,b,c) = c - a*b, rounded once.
 *   v_max(a,b) = a > b ? a : b and v_min(a,b) = a < b ? a : b: a NaN on either side gives b.
 *   v_lt ... v_eq are false for NaN.   v_round: to nearest even, keeps the sign of zero.
 *   v_to_int rounds to nearest even; what does not fit, and NaN, gives INT32_MIN.   v_from_int rounds to nearest even.
 *   v_bits, v_float reinterpret.   vi_shl, vi_shr (zeros in), vi_sar (sign in): by 0..31.
 *   v_loadn, v_storen touch the first n of 0..16 elements only; the other lanes are loaded as 0. v_first(n): their mask.
 *   v_reduce_add is one fixed tree: lane i with lane i+8, then +4, +2, +1. v_reduce_max is the same tree of v_max.
 *   v_load_span, v_store_span touch lanes lo..hi-1 only, 0 <= lo, hi <= 16 (none where hi <= lo); the other lanes are
 *   loaded as 0. p is where lane 0 would be.
 *   v_interleave: the 32 elements a0 b0 a1 b1 ... as two vectors; v_deinterleave: its inverse.
 *   v_shift_in(a, x): lanes 1..15 of a, then x.
 *   v_ldexp(x, n) = x 2^n for integral n of -252..252, rounded once: to a subnormal, 0 or infinity where it comes to that.
 *   x is 0, NaN, or of size 2^-60..2^60. It wants n as a float.
 *   v_transpose: 16 vectors as a 16x16 matrix, in place. v_transpose_rows: only the first `rows` vectors matter; in the
 *   result, lanes beyond `rows` may be anything.
 *   Loads and stores need the alignment of their element only. v_stream stores past the caches, to an address that is a
 *   multiple of 64; v_stream_end after the last of them, before another thread may read. */
#ifndef TN_SIMD_H
#define TN_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tensor/fma.h"
#include "tensor/int64.h"
#include "tensor/kernel/kernels.h"

/* K(name) is the name of a kernel in this compile: k_name_avx512, ... */
#define K_PASTE(name, isa) k_##name##_##isa
#define K_NAME(name, isa) K_PASTE(name, isa)
#define K(name) K_NAME(name, TN_ISA)

#define V_LANES 16

/* A result of more floats, 24 MB, leaves no room in a third-level cache: it goes past it (v_stream). */
#define V_STREAM_FLOATS (6 << 20)

/* V_TILE_ROWS x V_TILE_VECS vectors: the block of C that matmul keeps in registers, beside V_TILE_VECS vectors of B
 * and one broadcast element of A. */

/* Called, instead of inlined, larger functions pass their vectors through memory at a third of the speed. */
#if defined(__GNUC__)
#define V_INLINE static inline __attribute__((always_inline))
#else
#define V_INLINE static inline
#endif

/* ---- scalars ---- */

static inline uint32_t s_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float s_float(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* Exact; a signalling NaN becomes quiet, as in hardware. */
static inline float s_from_f16(uint16_t h) {
    uint32_t u = (uint32_t)(h & 0x7fff) << 13, e = u & 0x0f800000, sign = (uint32_t)(h & 0x8000) << 16;
    float sub = s_float(u + (113u << 23)) - s_float(113u << 23); /* subnormal: m 2^-24 by a subtraction that is exact */
    uint32_t num = u + (112u << 23), nan = u > 0x0f800000 ? 0x00400000 : 0;
    uint32_t r = e == 0 ? s_bits(sub) : e == 0x0f800000 ? (u + (224u << 23)) | nan : num;
    return s_float(r | sign);
}

static inline float s_from_bf16(uint16_t h) { return s_float((uint32_t)h << 16); }

static inline float s_max(float a, float b) { return a > b ? a : b; }
static inline float s_min(float a, float b) { return a < b ? a : b; }

/* ---- the back ends ---- */

#if defined(TN_ISA_avx512)
#include "tensor/kernel/simd_avx512.h"
#elif defined(TN_ISA_avx2)
#include "tensor/kernel/simd_avx2.h"
#elif defined(TN_ISA_neon)
#include "tensor/kernel/simd_neon.h"
#elif defined(TN_ISA_scalar)
#include "tensor/kernel/simd_plain.h"
#else
#error "define one of TN_ISA_avx512, TN_ISA_avx2, TN_ISA_neon, TN_ISA_scalar"
#endif

/* ---- the same for all, from the above ---- */

/* Asks for the cache line of an address, which need not be readable, into the first-level cache; or into the second. gcc
 * takes a function that does nothing else for one without effect and drops its calls; an empty statement prevents that. */
static inline void v_prefetch(uintptr_t address) {
#if defined(__GNUC__)
    __builtin_prefetch((const void *)address, 0, 3);
    __asm__ volatile("");
#else
    (void)address;
#endif
}
static inline void v_prefetch_l2(uintptr_t address) {
#if defined(__GNUC__)
    __builtin_prefetch((const void *)address, 0, 2);
    __asm__ volatile("");
#else
    (void)address;
#endif
}

static inline v16m v_gt(v16 a, v16 b) { return v_lt(b, a); }
static inline v16m v_ge(v16 a, v16 b) { return v_le(b, a); }
static inline v16 v_abs(v16 a) { return v_float(vi_and(v_bits(a), vi_set1(INT32_MAX))); }
static inline v16 v_neg(v16 a) { return v_float(vi_xor(v_bits(a), vi_set1(INT32_MIN))); }
V_INLINE void v_transpose(v16 r[16]) { v_transpose_rows(r, 16); }
#if defined(TN_ISA_neon) || defined(TN_ISA_scalar)
static inline void v_stream(float *p, v16 x) { v_store(p, x); }
static inline void v_stream_end(void) {}
static inline v16 v_load_span(const float *p, int64_t lo, int64_t hi) {
    float t[16] = {0};
    if (lo < hi) memcpy(t + lo, p + lo, (size_t)(hi - lo) * sizeof *t);
    return v_load(t);
}
static inline void v_store_span(float *p, v16 x, int64_t lo, int64_t hi) {
    float t[16];
    v_store(t, x);
    if (lo < hi) memcpy(p + lo, t + lo, (size_t)(hi - lo) * sizeof *t);
}
#endif
/* |mag| with the sign of sign */
static inline v16 v_copysign(v16 mag, v16 sign) {
    return v_float(vi_or(vi_and(v_bits(mag), vi_set1(INT32_MAX)), vi_and(v_bits(sign), vi_set1(INT32_MIN))));
}

#if !defined(TN_ISA_avx512)
/* In two steps, so that n may leave the range of exponents and only the last step rounds. */
static inline v16 v_ldexp(v16 x, v16 n) {
    v16i whole = v_to_int(n), half = vi_sar(whole, 1), bias = vi_set1(127);
    x = v_mul(x, v_float(vi_shl(vi_add(half, bias), 23)));
    return v_mul(x, v_float(vi_shl(vi_add(vi_sub(whole, half), bias), 23)));
}
#endif

static inline size_t dtype_size(tn_dtype type) { return type == TN_F32 ? 4 : 2; }

/* Elements i..i+15, or i..i+n-1, of an array of F32, F16 or BF16 in the machine's byte order, widened exactly. */
static inline v16 v_load_typed(const void *base, tn_dtype type, int64_t i) {
    const char *p = (const char *)base + (size_t)i * dtype_size(type);
    return type == TN_F32 ? v_load((const float *)(const void *)p) : type == TN_F16 ? v_load_f16(p) : v_load_bf16(p);
}

static inline v16 v_loadn_typed(const void *base, tn_dtype type, int64_t i, int64_t n) {
    const char *p = (const char *)base + (size_t)i * dtype_size(type);
    if (type == TN_F32) return v_loadn((const float *)(const void *)p, n);
    uint16_t h[16] = {0};
    if (n > 0) memcpy(h, p, (size_t)n * sizeof *h);
    return type == TN_F16 ? v_load_f16(h) : v_load_bf16(h);
}

#define V_SIXTEEN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

/* r[i] = elements at + i stride ... + 15. Written out for each type, so that r stays in registers. */
static inline void v_load_rows(v16 r[16], const void *base, tn_dtype type, int64_t at, int64_t stride) {
    const char *p = (const char *)base + (size_t)at * dtype_size(type);
    size_t step = (size_t)stride * dtype_size(type);
#define V_ROW_F32(i) r[i] = v_load((const float *)(const void *)(p + i * step));
#define V_ROW_F16(i) r[i] = v_load_f16(p + i * step);
#define V_ROW_BF16(i) r[i] = v_load_bf16(p + i * step);
    if (type == TN_F32) {
        V_SIXTEEN(V_ROW_F32)
    } else if (type == TN_F16) {
        V_SIXTEEN(V_ROW_F16)
    } else {
        V_SIXTEEN(V_ROW_BF16)
    }
}

static inline float s_load_typed(const void *base, tn_dtype type, int64_t i) {
    const char *p = (const char *)base + (size_t)i * dtype_size(type);
    float x;
    uint16_t h;
    if (type == TN_F32) {
        memcpy(&x, p, sizeof x);
        return x;
    }
    memcpy(&h, p, sizeof h);
    return type == TN_F16 ? s_from_f16(h) : s_from_bf16(h);
}

#endif
