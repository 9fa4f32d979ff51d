/* Section 6: the paper's wish for less than two hours a concept. */
#include "tools/paper/sections.h"

static const paper_setup dvar = {.name = "dvar", .label = "stopped by DVAR", .rate = 5e-3, .dvar = true};
static const paper_setup untimely = {.name = "not-stopped", .label = "not stopped", .rate = 5e-3, .untimely = true};

static const paper_setup encoded = {.name = "encoded", .label = "encoder alone", .source = WORD_ENCODED};
static const paper_setup encoded_few = {
    .name = "encoded-few", .label = "encoder, then an eighth of the steps", .few = true, .encoded = true};
static const paper_setup few = {.name = "few", .label = "coarse word, then an eighth of the steps", .few = true};
static const paper_setup *const encoder_rows[] = {&encoded, &encoded_few, &few, &paper_setups[SETUP_ONE]};
enum { ENCODER_ROWS = sizeof encoder_rows / sizeof *encoder_rows };

void plan_speed(paper *p) {
    measure_plan(p, &dvar), measure_plan(p, &untimely);
    for (int i = 0; i < ENCODER_ROWS; i++) measure_plan(p, encoder_rows[i]);
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
    doc_say(d,
            "DVAR (Voronov et al. 2302.04841) ends a run when the loss of one fixed batch has stopped moving. Both "
            "runs have a constant rate of %g and at most %lld steps; the last row is the default of the other "
            "sections, whose rate falls to 0.",
            dvar.rate, 2 * (long long)p->size.train_steps);
    doc_table(d, "run", columns, 3);
    row(p, d, &dvar, dvar.label), row(p, d, &untimely, untimely.label),
        row(p, d, &paper_setups[SETUP_ONE], "falling rate");
    doc_table_end(d);
    doc_say(d, "An encoder maps what CLIP sees of the pictures to a word. It learned from names that the model "
               "knows, in the time that some words take; for a new object it takes a moment. Compared at equal steps "
               "behind it.");
    doc_table(d, "start", columns, 3);
    for (int i = 0; i < ENCODER_ROWS; i++)
        row(p, d, encoder_rows[i], i == ENCODER_ROWS - 1 ? "coarse word, all steps" : encoder_rows[i]->label);
    doc_table_end(d);
    doc_strip(d, "Pictures; encoder alone; with an eighth of the steps; coarse word with an eighth; all steps", NULL,
              1 + ENCODER_ROWS);
    for (int k = 0; k < p->nobjects && k < 4; k++) {
        doc_pictures(d, (paper_range){p->object[k], 0, 1}, p->concept[p->object[k]].token);
        for (int i = 0; i < ENCODER_ROWS; i++)
            doc_samples(d, measure_units(p, encoder_rows[i], p->object[k]).plain, 0, 1, NULL);
    }
    doc_strip_end(d);
}
