/* Sections 5.2 and 5.3: ways to a word, and what each trades of likeness for obedience. */
#include "tools/paper/sections.h"

#include <math.h>
#include <stdio.h>

const paper_setup paper_setups[SETUPS] = {
    [SETUP_ONE] = {.name = "one", .label = "one vector"},
    [SETUP_TWO] = {.name = "two", .label = "two vectors", .vectors = 2},
    [SETUP_THREE] = {.name = "three", .label = "three vectors", .vectors = 3},
    [SETUP_PROGRESSIVE] = {.name = "progressive", .label = "progressive", .vectors = 3, .progressive = true},
    [SETUP_PER_IMAGE] = {.name = "per-image", .label = "per-image tokens", .per_image = true},
    [SETUP_REGULARISED] = {.name = "regularised", .label = "regularised", .reg_weight = 2e-3},
    [SETUP_OFFICIAL] = {.name = "regularised-official",
                        .label = "two, regularised (code)",
                        .vectors = 2,
                        .reg_weight = 2e-3,
                        .official = true},
    [SETUP_SLOWEST] = {.name = "rate-2e-4", .label = "rate 2e-4", .rate = 2e-4},
    [SETUP_SLOW] = {.name = "rate-2e-3", .label = "rate 2e-3", .rate = 2e-3},
    [SETUP_FAST] = {.name = "rate-4e-2", .label = "rate 4e-2", .rate = 4e-2},
    [SETUP_PALAVRA] = {.name = "palavra", .label = "tuned in CLIP (PALAVRA)", .source = WORD_CLIP},
    [SETUP_INITIALIZER] = {.name = "initialiser", .label = "initialiser word", .source = WORD_INITIALIZER},
    [SETUP_BRIEF] = {.name = "short-caption", .label = "short caption", .source = WORD_BRIEF},
    [SETUP_CAPTION] = {.name = "long-caption", .label = "long caption", .source = WORD_CAPTION},
    [SETUP_NONE] = {.name = "prompt-only", .label = "prompt only", .source = WORD_NONE},
};
const int paper_rates[RATES] = {SETUP_SLOWEST, SETUP_SLOW, SETUP_ONE, SETUP_FAST};

void plan_setups(paper *p) {
    for (int i = 0; i < SETUPS; i++) measure_plan(p, &paper_setups[i]);
    measure_pictures_plan(p);
}

static void row(doc *d, const char *label, const series *s) {
    estimate e[3] = {stat_mean(s->reconstruction, s->n), stat_mean(s->by_code, s->n), stat_mean(s->editability, s->n)};
    doc_row(d, label, e);
}

void show_setups(paper *p, doc *d) {
    static const char *const columns[3] = {"reconstruction", "editability (code)", "editability (paper)"};
    series s;
    doc_say(d,
            "Every setup learns a word for each of %d objects in %lld steps. Intervals are over the objects (95 %%, "
            "Student's t): they say how a word for another object would fare. The published code's editability, the "
            "mean of cosines, does not depend on how many samples it is taken over, the paper's does: so all "
            "comparisons use the former.",
            p->nobjects, (long long)p->size.train_steps);
    doc_table(d, "setup", columns, 3);
    for (int i = 0; i < SETUPS; i++) {
        measure_setup(p, &paper_setups[i], &s);
        row(d, paper_setups[i].label, &s);
    }
    measure_pictures(p, &s);
    row(d, "image only", &s);
    doc_table_end(d);
    doc_strip(d, "The same noise for every setup", "\"a photo of a ...\", one column a setup, one row an object.",
              SETUPS);
    for (int k = 0; k < p->nobjects && k < 4; k++) {
        for (int i = 0; i < SETUPS; i++) {
            doc_samples(d, measure_units(p, &paper_setups[i], p->object[k]).plain, 0, 1,
                        k == 3 || k == p->nobjects - 1 ? paper_setups[i].label : NULL);
        }
    }
    doc_strip_end(d);
}

void show_tradeoff(paper *p, doc *d) {
    chart_point point[SETUPS + 1];
    int n = 0;
    series s;
    /* The rates first, in order: they are joined to the curve of section 5.3. */
    for (int i = 0; i < RATES; i++) {
        measure_setup(p, &paper_setups[paper_rates[i]], &s);
        point[n++] = (chart_point){paper_setups[paper_rates[i]].label, stat_mean(s.by_code, s.n),
                                   stat_mean(s.reconstruction, s.n), 0};
    }
    for (int i = 0; i < SETUPS; i++) {
        if (i == SETUP_ONE || i == SETUP_SLOWEST || i == SETUP_SLOW || i == SETUP_FAST) continue;
        measure_setup(p, &paper_setups[i], &s);
        int kind = paper_setups[i].source == WORD_LEARNED ? 1 : i == SETUP_NONE ? 3 : 2;
        point[n++] = (chart_point){paper_setups[i].label, stat_mean(s.by_code, s.n), stat_mean(s.reconstruction, s.n),
                                   kind};
    }
    measure_pictures(p, &s);
    point[n++] = (chart_point){"image only", stat_mean(s.by_code, s.n), stat_mean(s.reconstruction, s.n), 3};
    doc_say(d,
            "Up: the samples are more like the pictures. Right: the samples follow the sentence better. The line "
            "joins learning rates, slowest first; bars are intervals over %d objects.",
            p->nobjects);
    size_t from = d->html.n;
    chart_scatter(&d->html, point, n, 0, "editability (mean CLIP cosine to the sentence)",
                  "reconstruction (mean CLIP cosine to the pictures)");
    doc_figure(d, from);
}
