/* Gradient of a convolution's weights where there are fewer pixels than outputs: 8 x 8 or 16 x 16 pixels of the UNet's deep levels. An
 * element of dw is worth few multiply-adds then, and what k_conv_weights.c does to each, turning it as it is written, costs 12 % of the
 * time. Here it is written as it is made: lanes are columns, an input channel and a tap (c, i, j) each, which is the order of dw's
 * rows, and dy is read where it lies. The chains over the pixels are the same,
 *
 *   dw [O, C KH KW]  =  dy [O, B P Q]  x  cols(x) [B P Q, C KH KW]
 *
 *   task   some panels of columns x all outputs. The columns are gathered (im2col) and turned once, K values for the O K
 *          multiply-adds of a column; they stay in the second-level cache, and the outputs pass by
 *
 * A tile's lines of dw are asked for while the tile before it is computed; a dw that is larger than the caches goes past them. */
#include "tensor/kernel/k_conv.h"
#include "tensor/parallel.h"

enum {
    WIDTH = CONV_VECS * V_LANES, /* columns of a panel */
    PANELS = 1 << 16             /* floats of the turned columns: 256 KB of a second-level cache of 1 MB */
};

typedef struct plan {
    int64_t pixels, columns, panels, tasks, most; /* most: panels of the largest task */
    int64_t run;                                  /* floats of a gathered column */
    int64_t gather_size, cols_size, step_size;    /* of a worker's scratch, in floats */
    int stream, threads;
} plan;

static plan make_plan(const k_conv *p) {
    plan q = {.pixels = p->batch * p->P * p->Q, .columns = p->C * p->KH * p->KW};
    q.panels = ceil_div(q.columns, WIDTH);
    q.stream = !p->acc && p->O * q.columns > V_STREAM_FLOATS && q.columns % WIDTH == 0 && (uintptr_t)p->dw % LINE == 0;
    q.threads = tn_threads_for(p->threads < 1 ? 1 : p->threads, 0.02 * (double)q.pixels * (double)p->O * (double)q.columns);
    q.tasks = ceil_div(q.panels, max64(1, PANELS / WIDTH / q.pixels));
    q.tasks = min64(q.panels, round_up(q.tasks, q.threads));
    q.most = ceil_div(q.panels, q.tasks);
    q.run = odd_lines(q.pixels + V_LANES);
    q.gather_size = V_LANES * q.run, q.cols_size = q.most * q.pixels * WIDTH;
    q.step_size = round_up(STEP_FLOATS * q.pixels, V_LANES);
    return q;
}

static int64_t worker_size(const plan *q) { return q->gather_size + q->cols_size + CONV_TILE + q->step_size; }

size_t K(conv_weights_few_scratch)(const k_conv *p) {
    plan q = make_plan(p);
    return (size_t)worker_size(&q) * sizeof(float) * (size_t)q.threads;
}

/* What tap j sees of a row of the image, for Q results. Up to 15 floats behind them may be written. */
static void gather_row(const k_conv *p, const float *row, int64_t j, float *out) {
    int64_t first = j - p->left;
    if (p->stride == 1) {
        for (int64_t z = 0; z < p->Q; z += V_LANES, first += V_LANES) {
            int64_t lo = min64(V_LANES, max64(0, -first)), hi = max64(lo, min64(V_LANES, p->W - first));
            v_store(out + z, v_load_span(row + first, lo, hi));
        }
        return;
    }
    for (int64_t x = 0; x < p->Q; x++, first += p->stride) out[x] = first >= 0 && first < p->W ? row[first] : 0;
}

/* Column n of cols(x), over all pixels. */
static void gather_column(const k_conv *p, int64_t n, float *out) {
    int64_t taps = p->KH * p->KW, c = n / taps, i = n % taps / p->KW, j = n % p->KW;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t y = 0; y < p->P; y++, out += p->Q) {
            int64_t h = y * p->stride + i - p->top;
            if (h >= 0 && h < p->H) gather_row(p, p->x + ((b * p->C + c) * p->H + h) * p->W, j, out);
            else gather_dense(p->x, 0, 0, p->Q, out);
        }
}

/* Panels n0..n1 as [panel][pixel][WIDTH]; lanes without a column are 0. */
static void turn_columns(const k_conv *p, const plan *q, int64_t n0, int64_t n1, float *gathered, float *cols) {
    for (int64_t n = n0 * WIDTH; n < n1 * WIDTH; n += V_LANES) {
        float *out = cols + (n / WIDTH - n0) * q->pixels * WIDTH + n % WIDTH;
        for (int64_t l = 0; l < min64(V_LANES, q->columns - n); l++) gather_column(p, n + l, gathered + l * q->run);
        for (int64_t k = 0; k < q->pixels; k += V_LANES) {
            v16 r[V_LANES];
            for (int64_t l = 0; l < V_LANES; l++) r[l] = n + l < q->columns ? v_load(gathered + l * q->run + k) : v_zero();
            v_transpose(r);
            for (int64_t l = 0; l < min64(V_LANES, q->pixels - k); l++, out += WIDTH) v_store(out, r[l]);
        }
    }
}

/* Where a chain finds its pixels, in order. */
static void fill_steps(const k_conv *p, conv_step *step) {
    int64_t n = 0;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t k = 0; k < p->P * p->Q; k++, n++) {
            step[n].a = (int32_t)(b * p->O * p->P * p->Q + k);
            step[n].b = (int32_t)(n * WIDTH);
        }
}

/* dw (+)= h rows of a tile that has n columns. */
static void write_tile(const k_conv *p, const plan *q, int64_t h, int64_t n, const float *t, float *dw) {
    for (int64_t r = 0; r < h; r++, t += WIDTH, dw += q->columns)
        for (int64_t v = 0; v < n; v += V_LANES) {
            int64_t len = min64(V_LANES, n - v);
            v16 x = v_load(t + v);
            v_storen(dw + v, p->acc ? v_add(x, v_loadn(dw + v, len)) : x, len);
        }
}

typedef struct job {
    const k_conv *p;
    plan q;
} job;

static void run_task(void *arg, int64_t index, int worker) {
    const job *w = arg;
    const k_conv *p = w->p;
    const plan *q = &w->q;
    int64_t n0 = cut(q->panels, index, q->tasks), n1 = cut(q->panels, index + 1, q->tasks), rows = ceil_div(p->O, CONV_ROWS);
    float *gathered = (float *)p->scratch + worker * worker_size(q), *cols = gathered + q->gather_size, *t = cols + q->cols_size;
    conv_step *step = (conv_step *)(void *)(t + CONV_TILE);
    turn_columns(p, q, n0, n1, gathered, cols);
    fill_steps(p, step);
    for (int64_t row = 0; row < rows; row++) {
        int64_t o = cut(p->O, row, rows), h = cut(p->O, row + 1, rows) - o;
        for (int64_t n = n0; n < n1; n++) {
            const float *b = cols + (n - n0) * q->pixels * WIDTH;
            int64_t size = (int64_t)sizeof *p->dw, next = n + 1 < n1 ? o * q->columns + (n + 1) * WIDTH : (o + h) * q->columns + n0 * WIDTH;
            float *dw = p->dw + o * q->columns + n * WIDTH;
            int64_t width = min64(WIDTH, q->columns - n * WIDTH);
            conv_operands from = {.step = step, .a = p->dy + o * p->P * p->Q, .lda = p->P * p->Q, .b = {b}};
            from.b[CONV_VECS - 1] = b + (CONV_VECS - 1) * V_LANES;
            if (!q->stream) from.ask = wish_for((uintptr_t)p->dw + (uintptr_t)(next * size), CONV_ROWS, q->columns * size, WIDTH * size, 1, q->pixels);
            from.stream = q->stream;
            if (width == WIDTH && !p->acc) from.y[0] = dw, from.y[CONV_VECS - 1] = dw + (CONV_VECS - 1) * V_LANES, from.ldy = q->columns;
            K(conv_tile)(h, q->pixels, &from, t, 1);
            if (!from.y[0]) write_tile(p, q, h, width, t, dw);
        }
    }
    if (q->stream) v_stream_end();
}

void K(conv_weights_few)(const k_conv *p) {
    job w = {p, make_plan(p)};
    tn_parallel_for(w.q.threads, w.q.tasks, run_task, &w);
}
