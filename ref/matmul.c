/* Linear layer and batched matrix product.
 *
 *   linear  y[m,n] = sum_k x[m,k] w[n,k] + b[n]          x [M,K], w [N,K], b [N], y [M,N]
 *   matmul  y[z,m,n] = sum_k A[z,m,k] B[z,k,n]           A = a or its transpose, B likewise
 *
 * Backward. y[m,n] depends on x[m,k] with the factor w[n,k], and each x[m,k] reaches every n, so by the chain rule
 *
 *   dx[m,k] = sum_n dy[m,n] w[n,k]      dw[n,k] = sum_m dy[m,n] x[m,k]      db[n] = sum_m dy[m,n]
 *
 * (in matrices dx = dy w, dw = dy^T x) and for the product dA = dy B^T, dB = A^T dy. The loops below add, for every
 * product that the forward formed, its two derivatives: the sums above come about by themselves.
 *
 * Source: PyTorch torch.nn.functional.linear and torch.bmm. */
#include "ref/ref.h"

#include <stddef.h>

void ref_linear(const double *x, const double *w, const double *b, double *y, int64_t M, int64_t K, int64_t N) {
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            double sum = b ? b[n] : 0;
            for (int64_t k = 0; k < K; k++) sum += x[m * K + k] * w[n * K + k];
            y[m * N + n] = sum;
        }
}

void ref_linear_backward(const double *x, const double *w, const double *dy, double *dx, double *dw, double *db,
                         int64_t M, int64_t K, int64_t N) {
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            double g = dy[m * N + n];
            for (int64_t k = 0; k < K; k++) {
                if (dx) dx[m * K + k] += g * w[n * K + k];
                if (dw) dw[n * K + k] += g * x[m * K + k];
            }
            if (db) db[n] += g;
        }
}

/* Where element (row, col) of a rows x cols matrix lies, stored as it is or transposed. */
static int64_t at(int64_t row, int64_t col, int64_t rows, int64_t cols, int transposed) {
    return transposed ? col * rows + row : row * cols + col;
}

void ref_matmul(const double *a, const double *b, double *y, int64_t batch, int64_t M, int64_t K, int64_t N, int ta,
                int tb) {
    for (int64_t z = 0; z < batch; z++)
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++) {
                double sum = 0;
                for (int64_t k = 0; k < K; k++)
                    sum += a[z * M * K + at(m, k, M, K, ta)] * b[z * K * N + at(k, n, K, N, tb)];
                y[(z * M + m) * N + n] = sum;
            }
}

void ref_matmul_backward(const double *a, const double *b, const double *dy, double *da, double *db, int64_t batch,
                         int64_t M, int64_t K, int64_t N, int ta, int tb) {
    for (int64_t z = 0; z < batch; z++)
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++) {
                double g = dy[(z * M + m) * N + n];
                for (int64_t k = 0; k < K; k++) {
                    int64_t ia = z * M * K + at(m, k, M, K, ta), ib = z * K * N + at(k, n, K, N, tb);
                    if (da) da[ia] += g * b[ib];
                    if (db) db[ib] += g * a[ia];
                }
            }
}
