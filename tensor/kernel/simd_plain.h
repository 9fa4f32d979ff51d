/* Plain C: an array. A back end of simd.h, which says what each operation does. */
#ifndef TN_SIMD_PLAIN_H
#define TN_SIMD_PLAIN_H

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
static inline int v_any(v16m m) {
    uint32_t any = 0;
    for (int i = 0; i < 16; i++) any |= m.m[i];
    return any != 0;
}
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
static inline v16 v_shift_in(v16 a, float x) {
    for (int i = 0; i < 15; i++) a.f[i] = a.f[i + 1];
    a.f[15] = x;
    return a;
}
static inline void v_transpose_rows(v16 r[16], int64_t rows) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i && j < rows; j++) {
            float t = r[i].f[j];
            r[i].f[j] = r[j].f[i], r[j].f[i] = t;
        }
}

#endif
