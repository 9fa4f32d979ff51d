#include "tools/stats.h"

#include "tensor/err.h"
#include <math.h>
#include <stdlib.h>

static const double Z = 1.959963984540054; /* of the normal distribution */

double stat_t(int freedom) {
    static const double table[30] = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
                                     2.2010,  2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
                                     2.0796,  2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423};
    TN_REQUIRE(freedom > 0);
    if (freedom <= 30) return table[freedom - 1];
    double z3 = Z * Z * Z, f = freedom;
    return Z + (z3 + Z) / (4.0 * f) + (5.0 * z3 * Z * Z + 16.0 * z3 + 3.0 * Z) / (96.0 * f * f);
}

/* The interval of a mean around `value`, from the spread of n observations around their own mean. */
static estimate around(double value, const double *x, int n, double scale, double offset) {
    if (n < 2) return (estimate){value, -INFINITY, INFINITY, n};
    double mean = 0.0, square = 0.0;
    for (int i = 0; i < n; i++) mean += (offset + scale * x[i]) / n;
    for (int i = 0; i < n; i++) square += (offset + scale * x[i] - mean) * (offset + scale * x[i] - mean);
    double half = stat_t(n - 1) * sqrt(square / (n - 1) / n);
    return (estimate){value, value - half, value + half, n};
}

estimate stat_mean(const double *x, int n) {
    double mean = 0.0;
    TN_REQUIRE(n > 0);
    for (int i = 0; i < n; i++) mean += x[i] / n;
    return around(mean, x, n, 1.0, 0.0);
}

estimate stat_difference(const double *a, const double *b, int n) {
    enum { MOST = 4096 };
    double d[MOST];
    TN_REQUIRE(n > 0 && n <= MOST);
    for (int i = 0; i < n; i++) d[i] = a[i] - b[i];
    return stat_mean(d, n);
}

estimate stat_jackknife(double whole, const double *without, int n) {
    return around(whole, without, n, -(double)(n - 1), n * whole);
}

estimate stat_share(int hits, int n) {
    TN_REQUIRE(n > 0);
    double p = (double)hits / n, z2 = Z * Z / n, middle = (p + z2 / 2.0) / (1.0 + z2);
    double half = Z / (1.0 + z2) * sqrt(p * (1.0 - p) / n + z2 / (4.0 * n));
    return (estimate){p, hits == 0 ? 0.0 : middle - half, hits == n ? 1.0 : middle + half, n};
}

estimate stat_share_difference(estimate a, estimate b) {
    double d = a.value - b.value;
    double down = sqrt((a.value - a.lo) * (a.value - a.lo) + (b.hi - b.value) * (b.hi - b.value));
    double up = sqrt((a.hi - a.value) * (a.hi - a.value) + (b.value - b.lo) * (b.value - b.lo));
    return (estimate){d, d - down, d + up, a.n < b.n ? a.n : b.n};
}

double stat_kendall(const double *x, const double *y, int n) {
    int agree = 0;
    TN_REQUIRE(n > 1);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            double along = (x[i] - x[j]) * (y[i] - y[j]);
            agree += (along > 0.0) - (along < 0.0);
        }
    }
    return (double)agree / ((double)n * (n - 1) / 2.0);
}
