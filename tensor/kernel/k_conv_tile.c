/* The register tile of convolution. Like that of k_gemm.c it keeps CONV_ROWS x CONV_VECS vectors of sums in registers; its operands
 * need not lie in panels: A is read where the rows of a matrix lie, B wherever a table says. The two loads of a step from
 * that table, and the longer addresses, hide behind 28 multiply-adds (12 with AVX2). */
#include "tensor/kernel/k_conv.h"

#if V_TILE_VECS == 2
#define WIDE(x) x
#else
#define WIDE(x)
#endif

#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define ROWS_7(X) ROWS_6(X) X(6)
#define ROWS_8(X) ROWS_7(X) X(7)
#define ROWS_9(X) ROWS_8(X) X(8)
#define ROWS_10(X) ROWS_9(X) X(9)
#define ROWS_11(X) ROWS_10(X) X(10)
#define ROWS_12(X) ROWS_11(X) X(11)
#define ROWS_13(X) ROWS_12(X) X(12)
#define ROWS_14(X) ROWS_13(X) X(13)

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
    v_store(VEC(i, 0), c##i); \
    WIDE(v_store(VEC(i, 1), d##i);)

/* The macros keep each row of the tile in variables of its own: arrays would go through memory. */
#define DEFINE_TILE(h) \
    static void tile_##h(int64_t n, const conv_operands *from, float *t, int first) { \
        const conv_step *step = from->step; \
        const float *a = from->a, *at0 = from->b[0], *at1 = from->b[CONV_VECS - 1]; \
        uintptr_t ahead = from->ahead; \
        int64_t lda = from->lda; \
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
        ROWS_##h(FINISH) \
    }

DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)
#if V_TILE_ROWS == 14
DEFINE_TILE(7)
DEFINE_TILE(8)
DEFINE_TILE(9)
DEFINE_TILE(10)
DEFINE_TILE(11)
DEFINE_TILE(12)
DEFINE_TILE(13)
DEFINE_TILE(14)
#endif

typedef void tile(int64_t n, const conv_operands *from, float *t, int first);

static tile *const tile_of_height[CONV_ROWS + 1] = {
    NULL,   tile_1, tile_2, tile_3,  tile_4,  tile_5,  tile_6,
#if V_TILE_ROWS == 14
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12, tile_13, tile_14
#endif
};

void K(conv_tile)(int64_t rows, int64_t n, const conv_operands *from, float *t, int first) {
    tile_of_height[rows](n, from, t, first);
}
