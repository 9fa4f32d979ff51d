/* Line charts as inline SVG, in the colours of the page around them (CSS classes axis, raw, mean, dot). */
#ifndef TOOLS_CHART_H
#define TOOLS_CHART_H

#include "tools/stats.h"
#include "tools/text.h"
#include <stdint.h>

/* y[0..n), n > 0, at x = 1..n, thin, and its running mean over `window` values, bold. */
void chart_loss(text *t, const double *y, int64_t n, int64_t window);
/* y[0..n) at x[i], rising, joined by a bold line with dots. Dashed lines mark two levels, named. */
void chart_points(text *t, const int64_t *x, const double *y, int n, double low, const char *low_name, double high, const char *high_name);

/* A point with its intervals; what is not finite is drawn without. */
typedef struct chart_point {
    const char *name;
    estimate x, y;
    int kind; /* 0 to 3: the colour, and what chart_scatter joins */
} chart_point;
/* Numbered points with crosses of their intervals, their names in a legend; those of the kind that `joined` names (-1:
 * none) are joined in order. Points of kind 3, references, do not stretch the axes: those outside lie at the border,
 * with their x in the legend. */
void chart_scatter(text *t, const chart_point *p, int n, int joined, const char *xlabel, const char *ylabel);
/* Named values as horizontal bars from 0, with their intervals; where `level` is above 0, a dashed line there. */
void chart_bars(text *t, const chart_point *p, int n, double level);
/* y over x, joined; a line for each kind, named by its first point. */
void chart_lines(text *t, const chart_point *p, int n, const char *xlabel, const char *ylabel);

#endif
