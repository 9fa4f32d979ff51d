#include "tools/chart.h"

#include <math.h>
#include <stdio.h>

/* The plot's rectangle in a picture of WIDTH x HEIGHT. */
enum { WIDTH = 560, HEIGHT = 240, LEFT = 56, TOP = 14, RIGHT = 14, BOTTOM = 34 };

typedef struct frame {
    double x0, x1, y0, y1; /* what the rectangle's sides stand for */
    int height;            /* of the picture */
} frame;

static double px(const frame *f, double x) { return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT); }
static double py(const frame *f, double y) {
    return f->height - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (f->height - TOP - BOTTOM);
}

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
    frame f = {0.0, (double)n, 0.0, y[0], HEIGHT};
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
    frame f = {0.0, (double)x[n - 1], low, high, HEIGHT};
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

/* ---- with intervals ---- */

/* Both axes in numbers of their own size; `beside` is room for a legend. */
static void open_plane(text *t, const frame *f, int beside, const char *xlabel, const char *ylabel) {
    int width = WIDTH + beside, bottom = f->height - BOTTOM;
    text_format(t, "<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", width, f->height,
                width * 3 / 2, f->height * 3 / 2);
    double step = spacing(f->y1 - f->y0, 6);
    for (double y = ceil(f->y0 / step) * step; y <= f->y1; y += step) {
        text_format(t, "<path class=\"axis\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", LEFT, py(f, y),
                    WIDTH - RIGHT, LEFT - 6, py(f, y) + 4, fabs(y) < step * 1e-6 ? 0.0 : y);
    }
    step = spacing(f->x1 - f->x0, 8);
    for (double x = ceil(f->x0 / step) * step; x <= f->x1; x += step) {
        text_format(
            t, "<path class=\"axis\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n",
            px(f, x), TOP, bottom, px(f, x), bottom + 14, fabs(x) < step * 1e-6 ? 0.0 : x);
    }
    text_format(t, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text><text x=\"4\" y=\"11\">%s</text>\n",
                WIDTH - RIGHT, f->height - 3, xlabel, ylabel);
}

static double finite_or(double x, double otherwise) { return isfinite(x) ? x : otherwise; }

static void widen(double *lo, double *hi, estimate e) {
    double a = finite_or(e.lo, e.value), b = finite_or(e.hi, e.value);
    *lo = a < *lo ? a : *lo, *hi = b > *hi ? b : *hi;
}

static frame frame_of(const chart_point *p, int n) {
    frame f = {p[0].x.value, p[0].x.value, p[0].y.value, p[0].y.value, HEIGHT};
    for (int i = 0; i < n; i++) widen(&f.x0, &f.x1, p[i].x), widen(&f.y0, &f.y1, p[i].y);
    double dx = (f.x1 - f.x0) * 0.06 + 1e-3, dy = (f.y1 - f.y0) * 0.08 + 1e-3;
    return (frame){f.x0 - dx, f.x1 + dx, f.y0 - dy, f.y1 + dy, HEIGHT};
}

/* The two lines of a point's intervals, and its dot. */
static void cross(text *t, const frame *f, const chart_point *p, double radius) {
    double x = px(f, p->x.value), y = py(f, p->y.value);
    if (isfinite(p->x.lo) && p->x.hi > p->x.lo) {
        text_format(t, "<path class=\"k%d\" opacity=\".45\" d=\"M%.1f %.1fH%.1f\"/>", p->kind, px(f, p->x.lo), y, px(f, p->x.hi));
    }
    if (isfinite(p->y.lo) && p->y.hi > p->y.lo) {
        text_format(t, "<path class=\"k%d\" opacity=\".45\" d=\"M%.1f %.1fV%.1f\"/>", p->kind, x, py(f, p->y.lo), py(f, p->y.hi));
    }
    text_format(t, "<circle class=\"k%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>\n", p->kind, x, y, radius);
}

static void label(text *t, double x, double y, const char *name) {
    text_format(t, "<text x=\"%.1f\" y=\"%.1f\">", x, y);
    text_escape(t, name);
    text_add(t, "</text>\n");
}

/* A line through the points of a kind. */
static void join(text *t, const frame *f, const chart_point *p, int n, int kind) {
    char move = 'M';
    text_format(t, "<path class=\"k%d\" style=\"fill:none\" opacity=\".7\" d=\"", kind);
    for (int i = 0; i < n; i++) {
        if (p[i].kind == kind) text_format(t, "%c%.1f %.1f", move, px(f, p[i].x.value), py(f, p[i].y.value)), move = 'L';
    }
    text_add(t, move == 'M' ? "M0 0\"/>\n" : "\"/>\n");
}

/* ---- a scatter: numbered dots, their names in a legend ---- */

/* By the values alone, and not by the references, kind 3: intervals and what lies far away would leave no room for the
 * rest. */
static frame frame_of_values(const chart_point *p, int n) {
    frame f = {INFINITY, -INFINITY, INFINITY, -INFINITY, HEIGHT};
    for (int i = 0; i < n; i++) {
        if (p[i].kind == 3) continue;
        f.x0 = fmin(f.x0, p[i].x.value), f.x1 = fmax(f.x1, p[i].x.value);
        f.y0 = fmin(f.y0, p[i].y.value), f.y1 = fmax(f.y1, p[i].y.value);
    }
    if (!(f.x0 <= f.x1)) return frame_of(p, n);
    double dx = (f.x1 - f.x0) * 0.15 + 1e-3, dy = (f.y1 - f.y0) * 0.15 + 1e-3;
    return (frame){f.x0 - dx, f.x1 + dx, f.y0 - dy, f.y1 + dy, HEIGHT};
}

static estimate clipped(estimate e, double lo, double hi) {
    double *end[] = {&e.value, &e.lo, &e.hi};
    for (int i = 0; i < 3; i++) {
        if (isfinite(*end[i])) *end[i] = fmin(fmax(*end[i], lo), hi);
    }
    return e;
}

/* Row i of the legend; with the value of a point that lies outside, at whose border its dot is. */
static void legend(text *t, const frame *f, const chart_point *p, int i, double y) {
    char outside[40] = "";
    if (p->x.value < f->x0 || p->x.value > f->x1) snprintf(outside, sizeof outside, " (at %.3f)", p->x.value);
    text_format(t, "<circle class=\"k%d\" cx=\"%d\" cy=\"%.1f\" r=\"4\"/><text x=\"%d\" y=\"%.1f\">%d&#160; ", p->kind,
                WIDTH + 6, y - 4.0, WIDTH + 16, y, i + 1);
    text_escape(t, p->name), text_escape(t, outside);
    text_add(t, "</text>\n");
}

void chart_scatter(text *t, const chart_point *p, int n, int joined, const char *xlabel, const char *ylabel) {
    enum { LEGEND = 190, ROW = 18 };
    frame f = frame_of_values(p, n);
    f.height = n * ROW + TOP + BOTTOM > HEIGHT ? n * ROW + TOP + BOTTOM : HEIGHT;
    open_plane(t, &f, LEGEND, xlabel, ylabel);
    if (joined >= 0) join(t, &f, p, n, joined);
    for (int i = 0; i < n; i++) {
        chart_point q = {p[i].name, clipped(p[i].x, f.x0, f.x1), clipped(p[i].y, f.y0, f.y1), p[i].kind};
        cross(t, &f, &q, 7.0);
        text_format(
            t,
            "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" style=\"fill:var(--paper);font-size:9px\">%d</text>\n",
            px(&f, q.x.value), py(&f, q.y.value) + 3.2, i + 1);
        legend(t, &f, &p[i], i, TOP + 12.0 + i * ROW);
    }
    text_add(t, "</svg>\n");
}

void chart_lines(text *t, const chart_point *p, int n, const char *xlabel, const char *ylabel) {
    frame f = frame_of(p, n);
    open_plane(t, &f, 0, xlabel, ylabel);
    for (int kind = 0; kind < 4; kind++) {
        bool named = false;
        join(t, &f, p, n, kind);
        for (int i = 0; i < n; i++) {
            if (p[i].kind != kind) continue;
            cross(t, &f, &p[i], 3.0);
            if (!named) label(t, px(&f, p[i].x.value) + 7.0, py(&f, p[i].y.value) - 6.0, p[i].name);
            named = true;
        }
    }
    text_add(t, "</svg>\n");
}

void chart_bars(text *t, const chart_point *p, int n, double level) {
    enum { BAR = 22, NAMES = 200, ROOM = 340 };
    double most = level;
    for (int i = 0; i < n; i++) most = finite_or(p[i].x.hi, p[i].x.value) > most ? finite_or(p[i].x.hi, p[i].x.value) : most;
    if (!(most > 0.0)) most = 1.0;
    text_format(t, "<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", NAMES + ROOM + 60, n * BAR + 8, NAMES + ROOM + 60, n * BAR + 8);
    for (int i = 0; i < n; i++) {
        double y = 4 + i * BAR, unit = ROOM / most, value = p[i].x.value > 0.0 ? p[i].x.value : 0.0;
        label(t, 0.0, y + 14.0, p[i].name);
        text_format(t, "<rect class=\"k%d\" opacity=\".75\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>", p[i].kind, NAMES, y + 2.0, value * unit, BAR - 6);
        if (isfinite(p[i].x.lo) && p[i].x.hi > p[i].x.lo) {
            double lo = p[i].x.lo > 0.0 ? p[i].x.lo : 0.0;
            text_format(t, "<path class=\"level\" style=\"stroke-dasharray:none\" d=\"M%.1f %.1fH%.1f\"/>", NAMES + lo * unit, y + 10.0, NAMES + p[i].x.hi * unit);
        }
        text_format(t, "<text x=\"%.1f\" y=\"%.1f\">%.3g</text>\n", NAMES + finite_or(p[i].x.hi, p[i].x.value) * unit + 6.0, y + 14.0, p[i].x.value);
    }
    if (level > 0.0) text_format(t, "<path class=\"level\" d=\"M%.1f 0V%d\"/>\n", NAMES + level / most * ROOM, n * BAR + 8);
    text_add(t, "</svg>\n");
}
