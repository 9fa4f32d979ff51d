/* Group normalisation and layer normalisation.
 *
 *   xhat = (x - mean) r,   r = 1 / sqrt(var + eps),   y = gamma xhat + beta
 *
 * mean and var = mean((x - mean)^2) are taken over n numbers: for group norm over the C/G channels and S positions of
 * one group of one sample (which lie one after another in [B,C,S]), for layer norm over the C numbers of one row. gamma
 * and beta belong to the channel, or to the element of the row.
 *
 * The variance is summed in a second pass. The one-pass form mean(x^2) - mean^2 loses all digits when the mean is large
 * against the spread.
 *
 * Backward. Within one group, d mean / d x_i = 1/n and, since the deviations add up to zero,
 * d var / d x_i = 2 (x_i - mean) / n; so dr / d x_i = -r^3 (x_i - mean) / n = -r^2 xhat_i / n. Therefore
 *
 *   d xhat_j / d x_i = r (delta_ij - 1/n - xhat_i xhat_j / n)
 *
 * and, with dxhat = dy gamma,
 *
 *   dx_i = r (dxhat_i - mean(dxhat) - xhat_i mean(dxhat xhat)),   dgamma = sum dy xhat,   dbeta = sum dy.
 *
 * Read: the gradient loses its component along the constant and along xhat, the two directions that normalisation
 * removes.
 *
 * Sources: Wu & He, Group Normalization, 1803.08494, section 3; Ba, Kiros & Hinton, Layer Normalization, 1607.06450,
 * eq. 3; PyTorch group_norm and layer_norm. */
#include "ref/ref.h"

#include <math.h>
#include <stddef.h>

/* mean and r = 1 / sqrt(var + eps) of n numbers. */
static void moments(const double *x, int64_t n, double eps, double *mean, double *r) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *r = 1 / sqrt(squares / (double)n + eps);
}

/* One group of n numbers, where `run` consecutive numbers share a gamma: S for group norm, 1 for layer norm. */
static void forward(const double *x, const double *gamma, const double *beta, double *y, int64_t n, int64_t run,
                    double eps) {
    double mean, r;
    moments(x, n, eps, &mean, &r);
    for (int64_t i = 0; i < n; i++) y[i] = gamma[i / run] * (x[i] - mean) * r + beta[i / run];
}

static void backward(const double *x, const double *gamma, const double *dy, double *dx, double *dgamma, double *dbeta,
                     int64_t n, int64_t run, double eps) {
    double mean, r, mean_d = 0, mean_dx = 0; /* means of dxhat and of dxhat xhat */
    moments(x, n, eps, &mean, &r);
    for (int64_t i = 0; i < n; i++) {
        double dxhat = dy[i] * gamma[i / run], xhat = (x[i] - mean) * r;
        mean_d += dxhat / (double)n;
        mean_dx += dxhat * xhat / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        double dxhat = dy[i] * gamma[i / run], xhat = (x[i] - mean) * r;
        if (dx) dx[i] += r * (dxhat - mean_d - xhat * mean_dx);
        if (dgamma) dgamma[i / run] += dy[i] * xhat;
        if (dbeta) dbeta[i / run] += dy[i];
    }
}

void ref_group_norm(const double *x, const double *gamma, const double *beta, double *y, int64_t B, int64_t C,
                    int64_t S, int64_t G, double eps) {
    int64_t K = C / G; /* channels of a group */
    for (int64_t b = 0; b < B; b++)
        for (int64_t g = 0; g < G; g++) {
            int64_t at = (b * C + g * K) * S;
            forward(x + at, gamma + g * K, beta + g * K, y + at, K * S, S, eps);
        }
}

void ref_group_norm_backward(const double *x, const double *gamma, const double *dy, double *dx, double *dgamma,
                             double *dbeta, int64_t B, int64_t C, int64_t S, int64_t G, double eps) {
    int64_t K = C / G;
    for (int64_t b = 0; b < B; b++)
        for (int64_t g = 0; g < G; g++) {
            int64_t at = (b * C + g * K) * S;
            backward(x + at, gamma + g * K, dy + at, dx ? dx + at : NULL, dgamma ? dgamma + g * K : NULL,
                     dbeta ? dbeta + g * K : NULL, K * S, S, eps);
        }
}

void ref_layer_norm(const double *x, const double *gamma, const double *beta, double *y, int64_t R, int64_t C,
                    double eps) {
    for (int64_t r = 0; r < R; r++) forward(x + r * C, gamma, beta, y + r * C, C, 1, eps);
}

void ref_layer_norm_backward(const double *x, const double *gamma, const double *dy, double *dx, double *dgamma,
                             double *dbeta, int64_t R, int64_t C, double eps) {
    for (int64_t r = 0; r < R; r++)
        backward(x + r * C, gamma, dy + r * C, dx ? dx + r * C : NULL, dgamma, dbeta, C, 1, eps);
}
