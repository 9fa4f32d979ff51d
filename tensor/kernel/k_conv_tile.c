/* The register tile of convolution. Like that of k_gemm.c it keeps CONV_ROWS x CONV_VECS vectors of sums in registers; its operands
 * need not lie in panels: A is read where the rows of a matrix lie, B wherever a table says. The two loads of a step from
 * that table, and the longer addresses, hide behind 28 multiply-adds (12 with AVX2). */
#include "tensor/kernel/k_conv.h"
#include "tensor/kernel/k_tile.h"

#define VEC(i, v) (t + ((i) * CONV_VECS + (v)) * V_LANES)
#define START(i) \
    v16 c##i = first ? v_zero() : v_load(VEC(i, 0)); \
    WIDE(v16 d##i = first ? v_zero() : v_load(VEC(i, 1));)
#define STEP(i) \
    { \
        v16 s = v_set1(row[(i) * lda]); \
        c##i = v_fma(s, b0, c##i); \
        WIDE(d##i = v_fma(s, b1, d##i);) \
    }
#define STEP_NARROW(i) c##i = v_fma(v_set1(row[(i) * lda]), b0, c##i);
#define FINISH(i) \
    { \
        v16 s = bias ? v_set1(bias[i]) : v_zero(); \
        v_store(y0 + (i) * ldy, bias ? v_add(c##i, s) : c##i); \
        WIDE(if (at1) v_store(y1 + (i) * ldy, bias ? v_add(d##i, s) : d##i);) \
    }

#define STREAM(i) \
    v_stream(y0 + (i) * ldy, c##i); \
    WIDE(v_stream(y1 + (i) * ldy, d##i);)

#define DEFINE_TILE(h) \
    static void tile_##h(int64_t n, const conv_operands *from, float *t, int first) { \
        const conv_step *step = from->step; \
        const float *a = from->a, *at0 = from->b[0], *at1 = from->b[CONV_VECS - 1]; \
        uintptr_t ahead = from->ahead; \
        float *y0 = from->y[0] ? from->y[0] : t; \
        WIDE(float *y1 = from->y[0] ? from->y[1] : t + V_LANES;) \
        const float *bias = from->bias; \
        int64_t lda = from->lda, ldy = from->y[0] ? from->ldy : CONV_VECS * V_LANES; \
        ROWS_##h(START) \
        if (at1) { \
            for (int64_t k = 0; k < n; k++) { \
                const float *row = a + step[k].a; \
                v16 b0 = v_load(at0 + step[k].b); \
                WIDE(v16 b1 = v_load(at1 + step[k].b);) \
                v_prefetch_l2(ahead + (uintptr_t)step[k].ahead); \
                ROWS_##h(STEP) \
            } \
        } else { \
            for (int64_t k = 0; k < n; k++) { \
                const float *row = a + step[k].a; \
                v16 b0 = v_load(at0 + step[k].b); \
                v_prefetch_l2(ahead + (uintptr_t)step[k].ahead); \
                ROWS_##h(STEP_NARROW) \
            } \
        } \
        if (from->stream) { \
            ROWS_##h(STREAM) \
        } else { \
            ROWS_##h(FINISH) \
        } \
    }

EACH_HEIGHT(DEFINE_TILE)
static void (*const tile_of_height[CONV_ROWS + 1])(int64_t n, const conv_operands *from, float *t, int first) = TILES;

void K(conv_tile)(int64_t rows, int64_t n, const conv_operands *from, float *t, int first) {
    tile_of_height[rows](n, from, t, first);
}
