/* Line charts as inline SVG, in the colours of the page around them (CSS classes axis, raw, mean, dot). */
#ifndef TOOLS_CHART_H
#define TOOLS_CHART_H

#include "tools/text.h"
#include <stdint.h>

/* y[0..n), n > 0, at x = 1..n, thin, and its running mean over `window` values, bold. */
void chart_loss(text *t, const double *y, int64_t n, int64_t window);
/* y[0..n) at x[i], rising, joined by a bold line with dots. Dashed lines mark two levels, named. */
void chart_points(text *t, const int64_t *x, const double *y, int n, double low, const char *low_name, double high, const char *high_name);

#endif
