/* Winograd's products where tiles are few, F(4x4,3x3): a picture of 8x8 has four. A transformed weight is then used four times, and
 * to store its 36 elements and load them again costs as much as what is done with them. So they never leave the registers: of the
 * transform the first half, the columns, is stored; the second makes the six elements of a row from three vectors, while 6 x FEW
 * vectors of sums wait for them. That takes 24 registers beside those of the transform; where there are fewer, FEW is 0.
 *
 * 36 + 144 multiply-adds for 16 outputs and an input, at one a cycle, take 183 cycles. Rows 0 and 5 of the columns are the taps
 * themselves, and are read there. The weights of the next call come meanwhile. */
#include "tensor/kernel/k_winograd.h"
#include "tensor/kernel/k_winograd_points.h"

enum {
    E = V_LANES,
    ASKED = 2 /* cache lines, for each input of a row */
};

#define EACH_TILE(X, j) X(j, 0) X(j, 1) X(j, 2) X(j, 3) /* of FEW */
#define EACH_ELEMENT(X) EACH_TILE(X, 0) EACH_TILE(X, 1) EACH_TILE(X, 2) EACH_TILE(X, 3) EACH_TILE(X, 4) EACH_TILE(X, 5)

#define START(j, t) v16 sum##j##t = first ? v_zero() : v_load(mem + (j) * m_step + (t) * GEMM_COLS);
#define STEP(j, t) sum##j##t = v_fma(v_set1(v[(j) * v_step + (t)]), u##j, sum##j##t);
#define STOP(j, t) v_store(mem + (j) * m_step + (t) * GEMM_COLS, sum##j##t);

/* One row of the patch: element j of input c is made from the three vectors at g + c step. */
static void row_of_products(int64_t n, const float *g, int64_t step, const float *v, int64_t v_step, float *mem, int64_t m_step,
                            int first, taps_ahead *ahead) {
    taps_ahead next = *ahead;
    EACH_ELEMENT(START)
    for (int64_t c = 0; c < n; c++, g += step, v += FEW) {
        v16 g0 = v_load(g), g1 = v_load(g + E), g2 = v_load(g + 2 * E);
        v16 even1 = plus(g0, Q1, g2), even2 = plus(g0, Q2, g2);
        v16 u0 = g0, u1 = plus(even1, P1, g1), u2 = plus(even1, -P1, g1), u3 = plus(even2, P2, g1), u4 = plus(even2, -P2, g1), u5 = g2;
        for (int64_t i = 0; i < ASKED; i++) taps_ask(&next);
        EACH_ELEMENT(STEP)
    }
    EACH_ELEMENT(STOP)
    *ahead = next;
}

/* Rows 1 to 4 of the columns of n weights g [n][9][16]: to [4][n+1][3][16]. */
static void columns(int64_t n, const float *g, float *to) {
    int64_t step = 3 * (n + 1) * E;
    for (int64_t c = 0; c < n; c++, g += 9 * E, to += 3 * E)
        for (int64_t k = 0; k < 3; k++) {
            v16 r[6];
            weight4(v_load(g + k * E), v_load(g + (3 + k) * E), v_load(g + (6 + k) * E), r);
            v_store(to + k * E, r[1]), v_store(to + k * E + step, r[2]);
            v_store(to + k * E + 2 * step, r[3]), v_store(to + k * E + 3 * step, r[4]);
        }
}

void K(wino_few)(const wino *w, int64_t o0, int64_t c0, int64_t n, const float *v, int64_t v_step, float *mem, int64_t m_step, float *room,
                 taps_ahead ahead) {
    float *inner = room + taps_room(n);
    K(turn_taps)(&w->taps, o0, c0, n, w->swapped, room);
    columns(n, room, inner);
    for (int64_t i = 0; i < 6; i++) {
        int outer = i == 0 || i == 5;
        const float *g = i == 0 ? room : i == 5 ? room + 6 * E : inner + (i - 1) * 3 * (n + 1) * E;
        row_of_products(n, g, outer ? 9 * E : 3 * E, v + 6 * i * v_step, v_step, mem + 6 * i * m_step, m_step, c0 == 0, &ahead);
    }
}
