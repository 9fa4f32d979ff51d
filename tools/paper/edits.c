/* Section 4.6: a learned word in a tool that knows nothing of it, Blended latent diffusion. */
#include "tools/paper/methods.h"
#include "tools/paper/sections.h"

#include <math.h>

static const double MARGIN = 0.15;
enum { EDITS = 4, SHRINK = 2 };

static int64_t edits(const paper *p) { return p->size.samples < EDITS ? p->size.samples : EDITS; }

/* The pictures of the next object, whose middle becomes object i; scored against both objects' pictures. */
static int blended(paper *p, int i, paper_range *source, int *samples) {
    static const char *const sentence = EVAL_PLAIN;
    int other = p->object[(i + 1) % p->nobjects];
    paper_word w = paper_learn(p, &paper_setups[SETUP_ONE], p->object[i]);
    paper_range sets[2] = {paper_all(p, p->object[i]), paper_all(p, other)};
    *source = sets[1];
    *samples = paper_make_samples(p, &(paper_request){.sentence = &sentence,
                                                      .nsentences = 1,
                                                      .words = &w,
                                                      .nwords = 1,
                                                      .n = edits(p),
                                                      .method = &method_blend,
                                                      .param = {MARGIN, p->size.steps > SHRINK ? SHRINK : 0},
                                                      .source = sets[1]});
    return paper_score(p, *samples, sets, 2, NULL, 0);
}

void plan_blending(paper *p) {
    int samples;
    for (int i = 0; i < p->nobjects; i++) {
        paper_range source, own = paper_all(p, p->object[i]);
        blended(p, i, &source, &samples);
        paper_score_pictures(p, source, &own, 1, NULL, 0);
    }
}

void show_blending(paper *p, doc *d) {
    static const char *const columns[2] = {"likeness to the learned object", "likeness to the picture's own"};
    double to[PAPER_CONCEPTS], from[PAPER_CONCEPTS], before[PAPER_CONCEPTS], same[PAPER_CONCEPTS];
    int samples;
    for (int i = 0; i < p->nobjects; i++) {
        paper_range source, own = paper_all(p, p->object[i]);
        const paper_scores *s = paper_result(p, blended(p, i, &source, &samples));
        to[i] = measure_set(s, 0), from[i] = measure_set(s, 1);
        before[i] = measure_set(paper_result(p, paper_score_pictures(p, source, &own, 1, NULL, 0)), 0);
        same[i] = NAN;
    }
    doc_say(d,
            "The middle of another object's pictures becomes \"a photo of a WORD\"; the outer %.0f %% of each side "
            "stay, to the pixel. The mask shrinks %d times. The model and the word are those of the other sections.",
            100.0 * MARGIN, SHRINK);
    estimate after[2] = {stat_mean(to, p->nobjects), stat_mean(from, p->nobjects)},
             start[2] = {stat_mean(before, p->nobjects), {.value = same[0]}};
    doc_table(d, "pictures", columns, 2);
    doc_row(d, "before", start), doc_row(d, "edited", after);
    doc_table_end(d);
    doc_strip(d, "Pictures of one object, edited into another", "Pairs of rows: the pictures, then the edits.", EDITS);
    for (int i = 0; i < p->nobjects && i < 4; i++) {
        paper_range source;
        blended(p, i, &source, &samples);
        for (int k = 0; k < (int)edits(p); k++) {
            doc_pictures(d, (paper_range){source.concept, source.first + k % source.n, 1},
                         k ? NULL : p->concept[source.concept].token);
        }
        doc_samples(d, samples, 0, (int)edits(p), p->concept[p->object[i]].token);
    }
    doc_strip_end(d);
}
