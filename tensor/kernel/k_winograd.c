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
 *   section  SECTION tiles, or as many as V of all channels fits V_FLOATS, which the third-level cache holds; V is made once,
 *            by all threads
 *   task     OUTPUTS output channels of a section (or of a part of it, where channels are few); a task transforms its
 *            weights, and owns its outputs
 *   block    BLOCK tiles of a task; M of a block stays in the second-level cache until the inverse transform
 *
 * Where channels are few, V of OWN tiles fits the second-level cache beside M, and U of all outputs the third-level one. Then U is
 * made first, once, and a task is such a section, all of it: no core reads what another has just written, and none waits for another.
 *
 * U is made for all channels where it serves several blocks; where there is one block, for KC channels at a time, which stay in
 * the second-level cache while M rests between them (a float at rest is the float in the register: no bit changes). The next
 * channels' weights are asked for meanwhile: where tiles are few, reading weights takes longer than all products.
 *
 * Lanes of a product are tiles and its rows outputs; with at most 16 tiles it is turned: lanes are outputs, rows are tiles, and
 * nothing is padded. M is turned back before the inverse transform. With at most FEW of them k_winograd_few.c transforms weights and
 * multiplies at once. A product of two floats does not depend on their order, so neither do the bits on any of this. */
#include "tensor/kernel/k_winograd.h"
#include "tensor/kernel/k_table.h"
#include "tensor/parallel.h"

enum {
    V_FLOATS = 4 << 20, /* 16 MB; 32 MB are slower where weights stream through the cache beside it */
    SECTION = 128,      /* tiles at most: that many hide the transform of weights, and V leaves room in the cache */
    OUTPUTS = 32,       /* 64 read V half as often, but are too coarse for 320 channels on two threads, and crowd M out */
    BLOCK = 64,         /* tiles; M is 0.3 MB */
    KC = 64,            /* U is 0.3 MB; M is loaded and stored once for 64 steps */
    CHANNELS = 16,      /* of V that a task makes */
    OWN = 32,           /* tiles */
    OWN_V = 5 << 15,    /* floats of their V, 0.6 MB: 128 channels */
    KEPT_U = 1 << 20,   /* floats of U, 4 MB */
    SKEW = 16           /* floats that keep the elements of a patch out of the same cache set */
};

typedef struct plan {
    wino w;
    int64_t elements;                  /* of a patch */
    int64_t section, sections, blocks; /* tiles in a section; blocks in a section */
    int64_t kc;
    int64_t outputs;          /* of a task */
    int64_t out_tasks, parts; /* tasks of a section: output channels, parts of its blocks */
    int turned, few;
    int own;                        /* a task is a section, with a V of its own; U is made before */
    int64_t v_ld;                   /* from one channel of V to the next */
    int64_t v_step, u_step, m_step; /* from one element of a patch to the next, in floats */
    int64_t v_size, u_size, m_size, worker_size;
    int threads;
    float *V; /* then U, if it is made before, then U and M of each worker */
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
    q.own = q.elements * w.C * w.O <= KEPT_U && q.elements * w.C * OWN <= OWN_V && q.w.tiles >= OWN * q.threads;
    if (q.own) most = OWN;
    q.sections = ceil_div(q.w.tiles, most);
    q.section = round_up(ceil_div(q.w.tiles, q.sections), GEMM_COLS);
    q.sections = ceil_div(q.w.tiles, q.section);
    q.blocks = ceil_div(q.section, BLOCK);
    q.kc = q.blocks > 1 || q.own ? w.C : min64(KC, w.C);
    int64_t want = q.threads == 1 ? 1 : 2 * (int64_t)q.threads;
    q.turned = q.w.tiles <= V_LANES, q.few = m == 4 && q.w.tiles <= FEW;
    q.outputs = q.few || (ceil_div(w.O, OUTPUTS) * q.blocks < want && !q.own) ? V_LANES : OUTPUTS;
    q.out_tasks = ceil_div(w.O, q.outputs);
    q.parts = min64(q.blocks, ceil_div(want, q.out_tasks));

    q.v_ld = q.few ? FEW : q.turned ? q.w.tiles : GEMM_COLS;
    q.v_step = w.C * q.v_ld + SKEW, q.u_step = q.kc * OUTPUTS + SKEW, q.m_step = OUTPUTS * BLOCK + SKEW;
    q.v_size = q.elements * q.v_step * (q.section / GEMM_COLS) * (q.own ? q.threads : 1);
    q.u_size = q.few ? wino_few_room(q.kc) : q.elements * q.u_step, q.m_size = q.elements * q.m_step;
    q.worker_size = q.own ? q.m_size : q.u_size + q.m_size;
    q.V = w.p->scratch;
    return q;
}

static size_t scratch_of(wino w) {
    plan q = make_plan(w);
    return (size_t)(q.v_size + (q.own ? q.out_tasks * q.u_size : 0) + q.threads * q.worker_size) * sizeof(float);
}

typedef struct job {
    const plan *q;
    int64_t t0, tiles; /* the section */
    float *V;
} job;

/* ---- V: a task is CHANNELS channels of one panel of tiles ---- */

static void data_task(void *arg, int64_t index, int worker) {
    const job *s = arg;
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
static void multiply(const job *s, const float *U, float *M, int64_t o0, int64_t outputs, int64_t k0, int64_t kc, int64_t t0,
                     int64_t tiles) {
    const plan *q = s->q;
    taps_ahead next = q->blocks == 1 && !q->own ? next_weights(q, o0, outputs, k0 + kc) : (taps_ahead){0};
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

static void output_task(void *arg, int64_t index, int worker) {
    const job *s = arg;
    const plan *q = s->q;
    int64_t o0 = index / q->parts * q->outputs, outputs = min64(q->outputs, q->w.O - o0), part = index % q->parts;
    int64_t b0 = part * q->blocks / q->parts, b1 = (part + 1) * q->blocks / q->parts;
    float *U = q->V + q->v_size + worker * q->worker_size, *M = U + q->u_size;
    for (int64_t k0 = 0; k0 < q->w.C; k0 += q->kc) {
        int64_t kc = min64(q->kc, q->w.C - k0);
        if (q->few)
            K(wino_few)(&q->w, o0, k0, kc, s->V + k0 * FEW, q->v_step, M, q->m_step, U, next_weights(q, o0, outputs, k0 + kc));
        else
            transform_weights(q, o0, outputs, k0, kc, U);
        for (int64_t b = b0; b < b1; b++) {
            int64_t t = b * BLOCK, tiles = min64(BLOCK, s->tiles - t);
            if (!q->few) multiply(s, U, M, o0, outputs, k0, kc, t, tiles);
            if (k0 + kc == q->w.C) finish(q, M, o0, outputs, s->t0 + t, tiles);
        }
    }
    if (q->w.stream) v_stream_end();
}

/* ---- few channels ---- */

static void weight_task(void *arg, int64_t index, int worker) {
    const plan *q = arg;
    (void)worker;
    transform_weights(q, index * OUTPUTS, min64(OUTPUTS, q->w.O - index * OUTPUTS), 0, q->w.C, q->V + q->v_size + index * q->u_size);
}

static void section_task(void *arg, int64_t index, int worker) {
    const plan *q = arg;
    job s = {q, index * q->section, min64(q->section, q->w.tiles - index * q->section), q->V + worker * (q->v_size / q->threads)};
    const float *U = q->V + q->v_size;
    float *M = q->V + q->v_size + q->out_tasks * q->u_size + worker * q->worker_size;
    for (int64_t i = 0; i < ceil_div(s.tiles, GEMM_COLS) * ceil_div(q->w.C, CHANNELS); i++) data_task(&s, i, worker);
    for (int64_t o = 0; o < q->w.O; o += OUTPUTS, U += q->u_size) {
        int64_t outputs = min64(OUTPUTS, q->w.O - o);
        multiply(&s, U, M, o, outputs, 0, q->w.C, 0, s.tiles);
        finish(q, M, o, outputs, s.t0, s.tiles);
    }
    if (q->w.stream) v_stream_end();
}

static void convolve(wino w) {
    plan q = make_plan(w);
    if (q.own) {
        tn_parallel_for(q.threads, q.out_tasks, weight_task, &q);
        tn_parallel_for(q.threads, q.sections, section_task, &q);
    }
    for (int64_t t = 0; t < q.w.tiles && !q.own; t += q.section) {
        job s = {&q, t, min64(q.section, q.w.tiles - t), q.V};
        tn_parallel_for(q.threads, ceil_div(s.tiles, GEMM_COLS) * ceil_div(q.w.C, CHANNELS), data_task, &s);
        tn_parallel_for(q.threads, q.out_tasks * q.parts, output_task, &s);
    }
}

void K(winograd)(const k_conv *p) { convolve(forward_of(p)); }

void K(winograd_dx)(const k_conv *p) { convolve(backward_of(p)); }

size_t K(winograd_scratch)(const k_conv *p) {
    size_t y = scratch_of(forward_of(p)), dx = scratch_of(backward_of(p));
    return y > dx ? y : dx;
}
