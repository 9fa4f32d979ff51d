/* Reductions: means, the loss, unit vectors and their cosines.
 *
 *   mean           y[r] = 1/N sum_i x[r,i]                                dx[r,i] = dy[r] / N
 *   mse            y = 1/n sum_i w_i (a_i - b_i)^2                        da_i = 2 dy w_i (a_i - b_i) / n,   db = -da
 *   l2_normalize   y = u = x / ||x||                                      dx = (dy - u (u . dy)) / ||x||
 *   cosine         y[n,m] = u . v,  u = a[n] / ||a[n]||,  v = b[m] / ||b[m]||
 *
 * Backward of the unit vector: d||x|| / dx_i = x_i / ||x|| = u_i, so du_j / dx_i = (delta_ij - u_i u_j) / ||x||: a
 * change along u does nothing, the rest is scaled by 1/||x||. The cosine is linear in u with the slope v, hence (put v
 * for dy above)
 *
 *   da[n] = sum_m dy[n,m] (v - y u) / ||a[n]||,     db[m] = sum_n dy[n,m] (u - y v) / ||b[m]||.
 *
 * The loss: Ho et al., 2006.11239, eq. 14, without its expectation; Gal et al., 2208.01618, eq. 2. Where the weights w
 * are a mask the division stays by n: a masked loss is the same loss with fewer terms, not a mean over the mask. The
 * cosine: Radford et al., 2103.00020, figure 3, and openai/CLIP (no eps in either). */
#include "ref/ref.h"

#include <math.h>
#include <stddef.h>

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static double norm(const double *a, int64_t n) { return sqrt(dot(a, a, n)); }

void ref_mean(const double *x, double *y, int64_t R, int64_t N) {
    for (int64_t r = 0; r < R; r++) {
        double sum = 0;
        for (int64_t i = 0; i < N; i++) sum += x[r * N + i];
        y[r] = sum / (double)N;
    }
}

void ref_mean_backward(const double *dy, double *dx, int64_t R, int64_t N) {
    if (!dx) return;
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < N; i++) dx[r * N + i] += dy[r] / (double)N;
}

double ref_mse(const double *a, const double *b, const double *w, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (w ? w[i] : 1) * (a[i] - b[i]) * (a[i] - b[i]);
    return sum / (double)n;
}

void ref_mse_backward(const double *a, const double *b, const double *w, double dy, double *da, double *db, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double g = 2 * dy * (w ? w[i] : 1) * (a[i] - b[i]) / (double)n;
        if (da) da[i] += g;
        if (db) db[i] -= g;
    }
}

void ref_l2_normalize(const double *x, double *y, int64_t R, int64_t C) {
    for (int64_t r = 0; r < R; r++) {
        double length = norm(x + r * C, C);
        for (int64_t c = 0; c < C; c++) y[r * C + c] = x[r * C + c] / length;
    }
}

void ref_l2_normalize_backward(const double *x, const double *dy, double *dx, int64_t R, int64_t C) {
    if (!dx) return;
    for (int64_t r = 0; r < R; r++) {
        double length = norm(x + r * C, C), along = dot(x + r * C, dy + r * C, C) / length; /* along = u . dy */
        for (int64_t c = 0; c < C; c++) dx[r * C + c] += (dy[r * C + c] - x[r * C + c] / length * along) / length;
    }
}

void ref_cosine_similarity(const double *a, const double *b, double *y, int64_t N, int64_t M, int64_t C) {
    for (int64_t n = 0; n < N; n++)
        for (int64_t m = 0; m < M; m++)
            y[n * M + m] = dot(a + n * C, b + m * C, C) / (norm(a + n * C, C) * norm(b + m * C, C));
}

void ref_cosine_similarity_backward(const double *a, const double *b, const double *dy, double *da, double *db,
                                    int64_t N, int64_t M, int64_t C) {
    for (int64_t n = 0; n < N; n++)
        for (int64_t m = 0; m < M; m++) {
            const double *an = a + n * C, *bm = b + m * C;
            double la = norm(an, C), lb = norm(bm, C), y = dot(an, bm, C) / (la * lb), g = dy[n * M + m];
            for (int64_t c = 0; c < C; c++) {
                double u = an[c] / la, v = bm[c] / lb;
                if (da) da[n * C + c] += g * (v - y * u) / la;
                if (db) db[m * C + c] += g * (u - y * v) / lb;
            }
        }
}
