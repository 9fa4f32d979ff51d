/* What the files of convolution share, private to tensor/kernel: the register tile, and the two drivers that feed it. */
#ifndef TN_K_CONV_H
#define TN_K_CONV_H

#include "tensor/kernel/k_wish.h"

enum { CONV_ROWS = V_TILE_ROWS, CONV_VECS = V_TILE_VECS, CONV_TILE = CONV_ROWS * CONV_VECS * V_LANES };

/* One step of all chains of a tile: where its element of A and its vectors of B lie, from the tile's pointers, in floats. */
typedef struct conv_step {
    int32_t a, b;
} conv_step;

enum { STEP_FLOATS = 2 }; /* its size */

typedef struct conv_operands {
    const conv_step *step;
    const float *a;
    int64_t lda;
    const float *b[CONV_VECS]; /* b[1] NULL: the tile is one vector wide, and asks for nothing */
    wish ask;
    float *y[CONV_VECS]; /* NULL: chains end in t; else there, rows ldy apart, + bias [rows] where that is given */
    int64_t ldy;
    const float *bias;
    int stream; /* y goes past the caches: its vectors are aligned, and b[1] is there */
} conv_operands;

/* t[r][v] (+)= sum over n steps, in order, of a[r lda + step.a] b[v][step.b ...], for `rows` rows of CONV_VECS vectors v.
 * t [rows][CONV_VECS][16]; `first` starts the chains at 0. Where b[1] is NULL the second vectors of t, or y[1], stay as they are. */
void K(conv_tile)(int64_t rows, int64_t n, const conv_operands *from, float *t, int first);

/* A convolution as seen from its results. They lie on a grid of P x Q pixels, each of phases x phases results: the one at (p, q)
 * of phase (r, s) is (phases p + r, phases q + s) of the YH x YW of an image. It is the chain over (channel, i, j), for the taps
 * (i, j) of its phase among KH x KW,
 *
 *   a[m a_row + channel a_channel + i KW + j]  x[b, channel, p stride + row0 + .., q stride + col0 + ..]    (0 outside of H x W)
 *
 * of which conv_rows and conv_columns say which rows and columns of taps, and which pixels of the SH x SW from (row0, col0) that
 * a pixel of the grid sees. Forward all taps are of one phase, a tap (i, j) sees pixel (i, j). The transpose, dx, of a
 * convolution with stride s has s phases in each direction. */
typedef struct conv_view {
    int64_t batch, M, channels, H, W, P, Q, YH, YW, KH, KW;
    int64_t stride, row0, col0, SH, SW;
    int64_t phases, top, left;
    int transposed;
    const float *x;
    const void *a; /* of a_type */
    tn_dtype a_type;
    int64_t a_row, a_channel;
    int folded;  /* a holds windows of 3x3, of which k_conv_doubled.c makes 4x4 */
    float *y;    /* [batch,M,YH,YW] */
    const void *bias; /* NULL or [M] of bias_type */
    tn_dtype bias_type;
    const float *shift; /* NULL or [batch,M], added after the bias */
    const float *add;   /* NULL or laid out as y, added last */
    int acc, threads;
    void *scratch;
} conv_view;

void K(conv_direct)(const conv_view *v);
size_t K(conv_direct_scratch)(const conv_view *v); /* bytes; pointers are not read */

/* k_conv_doubled.c. Windows e of 4x4, from rows m..m+h and channels c..c+n of v's 3x3 ones. Tap (i, j) of phase (r, s) lies at
 * room + (phase CONV_ROWS + row) lda + tap width + channel: phases and the taps of each are numbered in order, and the channels
 * of a tap are 16-fold, `width` of them. */
void K(conv_fold)(const conv_view *v, int64_t m, int64_t h, int64_t c, int64_t n, int64_t width, int64_t lda, float *room);
/* dw of a doubled convolution, and what it takes. */
void K(conv_doubled_weights)(const k_conv *p);
size_t K(conv_doubled_weights_scratch)(const k_conv *p);

/* dw alone, as in k_conv; and where there are fewer pixels than outputs, to which the former turns then. */
void K(conv_weights)(const k_conv *p);
size_t K(conv_weights_scratch)(const k_conv *p);
void K(conv_weights_few)(const k_conv *p);
size_t K(conv_weights_few_scratch)(const k_conv *p);

/* k_conv_3x3.c: whether this form of it is there and faster, and that form. */
int K(conv_is_3x3)(const conv_view *v);
void K(conv_3x3)(const conv_view *v);
size_t K(conv_3x3_scratch)(const conv_view *v);

/* ---- small things for the drivers ---- */

/* y (+)= the first `lanes` lanes of h vectors, `pitch` apart (+ bias) (+ shift) (+ add), to rows of y from element `at`; bias and
 * shift are those of the rows. */
static inline void conv_write(const conv_view *v, int64_t h, const float *bias, const float *shift, const float *t, int64_t pitch,
                              int64_t lanes, int64_t at) {
    for (int64_t r = 0; r < h; r++, at += v->YH * v->YW, t += pitch) {
        float *y = v->y + at;
        v16 x = lanes == V_LANES ? v_load(t) : v_loadn(t, lanes);
        if (bias) x = v_add(x, v_set1(bias[r]));
        if (shift) x = v_add(x, v_set1(shift[r]));
        if (v->add) x = v_add(x, v_loadn(v->add + at, lanes));
        if (lanes == V_LANES) {
            v_store(y, v->acc ? v_add(x, v_load(y)) : x);
        } else {
            v_storen(y, v->acc ? v_add(x, v_loadn(y, lanes)) : x, lanes);
        }
    }
}

/* At least n floats, and an odd number of cache lines: arrays at this distance do not fall on the same cache sets. */
static inline int64_t odd_lines(int64_t n) { return (ceil_div(n, 16) | 1) * 16; }

/* out[t] = line[first + t], or 0 where that is outside 0..width. Up to 15 elements behind out[n] may be written. */
static inline void gather_dense(const float *line, int64_t width, int64_t first, int64_t n, float *out) {
    int64_t lo = min64(n, max64(0, -first)), hi = max64(lo, min64(n, width - first)), t = lo;
    for (int64_t z = 0; z < lo; z += 16) v_store(out + z, v_zero());
    for (; t + 16 <= hi; t += 16) v_store(out + t, v_load(line + first + t));
    if (t < hi) v_store(out + t, v_loadn(line + first + t, hi - t));
    for (int64_t z = hi; z < n; z += 16) v_store(out + z, v_zero());
}

#endif
