/* Multi-head attention that never stores the probabilities: a streaming softmax.
 *
 * Sources: the running maximum and sum are Milakov and Gimelshein, 1805.02867, algorithm 3; memory linear in the tokens
 * is Rabe and Staats, 2112.05682; the blocking is Dao et al., 2205.14135, algorithm 2 (FlashAttention).
 *
 * A task owns a tile of up to 32 queries of one head and holds them transposed, one query per lane: q^T [D][32]. It
 * walks over the keys in blocks of 80:
 *
 *     s [80][32] = k q^T                  attn_product over the rows of k, depth D
 *     p = 2^(s - m)                       lane by lane: the maximum m and the sum l of a query never cross lanes
 *     y^T [D][32] = decay y^T + v^T p     attn_product over the columns of v, depth 80; decay = 2^(old m - m)
 *
 * and divides by l at the end. A query of width 40 costs 80 multiply-adds a key and one exp, which with what surrounds
 * it is worth about 10 of them. In the first-level cache of 32 KB lie, while s is made, q^T (5 KB at width 40), s (10
 * KB) and the block of k (15 KB); while y grows, y^T, s and the block of v. k and v of a head, 1.5 MB at 4096 tokens,
 * come in order from the second- or third-level cache once per tile: 2 bytes a cycle. They are packed once per call.
 *
 * What enters the arithmetic: sums over d are one chain; sums over keys are one chain per block of ATTN_BLOCK, added
 * block by block. Each lane computes alone, so tiles and threads do not enter. */
#include "tensor/kernel/k_attention.h"

#include <math.h>
#include <string.h>

#include "tensor/kernel/vmath.h"
#include "tensor/parallel.h"

enum { LANES = 32 }; /* queries of a tile: two vectors, as wide as the register tile */

/* Where a worker's buffers lie in its scratch. */
typedef struct buffers {
    float *qt, *yt, *s;    /* [D padded to ATTN_ROWS][LANES] twice, [ATTN_BLOCK][LANES] */
    float *m, *l, *decay; /* [LANES] */
} buffers;

typedef struct job {
    const k_attention *p;
    float *k, *v, *workers; /* packed heads; scratch of the workers */
} job;

static int64_t worker_floats(int64_t D) { return LANES * (2 * attn_round_up(D, ATTN_ROWS) + ATTN_BLOCK + 3); }

static int at_least_one(int threads) { return threads > 1 ? threads : 1; }

size_t K(attention_scratch)(const k_attention *p) {
    int64_t packed = p->B * p->H * attn_packed_floats(p->M, p->D);
    return (size_t)(2 * packed + at_least_one(p->threads) * worker_floats(p->D)) * sizeof(float);
}

static buffers buffers_of(const job *w, int worker) {
    int64_t wide = LANES * attn_round_up(w->p->D, ATTN_ROWS);
    float *at = w->workers + worker * worker_floats(w->p->D), *s = at + 2 * wide, *lane = s + LANES * ATTN_BLOCK;
    buffers u = {at, at + wide, s, lane, lane + LANES, lane + 2 * LANES};
    return u;
}

/* Causal: key j > query i gets the score -inf. Lanes are queries from `first`, rows keys from `row0`. */
static void mask(float *s, int64_t first, int64_t row0, int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < attn_min(row0 + r - first, LANES); i++) s[r * LANES + i] = -INFINITY;
}

/* One block of the streaming softmax: s [rows][LANES] becomes 2^(s - m) with m the maximum so far; the sum l follows;
 * decay = 2^(old m - m) is what earlier results are worth under the new maximum. */
static void softmax_block(const buffers *u, int64_t rows, int64_t vecs) {
    for (int64_t v = 0; v < V_LANES * vecs; v += V_LANES) {
        float *s = u->s + v;
        v16 old = v_load(u->m + v), top = old, sum = v_zero();
        for (int64_t r = 0; r < rows; r++) top = v_max(top, v_load(s + r * LANES));
        for (int64_t r = 0; r < rows; r++) {
            v16 e = v_exp2(v_sub(v_load(s + r * LANES), top));
            v_store(s + r * LANES, e);
            sum = v_add(sum, e);
        }
        v16 d = v_exp2(v_sub(old, top));
        v_store(u->l + v, v_fma(v_load(u->l + v), d, sum));
        v_store(u->m + v, top);
        v_store(u->decay + v, d);
    }
}

/* y and lse of one tile of queries. */
static void forward_tile(void *arg, int64_t i, int worker) {
    const job *w = arg;
    const k_attention *p = w->p;
    buffers u = buffers_of(w, worker);
    int64_t tiles = attn_blocks(p->N, LANES), head = i / tiles, first = i % tiles * LANES;
    int64_t n = attn_min(LANES, p->N - first), vecs = attn_blocks(n, V_LANES), stride = p->H * p->D;
    int64_t keys = p->causal ? attn_min(p->M, first + n) : p->M; /* the keys that some query of the tile sees */
    int64_t own = ((head / p->H * p->N + first) * p->H + head % p->H) * p->D, pitch = attn_pitch(p->D);
    const float *k = w->k + head * attn_packed_floats(p->M, p->D), *v = w->v + head * attn_packed_floats(p->M, p->D);

    K(attn_to_lanes)(p->q + own, stride, n, p->D, attn_scale(p), u.qt, LANES);
    for (int64_t j = 0; j < LANES; j++) u.m[j] = -INFINITY, u.l[j] = 0.0f;
    memset(u.yt, 0, (size_t)(LANES * attn_round_up(p->D, ATTN_ROWS)) * sizeof *u.yt);
    for (int64_t j = 0; j < keys; j += ATTN_BLOCK) {
        int64_t rows = attn_min(ATTN_BLOCK, keys - j);
        attn_view kj = {k + j * pitch, pitch, 1}, vt = {v + j * pitch, 1, pitch};
        K(attn_product)(kj, rows, p->D, u.qt, LANES, vecs, u.s, LANES, 0, NULL);
        if (p->causal) mask(u.s, first, j, rows);
        softmax_block(&u, rows, vecs);
        K(attn_product)(vt, p->D, rows, u.s, LANES, vecs, u.yt, LANES, 1, u.decay);
    }
    for (int64_t j = 0; j < V_LANES * vecs; j += V_LANES) {
        v16 sum = v_load(u.l + j);
        v_store(u.m + j, v_fma(v_log(sum), v_set1(0x1.715476p+0f), v_load(u.m + j)));
        v_store(u.l + j, v_div(v_set1(1.0f), sum));
    }
    K(attn_from_lanes)(u.yt, LANES, n, p->D, u.l, p->y + own, stride);
    if (p->lse) memcpy(p->lse + head * p->N + first, u.m, (size_t)n * sizeof *u.m);
}

void K(attention)(const k_attention *p) {
    int64_t packed = p->B * p->H * attn_packed_floats(p->M, p->D);
    float *at = p->scratch;
    job w = {p, at, at + packed, at + 2 * packed};
    K(attn_pack)(p->k, p->B, p->M, p->H, p->D, 1.0f, p->threads, w.k);
    K(attn_pack)(p->v, p->B, p->M, p->H, p->D, 1.0f, p->threads, w.v);
    int wake = tn_threads_for(p->threads, 0.03 * (double)(p->B * p->H * p->D) * (double)p->N * (double)p->M);
    tn_parallel_for(wake, p->B * p->H * attn_blocks(p->N, LANES), forward_tile, &w);
}
