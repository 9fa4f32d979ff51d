/* AdamW: Adam with the weight decay taken out of the gradient.
 *
 *   p <- p - lr wd p
 *   m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
 *   p <- p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
 *
 * t counts steps from 1. m and v start at zero and are too small by the factors 1 - beta^t, which the divisions undo.
 * eps stands outside the square root and behind the correction; both places matter for the small gradients of textual
 * inversion.
 *
 * Sources: Loshchilov & Hutter, Decoupled Weight Decay Regularization, 1711.05101, algorithm 2, where the decay is eta
 * lambda p; PyTorch's AdamW, whose decay is lr wd p and comes first. Moments: Kingma & Ba, 1412.6980, algorithm 1. */
#include "ref/ref.h"

#include <math.h>

void ref_adamw(double *p, const double *g, double *m, double *v, int64_t n, int64_t t, double lr, double beta1,
               double beta2, double eps, double wd) {
    double fix1 = 1 - pow(beta1, (double)t), fix2 = 1 - pow(beta2, (double)t);
    for (int64_t i = 0; i < n; i++) {
        p[i] -= lr * wd * p[i];
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
        p[i] -= lr * (m[i] / fix1) / (sqrt(v[i] / fix2) + eps);
    }
}
