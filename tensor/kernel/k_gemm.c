/* Blocked, packed, register-tiled matrix product (the scheme of Goto and van de Geijn, "Anatomy of high-performance
 * matrix multiplication", 2008, with one more rule: every element of C is one chain of fused multiply-adds over
 * ascending k).
 *
 *   task    MB x NC elements of C of one batch; the tasks run in parallel, each owns its elements
 *   block   KC x NC elements of B, packed once per task and block; lies in the second-level cache
 *   group   GROUP panels of A, each GEMM_ROWS x KC, packed just before they are used
 *   tile    GEMM_ROWS x GEMM_COLS elements of C in registers, over KC steps of k
 *
 * Between blocks of k a chain rests in a tile of the worker's scratch, as a float, which it is anyway: where the
 * blocks end does not change a bit. The old C (acc) is thus free to be added last. */
#include "tensor/kernel/k_gemm.h"
#include "tensor/parallel.h"

enum {
    KC = 512, /* KC x NC is a block of B of 0.6 MB, for a second-level cache of 1 MB */
    NC = 320,
    MB = 1024, /* rows that one packed block of B serves */
    GROUP = 4, /* panels of A that share a panel of B while it is in the first-level cache */
    TILE = GEMM_ROWS * GEMM_COLS
};

/* ---- the register tile: t (+)= A panel x B panel, for every height up to GEMM_ROWS ---- */

#if V_TILE_VECS == 2
#define WIDE(x) x
#else
#define WIDE(x)
#endif

#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define ROWS_7(X) ROWS_6(X) X(6)
#define ROWS_8(X) ROWS_7(X) X(7)
#define ROWS_9(X) ROWS_8(X) X(8)
#define ROWS_10(X) ROWS_9(X) X(9)
#define ROWS_11(X) ROWS_10(X) X(10)
#define ROWS_12(X) ROWS_11(X) X(11)
#define ROWS_13(X) ROWS_12(X) X(12)
#define ROWS_14(X) ROWS_13(X) X(13)

#define START(i) \
    v16 c##i = first ? v_zero() : v_load(t + i * GEMM_COLS); \
    WIDE(v16 d##i = first ? v_zero() : v_load(t + i * GEMM_COLS + 16);)
#define STEP(i) \
    { \
        v16 s = v_set1(a[i]); \
        c##i = v_fma(s, b0, c##i); \
        WIDE(d##i = v_fma(s, b1, d##i);) \
    }
#define FINISH(i) \
    v_store(t + i * GEMM_COLS, c##i); \
    WIDE(v_store(t + i * GEMM_COLS + 16, d##i);)

/* A last panel of at most 16 columns is padded to that only: half of the work, and as fast a step, where a tile has two
 * vectors. */
#define STEP_NARROW(i) c##i = v_fma(v_set1(a[i]), b0, c##i);

/* The macros keep each row of the tile in variables of its own: arrays would go through memory. */
#define DEFINE_TILE(h) \
    static void tile_##h(int64_t kc, int64_t cols, const float *a, int64_t lda, const float *b, float *t, int first) { \
        int narrow = GEMM_COLS > V_LANES && cols <= V_LANES; \
        ROWS_##h(START) \
        for (int64_t k = 0; narrow && k < kc; k++, a += lda, b += GEMM_COLS) { \
            v16 b0 = v_load(b); \
            ROWS_##h(STEP_NARROW) \
        } \
        for (int64_t k = 0; !narrow && k < kc; k++, a += lda, b += GEMM_COLS) { \
            v16 b0 = v_load(b); \
            WIDE(v16 b1 = v_load(b + 16);) \
            ROWS_##h(STEP) \
        } \
        ROWS_##h(FINISH) \
    }

DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)
#if V_TILE_ROWS == 14
DEFINE_TILE(7)
DEFINE_TILE(8)
DEFINE_TILE(9)
DEFINE_TILE(10)
DEFINE_TILE(11)
DEFINE_TILE(12)
DEFINE_TILE(13)
DEFINE_TILE(14)
#endif

static void (*const tile_of_height[GEMM_ROWS + 1])(int64_t kc, int64_t cols, const float *a, int64_t lda, const float *b, float *t,
                                                   int first) = {
    NULL,   tile_1, tile_2, tile_3,  tile_4,  tile_5,  tile_6,
#if V_TILE_ROWS == 14
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12, tile_13, tile_14
#endif
};

void K(gemm_tile)(int64_t rows, int64_t kc, int64_t cols, const float *a, int64_t lda, const float *b, float *t, int first) {
    tile_of_height[rows](kc, cols, a, lda, b, t, first);
}

/* ---- cutting the work ---- */

typedef struct plan {
    int64_t kc, nc, mb; /* the largest block of B, and task */
    int64_t m_tasks, n_tasks, n_panels;
    int64_t b_size, a_size, t_size; /* of a worker's scratch, in floats */
    int threads;
} plan;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Cuts C into tasks: as few as the caches ask for; more along the longer side until every thread has two; and,
 * while they are few, as many for one thread as for another. */
static plan make_plan(const gemm *g) {
    plan q = {0};
    int64_t M = max64(g->M, 1), N = max64(g->N, 1), K = max64(g->K, 1), batch = max64(g->batch, 1);
    q.threads = tn_threads_for(g->threads < 1 ? 1 : g->threads, 0.02 * (double)M * (double)N * (double)K * (double)batch);
    q.n_panels = ceil_div(N, GEMM_COLS);
    int64_t m = ceil_div(M, MB), n = ceil_div(N, NC), want = q.threads == 1 ? 1 : 2 * (int64_t)q.threads;
    while (batch * m * n < want) {
        int64_t rows = M / m, cols = N / n;
        if (cols >= 2 * GEMM_COLS && (cols >= rows || rows < 2 * GEMM_ROWS))
            n++;
        else if (rows >= 2 * GEMM_ROWS)
            m++;
        else
            break;
    }
    while (n < q.n_panels && batch * m * n < 4 * want && batch * m * n % q.threads) n++;
    q.m_tasks = m, q.n_tasks = n;
    q.kc = round_up(ceil_div(K, ceil_div(K, KC)), 16);
    q.mb = ceil_div(M, m);
    q.nc = ceil_div(q.n_panels, n) * GEMM_COLS;
    q.b_size = q.kc * q.nc;
    q.a_size = round_up(GROUP * GEMM_ROWS * q.kc + GEMM_SLACK, 16);
    q.t_size = (K > q.kc ? round_up(q.mb, GEMM_ROWS) * q.nc : TILE) + V_LANES; /* write_tile may read beyond */
    return q;
}

size_t K(gemm_scratch)(const gemm *g) {
    plan q = make_plan(g);
    return (size_t)(q.b_size + q.a_size + q.t_size) * sizeof(float) * (size_t)q.threads;
}

/* ---- one task ---- */

/* C (+)= tile (+ bias) (+ add), for rows x cols elements from (m, n) of batch b. What a layer adds to the
 * product is added here, while the tile is in the first-level cache: no pass over C of its own. */
static void write_tile(const gemm *g, int64_t b, int64_t m, int64_t n, int64_t rows, int64_t cols, const float *t) {
    for (int64_t j = 0, lanes; j < cols; j += lanes) {
        int64_t at = (n + j) % g->span;
        int64_t start = b * g->c_step + (n + j) / g->span * g->span_step + m * g->ldc + at * g->col_step;
        lanes = min64(min64(cols - j, V_LANES), g->span - at);
        v16 bias = v_zero();
        if (g->bias && !g->bias_rows) bias = v_loadn_typed(g->bias, g->bias_type, n + j, lanes);
        for (int64_t i = 0; i < rows; i++) {
            float *c = g->C + start + i * g->ldc;
            const float *add = g->add ? g->add + start + i * g->ldc : NULL;
            v16 x = v_load(t + i * GEMM_COLS + j);
            if (g->bias) x = v_add(x, g->bias_rows ? v_set1(s_load_typed(g->bias, g->bias_type, m + i)) : bias);
            if (add) x = v_add(x, lanes == V_LANES ? v_load(add) : v_loadn(add, lanes));
            if (g->col_step != 1) {
                float e[V_LANES];
                v_store(e, x);
                for (int64_t l = 0; l < lanes; l++) c[l * g->col_step] = g->acc ? e[l] + c[l * g->col_step] : e[l];
            } else if (lanes == V_LANES) {
                v_store(c, g->acc ? v_add(x, v_load(c)) : x);
            } else {
                v_storen(c, g->acc ? v_add(x, v_loadn(c, lanes)) : x, lanes);
            }
        }
    }
}

typedef struct job {
    const gemm *g;
    plan q;
} job;

static void run_task(void *arg, int64_t index, int worker) {
    const job *w = arg;
    const gemm *g = w->g;
    const plan *q = &w->q;
    int64_t nt = index % q->n_tasks, mt = index / q->n_tasks % q->m_tasks, b = index / q->n_tasks / q->m_tasks;
    int64_t m0 = mt * g->M / q->m_tasks, rows = (mt + 1) * g->M / q->m_tasks - m0;
    int64_t n0 = nt * q->n_panels / q->n_tasks * GEMM_COLS;
    int64_t cols = min64(g->N, (nt + 1) * q->n_panels / q->n_tasks * GEMM_COLS) - n0;
    /* panels of even height: 77 rows are 5 x 13 and 12, rather than 5 x 14 and 7 */
    int64_t panels = ceil_div(rows, GEMM_ROWS), height = ceil_div(rows, panels);
    float *B = (float *)g->scratch + worker * (q->b_size + q->a_size + q->t_size);
    float *A = B + q->b_size, *T = A + q->a_size;

    for (int64_t k0 = 0; k0 == 0 || k0 < g->K; k0 += q->kc) {
        int64_t kc = min64(q->kc, g->K - k0);
        int last = k0 + kc >= g->K;
        g->pack_b(g->b_ctx, b, k0, kc, n0, cols, B);
        for (int64_t p0 = 0; p0 < panels; p0 += GROUP) {
            int64_t p1 = min64(p0 + GROUP, panels);
            g->pack_a(g->a_ctx, b, m0 + p0 * height, min64(p1 * height, rows) - p0 * height, height, k0, kc, A);
            for (int64_t j = 0; j < cols; j += GEMM_COLS)
                for (int64_t p = p0; p < p1; p++) {
                    int64_t h = min64(height, rows - p * height);
                    float *t = g->K > q->kc ? T + p * GEMM_ROWS * q->nc + j * GEMM_ROWS : T;
                    tile_of_height[h](kc, cols - j, A + (p - p0) * height * kc, h, B + j * kc, t, k0 == 0);
                    if (last) write_tile(g, b, m0 + p * height, n0 + j, h, min64(GEMM_COLS, cols - j), t);
                }
        }
    }
}

void K(gemm)(const gemm *g) {
    if (g->M < 1 || g->N < 1 || g->batch < 1) return;
    job w = {g, make_plan(g)};
    tn_parallel_for(w.q.threads, g->batch * w.q.m_tasks * w.q.n_tasks, run_task, &w);
}
