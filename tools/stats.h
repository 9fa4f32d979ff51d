/* Estimates with 95 % confidence intervals, in closed form: the same digits on every machine, and nothing is drawn. */
#ifndef TOOLS_STATS_H
#define TOOLS_STATS_H

/* lo and hi are minus and plus infinity where the data say nothing of them: a mean of one number. */
typedef struct estimate {
    double value, lo, hi;
    int n; /* independent observations behind it */
} estimate;

/* The .975 quantile of Student's t with `freedom` > 0 degrees: the table up to 30, beyond it the first terms of its
 * expansion at the normal's (Abramowitz and Stegun 26.7.5), to four digits. */
double stat_t(int freedom);
/* Mean of x[0..n), n > 0, with Student's interval. */
estimate stat_mean(const double *x, int n);
/* The same of a[i] - b[i]: paired, so that what both have in common drops out. */
estimate stat_difference(const double *a, const double *b, int n);
/* The mean of jackknife pseudo-values n whole - (n - 1) without[i] (Tukey 1958): an interval for a statistic that is no mean,
 * with `whole` its value on all n observations and without[i] on all but the i-th. The value stays `whole`. */
estimate stat_jackknife(double whole, const double *without, int n);
/* A share hits / n with Wilson's interval (1927), which keeps its level near 0 and 1. */
estimate stat_share(int hits, int n);
/* The difference a - b of two independent shares: Newcombe's interval (1998), method 10. */
estimate stat_share_difference(estimate a, estimate b);
/* Kendall's tau-a of two series, -1 to 1: 1 where y rises whenever x does. n > 1. */
double stat_kendall(const double *x, const double *y, int n);

#endif
