/* Matrices as they lie in memory: packers for the driver in k_gemm.c, the product with one row, and the kernel `matmul`. */
#include "tensor/kernel/k_gemm.h"
#include "tensor/kernel/k_table.h"
#include "tensor/parallel.h"

/* ---- packers ---- */

#define LOAD_PART(i) r[i] = i < rows ? v_loadn_typed(v->base, v->type, at + i * v->ld, n) : v_zero();
#define STORE(i) \
    if (i < n) v_store(dst + i * stride, r[i]);

/* dst[k * stride + i] = row i, element k, for k < kc and 16 rows, of which those from `rows` are zero. Blocks of 16 x 16 are
 * turned in registers; written out row by row, so that they stay there. */
static void pack_across(const gemm_view *v, int64_t at, int64_t rows, int64_t kc, int64_t stride, float *dst) {
    int64_t size = (int64_t)dtype_size(v->type);
    for (int64_t k = 0; k < kc; k += 16, at += 16, dst += 16 * stride) {
        int64_t n = min64(16, kc - k);
        v16 r[16];
        for (int64_t i = 16; i < 32; i++) /* the next 16 rows */
            v_prefetch_l2((uintptr_t)v->base + (uintptr_t)((at + i * v->ld) * size));
        if (n < 16 || rows < 16) {
            V_SIXTEEN(LOAD_PART)
        } else {
            v_load_rows(r, v->base, v->type, at, v->ld);
        }
        v_transpose(r);
        V_SIXTEEN(STORE)
    }
}

/* `rows` rows of n elements, widened, in pieces of `width` <= 16: to dst[piece * apart + row * ld], in whole vectors, whose lanes
 * beyond a piece the next row overwrites. EIGHT rows go side by side, and those after them are asked for: where rows are pages
 * apart, the hardware does not see them coming. The type is a constant where this is inlined. */
enum { EIGHT = 8 };
static inline void copy_typed(const char *from, tn_dtype type, int64_t step, int64_t rows, int64_t n, int64_t width, float *dst,
                              int64_t ld, int64_t apart) {
    int64_t size = (int64_t)dtype_size(type);
    for (; rows > 0; rows -= EIGHT, from += EIGHT * step, dst += EIGHT * ld) {
        float *to = dst;
        for (int64_t k = 0, side = min64(rows, EIGHT); k < n; k += width, to += apart) {
            const char *p = from + k * size;
            for (int64_t i = 0; i < side; i++, p += step) {
                v_prefetch((uintptr_t)p + (uintptr_t)(EIGHT * step));
                v_store(to + i * ld, n - k >= V_LANES ? v_load_typed(p, type, 0) : v_loadn_typed(p, type, 0, n - k));
            }
        }
    }
}

static void copy_rows(const gemm_view *v, int64_t at, int64_t rows, int64_t n, int64_t width, float *dst, int64_t ld, int64_t apart) {
    int64_t size = (int64_t)dtype_size(v->type), step = v->ld * size;
    const char *from = (const char *)v->base + at * size;
    if (v->type == TN_F32) copy_typed(from, TN_F32, step, rows, n, width, dst, ld, apart);
    else if (v->type == TN_F16) copy_typed(from, TN_F16, step, rows, n, width, dst, ld, apart);
    else copy_typed(from, TN_BF16, step, rows, n, width, dst, ld, apart);
}

void K(pack_a)(const gemm_view *v, int64_t batch, int64_t m0, int64_t rows, int64_t k0, int64_t kc, int64_t height, float *dst,
               int64_t ld) {
    int64_t start = batch * v->step;
    if (v->trans) copy_rows(v, start + k0 * v->ld + m0, kc, rows, height, dst, GEMM_STEP, ld);
    else copy_rows(v, start + m0 * v->ld + k0, rows, kc, V_LANES, dst, ld, V_LANES);
}

/* B stored as [N,K] is read across, 16 columns at a time. Of B [K,N] the tile packs all but a last panel that is not
 * full. */
void K(pack_b)(const gemm_view *v, int64_t batch, int64_t k0, int64_t kc, int64_t n0, int64_t cols, float *dst) {
    int64_t start = batch * v->step, width = (cols + V_LANES - 1) / V_LANES * V_LANES;
    if (v->trans) {
        for (int64_t j = 0; j < width; j += 16)
            pack_across(v, start + (n0 + j) * v->ld + k0, min64(16, cols - j), kc, GEMM_COLS,
                        dst + j / GEMM_COLS * GEMM_COLS * kc + j % GEMM_COLS);
        return;
    }
    for (int64_t k = 0; k < kc; k++)
        for (int64_t j = 0; j < width; j += 16) {
            int64_t i = start + (k0 + k) * v->ld + n0 + j, n = cols - j;
            v16 x = n >= 16 ? v_load_typed(v->base, v->type, i) : v_loadn_typed(v->base, v->type, i, n);
            v_store(dst + (j / GEMM_COLS * kc + k) * GEMM_COLS + j % GEMM_COLS, x);
        }
}

/* ---- one row: y = x B ---- */

/* With one row there is nothing to reuse, and the time is that of the memory. Where B lies as [N,K], as the weight of a layer
 * does, 64 columns are turned, some steps of k at a time, and used at once from the first-level cache, in four chains of vectors, for
 * one would wait for itself. Where it lies as [K,N] its rows are read along, four side by side: in narrower pieces each would begin
 * a page (1280 x 1280, two threads: 15 GFLOP/s). */
enum { ROW_STEPS = 64, ROW_COLS = 4 * V_LANES, ROW_WIDE = 1024 };

typedef struct row_job {
    const k_matmul *p;
    float *x; /* [batch][K]: the row, widened */
    int64_t parts;
} row_job;

/* y[j] = the chains of columns n0 + j of B, which begins at `at`, over x; cols <= ROW_COLS, and y has room for that many. */
static void sums_across(const gemm_view *v, int64_t at, int64_t cols, int64_t K, const float *x, float *y) {
    float turned[ROW_STEPS * ROW_COLS];
    v16 s0 = v_zero(), s1 = s0, s2 = s0, s3 = s0;
    for (int64_t k0 = 0; k0 < K; k0 += ROW_STEPS) {
        int64_t n = min64(ROW_STEPS, K - k0);
        for (int64_t j = 0; j < ROW_COLS; j += V_LANES)
            pack_across(v, at + j * v->ld + k0, min64(V_LANES, cols - j), n, ROW_COLS, turned + j);
        for (int64_t k = 0; k < n; k++) {
            const float *b = turned + k * ROW_COLS;
            v16 xk = v_set1(x[k0 + k]);
            s0 = v_fma(xk, v_load(b), s0), s1 = v_fma(xk, v_load(b + V_LANES), s1);
            s2 = v_fma(xk, v_load(b + 2 * V_LANES), s2), s3 = v_fma(xk, v_load(b + 3 * V_LANES), s3);
        }
    }
    v_store(y, s0), v_store(y + V_LANES, s1), v_store(y + 2 * V_LANES, s2), v_store(y + 3 * V_LANES, s3);
}

#define ROW_STEP(i) s = v_fma(v_set1(x[k + i]), v_load_typed(v->base, v->type, b + i * v->ld), s);
static void sums_along(const gemm_view *v, int64_t at, int64_t cols, int64_t K, const float *x, float *y) {
    int64_t whole = cols / V_LANES * V_LANES, k = 0;
    for (int64_t j = 0; j < cols; j += V_LANES) v_store(y + j, v_zero());
    for (; k < K - 3; k += 4)
        for (int64_t j = 0, b = at + k * v->ld; j < whole; j += V_LANES, b += V_LANES) {
            v16 s = v_load(y + j);
            ROW_STEP(0) ROW_STEP(1) ROW_STEP(2) ROW_STEP(3)
            v_store(y + j, s);
        }
    for (; k < K; k++)
        for (int64_t j = 0, b = at + k * v->ld; j < whole; j += V_LANES, b += V_LANES) {
            v16 s = v_load(y + j);
            ROW_STEP(0)
            v_store(y + j, s);
        }
    v16 s = v_zero();
    for (k = 0; whole < cols && k < K; k++)
        s = v_fma(v_set1(x[k]), v_loadn_typed(v->base, v->type, at + k * v->ld + whole, cols - whole), s);
    if (whole < cols) v_store(y + whole, s);
}

static void row_task(void *arg, int64_t index, int worker) {
    const row_job *w = arg;
    const k_matmul *p = w->p;
    int64_t b = index / w->parts, part = index % w->parts, blocks = ceil_div(p->N, ROW_COLS);
    gemm_view v = {p->B, p->b_type, p->ldb, p->b_step, p->b_trans};
    float y[ROW_WIDE];
    (void)worker;
    int64_t end = min64(p->N, cut(blocks, part + 1, w->parts) * ROW_COLS);
    for (int64_t n0 = cut(blocks, part, w->parts) * ROW_COLS, cols; n0 < end; n0 += cols) {
        cols = min64(p->b_trans ? ROW_COLS : ROW_WIDE, end - n0);
        int64_t at = b * p->b_step + n0 * (p->b_trans ? p->ldb : 1);
        (p->b_trans ? sums_across : sums_along)(&v, at, cols, p->K, w->x + b * p->K, y);
        for (int64_t j = 0; j < cols; j += V_LANES) {
            int64_t lanes = min64(V_LANES, cols - j), to = b * p->c_step + n0 + j;
            v16 s = v_load(y + j);
            if (p->bias && p->bias_rows) s = v_add(s, v_set1(s_load_typed(p->bias, p->bias_type, 0)));
            else if (p->bias) s = v_add(s, v_loadn_typed(p->bias, p->bias_type, n0 + j, lanes));
            if (p->add) s = v_add(s, v_loadn(p->add + to, lanes));
            if (p->acc) s = v_add(s, v_loadn(p->C + to, lanes));
            v_storen(p->C + to, s, lanes);
        }
    }
}

static void row_times(const k_matmul *p) {
    int threads = tn_threads_for(p->threads < 1 ? 1 : p->threads, 0.1 * (double)p->batch * (double)p->N * (double)p->K);
    row_job w = {p, p->scratch, threads};
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t k = 0; k < p->K; k++)
            w.x[b * p->K + k] = s_load_typed(p->A, p->a_type, b * p->a_step + k * (p->a_trans ? p->lda : 1));
    tn_parallel_for(threads, p->batch * w.parts, row_task, &w);
}

/* ---- the kernel ---- */

static gemm as_gemm(const k_matmul *p) {
    gemm g = {.M = p->M, .N = p->N, .K = p->K, .batch = p->batch, .C = p->C, .ldc = p->ldc, .c_step = p->c_step,
              .bias = p->bias, .bias_type = p->bias_type, .bias_rows = p->bias_rows, .add = p->add, .acc = p->acc,
              .threads = p->threads, .scratch = p->scratch};
    gemm_view a = {p->A, p->a_type, p->lda, p->a_step, p->a_trans}, b = {p->B, p->b_type, p->ldb, p->b_step, p->b_trans};
    g.A = a, g.B = b;
    return g;
}

/* C^T = B^T A^T: the operands change places. */
static gemm exchanged(gemm g) {
    gemm_view a = g.A;
    int64_t M = g.M;
    g.M = g.N, g.N = M;
    g.A = g.B, g.A.trans = !g.B.trans;
    g.B = a, g.B.trans = !a.trans;
    g.turned = 1, g.bias_rows = !g.bias_rows;
    return g;
}

/* What the driver packs as A is copied in the order in which it lies; as B, a matrix that lies transposed must be turned, and
 * one that does not is packed under multiply-adds, for nothing. Turning pays for itself where it serves many rows. With FEW
 * the operands of A B^T and of A^T B change places, if that makes the larger one the one that is not turned. */
enum { FEW = 128 };
static gemm best_form(const k_matmul *p) {
    gemm g = as_gemm(p);
    int64_t few = p->b_trans ? p->M : p->N, many = p->b_trans ? p->N : p->M;
    return p->a_trans != p->b_trans && few >= V_LANES && few < FEW && few < many ? exchanged(g) : g;
}

void K(matmul)(const k_matmul *p) {
    if (p->M == 1) {
        row_times(p);
        return;
    }
    gemm g = best_form(p);
    K(gemm)(&g);
}

size_t K(matmul_scratch)(const k_matmul *p) {
    if (p->M == 1) return (size_t)p->batch * (size_t)p->K * sizeof(float);
    gemm g = best_form(p);
    return K(gemm_scratch)(&g);
}
