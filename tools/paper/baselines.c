/* Section 4.2's baselines: the same sentences without a word, by CLIP's gradient on every picture. A word is learned
 * once; these optimise each picture anew, and CLIP, which guides them, is the judge too. */
#include "tools/paper/methods.h"
#include "tools/paper/sections.h"

enum { SENTENCES = 4, CUTOUTS = 4 };
static const double SCALE = 60.0, STRENGTH = 0.7;
static const int asked[SENTENCES] = {0, 1, 6, 7}; /* of eval_prompts: two scenes, two styles */

static int64_t each(const paper *p) { return p->size.edit_samples < 2 ? p->size.edit_samples : 2; }

typedef enum { GUIDED, LATENT, WAYS } way;

/* Pictures of sentence k for an object, which begin with the object's own, scored against these and against the
 * sentence. */
static int without_word(paper *p, way by, int concept, int k, int *samples) {
    static const char *const nothing = "";
    paper_range all = paper_all(p, concept);
    const char *sentence = eval_prompts[asked[k]].text;
    paper_word coarse = paper_learn(p, &paper_setups[SETUP_INITIALIZER], concept);
    paper_request guided = {.sentence = &nothing,
                            .nsentences = 1,
                            .words = &coarse,
                            .nwords = 1,
                            .n = each(p),
                            .guidance = 1.0,
                            .method = &method_clip_guided,
                            .param = {SCALE, CUTOUTS, STRENGTH},
                            .goal = sentence,
                            .source = all};
    paper_request latent = guided;
    latent.method = &method_latent_clip, latent.param[0] = 3.0 * (double)p->size.steps, latent.param[1] = CUTOUTS;
    *samples = paper_make_samples(p, by == GUIDED ? &guided : &latent);
    return paper_score(p, *samples, &all, 1, &sentence, 1);
}

/* The same sentences with the learned word. */
static int with_word(paper *p, int concept, int k, int *samples) {
    paper_range all = paper_all(p, concept);
    paper_word w = paper_learn(p, &paper_setups[SETUP_ONE], concept);
    *samples = paper_samples(p, eval_prompts[asked[k]].text, &w, 1, p->size.edit_samples);
    return paper_score(p, *samples, &all, 1, &eval_prompts[asked[k]].text, 1);
}

void plan_baselines(paper *p) {
    int samples;
    for (int i = 0; i < p->nobjects; i++) {
        for (int k = 0; k < SENTENCES; k++) {
            with_word(p, p->object[i], k, &samples);
            for (int by = 0; by < WAYS; by++) without_word(p, (way)by, p->object[i], k, &samples);
        }
    }
}

static void add(series *s, int i, const paper_scores *r) {
    s->reconstruction[i] += measure_set(r, 0) / SENTENCES, s->by_code[i] += measure_text(r, 0) / SENTENCES;
}

void baselines_measure(paper *p, baselines *out) {
    int samples;
    *out = (baselines){{.n = p->nobjects}, {.n = p->nobjects}, {.n = p->nobjects}};
    for (int i = 0; i < p->nobjects; i++) {
        for (int k = 0; k < SENTENCES; k++) {
            add(&out->word, i, paper_result(p, with_word(p, p->object[i], k, &samples)));
            add(&out->guided, i, paper_result(p, without_word(p, GUIDED, p->object[i], k, &samples)));
            add(&out->latent, i, paper_result(p, without_word(p, LATENT, p->object[i], k, &samples)));
        }
    }
}

void show_baselines(paper *p, doc *d) {
    static const char *const columns[2] = {"likeness to the pictures", "cosine to the sentence"};
    static const char *const labels[3] = {"learned word", "CLIP-guided diffusion from a picture",
                                          "latent by CLIP (VQGAN-CLIP)"};
    baselines b;
    int samples;
    baselines_measure(p, &b);
    const series *s[3] = {&b.word, &b.guided, &b.latent};
    doc_say(d,
            "Baselines that begin with a picture of the object and follow CLIP's gradient towards the sentence, with "
            "the coarse word for the object: diffusion from the picture at strength %.1f, and the picture's latent "
            "by Adam. CLIP is the judge of what it has guided: its own numbers flatter them, the pictures do not.",
            STRENGTH);
    doc_table(d, "way", columns, 2);
    for (int i = 0; i < 3; i++) {
        estimate e[2] = {stat_mean(s[i]->reconstruction, s[i]->n), stat_mean(s[i]->by_code, s[i]->n)};
        doc_row(d, labels[i], e);
    }
    doc_table_end(d);
    doc_strip(d, "A picture; then learned word, CLIP-guided diffusion and latent by CLIP, for four sentences", NULL,
              1 + SENTENCES);
    for (int i = 0; i < p->nobjects && i < 2; i++) {
        for (int row = 0; row < 3; row++) {
            doc_pictures(d, (paper_range){p->object[i], 0, 1},
                         row == 0   ? "learned word"
                         : row == 1 ? "CLIP-guided"
                                    : "latent by CLIP");
            for (int k = 0; k < SENTENCES; k++) {
                if (row == 0) with_word(p, p->object[i], k, &samples);
                else without_word(p, row == 1 ? GUIDED : LATENT, p->object[i], k, &samples);
                doc_samples(d, samples, 0, 1, eval_prompts[asked[k]].label);
            }
        }
    }
    doc_strip_end(d);
}
