/* The gradient of 3x3 weights, stride 1, by Winograd's transforms for tiles of 4 x 4 (k_winograd_points.h). For each of the 36
 * elements e of a patch there is one matrix product over the tiles of all images:
 *
 *   M[e] [channels, outputs] = V[e] [channels, tiles] x D[e] [tiles, outputs]
 *
 * each element of which is a chain of fused multiply-adds over ascending tiles, computed by the register tile of k_gemm.c. V are
 * the transformed patches of x, D the spread tiles of dy; both lie in panels of GEMM_COLS channels, so that lanes are channels
 * everywhere: images are turned a row of tiles at a time, and the transforms see whole vectors whatever the size of an image.
 *
 *   section  rows of tiles of which V and D are at most FLOATS, all of them as a rule; V and D are made first, by all threads
 *   task     a panel of channels x a panel of outputs, all elements of a patch, which it turns into dw; M is 0.15 MB
 *   block    TILES tiles of one element: 32 KB of each panel
 *
 * M of a task rests in the worker's scratch between blocks; where there are several sections that of all tasks is kept (a float at rest
 * is the float in the register: no bit changes). */
#include "tensor/kernel/k_gemm.h"
#include "tensor/kernel/k_table.h"
#include "tensor/kernel/k_winograd_points.h"
#include "tensor/parallel.h"

enum {
    TILE = 4,
    PATCH = TILE + 2,
    ELEMENTS = PATCH * PATCH,
    E = V_LANES,        /* from one vector to the next in small buffers */
    FLOATS = 16 << 20,  /* 64 MB */
    TILES = 256,
    AHEAD = 2,          /* channels of M that are asked for */
    SKEW = 16,          /* floats that keep the elements of a patch out of the same cache set */
    M_STEP = GEMM_COLS * GEMM_COLS + SKEW,
    M_SIZE = ELEMENTS * M_STEP
};

typedef struct plan {
    const k_conv *p;
    int64_t rows, cols;          /* tiles of an image */
    int64_t section, sections;   /* rows of tiles, of all images together */
    int64_t x_panels, dy_panels; /* of GEMM_COLS channels or outputs */
    int64_t step;                /* from one element of a patch to the next, in V and D */
    int64_t v_size;              /* floats of V and D */
    int64_t row_size;            /* floats of the rows that a worker turns */
    int64_t resting;             /* how many M there are: one for each task, or each worker */
    int stream;                  /* dw goes past the caches: it is larger than they are */
    int threads;
} plan;

static plan make_plan(const k_conv *p) {
    plan q = {.p = p, .rows = ceil_div(p->P, TILE), .cols = ceil_div(p->Q, TILE)};
    q.x_panels = ceil_div(p->C, GEMM_COLS), q.dy_panels = ceil_div(p->O, GEMM_COLS);
    int64_t rows = p->batch * q.rows, panels = q.x_panels + q.dy_panels;
    q.threads = tn_threads_for(p->threads < 1 ? 1 : p->threads, 0.02 * ELEMENTS * (double)(rows * q.cols) * (double)p->C * (double)p->O);
    q.section = max64(1, FLOATS / (panels * ELEMENTS * q.cols * GEMM_COLS));
    q.sections = ceil_div(rows, q.section), q.section = ceil_div(rows, q.sections);
    q.step = q.section * q.cols * GEMM_COLS + SKEW, q.v_size = panels * ELEMENTS * q.step;
    q.resting = q.sections > 1 ? q.x_panels * q.dy_panels : q.threads;
    q.stream = !p->acc && p->O * p->C * 9 > V_STREAM_FLOATS && p->C % V_LANES == 0 && (uintptr_t)p->dw % 64 == 0;
    q.row_size = PATCH * (q.cols * TILE + 2) * E;
    return q;
}

size_t K(winograd_dw_scratch)(const k_conv *p) {
    plan q = make_plan(p);
    return (size_t)(q.v_size + q.resting * M_SIZE + q.threads * q.row_size) * sizeof(float);
}

/* Element e of panel i of V and, behind it, of D. */
static float *element(const plan *q, int64_t i, int64_t e) { return (float *)q->p->scratch + (i * ELEMENTS + e) * q->step; }

/* ---- D and V: a task is a row of tiles of one panel ---- */

typedef struct job {
    const plan *q;
    int64_t row, rows; /* of the section */
} job;

/* Rows y0..y0+rows and columns x0..x0+width, x0 <= 0, of n <= 16 planes of H x W pixels, as [row][column][16]; 0 outside of the
 * image. Lanes without a plane repeat the last. */
static void turn_planes(const float *plane, int64_t n, int64_t H, int64_t W, int64_t y0, int64_t rows, int64_t x0, int64_t width,
                        float *out) {
    for (int64_t y = y0; y < y0 + rows; y++, out += width * E) {
        int64_t end = y < 0 || y >= H ? x0 : min64(W, x0 + width);
        for (int64_t x = x0; x < width + x0; x++)
            if (x < 0 || x >= end) v_store(out + (x - x0) * E, v_zero());
        for (int64_t x = 0; x < end; x += V_LANES) {
            const float *from = plane + y * W + x;
            float *to = out + (x - x0) * E;
            int64_t len = min64(V_LANES, end - x);
            v16 r[16];
#define LOAD_EDGE(i) r[i] = v_loadn(from + min64(i, n - 1) * H * W, len);
#define STORE_PIXEL(i) if (i < len) v_store(to + i * E, r[i]);
            if (n == V_LANES && len == V_LANES) {
                v_load_rows(r, from, TN_F32, 0, H * W);
            } else {
                V_SIXTEEN(LOAD_EDGE)
            }
            v_transpose(r);
            V_SIXTEEN(STORE_PIXEL)
        }
    }
}

static inline void load_six(const float *from, int64_t step, v16 r[6]) {
    r[0] = v_load(from), r[1] = v_load(from + step), r[2] = v_load(from + 2 * step);
    r[3] = v_load(from + 3 * step), r[4] = v_load(from + 4 * step), r[5] = v_load(from + 5 * step);
}

/* The transformed patch of the 6 x 6 pixels at x: element e at v + e step. */
static void transform_patch(const float *x, int64_t pitch, float *v, int64_t step) {
    float r[ELEMENTS * E];
    v16 d[6];
    for (int64_t j = 0; j < PATCH; j++) load_six(x + j * E, pitch, d), data4(d, r + j * E, PATCH * E);
    for (int64_t i = 0; i < PATCH; i++) load_six(r + i * PATCH * E, E, d), data4(d, v + i * PATCH * step, step);
}

/* The spread tile of the 4 x 4 pixels at dy. */
static void spread_tile(const float *dy, int64_t pitch, float *v, int64_t step) {
    float r[PATCH * TILE * E];
    for (int64_t j = 0; j < TILE; j++, dy += E)
        spread4(v_load(dy), v_load(dy + pitch), v_load(dy + 2 * pitch), v_load(dy + 3 * pitch), r + j * E, TILE * E);
    for (int64_t i = 0; i < PATCH; i++) {
        const float *from = r + i * TILE * E;
        spread4(v_load(from), v_load(from + E), v_load(from + 2 * E), v_load(from + 3 * E), v + i * PATCH * step, step);
    }
}

static void transform_task(void *arg, int64_t index, int worker) {
    const job *s = arg;
    const plan *q = s->q;
    const k_conv *p = q->p;
    int64_t i = index / s->rows, row = index % s->rows, b = (s->row + row) / q->rows, y = (s->row + row) % q->rows * TILE;
    int is_x = i < q->x_panels;
    int64_t channels = is_x ? p->C : p->O, H = is_x ? p->H : p->P, W = is_x ? p->W : p->Q, width = q->cols * TILE + (is_x ? 2 : 0);
    float *T = (float *)p->scratch + q->v_size + q->resting * M_SIZE + worker * q->row_size;
    for (int64_t l = 0; l < GEMM_COLS; l += V_LANES) {
        int64_t c = (is_x ? i : i - q->x_panels) * GEMM_COLS + l, n = min64(V_LANES, channels - c);
        if (n <= 0) break;
        const float *plane = (is_x ? p->x : p->dy) + (b * channels + c) * H * W;
        if (is_x) turn_planes(plane, n, H, W, y - p->top, PATCH, -p->left, width, T);
        else turn_planes(plane, n, H, W, y, TILE, 0, width, T);
        float *v = element(q, i, 0) + row * q->cols * GEMM_COLS + l;
        for (int64_t t = 0; t < q->cols; t++)
            (is_x ? transform_patch : spread_tile)(T + t * TILE * E, width * E, v + t * GEMM_COLS, q->step);
    }
}

/* ---- products and dw ---- */

/* M[e][channel][output] (+)= V D of panels c and o over the tiles of the section. */
static void multiply(const job *s, int64_t c, int64_t o, float *M) {
    const plan *q = s->q;
    int64_t tiles = s->rows * q->cols, outputs = min64(GEMM_COLS, q->p->O - o * GEMM_COLS);
    int64_t channels = min64(GEMM_COLS, q->p->C - c * GEMM_COLS);
    for (int64_t e = 0; e < ELEMENTS; e++, M += M_STEP)
        for (int64_t k = 0; k < tiles; k += TILES) {
            const float *V = element(q, c, e) + k * GEMM_COLS, *D = element(q, q->x_panels + o, e) + k * GEMM_COLS;
            gemm_rows(channels, min64(TILES, tiles - k), outputs, V, GEMM_COLS, D, M, s->row == 0 && k == 0);
        }
}

/* The taps of one channel and 16 outputs, a vector each, from element e at m + e M_STEP. */
static void make_taps(const float *m, float *taps) {
    v16 column[6], r[3][6], g[3];
    for (int64_t j = 0; j < PATCH; j++, m += M_STEP) {
        for (int64_t i = 0; i < PATCH; i++) v_prefetch((uintptr_t)(m + i * PATCH * M_STEP + AHEAD * GEMM_COLS));
        load_six(m, PATCH * M_STEP, column);
        taps4(column, g), r[0][j] = g[0], r[1][j] = g[1], r[2][j] = g[2];
    }
    for (int64_t i = 0; i < 3; i++, taps += 3 * E) {
        taps4(r[i], g);
        v_store(taps, g[0]), v_store(taps + E, g[1]), v_store(taps + 2 * E, g[2]);
    }
}

/* dw (+)= 16 values of each of n <= 16 outputs, of which len are there, from a vector of outputs for each value. */
static inline void write_lines(const plan *q, int64_t n, int64_t len, const float *value, float *dw) {
    v16 r[16];
    int64_t row = q->p->C * 9;
    int acc = q->p->acc, whole = n == V_LANES && len == V_LANES && !acc;
#define LOAD_VALUE(i) r[i] = v_load(value + i * E);
#define STREAM_LINE(i) v_stream(dw + i * row, r[i]);
#define STORE_LINE(i) v_store(dw + i * row, r[i]);
    V_SIXTEEN(LOAD_VALUE)
    v_transpose(r);
    if (whole && q->stream) {
        V_SIXTEEN(STREAM_LINE)
    } else if (whole) {
        V_SIXTEEN(STORE_LINE)
    } else {
        for (int64_t l = 0; l < n; l++, dw += row) v_storen(dw, acc ? v_add(r[l], v_loadn(dw, len)) : r[l], len);
    }
}

/* dw of outputs o..o+n, n <= 16, and channels c..c1, from element e of channel c at m + e M_STEP. Of one output the taps of 16
 * channels are nine lines. Rows of M behind the channels may be anything. */
static void write_dw(const plan *q, int64_t o, int64_t n, int64_t c, int64_t c1, const float *m) {
    float taps[9 * V_LANES * E];
    for (; c < c1; c += V_LANES) {
        int64_t run = 9 * min64(V_LANES, c1 - c);
        for (int64_t i = 0; i < V_LANES; i++, m += GEMM_COLS) make_taps(m, taps + 9 * i * E);
        for (int64_t z = 0; z < run; z += V_LANES)
            write_lines(q, n, min64(V_LANES, run - z), taps + z * E, q->p->dw + (o * q->p->C + c) * 9 + z);
    }
}

static void product_task(void *arg, int64_t index, int worker) {
    const job *s = arg;
    const plan *q = s->q;
    const k_conv *p = q->p;
    int64_t o = index / q->x_panels, c = index % q->x_panels, o0 = o * GEMM_COLS, c0 = c * GEMM_COLS;
    float *M = (float *)p->scratch + q->v_size + (q->sections > 1 ? index : worker) * M_SIZE;
    multiply(s, c, o, M);
    if (s->row + s->rows < p->batch * q->rows) return;
    for (int64_t l = 0; l < min64(GEMM_COLS, p->O - o0); l += V_LANES)
        write_dw(q, o0 + l, min64(V_LANES, p->O - o0 - l), c0, min64(p->C, c0 + GEMM_COLS), M + l);
    if (q->stream) v_stream_end();
}

void K(winograd_dw)(const k_conv *p) {
    plan q = make_plan(p);
    int64_t rows = p->batch * q.rows;
    for (int64_t row = 0; row < rows; row += q.section) {
        job s = {&q, row, min64(q.section, rows - row)};
        tn_parallel_for(q.threads, (q.x_panels + q.dy_panels) * s.rows, transform_task, &s);
        tn_parallel_for(q.threads, q.x_panels * q.dy_panels, product_task, &s);
    }
}
