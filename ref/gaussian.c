/* The VAE's posterior: a diagonal Gaussian given by mean and log variance.
 *
 *   clamp    y = min(max(x, lo), hi)                                   dx = dy where lo <= x <= hi, else 0
 *   sample   z = mean + s noise,  s = exp(logvar / 2)                  dmean = dz,   dlogvar = dz noise s / 2
 *   kl       kl = sum (mean^2 + var - 1 - logvar) / 2                  dmean = dkl mean,   dlogvar = dkl (var - 1) / 2
 *            with var = exp(logvar)
 *
 * Writing the draw as a function of (mean, logvar) and of noise from N(0,1) is what lets a gradient pass through it
 * (the reparameterisation of Kingma & Welling, Auto-Encoding Variational Bayes, 1312.6114, section 2.4 and eq. 10),
 * with ds / dlogvar = s / 2. The distance to N(0,1) is their appendix B with the opposite sign.
 *
 * Stable Diffusion's VAE clamps logvar to [-30, 20] before both: DiagonalGaussianDistribution in
 * CompVis/latent-diffusion. At the bounds themselves the gradient passes, as in PyTorch. */
#include "ref/ref.h"

#include <math.h>
#include <stddef.h>

void ref_clamp(const double *x, double *y, int64_t n, double lo, double hi) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] < lo ? lo : x[i] > hi ? hi : x[i];
}

void ref_clamp_backward(const double *x, const double *dy, double *dx, int64_t n, double lo, double hi) {
    for (int64_t i = 0; dx && i < n; i++)
        if (x[i] >= lo && x[i] <= hi) dx[i] += dy[i];
}

void ref_gaussian_sample(const double *mean, const double *logvar, const double *noise, double *z, int64_t n) {
    for (int64_t i = 0; i < n; i++) z[i] = mean[i] + exp(0.5 * logvar[i]) * noise[i];
}

void ref_gaussian_sample_backward(const double *logvar, const double *noise, const double *dz, double *dmean,
                                  double *dlogvar, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (dmean) dmean[i] += dz[i];
        if (dlogvar) dlogvar[i] += dz[i] * noise[i] * 0.5 * exp(0.5 * logvar[i]);
    }
}

void ref_gaussian_kl(const double *mean, const double *logvar, double *kl, int64_t B, int64_t n) {
    for (int64_t b = 0; b < B; b++) {
        double sum = 0;
        for (int64_t i = b * n; i < (b + 1) * n; i++) sum += mean[i] * mean[i] + exp(logvar[i]) - 1 - logvar[i];
        kl[b] = 0.5 * sum;
    }
}

void ref_gaussian_kl_backward(const double *mean, const double *logvar, const double *dkl, double *dmean,
                              double *dlogvar, int64_t B, int64_t n) {
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = b * n; i < (b + 1) * n; i++) {
            if (dmean) dmean[i] += dkl[b] * mean[i];
            if (dlogvar) dlogvar[i] += dkl[b] * 0.5 * (exp(logvar[i]) - 1);
        }
}
