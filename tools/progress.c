/* Progress on stderr: a bar on a terminal, now and then a line elsewhere. */
#include "tensor/io/sys.h"
#include "tools/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool terminal(void) {
    const char *term = getenv("TERM");
    return tn_is_tty(2) && !(term && strcmp(term, "dumb") == 0);
}

/* h:mm:ss or m:ss */
static void clock_text(double seconds, char *out, size_t cap) {
    long s = (long)(seconds + 0.5);
    if (s >= 3600) snprintf(out, cap, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(out, cap, "%ld:%02ld", s / 60, s % 60);
}

void opt_progress_start(opt_progress *p, const opt_common *o, const char *what, int64_t total, int64_t from) {
    *p = (opt_progress){.what = what, .total = total, .off = o->quiet, .first = from};
    p->started = p->last_shown = tn_clock();
    p->last_line = from;
}

static void show(opt_progress *p, int64_t done, const char *extra, bool bar) {
    double now = tn_clock(), pace = done > p->first ? (now - p->started) / (double)(done - p->first) : 0.0;
    char spent[32], left[32], cells[21];
    clock_text(now - p->started, spent, sizeof spent);
    clock_text(pace * (double)(p->total - done), left, sizeof left);
    int full = (int)(20 * done / (p->total > 0 ? p->total : 1));
    for (int i = 0; i < 20; i++) cells[i] = i < full ? '#' : ' ';
    cells[20] = '\0';
    fprintf(stderr, bar ? "\r%s: %3d%% |%s| %lld/%lld [%s<%s, %.3g s/it%s%s]\033[K" : "%s: %3d%% |%s| %lld/%lld [%s<%s, %.3g s/it%s%s]\n", p->what,
            (int)(100 * done / (p->total > 0 ? p->total : 1)), cells, (long long)done, (long long)p->total, spent, left, pace,
            extra && *extra ? ", " : "", extra ? extra : "");
    fflush(stderr);
    p->last_shown = now, p->last_line = done;
}

void opt_progress_step(opt_progress *p, int64_t done, const char *extra) {
    if (p->off) return;
    double since = tn_clock() - p->last_shown;
    if (terminal()) {
        if (since >= 0.2 || done == p->total) show(p, done, extra, true);
    } else if (since >= 30.0 || (done - p->last_line) * 10 >= p->total || done == p->total) {
        show(p, done, extra, false);
    }
}

void opt_progress_end(opt_progress *p) {
    if (!p->off && terminal()) fputc('\n', stderr);
}
