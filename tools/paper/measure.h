/* Numbers that several sections share: reconstruction and editability of a setup, object by object. */
#ifndef TOOLS_PAPER_MEASURE_H
#define TOOLS_PAPER_MEASURE_H

#include "tools/paper/paper.h"

/* One number for each object of the run. Differences between setups are taken object by object: what counts as an
 * observation, in every interval, is an object, for which a word was learned once and judged on the same noises. */
typedef struct series {
    int n;
    double reconstruction[PAPER_CONCEPTS]; /* mean cosine of all pairs of samples and the concept's pictures */
    double editability[PAPER_CONCEPTS];    /* the paper's text: cosine of the mean picture, over the sentences */
    double by_code[PAPER_CONCEPTS];        /* the published code: mean of cosines */
} series;

/* Units of one word of one object: samples of EVAL_PLAIN and of each sentence of eval_prompts, and their scores. */
typedef struct setup_units {
    int plain, plain_score;
    int edit[EVAL_PROMPTS], edit_score[EVAL_PROMPTS];
} setup_units;
setup_units measure_units(paper *p, const paper_setup *s, int concept);
/* Means over its sentences, by the published code's definition and by the paper's text; when the results are there. */
void measure_edits(const paper *p, const setup_units *u, double *by_code, double *by_text);
void measure_plan(paper *p, const paper_setup *s);               /* for all objects */
void measure_setup(paper *p, const paper_setup *s, series *out); /* when the results are there */

/* The references: the concept's pictures as samples, of themselves. */
void measure_pictures_plan(paper *p);
void measure_pictures(paper *p, series *out);

/* The mean of row i of scores. */
double measure_set(const paper_scores *s, int set);
double measure_text(const paper_scores *s, int text);
/* How many of the pictures have text `right` as the nearest of texts from .. from + n. */
int measure_hits(const paper_scores *s, int from, int n, int right);

#endif
