/* Multi-head attention that never stores the probabilities: a streaming softmax.
 *
 * Sources: the running maximum and sum are Milakov and Gimelshein, 1805.02867, algorithm 3; memory linear in the tokens
 * is Rabe and Staats, 2112.05682; the blocking is Dao et al., 2205.14135, algorithm 2 (FlashAttention).
 *
 * A tile is 32 queries of one head, held transposed, one query per lane: q^T [D][32]. It walks over the keys in blocks of 80:
 *
 *     s [80][32] = k q^T            in register tiles of 8 keys, depth D
 *     p = 2^(s - m)                 in the same registers: the top m and the sum l of a query never cross lanes
 *     y^T [D][32] += v^T p          in register tiles of 8 elements of v, depth 80
 *
 * and divides by l at the end. The top m need not be the maximum: any number will do from which the scores are not far. It is
 * raised only when a score is more than SLACK above it, which is seldom, so that nothing is scaled again in the common case.
 *
 * A query of width 40 costs 80 multiply-adds a key and one exp, which is worth 6 of them. Register tiles are 8 x 2 vectors
 * with AVX-512, 4 x 1 with AVX2 and NEON: 16 (4 x 2, 4 x 4) sums, the vectors of one operand and an element of the other. A
 * taller or wider tile would load less, but depth is only 40 in the commonest product, and what happens between two tiles,
 * where sums become scores and scores probabilities, must fit into what a processor looks ahead.
 *
 * In the first-level cache of 32 KB lie, while s is made, q^T (5 KB at width 40), s (10 KB) and the block of k (13 KB); while y
 * grows, y^T, s and the block of v. k and v of a head, 1.3 MB at 4096 tokens, would come from the third-level cache for each
 * tile: a task has several tiles, and all of them pass a section of keys before the next is read, so that it is met in the
 * second-level cache. k and v are packed once per call, in the order in which tiles read them.
 *
 * What enters the arithmetic: sums over d are one chain; sums over keys are one chain per block of ATTN_BLOCK, added
 * block by block; tops are looked at every QUAD keys. Each lane computes alone, so tiles and threads do not enter. */
#include "tensor/kernel/k_attention.h"
#include "tensor/kernel/k_tile.h"

#include <math.h>
#include <string.h>

#include "tensor/kernel/vmath.h"
#include "tensor/parallel.h"

enum {
    LANES = 32,           /* queries of a tile */
    PANEL = 8,            /* keys of which the scores are made together; elements of v */
    QUAD = 4,             /* keys between looks at the top */
    MOST = 8,             /* of a task, at most */
    STATE = 1 << 16,      /* floats of a task's tiles, */
    SECTION = 96 << 10,   /* and of a section of k and v: 0.6 MB of a second-level cache of 1 MB */
    ROWS = 4 * V_TILE_VECS, COLS = V_TILE_VECS * V_LANES /* of the register tile */
};
static const float SLACK = 8.0f; /* p is at most 2^SLACK */
static const float LOW = -0x1p127f; /* below all scores, but not -infinity, so that s - m is a number */

/* What rests of a tile of queries between blocks of keys. */
typedef struct tile {
    float *q, *y;         /* transposed: [D][LANES], [D in whole PANELs][LANES] */
    float *top, *l, *sum; /* [LANES]; sum is that of the block */
} tile;

typedef struct job {
    const k_attention *p;
    int64_t keys, head;        /* keys in whole vectors; floats of a packed head */
    int64_t tiles, section;    /* of a task; keys of a section */
    float *k, *v, *workers;    /* packed heads; scratch of the workers */
} job;

static int64_t tile_floats(int64_t D) { return LANES * (2 * round_up(D, PANEL) + 3); }
static int64_t worker_floats(const job *w) { return w->tiles * tile_floats(w->p->D) + LANES * ATTN_BLOCK; }

/* Cuts the work, and the scratch, of which *floats is the size. */
static job job_of(const k_attention *p, int64_t *floats) {
    job w = {.p = p, .keys = round_up(p->M, V_LANES)};
    int64_t heads = p->B * p->H, threads = max64(1, p->threads);
    w.head = w.keys * round_up(p->D, PANEL);
    w.tiles = min64(heads * ceil_div(p->N, LANES) / (4 * threads), min64(MOST, STATE / tile_floats(p->D)));
    w.tiles = max64(1, w.tiles);
    w.section = max64(1, SECTION / (2 * p->D) / ATTN_BLOCK) * ATTN_BLOCK;
    *floats = 2 * heads * w.head + threads * worker_floats(&w);
    if (p->scratch) w.k = p->scratch, w.v = w.k + heads * w.head, w.workers = w.v + heads * w.head;
    return w;
}

size_t K(attention_scratch)(const k_attention *p) {
    k_attention sizes = *p;
    int64_t floats;
    sizes.scratch = NULL;
    job_of(&sizes, &floats);
    return (size_t)floats * sizeof(float);
}

/* ---- packing ---- */

/* 16 keys of all heads: k as [keys / 16][D][16], v as [D / PANEL][keys][PANEL], zeros behind the last key and beside D. */
static void pack_keys(void *arg, int64_t i, int worker) {
    const job *w = arg;
    const k_attention *p = w->p;
    int64_t panels = w->keys / V_LANES, b = i / panels, first = i % panels * V_LANES, n = min64(V_LANES, p->M - first);
    (void)worker;
    for (int64_t h = 0; h < p->H; h++) {
        int64_t from = ((b * p->M + first) * p->H + h) * p->D, head = (b * p->H + h) * w->head;
        float *v = w->v + head + first * PANEL;
        K(attn_to_lanes)(p->k + from, p->H * p->D, n, p->D, 1.0f, w->k + head + first * p->D, V_LANES);
        for (int64_t d = 0; d < p->D; d += PANEL, v += w->keys * PANEL)
            for (int64_t j = 0; j < V_LANES; j++) {
                int64_t width = j < n ? min64(PANEL, p->D - d) : 0;
                v_storen(v + j * PANEL, v_loadn(p->v + from + min64(j, n - 1) * p->H * p->D + d, width), PANEL);
            }
    }
}

/* ---- the softmax ---- */

/* Some of 16 queries from `lane` have a score more than SLACK above their top: for those, and no others, which may not know
 * of their neighbours, the new top is `max`, and all that was made with the old one, `rows` probabilities of this block
 * among it, is scaled. */
static void raise_top(const tile *t, int64_t D, int64_t lane, v16 max, v16m higher, float *s, int64_t rows) {
    v16 top = v_load(t->top + lane);
    v16 factor = v_select(higher, v_exp2(v_sub(top, max)), v_set1(1.0f));
    v_store(t->top + lane, v_select(higher, max, top));
    v_store(t->l + lane, v_mul(v_load(t->l + lane), factor));
    v_store(t->sum + lane, v_mul(v_load(t->sum + lane), factor));
    for (int64_t i = lane; i < D * LANES; i += LANES) v_store(t->y + i, v_mul(v_load(t->y + i), factor));
    for (int64_t i = lane; i < rows * LANES; i += LANES) v_store(s + i, v_mul(v_load(s + i), factor));
}

/* The scores e0..e3 of QUAD keys, from `row` of the block, become probabilities and are stored. */
#define SOFTEN(e0, e1, e2, e3, row, lane) \
    { \
        v16 max = v_max(v_max(e0, e1), v_max(e2, e3)), top = v_load(t->top + (lane)); \
        v16m higher = v_gt(max, v_add(top, v_set1(SLACK))); \
        if (v_any(higher)) { \
            raise_top(t, D, lane, max, higher, s, row); \
            top = v_load(t->top + (lane)); \
        } \
        float *to = s + (row) * LANES + (lane); \
        e0 = v_exp2(v_sub(e0, top)), e1 = v_exp2(v_sub(e1, top)), e2 = v_exp2(v_sub(e2, top)), e3 = v_exp2(v_sub(e3, top)); \
        v_store(to, e0), v_store(to + LANES, e1), v_store(to + 2 * LANES, e2), v_store(to + 3 * LANES, e3); \
        v_store(t->sum + (lane), v_add(v_load(t->sum + (lane)), v_add(v_add(e0, e1), v_add(e2, e3)))); \
    }

/* ---- the register tiles ---- */

#if V_TILE_VECS == 2
#define EACH_ROW ROWS_8
#else
#define EACH_ROW ROWS_4
#endif
#define START(r) \
    v16 c##r = v_zero(); \
    WIDE(v16 d##r = v_zero();)
#define STEP(r) \
    x = v_set1(a[r]), c##r = v_fma(x, b0, c##r); \
    WIDE(d##r = v_fma(x, b1, d##r);)
#define MASK(r) \
    c##r = v_add(c##r, v_load(mask + r * LANES)); \
    WIDE(d##r = v_add(d##r, v_load(mask + r * LANES + V_LANES));)
#define ADD(r) \
    v_store(y + r * LANES, v_add(v_load(y + r * LANES), c##r)); \
    WIDE(v_store(y + r * LANES + V_LANES, v_add(v_load(y + r * LANES + V_LANES), d##r));)
/* The chains of a tile: `steps` rows of b, LANES apart, by elements of a, `width` apart. */
#define CHAINS(steps, width) \
    EACH_ROW(START) \
    for (int64_t i = 0; i < (steps); i++, a += (width), b += LANES) { \
        v16 x, b0 = v_load(b); \
        WIDE(v16 b1 = v_load(b + V_LANES);) \
        EACH_ROW(STEP) \
    }

/* Probabilities of ROWS keys, rows from `row` of the block s, for COLS queries from `lane`. a [D][16 keys]; `mask` is NULL or
 * added to the scores. */
static void scores(const tile *t, int64_t D, const float *a, const float *mask, int64_t row, int64_t lane, float *s) {
    const float *b = t->q + lane;
    CHAINS(D, V_LANES)
    if (mask) {
        EACH_ROW(MASK)
    }
    SOFTEN(c0, c1, c2, c3, row, lane)
#if V_TILE_VECS == 2
    SOFTEN(d0, d1, d2, d3, row, lane + V_LANES)
    SOFTEN(c4, c5, c6, c7, row + QUAD, lane)
    SOFTEN(d4, d5, d6, d7, row + QUAD, lane + V_LANES)
#endif
}

/* y [ROWS][COLS] += a^T b, for a [keys][PANEL] of v and b of p. */
static void gather(const float *a, const float *b, int64_t keys, float *y) {
    CHAINS(keys, PANEL)
    EACH_ROW(ADD)
}

/* ---- a task ---- */

/* 0, or -infinity where a key of the PANEL from `key` is none of `seen`, or follows the query. Lanes are queries from
 * `first`. */
static void make_mask(const k_attention *p, int64_t first, int64_t key, int64_t seen, float *mask) {
    for (int64_t r = 0; r < PANEL; r++)
        for (int64_t i = 0; i < LANES; i++)
            mask[r * LANES + i] = r >= seen || (p->causal && key + r > first + i) ? -INFINITY : 0.0f;
}

/* Keys j..j+rows of a head against the queries from `first`. */
static void add_block(const job *w, const tile *t, int64_t head, int64_t first, int64_t j, int64_t rows, float *s) {
    const k_attention *p = w->p;
    float mask[PANEL * LANES];
    memset(t->sum, 0, LANES * sizeof *t->sum);
    for (int64_t r = 0; r < rows; r += PANEL) {
        const float *k = w->k + head * w->head + (j + r) / V_LANES * V_LANES * p->D + (j + r) % V_LANES;
        int64_t seen = min64(PANEL, rows - r);
        int masked = seen < PANEL || (p->causal && j + r + PANEL > first);
        if (masked) make_mask(p, first, j + r, seen, mask);
        for (int64_t i = 0; i < PANEL; i += ROWS)
            for (int64_t lane = 0; lane < LANES; lane += COLS)
                scores(t, p->D, k + i, masked ? mask + i * LANES + lane : NULL, r + i, lane, s);
    }
    for (int64_t i = 0; i < LANES; i += V_LANES) v_store(t->l + i, v_add(v_load(t->l + i), v_load(t->sum + i)));
    const float *v = w->v + head * w->head + j * PANEL;
    for (int64_t d = 0; d < p->D; d += PANEL, v += w->keys * PANEL)
        for (int64_t i = 0; i < PANEL; i += ROWS)
            for (int64_t lane = 0; lane < LANES; lane += COLS) gather(v + i, s + lane, rows, t->y + (d + i) * LANES + lane);
}

/* Where query `first` of a head lies in [B,N,H*D]. */
static int64_t offset(const k_attention *p, int64_t head, int64_t first) {
    return ((head / p->H * p->N + first) * p->H + head % p->H) * p->D;
}

static tile start_tile(const k_attention *p, int64_t head, int64_t first, int64_t n, float *at) {
    int64_t wide = LANES * round_up(p->D, PANEL);
    float *lane = at + 2 * wide;
    tile t = {at, at + wide, lane, lane + LANES, lane + 2 * LANES};
    memset(t.q, 0, (size_t)tile_floats(p->D) * sizeof *t.q);
    for (int64_t i = 0; i < LANES; i++) t.top[i] = LOW;
    K(attn_to_lanes)(p->q + offset(p, head, first), p->H * p->D, n, p->D, attn_scale(p), t.q, LANES);
    return t;
}

static void finish_tile(const k_attention *p, const tile *t, int64_t head, int64_t first, int64_t n) {
    for (int64_t i = 0; i < LANES; i += V_LANES) {
        v16 l = v_load(t->l + i);
        v_store(t->top + i, v_fma(v_log(l), v_set1(0x1.715476p+0f), v_load(t->top + i)));
        v_store(t->l + i, v_div(v_set1(1.0f), l));
    }
    K(attn_from_lanes)(t->y, LANES, n, p->D, t->l, p->y + offset(p, head, first), p->H * p->D);
    if (p->lse) memcpy(p->lse + head * p->N + first, t->top, (size_t)n * sizeof *t->top);
}

/* y and lse of some tiles of queries of one head. */
static void task(void *arg, int64_t i, int worker) {
    const job *w = arg;
    const k_attention *p = w->p;
    int64_t tiles = ceil_div(p->N, LANES), tasks = ceil_div(tiles, w->tiles), head = i / tasks;
    int64_t t0 = cut(tiles, i % tasks, tasks), n = cut(tiles, i % tasks + 1, tasks) - t0;
    float *at = w->workers + worker * worker_floats(w), *s = at + w->tiles * tile_floats(p->D);
    tile t[MOST];
    for (int64_t z = 0; z < n; z++) {
        int64_t first = (t0 + z) * LANES;
        t[z] = start_tile(p, head, first, min64(LANES, p->N - first), at + z * tile_floats(p->D));
    }
    for (int64_t section = 0; section < p->M; section += w->section)
        for (int64_t z = 0; z < n; z++) {
            int64_t first = (t0 + z) * LANES, last = min64(p->N, first + LANES);
            int64_t keys = p->causal ? min64(p->M, last) : p->M; /* the keys that some query of the tile sees */
            for (int64_t j = section; j < min64(keys, section + w->section); j += ATTN_BLOCK)
                add_block(w, &t[z], head, first, j, min64(ATTN_BLOCK, keys - j), s);
        }
    for (int64_t z = 0; z < n; z++)
        finish_tile(p, &t[z], head, (t0 + z) * LANES, min64(LANES, p->N - (t0 + z) * LANES));
}

void K(attention)(const k_attention *p) {
    int64_t floats;
    job w = job_of(p, &floats);
    double size = (double)(p->B * p->H * p->D) * (double)p->M;
    tn_parallel_for(tn_threads_for(p->threads, 0.6 * size), p->B * w.keys / V_LANES, pack_keys, &w);
    tn_parallel_for(tn_threads_for(p->threads, 0.03 * size * (double)p->N),
                    p->B * p->H * ceil_div(ceil_div(p->N, LANES), w.tiles), task, &w);
}
