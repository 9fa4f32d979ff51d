/* Multi-head scaled dot-product attention.
 *
 * For each sample b, head h and query i, with all vectors of length D:
 *
 *   s_j = scale q_i . k_j,   p = softmax(s),   y_i = sum_j p_j v_j        j < M, with causal only j <= i
 *
 *   q, y [B,N,H*D]; k, v [B,M,H*D]. Head h is the slice [h D, (h+1) D) of the last axis: no axis is moved.
 *
 * Backward. y_i is linear in v with the weights p; through the softmax (see softmax.c) and the two dot products:
 *
 *   dv_j += p_j dy_i
 *   dp_j  = dy_i . v_j
 *   ds_j  = p_j (dp_j - delta),   delta = sum_j p_j dp_j
 *   dq_i += scale ds_j k_j        dk_j += scale ds_j q_i
 *
 * Only one query's row of p exists at a time, and it is made again from q and k rather than kept from the forward:
 * N times M probabilities per head would be by far the largest tensor of the model. (delta equals dy_i . y_i, which is
 * how a tiled implementation gets it before it has seen the whole row: Dao et al., 2205.14135, appendix B.2.)
 *
 * Sources: Vaswani et al., Attention Is All You Need, 1706.03762, eq. 1 and section 3.2.2; as cross-attention to the
 * text: Rombach et al., 2112.10752, section 3.3; PyTorch scaled_dot_product_attention, is_causal. */
#include "ref/ref.h"

#include <math.h>
#include <stddef.h>

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Writes p[0..keys) = softmax_j(scale q . k_j), where k_j lies `step` numbers behind k_{j-1}. */
static void probabilities(const double *q, const double *k, double *p, int64_t keys, int64_t step, int64_t D,
                          double scale) {
    for (int64_t j = 0; j < keys; j++) p[j] = scale * dot(q, k + j * step, D);
    ref_softmax(p, p, 1, keys);
}

void ref_attention(const double *q, const double *k, const double *v, double *y, int64_t B, int64_t N, int64_t M,
                   int64_t H, int64_t D, double scale, int causal) {
    int64_t step = H * D; /* from one token to the next */
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < N; i++) {
                const double *qi = q + (b * N + i) * step + h * D, *kb = k + b * M * step + h * D;
                const double *vb = v + b * M * step + h * D;
                double *yi = y + (b * N + i) * step + h * D;
                int64_t keys = causal && i + 1 < M ? i + 1 : M;
                /* Without room for a row, each score is computed twice: for the maximum and for the sum. */
                double max = -INFINITY, sum = 0;
                for (int64_t j = 0; j < keys; j++) max = fmax(max, scale * dot(qi, kb + j * step, D));
                for (int64_t d = 0; d < D; d++) yi[d] = 0;
                for (int64_t j = 0; j < keys; j++) {
                    double e = exp(scale * dot(qi, kb + j * step, D) - max);
                    sum += e;
                    for (int64_t d = 0; d < D; d++) yi[d] += e * vb[j * step + d];
                }
                for (int64_t d = 0; d < D; d++) yi[d] /= sum;
            }
}

void ref_attention_backward(const double *q, const double *k, const double *v, const double *dy, double *dq, double *dk,
                            double *dv, int64_t B, int64_t N, int64_t M, int64_t H, int64_t D, double scale, int causal,
                            double *row) {
    int64_t step = H * D;
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < N; i++) {
                int64_t query = (b * N + i) * step + h * D, first = b * M * step + h * D;
                int64_t keys = causal && i + 1 < M ? i + 1 : M;
                probabilities(q + query, k + first, row, keys, step, D, scale);
                double delta = 0;
                for (int64_t j = 0; j < keys; j++) delta += row[j] * dot(dy + query, v + first + j * step, D);
                for (int64_t j = 0; j < keys; j++) {
                    int64_t key = first + j * step;
                    double ds = row[j] * (dot(dy + query, v + key, D) - delta);
                    for (int64_t d = 0; d < D; d++) {
                        if (dq) dq[query + d] += scale * ds * k[key + d];
                        if (dk) dk[key + d] += scale * ds * q[query + d];
                        if (dv) dv[key + d] += row[j] * dy[query + d];
                    }
                }
            }
}
