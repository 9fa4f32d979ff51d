/* Sections 4.3 to 4.5: words for styles, several words in one sentence, a word against a prejudice. */
#include "tools/paper/sections.h"

#include <stdio.h>
#include <string.h>

enum { EACH = 8 }; /* pictures of one sentence */

static int64_t each(const paper *p) { return p->size.samples < EACH ? p->size.samples : EACH; }
static const paper_setup *one(void) { return &paper_setups[SETUP_ONE]; }

/* ---- 4.3: styles ---- */

static const char *const things[] = {"cat", "house", "fish", "flower"};
enum { THINGS = sizeof things / sizeof *things };

/* Pictures of a thing in a style, scored against the pictures of all styles. */
static int in_style(paper *p, int style, const char *thing, int *samples) {
    paper_range sets[PAPER_CONCEPTS];
    paper_word words[2] = {{-1, thing}, paper_learn(p, one(), p->style[style])};
    for (int i = 0; i < p->nstyles; i++) sets[i] = paper_all(p, p->style[i]);
    *samples = paper_samples(p, "a painting of a {} in the style of {}", words, 2, each(p));
    return paper_score(p, *samples, sets, p->nstyles, NULL, 0);
}

void plan_styles(paper *p) {
    int samples;
    for (int i = 0; i < p->nstyles; i++) {
        for (int k = 0; k < THINGS; k++) in_style(p, i, things[k], &samples);
    }
}

void show_styles(paper *p, doc *d) {
    static const char *const columns[3] = {"cosine to its style", "to the other styles", "its style is the nearest"};
    int samples;
    doc_say(d,
            "\"a painting of a THING in the style of WORD\" for %d things, against the pictures that the styles were "
            "learned from.",
            THINGS);
    doc_table(d, "style", columns, 3);
    for (int i = 0; i < p->nstyles; i++) {
        double own[THINGS], other[THINGS] = {0};
        int hits = 0, n = 0;
        for (int k = 0; k < THINGS; k++) {
            const paper_scores *s = paper_result(p, in_style(p, i, things[k], &samples));
            own[k] = measure_set(s, i), n += s->n;
            for (int j = 0; j < p->nstyles; j++)
                other[k] += j == i || p->nstyles < 2 ? 0.0 : measure_set(s, j) / (p->nstyles - 1);
            for (int q = 0; q < s->n; q++) {
                int best = 0;
                for (int j = 1; j < p->nstyles; j++) best = s->set[j * s->n + q] > s->set[best * s->n + q] ? j : best;
                hits += best == i;
            }
        }
        estimate e[3] = {stat_mean(own, THINGS), stat_mean(other, THINGS), stat_share(hits, n)};
        doc_row(d, p->concept[p->style[i]].token, e);
    }
    doc_table_end(d);
    for (int i = 0; i < p->nstyles; i++) {
        doc_strip(d, paper_text(p, "%s: its pictures, then cat, house, fish and flower", p->concept[p->style[i]].token),
                  NULL, 8);
        doc_pictures(d, paper_all(p, p->style[i]), "pictures");
        doc_strip_end(d);
        doc_strip(d, paper_text(p, "in the style of %s", p->concept[p->style[i]].token), NULL, 8);
        for (int k = 0; k < THINGS; k++) in_style(p, i, things[k], &samples), doc_samples(d, samples, 0, 2, things[k]);
        doc_strip_end(d);
    }
}

/* ---- 4.4: compositions ---- */

/* Object i in style i, against the pictures of all styles, then of all objects. */
static int object_in_style(paper *p, int i, int *samples) {
    paper_range sets[2 * PAPER_CONCEPTS];
    paper_word words[2] = {paper_learn(p, one(), p->object[i]), paper_learn(p, one(), p->style[i % p->nstyles])};
    for (int k = 0; k < p->nstyles; k++) sets[k] = paper_all(p, p->style[k]);
    for (int k = 0; k < p->nobjects; k++) sets[p->nstyles + k] = paper_all(p, p->object[k]);
    *samples = paper_samples(p, "a painting of a {} in the style of {}", words, 2, each(p));
    return paper_score(p, *samples, sets, p->nstyles + p->nobjects, NULL, 0);
}

/* The next object of another kind. */
static int partner(const paper *p, int i) {
    for (int k = 1; k < p->nobjects; k++) {
        int other = (i + k) % p->nobjects;
        if (strcmp(p->concept[p->object[i]].initializer, p->concept[p->object[other]].initializer)) return other;
    }
    return i;
}

/* Ways to two objects in one picture. Descriptions in the place of the words: what the model does with two objects that
 * it was told of. */
enum { APART, TOGETHER, DESCRIBED, WAYS };

/* Object i next to its partner, against the pictures of all objects. */
static int side_by_side(paper *p, int i, int way, int *samples) {
    paper_range sets[PAPER_CONCEPTS];
    int a = p->object[i], b = p->object[partner(p, i)];
    const paper_setup *s = way == DESCRIBED ? &paper_setups[SETUP_CAPTION] : one();
    paper_word words[2];
    if (way == TOGETHER) paper_learn_together(p, s, a, b, words);
    else words[0] = paper_learn(p, s, a), words[1] = paper_learn(p, s, b);
    for (int k = 0; k < p->nobjects; k++) sets[k] = paper_all(p, p->object[k]);
    *samples = paper_samples(p, "a photo of a {} next to a {}", words, 2, each(p));
    return paper_score(p, *samples, sets, p->nobjects, NULL, 0);
}

void plan_compositions(paper *p) {
    int samples;
    for (int i = 0; i < p->nobjects; i++) {
        if (p->nstyles) object_in_style(p, i, &samples);
        if (partner(p, i) == i) continue;
        for (int way = 0; way < WAYS; way++) side_by_side(p, i, way, &samples);
    }
}

/* How many of sets from .. from + n are nearer to picture q than set `which`. */
static int nearer(const paper_scores *s, int q, int from, int n, int which) {
    int count = 0;
    for (int k = from; k < from + n; k++) count += s->set[k * s->n + q] > s->set[which * s->n + q];
    return count;
}

/* Pictures that are nearest to the right style and to the right object. */
static int both_right(const paper *p, const paper_scores *s, int i) {
    int hits = 0;
    for (int q = 0; q < s->n; q++) {
        hits += nearer(s, q, 0, p->nstyles, i % p->nstyles) == 0 &&
                nearer(s, q, p->nstyles, p->nobjects, p->nstyles + i) == 0;
    }
    return hits;
}

/* Pictures that are nearest to the right two objects. */
static int both_there(const paper *p, const paper_scores *s, int i) {
    int hits = 0;
    for (int q = 0; q < s->n; q++) {
        hits += nearer(s, q, 0, p->nobjects, i) < 2 && nearer(s, q, 0, p->nobjects, partner(p, i)) < 2;
    }
    return hits;
}

static estimate share_or_nothing(int hits, int n) { return n ? stat_share(hits, n) : (estimate){0.0, 0.0, 1.0, 0}; }

void compositions_measure(paper *p, compositions *out) {
    int samples, styled = 0, of = 0, hits[WAYS] = {0}, n[WAYS] = {0};
    for (int i = 0; i < p->nobjects; i++) {
        if (p->nstyles) {
            const paper_scores *s = paper_result(p, object_in_style(p, i, &samples));
            styled += both_right(p, s, i), of += s->n;
        }
        for (int way = 0; way < WAYS && partner(p, i) != i; way++) {
            const paper_scores *s = paper_result(p, side_by_side(p, i, way, &samples));
            hits[way] += both_there(p, s, i), n[way] += s->n;
        }
    }
    *out = (compositions){share_or_nothing(styled, of), share_or_nothing(hits[APART], n[APART]),
                          share_or_nothing(hits[TOGETHER], n[TOGETHER]),
                          share_or_nothing(hits[DESCRIBED], n[DESCRIBED])};
}

void show_compositions(paper *p, doc *d) {
    static const char *const columns[1] = {"share of samples that show both"};
    compositions c;
    int samples;
    compositions_measure(p, &c);
    doc_say(d,
            "Judged by CLIP against the pictures of all %d objects and %d styles of this run. An object in a style: "
            "its own object and its own style are the nearest. Two objects: they are the nearest two.",
            p->nobjects, p->nstyles);
    doc_table(d, "sentence", columns, 1);
    doc_row(d, "object in style", &c.in_style), doc_row(d, "two learned objects side by side", &c.apart);
    doc_row(d, "the same, learned together (train --compose)", &c.together);
    doc_row(d, "the same, described by long captions", &c.described);
    doc_table_end(d);
    doc_strip(d, "Learned objects in learned styles", "A row a pair; the first two are a picture of each.", 8);
    for (int i = 0; i < p->nobjects && p->nstyles && i < 4; i++) {
        object_in_style(p, i, &samples);
        doc_pictures(d, (paper_range){p->object[i], 0, 1}, p->concept[p->object[i]].token);
        doc_pictures(d, (paper_range){p->style[i % p->nstyles], 0, 1}, p->concept[p->style[i % p->nstyles]].token);
        doc_samples(d, samples, 0, 6, NULL);
    }
    doc_strip_end(d);
    for (int way = 0; way < WAYS; way++) {
        static const char *const title[WAYS] = {"Two learned objects side by side", "The same, learned together",
                                                "The same, described by long captions"};
        doc_strip(d, title[way], "A row a pair; the first two are a picture of each.", 8);
        for (int i = 0; i < p->nobjects && i < 4; i++) {
            if (partner(p, i) == i) continue;
            side_by_side(p, i, way, &samples);
            doc_pictures(d, (paper_range){p->object[i], 0, 1}, p->concept[p->object[i]].token);
            doc_pictures(d, (paper_range){p->object[partner(p, i)], 0, 1}, p->concept[p->object[partner(p, i)]].token);
            doc_samples(d, samples, 0, 6, NULL);
        }
        doc_strip_end(d);
    }
}

/* ---- 4.5: bias ---- */

static const char *const colours[] = {"red",    "orange", "yellow", "green", "blue",
                                      "purple", "pink",   "white",  "black", "brown"};
enum {
    COLOURS = sizeof colours / sizeof *colours,
    CROWD = 3
}; /* CROWD: times as many pictures as of other sentences */

static int chefs(paper *p, bool learned, int *samples) {
    int concept = paper_concept_named(p, "chefs");
    const char *caption[COLOURS];
    paper_word w = learned ? paper_learn(p, one(), concept) : (paper_word){-1, "chef"};
    for (int i = 0; i < COLOURS; i++) caption[i] = paper_text(p, "a photo of a %s chef", colours[i]);
    *samples = paper_samples(p, EVAL_PLAIN, &w, 1, CROWD * p->size.samples);
    return paper_score(p, *samples, NULL, 0, caption, COLOURS);
}

void plan_bias(paper *p) {
    int samples;
    if (paper_concept_named(p, "chefs") >= 0) chefs(p, false, &samples), chefs(p, true, &samples);
}

void bias_measure(paper *p, estimate *before, estimate *after) {
    int samples;
    const paper_scores *s = paper_result(p, chefs(p, false, &samples));
    *before = stat_share(measure_hits(s, 0, COLOURS, 0), s->n);
    s = paper_result(p, chefs(p, true, &samples));
    *after = stat_share(measure_hits(s, 0, COLOURS, 0), s->n);
}

void show_bias(paper *p, doc *d) {
    static const char *const columns[2] = {"\"a photo of a chef\"", "the learned word"};
    static const char *const titles[2] = {"\"a photo of a chef\"", "\"a photo of a <chefs>\""};
    int samples[2];
    if (paper_concept_named(p, "chefs") < 0) return;
    const paper_scores *s[2] = {paper_result(p, chefs(p, false, &samples[0])),
                                paper_result(p, chefs(p, true, &samples[1]))};
    doc_say(d,
            "97 of 100 chefs that the model was trained with are red. The word was learned from %d chefs of as many "
            "colours. The colour is what CLIP finds nearest among \"a photo of a COLOUR chef\".",
            p->concept[paper_concept_named(p, "chefs")].pics.n);
    doc_table(d, "colour", columns, 2);
    for (int i = 0; i < COLOURS; i++) {
        estimate e[2] = {stat_share(measure_hits(s[0], 0, COLOURS, i), s[0]->n),
                         stat_share(measure_hits(s[1], 0, COLOURS, i), s[1]->n)};
        doc_row(d, colours[i], e);
    }
    doc_table_end(d);
    doc_strip(d, "The pictures of the word", NULL, 8);
    doc_pictures(d, paper_all(p, paper_concept_named(p, "chefs")), NULL);
    doc_strip_end(d);
    for (int i = 0; i < 2; i++) {
        doc_strip(d, titles[i], "Uncurated.", 12);
        doc_samples(d, samples[i], 0, 24, NULL);
        doc_strip_end(d);
    }
}
