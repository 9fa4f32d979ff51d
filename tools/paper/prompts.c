/* Sections 4.1, 4.2 and 4.7: what one learned word does in sentences. */
#include "tools/paper/sections.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHOWN = 3 }; /* objects whose pictures are shown */

static int shown(const paper *p) { return p->nobjects < SHOWN ? p->nobjects : SHOWN; }

/* ---- 4.1: variations ---- */

static const int variations[] = {SETUP_ONE, SETUP_CAPTION, SETUP_BRIEF, SETUP_INITIALIZER};
enum { VARIATIONS = sizeof variations / sizeof *variations };

void plan_variations(paper *p) {
    for (int i = 0; i < VARIATIONS; i++) measure_plan(p, &paper_setups[variations[i]]);
    measure_pictures_plan(p);
}

void show_variations(paper *p, doc *d) {
    static const char *const columns[1] = {"reconstruction"};
    series s;
    doc_table(d, "word", columns, 1);
    for (int i = 0; i < VARIATIONS; i++) {
        measure_setup(p, &paper_setups[variations[i]], &s);
        estimate e = stat_mean(s.reconstruction, s.n);
        doc_row(d, paper_setups[variations[i]].label, &e);
    }
    measure_pictures(p, &s);
    estimate e = stat_mean(s.reconstruction, s.n);
    doc_row(d, "the pictures among themselves", &e);
    doc_table_end(d);
    for (int k = 0; k < shown(p); k++) {
        const paper_concept *c = &p->concept[p->object[k]];
        doc_strip(
            d, paper_text(p, "%s: its pictures, then variations of the word and of what a person calls it", c->token),
            paper_text(p, "Short: \"%s\"; long: \"%s\". Every row has the same noises.", c->brief, c->caption), 8);
        doc_pictures(d, paper_all(p, p->object[k]), "pictures");
        for (int fill = c->pics.n; fill < 8 && c->more.n >= 8; fill++)
            doc_pictures(d, (paper_range){p->object[k], fill, 1}, NULL);
        for (int i = 0; i < VARIATIONS && p->size.samples >= 8; i++) {
            doc_samples(d, measure_units(p, &paper_setups[variations[i]], p->object[k]).plain, 0, 8,
                        paper_setups[variations[i]].label);
        }
        doc_strip_end(d);
    }
}

/* ---- 4.2: text-guided synthesis ---- */

void plan_synthesis(paper *p) {
    measure_plan(p, &paper_setups[SETUP_ONE]), measure_plan(p, &paper_setups[SETUP_INITIALIZER]);
}

/* Over the objects, of one sentence. */
static estimate of_sentence(paper *p, const paper_setup *s, int sentence) {
    double x[PAPER_CONCEPTS];
    for (int i = 0; i < p->nobjects; i++) {
        x[i] = measure_text(paper_result(p, measure_units(p, s, p->object[i]).edit_score[sentence]), 0);
    }
    return stat_mean(x, p->nobjects);
}

void show_synthesis(paper *p, doc *d) {
    static const char *const columns[2] = {"learned word", "initialiser word"};
    doc_say(d, "Mean CLIP cosine of samples to the sentence without the word. The word is learned once; no sentence "
               "is optimised for.");
    doc_table(d, "sentence", columns, 2);
    for (int i = 0; i < p->size.sentences; i++) {
        estimate e[2] = {of_sentence(p, &paper_setups[SETUP_ONE], i),
                         of_sentence(p, &paper_setups[SETUP_INITIALIZER], i)};
        doc_row(d, eval_prompts[i].text, e);
    }
    doc_table_end(d);
    doc_strip(d, "Learned words in new scenes and styles", "A row an object, first one of its pictures.",
              (int)p->size.sentences + 1);
    for (int k = 0; k < p->nobjects; k++) {
        setup_units u = measure_units(p, &paper_setups[SETUP_ONE], p->object[k]);
        bool last = k == p->nobjects - 1;
        doc_pictures(d, (paper_range){p->object[k], 0, 1}, last ? "its picture" : NULL);
        for (int i = 0; i < p->size.sentences; i++)
            doc_samples(d, u.edit[i], 0, 1, last ? eval_prompts[i].label : NULL);
    }
    doc_strip_end(d);
}

/* ---- 4.7: curation ---- */

enum { CANDIDATES = 16, KEPT = 4 };
static const char *const sentence = "a photo of a {} on the beach";

/* All candidates of an object's word, scored against its pictures and against the sentence. */
static int candidates(paper *p, int concept, int *samples) {
    paper_word w = paper_learn(p, &paper_setups[SETUP_ONE], concept);
    paper_range all = paper_all(p, concept);
    *samples = paper_samples(p, sentence, &w, 1, p->size.samples < CANDIDATES ? p->size.samples : CANDIDATES);
    return paper_score(p, *samples, &all, 1, &sentence, 1);
}

void plan_curation(paper *p) {
    int samples;
    for (int i = 0; i < p->nobjects; i++) candidates(p, p->object[i], &samples);
}

/* By image, by text, by both: the sum of the two ranks. */
typedef enum { BY_IMAGE, BY_TEXT, BY_BOTH, WAYS } way;
static const char *const way_name[WAYS] = {"by image", "by text", "by both"};

static int rank(const double *x, int n, int i) {
    int better = 0;
    for (int k = 0; k < n; k++) better += x[k] > x[i] || (x[k] == x[i] && k < i);
    return better;
}

/* The candidates in order of their rank, the best first. */
static void order(const paper_scores *s, way by, int *out) {
    double value[CANDIDATES];
    for (int i = 0; i < s->n; i++) {
        int image = rank(s->set, s->n, i), follows = rank(s->text, s->n, i);
        value[i] = -(double)(by == BY_IMAGE ? image : by == BY_TEXT ? follows : image + follows);
    }
    for (int i = 0; i < s->n; i++) out[rank(value, s->n, i)] = i;
}

/* Means over the objects of the kept ones' cosines to the pictures and to the sentence. */
static void kept(paper *p, int keep, way by, estimate out[2]) {
    double image[PAPER_CONCEPTS] = {0}, follows[PAPER_CONCEPTS] = {0};
    for (int k = 0; k < p->nobjects; k++) {
        int samples, best[CANDIDATES];
        const paper_scores *s = paper_result(p, candidates(p, p->object[k], &samples));
        int n = keep < s->n ? keep : s->n;
        order(s, by, best);
        for (int i = 0; i < n; i++) image[k] += s->set[best[i]] / n, follows[k] += s->text[best[i]] / n;
    }
    out[0] = stat_mean(image, p->nobjects), out[1] = stat_mean(follows, p->nobjects);
}

void show_curation(paper *p, doc *d) {
    static const char *const columns[2] = {"cosine to the pictures", "cosine to the sentence"};
    estimate e[2];
    doc_say(d, "\"%s\": %d candidates of each word, the best %d of them as CLIP ranks them.", sentence, CANDIDATES,
            KEPT);
    doc_table(d, "kept", columns, 2);
    kept(p, CANDIDATES, BY_BOTH, e);
    doc_row(d, "all", e);
    for (int by = 0; by < WAYS; by++) kept(p, KEPT, (way)by, e), doc_row(d, way_name[by], e);
    doc_table_end(d);
    for (int k = 0; k < shown(p); k++) {
        int samples, best[CANDIDATES];
        const paper_scores *s = paper_result(p, candidates(p, p->object[k], &samples));
        order(s, BY_BOTH, best);
        doc_strip(d, paper_text(p, "%s on the beach, best first by image and text", p->concept[p->object[k]].token),
                  NULL, 8);
        for (int i = 0; i < s->n; i++)
            doc_samples(d, samples, best[i], 1, i == 0 ? "best" : i == s->n - 1 ? "worst" : NULL);
        doc_strip_end(d);
    }
}
