/* Intervals against published values: Student's t of the tables, Wilson's interval, Newcombe's example (Statistics in Medicine 17,
 * 1998, table II, method 10), Kendall's tau by hand, and the jackknife of a mean, which is Student's interval. */
#include "tests/test.h"
#include "tools/stats.h"

#include <math.h>

static bool near(double a, double b, double within) { return fabs(a - b) <= within; }

static void quantiles(test_state *t) {
    CHECK(t, near(stat_t(1), 12.7062, 1e-4) && near(stat_t(4), 2.7764, 1e-4) && near(stat_t(30), 2.0423, 1e-4));
    CHECK(t, near(stat_t(31), 2.0395, 1e-4) && near(stat_t(60), 2.0003, 1e-4) && near(stat_t(1000), 1.9623, 1e-4));
}

static void means(test_state *t) {
    const double x[] = {1.0, 2.0, 4.0, 5.0}, y[] = {0.5, 1.5, 3.5, 4.5}, one = 7.0;
    estimate m = stat_mean(x, 4), d = stat_difference(x, y, 4), alone = stat_mean(&one, 1);
    /* s^2 = 10/3, half = 3.1824 * sqrt(10/12) */
    CHECK(t, near(m.value, 3.0, 1e-12) && near(m.hi - 3.0, 2.90512, 1e-4) && near(3.0 - m.lo, m.hi - 3.0, 1e-12) && m.n == 4);
    CHECK(t, near(d.value, 0.5, 1e-12) && near(d.lo, 0.5, 1e-12) && near(d.hi, 0.5, 1e-12));
    CHECK(t, alone.value == one && isinf(alone.lo) && isinf(alone.hi));
    double without[4];
    for (int i = 0; i < 4; i++) without[i] = (12.0 - x[i]) / 3.0;
    estimate j = stat_jackknife(3.0, without, 4);
    CHECK(t, near(j.lo, m.lo, 1e-12) && near(j.hi, m.hi, 1e-12) && j.value == 3.0);
}

static void shares(test_state *t) {
    estimate none = stat_share(0, 10), half = stat_share(5, 10), all = stat_share(36, 36);
    CHECK(t, none.lo == 0.0 && near(none.hi, 0.2775, 1e-4));
    CHECK(t, near(half.lo, 0.2366, 1e-4) && near(half.hi, 0.7634, 1e-4));
    CHECK(t, all.hi == 1.0 && near(all.lo, 1.0 - 0.0964, 1e-4));
    estimate d = stat_share_difference(stat_share(56, 70), stat_share(48, 80));
    CHECK(t, near(d.value, 0.2, 1e-12) && near(d.lo, 0.0524, 1e-4) && near(d.hi, 0.3339, 1e-4));
}

static void order(test_state *t) {
    const double x[] = {1, 2, 3, 4}, up[] = {1, 3, 5, 9}, down[] = {4, 3, 2, 1}, mixed[] = {1, 3, 2, 4}, tied[] = {1, 1, 2, 2};
    CHECK(t, stat_kendall(x, up, 4) == 1.0 && stat_kendall(x, down, 4) == -1.0);
    CHECK(t, near(stat_kendall(x, mixed, 4), 4.0 / 6.0, 1e-12) && near(stat_kendall(x, tied, 4), 4.0 / 6.0, 1e-12));
}

void test_main(test_state *t) {
    quantiles(t);
    means(t);
    shares(t);
    order(t);
}
