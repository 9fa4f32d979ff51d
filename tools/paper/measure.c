#include "tools/paper/measure.h"

double measure_set(const paper_scores *s, int set) { return stat_mean(s->set + set * s->n, s->n).value; }
double measure_text(const paper_scores *s, int text) { return stat_mean(s->text + text * s->n, s->n).value; }

int measure_hits(const paper_scores *s, int from, int n, int right) {
    int hits = 0;
    for (int i = 0; i < s->n; i++) {
        int best = from;
        for (int k = from; k < from + n; k++) best = s->text[k * s->n + i] > s->text[best * s->n + i] ? k : best;
        hits += best == right;
    }
    return hits;
}

setup_units measure_units(paper *p, const paper_setup *s, int concept) {
    paper_word w = paper_learn(p, s, concept);
    paper_range all = paper_all(p, concept);
    setup_units u = {.plain = paper_samples(p, EVAL_PLAIN, &w, 1, p->size.samples)};
    u.plain_score = paper_score(p, u.plain, &all, 1, NULL, 0);
    for (int i = 0; i < p->size.sentences; i++) {
        u.edit[i] = paper_samples(p, eval_prompts[i].text, &w, 1, p->size.edit_samples);
        u.edit_score[i] = paper_score(p, u.edit[i], NULL, 0, &eval_prompts[i].text, 1);
    }
    return u;
}

void measure_plan(paper *p, const paper_setup *s) {
    for (int i = 0; i < p->nobjects; i++) measure_units(p, s, p->object[i]);
}

void measure_edits(const paper *p, const setup_units *u, double *by_code, double *by_text) {
    double n = (double)p->size.sentences;
    *by_code = *by_text = 0.0;
    for (int k = 0; k < p->size.sentences; k++) {
        const paper_scores *r = paper_result(p, u->edit_score[k]);
        *by_code += measure_text(r, 0) / n, *by_text += r->of_mean[0] / n;
    }
}

void measure_setup(paper *p, const paper_setup *s, series *out) {
    *out = (series){.n = p->nobjects};
    for (int i = 0; i < out->n; i++) {
        setup_units u = measure_units(p, s, p->object[i]);
        out->reconstruction[i] = measure_set(paper_result(p, u.plain_score), 0);
        measure_edits(p, &u, &out->by_code[i], &out->editability[i]);
    }
}

static int pictures_score(paper *p, int concept) {
    const char *text[EVAL_PROMPTS];
    paper_range all = paper_all(p, concept);
    for (int i = 0; i < p->size.sentences; i++) text[i] = eval_prompts[i].text;
    return paper_score_pictures(p, all, &all, 1, text, (int)p->size.sentences);
}

void measure_pictures_plan(paper *p) {
    for (int i = 0; i < p->nobjects; i++) pictures_score(p, p->object[i]);
}

void measure_pictures(paper *p, series *out) {
    *out = (series){.n = p->nobjects};
    for (int i = 0; i < out->n; i++) {
        const paper_scores *r = paper_result(p, pictures_score(p, p->object[i]));
        out->reconstruction[i] = measure_set(r, 0);
        for (int k = 0; k < r->ntexts; k++)
            out->by_code[i] += measure_text(r, k) / r->ntexts, out->editability[i] += r->of_mean[k] / r->ntexts;
    }
}
