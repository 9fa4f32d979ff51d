#include "tools/chart.h"

#include <math.h>

/* The plot's rectangle in a picture of WIDTH x HEIGHT. */
enum { WIDTH = 560, HEIGHT = 240, LEFT = 56, TOP = 14, RIGHT = 14, BOTTOM = 34 };

typedef struct frame {
    double x0, x1, y0, y1; /* what the rectangle's sides stand for */
} frame;

static double px(const frame *f, double x) { return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT); }
static double py(const frame *f, double y) { return HEIGHT - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM); }

/* 1, 2 or 5 times a power of ten: at most about `count` of it in the range. */
static double spacing(double range, int count) {
    double unit = 1.0;
    while (unit * count < range) unit *= 10.0;
    while (unit * count > range * 10.0) unit /= 10.0;
    if (unit / 5.0 * count >= range) return unit / 5.0;
    return unit / 2.0 * count >= range ? unit / 2.0 : unit;
}

static void open_chart(text *t, const frame *f, const char *xlabel) {
    text_format(t, "<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", WIDTH, HEIGHT, WIDTH, HEIGHT);
    double step = spacing(f->y1 - f->y0, 5);
    for (double y = ceil(f->y0 / step) * step; y <= f->y1 + step * 1e-6; y += step) {
        text_format(t, "<path class=\"axis\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", LEFT, py(f, y),
                    WIDTH - RIGHT, LEFT - 6, py(f, y) + 4, y);
    }
    step = spacing(f->x1 - f->x0, 8);
    for (double x = ceil(f->x0 / step) * step; x <= f->x1 + step * 1e-6; x += step) {
        text_format(t, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", px(f, x), HEIGHT - BOTTOM + 16, x);
    }
    text_format(t, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", WIDTH - RIGHT, HEIGHT - 3, xlabel);
}

void chart_loss(text *t, const double *y, int64_t n, int64_t window) {
    frame f = {0.0, (double)n, 0.0, y[0]};
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) f.y1 = y[i] > f.y1 ? y[i] : f.y1;
    if (!(f.y1 > 0.0)) f.y1 = 1.0;
    open_chart(t, &f, "step");
    text_add(t, "<path class=\"raw\" d=\"");
    for (int64_t i = 0; i < n; i++) text_format(t, "%c%.1f %.1f", i ? 'L' : 'M', px(&f, (double)(i + 1)), py(&f, y[i]));
    text_add(t, "\"/>\n<path class=\"mean\" d=\"");
    for (int64_t i = 0; i < n; i++) {
        sum += y[i] - (i >= window ? y[i - window] : 0.0);
        text_format(t, "%c%.1f %.1f", i ? 'L' : 'M', px(&f, (double)(i + 1)), py(&f, sum / (double)(i < window ? i + 1 : window)));
    }
    text_add(t, "\"/>\n</svg>\n");
}

static void level(text *t, const frame *f, double y, const char *name) {
    text_format(t, "<path class=\"level\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\">", LEFT, py(f, y), WIDTH - RIGHT, LEFT + 6, py(f, y) - 4);
    text_escape(t, name);
    text_add(t, "</text>\n");
}

void chart_points(text *t, const int64_t *x, const double *y, int n, double low, const char *low_name, double high, const char *high_name) {
    frame f = {0.0, (double)x[n - 1], low, high};
    for (int i = 0; i < n; i++) f.y0 = y[i] < f.y0 ? y[i] : f.y0, f.y1 = y[i] > f.y1 ? y[i] : f.y1;
    double margin = (f.y1 - f.y0) * 0.15 + 1e-3;
    f.y0 -= margin, f.y1 += margin;
    open_chart(t, &f, "step");
    level(t, &f, low, low_name), level(t, &f, high, high_name);
    text_add(t, "<path class=\"mean\" d=\"");
    for (int i = 0; i < n; i++) text_format(t, "%c%.1f %.1f", i ? 'L' : 'M', px(&f, (double)x[i]), py(&f, y[i]));
    text_add(t, "\"/>\n");
    for (int i = 0; i < n; i++) text_format(t, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n", px(&f, (double)x[i]), py(&f, y[i]));
    text_add(t, "</svg>\n");
}
