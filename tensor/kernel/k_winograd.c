/* Winograd convolution F(4x4,3x3) and F(2x2,3x3): 3x3 windows with stride 1, forward and to the input. The transforms are
 * explained in k_winograd_transform.c; here the work between them is cut.
 *
 * For each of the 36 (16) elements e of a patch there is one matrix product over the channels:
 *
 *   M[e] [outputs, tiles] = U[e] [outputs, channels] x V[e] [channels, tiles]
 *
 * each element of which is a chain of fused multiply-adds over ascending channels, as in k_gemm.c, whose register tile
 * computes it. Unless they are few, weights are transformed as they are needed: what is mapped from the file stays the only copy.
 *
 *   section  SECTION tiles, or as many as V of all channels fits V_FLOATS, which the third-level cache holds
 *   task     OUTPUTS output channels of a section (or of a part of it, where channels are few); a task transforms its
 *            weights, and owns its outputs
 *   block    BLOCK tiles of a task; M of a block stays in the second-level cache until the inverse transform
 *
 * Where channels are few, V of KEPT_TILES tiles fits the second-level cache beside M, and U of all outputs the third-level one. Then U
 * is made first, and a task is such a section, all of it.
 *
 * Each worker makes V, and a U that is kept, for itself, also where another makes the same: a core that writes what another has read
 * takes every line back from it, and where the two share no cache that takes longer than to make it twice. With many threads, or few
 * outputs (for U: tiles), it would not; then all of them make it, before the tasks.
 *
 * Where U is not kept it is made for all channels if it serves several blocks; if there is one block, for KC channels at a time,
 * which stay in the second-level cache while M rests between them (a float at rest is the float in the register: no bit changes).
 * The next channels' weights are asked for meanwhile: where tiles are few, reading weights takes longer than all products.
 *
 * Lanes of a product are tiles and its rows outputs; with at most 16 tiles it is turned: lanes are outputs, rows are tiles, and
 * nothing is padded. M is turned back before the inverse transform. With at most FEW of them k_winograd_few.c transforms weights and
 * multiplies at once. A product of two floats does not depend on their order, so neither do the bits on any of this. */
#include "tensor/kernel/k_winograd.h"
#include "tensor/kernel/k_table.h"
#include "tensor/parallel.h"

enum {
    V_FLOATS = 2 << 20, /* 8 MB; twice that is slower where two of them and a stream of weights share a cache of 32 MB */
    SECTION = 128,      /* tiles at most: that many hide the transform of weights, and V leaves room in the cache */
    OUTPUTS = 32,       /* 64 read V half as often, but are too coarse for 320 channels on two threads, and crowd M out */
    BLOCK = 64,         /* tiles; M is 0.3 MB */
    KC = 64,            /* U is 0.3 MB; M is loaded and stored once for 64 steps */
    CHANNELS = 16,      /* of V that a task makes */
    MADE = 14,          /* to make an element of V or U takes as long as so many multiply-adds with it */
    KEPT_TILES = 32,
    KEPT_V = 5 << 15,   /* floats of their V, 0.6 MB: 128 channels */
    KEPT_U = 1 << 20,   /* floats of U, 4 MB */
    HELD = V_LANES,     /* floats before a worker's V: which section it is of */
    SKEW = 16           /* floats that keep the elements of a patch out of the same cache set */
};

typedef struct plan {
    wino w;
    int64_t elements;                  /* of a patch */
    int64_t section, sections, blocks; /* tiles in a section; blocks in a section */
    int64_t kc;
    int64_t outputs;            /* that are computed at once */
    int64_t each, parts, tasks; /* of a section: outputs of a task, parts of its blocks, tasks */
    int turned, few;
    int kept;                       /* U of all outputs is made before, and a task is a section */
    int shared_v, shared_u;         /* V of a section, U of all outputs is made by all workers, before */
    int64_t v_ld;                   /* from one channel of V to the next */
    int64_t v_step, u_step, m_step; /* from one element of a patch to the next, in floats */
    int64_t v_size, u_size, m_size; /* in floats: V of a section, U and M of OUTPUTS outputs */
    int64_t before, worker_size;    /* what they share; what each has */
    int threads;
} plan;

static wino forward_of(const k_conv *p) {
    wino w = {.p = p, .batch = p->batch, .C = p->C, .H = p->H, .W = p->W, .O = p->O, .P = p->P, .Q = p->Q, .top = p->top,
              .left = p->left, .x = p->x, .y = p->y, .taps = {p->w, p->w_type, p->O, p->C, p->C * 9, 9}};
    return w;
}

/* dx is the convolution of dy with the weight turned around, and what padding lacks to 2. */
static wino backward_of(const k_conv *p) {
    wino w = {.p = p, .swapped = 1, .batch = p->batch, .C = p->O, .H = p->P, .W = p->Q, .O = p->C, .P = p->H, .Q = p->W,
              .top = 2 - p->top, .left = 2 - p->left, .x = p->dy, .y = p->dx, .taps = {p->w, p->w_type, p->C, p->O, 9, p->C * 9}};
    return w;
}

/* Of a U that is kept: its tasks, and its floats. */
static int64_t weight_tasks(const plan *q) { return ceil_div(q->w.O, OUTPUTS); }
static int64_t all_u(const plan *q) { return weight_tasks(q) * q->u_size; }

static plan make_plan(wino w) {
    plan q = {.w = w};
    int64_t m = q.w.m = w.p->tile, n = q.w.patch = m + 2;
    q.elements = n * n;
    q.w.rows = ceil_div(w.P, m), q.w.cols = ceil_div(w.Q, m), q.w.tiles = w.batch * q.w.rows * q.w.cols;
    q.w.stream = !w.p->acc && w.batch * w.O * w.P * w.Q > V_STREAM_FLOATS;
    double work = (double)q.elements * (double)q.w.tiles * (double)w.C * (double)w.O;
    q.threads = tn_threads_for(w.p->threads < 1 ? 1 : w.p->threads, 0.02 * work);

    int64_t most = max64(V_FLOATS / (q.elements * w.C) / GEMM_COLS, 1) * GEMM_COLS;
    if (most > BLOCK) most = min64(most / BLOCK * BLOCK, SECTION);
    q.kept = q.elements * w.C * w.O <= KEPT_U && q.elements * w.C * KEPT_TILES <= KEPT_V && q.w.tiles >= KEPT_TILES * q.threads;
    if (q.kept) most = KEPT_TILES;
    q.sections = ceil_div(q.w.tiles, most);
    q.section = round_up(ceil_div(q.w.tiles, q.sections), GEMM_COLS);
    q.sections = ceil_div(q.w.tiles, q.section);
    q.blocks = ceil_div(q.section, BLOCK);
    q.kc = q.blocks > 1 || q.kept ? w.C : min64(KC, w.C);
    int64_t want = q.threads == 1 ? 1 : 2 * (int64_t)q.threads;
    q.turned = q.w.tiles <= V_LANES, q.few = m == 4 && q.w.tiles <= FEW;
    q.outputs = q.few || (ceil_div(w.O, OUTPUTS) * q.blocks < want && !q.kept) ? V_LANES : OUTPUTS;
    q.each = q.kept ? w.O : q.outputs;
    q.parts = q.kept ? 1 : min64(q.blocks, ceil_div(want, ceil_div(w.O, q.each)));
    q.tasks = ceil_div(w.O, q.each) * q.parts;

    q.v_ld = q.few ? FEW : q.turned ? q.w.tiles : GEMM_COLS;
    q.v_step = w.C * q.v_ld + SKEW, q.u_step = q.kc * OUTPUTS + SKEW, q.m_step = OUTPUTS * BLOCK + SKEW;
    q.v_size = round_up(q.elements * q.v_step * (q.section / GEMM_COLS), V_LANES);
    q.u_size = q.few ? wino_few_room(q.kc) : q.elements * q.u_step, q.m_size = q.elements * q.m_step;
    /* all but one worker may make U, or V of a section, once more: for an eighth of the products at most, and if caches hold them */
    int64_t more = 8 * MADE * (q.threads - 1), lanes = round_up(min64(q.section, q.w.tiles), V_LANES);
    q.shared_u = q.kept && more > q.w.tiles;
    q.shared_v = !q.kept && (more * lanes > q.w.tiles * w.O || (q.threads - 1) * q.v_size > 2 * V_FLOATS);
    int64_t own_u = q.shared_u ? 0 : q.kept ? all_u(&q) : q.u_size, own_v = q.shared_v ? 0 : q.v_size;
    q.before = q.shared_u ? all_u(&q) : q.shared_v ? q.v_size : 0;
    q.worker_size = HELD + own_v + own_u + q.m_size;
    return q;
}

static size_t scratch_of(wino w) {
    plan q = make_plan(w);
    return (size_t)(q.before + q.threads * q.worker_size) * sizeof(float);
}

/* Where a worker's V, U and M lie, and of which section V is; -1: of none, and there is no U that is kept. */
typedef struct room {
    int64_t *held;
    float *V, *U, *M;
} room;

static room room_of(const plan *q, int worker) {
    float *all = q->w.p->scratch, *own = all + q->before + worker * q->worker_size;
    room r = {.held = (int64_t *)own, .V = q->shared_v ? all : own + HELD, .M = own + q->worker_size - q->m_size};
    r.U = q->shared_u ? all : q->kept ? r.M - all_u(q) : r.M - q->u_size;
    return r;
}

typedef struct section {
    const plan *q;
    int64_t t0, tiles;
    float *V;
} section;

static section section_of(const plan *q, int64_t index, float *V) {
    return (section){q, index * q->section, min64(q->section, q->w.tiles - index * q->section), V};
}

/* ---- V: CHANNELS channels of one panel of tiles at a time ---- */

static int64_t data_tasks(const section *s) { return ceil_div(s->tiles, GEMM_COLS) * ceil_div(s->q->w.C, CHANNELS); }

static void data_task(void *arg, int64_t index, int worker) {
    const section *s = arg;
    const plan *q = s->q;
    int64_t groups = ceil_div(q->w.C, CHANNELS), panel = index / groups, c0 = index % groups * CHANNELS;
    int64_t tiles = min64(GEMM_COLS, s->tiles - panel * GEMM_COLS);
    (void)worker;
    for (int64_t t = 0; t < tiles; t += V_LANES)
        K(wino_data)(&q->w, c0, min64(CHANNELS, q->w.C - c0), s->t0 + panel * GEMM_COLS + t, min64(V_LANES, tiles - t),
                     s->V + panel * q->elements * q->v_step + c0 * q->v_ld + t, q->v_ld, q->v_step);
}

/* ---- products and inverse transform ---- */

/* Weights that come after channel k of a task's outputs: products leave the memory idle, transforms of weights wait for it. After the
 * last channels a worker goes on with the next outputs. */
static taps_ahead next_weights(const plan *q, int64_t o0, int64_t outputs, int64_t k) {
    if (k == q->w.C) k = 0, o0 += outputs;
    return K(taps_ahead)(&q->w.taps, o0, outputs, k, min64(q->kc, q->w.C - k));
}

/* M (+)= U V for channels k0..k0+kc, `outputs` outputs and the tiles t0..t0+tiles of the section; M[e][panel of
 * tiles][output][tile], or with `turned` M[e][panel of outputs][tile][output]. */
static void multiply(const section *s, const float *U, float *M, int64_t o0, int64_t outputs, int64_t k0, int64_t kc, int64_t t0,
                     int64_t tiles) {
    const plan *q = s->q;
    taps_ahead next = q->blocks == 1 && !q->kept ? next_weights(q, o0, outputs, k0 + kc) : (taps_ahead){0};
    int64_t each = ceil_div(next.stretches * next.lines, q->elements);
    for (int64_t e = 0; e < q->elements; e++, U += q->u_step, M += q->m_step) {
        for (int64_t i = 0; i < each; i++) taps_ask(&next);
        const float *V = s->V + e * q->v_step + k0 * q->v_ld;
        for (int64_t o = 0; o < outputs; o += GEMM_COLS) {
            int64_t n = min64(GEMM_COLS, outputs - o);
            if (q->turned)
                gemm_rows(tiles, kc, n, V, q->v_ld, U + o * kc, M + o * V_LANES, k0 == 0);
            for (int64_t t = 0; t < tiles && !q->turned; t += GEMM_COLS)
                gemm_rows(n, kc, tiles - t, U + o * kc, GEMM_COLS,
                              V + (t0 + t) / GEMM_COLS * q->elements * q->v_step, M + t * OUTPUTS + o * GEMM_COLS, k0 == 0);
        }
    }
}

/* From [panel of outputs][tile][output], behind it, to [output][tile]. */
static void turn(const plan *q, float *M, int64_t outputs) {
    for (int64_t e = 0; e < q->elements; e++, M += q->m_step)
        for (int64_t o = 0; o < outputs; o += V_LANES) {
            const float *from = M + o / GEMM_COLS * GEMM_COLS * V_LANES + o % GEMM_COLS;
            v16 r[16];
            for (int64_t t = 0; t < V_LANES; t++) r[t] = t < q->w.tiles ? v_load(from + t * GEMM_COLS) : v_zero();
            v_transpose_rows(r, q->w.tiles);
            for (int64_t i = 0; i < V_LANES; i++) v_store(M + OUTPUTS * V_LANES + (o + i) * GEMM_COLS, r[i]);
        }
}

static void finish(const plan *q, float *M, int64_t o0, int64_t outputs, int64_t t0, int64_t tiles) {
    if (q->turned) turn(q, M, outputs), M += OUTPUTS * V_LANES;
    for (int64_t t = 0; t < tiles; t += V_LANES)
        K(wino_result)(&q->w, o0, outputs, t0 + t, min64(V_LANES, tiles - t),
                       M + t / GEMM_COLS * OUTPUTS * GEMM_COLS + t % GEMM_COLS, q->m_step);
}

/* U of `outputs` outputs and kc channels. */
static void transform_weights(const plan *q, int64_t o0, int64_t outputs, int64_t k0, int64_t kc, float *U) {
    for (int64_t o = 0; o < outputs; o += V_LANES)
        K(wino_weight)(&q->w, o0 + o, k0, kc, U + o / GEMM_COLS * GEMM_COLS * kc + o % GEMM_COLS, q->u_step);
}

/* ---- a task: products and inverse transform of some outputs of a section ---- */

typedef struct job {
    const plan *q;
    int64_t first; /* section */
} job;

static void weight_task(void *arg, int64_t index, int worker) {
    const plan *q = arg;
    int64_t o0 = index * OUTPUTS;
    transform_weights(q, o0, min64(OUTPUTS, q->w.O - o0), 0, q->w.C, room_of(q, worker).U + index * q->u_size);
}

/* A section for a worker that makes what it does not have. */
static section section_for(const plan *q, int64_t index, int worker) {
    room r = room_of(q, worker);
    section s = section_of(q, index, r.V);
    int no_u = q->kept && !q->shared_u && *r.held < 0, no_v = !q->shared_v && *r.held != index;
    for (int64_t i = 0; no_u && i < weight_tasks(q); i++) weight_task((void *)q, i, worker);
    for (int64_t i = 0; no_v && i < data_tasks(&s); i++) data_task(&s, i, worker);
    *r.held = index;
    return s;
}

static void output_task(void *arg, int64_t index, int worker) {
    const job *a = arg;
    const plan *q = a->q;
    int64_t task = index % q->tasks, part = task % q->parts, from = task / q->parts * q->each, to = min64(q->w.O, from + q->each);
    int64_t b0 = part * q->blocks / q->parts, b1 = (part + 1) * q->blocks / q->parts;
    room r = room_of(q, worker);
    section s = section_for(q, a->first + index / q->tasks, worker);
    for (int64_t o0 = from; o0 < to; o0 += q->outputs) {
        int64_t outputs = min64(q->outputs, to - o0);
        float *U = r.U + (q->kept ? o0 / OUTPUTS * q->u_size : 0);
        for (int64_t k0 = 0; k0 < q->w.C; k0 += q->kc) {
            int64_t kc = min64(q->kc, q->w.C - k0);
            if (q->few)
                K(wino_few)(&q->w, o0, k0, kc, s.V + k0 * FEW, q->v_step, r.M, q->m_step, U, next_weights(q, o0, outputs, k0 + kc));
            else if (!q->kept)
                transform_weights(q, o0, outputs, k0, kc, U);
            for (int64_t b = b0; b < b1; b++) {
                int64_t t = b * BLOCK, tiles = min64(BLOCK, s.tiles - t);
                if (!q->few) multiply(&s, U, r.M, o0, outputs, k0, kc, t, tiles);
                if (k0 + kc == q->w.C) finish(q, r.M, o0, outputs, s.t0 + t, tiles);
            }
        }
    }
    if (q->w.stream) v_stream_end();
}

static void convolve(wino w) {
    plan q = make_plan(w);
    for (int i = 0; i < q.threads; i++) *room_of(&q, i).held = -1;
    if (q.shared_u) tn_parallel_for(q.threads, weight_tasks(&q), weight_task, &q);
    int64_t together = q.shared_v ? 1 : q.sections;
    for (int64_t i = 0; i < q.sections; i += together) {
        section s = section_of(&q, i, w.p->scratch);
        if (q.shared_v) tn_parallel_for(q.threads, data_tasks(&s), data_task, &s);
        tn_parallel_for(q.threads, together * q.tasks, output_task, &(job){&q, i});
    }
}

void K(winograd)(const k_conv *p) { convolve(forward_of(p)); }

void K(winograd_dx)(const k_conv *p) { convolve(backward_of(p)); }

size_t K(winograd_scratch)(const k_conv *p) {
    size_t y = scratch_of(forward_of(p)), dx = scratch_of(backward_of(p));
    return y > dx ? y : dx;
}
