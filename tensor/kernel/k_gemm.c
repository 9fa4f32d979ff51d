/* Blocked, packed, register-tiled matrix product (the scheme of Goto and van de Geijn, "Anatomy of high-performance
 * matrix multiplication", 2008, with one more rule: every element of C is one chain of fused multiply-adds over
 * ascending k).
 *
 *   task    MB rows of C of one batch and as many columns as a block has; tasks run in parallel, each owns its elements
 *   block   up to KC rows and NC columns of B, BLOCK elements, packed once per task; lies in the second-level cache
 *   group   GROUP panels of A, each GEMM_ROWS x KC, read where they lie or copied just before they are used
 *   tile    GEMM_ROWS x GEMM_COLS elements of C in registers, over KC steps of k
 *
 * The tile alone reaches 98 % of the peak; what is left to lose is waiting. With K = 320 a tile takes 2.4 microseconds and
 * touches 28 lines of C and as many of A for the first time: met one after another in memory they cost a tenth of that. So
 * tiles ask for those lines while they compute, a few every CHUNK steps (k_wish.h).
 *
 * Between blocks of k a chain rests in a tile of the worker's scratch, as a float, which it is anyway: where the
 * blocks end does not change a bit. The old C (acc) is thus free to be added last. */
#include "tensor/kernel/k_gemm.h"
#include "tensor/kernel/k_tile.h"
#include "tensor/kernel/k_wish.h"
#include "tensor/parallel.h"

enum {
    KC = 512,         /* a panel of A is 28 KB, for a first-level cache of 32 KB */
    IN_PLACE_KC = 640, /* where A is not copied, and so may meet narrower blocks of B: chains of 640 channels need not rest */
    BLOCK = KC * 320, /* of B, 0.6 MB, for a second-level cache of 1 MB */
    NC = 640,         /* where K is short, A is copied for more columns at once */
    MB = 1024,        /* rows that one packed block of B serves */
    GROUP = 4,        /* panels of A that meet a panel of B in turn */
    SMALL = 1 << 15,  /* of B, that finds room in that cache beside the block in use */
    TILE = GEMM_ROWS * GEMM_COLS
};

/* ---- the register tile: t (+)= A panel x B panel, for every height up to GEMM_ROWS ---- */

/* The rows of A of the next group; the next block of B; C; what is added to it. */
typedef struct wishes {
    wish next_a, next_b, c, added;
} wishes;

/* What a tile is called with: element (i, k) of A at a[i * row + k * step], a panel of B, where the sums come from (NULL:
 * zero), rows of GEMM_COLS, and where they go, rows of ld. With `lies`, B is read there, in rows that are b_step bytes apart
 * and end b_last bytes on, and packed on the way: under the multiply-adds of one tile packing costs next to nothing. */
typedef struct tile_job {
    int64_t kc, row, step, ld, b_step, b_last;
    const float *a, *b, *from;
    const float *bias, *bias_rows, *add; /* NULL, or what is added: to each row, to each column, and laid out as `to` */
    float *pack, *to;
    const char *lies;
    tn_dtype b_type;
    int more;   /* one of the last two is there, or acc */
    int acc;    /* what is in `to` is added too */
    int stream; /* `to` is C, and C is larger than the caches */
    const wishes *ask; /* NULL: for nothing */
    int narrow; /* at most V_LANES columns, of a tile of two vectors: half of the work, and as fast a step */
} tile_job;

/* Rows of B that a fetch from memory is ahead of its use: 12 x 28 cycles are some 90 ns. What is asked for is the line of a row's
 * last byte: weights in a file begin anywhere, and the line of the first byte was read with the panel before. */
enum { AHEAD = 12 };

#define START(i) \
    v16 c##i = q->from ? v_load(q->from + i * GEMM_COLS) : v_zero(); \
    WIDE(v16 d##i = q->from && !q->narrow ? v_load(q->from + i * GEMM_COLS + V_LANES) : v_zero();)
#define STEP_NARROW(i) c##i = v_fma(v_set1(a[i * row]), b0, c##i);
#define STEP(i) \
    { \
        v16 s = v_set1(a[i * row]); \
        c##i = v_fma(s, b0, c##i); \
        WIDE(d##i = v_fma(s, b1, d##i);) \
    }
#define ADD_BIAS(i) \
    c##i = v_add(c##i, bias0); \
    WIDE(d##i = v_add(d##i, bias1);)
#define ADD(i, at) \
    c##i = v_add(c##i, v_load(at)); \
    WIDE(d##i = v_add(d##i, v_load((at) + V_LANES));)
#define ADD_MORE(i) \
    if (q->bias_rows) { \
        v16 s = v_set1(q->bias_rows[i]); \
        c##i = v_add(c##i, s); \
        WIDE(d##i = v_add(d##i, s);) \
    } \
    if (q->add) { \
        ADD(i, q->add + i * ld) \
    } \
    if (q->acc) { \
        ADD(i, to + i * ld) \
    }
#define STORE(i) \
    v_store(to + i * ld, c##i); \
    WIDE(if (!narrow) v_store(to + i * ld + V_LANES, d##i);)
#define STREAM_ROW(i) \
    v_stream(to + i * ld, c##i); \
    WIDE(v_stream(to + i * ld + V_LANES, d##i);)

#define DEFINE_TILE(h) \
    static void tile_##h(const tile_job *q) { \
        const float *a = q->a, *b = q->b; \
        const char *lies = q->lies; \
        float *pack = q->pack; \
        uintptr_t ahead = (uintptr_t)(AHEAD * q->b_step + q->b_last); \
        float *to = q->to; \
        int64_t row = q->row, step = q->step, kc = q->kc, ld = q->ld; \
        int narrow = GEMM_COLS > V_LANES && q->narrow; \
        ROWS_##h(START) \
        for (int64_t k = 0; narrow && k < kc; k++, a += step, b += GEMM_COLS) { \
            v16 b0 = v_load(b); \
            ROWS_##h(STEP_NARROW) \
        } \
        for (int64_t k = 0; lies && k < kc; k++, a += step, pack += GEMM_COLS, lies += q->b_step) { \
            v16 b0 = v_load_typed(lies, q->b_type, 0); \
            WIDE(v16 b1 = v_load_typed(lies, q->b_type, V_LANES);) \
            v_prefetch((uintptr_t)lies + ahead); \
            WIDE(if (q->b_type == TN_F32) v_prefetch((uintptr_t)lies + ahead - sizeof b0);) \
            v_store(pack, b0); \
            WIDE(v_store(pack + V_LANES, b1);) \
            ROWS_##h(STEP) \
        } \
        for (int64_t left = narrow || lies ? 0 : kc, i = 0; left > 0; left -= CHUNK, i++) { \
            if (q->ask) { \
                ASK(q->ask->next_a, i) ASK(q->ask->c, i) ASK(q->ask->added, i) ASK(q->ask->next_b, i) \
            } \
            for (int64_t k = min64(left, CHUNK); k > 0; k--, a += step, b += GEMM_COLS) { \
                v16 b0 = v_load(b); \
                WIDE(v16 b1 = v_load(b + V_LANES);) \
                ROWS_##h(STEP) \
            } \
        } \
        v16 bias0 = q->bias ? v_load(q->bias) : v_set1(-0.0f); /* -0 changes no bit of what it is added to */ \
        WIDE(v16 bias1 = q->bias ? v_load(q->bias + V_LANES) : v_set1(-0.0f);) \
        ROWS_##h(ADD_BIAS) \
        if (q->more) { \
            ROWS_##h(ADD_MORE) \
        } \
        if (q->stream) { \
            ROWS_##h(STREAM_ROW) \
        } else { \
            ROWS_##h(STORE) \
        } \
    }

EACH_HEIGHT(DEFINE_TILE)
static void (*const tile_of_height[GEMM_ROWS + 1])(const tile_job *q) = TILES;

void K(gemm_tile)(int64_t rows, int64_t kc, int64_t cols, const float *a, int64_t lda, const float *b, float *t, int first) {
    tile_job q = {.kc = kc, .row = 1, .step = lda, .ld = GEMM_COLS, .a = a, .from = first ? NULL : t, .b = b, .to = t,
                  .narrow = cols <= V_LANES};
    tile_of_height[rows](&q);
}

/* ---- cutting the work ---- */

typedef struct plan {
    int64_t kc, nc, mb; /* the largest block of B, and task */
    int64_t m_tasks, n_tasks, n_panels;
    int64_t lda; /* of packed A: from row to row, or, if it lies transposed, from panel to panel */
    int64_t b_size, a_size, t_size; /* of a worker's scratch, in floats */
    int in_place, stream, threads;
} plan;

/* What the busiest thread does if C is cut into m x n tasks, in multiply-adds: to turn an element of B takes as long as
 * TURN of them, to copy one of A or B as COPY. Where columns are cut, each reads rows of A that another core has written, as layers
 * work row by row: MOVE for an element (the bundled model's inversion step 7.84 > 7.66 ms, 13.8 > 13.1 on cores that share no cache). */
enum { TURN = 12, COPY = 3, MOVE = 20 };
static double busiest(const gemm *g, const plan *q, int64_t m, int64_t n) {
    double rows = (double)ceil_div(g->M, m), cols = (double)(ceil_div(q->n_panels, n) * GEMM_COLS);
    double pack = cols * (g->B.trans ? TURN : COPY) + (q->in_place ? 0 : rows * COPY);
    return (double)ceil_div(g->batch * m * n, q->threads) * (rows * cols + pack + (n > 1 ? MOVE * rows : 0));
}

/* Cuts C into tasks no larger than the caches ask for, such that the busiest thread has least to do. */
static plan make_plan(const gemm *g) {
    plan q = {0};
    int64_t K = max64(g->K, 1);
    double ns = 0.02 * (double)g->M * (double)g->N * (double)K * (double)g->batch;
    q.threads = tn_threads_for(g->threads < 1 ? 1 : g->threads, ns);
    q.n_panels = ceil_div(g->N, GEMM_COLS);
    /* rows that are a multiple of 2 KB apart would fall into two sets of the first-level cache */
    q.in_place = g->A.type == TN_F32 && !g->A.trans && g->A.ld % 512 != 0;
    /* what does not stay in a cache until it is read is not brought into it to be written */
    q.stream = g->batch * g->M * g->N > V_STREAM_FLOATS && !g->acc && !g->turned && (uintptr_t)g->C % 64 == 0 && g->ldc % 16 == 0 &&
               g->c_step % 16 == 0;
    q.kc = round_up(ceil_div(K, ceil_div(K, q.in_place ? IN_PLACE_KC : KC)), 16);
    int64_t widest = min64(NC, BLOCK / q.kc / GEMM_COLS * GEMM_COLS);
    int64_t m0 = ceil_div(g->M, MB), n0 = ceil_div(g->N, widest), most = q.threads == 1 ? 1 : 2 * (int64_t)q.threads;
    q.m_tasks = m0, q.n_tasks = n0;
    for (int64_t m = m0; m < m0 + most && m <= g->M; m++)
        for (int64_t n = n0; n < n0 + most && n <= q.n_panels; n++)
            if (busiest(g, &q, m, n) < busiest(g, &q, q.m_tasks, q.n_tasks)) q.m_tasks = m, q.n_tasks = n;
    q.mb = ceil_div(g->M, q.m_tasks);
    q.nc = ceil_div(q.n_panels, q.n_tasks) * GEMM_COLS;
    q.lda = (g->A.trans ? GEMM_STEP * q.kc : q.kc) + V_LANES; /* room for whole vectors */
    q.a_size = q.in_place ? 0 : q.lda * GROUP * (g->A.trans ? 1 : GEMM_ROWS);
    q.b_size = q.kc * q.nc;
    q.t_size = (K > q.kc ? round_up(q.mb, GEMM_ROWS) * q.nc : TILE) + V_LANES * GEMM_COLS; /* write_tile reads 16 rows */
    return q;
}

size_t K(gemm_scratch)(const gemm *g) {
    if (g->M < 1 || g->N < 1 || g->batch < 1) return 0;
    plan q = make_plan(g);
    return (size_t)(q.b_size + q.a_size + q.t_size) * sizeof(float) * (size_t)q.threads;
}

/* ---- writing a tile ---- */

/* C = x (+ add) (+ C) for `lanes` elements from `at`. */
static void write_lanes(const gemm *g, int stream, int64_t at, v16 x, int64_t lanes) {
    float *c = g->C + at;
    if (lanes == V_LANES) {
        if (g->add) x = v_add(x, v_load(g->add + at));
        if (stream) v_stream(c, x);
        else v_store(c, g->acc ? v_add(x, v_load(c)) : x);
    } else {
        if (g->add) x = v_add(x, v_loadn(g->add + at, lanes));
        v_storen(c, g->acc ? v_add(x, v_loadn(c, lanes)) : x, lanes);
    }
}

/* The tile t of rows x cols elements from (m, n) of batch b, where it is not whole or C lies transposed. Then it is turned in
 * registers, and its columns become pieces of rows; what t has behind `rows` ends in lanes that are not written. */
#define TAKE(i) r[i] = v_load(t + i * GEMM_COLS + j);
static void write_tile(const gemm *g, int stream, int64_t b, int64_t m, int64_t n, int64_t rows, int64_t cols, const float *t) {
    for (int64_t j = 0; j < cols; j += V_LANES) {
        int64_t lanes = min64(cols - j, V_LANES), lines = g->turned ? lanes : rows, length = g->turned ? rows : lanes;
        int64_t line = g->turned ? n + j : m, first = g->turned ? m : n + j; /* as C lies */
        int along = g->bias && !g->bias_rows == !g->turned, across = g->bias && !along;
        v16 r[16], bias = along ? v_loadn_typed(g->bias, g->bias_type, first, length) : v_zero();
        V_SIXTEEN(TAKE)
        if (g->turned) v_transpose_rows(r, rows);
        for (int64_t i = 0; i < lines; i++) {
            v16 x = along ? v_add(r[i], bias) : r[i];
            if (across) x = v_add(x, v_set1(s_load_typed(g->bias, g->bias_type, line + i)));
            write_lanes(g, stream, b * g->c_step + (line + i) * g->ldc + first, x, length);
        }
    }
}

/* ---- one task ---- */

typedef struct job {
    const gemm *g;
    plan q;
} job;

/* A task: rows and columns of one batch, and where its worker packs. */
typedef struct task {
    int64_t b, m0, rows, n0, cols, panels, height, group; /* panels of `height` rows, in groups */
    float *A, *B, *T;
    wish next_b;
} task;

/* `n` elements of the bias, widened. */
static void widen_bias(const gemm *g, int64_t at, int64_t n, float *dst) {
    for (int64_t i = 0; i < n; i++) dst[i] = s_load_typed(g->bias, g->bias_type, at + i);
}

/* C where a tile will be written, and what is added to it; while the chains rest, where the tile after it rests. */
static void ask_for_c(const job *w, wishes *q, const float *T, int64_t at, int64_t rows, int64_t cols, int64_t kc, int last) {
    const gemm *g = w->g;
    int64_t size = (int64_t)sizeof *T, lines = g->turned ? cols : rows, length = g->turned ? rows : cols;
    if (!last) q->c = wish_for((uintptr_t)(T + TILE), rows, GEMM_COLS * size, GEMM_COLS * size, 1, kc);
    else if (!w->q.stream) q->c = wish_for((uintptr_t)(g->C + at), lines, g->ldc * size, length * size, 1, kc);
    if (last && g->add) q->added = wish_for((uintptr_t)(g->add + at), lines, g->ldc * size, length * size, 1, kc);
}

/* How many tiles of `panels` panels ask: those that are narrow, or pack, do not. */
static int64_t asking(const job *w, const task *s, int64_t panels) {
    int64_t wide = s->cols / GEMM_COLS + (s->cols % GEMM_COLS > (GEMM_COLS > V_LANES ? V_LANES : 0));
    return (panels - !w->g->B.trans) * wide;
}

/* n rows of A, or columns of B, from `first` on, for the steps of k from k0 on. Where k lies along rows of memory (along),
 * n of them; else as many as there are steps, and one line more of each than is needed now: what follows is needed soon
 * (weight gradients of 2048 x 128>1024 on one core, from memory: 100 -> 105 GFLOP/s). */
static wish wish_for_view(const task *s, const gemm_view *v, int64_t first, int64_t n, int64_t k0, int64_t steps, int along,
                          int64_t tiles, int64_t kc) {
    int64_t size = (int64_t)dtype_size(v->type), from = s->b * v->step + (along ? first * v->ld + k0 : k0 * v->ld + first);
    uintptr_t at = (uintptr_t)v->base + (uintptr_t)(from * size);
    if (steps <= 0) return (wish){0};
    return along ? wish_for(at, n, v->ld * size, steps * size, tiles, kc)
                 : wish_for(at, steps, v->ld * size, n * size + LINE, tiles, kc);
}

/* What the tiles of a group of panels ask for of A: the rows of the next group, from row m of the task on; after the last
 * one, the first rows of the next block of k. */
static wish next_group(const job *w, const task *s, int64_t k0, int64_t kc, int64_t m, int64_t panels) {
    if (m == s->rows) m = 0, k0 += kc;
    int64_t rows = min64(s->rows - m, s->group * s->height), steps = min64(w->q.kc, w->g->K - k0);
    return wish_for_view(s, &w->g->A, s->m0 + m, rows, k0, steps, !w->g->A.trans, asking(w, s, panels), kc);
}

/* Panels p0..p1 of A against all columns of the packed block of B. T holds the resting chains, tile after tile in the order
 * in which they are met. */
static void run_group(const job *w, task *s, int64_t p0, int64_t p1, int64_t k0, float *T) {
    const gemm *g = w->g;
    int64_t kc = min64(w->q.kc, g->K - k0), m0 = s->m0 + p0 * s->height, lda = w->q.in_place ? g->A.ld : w->q.lda;
    int64_t rows = min64(p1 * s->height, s->rows) - p0 * s->height;
    int last = k0 + kc >= g->K;
    float bias[GEMM_COLS], bias_rows[GROUP * GEMM_ROWS];
    const float *a = s->A;
    if (w->q.in_place) a = (const float *)g->A.base + s->b * g->A.step + m0 * lda + k0;
    else K(pack_a)(&g->A, s->b, m0, rows, k0, kc, s->height, s->A, lda);
    if (last && g->bias && g->bias_rows) widen_bias(g, m0, rows, bias_rows);
    int64_t size = (int64_t)dtype_size(g->B.type);
    const char *B = (const char *)g->B.base + (s->b * g->B.step + k0 * g->B.ld + s->n0) * size;
    wishes ask = {.next_b = s->next_b};
    tile_job q = {.kc = kc, .row = g->A.trans ? 1 : lda, .step = g->A.trans ? GEMM_STEP : 1, .b_step = g->B.ld * size, .b_type = g->B.type,
                  .b_last = GEMM_COLS * size - 1, .ask = &ask};
    ask.next_a = next_group(w, s, k0, kc, p0 * s->height + rows, p1 - p0 + (p0 > 0 && !g->B.trans));
    for (int64_t j = 0; j < s->cols; j += GEMM_COLS)
        for (int64_t p = p0; p < p1; p++) {
            int64_t h = min64(s->height, s->rows - p * s->height), m = s->m0 + p * s->height, n = min64(GEMM_COLS, s->cols - j);
            int direct = last && !g->turned && n == GEMM_COLS;
            int64_t at = s->b * g->c_step + m * g->ldc + s->n0 + j;
            q.a = a + (p - p0) * (g->A.trans ? lda : s->height * lda), q.b = q.pack = s->B + j * kc;
            q.narrow = GEMM_COLS > V_LANES && n <= V_LANES;
            q.lies = p == 0 && !g->B.trans && n == GEMM_COLS ? B + j * size : NULL;
            q.from = k0 ? T : NULL, q.to = direct ? g->C + at : T, q.ld = direct ? g->ldc : GEMM_COLS;
            q.bias = direct && g->bias && !g->bias_rows ? bias : NULL;
            if (q.bias && p == p0) widen_bias(g, s->n0 + j, GEMM_COLS, bias);
            q.bias_rows = direct && g->bias && g->bias_rows ? bias_rows + (p - p0) * s->height : NULL;
            q.add = direct && g->add ? g->add + at : NULL;
            q.acc = direct && g->acc, q.stream = direct && w->q.stream;
            q.more = q.bias_rows || q.add || q.acc;
            ask_for_c(w, &ask, T, g->turned ? s->b * g->c_step + (s->n0 + j) * g->ldc + m : at, h, n, kc, last);
            tile_of_height[h](&q);
            if (!q.narrow && !q.lies) next_part(&ask.next_a), next_part(&ask.next_b);
            if (last && !direct) write_tile(g, w->q.stream, s->b, m, s->n0 + j, h, n, T);
            if (g->K > w->q.kc) T += TILE;
        }
    s->next_b = ask.next_b;
}

static void run_task(void *arg, int64_t index, int worker) {
    const job *w = arg;
    const gemm *g = w->g;
    const plan *q = &w->q;
    int64_t nt = index % q->n_tasks, mt = index / q->n_tasks % q->m_tasks;
    task s = {.b = index / q->n_tasks / q->m_tasks, .m0 = cut(g->M, mt, q->m_tasks)};
    s.rows = cut(g->M, mt + 1, q->m_tasks) - s.m0;
    s.n0 = cut(q->n_panels, nt, q->n_tasks) * GEMM_COLS;
    s.cols = min64(g->N, cut(q->n_panels, nt + 1, q->n_tasks) * GEMM_COLS) - s.n0;
    /* panels of even height: 77 rows are 5 x 13 and 12, rather than 5 x 14 and 7 */
    s.panels = ceil_div(s.rows, GEMM_ROWS), s.height = ceil_div(s.rows, s.panels);
    s.group = ceil_div(s.panels, ceil_div(s.panels, GROUP));
    s.B = (float *)g->scratch + worker * (q->b_size + q->a_size + q->t_size);
    s.A = s.B + q->b_size, s.T = s.A + q->a_size;
    for (int64_t k0 = 0; k0 == 0 || k0 < g->K; k0 += q->kc) {
        int64_t kc = min64(q->kc, g->K - k0), whole = g->B.trans ? 0 : s.cols / GEMM_COLS * GEMM_COLS;
        if (whole < s.cols) K(pack_b)(&g->B, s.b, k0, kc, s.n0 + whole, s.cols - whole, s.B + whole * kc);
        int64_t next = kc * s.cols <= SMALL ? min64(q->kc, g->K - k0 - kc) : 0;
        s.next_b = wish_for_view(&s, &g->B, s.n0, s.cols, k0 + kc, next, g->B.trans, asking(w, &s, s.panels), kc);
        for (int64_t p = 0; p < s.panels; p += s.group)
            run_group(w, &s, p, min64(p + s.group, s.panels), k0, g->K > q->kc ? s.T + p * GEMM_ROWS * q->nc : s.T);
    }
    if (q->stream) v_stream_end();
}

void K(gemm)(const gemm *g) {
    if (g->M < 1 || g->N < 1 || g->batch < 1) return;
    job w = {g, make_plan(g)};
    tn_parallel_for(w.q.threads, g->batch * w.q.m_tasks * w.q.n_tasks, run_task, &w);
}
