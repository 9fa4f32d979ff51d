/* Backward of multi-head attention, from q, k, v, y, lse and dy: probabilities are made again, once.
 *
 * With s = scale q k^T, p = exp(s - lse) and y = p v                                  (2205.14135, appendix B.2)
 *     dv = p^T dy,  dp = dy v^T,  ds = p (dp - delta) with delta_i = sum_j p_ij dp_ij = sum_d dy_id y_id,
 *     dq = scale ds k,  dk = scale ds^T q:
 * five products, of which dk and dv sum over queries and dq over keys. A task owns a range of keys of one head and
 * walks over it in blocks of 64 keys, which are lanes, transposed, and for each over the queries in blocks of 80:
 *
 *     p  [80 queries][64 keys] = 2^(q k^T - lse)                              depth D; lse and delta of a query are
 *     ds = p (dy v^T - delta)                                                 scalars of a row, taken in registers
 *     dv^T [D][64 keys] += dy^T p              dk^T += q^T ds                 depth 80, sums stay with the block of keys
 *     dq [queries][D] += ds k                                                 depth 64, lanes are D
 *
 * dq is the only result that other blocks of keys add to. So that nobody waits for anybody, a task adds into a part of
 * its own, and what the ranges of a head have made is added up at the end, in the order of the ranges. Where keys are
 * few (77 of a prompt) ranges are of queries instead, and dk and dv come in parts. The ranges depend on shapes only. */
#include "tensor/kernel/k_attention.h"

#include <math.h>
#include <string.h>

#include "tensor/parallel.h"

enum {
    BLOCK = ATTN_BLOCK, /* queries of a block */
    KEYS = 64,          /* keys of a block: two register tiles wide; enters the arithmetic of dq */
    TASKS = 32,         /* how many tasks are wanted: ranges are cut where there are fewer heads */
    MIN_RANGE = 3 * BLOCK /* tokens of a range at least: below, adding parts up would cost more than it gains */
};

typedef struct job {
    const k_attention *p;
    int64_t key_parts, query_parts; /* ranges of a head; one of them is 1 */
    int64_t q_head, k_head;         /* floats of a packed head with N, or M, rows */
    float *q, *dy;                  /* packed, q scaled */
    float *dq, *dk, *dv;            /* [B*H][key_parts] packed heads; [B*H][query_parts] */
    float *delta;                   /* [B,H,N] */
    float *workers;
} job;

/* Of a worker. */
typedef struct buffers {
    float *kt, *vt, *dkt, *dvt; /* [D padded to ATTN_ROWS][KEYS] */
    float *s, *ds;              /* [BLOCK][KEYS]: probabilities; ds */
    float *k;                   /* [KEYS][pitch] */
    float *lse, *delta;         /* [BLOCK] */
} buffers;

static int64_t worker_floats(int64_t D) {
    return KEYS * (4 * round_up(D, ATTN_ROWS) + 2 * BLOCK + attn_pitch(D)) + 2 * BLOCK;
}

static buffers buffers_of(const job *w, int worker) {
    int64_t D = w->p->D, wide = KEYS * round_up(D, ATTN_ROWS);
    float *at = w->workers + worker * worker_floats(D), *s = at + 4 * wide, *k = s + 2 * BLOCK * KEYS;
    float *lse = k + KEYS * attn_pitch(D);
    buffers u = {at, at + wide, at + 2 * wide, at + 3 * wide, s, s + BLOCK * KEYS, k, lse, lse + BLOCK};
    return u;
}

/* Cuts the work, and the scratch, of which *floats is the size. */
static job job_of(const k_attention *p, int64_t *floats) {
    job w = {.p = p, .key_parts = 1, .query_parts = 1};
    int64_t heads = p->B * p->H, threads = max64(1, p->threads), longer = max64(p->M, p->N);
    int64_t parts = max64(1, min64(TASKS / max64(1, heads), longer / MIN_RANGE));
    if (p->M >= p->N) w.key_parts = parts;
    else w.query_parts = parts;
    w.q_head = attn_packed_floats(p->N, p->D), w.k_head = attn_packed_floats(p->M, p->D);
    struct {
        float **at;
        int64_t size;
    } part[] = {{&w.q, heads * w.q_head}, {&w.dy, heads * w.q_head},
                {&w.dq, heads * w.key_parts * w.q_head}, {&w.dk, heads * w.query_parts * w.k_head},
                {&w.dv, heads * w.query_parts * w.k_head}, {&w.workers, threads * worker_floats(p->D)},
                {&w.delta, heads * p->N}};
    *floats = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; *floats += part[i++].size)
        if (p->scratch) *part[i].at = (float *)p->scratch + *floats;
    return w;
}

size_t K(attention_backward_scratch)(const k_attention *p) {
    k_attention sizes = *p;
    int64_t floats;
    sizes.scratch = NULL;
    job_of(&sizes, &floats);
    return (size_t)floats * sizeof(float);
}

/* Where range `part` of `parts` of n tokens begins, in whole blocks of `size`. */
static int64_t range_start(int64_t n, int64_t size, int64_t part, int64_t parts) {
    return min64(n, cut(ceil_div(n, size), part, parts) * size);
}

/* ---- delta ---- */

/* delta of one block of queries, as one chain over d like dp: where a query sees one key only, delta = dp and ds = 0
 * exactly. The buffers that it borrows, kt with vt and dkt with dvt, are [D][BLOCK] and more. */
static void delta_block(void *arg, int64_t i, int worker) {
    const job *w = arg;
    const k_attention *p = w->p;
    buffers u = buffers_of(w, worker);
    int64_t blocks = ceil_div(p->N, BLOCK), head = i / blocks, first = i % blocks * BLOCK;
    int64_t n = min64(BLOCK, p->N - first), stride = p->H * p->D;
    int64_t own = ((head / p->H * p->N + first) * p->H + head % p->H) * p->D;
    K(attn_to_lanes)(p->y + own, stride, n, p->D, 1.0f, u.kt, BLOCK);
    K(attn_to_lanes)(p->dy + own, stride, n, p->D, 1.0f, u.dkt, BLOCK);
    for (int64_t v = 0; v < n; v += V_LANES) {
        v16 sum = v_zero();
        for (int64_t d = v; d < p->D * BLOCK; d += BLOCK) sum = v_fma(v_load(u.kt + d), v_load(u.dkt + d), sum);
        v_storen(w->delta + head * p->N + first + v, sum, min64(V_LANES, n - v));
    }
}

/* ---- one block of keys ---- */

/* Causal: key > query has the probability 0. Rows are queries from `row0`, lanes keys from `first`. */
static void mask(float *prob, int64_t first, int64_t row0, int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = max64(row0 + r - first + 1, 0); i < KEYS; i++) prob[r * KEYS + i] = 0.0f;
}

/* n keys from `first` of a head, against queries q0..q1: their dk and dv, and what they add to dq. */
static void key_block(const job *w, const buffers *u, int64_t head, int64_t first, int64_t n, int64_t q0, int64_t q1,
                      float *dq) {
    const k_attention *p = w->p;
    int64_t D = p->D, pitch = attn_pitch(D), vecs = ceil_div(n, V_LANES), stats = head * p->N;
    const float *q = w->q + head * w->q_head, *dy = w->dy + head * w->q_head;
    attn_end prob = {ATTN_PROB, u->lse, NULL}, derive = {ATTN_DS, u->delta, u->s}, add = {ATTN_ADD, NULL, NULL};
    if (p->causal) q0 = max64(q0, first / BLOCK * BLOCK); /* the first block with a query that sees one of the keys */
    for (int64_t j = q0; j < q1; j += BLOCK) {
        int64_t rows = min64(BLOCK, q1 - j);
        attn_view qj = {q + j * pitch, pitch, 1}, qt = {qj.at, 1, pitch};
        attn_view dyj = {dy + j * pitch, pitch, 1}, dyt = {dyj.at, 1, pitch}, ds = {u->ds, KEYS, 1};
        memcpy(u->lse, p->lse + stats + j, (size_t)rows * sizeof *u->lse);
        memcpy(u->delta, w->delta + stats + j, (size_t)rows * sizeof *u->delta);
        K(attn_product)(qj, rows, D, u->kt, KEYS, vecs, u->s, KEYS, prob);
        if (p->causal) mask(u->s, first, j, rows);
        K(attn_product)(dyj, rows, D, u->vt, KEYS, vecs, u->ds, KEYS, derive);
        if (p->dv) K(attn_product)(dyt, D, rows, u->s, KEYS, vecs, u->dvt, KEYS, add);
        if (p->dk) K(attn_product)(qt, D, rows, u->ds, KEYS, vecs, u->dkt, KEYS, add);
        if (p->dq) K(attn_product_rows)(ds, rows, n, u->k, pitch, D, dq + j * pitch, pitch);
    }
}

static void clear(float *x, int64_t n) { memset(x, 0, (size_t)n * sizeof *x); }

/* A range of keys and a range of queries of one head. */
static void task(void *arg, int64_t i, int worker) {
    const job *w = arg;
    const k_attention *p = w->p;
    buffers u = buffers_of(w, worker);
    int64_t parts = w->key_parts * w->query_parts, head = i / parts;
    int64_t key_part = i % parts % w->key_parts, query_part = i % parts / w->key_parts;
    int64_t k1 = range_start(p->M, KEYS, key_part + 1, w->key_parts), q0 = range_start(p->N, BLOCK, query_part, w->query_parts),
            q1 = range_start(p->N, BLOCK, query_part + 1, w->query_parts);
    int64_t stride = p->H * p->D, pitch = attn_pitch(p->D), wide = KEYS * round_up(p->D, ATTN_ROWS);
    float *dq = w->dq + (head * w->key_parts + key_part) * w->q_head;
    float *dk = w->dk + (head * w->query_parts + query_part) * w->k_head;
    float *dv = w->dv + (head * w->query_parts + query_part) * w->k_head;

    if (p->dq) clear(dq + q0 * pitch, (q1 - q0) * pitch);
    for (int64_t j = range_start(p->M, KEYS, key_part, w->key_parts); j < k1; j += KEYS) {
        int64_t n = min64(KEYS, k1 - j), own = ((head / p->H * p->M + j) * p->H + head % p->H) * p->D;
        K(attn_to_lanes)(p->k + own, stride, n, p->D, 1.0f, u.kt, KEYS);
        K(attn_to_lanes)(p->v + own, stride, n, p->D, 1.0f, u.vt, KEYS);
        for (int64_t r = 0; p->dq && r < n; r++)
            for (int64_t d = 0; d < p->D; d += V_LANES)
                v_store(u.k + r * pitch + d, v_loadn(p->k + own + r * stride + d, min64(V_LANES, p->D - d)));
        K(attn_twice)(u.k, pitch, n, p->D);
        clear(u.dkt, wide);
        clear(u.dvt, wide);
        key_block(w, &u, head, j, n, q0, q1, dq);
        if (p->dk) K(attn_from_lanes)(u.dkt, KEYS, n, p->D, NULL, dk + j * pitch, pitch);
        if (p->dv) K(attn_from_lanes)(u.dvt, KEYS, n, p->D, NULL, dv + j * pitch, pitch);
    }
}

/* ---- adding up ---- */

typedef struct total {
    const float *part; /* [B*H][parts][size]: packed heads */
    int64_t parts, size, length, H, D;
    float factor, *x; /* [B,length,H*D] */
    int acc;
} total;

/* One block of tokens of one head: x (+)= factor * the sum of its parts, in order. */
static void total_block(void *arg, int64_t i, int worker) {
    const total *t = arg;
    int64_t blocks = ceil_div(t->length, BLOCK), head = i / blocks, first = i % blocks * BLOCK, pitch = attn_pitch(t->D);
    (void)worker;
    for (int64_t row = first; row < min64(first + BLOCK, t->length); row++) {
        const float *part = t->part + head * t->parts * t->size + row * pitch;
        float *x = t->x + ((head / t->H * t->length + row) * t->H + head % t->H) * t->D;
        for (int64_t d = 0; d < t->D; d += V_LANES) {
            int64_t width = min64(V_LANES, t->D - d);
            v16 sum = v_load(part + d);
            for (int64_t j = 1; j < t->parts; j++) sum = v_add(sum, v_load(part + j * t->size + d));
            sum = v_mul(v_set1(t->factor), sum);
            v_storen(x + d, t->acc ? v_add(v_loadn(x + d, width), sum) : sum, width);
        }
    }
}

static void add_up(const k_attention *p, int64_t length, const float *part, int64_t parts, float factor, float *x, int acc) {
    if (!x) return;
    total t = {part, parts, attn_packed_floats(length, p->D), length, p->H, p->D, factor, x, acc};
    int wake = tn_threads_for(p->threads, 0.3 * (double)(p->B * length * p->H * p->D * parts));
    tn_parallel_for(wake, p->B * p->H * ceil_div(length, BLOCK), total_block, &t);
}

void K(attention_backward)(const k_attention *p) {
    int64_t floats;
    job w = job_of(p, &floats);
    int64_t heads = p->B * p->H;
    double size = (double)(heads * p->N * p->D);
    K(attn_pack)(p->q, p->B, p->N, p->H, p->D, attn_scale(p), p->threads, w.q);
    K(attn_pack)(p->dy, p->B, p->N, p->H, p->D, 1.0f, p->threads, w.dy);
    tn_parallel_for(tn_threads_for(p->threads, size), heads * ceil_div(p->N, BLOCK), delta_block, &w);
    tn_parallel_for(tn_threads_for(p->threads, 0.06 * size * (double)p->M), heads * w.key_parts * w.query_parts, task, &w);
    add_up(p, p->N, w.dq, w.key_parts, p->scale, p->dq, p->acc_q);
    add_up(p, p->M, w.dk, w.query_parts, 0x1.62e430p-1f, p->dk, p->acc_k); /* log 2: the rest of the scale is in q */
    add_up(p, p->M, w.dv, w.query_parts, 1.0f, p->dv, p->acc_v);
}
