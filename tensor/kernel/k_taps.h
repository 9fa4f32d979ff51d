/* Weights of 3x3 windows, turned so that lanes are rows: for Winograd's form, and for the direct one whose vectors hold results of
 * many channels (k_conv_3x3.c). Private to tensor/kernel. */
#ifndef TN_K_TAPS_H
#define TN_K_TAPS_H

#include "tensor/kernel/simd.h"

/* The nine taps of row m and channel c begin at element m row + c channel; one of the two distances is 9. */
typedef struct taps {
    const void *base;
    tn_dtype type;
    int64_t rows, channels, row, channel;
} taps;

/* Rows m0..m0+16 of channels c0..c0+n, widened: tap e of channel c0+k at g + (9 k + e) 16, or with `reversed` tap 8 - e. g has room
 * for a multiple of 16 vectors; the lanes behind the last row may be anything. */
void K(turn_taps)(const taps *a, int64_t m0, int64_t c0, int64_t n, int reversed, float *g);
static inline int64_t taps_room(int64_t n) { return round_up(9 * n, V_LANES) * V_LANES; } /* floats of g */

/* Weights that come next, to be in the second-level cache when they are turned: stretches of some cache lines, at a distance in
 * bytes, of which line `line` of the first is the next. */
typedef struct taps_ahead {
    uintptr_t at;
    int64_t stretches, lines, distance, line;
} taps_ahead;

/* Rows m0..m0+n_rows of channels c0..c0+n; nothing where there are no rows. */
taps_ahead K(taps_ahead)(const taps *a, int64_t m0, int64_t n_rows, int64_t c0, int64_t n);

/* Asks for the next line. Called now and then among multiply-adds: those leave the memory idle, and a burst of requests would wait
 * in the core's buffers for misses. */
static inline void taps_ask(taps_ahead *a) {
    if (a->stretches <= 0) return;
    v_prefetch_l2(a->at + (uintptr_t)(a->line * 64));
    if (++a->line < a->lines) return;
    a->line = 0, a->at += (uintptr_t)a->distance, a->stretches--;
}

#endif
