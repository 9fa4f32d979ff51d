/* Gradient of a convolution's weights: dw[o, c, i, j] is a chain over the pixels k = (b, p, q) of dy[k, o] x[k moved by (i, j), c].
 *
 * Lanes are output channels: dy is turned once, to [k][o]. The other operand is then needed one element at a time, and an element can be
 * read from anywhere: from the image itself, between zeros for the padding. So for each tap (i, j) a tile takes
 * CONV_ROWS channels x CONV_VECS vectors of outputs, and the taps differ in where they start to read.
 *
 *   task   some outputs x some channels x all taps, over all pixels
 *   block  KC pixels: some rows of the grid, or some small images. The turned dy (128 KB: 128 outputs, more where the grid is small),
 *          the padded rows of the channels (70 of 3x3: 110 KB) and the resting chains (320 KB) stay in a second-level cache of 1 MB
 *
 * Between blocks the chains rest in the worker's scratch; tiles ask for the next block's planes of dy and x while they compute. In the
 * last block tiles of all taps are turned in registers, so that dw is written in whole lines, and ask for these lines. Where there
 * are fewer pixels than outputs k_conv_weights_few.c cuts otherwise; where there are few outputs, x and dy change places. */
#include "tensor/kernel/k_conv.h"
#include "tensor/parallel.h"

enum {
    KC = 256,
    DY = 1 << 15,     /* floats of the turned dy */
    SLAB = 1 << 16,   /* floats of channels, where no chains rest beside them */
    RESTING = 45,     /* panels of channels x taps of chains that rest, for 128 outputs */
    LEAST = 5,        /* panels of channels that a task has, */
    MOST = 20,        /* at the least and at the most */
    OUTPUTS = CONV_VECS * V_LANES
};

typedef struct plan {
    int64_t taps, o_tasks, c_tasks, o_tiles, ob, cb; /* tiles of outputs in all; the largest task, in tiles and in channels */
    int64_t images, rows, i_blocks, p_blocks;        /* of a block */
    int64_t pitch, height, image, channel;           /* floats between rows, rows, floats between images and channels of x */
    int64_t steps;                                   /* of a block */
    int64_t slab_size, dy_size, t_size, step_size;   /* of a worker's scratch, in floats */
    int threads;
} plan;

static plan make_plan(const k_conv *p) {
    plan q = {0};
    int64_t pixels = p->P * p->Q;
    q.taps = p->KH * p->KW, q.o_tiles = ceil_div(p->O, OUTPUTS);
    q.threads = tn_threads_for(p->threads < 1 ? 1 : p->threads,
                               0.02 * (double)(p->batch * pixels) * (double)p->O * (double)(p->C * q.taps));
    q.images = pixels >= KC ? 1 : min64(p->batch, KC / pixels);
    q.rows = pixels >= KC ? max64(1, KC / p->Q) : p->P;
    q.i_blocks = ceil_div(p->batch, q.images), q.p_blocks = ceil_div(p->P, q.rows);
    q.images = ceil_div(p->batch, q.i_blocks), q.rows = ceil_div(p->P, q.p_blocks), q.steps = q.images * q.rows * p->Q;
    q.pitch = (p->Q - 1) * p->stride + p->KW, q.height = (q.rows - 1) * p->stride + p->KH;
    q.image = q.height * q.pitch, q.channel = odd_lines(q.images * q.image + V_LANES);
    int once = q.i_blocks * q.p_blocks == 1; /* no chain rests */
    q.o_tasks = ceil_div(q.o_tiles, max64(1, DY / OUTPUTS / (once ? round_up(q.steps, V_LANES) : KC)));
    int64_t panels = once ? SLAB / q.channel / CONV_ROWS : RESTING / q.taps;
    q.c_tasks = ceil_div(p->C, CONV_ROWS * max64(LEAST, min64(MOST, panels)));
    while (q.o_tasks * q.c_tasks % q.threads && q.o_tasks * q.c_tasks < 8 * q.threads) {
        if (q.c_tasks * CONV_ROWS < p->C) q.c_tasks++; /* dy is turned twice then, which costs less than filling x twice */
        else if (q.o_tasks < q.o_tiles) q.o_tasks++;
        else break;
    }
    q.ob = ceil_div(q.o_tiles, q.o_tasks), q.cb = ceil_div(p->C, q.c_tasks);
    q.slab_size = q.cb * q.channel, q.dy_size = q.ob * OUTPUTS * round_up(q.steps, V_LANES);
    q.t_size = (once ? 1 : q.ob * ceil_div(q.cb, CONV_ROWS)) * q.taps * CONV_TILE;
    q.step_size = round_up(STEP_FLOATS * q.steps, V_LANES);
    return q;
}

static int64_t worker_size(const plan *q) { return q->slab_size + q->dy_size + q->t_size + q->step_size; }

/* Whether k_conv_weights_few.c does it better. */
static int few_pixels(const k_conv *p) { return p->batch * p->P * p->Q <= min64(KC, p->O - 1); }

static size_t scratch_of(const k_conv *p) {
    if (few_pixels(p)) return K(conv_weights_few_scratch)(p);
    plan q = make_plan(p);
    return (size_t)worker_size(&q) * sizeof(float) * (size_t)q.threads;
}

/* Pixels of a block: rows p0..p0+rows of images b0..b0+images. */
typedef struct block {
    int64_t b0, images, p0, rows;
} block;

/* A row of the image between zeros, pitch floats, by vectors of which few are whole: rows of 8 or 16 pixels are short. */
static void fill_row(const k_conv *p, const plan *q, const float *row, float *out) {
    int64_t first = -p->left;
    for (int64_t z = 0; z < q->pitch; z += V_LANES, first += V_LANES) {
        int64_t lo = min64(V_LANES, max64(0, -first)), hi = max64(lo, min64(V_LANES, p->W - first));
        v_store(out + z, hi - lo == V_LANES ? v_load(row + first) : v_load_span(row + first, lo, hi));
    }
}

/* The rows of channels c0..c0+n that the block's windows see, as [channel][image][row][pitch]. */
static void fill_slab(const k_conv *p, const plan *q, const block *k, int64_t c0, int64_t n, float *slab) {
    int64_t height = (k->rows - 1) * p->stride + p->KH, y0 = k->p0 * p->stride - p->top;
    int whole = q->pitch == p->W && !p->left && y0 >= 0 && y0 + height <= p->H; /* nothing between the rows */
    for (int64_t c = 0; c < n; c++)
        for (int64_t b = 0; b < k->images; b++) {
            const float *image = p->x + ((k->b0 + b) * p->C + c0 + c) * p->H * p->W;
            float *out = slab + c * q->channel + b * q->image;
            if (whole) gather_dense(image, p->H * p->W, y0 * p->W, height * p->W, out);
            for (int64_t y = y0; !whole && y < y0 + height; y++, out += q->pitch) {
                if (y >= 0 && y < p->H) fill_row(p, q, image + y * p->W, out);
                else gather_dense(image, 0, 0, q->pitch, out);
            }
        }
}

/* dy of outputs o0..o0+n as [tile of outputs][pixel of the block][OUTPUTS]; lanes without an output are 0. */
static void turn_dy(const k_conv *p, const plan *q, const block *k, int64_t o0, int64_t n, float *dst) {
    int64_t pixels = k->rows * p->Q, steps = round_up(q->steps, V_LANES);
    for (int64_t b = 0; b < k->images; b++)
        for (int64_t o = 0; o < round_up(n, OUTPUTS); o += V_LANES) {
            const float *dy = p->dy + (((k->b0 + b) * p->O + o0 + o) * p->P + k->p0) * p->Q;
            float *out = dst + (o / OUTPUTS * steps + b * pixels) * OUTPUTS + o % OUTPUTS;
            for (int64_t t = 0; t < pixels; t += V_LANES, out += V_LANES * OUTPUTS) {
                v16 r[V_LANES];
                int64_t len = min64(V_LANES, pixels - t);
                for (int64_t l = 0; l < V_LANES; l++) r[l] = o + l < n ? v_loadn(dy + l * p->P * p->Q + t, len) : v_zero();
                v_transpose(r);
                for (int64_t l = 0; l < len; l++) v_store(out + l * OUTPUTS, r[l]);
            }
        }
}

/* Where a chain finds its pixels, in order. */
static void fill_steps(const k_conv *p, const plan *q, const block *k, conv_step *step) {
    int64_t n = 0;
    for (int64_t b = 0; b < k->images; b++)
        for (int64_t y = 0; y < k->rows; y++)
            for (int64_t x = 0; x < p->Q; x++, n++) {
                step[n].a = (int32_t)(b * q->image + y * p->stride * q->pitch + x * p->stride);
                step[n].b = (int32_t)(n * OUTPUTS);
            }
}

/* In the last block the tiles of tap `tap` ask for some of the lines of dw that those of all taps will be written to: outputs from o
 * on, h channels from c on. */
static wish ask_dw(const k_conv *p, const plan *q, int64_t o, int64_t c, int64_t h, int64_t tap, int64_t steps) {
    int64_t size = (int64_t)sizeof *p->dw, rows = ceil_div(OUTPUTS, q->taps), first = o + min64(tap * rows, OUTPUTS);
    uintptr_t at = (uintptr_t)p->dw + (uintptr_t)((first * p->C + c) * q->taps * size);
    return wish_for(at, min64(rows, p->O - first), p->C * q->taps * size, h * q->taps * size, 1, steps);
}

/* In the others, tile i of `tiles` asks for planes of the next block: the tiles share those of each image in turn, of outputs
 * o0..o1, then of channels c0..c1, if planes of x and dy are of the same size; else x is waited for. */
static wish ask_planes(const k_conv *p, const plan *q, const block *next, int64_t o0, int64_t o1, int64_t c0, int64_t c1, int64_t i,
                       int64_t tiles) {
    int64_t rows = ceil_div(q->images * (o1 - o0 + c1 - c0), tiles); /* planes of a tile */
    int64_t outputs = ceil_div(o1 - o0, rows), both = outputs + ceil_div(c1 - c0, rows), b = next->b0 + i / both, z = i % both * rows;
    int64_t size = (int64_t)sizeof *p->dy, bytes = min64(p->H, (q->rows - 1) * p->stride + p->KH) * p->W * size;
    if (b >= next->b0 + next->images) return (wish){0};
    if (i % both < outputs) {
        const float *dy = p->dy + ((b * p->O + o0 + z) * p->P + next->p0) * p->Q;
        return wish_for((uintptr_t)dy, min64(rows, o1 - o0 - z), p->P * p->Q * size, bytes, 1, q->steps);
    }
    if (p->H * p->W != p->P * p->Q) return (wish){0};
    z -= outputs * rows;
    const float *x = p->x + ((b * p->C + c0 + z) * p->H + max64(0, next->p0 * p->stride - p->top)) * p->W;
    return wish_for((uintptr_t)x, min64(rows, c1 - c0 - z), p->H * p->W * size, bytes, 1, q->steps);
}

/* dw (+)= the tiles of all taps, of rows c..c+h and outputs o..o+n. Of one output they are h KH KW floats that follow each
 * other: 16 of them of 16 outputs are turned in registers. */
static void write_tiles(const k_conv *p, int64_t c, int64_t h, int64_t o, int64_t n, const float *t) {
    int64_t taps = p->KH * p->KW, run = h * taps;
    for (int64_t v = 0; v < n; v += V_LANES) {
        int64_t tap = 0;
        const float *row = t + v;
        for (int64_t z = 0; z < run; z += V_LANES) {
            int64_t len = min64(V_LANES, run - z);
            float *dw = p->dw + ((o + v) * p->C + c) * taps + z;
            v16 r[V_LANES];
            for (int64_t l = 0; l < V_LANES; l++) {
                r[l] = l < len ? v_load(row + tap * CONV_TILE) : v_zero();
                if (++tap == taps) tap = 0, row += OUTPUTS;
            }
            v_transpose_rows(r, len);
            for (int64_t l = 0; l < min64(V_LANES, n - v); l++, dw += p->C * taps) {
                v16 x = p->acc ? v_add(r[l], v_loadn(dw, len)) : r[l];
                if (len == V_LANES) v_store(dw, x);
                else v_storen(dw, x, len);
            }
        }
    }
}

typedef struct job {
    const k_conv *p;
    plan q;
} job;

static block block_at(const k_conv *p, const plan *q, int64_t z) {
    int64_t it = z / q->p_blocks, pt = z % q->p_blocks;
    block k = {cut(p->batch, it, q->i_blocks), 0, cut(p->P, pt, q->p_blocks), 0};
    k.images = cut(p->batch, it + 1, q->i_blocks) - k.b0, k.rows = cut(p->P, pt + 1, q->p_blocks) - k.p0;
    return k;
}

static void run_task(void *arg, int64_t index, int worker) {
    const job *w = arg;
    const k_conv *p = w->p;
    const plan *q = &w->q;
    int64_t ot = index % q->o_tasks, ct = index / q->o_tasks;
    int64_t o0 = cut(q->o_tiles, ot, q->o_tasks) * OUTPUTS, o1 = min64(p->O, cut(q->o_tiles, ot + 1, q->o_tasks) * OUTPUTS);
    int64_t c0 = cut(p->C, ct, q->c_tasks), channels = cut(p->C, ct + 1, q->c_tasks) - c0;
    int64_t panels = ceil_div(channels, CONV_ROWS), blocks = q->i_blocks * q->p_blocks, steps = round_up(q->steps, V_LANES);
    float *slab = (float *)p->scratch + worker * worker_size(q), *dy = slab + q->slab_size, *T = dy + q->dy_size;
    conv_step *step = (conv_step *)(void *)(T + q->t_size);
    int64_t tiles = ceil_div(o1 - o0, OUTPUTS) * panels * q->taps;
    block had = {0};

    for (int64_t z = 0; z < blocks; z++) {
        int last = z == blocks - 1;
        block k = block_at(p, q, z), next = last ? k : block_at(p, q, z + 1);
        fill_slab(p, q, &k, c0, channels, slab);
        turn_dy(p, q, &k, o0, o1 - o0, dy);
        if (k.images != had.images || k.rows != had.rows) fill_steps(p, q, &k, step);
        had = k;
        float *t = T;
        int64_t i = 0;
        for (int64_t o = o0; o < o1; o += OUTPUTS)
            for (int64_t panel = 0; panel < panels; panel++) {
                int64_t c = cut(channels, panel, panels), h = cut(channels, panel + 1, panels) - c;
                const float *b = dy + (o - o0) * steps;
                for (int64_t tap = 0; tap < q->taps; tap++, t += CONV_TILE, i++) {
                    const float *a = slab + c * q->channel + tap / p->KW * q->pitch + tap % p->KW;
                    conv_operands from = {.step = step, .a = a, .lda = q->channel, .b = {b}};
                    from.ask = last ? ask_dw(p, q, o, c0 + c, h, tap, q->steps)
                                    : ask_planes(p, q, &next, o0, o1, c0, c0 + channels, i, tiles);
                    if (o + V_LANES < o1) from.b[CONV_VECS - 1] = b + (CONV_VECS - 1) * V_LANES;
                    K(conv_tile)(h, k.images * k.rows * p->Q, &from, t, z == 0);
                }
                if (last) write_tiles(p, c0 + c, h, o, min64(OUTPUTS, o1 - o), t - q->taps * CONV_TILE);
                if (blocks == 1) t = T;
            }
    }
}

static void weights(const k_conv *p) {
    if (few_pixels(p)) {
        K(conv_weights_few)(p);
        return;
    }
    job w = {p, make_plan(p)};
    tn_parallel_for(w.q.threads, w.q.o_tasks * w.q.c_tasks, run_task, &w);
}

/* Whether so few lanes would be used that x and dy had better change places. */
static int few_outputs(const k_conv *p) {
    return 2 * p->O <= V_LANES && p->C >= OUTPUTS && p->stride == 1 && p->top < p->KH && p->left < p->KW;
}

/* The problem with x and dy exchanged: dw' [C, O, KH, KW], taps from the last to the first. Pixel h sees r = h + top - i through tap i,
 * which is h + i' - top' of i' = KH - 1 - i. A chain has the same products in the same order, other zeros between them. */
static k_conv exchanged(const k_conv *p) {
    k_conv e = *p;
    e.C = p->O, e.O = p->C, e.H = p->P, e.W = p->Q, e.P = p->H, e.Q = p->W;
    e.top = (int)p->KH - 1 - p->top, e.left = (int)p->KW - 1 - p->left;
    e.x = p->dy, e.dy = p->x, e.acc = 0;
    return e;
}

static int64_t dw_size(const k_conv *p) { return round_up(p->O * p->C * p->KH * p->KW, V_LANES); }

static int empty(const k_conv *p) { return p->O < 1 || p->C < 1 || p->batch < 1 || p->P < 1 || p->Q < 1; }

size_t K(conv_weights_scratch)(const k_conv *p) {
    if (empty(p)) return 0;
    if (!few_outputs(p)) return scratch_of(p);
    k_conv e = exchanged(p);
    return (size_t)dw_size(p) * sizeof(float) + scratch_of(&e);
}

void K(conv_weights)(const k_conv *p) {
    if (empty(p)) return;
    if (!few_outputs(p)) {
        weights(p);
        return;
    }
    k_conv e = exchanged(p);
    float *dw = e.dw = p->scratch;
    int64_t taps = p->KH * p->KW;
    e.scratch = dw + dw_size(p);
    weights(&e);
    for (int64_t n = 0; n < p->O * p->C; n++)
        for (int64_t tap = 0; tap < taps; tap++) {
            float s = dw[(n % p->C * p->O + n / p->C + 1) * taps - 1 - tap];
            p->dw[n * taps + tap] = p->acc ? s + p->dw[n * taps + tap] : s;
        }
}
