/* Section 2: what the paper compares itself with, in the smallest form that is faithful. */
#include "tools/paper/methods.h"
#include "tools/paper/sections.h"

#include <math.h>

enum { FEW = 3, FACTORS = 3 };
static const double factors[FACTORS] = {2, 4, 8};

static int few(const paper *p) { return p->nobjects < FEW ? p->nobjects : FEW; }
static int64_t n_of(const paper *p, int64_t n) { return p->size.samples < n ? p->size.samples : n; }

/* ---- inversion of a generator ---- */

/* PSNR of an object's first pictures through the autoencoder, or with their latents optimised. */
static int inverted(paper *p, const paper_method *method, int concept, int *samples) {
    static const char *const none = "";
    paper_range all = paper_all(p, concept);
    *samples = paper_make_samples(
        p, &(paper_request){.sentence = &none,
                            .nsentences = 1,
                            .n = n_of(p, 2),
                            .method = method,
                            .source = all,
                            .param = {method == &method_latent_fit ? 3.0 * (double)p->size.steps : 0.0}});
    return paper_psnr(p, *samples, all);
}

static estimate psnr(paper *p, const paper_method *method) {
    double x[FEW];
    int samples;
    for (int i = 0; i < few(p); i++)
        x[i] = measure_set(paper_result(p, inverted(p, method, p->object[i], &samples)), 0);
    return stat_mean(x, few(p));
}

static void show_inversion(paper *p, doc *d) {
    static const char *const columns[1] = {"PSNR (dB)"};
    estimate e;
    int samples;
    doc_say(d,
            "Inversion of a generator, which the method's name comes from: the latent whose decoding is nearest to a "
            "picture, from the encoder, and optimised from there by Adam (%lld steps). It gives the picture back, and "
            "nothing that a sentence could use.",
            3 * (long long)p->size.steps);
    doc_table(d, "latent", columns, 1);
    e = psnr(p, &method_encoder), doc_row(d, "of the encoder", &e);
    e = psnr(p, &method_latent_fit), doc_row(d, "optimised", &e);
    doc_table_end(d);
    doc_strip(d, "Pictures, through the autoencoder, and optimised", NULL, 6);
    for (int i = 0; i < few(p); i++) {
        doc_pictures(d, (paper_range){p->object[i], 0, (int)n_of(p, 2)}, "picture");
        inverted(p, &method_encoder, p->object[i], &samples), doc_samples(d, samples, 0, 2, "autoencoder");
        inverted(p, &method_latent_fit, p->object[i], &samples), doc_samples(d, samples, 0, 2, "optimised");
    }
    doc_strip_end(d);
}

/* ---- ILVR ---- */

static const char *const ilvr_sentences[] = {"a photo of a {}", "a pencil sketch of a {}"};

/* The coarse word with the low band of the object's pictures: likeness of the first sentence's, the second's obedience.
 */
static int low_band(paper *p, double factor, int concept, int *samples, int *sketch_score) {
    paper_word w = paper_learn(p, &paper_setups[SETUP_INITIALIZER], concept);
    paper_range all = paper_all(p, concept);
    int n = (int)n_of(p, 4);
    *samples = paper_make_samples(p, &(paper_request){.sentence = ilvr_sentences,
                                                      .nsentences = 2,
                                                      .words = &w,
                                                      .nwords = 1,
                                                      .n = n,
                                                      .method = &method_ilvr,
                                                      .param = {factor},
                                                      .source = all});
    *sketch_score = paper_score_some(p, *samples, n, n, NULL, 0, &ilvr_sentences[1], 1);
    return paper_score_some(p, *samples, 0, n, &all, 1, NULL, 0);
}

static void show_low_band(paper *p, doc *d) {
    static const char *const columns[2] = {"likeness to the pictures", "\"a pencil sketch of a ...\""};
    static const char *const labels[FACTORS] = {"low band of 8 x 8", "of 4 x 4", "of 2 x 2"};
    double likeness[PAPER_CONCEPTS], sketch[PAPER_CONCEPTS];
    int samples, score;
    doc_say(d, "Low-pass conditioning (ILVR): the coarse word, with the low band of a picture's latent of 16 x 16 "
               "put in at every step. The more of the picture is kept, the less room is left for the sentence; and "
               "what is kept is its layout, not the object.");
    doc_table(d, "kept", columns, 2);
    for (int k = 0; k < FACTORS; k++) {
        for (int i = 0; i < p->nobjects; i++) {
            likeness[i] = measure_set(paper_result(p, low_band(p, factors[k], p->object[i], &samples, &score)), 0);
            sketch[i] = measure_text(paper_result(p, score), 0);
        }
        estimate e[2] = {stat_mean(likeness, p->nobjects), stat_mean(sketch, p->nobjects)};
        doc_row(d, labels[k], e);
    }
    doc_table_end(d);
    doc_strip(d, "A picture, then a photo and a sketch with ever less of its low band", NULL, 1 + 2 * FACTORS);
    for (int i = 0; i < few(p); i++) {
        doc_pictures(d, (paper_range){p->object[i], 0, 1}, "picture");
        for (int k = 0; k < FACTORS; k++) {
            low_band(p, factors[k], p->object[i], &samples, &score);
            doc_samples(d, samples, 0, 1, labels[k]), doc_samples(d, samples, (int)n_of(p, 4), 1, "sketch");
        }
    }
    doc_strip_end(d);
}

/* ---- between words ---- */

enum { FRAMES = 8 };

static int morph(paper *p, int i) {
    static const char *const sentence = "a photo of a {}";
    paper_word w[2] = {paper_learn(p, &paper_setups[SETUP_ONE], p->object[i]),
                       paper_learn(p, &paper_setups[SETUP_ONE], p->object[i + 1])};
    return paper_make_samples(
        p,
        &(paper_request){
            .sentence = &sentence, .nsentences = 1, .words = w, .nwords = 2, .n = FRAMES, .method = &method_between});
}

static void show_morphs(paper *p, doc *d) {
    doc_say(d, "Words lie in a space with something in between: spherical interpolation of two learned vectors, the "
               "noise being the same.");
    doc_strip(d, "From one word to the next", NULL, FRAMES);
    for (int i = 0; i + 1 < p->nobjects && i < FEW; i++)
        doc_samples(d, morph(p, i), 0, FRAMES, p->concept[p->object[i]].token);
    doc_strip_end(d);
}

/* ---- the section ---- */

void plan_related(paper *p) {
    int samples, score;
    for (int i = 0; i < few(p); i++) {
        inverted(p, &method_encoder, p->object[i], &samples), inverted(p, &method_latent_fit, p->object[i], &samples);
    }
    for (int i = 0; i < p->nobjects; i++) {
        for (int k = 0; k < FACTORS; k++) low_band(p, factors[k], p->object[i], &samples, &score);
    }
    for (int i = 0; i + 1 < p->nobjects && i < FEW; i++) morph(p, i);
}

void show_related(paper *p, doc *d) {
    show_inversion(p, d);
    show_low_band(p, d);
    show_morphs(p, d);
}
