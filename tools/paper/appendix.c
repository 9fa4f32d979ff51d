/* Appendix A: pictures inverted to noise, and made again otherwise; the model tuned around a word. */
#include "tools/paper/methods.h"
#include "tools/paper/sections.h"

enum { GUIDANCES = 4, STEP_COUNTS = 3, PICTURES = 2, FEW = 4, TUNED = 3 };
static const double guidances[GUIDANCES] = {1.0, 2.0, 4.0, 7.5};
static const char *const plain = "a photo of a {}", *const changed = "a pencil sketch of a {}";
static const char *const tuned_sentences[TUNED] = {"a photo of a {}", "a photo of a {} on the beach",
                                                   "a pencil sketch of a {}"};

static int few(const paper *p) { return p->nobjects < FEW ? p->nobjects : FEW; }
static int64_t steps_of(const paper *p, int k) {
    return k == 0 ? (p->size.steps + 1) / 2 + 1 : k == 1 ? p->size.steps + 1 : 2 * p->size.steps;
}

/* Pictures of an object inverted with "a photo of S*" and made again with the goal, both at a guidance. */
static int there_and_back(paper *p, int concept, double guidance, int64_t steps, const char *goal) {
    paper_word w[1] = {paper_learn(p, &paper_setups[SETUP_ONE], concept)};
    return paper_make_samples(p, &(paper_request){.sentence = &plain,
                                                  .nsentences = 1,
                                                  .words = w,
                                                  .nwords = 1,
                                                  .n = PICTURES,
                                                  .guidance = guidance,
                                                  .steps = steps,
                                                  .method = &method_inverted,
                                                  .param = {guidance},
                                                  .goal = goal,
                                                  .source = paper_all(p, concept)});
}

static int round_trip(paper *p, int concept, double guidance, int k) {
    return paper_psnr(p, there_and_back(p, concept, guidance, steps_of(p, k), plain), paper_all(p, concept));
}

/* Its changed pictures: are they still like the picture (PSNR), and do they follow the sentence? */
static int changed_score(paper *p, int concept, double guidance) {
    return paper_score(p, there_and_back(p, concept, guidance, steps_of(p, 1), changed), NULL, 0, &changed, 1);
}
static int changed_psnr(paper *p, int concept, double guidance) {
    return paper_psnr(p, there_and_back(p, concept, guidance, steps_of(p, 1), changed), paper_all(p, concept));
}

static int encoder_psnr(paper *p, int concept) {
    static const char *const none = "";
    paper_range all = paper_all(p, concept);
    return paper_psnr(p,
                      paper_make_samples(p, &(paper_request){.sentence = &none,
                                                             .nsentences = 1,
                                                             .n = PICTURES,
                                                             .method = &method_encoder,
                                                             .source = all}),
                      all);
}

/* Three sentences with the model tuned around the word. */
static int tuned(paper *p, int concept) {
    paper_word w = paper_learn(p, &paper_setups[SETUP_ONE], concept);
    double steps = (double)(p->size.train_steps / 4 > 0 ? p->size.train_steps / 4 : 1);
    return paper_make_samples(p, &(paper_request){.sentence = tuned_sentences,
                                                  .nsentences = TUNED,
                                                  .words = &w,
                                                  .nwords = 1,
                                                  .n = p->size.edit_samples * 2,
                                                  .method = &method_tuned,
                                                  .param = {steps, 1e-5},
                                                  .source = paper_all(p, concept)});
}

/* The same without tuning. */
static int untuned(paper *p, int concept) {
    paper_word w = paper_learn(p, &paper_setups[SETUP_ONE], concept);
    return paper_make_samples(
        p,
        &(paper_request){
            .sentence = tuned_sentences, .nsentences = TUNED, .words = &w, .nwords = 1, .n = p->size.edit_samples * 2});
}

/* Of sentence k: likeness to the pictures, cosine to the sentence. */
static int part(paper *p, int samples, int concept, int k) {
    int n = (int)p->size.edit_samples * 2;
    paper_range all = paper_all(p, concept);
    return paper_score_some(p, samples, k * n, n, &all, 1, &tuned_sentences[k], 1);
}

void plan_appendix(paper *p) {
    for (int i = 0; i < few(p); i++) {
        int c = p->object[i];
        encoder_psnr(p, c);
        for (int g = 0; g < GUIDANCES; g++) {
            for (int k = 0; k < STEP_COUNTS; k++) round_trip(p, c, guidances[g], k);
            changed_score(p, c, guidances[g]), changed_psnr(p, c, guidances[g]);
        }
        for (int k = 0; k < TUNED; k++) part(p, tuned(p, c), c, k), part(p, untuned(p, c), c, k);
    }
}

/* ---- inversion ---- */

static estimate over(paper *p, int (*ask)(paper *, int, double, int), double guidance, int k) {
    double x[FEW];
    for (int i = 0; i < few(p); i++) x[i] = measure_set(paper_result(p, ask(p, p->object[i], guidance, k)), 0);
    return stat_mean(x, few(p));
}

void inversion_measure(paper *p, series *at_one, series *guided) {
    *at_one = (series){.n = few(p)}, *guided = (series){.n = few(p)};
    for (int i = 0; i < few(p); i++) {
        at_one->reconstruction[i] =
            measure_set(paper_result(p, round_trip(p, p->object[i], guidances[0], STEP_COUNTS - 1)), 0);
        for (int g = 2; g < GUIDANCES; g++) {
            guided->reconstruction[i] +=
                measure_set(paper_result(p, round_trip(p, p->object[i], guidances[g], STEP_COUNTS - 1)), 0) /
                (GUIDANCES - 2);
        }
    }
}

static void show_round_trips(paper *p, doc *d) {
    const char *columns[STEP_COUNTS];
    chart_point point[STEP_COUNTS * GUIDANCES];
    for (int k = 0; k < STEP_COUNTS; k++) columns[k] = paper_text(p, "%lld steps, dB", (long long)steps_of(p, k));
    double x[FEW];
    for (int i = 0; i < few(p); i++) x[i] = measure_set(paper_result(p, encoder_psnr(p, p->object[i])), 0);
    estimate best = stat_mean(x, few(p));
    doc_say(d,
            "A picture's latent is inverted by DDIM with \"a photo of S*\" and made again with the same sentence and "
            "guidance. The autoencoder alone gives %.1f dB: nothing can be better.",
            best.value);
    doc_table(d, "guidance", columns, STEP_COUNTS);
    for (int g = 0; g < GUIDANCES; g++) {
        estimate e[STEP_COUNTS];
        for (int k = 0; k < STEP_COUNTS; k++) {
            double s = (double)steps_of(p, k);
            e[k] = over(p, round_trip, guidances[g], k);
            point[g * STEP_COUNTS + k] =
                (chart_point){paper_text(p, "guidance %g", guidances[g]), {.value = s, .lo = s, .hi = s}, e[k], g};
        }
        doc_row(d, paper_text(p, "%g", guidances[g]), e);
    }
    doc_table_end(d);
    size_t from = d->html.n;
    chart_lines(&d->html, point, STEP_COUNTS * GUIDANCES, "steps", "PSNR of the picture, dB");
    doc_figure(d, from);
}

static void show_bipartite(paper *p, doc *d) {
    static const char *const columns[2] = {"PSNR to the picture (dB)", "cosine to the changed sentence"};
    doc_say(d, "Bipartite editing: the noise is kept and the sentence becomes \"a pencil sketch of S*\". A high "
               "guidance loses the picture, a low one ignores the sentence.");
    doc_table(d, "guidance", columns, 2);
    for (int g = 0; g < GUIDANCES; g++) {
        double kept[FEW], follows[FEW];
        for (int i = 0; i < few(p); i++) {
            kept[i] = measure_set(paper_result(p, changed_psnr(p, p->object[i], guidances[g])), 0);
            follows[i] = measure_text(paper_result(p, changed_score(p, p->object[i], guidances[g])), 0);
        }
        estimate e[2] = {stat_mean(kept, few(p)), stat_mean(follows, few(p))};
        doc_row(d, paper_text(p, "%g", guidances[g]), e);
    }
    doc_table_end(d);
    doc_strip(d, "A picture; made again; made a sketch, for each guidance", "Guidance 1, 2, 4 and 7.5, in pairs.",
              1 + 2 * GUIDANCES);
    for (int i = 0; i < few(p); i++) {
        doc_pictures(d, (paper_range){p->object[i], 0, 1}, "picture");
        for (int g = 0; g < GUIDANCES; g++) {
            doc_samples(d, there_and_back(p, p->object[i], guidances[g], steps_of(p, 1), plain), 0, 1,
                        paper_text(p, "%g: again", guidances[g]));
            doc_samples(d, there_and_back(p, p->object[i], guidances[g], steps_of(p, 1), changed), 0, 1,
                        paper_text(p, "%g: a sketch", guidances[g]));
        }
    }
    doc_strip_end(d);
}

/* ---- pivotal tuning ---- */

static void show_tuning(paper *p, doc *d) {
    static const char *const columns[2] = {"likeness to the pictures", "cosine to the sentence"};
    int n = (int)p->size.edit_samples * 2;
    doc_say(d, "Pivotal tuning: the word is fixed, and text encoder and UNet learn around it at a rate of 1e-5 for a "
               "quarter of the word's steps.");
    doc_table(d, "model, sentence", columns, 2);
    for (int k = 0; k < TUNED; k++) {
        for (int t = 0; t < 2; t++) {
            double like[FEW], follows[FEW];
            for (int i = 0; i < few(p); i++) {
                int c = p->object[i];
                const paper_scores *s = paper_result(p, part(p, t ? tuned(p, c) : untuned(p, c), c, k));
                like[i] = measure_set(s, 0), follows[i] = measure_text(s, 0);
            }
            estimate e[2] = {stat_mean(like, few(p)), stat_mean(follows, few(p))};
            doc_row(d, paper_text(p, "%s, \"%s\"", t ? "tuned" : "as it is", tuned_sentences[k]), e);
        }
    }
    doc_table_end(d);
    doc_strip(d, "A picture; the word in the model as it is, and in the tuned one, for three sentences", NULL,
              1 + 2 * TUNED);
    for (int i = 0; i < few(p); i++) {
        int c = p->object[i];
        doc_pictures(d, (paper_range){c, 0, 1}, "picture");
        for (int k = 0; k < TUNED; k++)
            doc_samples(d, untuned(p, c), k * n, 1, "as it is"), doc_samples(d, tuned(p, c), k * n, 1, "tuned");
    }
    doc_strip_end(d);
}

void show_appendix(paper *p, doc *d) {
    show_round_trips(p, d);
    show_bipartite(p, d);
    show_tuning(p, d);
}
