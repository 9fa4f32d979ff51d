/* Softmax over the last axis.
 *
 *   y_i = exp(x_i) / sum_j exp(x_j)                                                      x, y [R,N], row by row
 *
 * Computed as exp(x_i - max) / sum_j exp(x_j - max): the same number, since the factor exp(-max) cancels, and nothing
 * overflows. A masked entry is one so negative that its exp is 0; a row needs at least one that is not.
 *
 * Backward. dy_j / dx_i = y_j (delta_ij - y_i), so
 *
 *   dx_i = sum_j dy_j y_j (delta_ij - y_i) = y_i (dy_i - sum_j y_j dy_j):
 *
 * each gradient is measured against the mean gradient under the distribution y. Only y is needed, not x.
 *
 * Source: PyTorch torch.nn.functional.softmax, dim -1. */
#include "ref/ref.h"

#include <math.h>
#include <stddef.h>

void ref_softmax(const double *x, double *y, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++, x += N, y += N) {
        double max = -INFINITY, sum = 0;
        for (int64_t i = 0; i < N; i++) max = fmax(max, x[i]);
        for (int64_t i = 0; i < N; i++) {
            y[i] = exp(x[i] - max);
            sum += y[i];
        }
        for (int64_t i = 0; i < N; i++) y[i] /= sum;
    }
}

void ref_softmax_backward(const double *y, const double *dy, double *dx, int64_t R, int64_t N) {
    if (!dx) return;
    for (int64_t r = 0; r < R; r++, y += N, dy += N, dx += N) {
        double mean = 0;
        for (int64_t i = 0; i < N; i++) mean += y[i] * dy[i];
        for (int64_t i = 0; i < N; i++) dx[i] += y[i] * (dy[i] - mean);
    }
}
