/* Nearest-neighbour upsampling and average pooling, on each of the BC = B*C planes by itself.
 *
 *   upsample   y[z,p,q] = x[z, floor(p H/P), floor(q W/Q)]                         x [BC,H,W], y [BC,P,Q]
 *   avg_pool   y[z,p,q] = 1/k^2 sum_{i,j<k} x[z, p stride + i, q stride + j]       P = floor((H-k)/stride) + 1
 *
 * The UNet doubles H and W; where a skip connection is not exactly twice as large (odd sizes on the way down) it
 * upsamples to the skip's size, hence any P and Q. The floor is of the exact quotient, in integers.
 *
 * Backward. Both only choose and average, so dx[source] += dy for every output that copied from there, and each of the
 * k^2 pixels below a window receives dy / k^2.
 *
 * Source: PyTorch interpolate (mode "nearest"), avg_pool2d (no padding, ceil_mode false). */
#include "ref/ref.h"

#include <stddef.h>

void ref_upsample_nearest(const double *x, double *y, int64_t BC, int64_t H, int64_t W, int64_t P, int64_t Q) {
    for (int64_t z = 0; z < BC; z++)
        for (int64_t p = 0; p < P; p++)
            for (int64_t q = 0; q < Q; q++) y[(z * P + p) * Q + q] = x[(z * H + p * H / P) * W + q * W / Q];
}

void ref_upsample_nearest_backward(const double *dy, double *dx, int64_t BC, int64_t H, int64_t W, int64_t P,
                                   int64_t Q) {
    if (!dx) return;
    for (int64_t z = 0; z < BC; z++)
        for (int64_t p = 0; p < P; p++)
            for (int64_t q = 0; q < Q; q++) dx[(z * H + p * H / P) * W + q * W / Q] += dy[(z * P + p) * Q + q];
}

void ref_avg_pool2d(const double *x, double *y, int64_t BC, int64_t H, int64_t W, int64_t k, int64_t stride) {
    int64_t P = (H - k) / stride + 1, Q = (W - k) / stride + 1;
    for (int64_t z = 0; z < BC; z++)
        for (int64_t p = 0; p < P; p++)
            for (int64_t q = 0; q < Q; q++) {
                double sum = 0;
                for (int64_t i = 0; i < k; i++)
                    for (int64_t j = 0; j < k; j++) sum += x[(z * H + p * stride + i) * W + q * stride + j];
                y[(z * P + p) * Q + q] = sum / (double)(k * k);
            }
}

void ref_avg_pool2d_backward(const double *dy, double *dx, int64_t BC, int64_t H, int64_t W, int64_t k,
                             int64_t stride) {
    if (!dx) return;
    int64_t P = (H - k) / stride + 1, Q = (W - k) / stride + 1;
    for (int64_t z = 0; z < BC; z++)
        for (int64_t p = 0; p < P; p++)
            for (int64_t q = 0; q < Q; q++)
                for (int64_t i = 0; i < k; i++)
                    for (int64_t j = 0; j < k; j++)
                        dx[(z * H + p * stride + i) * W + q * stride + j] += dy[(z * P + p) * Q + q] / (double)(k * k);
}
