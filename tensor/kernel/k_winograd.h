/* Private to the files of Winograd convolution: k_winograd.c cuts the work, k_winograd_transform.c has the arithmetic outside of
 * the products, k_winograd_few.c products where tiles are few. */
#ifndef TN_K_WINOGRAD_H
#define TN_K_WINOGRAD_H

#include "tensor/kernel/k_gemm.h"
#include "tensor/kernel/k_taps.h"

/* One convolution with stride 1: y [batch,O,P,Q] of x [batch,C,H,W]. For dx, x is dy and y is dx. The output is cut into
 * tiles of m x m, numbered over image, row, column; a tile sees a patch of (m+2) x (m+2) pixels, whose first is
 * (m row - top, m column - left). */
typedef struct wino {
    const k_conv *p;  /* what is added */
    taps taps;
    int swapped;      /* dx: the weight's channels swapped, its taps turned by 180 degrees */
    int64_t m, patch; /* 4 and 6, or 2 and 4 */
    int64_t batch, C, H, W, O, P, Q, top, left;
    const float *x;
    float *y;
    int stream;                /* y goes past the caches: it is larger than they are */
    int64_t rows, cols, tiles; /* tiles of an image in each direction, and of all images */
} wino;

/* Lanes are tiles. The transformed patches of channels c0..c0+n, tiles t..t+tiles, tiles <= 16: element e of channel c0+k at
 * v + e step + k ld; 0 in the lanes behind the tiles. */
void K(wino_data)(const wino *w, int64_t c0, int64_t n, int64_t t, int64_t tiles, float *v, int64_t ld, int64_t step);
/* Lanes are output channels. The transformed weights of o0..o0+16 and inputs c0..c0+n: element e of input c0+k at
 * u + e step + k GEMM_COLS; anything in the lanes behind O. */
void K(wino_weight)(const wino *w, int64_t o0, int64_t c0, int64_t n, float *u, int64_t step);

/* k_winograd_few.c: m = 4 and at most FEW tiles; lanes are output channels. M (+)= U V for o0..o0+16 and inputs c0..c0+n (c0 = 0
 * starts the sums): element e of tile t at mem + e m_step + t GEMM_COLS, from that of input c0+k at v + e v_step + k FEW + t. `room`
 * is for wino_few_room(n) floats. Asks for `ahead` meanwhile. */
enum { FEW = V_TILE_ROWS * V_TILE_VECS >= 24 ? 4 : 0 };
void K(wino_few)(const wino *w, int64_t o0, int64_t c0, int64_t n, const float *v, int64_t v_step, float *mem, int64_t m_step, float *room,
                 taps_ahead ahead);
static inline int64_t wino_few_room(int64_t n) { return taps_room(n) + 12 * (n + 1) * V_LANES; }

/* Lanes are tiles. The pixels of output channels o0..o0+n, tiles t..t+tiles, tiles <= 16, from products: element e of
 * output o0+i at mem + e step + i GEMM_COLS. Bias, shift, residual and old y are added here. */
void K(wino_result)(const wino *w, int64_t o0, int64_t n, int64_t t, int64_t tiles, const float *mem, int64_t step);

#endif
