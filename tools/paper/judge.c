/* Section 5.1: what the judge itself can tell apart, on true pictures. What it does not see, no score here can measure.
 */
#include "tools/paper/sections.h"

#include <math.h>
#include <string.h>

static const char *const kinds[] = {"cat",  "rabbit", "bird", "fish", "monster", "robot",    "ball",   "cup",
                                    "vase", "house",  "car",  "boat", "rocket",  "mushroom", "flower", "tree"};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* An object's pictures, each against the pictures of all objects (of its own, the others) and against the kinds' names.
 */
static int judged(paper *p, int i) {
    const char *sentence[KINDS];
    paper_range sets[PAPER_CONCEPTS];
    for (int k = 0; k < KINDS; k++) sentence[k] = paper_text(p, "a photo of a %s", kinds[k]);
    for (int k = 0; k < p->nobjects; k++) sets[k] = paper_all(p, p->object[k]);
    return paper_score_pictures(p, sets[i], sets, p->nobjects, sentence, KINDS);
}

/* A style's pictures, each against those of all styles. */
static int judged_style(paper *p, int i) {
    paper_range sets[PAPER_CONCEPTS];
    for (int k = 0; k < p->nstyles; k++) sets[k] = paper_all(p, p->style[k]);
    return paper_score_pictures(p, sets[i], sets, p->nstyles, NULL, 0);
}

void plan_judge(paper *p) {
    for (int i = 0; i < p->nobjects; i++) judged(p, i);
    for (int i = 0; i < p->nstyles; i++) judged_style(p, i);
}

/* Pictures to which set `which` is the nearest. */
static int own_nearest(const paper_scores *s, int which) {
    int hits = 0;
    for (int q = 0; q < s->n; q++) {
        int best = 0;
        for (int k = 1; k < s->nsets; k++) best = s->set[k * s->n + q] > s->set[best * s->n + q] ? k : best;
        hits += best == which;
    }
    return hits;
}

static int named_rightly(const paper *p, const paper_scores *s, int i) {
    for (int k = 0; k < KINDS; k++) {
        if (strcmp(kinds[k], p->concept[p->object[i]].initializer) == 0) return measure_hits(s, 0, KINDS, k);
    }
    return 0;
}

static void row(doc *d, const char *label, int hits, int n, int choices) {
    estimate e[2] = {stat_share(hits, n), {.value = 1.0 / choices, .lo = -INFINITY, .hi = INFINITY}};
    doc_row(d, label, e);
}

void show_judge(paper *p, doc *d) {
    static const char *const columns[2] = {"share of pictures", "by chance"};
    int own = 0, named = 0, styles = 0, n = 0, m = 0;
    for (int i = 0; i < p->nobjects; i++) {
        const paper_scores *s = paper_result(p, judged(p, i));
        own += own_nearest(s, i), named += named_rightly(p, s, i), n += s->n;
    }
    for (int i = 0; i < p->nstyles; i++) {
        const paper_scores *s = paper_result(p, judged_style(p, i));
        styles += own_nearest(s, i), m += s->n;
    }
    doc_say(d, "Drawn pictures that no model made, as CLIP sees them. Where a share is no better than chance, the "
               "scores of the "
               "other sections say nothing of it, and the pictures have to be looked at.");
    doc_table(d, "the judge finds nearest", columns, 2);
    if (n)
        row(d, "the other pictures of the same object", own, n, p->nobjects),
            row(d, "the name of its kind", named, n, KINDS);
    if (m) row(d, "the other pictures in the same style", styles, m, p->nstyles);
    doc_table_end(d);
}
