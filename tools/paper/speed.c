/* Section 6: the paper's wish for less than two hours a concept. */
#include "tools/paper/sections.h"

static const paper_setup dvar = {.name = "dvar", .label = "stopped by DVAR", .rate = 5e-3, .dvar = true};
static const paper_setup untimely = {.name = "not-stopped", .label = "not stopped", .rate = 5e-3, .untimely = true};

void plan_speed(paper *p) {
    measure_plan(p, &dvar), measure_plan(p, &untimely), measure_plan(p, &paper_setups[SETUP_ONE]);
}

static void row(paper *p, doc *d, const paper_setup *setup, const char *label) {
    double steps[PAPER_CONCEPTS];
    series s;
    measure_setup(p, setup, &s);
    for (int i = 0; i < s.n; i++) {
        int64_t taken = 0;
        if (paper_steps_taken(p, paper_learn(p, setup, p->object[i]), &taken, &d->err)) d->failed = true;
        steps[i] = (double)taken;
    }
    estimate e[3] = {stat_mean(steps, s.n), stat_mean(s.reconstruction, s.n), stat_mean(s.by_code, s.n)};
    doc_row(d, label, e);
}

void show_speed(paper *p, doc *d) {
    static const char *const columns[3] = {"steps", "reconstruction", "editability (code)"};
    doc_say(d, "DVAR (Voronov et al. 2302.04841) ends a run when the loss of one fixed batch has stopped moving. Both runs have a constant rate of %g and at most %lld "
               "steps; the last row is the default of the other sections, whose rate falls to 0.", dvar.rate, 2 * (long long)p->size.train_steps);
    doc_table(d, "run", columns, 3);
    row(p, d, &dvar, dvar.label), row(p, d, &untimely, untimely.label), row(p, d, &paper_setups[SETUP_ONE], "falling rate");
    doc_table_end(d);
}
