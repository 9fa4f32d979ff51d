/* Addition with broadcasting, and multiplication by a constant.
 *
 *   add     y[o,m,i] = a[o,m,i] + b[m]                                             a, y [O,M,I], b [M]
 *   scale   y = s x
 *
 * Every addition in the models has this one shape, read with the right O, M and I (ref.h lists them).
 *
 * Backward. Each y has slope 1 in its a and its b, and b[m] was used O I times, so da[o,m,i] = dy[o,m,i] and db[m] =
 * sum_{o,i} dy[o,m,i]: what is broadcast forward is summed backward.
 *
 * Source: PyTorch's broadcasting rules. */
#include "ref/ref.h"

#include <stddef.h>

void ref_add_broadcast(const double *a, const double *b, double *y, int64_t O, int64_t M, int64_t I) {
    for (int64_t o = 0; o < O; o++)
        for (int64_t m = 0; m < M; m++)
            for (int64_t i = 0; i < I; i++) y[(o * M + m) * I + i] = a[(o * M + m) * I + i] + b[m];
}

void ref_add_broadcast_backward(const double *dy, double *da, double *db, int64_t O, int64_t M, int64_t I) {
    for (int64_t o = 0; o < O; o++)
        for (int64_t m = 0; m < M; m++)
            for (int64_t i = 0; i < I; i++) {
                double g = dy[(o * M + m) * I + i];
                if (da) da[(o * M + m) * I + i] += g;
                if (db) db[m] += g;
            }
}

void ref_scale(const double *x, double s, double *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = s * x[i];
}

void ref_scale_backward(const double *dy, double s, double *dx, int64_t n) {
    for (int64_t i = 0; dx && i < n; i++) dx[i] += s * dy[i];
}
