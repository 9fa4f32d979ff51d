/* Sixteen float lanes on every machine.
 *
 * One vector type with the same lanes and the same rounding in every back end: one AVX-512 register, two AVX2
 * registers, four NEON registers or a plain array. Every operation is IEEE binary32, rounded to nearest even, so a
 * kernel written on it computes the same bits wherever it is compiled (NaN payloads apart). This is the only file with
 * instruction-set conditionals; the build defines TN_ISA and TN_ISA_NAME for one NAME of avx512, avx2, neon, scalar.
 *
 *   v16   16 floats                     v_...
 *   v16i  16 int32, wrapping            vi_...
 *   v16m  16 truth values               v_lt ... v_eq, vi_eq, v_first make them, v_select reads them
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
#include "tensor/kernel/kernels.h"

/* K(name) is the name of a kernel in this compile: k_name_avx512, ... */
#define K_PASTE(name, isa) k_##name##_##isa
#define K_NAME(name, isa) K_PASTE(name, isa)
#define K(name) K_NAME(name, TN_ISA)

#define V_LANES 16

/* V_TILE_ROWS x V_TILE_VECS vectors: the block of C that matmul keeps in registers, beside V_TILE_VECS vectors of B
 * and one broadcast element of A. */

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

/* ---- AVX-512 ---- */
#if defined(TN_ISA_avx512)
#include <immintrin.h>
#define V_TILE_ROWS 14 /* 28 + 2 + 1 of 32 registers */
#define V_TILE_VECS 2

typedef __m512 v16;
typedef __m512i v16i;
typedef __mmask16 v16m;

static inline v16m v_first(int64_t n) { return (v16m)((1u << n) - 1u); }
static inline v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
static inline void v_stream(float *p, v16 a) { _mm512_stream_ps(p, a); }
static inline void v_stream_end(void) { _mm_sfence(); }
static inline v16 v_loadn(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
static inline void v_storen(float *p, v16 a, int64_t n) { _mm512_mask_storeu_ps(p, v_first(n), a); }
static inline v16m v_span(int64_t lo, int64_t hi) { return (v16m)(v_first(hi) & ~v_first(lo)); }
static inline v16 v_load_span(const float *p, int64_t lo, int64_t hi) { return _mm512_maskz_loadu_ps(v_span(lo, hi), p); }
static inline void v_store_span(float *p, v16 a, int64_t lo, int64_t hi) { _mm512_mask_storeu_ps(p, v_span(lo, hi), a); }
static inline v16 v_set1(float x) { return _mm512_set1_ps(x); }
static inline v16 v_zero(void) { return _mm512_setzero_ps(); }
static inline v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static inline v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v_fnma(v16 a, v16 b, v16 c) { return _mm512_fnmadd_ps(a, b, c); }
static inline v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
static inline v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v_sqrt(v16 a) { return _mm512_sqrt_ps(a); }
static inline v16 v_round(v16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline v16i v_bits(v16 a) { return _mm512_castps_si512(a); }
static inline v16 v_float(v16i a) { return _mm512_castsi512_ps(a); }
static inline v16i v_to_int(v16 a) { return _mm512_cvtps_epi32(a); }
static inline v16 v_from_int(v16i a) { return _mm512_cvtepi32_ps(a); }

static inline v16 v_ldexp(v16 x, v16 n) { return _mm512_scalef_ps(x, n); }

static inline v16m v_lt(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline v16m v_le(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline v16m v_eq(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline v16 v_select(v16m m, v16 a, v16 b) { return _mm512_mask_blend_ps(m, b, a); }

static inline v16i vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline v16i vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline v16i vi_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
static inline v16i vi_sub(v16i a, v16i b) { return _mm512_sub_epi32(a, b); }
static inline v16i vi_and(v16i a, v16i b) { return _mm512_and_si512(a, b); }
static inline v16i vi_or(v16i a, v16i b) { return _mm512_or_si512(a, b); }
static inline v16i vi_xor(v16i a, v16i b) { return _mm512_xor_si512(a, b); }
static inline v16i vi_shl(v16i a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline v16i vi_shr(v16i a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
static inline v16i vi_sar(v16i a, int n) { return _mm512_sra_epi32(a, _mm_cvtsi32_si128(n)); }
static inline v16m vi_eq(v16i a, v16i b) { return _mm512_cmpeq_epi32_mask(a, b); }

static inline v16 v_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
static inline v16 v_load_bf16(const void *p) {
    return v_float(vi_shl(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

static inline float v_reduce_add(v16 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

static inline float v_reduce_max(v16 v) {
    __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

static inline void v_interleave(v16 a, v16 b, v16 *lo, v16 *hi) {
    __m512i i = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *lo = _mm512_permutex2var_ps(a, i, b), *hi = _mm512_permutex2var_ps(a, vi_add(i, vi_set1(8)), b);
}
static inline void v_deinterleave(v16 lo, v16 hi, v16 *a, v16 *b) {
    __m512i i = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *a = _mm512_permutex2var_ps(lo, i, hi), *b = _mm512_permutex2var_ps(lo, vi_add(i, vi_set1(1)), hi);
}

/* 4x4 blocks inside the 128-bit lanes first, then the lanes as a 4x4 matrix of blocks. */
#define V_TURN_LANES(i) \
    { \
        __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1])), b = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1])); \
        __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3])); \
        __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3])); \
        t[i] = _mm512_unpacklo_pd(a, c), t[i + 1] = _mm512_unpackhi_pd(a, c); \
        t[i + 2] = _mm512_unpacklo_pd(b, d), t[i + 3] = _mm512_unpackhi_pd(b, d); \
    }
#define V_TURN_BLOCKS(i) \
    { \
        __m512 a = _mm512_castpd_ps(t[i]), b = _mm512_castpd_ps(t[4 + i]); \
        __m512 c = _mm512_castpd_ps(t[8 + i]), d = _mm512_castpd_ps(t[12 + i]); \
        __m512 ab = _mm512_shuffle_f32x4(a, b, 0x44), cd = _mm512_shuffle_f32x4(c, d, 0x44); \
        r[i] = _mm512_shuffle_f32x4(ab, cd, 0x88), r[4 + i] = _mm512_shuffle_f32x4(ab, cd, 0xdd); \
        ab = _mm512_shuffle_f32x4(a, b, 0xee), cd = _mm512_shuffle_f32x4(c, d, 0xee); \
        r[8 + i] = _mm512_shuffle_f32x4(ab, cd, 0x88), r[12 + i] = _mm512_shuffle_f32x4(ab, cd, 0xdd); \
    }
/* Written out, so that the vectors stay in registers. */
static inline void v_transpose_rows(v16 r[16], int64_t rows) {
    __m512d t[16];
    (void)rows;
    V_TURN_LANES(0) V_TURN_LANES(4) V_TURN_LANES(8) V_TURN_LANES(12)
    V_TURN_BLOCKS(0) V_TURN_BLOCKS(1) V_TURN_BLOCKS(2) V_TURN_BLOCKS(3)
}

/* ---- AVX2 with FMA and F16C: lanes 0-7 in a, 8-15 in b ---- */
#elif defined(TN_ISA_avx2)
#include <immintrin.h>
#define V_TILE_ROWS 6 /* 12 + 2 + 1 of 16 registers */
#define V_TILE_VECS 1

typedef struct v16 { __m256 a, b; } v16;
typedef struct v16i { __m256i a, b; } v16i;
typedef struct v16m { __m256 a, b; } v16m;

#define V_TWO(T, x, y) T r_ = {x, y}; return r_
#define V_EACH1(T, f) V_TWO(T, f(x.a), f(x.b))
#define V_EACH2(T, f) V_TWO(T, f(x.a, y.a), f(x.b, y.b))
#define V_EACH3(T, f) V_TWO(T, f(x.a, y.a, z.a), f(x.b, y.b, z.b))
#define V_CMP(op) V_TWO(v16m, _mm256_cmp_ps(x.a, y.a, op), _mm256_cmp_ps(x.b, y.b, op))

static inline v16m v_first(int64_t n) {
    __m256i c = _mm256_set1_epi32((int)n), i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    V_TWO(v16m, _mm256_castsi256_ps(_mm256_cmpgt_epi32(c, i)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(c, _mm256_add_epi32(i, _mm256_set1_epi32(8)))));
}
static inline v16 v_load(const float *p) { V_TWO(v16, _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
static inline void v_store(float *p, v16 x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
static inline void v_stream(float *p, v16 x) { _mm256_stream_ps(p, x.a), _mm256_stream_ps(p + 8, x.b); }
static inline void v_stream_end(void) { _mm_sfence(); }
static inline v16 v_loadn(const float *p, int64_t n) {
    v16m m = v_first(n);
    V_TWO(v16, _mm256_maskload_ps(p, _mm256_castps_si256(m.a)), _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.b)));
}
static inline void v_storen(float *p, v16 x, int64_t n) {
    v16m m = v_first(n);
    _mm256_maskstore_ps(p, _mm256_castps_si256(m.a), x.a), _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.b), x.b);
}
static inline v16m v_span(int64_t lo, int64_t hi) {
    v16m l = v_first(lo), h = v_first(hi);
    V_TWO(v16m, _mm256_andnot_ps(l.a, h.a), _mm256_andnot_ps(l.b, h.b));
}
static inline v16 v_load_span(const float *p, int64_t lo, int64_t hi) {
    v16m m = v_span(lo, hi);
    V_TWO(v16, _mm256_maskload_ps(p, _mm256_castps_si256(m.a)), _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.b)));
}
static inline void v_store_span(float *p, v16 x, int64_t lo, int64_t hi) {
    v16m m = v_span(lo, hi);
    _mm256_maskstore_ps(p, _mm256_castps_si256(m.a), x.a), _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.b), x.b);
}
static inline v16 v_set1(float x) { V_TWO(v16, _mm256_set1_ps(x), _mm256_set1_ps(x)); }
static inline v16 v_zero(void) { V_TWO(v16, _mm256_setzero_ps(), _mm256_setzero_ps()); }
static inline v16 v_add(v16 x, v16 y) { V_EACH2(v16, _mm256_add_ps); }
static inline v16 v_sub(v16 x, v16 y) { V_EACH2(v16, _mm256_sub_ps); }
static inline v16 v_mul(v16 x, v16 y) { V_EACH2(v16, _mm256_mul_ps); }
static inline v16 v_div(v16 x, v16 y) { V_EACH2(v16, _mm256_div_ps); }
static inline v16 v_fma(v16 x, v16 y, v16 z) { V_EACH3(v16, _mm256_fmadd_ps); }
static inline v16 v_fnma(v16 x, v16 y, v16 z) { V_EACH3(v16, _mm256_fnmadd_ps); }
static inline v16 v_min(v16 x, v16 y) { V_EACH2(v16, _mm256_min_ps); }
static inline v16 v_max(v16 x, v16 y) { V_EACH2(v16, _mm256_max_ps); }
static inline v16 v_sqrt(v16 x) { V_EACH1(v16, _mm256_sqrt_ps); }
static inline v16 v_round(v16 x) {
    V_TWO(v16, _mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline v16i v_bits(v16 x) { V_EACH1(v16i, _mm256_castps_si256); }
static inline v16 v_float(v16i x) { V_EACH1(v16, _mm256_castsi256_ps); }
static inline v16i v_to_int(v16 x) { V_EACH1(v16i, _mm256_cvtps_epi32); }
static inline v16 v_from_int(v16i x) { V_EACH1(v16, _mm256_cvtepi32_ps); }

static inline v16m v_lt(v16 x, v16 y) { V_CMP(_CMP_LT_OQ); }
static inline v16m v_le(v16 x, v16 y) { V_CMP(_CMP_LE_OQ); }
static inline v16m v_eq(v16 x, v16 y) { V_CMP(_CMP_EQ_OQ); }
static inline v16 v_select(v16m m, v16 x, v16 y) {
    V_TWO(v16, _mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b));
}

static inline v16i vi_set1(int32_t x) { V_TWO(v16i, _mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
static inline v16i vi_load(const int32_t *p) {
    V_TWO(v16i, _mm256_loadu_si256((const void *)p), _mm256_loadu_si256((const void *)(p + 8)));
}
static inline v16i vi_add(v16i x, v16i y) { V_EACH2(v16i, _mm256_add_epi32); }
static inline v16i vi_sub(v16i x, v16i y) { V_EACH2(v16i, _mm256_sub_epi32); }
static inline v16i vi_and(v16i x, v16i y) { V_EACH2(v16i, _mm256_and_si256); }
static inline v16i vi_or(v16i x, v16i y) { V_EACH2(v16i, _mm256_or_si256); }
static inline v16i vi_xor(v16i x, v16i y) { V_EACH2(v16i, _mm256_xor_si256); }
static inline v16i vi_shl(v16i x, int n) {
    V_TWO(v16i, _mm256_sll_epi32(x.a, _mm_cvtsi32_si128(n)), _mm256_sll_epi32(x.b, _mm_cvtsi32_si128(n)));
}
static inline v16i vi_shr(v16i x, int n) {
    V_TWO(v16i, _mm256_srl_epi32(x.a, _mm_cvtsi32_si128(n)), _mm256_srl_epi32(x.b, _mm_cvtsi32_si128(n)));
}
static inline v16i vi_sar(v16i x, int n) {
    V_TWO(v16i, _mm256_sra_epi32(x.a, _mm_cvtsi32_si128(n)), _mm256_sra_epi32(x.b, _mm_cvtsi32_si128(n)));
}
static inline v16m vi_eq(v16i x, v16i y) {
    V_TWO(v16m, _mm256_castsi256_ps(_mm256_cmpeq_epi32(x.a, y.a)), _mm256_castsi256_ps(_mm256_cmpeq_epi32(x.b, y.b)));
}

static inline v16 v_load_f16(const void *p) {
    const __m128i *h = p;
    V_TWO(v16, _mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)));
}
static inline v16 v_load_bf16(const void *p) {
    const __m128i *h = p;
    v16i w = {_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), _mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1))};
    return v_float(vi_shl(w, 16));
}

static inline float v_reduce_add(v16 v) {
    __m256 a = _mm256_add_ps(v.a, v.b);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

static inline float v_reduce_max(v16 v) {
    __m256 a = _mm256_max_ps(v.a, v.b);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

static inline v16 v_interleave8(__m256 a, __m256 b) {
    __m256 x = _mm256_unpacklo_ps(a, b), y = _mm256_unpackhi_ps(a, b);
    V_TWO(v16, _mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
}
static inline void v_interleave(v16 a, v16 b, v16 *lo, v16 *hi) {
    *lo = v_interleave8(a.a, b.a), *hi = v_interleave8(a.b, b.b);
}
/* Out of the pairs of each 128-bit half, in the order of the vectors. */
static inline __m256 v_pick8(__m256 pairs) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(pairs), 0xd8));
}
static inline void v_deinterleave(v16 lo, v16 hi, v16 *a, v16 *b) {
    v16 x = {v_pick8(_mm256_shuffle_ps(lo.a, lo.b, 0x88)), v_pick8(_mm256_shuffle_ps(hi.a, hi.b, 0x88))};
    v16 y = {v_pick8(_mm256_shuffle_ps(lo.a, lo.b, 0xdd)), v_pick8(_mm256_shuffle_ps(hi.a, hi.b, 0xdd))};
    *a = x, *b = y;
}

/* 8x8, from 4x4 blocks inside the 128-bit halves. */
static inline void v_transpose8(__m256 r[8]) {
    __m256 t[8];
    for (int i = 0; i < 8; i += 4) {
        __m256 a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
        __m256 c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44), t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44), t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
        r[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
    }
}

static inline void v_transpose_rows(v16 r[16], int64_t rows) {
    __m256 q[4][8];
    for (int i = 0; i < 8; i++) q[0][i] = r[i].a, q[1][i] = r[i].b, q[2][i] = r[8 + i].a, q[3][i] = r[8 + i].b;
    for (int i = 0; i < (rows > 8 ? 4 : 2); i++) v_transpose8(q[i]);
    for (int i = 0; i < 8; i++) r[i].a = q[0][i], r[8 + i].a = q[1][i], r[i].b = q[2][i], r[8 + i].b = q[3][i];
}

/* ---- NEON (AArch64): four lanes in each of a, b, c, d ---- */
#elif defined(TN_ISA_neon)
#include <arm_neon.h>
#define V_TILE_ROWS 6 /* 24 + 4 + 1 of 32 registers */
#define V_TILE_VECS 1

typedef struct v16 { float32x4_t a, b, c, d; } v16;
typedef struct v16i { int32x4_t a, b, c, d; } v16i;
typedef struct v16m { uint32x4_t a, b, c, d; } v16m;

#define V_FOUR(T, p, q, r, s) T r_ = {p, q, r, s}; return r_
#define V_EACH1(T, f) V_FOUR(T, f(x.a), f(x.b), f(x.c), f(x.d))
#define V_EACH2(T, f) V_FOUR(T, f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d))
#define V_EACH3(T, f) V_FOUR(T, f(x.a, y.a, z.a), f(x.b, y.b, z.b), f(x.c, y.c, z.c), f(x.d, y.d, z.d))

static inline v16m v_first(int64_t n) {
    const int32_t lane[4] = {0, 1, 2, 3};
    int32x4_t i = vld1q_s32(lane), c = vdupq_n_s32((int32_t)n), four = vdupq_n_s32(4), eight = vdupq_n_s32(8);
    V_FOUR(v16m, vcgtq_s32(c, i), vcgtq_s32(c, vaddq_s32(i, four)), vcgtq_s32(c, vaddq_s32(i, eight)),
           vcgtq_s32(c, vaddq_s32(vaddq_s32(i, four), eight)));
}
static inline v16 v_load(const float *p) {
    V_FOUR(v16, vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12));
}
static inline void v_store(float *p, v16 x) {
    vst1q_f32(p, x.a), vst1q_f32(p + 4, x.b), vst1q_f32(p + 8, x.c), vst1q_f32(p + 12, x.d);
}
static inline v16 v_loadn(const float *p, int64_t n) {
    float t[16] = {0};
    if (n > 0) memcpy(t, p, (size_t)n * sizeof *t);
    return v_load(t);
}
static inline void v_storen(float *p, v16 x, int64_t n) {
    float t[16];
    v_store(t, x);
    if (n > 0) memcpy(p, t, (size_t)n * sizeof *t);
}
static inline v16 v_set1(float s) {
    float32x4_t x = vdupq_n_f32(s);
    V_FOUR(v16, x, x, x, x);
}
static inline v16 v_zero(void) { return v_set1(0); }
static inline v16 v_add(v16 x, v16 y) { V_EACH2(v16, vaddq_f32); }
static inline v16 v_sub(v16 x, v16 y) { V_EACH2(v16, vsubq_f32); }
static inline v16 v_mul(v16 x, v16 y) { V_EACH2(v16, vmulq_f32); }
static inline v16 v_div(v16 x, v16 y) { V_EACH2(v16, vdivq_f32); }
static inline v16 v_fma(v16 y, v16 z, v16 x) { V_EACH3(v16, vfmaq_f32); } /* the addend comes first in NEON */
static inline v16 v_fnma(v16 y, v16 z, v16 x) { V_EACH3(v16, vfmsq_f32); }
static inline v16 v_sqrt(v16 x) { V_EACH1(v16, vsqrtq_f32); }
static inline v16 v_round(v16 x) { V_EACH1(v16, vrndnq_f32); }
static inline v16i v_bits(v16 x) { V_EACH1(v16i, vreinterpretq_s32_f32); }
static inline v16 v_float(v16i x) { V_EACH1(v16, vreinterpretq_f32_s32); }
static inline v16 v_from_int(v16i x) { V_EACH1(v16, vcvtq_f32_s32); }

static inline v16m v_lt(v16 x, v16 y) { V_EACH2(v16m, vcltq_f32); }
static inline v16m v_le(v16 x, v16 y) { V_EACH2(v16m, vcleq_f32); }
static inline v16m v_eq(v16 x, v16 y) { V_EACH2(v16m, vceqq_f32); }
static inline v16 v_select(v16m x, v16 y, v16 z) { V_EACH3(v16, vbslq_f32); }
static inline v16 v_min(v16 x, v16 y) { return v_select(v_lt(x, y), x, y); }
static inline v16 v_max(v16 x, v16 y) { return v_select(v_lt(y, x), x, y); }

/* The conversion saturates; outside the range the answer is made INT32_MIN. */
static inline int32x4_t v_to_int4(float32x4_t x) {
    uint32x4_t fits = vandq_u32(vcgeq_f32(x, vdupq_n_f32(-0x1p31f)), vcltq_f32(x, vdupq_n_f32(0x1p31f)));
    return vbslq_s32(fits, vcvtnq_s32_f32(x), vdupq_n_s32(INT32_MIN));
}
static inline v16i v_to_int(v16 x) { V_EACH1(v16i, v_to_int4); }

static inline v16i vi_set1(int32_t s) {
    int32x4_t x = vdupq_n_s32(s);
    V_FOUR(v16i, x, x, x, x);
}
static inline v16i vi_load(const int32_t *p) {
    V_FOUR(v16i, vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12));
}
static inline int32x4_t vi_shr4(int32x4_t x, int32x4_t n) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x), n));
}
static inline v16i vi_add(v16i x, v16i y) { V_EACH2(v16i, vaddq_s32); }
static inline v16i vi_sub(v16i x, v16i y) { V_EACH2(v16i, vsubq_s32); }
static inline v16i vi_and(v16i x, v16i y) { V_EACH2(v16i, vandq_s32); }
static inline v16i vi_or(v16i x, v16i y) { V_EACH2(v16i, vorrq_s32); }
static inline v16i vi_xor(v16i x, v16i y) { V_EACH2(v16i, veorq_s32); }
static inline v16i vi_shift(v16i x, v16i y) { V_EACH2(v16i, vshlq_s32); } /* left, or for y < 0 right with the sign */
static inline v16i vi_shl(v16i x, int n) { return vi_shift(x, vi_set1(n)); }
static inline v16i vi_sar(v16i x, int n) { return vi_shift(x, vi_set1(-n)); }
static inline v16i vi_shr(v16i x, int n) {
    v16i y = vi_set1(-n);
    V_EACH2(v16i, vi_shr4);
}
static inline v16m vi_eq(v16i x, v16i y) { V_EACH2(v16m, vceqq_s32); }

static inline v16 v_load_f16(const void *p) {
    uint16_t h[16];
    memcpy(h, p, sizeof h);
    V_FOUR(v16, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h))), vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h + 4))),
           vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h + 8))), vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h + 12))));
}
static inline float32x4_t v_from_bf16x4(const uint16_t *h) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(h), 16));
}
static inline v16 v_load_bf16(const void *p) {
    uint16_t h[16];
    memcpy(h, p, sizeof h);
    V_FOUR(v16, v_from_bf16x4(h), v_from_bf16x4(h + 4), v_from_bf16x4(h + 8), v_from_bf16x4(h + 12));
}

static inline float v_reduce_add(v16 v) {
    float32x4_t a = vaddq_f32(vaddq_f32(v.a, v.c), vaddq_f32(v.b, v.d));
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
static inline float v_reduce_max(v16 v) {
    float t[16];
    v_store(t, v);
    for (int h = 8; h; h /= 2)
        for (int i = 0; i < h; i++) t[i] = s_max(t[i], t[i + h]);
    return t[0];
}
static inline void v_interleave(v16 x, v16 y, v16 *lo, v16 *hi) {
    v16 l = {vzip1q_f32(x.a, y.a), vzip2q_f32(x.a, y.a), vzip1q_f32(x.b, y.b), vzip2q_f32(x.b, y.b)};
    v16 h = {vzip1q_f32(x.c, y.c), vzip2q_f32(x.c, y.c), vzip1q_f32(x.d, y.d), vzip2q_f32(x.d, y.d)};
    *lo = l, *hi = h;
}
static inline void v_deinterleave(v16 l, v16 h, v16 *a, v16 *b) {
    v16 x = {vuzp1q_f32(l.a, l.b), vuzp1q_f32(l.c, l.d), vuzp1q_f32(h.a, h.b), vuzp1q_f32(h.c, h.d)};
    v16 y = {vuzp2q_f32(l.a, l.b), vuzp2q_f32(l.c, l.d), vuzp2q_f32(h.a, h.b), vuzp2q_f32(h.c, h.d)};
    *a = x, *b = y;
}
static inline void v_transpose_rows(v16 r[16], int64_t rows) {
    float t[16][16], u[16][16] = {{0}};
    for (int i = 0; i < 16; i++) v_store(t[i], r[i]);
    for (int i = 0; i < rows; i += 4)
        for (int j = 0; j < 16; j += 4) {
            const float *b = &t[i][j];
            float32x4x4_t q = {{vld1q_f32(b), vld1q_f32(b + 16), vld1q_f32(b + 32), vld1q_f32(b + 48)}};
            float s[16];
            vst4q_f32(s, q); /* interleaves: s is the 4x4 block transposed */
            for (int k = 0; k < 4; k++) memcpy(&u[j + k][i], s + 4 * k, 4 * sizeof(float));
        }
    for (int i = 0; i < 16; i++) r[i] = v_load(u[i]);
}

/* ---- plain C ---- */
#elif defined(TN_ISA_scalar)
#include <float.h>
#define V_TILE_ROWS 6
#define V_TILE_VECS 1
#if FLT_EVAL_METHOD != 0
#error "float arithmetic must be rounded to float (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

typedef struct v16 { float f[16]; } v16;
typedef struct v16i { uint32_t i[16]; } v16i;
typedef struct v16m { uint32_t m[16]; } v16m; /* 0 or 1 */

#define V_EACH(T, field, expr) \
    T r_; \
    for (int i = 0; i < 16; i++) r_.field[i] = (expr); \
    return r_

static inline v16m v_first(int64_t n) { V_EACH(v16m, m, i < n); }
static inline v16 v_load(const float *p) {
    v16 r;
    memcpy(r.f, p, sizeof r.f);
    return r;
}
static inline void v_store(float *p, v16 x) { memcpy(p, x.f, sizeof x.f); }
static inline v16 v_loadn(const float *p, int64_t n) {
    v16 r = {{0}};
    if (n > 0) memcpy(r.f, p, (size_t)n * sizeof *p);
    return r;
}
static inline void v_storen(float *p, v16 x, int64_t n) {
    if (n > 0) memcpy(p, x.f, (size_t)n * sizeof *p);
}
static inline v16 v_set1(float x) { V_EACH(v16, f, x); }
static inline v16 v_zero(void) { V_EACH(v16, f, 0.0f); }
static inline v16 v_add(v16 x, v16 y) { V_EACH(v16, f, x.f[i] + y.f[i]); }
static inline v16 v_sub(v16 x, v16 y) { V_EACH(v16, f, x.f[i] - y.f[i]); }
static inline v16 v_mul(v16 x, v16 y) { V_EACH(v16, f, x.f[i] * y.f[i]); }
static inline v16 v_div(v16 x, v16 y) { V_EACH(v16, f, x.f[i] / y.f[i]); }
static inline v16 v_fma(v16 x, v16 y, v16 z) { V_EACH(v16, f, tn_fmaf(x.f[i], y.f[i], z.f[i])); }
static inline v16 v_fnma(v16 x, v16 y, v16 z) { V_EACH(v16, f, tn_fmaf(-x.f[i], y.f[i], z.f[i])); }
static inline v16 v_min(v16 x, v16 y) { V_EACH(v16, f, s_min(x.f[i], y.f[i])); }
static inline v16 v_max(v16 x, v16 y) { V_EACH(v16, f, s_max(x.f[i], y.f[i])); }
static inline v16 v_sqrt(v16 x) { V_EACH(v16, f, sqrtf(x.f[i])); }
/* Adding and taking away 2^23 leaves no room for a fraction; beyond 2^23 there is none. */
static inline float s_round(float x) {
    float big = copysignf(0x1p23f, x), r = copysignf((x + big) - big, x);
    return fabsf(x) < 0x1p23f ? r : x;
}
static inline v16 v_round(v16 x) { V_EACH(v16, f, s_round(x.f[i])); }
static inline v16i v_bits(v16 x) { V_EACH(v16i, i, s_bits(x.f[i])); }
static inline v16 v_float(v16i x) { V_EACH(v16, f, s_float(x.i[i])); }
static inline uint32_t s_to_int(float x) {
    return x >= -0x1p31f && x < 0x1p31f ? (uint32_t)(int32_t)s_round(x) : 0x80000000u;
}
static inline v16i v_to_int(v16 x) { V_EACH(v16i, i, s_to_int(x.f[i])); }
static inline v16 v_from_int(v16i x) { V_EACH(v16, f, (float)(int32_t)x.i[i]); }

static inline v16m v_lt(v16 x, v16 y) { V_EACH(v16m, m, x.f[i] < y.f[i]); }
static inline v16m v_le(v16 x, v16 y) { V_EACH(v16m, m, x.f[i] <= y.f[i]); }
static inline v16m v_eq(v16 x, v16 y) { V_EACH(v16m, m, x.f[i] == y.f[i]); }
static inline v16 v_select(v16m m, v16 x, v16 y) { V_EACH(v16, f, m.m[i] ? x.f[i] : y.f[i]); }

static inline v16i vi_set1(int32_t x) { V_EACH(v16i, i, (uint32_t)x); }
static inline v16i vi_load(const int32_t *p) { V_EACH(v16i, i, (uint32_t)p[i]); }
static inline v16i vi_add(v16i x, v16i y) { V_EACH(v16i, i, x.i[i] + y.i[i]); }
static inline v16i vi_sub(v16i x, v16i y) { V_EACH(v16i, i, x.i[i] - y.i[i]); }
static inline v16i vi_and(v16i x, v16i y) { V_EACH(v16i, i, x.i[i] & y.i[i]); }
static inline v16i vi_or(v16i x, v16i y) { V_EACH(v16i, i, x.i[i] | y.i[i]); }
static inline v16i vi_xor(v16i x, v16i y) { V_EACH(v16i, i, x.i[i] ^ y.i[i]); }
static inline v16i vi_shl(v16i x, int n) { V_EACH(v16i, i, x.i[i] << n); }
static inline v16i vi_shr(v16i x, int n) { V_EACH(v16i, i, x.i[i] >> n); }
static inline v16i vi_sar(v16i x, int n) { V_EACH(v16i, i, x.i[i] >> 31 ? ~(~x.i[i] >> n) : x.i[i] >> n); }
static inline v16m vi_eq(v16i x, v16i y) { V_EACH(v16m, m, x.i[i] == y.i[i]); }

static inline v16 v_load_f16(const void *p) {
    uint16_t h[16];
    memcpy(h, p, sizeof h);
    V_EACH(v16, f, s_from_f16(h[i]));
}
static inline v16 v_load_bf16(const void *p) {
    uint16_t h[16];
    memcpy(h, p, sizeof h);
    V_EACH(v16, f, s_from_bf16(h[i]));
}
static inline float v_reduce_add(v16 x) {
    for (int h = 8; h; h /= 2)
        for (int i = 0; i < h; i++) x.f[i] += x.f[i + h];
    return x.f[0];
}
static inline float v_reduce_max(v16 x) {
    for (int h = 8; h; h /= 2)
        for (int i = 0; i < h; i++) x.f[i] = s_max(x.f[i], x.f[i + h]);
    return x.f[0];
}
static inline void v_interleave(v16 a, v16 b, v16 *lo, v16 *hi) {
    for (int i = 0; i < 8; i++) {
        lo->f[2 * i] = a.f[i], lo->f[2 * i + 1] = b.f[i];
        hi->f[2 * i] = a.f[8 + i], hi->f[2 * i + 1] = b.f[8 + i];
    }
}
static inline void v_deinterleave(v16 lo, v16 hi, v16 *a, v16 *b) {
    for (int i = 0; i < 8; i++) {
        a->f[i] = lo.f[2 * i], b->f[i] = lo.f[2 * i + 1];
        a->f[8 + i] = hi.f[2 * i], b->f[8 + i] = hi.f[2 * i + 1];
    }
}
static inline void v_transpose_rows(v16 r[16], int64_t rows) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i && j < rows; j++) {
            float t = r[i].f[j];
            r[i].f[j] = r[j].f[i], r[j].f[i] = t;
        }
}
#else
#error "define one of TN_ISA_avx512, TN_ISA_avx2, TN_ISA_neon, TN_ISA_scalar"
#endif

/* ---- the same for all, from the above ---- */

/* Asks for the cache line of an address, which need not be readable, into the first-level cache; or into the second. */
static inline void v_prefetch(uintptr_t address) {
#if defined(__GNUC__)
    __builtin_prefetch((const void *)address, 0, 3);
#else
    (void)address;
#endif
}
static inline void v_prefetch_l2(uintptr_t address) {
#if defined(__GNUC__)
    __builtin_prefetch((const void *)address, 0, 2);
#else
    (void)address;
#endif
}

#if defined(TN_ISA_neon) || defined(TN_ISA_scalar)
static inline void v_stream(float *p, v16 x) { v_store(p, x); }
static inline void v_stream_end(void) {}
#endif

static inline v16m v_gt(v16 a, v16 b) { return v_lt(b, a); }
static inline v16m v_ge(v16 a, v16 b) { return v_le(b, a); }
static inline v16 v_abs(v16 a) { return v_float(vi_and(v_bits(a), vi_set1(INT32_MAX))); }
static inline v16 v_neg(v16 a) { return v_float(vi_xor(v_bits(a), vi_set1(INT32_MIN))); }
static inline void v_transpose(v16 r[16]) { v_transpose_rows(r, 16); }
#if defined(TN_ISA_neon) || defined(TN_ISA_scalar)
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
