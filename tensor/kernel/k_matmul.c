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

/* A [M,K] is read across, A stored as [K,M] along its rows. */
void K(pack_a_view)(const void *view, int64_t batch, int64_t m0, int64_t rows, int64_t height, int64_t k0, int64_t kc,
                    float *dst) {
    const gemm_view *v = view;
    for (int64_t i = 0; i < rows; i += height) {
        int64_t h = min64(height, rows - i), m = m0 + i;
        if (!v->trans) {
            pack_across(v, batch * v->step + m * v->ld + k0, h, kc, h, dst + i * kc);
            continue;
        }
        for (int64_t k = 0; k < kc; k++)
            v_store(dst + i * kc + k * h, v_loadn_typed(v->base, v->type, batch * v->step + (k0 + k) * v->ld + m, h));
    }
}

/* B stored as [N,K] is read across, 16 columns at a time; B [K,N] along its rows. */
void K(pack_b_view)(const void *view, int64_t batch, int64_t k0, int64_t kc, int64_t n0, int64_t cols, float *dst) {
    const gemm_view *v = view;
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

static gemm as_gemm(const k_matmul *p, const gemm_view *a, const gemm_view *b) {
    gemm g = {0};
    g.M = p->M, g.N = p->N, g.K = p->K, g.batch = p->batch;
    g.pack_a = K(pack_a_view), g.a_ctx = a, g.pack_b = K(pack_b_view), g.b_ctx = b;
    g.C = p->C, g.ldc = p->ldc, g.c_step = p->c_step, g.span = p->N, g.col_step = 1;
    g.bias = p->bias, g.bias_type = p->bias_type, g.bias_rows = p->bias_rows, g.add = p->add;
    g.acc = p->acc, g.threads = p->threads, g.scratch = p->scratch;
    return g;
}

void K(matmul)(const k_matmul *p) {
    gemm_view a = {p->A, p->a_type, p->lda, p->a_step, p->a_trans};
    gemm_view b = {p->B, p->b_type, p->ldb, p->b_step, p->b_trans};
    gemm g = as_gemm(p, &a, &b);
    K(gemm)(&g);
}

size_t K(matmul_scratch)(const k_matmul *p) {
    gemm g = as_gemm(p, NULL, NULL);
    return K(gemm_scratch)(&g);
}
