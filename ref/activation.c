/* Activations, element by element (geglu: pair by pair).
 *
 *   sigmoid      y = s(x) = 1 / (1 + exp(-x))             s' = s(x) (1 - s(x)) = s(x) s(-x)
 *   silu         y = x s(x)                               y' = s(x) + x s(x) s(-x)
 *   quick_gelu   y = x s(a x), a = 1.702                  y' = s(a x) + a x s(a x) s(-a x)
 *   gelu         y = x Phi(x)                             y' = Phi(x) + x phi(x)
 *   geglu        y = u gelu(g), x = [u | g]               du = dy gelu(g),   dg = dy u gelu'(g)
 *
 * Phi(x) = (1 + erf(x / sqrt 2)) / 2 = erfc(-x / sqrt 2) / 2 is the normal distribution function and phi(x) =
 * exp(-x^2/2) / sqrt(2 pi) its derivative. erfc and s(-x) are written instead of 1 + erf and 1 - s(x) because these
 * lose their digits in the tails, where they are small differences of numbers near 1.
 *
 * Sources: Hendrycks & Gimpel, 1606.08415, section 2 (gelu, and quick_gelu as its approximation; the latter is
 * QuickGELU in openai/CLIP); Elfwing et al., 1702.03118, and Ramachandran et al., 1710.05941 (silu); Shazeer,
 * 2002.05202, section 2 (geglu), with the halves in the order of CompVis/latent-diffusion. */
#include "ref/ref.h"

#include <math.h>
#include <stddef.h>

static const double SQRT_HALF = 0.70710678118654752440;    /* 1 / sqrt 2 */
static const double INV_SQRT_2PI = 0.39894228040143267794; /* 1 / sqrt(2 pi) */
static const double QUICK = 1.702;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double Phi(double x) { return 0.5 * erfc(-x * SQRT_HALF); }
static double phi(double x) { return INV_SQRT_2PI * exp(-0.5 * x * x); }
static double gelu(double x) { return x * Phi(x); }
static double gelu_slope(double x) { return Phi(x) + x * phi(x); }

void ref_sigmoid(const double *x, double *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = sigmoid(x[i]);
}

void ref_sigmoid_backward(const double *x, const double *dy, double *dx, int64_t n) {
    for (int64_t i = 0; dx && i < n; i++) dx[i] += dy[i] * sigmoid(x[i]) * sigmoid(-x[i]);
}

void ref_silu(const double *x, double *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * sigmoid(x[i]);
}

void ref_silu_backward(const double *x, const double *dy, double *dx, int64_t n) {
    for (int64_t i = 0; dx && i < n; i++) dx[i] += dy[i] * sigmoid(x[i]) * (1 + x[i] * sigmoid(-x[i]));
}

void ref_gelu(const double *x, double *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = gelu(x[i]);
}

void ref_gelu_backward(const double *x, const double *dy, double *dx, int64_t n) {
    for (int64_t i = 0; dx && i < n; i++) dx[i] += dy[i] * gelu_slope(x[i]);
}

void ref_quick_gelu(const double *x, double *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * sigmoid(QUICK * x[i]);
}

void ref_quick_gelu_backward(const double *x, const double *dy, double *dx, int64_t n) {
    for (int64_t i = 0; dx && i < n; i++) {
        double ax = QUICK * x[i];
        dx[i] += dy[i] * sigmoid(ax) * (1 + ax * sigmoid(-ax));
    }
}

void ref_geglu(const double *x, double *y, int64_t R, int64_t n) {
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < n; i++) {
            double u = x[r * 2 * n + i], g = x[r * 2 * n + n + i];
            y[r * n + i] = u * gelu(g);
        }
}

void ref_geglu_backward(const double *x, const double *dy, double *dx, int64_t R, int64_t n) {
    if (!dx) return;
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < n; i++) {
            double u = x[r * 2 * n + i], g = x[r * 2 * n + n + i], d = dy[r * n + i];
            dx[r * 2 * n + i] += d * gelu(g);
            dx[r * 2 * n + n + i] += d * u * gelu_slope(g);
        }
}
