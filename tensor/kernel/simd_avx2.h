/* AVX2 with FMA and F16C: lanes 0-7 in a, 8-15 in b. A back end of simd.h, which says what each operation does. */
#ifndef TN_SIMD_AVX2_H
#define TN_SIMD_AVX2_H

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
static inline int v_any(v16m m) { return _mm256_movemask_ps(_mm256_or_ps(m.a, m.b)) != 0; }
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
static inline v16 v_shift_in(v16 a, float x) {
    __m256i down = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 0);
    V_TWO(v16, _mm256_permutevar8x32_ps(_mm256_blend_ps(a.a, a.b, 1), down),
          _mm256_permutevar8x32_ps(_mm256_blend_ps(a.b, _mm256_set1_ps(x), 1), down));
}

/* 8x8: 4x4 blocks inside the 128-bit halves first, then the halves as a 2x2 matrix of blocks. */
#define V_TURN_HALVES(i) \
    { \
        __m256 a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]); \
        __m256 c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]); \
        t[i] = _mm256_shuffle_ps(a, c, 0x44), t[i + 1] = _mm256_shuffle_ps(a, c, 0xee); \
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44), t[i + 3] = _mm256_shuffle_ps(b, d, 0xee); \
    }
#define V_TURN_BLOCKS(i) \
    r[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20), r[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
V_INLINE void v_transpose8(__m256 r[8]) {
    __m256 t[8];
    V_TURN_HALVES(0) V_TURN_HALVES(4)
    V_TURN_BLOCKS(0) V_TURN_BLOCKS(1) V_TURN_BLOCKS(2) V_TURN_BLOCKS(3)
}

/* Written out, so that the vectors stay in registers as far as there are registers: in loops over arrays 16x16 took 300
 * cycles. */
#define V_TAKE_QUARTERS(i) a[i] = r[i].a, b[i] = r[i].b, c[i] = r[8 + i].a, d[i] = r[8 + i].b;
#define V_PUT_QUARTERS(i) r[i].a = a[i], r[8 + i].a = b[i], r[i].b = c[i], r[8 + i].b = d[i];
#define V_EIGHT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
V_INLINE void v_transpose_rows(v16 r[16], int64_t rows) {
    __m256 a[8], b[8], c[8], d[8];
    V_EIGHT(V_TAKE_QUARTERS)
    v_transpose8(a), v_transpose8(b);
    if (rows > 8) v_transpose8(c), v_transpose8(d);
    V_EIGHT(V_PUT_QUARTERS)
}

#endif
