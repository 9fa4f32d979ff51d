/* The three transforms of Winograd's convolution in two dimensions, on pixels and weights as they lie. Their arithmetic and where it
 * comes from: k_winograd_points.h. */
#include "tensor/kernel/k_winograd.h"
#include "tensor/kernel/k_table.h"
#include "tensor/kernel/k_winograd_points.h"

/* ---- pixels ---- */

/* Patches are short pieces of rows that lie far apart, which the machine does not foresee: each is asked for while those of the
 * plane that many before are transformed. */
enum { PLANES_AHEAD = 2 };

/* A row of pixels of 16 tiles is a line of m vectors. Tiles beside each other give consecutive pixels; a piece is such a
 * stretch within one vector, and says where lane 0 would lie (of channel 0, in row 0 of the patch or tile) and which lanes may be
 * touched. Pieces do not depend on the channel, so they are found once for many. */
typedef struct piece {
    int64_t at, top, bottom; /* rows top..bottom-1 of the patch or tile are inside the image */
    int64_t image;
    int64_t lo[2], hi[2];    /* lanes; [1]: of patches, m pixels further to the right */
} piece;

typedef struct line {
    piece part[4 * 8]; /* a vector of 16 pixels holds at most 8 tiles */
    int64_t first[5];  /* vector v has parts first[v] .. first[v+1]-1, and at least one */
    int64_t m, width;
    uintptr_t ahead;   /* bytes from a pixel that is loaded to one that is asked for */
    int whole;         /* part v is vector v */
    int wide;          /* whole, 16 tiles of 4 x 4 beside each other, the most frequent case: only lanes at the
                        * left end may be outside of the image */
} line;

/* Pieces in planes of `channels` x height x width, where the tile at row y and column x begins with pixel (m y - top,
 * m x - left). */
static line line_of(const wino *w, int64_t t, int64_t tiles, int64_t channels, int64_t height, int64_t width, int64_t top,
                    int64_t left) {
    line l = {.m = w->m, .width = width};
    int64_t n = 0, m = w->m, per = V_LANES / m; /* tiles in a vector */
    for (int64_t v = 0; v < m; v++) {
        int64_t end = min64(tiles, (v + 1) * per), i = v * per;
        l.first[v] = n;
        if (i >= end) l.part[n++] = (piece){0};
        for (int64_t len; i < end; i += len, n++) {
            int64_t x = (t + i) % w->cols, y = (t + i) / w->cols, b = y / w->rows, lane = (i - v * per) * m;
            len = min64(end - i, w->cols - x);
            int64_t h = y % w->rows * m - top, col = x * m - left - lane;
            piece *q = &l.part[n];
            q->at = (b * channels * height + h) * width + col, q->image = b, q->top = -h, q->bottom = height - h;
            for (int64_t k = 0; k < 2; k++, col += m)
                q->lo[k] = min64(max64(lane, -col), V_LANES), q->hi[k] = max64(min64(lane + len * m, width - col), 0);
        }
    }
    l.first[m] = n;
    l.whole = m == 4 && n == 4;
    l.wide = m == 4 && tiles == V_LANES && t % w->cols + tiles <= w->cols && l.part[3].hi[0] == V_LANES;
    return l;
}

/* Vector v of row i of the patches, or with `right` of the patches of the tiles to the right, in a plane; zeros outside. */
static inline v16 load_pixels(const line *l, const float *plane, int64_t v, int64_t i, int right) {
    v16 x = v_zero();
    for (const piece *q = l->part + l->first[v], *end = l->part + l->first[v + 1]; q < end; q++) {
        const float *p = plane + (q->at + i * l->width + right * l->m);
        if (!right) v_prefetch((uintptr_t)p + l->ahead);
        if (i < q->top || i >= q->bottom) continue;
        if (q->hi[right] - q->lo[right] == V_LANES) return v_load(p);
        x = v_float(vi_or(v_bits(x), v_bits(v_load_span(p, q->lo[right], q->hi[right]))));
    }
    return x;
}

/* load_pixels of a whole line. */
static inline v16 load_piece(const line *l, const float *plane, int64_t v, int64_t i, int right) {
    const piece *q = l->part + v;
    const float *p = plane + (q->at + i * l->width);
    if (!right) v_prefetch((uintptr_t)p + l->ahead);
    return i < q->top || i >= q->bottom ? v_zero() : v_load_span(p + right * 4, q->lo[right], q->hi[right]);
}

/* Row i of the patches, column by column: their first m columns, then the two others, which are the first two of the tile to
 * the right. Both are read from the image with stride m. `whole` is that of the line, as a constant. */
static inline void load_row4(const line *l, const float *plane, int64_t i, int whole, v16 d[6]) {
    v16 a0, a1, b0, b1, drop;
#define LOAD(v, right) (whole ? load_piece(l, plane, v, i, right) : load_pixels(l, plane, v, i, right))
    v_deinterleave(LOAD(0, 0), LOAD(1, 0), &a0, &b0), v_deinterleave(LOAD(2, 0), LOAD(3, 0), &a1, &b1);
    v_deinterleave(a0, a1, &d[0], &d[2]), v_deinterleave(b0, b1, &d[1], &d[3]);
    v_deinterleave(LOAD(0, 1), LOAD(1, 1), &a0, &b0), v_deinterleave(LOAD(2, 1), LOAD(3, 1), &a1, &b1);
    v_deinterleave(a0, a1, &d[4], &drop), v_deinterleave(b0, b1, &d[5], &drop);
#undef LOAD
}

/* load_row4 of a wide line: columns of the tiles to the right are these tiles' own, moved by a lane. */
static inline void load_wide(const line *l, const float *plane, int64_t i, v16 d[6]) {
    const piece *q = l->part;
    const float *p = plane + (q->at + i * l->width);
    uintptr_t ahead = (uintptr_t)p + l->ahead;
    v16 a0, a1, b0, b1;
    v_prefetch(ahead), v_prefetch(ahead + 64), v_prefetch(ahead + 128), v_prefetch(ahead + 192), v_prefetch(ahead + 256);
    if (i < q->top || i >= q->bottom) {
        d[0] = d[1] = d[2] = d[3] = d[4] = d[5] = v_zero();
        return;
    }
    v_deinterleave(v_load_span(p, q->lo[0], V_LANES), v_load(p + V_LANES), &a0, &b0);
    v_deinterleave(v_load(p + 2 * V_LANES), v_load(p + 3 * V_LANES), &a1, &b1);
    v_deinterleave(a0, a1, &d[0], &d[2]), v_deinterleave(b0, b1, &d[1], &d[3]);
    d[4] = v_shift_in(d[0], q[3].hi[1] > 12 ? p[4 * V_LANES] : 0.0f);
    d[5] = v_shift_in(d[1], q[3].hi[1] > 13 ? p[4 * V_LANES + 1] : 0.0f);
}

static inline void load_row2(const line *l, const float *plane, int64_t i, v16 d[4]) {
    v_deinterleave(load_pixels(l, plane, 0, i, 0), load_pixels(l, plane, 1, i, 0), &d[0], &d[1]);
    v_deinterleave(load_pixels(l, plane, 0, i, 1), load_pixels(l, plane, 1, i, 1), &d[2], &d[3]);
}

/* Where the tiles of one output channel go, and what is added to them on the way; NULL: nothing. */
typedef struct sink {
    const line *l;
    float *y;
    v16 bias;
    const float *shift; /* one for each image, at distance `outputs` */
    int64_t outputs;
    const float *add, *old; /* planes like y */
    int stream;
} sink;

static sink sink_of(const wino *w, const line *l, int64_t o) {
    const k_conv *p = w->p;
    int64_t plane = o * w->P * w->Q;
    sink s = {.l = l, .y = w->y + plane, .bias = v_zero(), .outputs = w->O, .old = p->acc ? w->y + plane : NULL, .stream = w->stream};
    if (w->swapped) return s;
    if (p->bias) s.bias = v_set1(s_load_typed(p->bias, p->bias_type, o));
    if (p->shift) s.shift = p->shift + o;
    if (p->add) s.add = p->add + plane;
    return s;
}

/* Vector v of row i of the tiles. */
static inline void store_pixels(const sink *s, int64_t v, int64_t i, v16 pixels) {
    const line *l = s->l;
    for (const piece *q = l->part + l->first[v], *end = l->part + l->first[v + 1]; q < end; q++) {
        int64_t at = q->at + i * l->width;
        v16 x = v_add(pixels, s->bias);
        if (i >= q->bottom) continue;
        v_prefetch((uintptr_t)(s->y + at) + l->ahead);
        if (s->shift) x = v_add(x, v_set1(s->shift[q->image * s->outputs]));
        if (s->add) x = v_add(x, v_load_span(s->add + at, q->lo[0], q->hi[0]));
        if (s->old) x = v_add(x, v_load_span(s->old + at, q->lo[0], q->hi[0]));
        v_store_span(s->y + at, x, q->lo[0], q->hi[0]);
    }
}

/* A vector of a wide line. */
static inline void store_vector(const sink *s, int64_t at, v16 pixels) {
    v16 x = v_add(pixels, s->bias);
    if (s->shift) x = v_add(x, v_set1(s->shift[s->l->part->image * s->outputs]));
    if (s->add) x = v_add(x, v_load(s->add + at));
    if (s->old) x = v_add(x, v_load(s->old + at));
    if (s->stream && (uintptr_t)(s->y + at) % 64 == 0) v_stream(s->y + at, x);
    else v_store(s->y + at, x);
}

static inline void store_row4(const sink *s, int64_t i, const v16 r[4]) {
    const piece *q = s->l->part;
    v16 a0, a1, b0, b1, q0, q1, q2, q3;
    v_interleave(r[0], r[2], &a0, &a1), v_interleave(r[1], r[3], &b0, &b1);
    v_interleave(a0, b0, &q0, &q1), v_interleave(a1, b1, &q2, &q3);
    if (!s->l->wide) {
        store_pixels(s, 0, i, q0), store_pixels(s, 1, i, q1), store_pixels(s, 2, i, q2), store_pixels(s, 3, i, q3);
    } else if (i < q->bottom) {
        int64_t at = q->at + i * s->l->width;
        store_vector(s, at, q0), store_vector(s, at + V_LANES, q1);
        store_vector(s, at + 2 * V_LANES, q2), store_vector(s, at + 3 * V_LANES, q3);
    }
}

static inline void store_row2(const sink *s, int64_t i, const v16 r[4]) {
    v16 q0, q1;
    v_interleave(r[0], r[1], &q0, &q1);
    store_pixels(s, 0, i, q0), store_pixels(s, 1, i, q1);
}

/* ---- two dimensions ---- */

enum { E = V_LANES }; /* from one vector to the next in small buffers */

static inline void load_column(const float *p, int64_t s, int64_t n, v16 d[6]) {
    d[0] = v_load(p), d[1] = v_load(p + s), d[2] = v_load(p + 2 * s), d[3] = v_load(p + 3 * s);
    if (n == 6) d[4] = v_load(p + 4 * s), d[5] = v_load(p + 5 * s);
}

void K(wino_data)(const wino *w, int64_t c0, int64_t n, int64_t t, int64_t tiles, float *v, int64_t ld, int64_t step) {
    float r[6 * 6 * E], few[6 * 6 * E];
    int64_t s = ld < V_LANES ? E : step; /* whole vectors would write over the next channel */
    line l = line_of(w, t, tiles, w->C, w->H, w->W, w->top, w->left);
    l.ahead = (uintptr_t)(PLANES_AHEAD * w->H * w->W) * sizeof *w->x;
    for (int64_t c = c0; c < c0 + n; c++, v += ld) {
        const float *plane = w->x + c * w->H * w->W;
        for (int64_t i = 0; i < w->patch; i++) {
            v16 d[6];
            if (l.wide) load_wide(&l, plane, i, d), data4(d, r + 6 * i * E, E);
            else if (l.whole) load_row4(&l, plane, i, 1, d), data4(d, r + 6 * i * E, E);
            else if (w->m == 4) load_row4(&l, plane, i, 0, d), data4(d, r + 6 * i * E, E);
            else load_row2(&l, plane, i, d), data2(d, r + 4 * i * E, E);
        }
        for (int64_t j = 0; j < w->patch; j++) {
            v16 d[6];
            float *to = (ld < V_LANES ? few : v) + j * s;
            if (w->m == 4) load_column(r + j * E, 6 * E, 6, d), data4(d, to, 6 * s);
            else load_column(r + j * E, 4 * E, 4, d), data2(d, to, 4 * s);
        }
        for (int64_t e = 0; ld < V_LANES && e < w->patch * w->patch; e++) v_storen(v + e * step, v_load(few + e * E), ld);
    }
}

/* Rows i of the transform of columns r, written out so that all stays in registers. */
#define ROW4(i) \
    weight4(r[0][i], r[1][i], r[2][i], e); \
    v_store(u, e[0]), v_store(u + step, e[1]), v_store(u + 2 * step, e[2]), v_store(u + 3 * step, e[3]); \
    v_store(u + 4 * step, e[4]), v_store(u + 5 * step, e[5]), u += 6 * step;
#define ROW2(i) \
    weight2(r[0][i], r[1][i], r[2][i], e); \
    v_store(u, e[0]), v_store(u + step, e[1]), v_store(u + 2 * step, e[2]), v_store(u + 3 * step, e[3]), u += 4 * step;

/* The transform of taps g [3][3][16]. */
static inline void weight_2d(int64_t m, const float *g, float *u, int64_t step) {
    v16 r[3][6], e[6];
    if (m == 4) {
        weight4(v_load(g), v_load(g + 3 * E), v_load(g + 6 * E), r[0]);
        weight4(v_load(g + E), v_load(g + 4 * E), v_load(g + 7 * E), r[1]);
        weight4(v_load(g + 2 * E), v_load(g + 5 * E), v_load(g + 8 * E), r[2]);
        ROW4(0) ROW4(1) ROW4(2) ROW4(3) ROW4(4) ROW4(5)
    } else {
        weight2(v_load(g), v_load(g + 3 * E), v_load(g + 6 * E), r[0]);
        weight2(v_load(g + E), v_load(g + 4 * E), v_load(g + 7 * E), r[1]);
        weight2(v_load(g + 2 * E), v_load(g + 5 * E), v_load(g + 8 * E), r[2]);
        ROW2(0) ROW2(1) ROW2(2) ROW2(3)
    }
}

void K(wino_weight)(const wino *w, int64_t o0, int64_t c0, int64_t n, float *u, int64_t step) {
    float g[9 * V_LANES * E];
    for (int64_t c = 0; c < n; c += V_LANES) {
        K(turn_taps)(&w->taps, o0, c0 + c, min64(V_LANES, n - c), w->swapped, g);
        for (int64_t k = 0; k < min64(V_LANES, n - c); k++, u += GEMM_COLS) weight_2d(w->m, g + 9 * k * E, u, step);
    }
}

/* From columns that have been transformed already. */
static void finish_rows(int64_t m, const sink *s, const float *r) {
    for (int64_t i = 0; i < m; i++) {
        v16 y[4];
        if (m == 4) result4(r + 6 * i * E, E, y), store_row4(s, i, y);
        else result2(r + 4 * i * E, E, y), store_row2(s, i, y);
    }
}

/* Columns of one output, [m][patch]. */
static void finish_columns(const wino *w, const float *mem, int64_t step, float *r) {
    for (int64_t j = 0; j < w->patch; j++, r += E) {
        v16 y[4];
        for (int64_t k = 0; k < w->patch; k++) v_prefetch((uintptr_t)(mem + (j + k * w->patch) * step + GEMM_COLS)); /* the next output */
        if (w->m == 4) {
            result4(mem + j * step, 6 * step, y);
            v_store(r, y[0]), v_store(r + 6 * E, y[1]), v_store(r + 12 * E, y[2]), v_store(r + 18 * E, y[3]);
        } else {
            result2(mem + j * step, 4 * step, y);
            v_store(r, y[0]), v_store(r + 4 * E, y[1]);
        }
    }
}

void K(wino_result)(const wino *w, int64_t o0, int64_t n, int64_t t, int64_t tiles, const float *mem, int64_t step) {
    float r[4 * 6 * E];
    line l = line_of(w, t, tiles, w->O, w->P, w->Q, 0, 0);
    l.ahead = (uintptr_t)(PLANES_AHEAD * w->P * w->Q) * sizeof *w->y;
    for (int64_t o = o0; o < o0 + n; o++, mem += GEMM_COLS) {
        finish_columns(w, mem, step, r);
        sink s = sink_of(w, &l, o);
        finish_rows(w->m, &s, r);
    }
}
