/* Matrices as they lie in memory: packers for the driver in k_gemm.c, and the kernel `matmul`. */
#include "tensor/kernel/k_gemm.h"
#include "tensor/kernel/k_table.h"

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* dst[k * stride + i] = x[i * ld + k], for i < rows <= 16 and k < kc: 16 x 16 at a time in registers. Writes 16
 * elements per k, in ascending order, so that what it writes beyond `rows` is overwritten or lies in the slack
 * behind the panel. */
static void pack_across(const gemm_view *v, int64_t start, int64_t rows, int64_t kc, int64_t stride, float *dst) {
    for (int64_t k = 0; k < kc; k += 16) {
        int64_t n = min64(16, kc - k);
        v16 r[16];
        for (int64_t i = 0; i < 16; i++) {
            if (i >= rows)
                r[i] = v_zero();
            else if (n == 16)
                r[i] = v_load_typed(v->base, v->type, start + i * v->ld + k);
            else
                r[i] = v_loadn_typed(v->base, v->type, start + i * v->ld + k, n);
        }
        v_transpose_rows(r, rows);
        for (int64_t i = 0; i < n; i++) v_store(dst + (k + i) * stride, r[i]);
    }
}

/* x[at .. at+n], widened; up to 15 elements behind dst[n] are written. */
static void copy_row(const gemm_view *v, int64_t at, int64_t n, float *dst) {
    int64_t k = 0;
    for (; k + V_LANES <= n; k += V_LANES) v_store(dst + k, v_load_typed(v->base, v->type, at + k));
    if (k < n) v_store(dst + k, v_loadn_typed(v->base, v->type, at + k, n - k));
}

void K(pack_a)(const gemm_view *v, int64_t batch, int64_t m0, int64_t rows, int64_t k0, int64_t kc, float *dst, int64_t ld) {
    int64_t start = batch * v->step;
    for (int64_t i = 0; i < rows && !v->trans; i++) copy_row(v, start + (m0 + i) * v->ld + k0, kc, dst + i * ld);
    for (int64_t k = 0; k < kc && v->trans; k++) copy_row(v, start + (k0 + k) * v->ld + m0, rows, dst + k * ld);
}

/* B stored as [N,K] is read across, 16 columns at a time; B [K,N] along its rows. */
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

/* What the driver packs as A is copied in the order in which it lies; as B, a matrix that lies transposed must be turned. So
 * of A B^T the smaller matrix becomes B: of a layer with many rows the weight, of one with few the rows, which then should
 * fill the lanes. */
static gemm best_form(const k_matmul *p) {
    gemm g = as_gemm(p);
    return !p->a_trans && p->b_trans && p->M >= V_LANES && p->M < p->N ? exchanged(g) : g;
}

void K(matmul)(const k_matmul *p) {
    gemm g = best_form(p);
    K(gemm)(&g);
}

size_t K(matmul_scratch)(const k_matmul *p) {
    gemm g = best_form(p);
    return K(gemm_scratch)(&g);
}
