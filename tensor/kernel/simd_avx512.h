/* AVX-512: one register. A back end of simd.h, which says what each operation does. */
#ifndef TN_SIMD_AVX512_H
#define TN_SIMD_AVX512_H

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
static inline int v_any(v16m m) { return m != 0; }
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
static inline v16 v_shift_in(v16 a, float x) {
    return v_float(_mm512_alignr_epi32(v_bits(v_set1(x)), v_bits(a), 1));
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
V_INLINE void v_transpose_rows(v16 r[16], int64_t rows) {
    __m512d t[16];
    (void)rows;
    V_TURN_LANES(0) V_TURN_LANES(4) V_TURN_LANES(8) V_TURN_LANES(12)
    V_TURN_BLOCKS(0) V_TURN_BLOCKS(1) V_TURN_BLOCKS(2) V_TURN_BLOCKS(3)
}

#endif
