/* The register tile of convolution. Like that of k_gemm.c it keeps CONV_ROWS x CONV_VECS vectors of sums in registers; its operands
 * need not lie in panels: A is read where the rows of a matrix lie, B wherever a table says.
 *
 * What it takes to find the operands hides behind the 28 multiply-adds of a step with AVX-512. Beside the 12 of AVX2 a processor begins
 * 24 other instructions at the most, where two threads share a core 6: so each row has a pointer of its own, two steps share what
 * a loop costs, and requests are made once in CHUNK steps. One thread of a Zen 3 server, GFLOP/s of the tile alone on a core and beside
 * a neighbour: 82 and 52 without all that, 88 and 60 with it (with four steps gcc 12 moves sums through memory). Panels with rows side by
 * side gave 95 and 65, and took as much to be packed. */
#include "tensor/kernel/k_conv.h"
#include "tensor/kernel/k_tile.h"

#define VEC(i, v) (t + ((i) * CONV_VECS + (v)) * V_LANES)
#define START(i) \
    const float *a##i = from->a + (i) * from->lda; \
    v16 c##i = first ? v_zero() : v_load(VEC(i, 0)); \
    WIDE(v16 d##i = first ? v_zero() : v_load(VEC(i, 1));)
#define MULTIPLY_ADD(i) \
    { \
        v16 s = v_set1(a##i[a]); \
        c##i = v_fma(s, b0, c##i); \
        WIDE(d##i = v_fma(s, b1, d##i);) \
    }
#define NARROW(i) c##i = v_fma(v_set1(a##i[a]), b0, c##i);
#define STEP(h) \
    { \
        int64_t a = step->a, b = step->b; \
        v16 b0 = v_load(at0 + b); \
        WIDE(v16 b1 = v_load(at1 + b);) \
        ROWS_##h(MULTIPLY_ADD) \
        step++; \
    }
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
        const float *at0 = from->b[0], *at1 = from->b[CONV_VECS - 1]; \
        ROWS_##h(START) \
        for (int64_t left = at1 ? n : 0, i = 0; left > 0; left -= CHUNK, i++) { \
            ASK(from->ask, i) \
            int64_t k = min64(left, CHUNK); \
            for (; k >= 2; k -= 2) { \
                STEP(h) \
                STEP(h) \
            } \
            if (k > 0) STEP(h) \
        } \
        for (const conv_step *end = at1 ? step : step + n; step < end; step++) { \
            int64_t a = step->a; \
            v16 b0 = v_load(at0 + step->b); \
            ROWS_##h(NARROW) \
        } \
        float *y0 = from->y[0] ? from->y[0] : t; \
        WIDE(float *y1 = from->y[0] ? from->y[1] : t + V_LANES;) \
        const float *bias = from->bias; \
        int64_t ldy = from->y[0] ? from->ldy : CONV_VECS * V_LANES; \
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
