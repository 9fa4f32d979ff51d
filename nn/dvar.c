#include "nn/dvar.h"

#include <stdlib.h>

void nn_dvar_free(nn_dvar *d) {
    free(d->loss);
    *d = (nn_dvar){0};
}

int nn_dvar_add(nn_dvar *d, double loss, tn_err *err) {
    if (d->n == d->capacity) {
        int64_t capacity = d->capacity ? 2 * d->capacity : 256;
        double *grown = realloc(d->loss, (size_t)capacity * sizeof *grown);
        if (!grown) return tn_fail(err, TN_ENOMEM, "out of memory for the losses");
        d->loss = grown, d->capacity = capacity;
    }
    d->loss[d->n++] = loss;
    return 0;
}

/* Two passes, in order: the losses differ in their third digit, so that a difference of squares would lose what counts.
 */
static double variance(const double *x, int64_t n) {
    double mean = 0.0, sum = 0.0;
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sum / (double)n;
}

double nn_dvar_ratio(const nn_dvar *d, int64_t window) {
    if (d->n < window) return 1.0;
    double all = variance(d->loss, d->n);
    return all > 0.0 ? variance(d->loss + d->n - window, window) / all : 1.0;
}
