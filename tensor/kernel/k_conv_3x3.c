/* Direct convolution with 3x3 windows, stride 1 and a pixel of padding all around: forward, and dx.
 *
 * A zero of the padding costs as much as a pixel: at 8x8 a sixth of all taps see one, at 4x4 a third. In k_conv_direct.c, where lanes
 * are pixels, a vector is shared by pixels that see zeros and others that do not. Here lanes are rows of the weights, M, and each
 * pixel is a row of the register tile, which skips the taps that it lacks. For that the weights are turned (k_taps.c), 60 cycles for
 * 16 rows and a channel; in return narrow weights need not be widened before, and pixels of up to 64x64 are read where they lie.
 * Of larger images, whose channels would fall into the same sets of the caches, a task copies what it sees.
 *
 * A chain is the same as there, without its products of zeros. They change no sum of finite numbers, but that one which underflowed
 * to -0 stays so. The shape of one image decides, so bits depend neither on the machine nor on the batch.
 *
 *   panel  GEMM_COLS rows of M, whose weights a task turns
 *   task   a panel, or where it copies all of them, and about GROUP pixels: rows of images, or part of the rows
 *   block  up to CB channels, whose weights, or copies, stay in the second-level cache while all pixels, or all panels, pass; the
 *          sums rest meanwhile
 *   tile   up to GEMM_ROWS pixels of a row of an image
 *
 * GFLOP/s of two threads at the count with zeros, by k_conv_direct.c > here, forward and dx:
 *
 *   320 at 64x64     223, 222 > 229, 228 (AVX2: 185, 168 > 211, 206)     1280 at 8x8, F32 weights   219, 221 > 232, 220
 *   640 at 32x32     221, 222 > 235, 233 (AVX2: 185, 167 > 202, 200)                  F16 weights   208, 199 > 235, 225
 *   1280 at 16x16    223, 225 > 231, 228 (AVX2: 188, 177 > 204, 192)                  F32, batch 2  221, 223 > 243, 233
 *   128 at 8x8, batch 32, 213, 212 > 252, 250                            128 at 4x4, batch 32       191, 191 > 301, 295
 *
 * AVX2, whose turning is slower, loses with a single image of 8x8 (192 > 185) or 4x4 (173 > 120; AVX-512 200 > 206). */
#include "tensor/kernel/k_conv.h"
#include "tensor/kernel/k_gemm.h"
#include "tensor/kernel/k_taps.h"
#include "tensor/kernel/k_tile.h"
#include "tensor/parallel.h"

enum {
    PIXELS = 4096, /* of an image that is read where it lies: of larger ones the channels fall into the same sets of the caches */
    STRIPE = 64,   /* columns of a copy */
    GROUP = 1024,  /* pixels of a task: 64 or 128 KB of sums for each panel */
    LEAST = 32,    /* pixels of a task: with fewer, weights are turned for too little, */
    LEAST_COPIED = 128, /* or too much around them is copied */
    CB = 128,      /* channels at most: 147 KB of weights, for which long stretches of a row are read at once, */
    SLAB = 1 << 16, /* and floats of their pixels, which leaves at least a quarter of those channels */
    FEW = 16       /* channels: where images are to be copied, a chain of fewer is bound by writing y, and k_conv_direct.c is faster */
};

typedef struct plan {
    int copied;
    int64_t panels, m_tasks;         /* of M; parts of them */
    int64_t stacks, rows;            /* of images that lie one below the other; rows of one */
    int64_t groups, stripes;         /* of a stack's rows, and of its columns */
    int64_t most, width;             /* rows and columns of the largest part */
    int64_t blocks, plane;           /* floats of a channel */
    int64_t taps_size, sums_size, slab_size, size; /* of a worker's scratch, in floats: of a vector of rows; the last: all */
    int threads;
} plan;

static plan make_plan(const conv_view *v) {
    plan q = {.copied = v->H * v->W > PIXELS, .panels = ceil_div(v->M, GEMM_COLS)};
    q.threads = tn_threads_for(v->threads < 1 ? 1 : v->threads, 0.18 * (double)(v->batch * v->H * v->W) * (double)v->M * (double)v->channels);
    q.m_tasks = q.copied ? 1 : q.panels, q.stacks = q.copied ? v->batch : 1, q.rows = v->batch * v->H / q.stacks;
    q.stripes = q.copied ? ceil_div(v->W, STRIPE) : 1;
    q.width = min64(v->W, round_up(ceil_div(v->W, q.stripes), V_LANES));
    q.groups = ceil_div(q.rows * q.width, GROUP);
    for (int64_t n, least = q.copied ? LEAST_COPIED : LEAST;;) {
        n = q.m_tasks * q.stacks * q.stripes * q.groups;
        if (n % q.threads == 0 || n >= 4 * q.threads || q.rows * q.width < (q.groups + 1) * least) break;
        q.groups++;
    }
    q.groups = min64(q.groups, q.rows);
    q.most = ceil_div(q.rows, q.groups);
    q.plane = q.copied ? odd_lines((q.most + 2) * (q.width + 2) + V_LANES) : v->H * v->W;
    int64_t cb = max64(CB / 4, min64(CB, SLAB / q.plane / V_LANES * V_LANES));
    q.blocks = max64(1, ceil_div(v->channels, cb)), cb = ceil_div(v->channels, q.blocks);
    q.taps_size = taps_room(cb);
    q.sums_size = (q.panels / q.m_tasks * q.most * q.width + V_LANES) * GEMM_COLS; /* `finish` reads 16 pixels at a time */
    q.slab_size = q.copied ? cb * q.plane : 0;
    q.size = V_TILE_VECS * q.taps_size + q.sums_size + V_LANES * V_LANES + q.slab_size;
    return q;
}

int K(conv_is_3x3)(const conv_view *v) {
    int geometry = v->KH == 3 && v->KW == 3 && v->stride == 1 && v->phases == 1 && !v->folded && v->row0 == -1 && v->col0 == -1 &&
                   v->YH == v->H && v->YW == v->W;
    if (!geometry || v->H < 1 || v->W < 1 || v->batch < 1 || v->channels < (v->H * v->W > PIXELS ? FEW : 1)) return 0;
    /* multiply-adds for a channel, in panels of 32 rows here and vectors of pixels there */
    return round_up(v->M, 32) * (3 * v->H - 2) * (3 * v->W - 2) < v->M * 9 * round_up(v->H * v->W, V_LANES);
}

size_t K(conv_3x3_scratch)(const conv_view *v) {
    plan q = make_plan(v);
    return (size_t)(q.size * q.threads) * sizeof(float);
}

/* ---- the tile ---- */

/* Pixels of a row, and what they see: rows i0..i1 of the window are inside of the image. */
typedef struct strip {
    const float *x; /* what the first pixel sees through the middle of the window's first row inside of the image, in channel 0 */
    int64_t n, plane, rows, down; /* channels; from one to the next; rows of the window that are inside, and how far apart */
    int64_t turn;   /* 1; for dx -1, as taps are met in the order of the weight there too, and see the pixel on the other side */
    int left, right; /* whether the first and the last pixel are the image's */
    const float *g[V_TILE_VECS];
    taps_ahead *ahead;
    int64_t asked; /* lines of it, for each channel */
} strip;

/* X for the pixels that are neither the first nor the last, and for the last if it is not the first. */
#define MIDDLE_1(X)
#define MIDDLE_2(X)
#define MIDDLE_3(X) X(1)
#define MIDDLE_4(X) MIDDLE_3(X) X(2)
#define MIDDLE_5(X) MIDDLE_4(X) X(3)
#define MIDDLE_6(X) MIDDLE_5(X) X(4)
#define MIDDLE_7(X) MIDDLE_6(X) X(5)
#define MIDDLE_8(X) MIDDLE_7(X) X(6)
#define MIDDLE_9(X) MIDDLE_8(X) X(7)
#define MIDDLE_10(X) MIDDLE_9(X) X(8)
#define MIDDLE_11(X) MIDDLE_10(X) X(9)
#define MIDDLE_12(X) MIDDLE_11(X) X(10)
#define MIDDLE_13(X) MIDDLE_12(X) X(11)
#define MIDDLE_14(X) MIDDLE_13(X) X(12)
#define LAST_1(X)
#define LAST_2(X) X(1)
#define LAST_3(X) X(2)
#define LAST_4(X) X(3)
#define LAST_5(X) X(4)
#define LAST_6(X) X(5)
#define LAST_7(X) X(6)
#define LAST_8(X) X(7)
#define LAST_9(X) X(8)
#define LAST_10(X) X(9)
#define LAST_11(X) X(10)
#define LAST_12(X) X(11)
#define LAST_13(X) X(12)
#define LAST_14(X) X(13)

#define START(i) \
    v16 c##i = first ? v_zero() : v_load(t + (i) * GEMM_COLS); \
    WIDE(v16 d##i = first ? v_zero() : v_load(t + (i) * GEMM_COLS + V_LANES);)
#define STEP(i) \
    { \
        v16 pixel = v_set1(row[i]); \
        c##i = v_fma(b0, pixel, c##i); \
        WIDE(d##i = v_fma(b1, pixel, d##i);) \
    }
#define STOP(i) \
    v_store(t + (i) * GEMM_COLS, c##i); \
    WIDE(v_store(t + (i) * GEMM_COLS + V_LANES, d##i);)

/* Tap j of a row of the window; `no_first` and `no_last`: it is outside of the image for this pixel. */
#define TAP(h, j, no_first, no_last) \
    { \
        const float *row = x + ((j) - 1) * turn; \
        v16 b0 = v_load(g0 + (j) * V_LANES); \
        WIDE(v16 b1 = v_load(g1 + (j) * V_LANES);) \
        if (!(no_first) && (h > 1 || !(no_last))) STEP(0) \
        MIDDLE_##h(STEP) \
        if (!(no_last)) { \
            LAST_##h(STEP) \
        } \
    }

#define DEFINE_TILE(h) \
    static void tile_##h(const strip *s, float *t, int first) { \
        const float *top = s->x, *g0 = s->g[0], *g1 = s->g[V_TILE_VECS - 1]; \
        int64_t turn = s->turn, rows = s->rows, skip = 9 - 3 * rows, asked = s->asked; \
        int left = s->left, right = s->right, mirrored = turn < 0; \
        int no_first0 = left && !mirrored, no_last0 = right && mirrored; \
        int no_first2 = left && mirrored, no_last2 = right && !mirrored; \
        taps_ahead ahead = *s->ahead; \
        (void)g1; \
        ROWS_##h(START) \
        for (int64_t k = 0; k < s->n; k++, top += s->plane, g0 += skip * V_LANES, g1 += skip * V_LANES) { \
            const float *x = top; \
            for (int64_t i = 0; i < asked; i++) taps_ask(&ahead); \
            for (int64_t i = 0; i < rows; i++, x += s->down, g0 += 3 * V_LANES, g1 += 3 * V_LANES) { \
                TAP(h, 0, no_first0, no_last0) \
                TAP(h, 1, 0, 0) \
                TAP(h, 2, no_first2, no_last2) \
            } \
        } \
        ROWS_##h(STOP) \
        *s->ahead = ahead; \
    }

EACH_HEIGHT(DEFINE_TILE)
static void (*const tile_of_height[GEMM_ROWS + 1])(const strip *s, float *t, int first) = TILES;

/* ---- a task ---- */

typedef struct job {
    const conv_view *v;
    plan q;
} job;

/* Rows row..row_end of all images, counted through, and columns column..column_end. */
typedef struct region {
    int64_t row, row_end, column, column_end;
} region;

/* Pixels of channels, `plane` apart, in rows that are `pitch` apart: x is that of row `top` and column `left` of an image. */
typedef struct pixels {
    const float *x;
    int64_t plane, pitch, top, left;
} pixels;

/* Channels c0..c0+n of image b. */
static pixels where_they_lie(const conv_view *v, int64_t b, int64_t c0) {
    return (pixels){v->x + (b * v->channels + c0) * v->H * v->W, v->H * v->W, v->W, 0, 0};
}

/* Copies channels c0..c0+n of what the region sees, which is of one image. */
static pixels copied(const conv_view *v, const plan *q, const region *g, int64_t c0, int64_t n, float *slab) {
    int64_t b = g->row / v->H, top = max64(0, g->row - b * v->H - 1), end = min64(v->H, g->row_end - b * v->H + 1);
    int64_t left = max64(0, g->column - 1), width = min64(v->W, g->column_end + 1) - left;
    pixels from = where_they_lie(v, b, c0);
    for (int64_t c = 0; c < n; c++)
        for (int64_t p = top; p < end; p++)
            gather_dense(from.x + c * from.plane + p * v->W, v->W, left, width, slab + c * q->plane + (p - top) * width);
    return (pixels){slab, q->plane, width, top, left};
}

/* Columns q0..q1 of row p of an image, whose sums are at t. */
static void run_row(const conv_view *v, const pixels *from, strip *s, const float *const *g, int64_t p, int64_t q0, int64_t q1, float *t,
                    int first) {
    int64_t i0 = s->turn > 0 ? p == 0 : p == v->H - 1, i1 = s->turn > 0 ? p == v->H - 1 : p == 0, pieces = ceil_div(q1 - q0, GEMM_ROWS);
    s->plane = from->plane, s->rows = 3 - i0 - i1, s->down = s->turn * from->pitch;
    for (int64_t z = 0; z < V_TILE_VECS; z++) s->g[z] = g[z] + 3 * i0 * V_LANES;
    for (int64_t z = 0; z < pieces; z++) {
        int64_t q = q0 + cut(q1 - q0, z, pieces), end = q0 + cut(q1 - q0, z + 1, pieces);
        s->x = from->x + (p - from->top) * from->pitch + q - from->left + (i0 - 1) * s->down, s->left = q == 0, s->right = end == v->W;
        tile_of_height[end - q](s, t + (q - q0) * GEMM_COLS, first);
    }
}

/* Rows m.. of the sums t [n][GEMM_COLS] of n pixels from `pixel` of image b, to y. */
static void finish(const conv_view *v, int64_t m, int64_t b, int64_t pixel, int64_t n, const float *t, float *turned) {
    for (int64_t z = 0; z < min64(GEMM_COLS, v->M - m); z += V_LANES) {
        int64_t rows = min64(V_LANES, v->M - m - z);
        float bias[V_LANES];
        for (int64_t i = 0; v->bias && i < rows; i++) bias[i] = s_load_typed(v->bias, v->bias_type, m + z + i);
        for (int64_t k = 0; k < n; k += V_LANES) {
            v16 r[16];
            for (int64_t i = 0; i < V_LANES; i++) r[i] = v_load(t + (k + i) * GEMM_COLS + z); /* what lies behind ends in unused lanes */
            v_transpose(r);
            for (int64_t i = 0; i < V_LANES; i++) v_store(turned + i * V_LANES, r[i]);
            conv_write(v, rows, v->bias ? bias : NULL, v->shift ? v->shift + b * v->M + m + z : NULL, turned, V_LANES,
                       min64(V_LANES, n - k), (b * v->M + m + z) * v->H * v->W + pixel + k);
        }
    }
}

/* The region's sums t [row][column][GEMM_COLS], to rows m.. of y. */
static void finish_region(const conv_view *v, const region *g, int64_t m, const float *t, float *turned) {
    int64_t width = g->column_end - g->column, whole = width == v->W;
    for (int64_t r = g->row, n; r < g->row_end; r += n, t += n * width * GEMM_COLS) {
        n = whole ? min64(g->row_end - r, v->H - r % v->H) : 1;
        finish(v, m, r / v->H, r % v->H * v->W + g->column, n * width, t, turned);
    }
}

static region region_of(const conv_view *v, const plan *q, int64_t index) {
    int64_t group = index % q->groups, stripe = index / q->groups % q->stripes, stack = index / q->groups / q->stripes % q->stacks;
    int64_t vectors = ceil_div(v->W, V_LANES), row = stack * q->rows;
    return (region){row + cut(q->rows, group, q->groups), row + cut(q->rows, group + 1, q->groups),
                    cut(vectors, stripe, q->stripes) * V_LANES, min64(v->W, cut(vectors, stripe + 1, q->stripes) * V_LANES)};
}

static void run_task(void *arg, int64_t index, int worker) {
    const job *w = arg;
    const conv_view *v = w->v;
    const plan *q = &w->q;
    region g = region_of(v, q, index);
    int64_t part = index / (q->groups * q->stripes * q->stacks), m0 = cut(q->panels, part, q->m_tasks) * GEMM_COLS;
    int64_t m1 = min64(v->M, cut(q->panels, part + 1, q->m_tasks) * GEMM_COLS), width = g.column_end - g.column;
    float *taps_room = (float *)v->scratch + worker * q->size, *sums = taps_room + V_TILE_VECS * q->taps_size;
    float *turned = sums + q->sums_size, *slab = turned + V_LANES * V_LANES;
    taps weights = {v->a, v->a_type, v->M, v->channels, v->a_row, v->a_channel};
    for (int64_t block = 0; block < q->blocks; block++) {
        int64_t c0 = cut(v->channels, block, q->blocks), n = cut(v->channels, block + 1, q->blocks) - c0;
        int last = block + 1 == q->blocks;
        pixels from = q->copied ? copied(v, q, &g, c0, n, slab) : (pixels){0};
        float *t = sums;
        for (int64_t m = m0, high; m < m1; m += high, t += (g.row_end - g.row) * width * GEMM_COLS) {
            high = min64(GEMM_COLS, m1 - m);
            for (int64_t z = 0; z < high; z += V_LANES) K(turn_taps)(&weights, m + z, c0, n, 0, taps_room + z / V_LANES * q->taps_size);
            int end = m + high == m1;
            taps_ahead ahead = K(taps_ahead)(&weights, end && !last ? m0 : m + high, GEMM_COLS, !end ? c0 : last ? 0 : c0 + n, n);
            strip s = {.n = n, .turn = v->transposed ? -1 : 1, .ahead = &ahead};
            s.asked = ceil_div(ahead.stretches * ahead.lines, (g.row_end - g.row) * ceil_div(width, GEMM_ROWS) * n);
            const float *panel[V_TILE_VECS] = {taps_room};
            panel[V_TILE_VECS - 1] = high > V_LANES ? taps_room + q->taps_size : taps_room;
            for (int64_t r = g.row; r < g.row_end; r++) {
                if (!q->copied) from = where_they_lie(v, r / v->H, c0);
                run_row(v, &from, &s, panel, r % v->H, g.column, g.column_end, t + (r - g.row) * width * GEMM_COLS, block == 0);
            }
            if (last) finish_region(v, &g, m, t, turned);
        }
    }
}

void K(conv_3x3)(const conv_view *v) {
    job w = {v, make_plan(v)};
    tn_parallel_for(w.q.threads, w.q.m_tasks * w.q.stacks * w.q.stripes * w.q.groups, run_task, &w);
}
