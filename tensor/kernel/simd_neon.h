/* NEON (AArch64): four lanes in each of a, b, c, d. A back end of simd.h, which says what each operation does. */
#ifndef TN_SIMD_NEON_H
#define TN_SIMD_NEON_H

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
static inline int v_any(v16m m) { return vmaxvq_u32(vorrq_u32(vorrq_u32(m.a, m.b), vorrq_u32(m.c, m.d))) != 0; }
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
static inline v16 v_shift_in(v16 v, float x) {
    v16 r = {vextq_f32(v.a, v.b, 1), vextq_f32(v.b, v.c, 1), vextq_f32(v.c, v.d, 1), vextq_f32(v.d, vdupq_n_f32(x), 1)};
    return r;
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

#endif
