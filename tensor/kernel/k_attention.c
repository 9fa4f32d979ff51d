/* Multi-head attention that never stores the probabilities: a streaming softmax forward, recomputation backward.
 *
 * Sources: the running maximum and sum are Milakov and Gimelshein, 1805.02867, algorithm 3; the blocking and the
 * backward formulas are Dao et al., 2205.14135, algorithms 2 and 4 (FlashAttention) and Dao, 2307.08691, section 3.1.
 *
 * The shape of the computation. A task owns a tile of up to 64 queries of one head (keys, in the pass for dk and dv)
 * and holds them transposed, one query per lane: q^T [D][64]. It walks over the rows of the other side, keys, in blocks
 * of 80:
 *
 *     s [80][64] = k q^T                  product() over the rows of k, depth D
 *     p = exp(s - m)                      lane by lane: the maximum m and the sum of a query never cross lanes
 *     y^T [D][64] = decay y^T + v^T p     product() over the columns of v, depth 80; decay = exp(old m - m)
 *
 * The other side is read where it lies, one scalar at a time, so that any D and any number of keys fit without padding;
 * only the last lanes of the last tile are idle (they compute on zeros and are not written).
 *
 * What enters the arithmetic: sums over d are one chain; sums over the other side are one chain per block of BLOCK
 * rows, added block by block. Each lane computes alone, so tiles and threads do not enter. */
#include "tensor/kernel/k_table.h"

#include <math.h>
#include <string.h>

#include "tensor/kernel/simd.h"
#include "tensor/kernel/vmath.h"
#include "tensor/parallel.h"

enum {
    LANES = 64, /* columns of a tile: queries, or keys for dk and dv; 4 vectors */
    ROWS = 5,   /* rows of a register block; 5 divides the usual head widths 40, 80, 160 and BLOCK */
    BLOCK = 80 /* rows of the other side at a time: a prompt's 77 keys are one block; 80 x 64 floats fit the L1 cache */
};

/* One head's tile, and where its buffers lie in the worker's scratch. */
typedef struct tile {
    int64_t b, h, first; /* sample, head, first row of the tile on its own side */
    int64_t n;           /* rows of the tile, 1..LANES */
    int64_t vecs;        /* vectors that hold them */
    float *own[2];       /* transposed inputs [D][LANES]: q and dy, or k and v */
    float *sum[2];       /* transposed results [D padded to ROWS][LANES] */
    float *s, *ds;       /* [BLOCK][LANES]: scores, then probabilities; and their derivatives */
    float *lane[3];      /* [LANES] each: one number per lane */
} tile;

/* Columns that are summed over, or rows whose dot products are taken: element (r, t) is at[r * row + t * step]. */
typedef struct view {
    const float *at;
    int64_t row, step;
} view;

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t tiles_of(int64_t n) { return (n + LANES - 1) / LANES; }

static int64_t padded_width(int64_t D) { return (D + ROWS - 1) / ROWS * ROWS; }

/* Floats of one worker; every buffer is a multiple of 64 bytes. */
static int64_t worker_floats(int64_t D) { return LANES * (4 * padded_width(D) + 2 * BLOCK + 3); }

size_t K(attention_scratch)(const k_attention *p) {
    int64_t threads = p->threads > 1 ? p->threads : 1;
    int64_t delta = p->B * p->H * p->N; /* backward only: rowsum(dy y) */
    return (size_t)(threads * worker_floats(p->D) + delta) * sizeof(float);
}

static float *delta_of(const k_attention *p) {
    return (float *)p->scratch + (p->threads > 1 ? p->threads : 1) * worker_floats(p->D);
}

/* Task i of a grid over (sample, head, tile) whose own side has `length` rows. */
static tile tile_of(const k_attention *p, int64_t i, int64_t length, int worker) {
    int64_t tiles = tiles_of(length), wide = LANES * padded_width(p->D);
    float *at = (float *)p->scratch + worker * worker_floats(p->D);
    tile t;
    t.b = i / (tiles * p->H);
    t.h = i / tiles % p->H;
    t.first = i % tiles * LANES;
    t.n = min_i64(LANES, length - t.first);
    t.vecs = (t.n + V_LANES - 1) / V_LANES;
    t.own[0] = at, t.own[1] = at + wide;
    t.sum[0] = at + 2 * wide, t.sum[1] = at + 3 * wide;
    t.s = at + 4 * wide, t.ds = t.s + LANES * BLOCK;
    for (int j = 0; j < 3; j++) t.lane[j] = t.ds + LANES * BLOCK + j * LANES;
    return t;
}

/* Row `row` of the tile's head in x [B,length,H*D]. */
static int64_t head_at(const k_attention *p, const tile *t, int64_t length, int64_t row) {
    return ((t->b * length + row) * p->H + t->h) * p->D;
}

/* ---- product ---- */

/* The register block: c [ROWS][16 w] = c * decay + sum over t of a(r, t) b[t][16 w], each element one chain over t from
 * 0. decay NULL: c is overwritten. Written twice, one and four vectors wide; the wide one needs 25 registers. */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4)

#define ZERO_1(r) v16 c##r = v_zero();
#define STEP_1(r) c##r = v_fma(v_set1(a[r][i]), b0, c##r);
#define STORE_1(r)                                                                                                     \
    if (decay) c##r = v_fma(v_load(c + r * LANES), d0, c##r);                                                          \
    v_store(c + r * LANES, c##r);

static void block_1(const float *const a[ROWS], int64_t step, int64_t depth, const float *b, float *c,
                    const float *decay) {
    EACH_ROW(ZERO_1)
    for (int64_t t = 0, i = 0; t < depth; t++, i += step, b += LANES) {
        v16 b0 = v_load(b);
        EACH_ROW(STEP_1)
    }
    v16 d0 = decay ? v_load(decay) : v_zero();
    EACH_ROW(STORE_1)
}

#define ZERO_4(r) v16 c##r##0 = v_zero(), c##r##1 = v_zero(), c##r##2 = v_zero(), c##r##3 = v_zero();
#define STEP_4(r)                                                                                                      \
    x = v_set1(a##r[i]);                                                                                               \
    c##r##0 = v_fma(x, b0, c##r##0), c##r##1 = v_fma(x, b1, c##r##1);                                                  \
    c##r##2 = v_fma(x, b2, c##r##2), c##r##3 = v_fma(x, b3, c##r##3);
#define ROW_PTR(r) const float *a##r = a[r];
#define DECAY_4(r)                                                                                                     \
    c##r##0 = v_fma(v_load(c + r * LANES), b0, c##r##0), c##r##1 = v_fma(v_load(c + r * LANES + 16), b1, c##r##1);     \
    c##r##2 = v_fma(v_load(c + r * LANES + 32), b2, c##r##2), c##r##3 = v_fma(v_load(c + r * LANES + 48), b3, c##r##3);
#define STORE_4(r)                                                                                                     \
    v_store(c + r * LANES, c##r##0), v_store(c + r * LANES + 16, c##r##1);                                             \
    v_store(c + r * LANES + 32, c##r##2), v_store(c + r * LANES + 48, c##r##3);

static void block_4(const float *const a[ROWS], int64_t step, int64_t depth, const float *b, float *c,
                    const float *decay) {
    EACH_ROW(ROW_PTR)
    EACH_ROW(ZERO_4)
    for (int64_t t = 0, i = 0; t < depth; t++, i += step, b += LANES) {
        v16 x, b0 = v_load(b), b1 = v_load(b + 16), b2 = v_load(b + 32), b3 = v_load(b + 48);
        EACH_ROW(STEP_4)
    }
    if (decay) {
        v16 b0 = v_load(decay), b1 = v_load(decay + 16), b2 = v_load(decay + 32), b3 = v_load(decay + 48);
        EACH_ROW(DECAY_4)
    }
    EACH_ROW(STORE_4)
}

/* c [rows][LANES] = c * decay + A b, A [rows][depth] seen through the view, b [depth][LANES]; the first `vecs` vectors
 * of each row. Rows are done ROWS at a time: a short last group repeats its last row, into padding rows of c that
 * nobody reads. */
static void product(view a, int64_t rows, int64_t depth, const float *b, int64_t vecs, float *c, const float *decay) {
    int wide = vecs == 4 && V_TILE_ROWS * V_TILE_VECS >= 4 * ROWS; /* simd.h says what the registers hold */
    for (int64_t r = 0; r < rows; r += ROWS) {
        const float *row[ROWS];
        for (int64_t j = 0; j < ROWS; j++) row[j] = a.at + min_i64(r + j, rows - 1) * a.row;
        float *to = c + r * LANES;
        if (wide) block_4(row, a.step, depth, b, to, decay);
        for (int64_t v = 0; !wide && v < V_LANES * vecs; v += V_LANES)
            block_1(row, a.step, depth, b + v, to + v, decay ? decay + v : NULL);
    }
}

/* ---- between rows and lanes ---- */

/* x^T [D][LANES] = factor * x of the tile's rows, zeros in the lanes behind the last row. x [length][H*D], at the first
 * row. */
static void to_lanes(const k_attention *p, const tile *t, const float *x, float factor, float *xt) {
    v16 f = v_set1(factor), r[V_LANES];
    for (int64_t v = 0; v < V_LANES * t->vecs; v += V_LANES)
        for (int64_t d = 0; d < p->D; d += V_LANES) {
            int64_t width = min_i64(V_LANES, p->D - d);
            for (int64_t j = 0; j < V_LANES; j++)
                r[j] = v + j < t->n ? v_mul(f, v_loadn(x + (v + j) * p->H * p->D + d, width)) : v_zero();
            v_transpose(r);
            for (int64_t j = 0; j < width; j++) v_store(xt + (d + j) * LANES + v, r[j]);
        }
}

/* x of the tile's rows (+)= (xt factor)^T, with one factor per lane. */
static void from_lanes(const k_attention *p, const tile *t, const float *xt, const float *factor, float *x, int acc) {
    v16 r[V_LANES];
    for (int64_t v = 0; v < V_LANES * t->vecs; v += V_LANES)
        for (int64_t d = 0; d < p->D; d += V_LANES) {
            int64_t width = min_i64(V_LANES, p->D - d);
            v16 f = v_load(factor + v);
            for (int64_t j = 0; j < V_LANES; j++)
                r[j] = j < width ? v_mul(f, v_load(xt + (d + j) * LANES + v)) : v_zero();
            v_transpose(r);
            for (int64_t j = 0; j < V_LANES && v + j < t->n; j++) {
                float *to = x + (v + j) * p->H * p->D + d;
                v_storen(to, acc ? v_add(v_loadn(to, width), r[j]) : r[j], width);
            }
        }
}

static void fill(float *x, int64_t n, float value) {
    for (int64_t i = 0; i < n; i++) x[i] = value;
}

/* Causal: key j > query i gets the score -inf. Lanes are the tile's queries, rows the keys from `row0`; with
 * `lanes_are_keys` the other way round. */
static void mask(const tile *t, float *s, int64_t row0, int64_t rows, int lanes_are_keys) {
    for (int64_t r = 0; r < rows; r++) {
        int64_t own = row0 + r - t->first; /* the lane on the diagonal */
        int64_t from = lanes_are_keys ? own + 1 : 0, to = lanes_are_keys ? LANES : min_i64(own, LANES);
        for (int64_t i = from > 0 ? from : 0; i < to; i++) s[r * LANES + i] = -INFINITY;
    }
}

/* ---- forward ---- */

/* One block of the streaming softmax: s [rows][LANES] becomes exp(s - m) with m the maximum so far; the sum l follows;
 * decay = exp(old m - m) is what earlier results are worth under the new maximum. */
static void softmax_block(const tile *t, int64_t rows, float *m, float *l, float *decay) {
    for (int64_t v = 0; v < V_LANES * t->vecs; v += V_LANES) {
        float *s = t->s + v;
        v16 old = v_load(m + v), top = old, sum = v_zero();
        for (int64_t r = 0; r < rows; r++) top = v_max(top, v_load(s + r * LANES));
        for (int64_t r = 0; r < rows; r++) {
            v16 e = v_exp(v_sub(v_load(s + r * LANES), top));
            v_store(s + r * LANES, e);
            sum = v_add(sum, e);
        }
        v16 d = v_exp(v_sub(old, top));
        v_store(l + v, v_fma(v_load(l + v), d, sum));
        v_store(m + v, top);
        v_store(decay + v, d);
    }
}

/* y and lse of one tile of queries. */
static void forward_tile(void *arg, int64_t i, int worker) {
    const k_attention *p = arg;
    tile t = tile_of(p, i, p->N, worker);
    float *m = t.lane[0], *l = t.lane[1], *decay = t.lane[2], *yt = t.sum[0];
    int64_t stride = p->H * p->D, own = head_at(p, &t, p->N, t.first), other = head_at(p, &t, p->M, 0);
    int64_t keys = p->causal ? min_i64(p->M, t.first + t.n) : p->M; /* the keys that some query of the tile sees */

    to_lanes(p, &t, p->q + own, p->scale, t.own[0]);
    fill(m, LANES, -INFINITY);
    fill(l, LANES, 0.0f);
    memset(yt, 0, (size_t)(LANES * padded_width(p->D)) * sizeof *yt);
    for (int64_t j = 0; j < keys; j += BLOCK) {
        int64_t rows = min_i64(BLOCK, keys - j);
        view k = {p->k + other + j * stride, stride, 1}, vt = {p->v + other + j * stride, 1, stride};
        product(k, rows, p->D, t.own[0], t.vecs, t.s, NULL);
        if (p->causal) mask(&t, t.s, j, rows, 0);
        softmax_block(&t, rows, m, l, decay);
        product(vt, p->D, rows, t.s, t.vecs, yt, decay);
    }
    for (int64_t v = 0; v < V_LANES * t.vecs; v += V_LANES) {
        v16 sum = v_load(l + v);
        v_store(m + v, v_add(v_load(m + v), v_log(sum)));
        v_store(l + v, v_div(v_set1(1.0f), sum));
    }
    from_lanes(p, &t, yt, l, p->y + own, 0);
    if (p->lse) memcpy(p->lse + (t.b * p->H + t.h) * p->N + t.first, m, (size_t)t.n * sizeof *m);
}

/* For `products` matrix products of the size of q k^T. */
static int threads_for(const k_attention *p, int products) {
    return tn_threads_for(p->threads, 0.015 * products * (double)(p->B * p->H * p->D) * (double)p->N * (double)p->M);
}

void K(attention)(const k_attention *p) {
    k_attention copy = *p;
    tn_parallel_for(threads_for(p, 2), p->B * p->H * tiles_of(p->N), forward_tile, &copy);
}

/* ---- backward ---- */
/* With p = softmax(scale q k^T) and y = p v:
 *     dv = p^T dy,  dp = dy v^T,  ds = p (dp - delta) with delta_i = sum_j p_ij dp_ij = sum_d dy_id y_id,
 *     dq = scale ds k,  dk = scale ds^T q.                                       (2205.14135, appendix B.2)
 * p is made again from q, k and lse. dq is owned by query tiles and dk, dv by key tiles: s and dp are computed twice,
 * which costs 7 products in place of 5 and needs neither atomics nor partial sums. */

/* delta of one tile of queries, as one chain over d like dp: where a query sees one key only, delta = dp and ds = 0
 * exactly. */
static void delta_tile(void *arg, int64_t i, int worker) {
    const k_attention *p = arg;
    tile t = tile_of(p, i, p->N, worker);
    float *yt = t.own[0], *dyt = t.own[1];
    int64_t own = head_at(p, &t, p->N, t.first);
    to_lanes(p, &t, p->y + own, 1.0f, yt);
    to_lanes(p, &t, p->dy + own, 1.0f, dyt);
    for (int64_t v = 0; v < V_LANES * t.vecs; v += V_LANES) {
        v16 sum = v_zero();
        for (int64_t d = v; d < p->D * LANES; d += LANES) sum = v_fma(v_load(yt + d), v_load(dyt + d), sum);
        v_store(t.lane[0] + v, sum);
    }
    memcpy(delta_of(p) + (t.b * p->H + t.h) * p->N + t.first, t.lane[0], (size_t)t.n * sizeof(float));
}

/* s becomes p = exp(s - lse) and ds, which holds dp, becomes p (dp - delta). lse and delta per lane. */
static void derive_by_lane(const tile *t, int64_t rows, const float *lse, const float *delta) {
    for (int64_t v = 0; v < V_LANES * t->vecs; v += V_LANES) {
        v16 c = v_load(lse + v), e = v_load(delta + v);
        for (int64_t r = v; r < v + rows * LANES; r += LANES) {
            v16 prob = v_exp(v_sub(v_load(t->s + r), c));
            v_store(t->ds + r, v_mul(prob, v_sub(v_load(t->ds + r), e)));
        }
    }
}

/* The same with lse and delta per row; p is kept too, for dv. */
static void derive_by_row(const tile *t, int64_t rows, const float *lse, const float *delta) {
    for (int64_t r = 0; r < rows; r++) {
        v16 c = v_set1(lse[r]), e = v_set1(delta[r]);
        for (int64_t v = r * LANES; v < r * LANES + V_LANES * t->vecs; v += V_LANES) {
            v16 prob = v_exp(v_sub(v_load(t->s + v), c));
            v_store(t->s + v, prob);
            v_store(t->ds + v, v_mul(prob, v_sub(v_load(t->ds + v), e)));
        }
    }
}

/* dq of one tile of queries. */
static void dq_tile(void *arg, int64_t i, int worker) {
    const k_attention *p = arg;
    tile t = tile_of(p, i, p->N, worker);
    float *lse = t.lane[0], *delta = t.lane[1], *one = t.lane[2], *dqt = t.sum[0];
    int64_t stride = p->H * p->D, own = head_at(p, &t, p->N, t.first), other = head_at(p, &t, p->M, 0);
    int64_t stats = (t.b * p->H + t.h) * p->N + t.first;
    int64_t keys = p->causal ? min_i64(p->M, t.first + t.n) : p->M;

    fill(lse, LANES, 0.0f);
    fill(delta, LANES, 0.0f);
    fill(one, LANES, 1.0f);
    memcpy(lse, p->lse + stats, (size_t)t.n * sizeof *lse);
    memcpy(delta, delta_of(p) + stats, (size_t)t.n * sizeof *delta);
    to_lanes(p, &t, p->q + own, p->scale, t.own[0]);
    to_lanes(p, &t, p->dy + own, 1.0f, t.own[1]);
    memset(dqt, 0, (size_t)(LANES * padded_width(p->D)) * sizeof *dqt);
    for (int64_t j = 0; j < keys; j += BLOCK) {
        int64_t rows = min_i64(BLOCK, keys - j), at = other + j * stride;
        view k = {p->k + at, stride, 1}, v = {p->v + at, stride, 1}, kt = {p->k + at, 1, stride};
        product(k, rows, p->D, t.own[0], t.vecs, t.s, NULL);
        product(v, rows, p->D, t.own[1], t.vecs, t.ds, NULL);
        if (p->causal) mask(&t, t.s, j, rows, 0);
        derive_by_lane(&t, rows, lse, delta);
        product(kt, p->D, rows, t.ds, t.vecs, dqt, one);
    }
    fill(one, LANES, p->scale);
    from_lanes(p, &t, dqt, one, p->dq + own, p->acc_q);
}

/* dk and dv of one tile of keys. */
static void dkv_tile(void *arg, int64_t i, int worker) {
    const k_attention *p = arg;
    tile t = tile_of(p, i, p->M, worker);
    float *one = t.lane[0], *dkt = t.sum[0], *dvt = t.sum[1];
    int64_t stride = p->H * p->D, own = head_at(p, &t, p->M, t.first), other = head_at(p, &t, p->N, 0);
    int64_t stats = (t.b * p->H + t.h) * p->N;
    int64_t start =
        p->causal ? t.first / BLOCK * BLOCK : 0; /* the first block with a query that sees a key of the tile */

    fill(one, LANES, 1.0f);
    to_lanes(p, &t, p->k + own, p->scale, t.own[0]);
    to_lanes(p, &t, p->v + own, 1.0f, t.own[1]);
    memset(dkt, 0, (size_t)(LANES * padded_width(p->D)) * sizeof *dkt);
    memset(dvt, 0, (size_t)(LANES * padded_width(p->D)) * sizeof *dvt);
    for (int64_t j = start; j < p->N; j += BLOCK) {
        int64_t rows = min_i64(BLOCK, p->N - j), at = other + j * stride;
        view q = {p->q + at, stride, 1}, dy = {p->dy + at, stride, 1}, qt = {p->q + at, 1, stride},
             dyt = {p->dy + at, 1, stride};
        product(q, rows, p->D, t.own[0], t.vecs, t.s, NULL);
        product(dy, rows, p->D, t.own[1], t.vecs, t.ds, NULL);
        if (p->causal) mask(&t, t.s, j, rows, 1);
        derive_by_row(&t, rows, p->lse + stats + j, delta_of(p) + stats + j);
        if (p->dv) product(dyt, p->D, rows, t.s, t.vecs, dvt, one);
        if (p->dk) product(qt, p->D, rows, t.ds, t.vecs, dkt, one);
    }
    if (p->dv) from_lanes(p, &t, dvt, one, p->dv + own, p->acc_v);
    fill(one, LANES, p->scale);
    if (p->dk) from_lanes(p, &t, dkt, one, p->dk + own, p->acc_k);
}

void K(attention_backward)(const k_attention *p) {
    k_attention copy = *p;
    int64_t query_tiles = p->B * p->H * tiles_of(p->N), key_tiles = p->B * p->H * tiles_of(p->M);
    tn_parallel_for(tn_threads_for(p->threads, (double)(p->B * p->N * p->H * p->D)), query_tiles, delta_tile, &copy);
    if (p->dq) tn_parallel_for(threads_for(p, 3), query_tiles, dq_tile, &copy);
    if (p->dk || p->dv) tn_parallel_for(threads_for(p, 4), key_tiles, dkv_tile, &copy);
}
