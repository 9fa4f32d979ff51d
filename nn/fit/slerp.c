#include "nn/fit/slerp.h"

#include "tensor/dmath.h"
#include <math.h>
#include <string.h>

static double length(const float *x, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* From the chord between the unit vectors, which keeps its digits where the cosine of a small angle has lost them. */
double nn_angle(const float *a, const float *b, size_t n) {
    double la = length(a, n), lb = length(b, n), chord = 0.0;
    if (!(la > 0.0) || !(lb > 0.0)) return 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] / la - (double)b[i] / lb;
        chord += d * d;
    }
    double half = sqrt(chord) / 2.0;
    return 2.0 * tn_asin(half < 1.0 ? half : 1.0);
}

void nn_slerp(const float *a, const float *b, double t, float *out, size_t n) {
    if (t <= 0.0 || t >= 1.0) {
        memmove(out, t <= 0.0 ? a : b, n * sizeof *out);
        return;
    }
    double angle = nn_angle(a, b, n), sine = tn_sin(angle), wa = 1.0 - t, wb = t;
    if (sine > 1e-6) wa = tn_sin((1.0 - t) * angle) / sine, wb = tn_sin(t * angle) / sine;
    for (size_t i = 0; i < n; i++) out[i] = (float)(wa * (double)a[i] + wb * (double)b[i]);
}
