/* Direct convolution: forward, and backward to the input.
 *
 * A product of the weights [M, (channel, i, j)] with columns of the image, whose columns are never gathered. A column of tap
 * (i, j) is the image moved by i rows and j pixels. So a channel is copied once, between zeros: a plane, in which a tap is an
 * offset, and each vector of each column a plain load. That asks for vectors that lie within a row. Where rows of the result are
 * not whole vectors there is a plane for each j instead, as wide as the result, in which a move by i rows is an offset:
 *
 *   image, W = 4, padding 1       plane j = 0        j = 1          j = 2
 *                                 0  0  0  0       0  0  0  0     0  0  0  0      tap (0, j) of pixels 0..3 (zeros: padding)
 *   a b c d                       0  a  b  c       a  b  c  d     b  c  d  0      tap (1, j) of pixels 0..3, (0, j) of 4..7
 *   e f g h                       0  e  f  g       e  f  g  h     f  g  h  0      ...
 *
 * 3x3 windows copy an element once or 3 times, where gathering (im2col) copies it 9 times, and pixels of several short rows
 * fill one vector without a thought for where rows end. With stride s there is a plane for each row (and column) modulo s.
 * Phases of a transposed convolution see the same planes; results of the phases of a row are interleaved as they are written.
 *
 *   region  NC pixels of the grid: some rows of a stripe of columns, or some small images. One task owns it, for MB rows of M
 *   block   channels whose planes stay in the second-level cache while all panels of weights pass; about KC steps of a chain
 *   panel   CONV_ROWS rows of weights x the block, used for all pixels of the region while it is in the first-level cache
 *   tile    see k_conv_tile.c
 *
 * F32 weights are read where they lie; others are widened a panel at a time. Between blocks the chains rest in the worker's
 * scratch, as in k_gemm.c. */
#include "tensor/kernel/k_conv.h"
#include "tensor/parallel.h"

enum {
    KC = 512,        /* a panel is 14 x 512 floats: 28 KB, for a first-level cache of 32 KB or more */
    NC = 512,        /* an element of a plane costs as much as 4 multiply-adds, and serves M; one of a panel serves NC */
    SHORT = 64,      /* a chain shorter than that is bound by writing y: of few channels a region is larger, */
    LARGE = 2048,    /* which writes longer runs of each row of y: 8 KB at 64 x 64 pixels */
    SLAB = 1 << 17,  /* floats: half of a second-level cache of 1 MB */
    STRIPE = 64,     /* columns: with 8 rows between 2 of the neighbours, 10 are copied */
    LEAST = 128,     /* pixels of a region are worth a task */
    PLACE_FLOATS = 8, /* size of a place, and of a phase */
    PHASE_FLOATS = 4
};

typedef struct plan {
    int64_t taps, cb, blocks;           /* channels of a block at most, and number of blocks */
    int64_t i_tasks, p_tasks, q_tasks;  /* regions: along images, rows, columns */
    int64_t m_tasks, panels;            /* panels in all */
    int64_t ib, rb, qb;                 /* the largest region: images, rows, columns */
    int64_t vectors;                    /* of one image of it */
    int64_t columns, reach;             /* planes along a row; columns of a plane beyond its pixels */
    int64_t plane, planes;              /* floats of a plane; planes of a channel */
    int64_t lda, a_channel;             /* of weights as the tile sees them */
    int64_t slab_size, a_size, t_size, step_size, place_size, phase_size; /* of a worker's scratch, in floats */
    int threads;
} plan;

/* ---- cutting the work ---- */

/* Regions of about NC or LARGE pixels, as square as copies of the rows around them ask for; then more, until the threads have
 * equal shares, or else parts of M. Folding a panel costs as much as 12 pixels: where that is to be done, parts of M first. */
static void plan_regions(const conv_view *v, plan *q) {
    int64_t nc = v->channels * q->taps < SHORT ? LARGE : NC;
    q->q_tasks = ceil_div(v->Q, v->KH == 1 ? nc : STRIPE);
    int64_t width = min64(v->Q, round_up(ceil_div(v->Q, q->q_tasks), V_LANES)), images = 1;
    q->p_tasks = ceil_div(v->P, max64(1, nc / width));
    if (q->p_tasks * q->q_tasks == 1) images = max64(1, nc / round_up(v->P * v->Q, V_LANES));
    q->i_tasks = ceil_div(v->batch, images), q->m_tasks = 1;
    for (int64_t n; n = q->i_tasks * q->p_tasks * q->q_tasks, !v->folded && n % q->threads && n < 4 * q->threads;) {
        int64_t pixels = ceil_div(v->P, q->p_tasks + 1) * width;
        if (images > 1 && q->i_tasks < v->batch && v->P * v->Q * v->batch >= (q->i_tasks + 1) * LEAST) q->i_tasks++;
        else if (q->p_tasks < v->P && pixels >= LEAST) q->p_tasks++;
        else break;
    }
    for (int64_t n; n = q->i_tasks * q->p_tasks * q->q_tasks * q->m_tasks, q->m_tasks < q->panels; q->m_tasks++) {
        if (n >= q->threads && (!v->folded || n % q->threads == 0 || n >= 4 * q->threads)) break;
    }
    q->ib = ceil_div(v->batch, q->i_tasks), q->rb = ceil_div(v->P, q->p_tasks), q->qb = width;
    q->vectors = ceil_div(q->rb * q->qb, V_LANES);
}

static plan make_plan(const conv_view *v) {
    plan q = {0};
    q.taps = v->KH * v->KW, q.panels = ceil_div(v->M, CONV_ROWS);
    double steps = (double)v->batch * (double)(v->P * v->Q) * (double)v->M * (double)(v->channels * q.taps);
    q.threads = tn_threads_for(v->threads < 1 ? 1 : v->threads, 0.02 * steps);
    plan_regions(v, &q);
    q.columns = v->Q % V_LANES ? v->SW : min64(v->stride, v->SW), q.reach = v->Q % V_LANES ? 0 : (v->SW - 1) / v->stride;
    q.plane = odd_lines((q.rb + (v->SH - 1) / v->stride) * (q.qb + q.reach) + V_LANES);
    q.planes = min64(v->stride, v->SH) * q.columns;
    int64_t kc = v->folded ? KC * v->phases : KC; /* of a folded panel a row of phases is in use at a time */
    q.cb = min64(min64(kc / max64(1, q.taps), SLAB / max64(1, q.ib * q.planes * q.plane)), INT32_MAX / 8 / max64(1, v->a_channel));
    q.blocks = max64(1, ceil_div(v->channels, max64(1, q.cb))), q.cb = ceil_div(v->channels, q.blocks);
    if (v->folded) q.a_channel = 1, q.lda = odd_lines(round_up(q.cb, V_LANES) * q.taps / (v->phases * v->phases));
    else if (v->a_type == TN_F32) q.lda = v->a_row, q.a_channel = v->a_channel;
    else if (v->a_row > v->a_channel) q.lda = odd_lines(q.cb * v->a_channel), q.a_channel = v->a_channel;
    else q.lda = v->a_row, q.a_channel = CONV_ROWS * v->a_row;
    int64_t mb = ceil_div(q.panels, q.m_tasks) * CONV_ROWS;
    q.slab_size = q.ib * q.cb * q.planes * q.plane;
    if (v->folded) q.a_size = v->phases * v->phases * CONV_ROWS * q.lda;
    else if (v->a_type != TN_F32) q.a_size = round_up(max64(CONV_ROWS * q.lda, q.cb * q.a_channel) + V_LANES, V_LANES);
    q.t_size = q.blocks > 1 ? v->phases * v->phases * mb * round_up(q.ib * q.vectors, CONV_VECS) * V_LANES : v->phases * CONV_TILE;
    q.step_size = round_up(STEP_FLOATS * q.cb * q.taps, V_LANES);
    q.place_size = round_up(PLACE_FLOATS * q.ib * q.vectors, V_LANES);
    q.phase_size = round_up(PHASE_FLOATS * v->phases * v->phases, V_LANES) + v->phases * CONV_ROWS * V_LANES;
    return q;
}

static int64_t worker_size(const plan *q) {
    return q->slab_size + q->a_size + q->t_size + q->step_size + q->place_size + q->phase_size;
}

size_t K(conv_direct_scratch)(const conv_view *v) {
    if (v->M < 1 || v->batch < 1 || v->P < 1 || v->Q < 1) return 0;
    plan q = make_plan(v);
    return (size_t)worker_size(&q) * sizeof(float) * (size_t)q.threads;
}

/* ---- planes ---- */

/* Part of the grid: images b0..b0+images, rows p0..p0+rows, columns q0..q0+width. */
typedef struct region {
    int64_t b0, images, p0, rows, q0, width, vectors;
} region;

static region region_of(const conv_view *v, const plan *q, int64_t index) {
    int64_t at = index % q->q_tasks, up = index / q->q_tasks % q->p_tasks, image = index / q->q_tasks / q->p_tasks;
    int64_t columns = ceil_div(v->Q, V_LANES);
    region g;
    g.b0 = cut(v->batch, image, q->i_tasks), g.images = cut(v->batch, image + 1, q->i_tasks) - g.b0;
    g.p0 = cut(v->P, up, q->p_tasks), g.rows = cut(v->P, up + 1, q->p_tasks) - g.p0;
    g.q0 = cut(columns, at, q->q_tasks) * V_LANES;
    g.width = min64(v->Q, cut(columns, at + 1, q->q_tasks) * V_LANES) - g.q0;
    g.vectors = ceil_div(g.rows * g.width, V_LANES);
    return g;
}

/* `rows` rows of a plane as wide as the image: the image from row y, moved by `right`, |right| < W, with zeros around. One
 * copy moves all rows at once; what thereby came from the row before or behind is zeroed. */
static void fill_whole_rows(const float *image, int64_t H, int64_t W, int64_t y, int64_t right, int64_t rows, float *plane) {
    int64_t above = min64(rows, max64(0, -y)), below = min64(rows, max64(above, H - y));
    for (int64_t z = 0; z < above * W; z += V_LANES) v_store(plane + z, v_zero());
    gather_dense(image, H * W, (y + above) * W + right, (below - above) * W, plane + above * W);
    for (int64_t r = above; r < below; r++) {
        for (int64_t z = 0; z < -right; z++) plane[r * W + z] = 0;
        for (int64_t z = W - max64(0, right); z < W; z++) plane[r * W + z] = 0;
    }
    for (int64_t z = below * W; z < rows * W; z += V_LANES) v_store(plane + z, v_zero());
}

/* out[t] = line[first + t step], or 0 where that is outside 0..width; writes as far as gather_dense. */
static void gather_line(const float *line, int64_t width, int64_t first, int64_t step, int64_t n, float *out) {
    if (step == 1) {
        gather_dense(line, width, first, n, out);
        return;
    }
    int64_t lo = first >= 0 ? 0 : min64(n, (step - 1 - first) / step);
    int64_t hi = first >= width ? lo : max64(lo, min64(n, (width - first + step - 1) / step)), t = lo;
    for (int64_t z = 0; z < lo; z++) out[z] = 0;
    for (; step == 2 && t < hi; t += V_LANES) {
        int64_t at = first + 2 * t, left = width - at;
        v16 x = v_loadn(line + at, min64(left, V_LANES)), y = v_loadn(line + at + V_LANES, min64(max64(left - V_LANES, 0), V_LANES));
        v_deinterleave(x, y, &x, &y);
        v_store(out + t, x);
    }
    for (; t < hi; t++) out[t] = line[first + t * step];
    for (int64_t z = hi; z < n; z += V_LANES) v_store(out + z, v_zero());
}

/* The plane of rows `phase` modulo stride, and of tap column or columns modulo stride `column`. */
static void fill_plane(const conv_view *v, const plan *q, const region *g, const float *image, int64_t phase, int64_t column,
                       float *plane) {
    int64_t right = v->col0 + column;
    int64_t pitch = g->width + q->reach, n = q->reach ? g->width + (v->SW - 1 - column) / v->stride : pitch;
    int64_t rows = g->rows + (v->SH - 1 - phase) / v->stride, y = g->p0 * v->stride + v->row0 + phase;
    if (v->stride == 1 && pitch == v->W && right > -v->W && right < v->W) {
        fill_whole_rows(image, v->H, v->W, y, right, rows, plane);
    } else {
        for (int64_t r = 0; r < rows; r++, y += v->stride) {
            int inside = y >= 0 && y < v->H;
            gather_line(inside ? image + y * v->W : image, inside ? v->W : 0, g->q0 * v->stride + right, v->stride, n,
                        plane + r * pitch);
            for (int64_t z = n; z < pitch; z++) plane[r * pitch + z] = 0;
        }
    }
    v_store(plane + rows * pitch, v_zero()); /* what the last vector of pixels reads beyond them */
}

/* Planes of channels c0..c0+n, as [image][channel][phase][column]. */
static void fill_slab(const conv_view *v, const plan *q, const region *g, int64_t c0, int64_t n, float *slab) {
    for (int64_t b = 0; b < g->images; b++)
        for (int64_t c = 0; c < n; c++) {
            const float *image = v->x + ((g->b0 + b) * v->channels + c0 + c) * v->H * v->W;
            float *plane = slab + (b * q->cb + c) * q->planes * q->plane;
            for (int64_t z = 0; z < q->planes; z++) fill_plane(v, q, g, image, z / q->columns, z % q->columns, plane + z * q->plane);
        }
}

/* Taps of a phase along one axis: i, i + phases, .. below `kernel`; the first sees row or column `at` of what a pixel of the grid
 * sees, each further one the next: the one after it, or the one before it where the view is transposed. */
typedef struct axis {
    int64_t i, n, at;
} axis;

static axis axis_of(const conv_view *v, int64_t phase, int64_t kernel, int64_t pad, int64_t first) {
    if (!v->transposed) return (axis){0, kernel, 0};
    int64_t i = (phase + pad) % v->phases;
    return (axis){i, max64(0, ceil_div(kernel - i, v->phases)), (phase + pad - i) / v->phases - first};
}

/* Steps of a chain for each channel, and where they begin. */
typedef struct phase {
    int64_t taps, step;
} phase;

/* Where the chain of a phase, with taps r down and s along, finds each tap of each channel of a block. */
static void fill_phase(const conv_view *v, const plan *q, int64_t width, axis r, axis s, const phase *h, int64_t index, conv_step *step) {
    int64_t pitch = width + q->reach, k = h->step, turn = v->transposed ? -1 : 1;
    for (int64_t c = 0; c < q->cb; c++)
        for (int64_t t = 0; t < h->taps; t++, k++) {
            int64_t down = r.at + turn * (t / s.n), right = s.at + turn * (t % s.n);
            int64_t tap = (r.i + t / s.n * v->phases) * v->KW + s.i + t % s.n * v->phases;
            int64_t plane = c * q->planes + down % v->stride * q->columns + (q->reach ? right % v->stride : right);
            int64_t a = v->folded ? index * CONV_ROWS * q->lda + t * round_up(q->cb, V_LANES) : tap;
            step[k].a = (int32_t)(c * q->a_channel + a);
            step[k].b = (int32_t)(plane * q->plane + down / v->stride * pitch + (q->reach ? right / v->stride : 0));
        }
}

static void fill_steps(const conv_view *v, const plan *q, int64_t width, phase *h, conv_step *step) {
    for (int64_t i = 0, next = 0; i < v->phases * v->phases; i++, h++) {
        axis r = axis_of(v, i / v->phases, v->KH, v->top, v->row0), s = axis_of(v, i % v->phases, v->KW, v->left, v->col0);
        h->taps = r.n * s.n, h->step = next, next += q->cb * h->taps;
        fill_phase(v, q, width, r, s, h, i, step);
    }
}

/* ---- weights ---- */

static void widen_run(const void *from, tn_dtype type, int64_t at, int64_t n, float *to) {
    int64_t t = 0;
    for (; t + V_LANES <= n; t += V_LANES) v_store(to + t, v_load_typed(from, type, at + t));
    if (t < n) v_storen(to + t, v_loadn_typed(from, type, at + t, n - t), n - t);
}

/* Rows m..m+h of the weights for n channels from c0: where they lie, or widened into `room`, run by run of what lies together. */
static const float *panel_of(const conv_view *v, const plan *q, int64_t m, int64_t h, int64_t c0, int64_t n, float *room) {
    int64_t at = m * v->a_row + c0 * v->a_channel;
    if (v->folded) K(conv_fold)(v, m, h, c0, n, round_up(q->cb, V_LANES), q->lda, room);
    else if (v->a_type == TN_F32) return (const float *)v->a + at;
    else if (v->a_row > v->a_channel) {
        for (int64_t r = 0; r < h; r++) widen_run(v->a, v->a_type, at + r * v->a_row, n * v->a_channel, room + r * q->lda);
    } else {
        for (int64_t c = 0; c < n; c++)
            widen_run(v->a, v->a_type, at + c * v->a_channel, h * v->a_row, room + c * q->a_channel);
    }
    return room;
}

/* ---- results ---- */

/* Where a vector of the region lies: pixels n..end of an image of the batch; in the slab; in y (the first of their phases), where
 * `lanes` pixels follow each other. */
typedef struct place {
    int64_t slab, y;
    int32_t image, n, end, lanes;
} place;

/* Pixel n of the region in y, and how many pixels up to `end` follow it there. */
static int64_t pixel_in_y(const conv_view *v, const region *g, int64_t image, int64_t n, int64_t end, int32_t *lanes) {
    int64_t p = g->p0 + n / g->width, s = g->q0 + n % g->width;
    int whole = v->phases == 1 && v->YW == g->width; /* rows follow each other in y as in the region */
    *lanes = (int32_t)(whole ? end - n : min64(end - n, g->q0 + g->width - s));
    return (image * v->M * v->YH + p * v->phases) * v->YW + s * v->phases;
}

static void fill_places(const conv_view *v, const plan *q, const region *g, place *out) {
    for (int64_t i = 0; i < g->images * g->vectors; i++, out++) {
        int64_t b = i / g->vectors, n = i % g->vectors * V_LANES, end = min64(n + V_LANES, g->rows * g->width);
        out->slab = b * q->cb * q->planes * q->plane + n / g->width * (g->width + q->reach) + n % g->width;
        out->y = pixel_in_y(v, g, g->b0 + b, n, end, &out->lanes);
        out->image = (int32_t)(g->b0 + b), out->n = (int32_t)n, out->end = (int32_t)end;
    }
}

/* A vector of h rows from m, of phase `row` where a pixel of the grid has several results, to y. It may reach over several rows of
 * the grid. */
static void write_vector(const conv_view *v, const region *g, int64_t m, int64_t h, const float *bias, place at, int64_t row,
                         const float *t, int64_t pitch) {
    const float *shift = v->shift ? v->shift + at.image * v->M + m : NULL;
    int64_t s = v->phases;
    for (;;) {
        int64_t p = (g->p0 + at.n / g->width) * s + row, left = s == 1 ? at.lanes : min64(at.lanes * s, v->YW - at.y % v->YW);
        int64_t y = at.y + row * v->YW + m * v->YH * v->YW;
        if (p >= v->YH) left = 0; /* a grid of an odd number of rows or columns has phases of one less */
        for (int64_t z = 0; z < left; z += V_LANES) conv_write(v, h, bias, shift, t + z, pitch, min64(V_LANES, left - z), y + z);
        at.n += at.lanes, t += at.lanes * s;
        if (at.n >= at.end) return;
        at.y = pixel_in_y(v, g, at.image, at.n, at.end, &at.lanes);
    }
}

/* out[r][s l + phase] = lane l of row r of one vector of each phase's tile. */
static void interleave(int64_t s, int64_t h, const float *t, float *out) {
    for (int64_t r = 0; r < h; r++, t += CONV_VECS * V_LANES, out += s * V_LANES) {
        if (s == 2) {
            v16 a, b;
            v_interleave(v_load(t), v_load(t + CONV_TILE), &a, &b);
            v_store(out, a), v_store(out + V_LANES, b);
        } else {
            for (int64_t l = 0; l < s * V_LANES; l++) out[l] = t[l % s * CONV_TILE + l / s];
        }
    }
}

/* ---- one task ---- */

typedef struct job {
    const conv_view *v;
    plan q;
} job;

/* What one panel of weights is multiplied with, and where its chains rest: tiles of a row of phases, side by side. */
typedef struct pass {
    int64_t m, h, channels;
    const float *slab, *bias;
    const phase *phases;
    const conv_step *step;
    conv_operands from; /* which ask for the next panel */
    float *t, *mixed;
    int first, last;
} pass;

static void write_tile(const job *w, const region *g, const place *at, const pass *s, int64_t row, const float *t) {
    const conv_view *v = w->v;
    for (int64_t z = 0; z < CONV_VECS && s->from.b[z]; z++) {
        if (v->phases > 1) {
            interleave(v->phases, s->h, t + z * V_LANES, s->mixed);
            write_vector(v, g, s->m, s->h, s->bias, at[z], row, s->mixed, v->phases * V_LANES);
        } else {
            write_vector(v, g, s->m, s->h, s->bias, at[z], 0, t + z * V_LANES, CONV_VECS * V_LANES);
        }
    }
}

/* Whether the tile itself can write its results: whole vectors, of one phase, to which nothing but a bias is added. */
static int written_by_tile(const conv_view *v, const place *at, pass *s) {
    int whole = s->last && v->phases == 1 && !v->shift && !v->add && !v->acc;
    for (int64_t z = 0; z < CONV_VECS; z++) {
        whole = whole && (!s->from.b[z] || at[z].lanes == V_LANES);
        s->from.y[z] = s->from.b[z] ? v->y + at[z].y + s->m * v->YH * v->YW : NULL;
    }
    if (!whole) s->from.y[0] = NULL;
    s->from.bias = whole ? s->bias : NULL, s->from.ldy = v->YH * v->YW;
    return whole;
}

/* All pixels of the region, one row of phases after the other. */
static void run_panel(const job *w, const region *g, const place *at, pass *s) {
    int64_t all = g->images * g->vectors, phases = w->v->phases;
    float *t = s->t;
    for (int64_t row = 0; row < phases; row++)
        for (int64_t i = 0; i < all; i += CONV_VECS, t += w->q.blocks > 1 ? phases * CONV_TILE : 0) {
            for (int64_t z = 0; z < CONV_VECS; z++) s->from.b[z] = i + z < all ? s->slab + at[i + z].slab : NULL;
            int written = written_by_tile(w->v, at + i, s);
            for (int64_t column = 0; column < phases; column++) {
                const phase *h = s->phases + row * phases + column;
                s->from.step = s->step + h->step;
                K(conv_tile)(s->h, s->channels * h->taps, &s->from, t + column * CONV_TILE, s->first);
                next_part(&s->from.ask);
            }
            if (s->last && !written) write_tile(w, g, at + i, s, row, t);
        }
}

/* The weights of the next panel, rows from m on and n channels from c, in the lines in which they lie; a part in each of `tiles` tiles
 * of each phase. */
static wish ask_panel(const conv_view *v, int64_t m, int64_t c, int64_t n, int64_t tiles) {
    int64_t size = (int64_t)dtype_size(v->a_type), rows = min64(CONV_ROWS, v->M - m), phases = v->phases * v->phases;
    int64_t steps = n * v->KH * v->KW / phases, channels = min64(n, v->channels - c);
    uintptr_t at = (uintptr_t)v->a + (uintptr_t)((m * v->a_row + c * v->a_channel) * size);
    return v->a_row > v->a_channel ? wish_for(at, rows, v->a_row * size, channels * v->a_channel * size, tiles * phases, steps)
                                   : wish_for(at, channels, v->a_channel * size, rows * v->a_row * size, tiles * phases, steps);
}

static void run_task(void *arg, int64_t index, int worker) {
    const job *w = arg;
    const conv_view *v = w->v;
    const plan *q = &w->q;
    int64_t mt = index % q->m_tasks, p0 = cut(q->panels, mt, q->m_tasks), p1 = cut(q->panels, mt + 1, q->m_tasks);
    region g = region_of(v, q, index / q->m_tasks);
    int64_t tiles = ceil_div(g.images * g.vectors, CONV_VECS);
    float *slab = (float *)v->scratch + worker * worker_size(q), *room = slab + q->slab_size, *t = room + q->a_size;
    float bias[CONV_ROWS];
    conv_step *step = (conv_step *)(void *)(t + q->t_size);
    place *places = (place *)(void *)(t + q->t_size + q->step_size);
    phase *phases = (phase *)(void *)(t + q->t_size + q->step_size + q->place_size);

    fill_places(v, q, &g, places);
    fill_steps(v, q, g.width, phases, step);
    for (int64_t block = 0; block < q->blocks; block++) {
        int64_t c0 = cut(v->channels, block, q->blocks), c1 = cut(v->channels, block + 1, q->blocks);
        fill_slab(v, q, &g, c0, c1 - c0, slab);
        for (int64_t p = p0; p < p1; p++) {
            int64_t m = cut(v->M, p, q->panels), next = cut(v->M, p + 1 < p1 ? p + 1 : p0, q->panels);
            pass s = {.m = m, .h = cut(v->M, p + 1, q->panels) - m, .channels = c1 - c0, .slab = slab, .phases = phases, .step = step,
                      .first = block == 0, .last = block == q->blocks - 1};
            s.from.lda = q->lda, s.from.a = panel_of(v, q, m, s.h, c0, c1 - c0, room);
            s.from.ask = ask_panel(v, next, p + 1 < p1 ? c0 : c1, c1 - c0, tiles);
            s.t = t + (q->blocks > 1 ? (p - p0) * v->phases * v->phases * tiles * CONV_TILE : 0);
            s.mixed = (float *)phases + q->phase_size - v->phases * CONV_ROWS * V_LANES;
            for (int64_t r = 0; v->bias && r < s.h; r++) bias[r] = s_load_typed(v->bias, v->bias_type, m + r);
            s.bias = v->bias ? bias : NULL;
            run_panel(w, &g, places, &s);
        }
    }
}

void K(conv_direct)(const conv_view *v) {
    if (v->M < 1 || v->batch < 1 || v->P < 1 || v->Q < 1) return;
    job w = {v, make_plan(v)};
    tn_parallel_for(w.q.threads, w.q.i_tasks * w.q.p_tasks * w.q.q_tasks * w.q.m_tasks, run_task, &w);
}
