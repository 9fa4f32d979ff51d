/* A word tuned in CLIP's space and carried over to the model (PALAVRA's second stage, tools/clip_word.h): a unit like
 * any word. */
#include "tools/paper/word.h"

#include "tools/clip_word.h"
#include <stdlib.h>

/* The settings of `oneword clip-word`. */
enum { STEPS = 40 };
static const double RATE = 0.01, TEMPERATURE = 0.25;
static const char *const sentence = "a photo of a {}";

typedef struct clip_word_spec {
    paper_range range;
} clip_word_spec;

static int tune(paper *p, const clip_word_spec *s, const nn_image *images, float *v, float *carried, tn_err *err) {
    clip_word_request r = {p->concept[s->range.concept].initializer, &sentence, 1, images, s->range.n};
    nn_clip_word f = {.steps = STEPS, .lr = RATE, .temperature = TEMPERATURE};
    nn_word_map map;
    if (clip_word_learn(&p->c, &p->judge, &r, &f, v, err) ||
        clip_word_carry(&p->c, &p->judge, p->model, v, carried, &map, err))
        return -1;
    nn_word_map_free(&map);
    return 0;
}

static int make(paper *p, const unit *u, const char *path, tn_err *err) {
    const clip_word_spec *s = u->spec;
    int64_t width = p->model->text->cfg.t.width;
    nn_image *images = malloc((size_t)s->range.n * sizeof *images); /* the structs alone */
    float *v = malloc((size_t)(p->judge.clip->text.cfg.t.width + width) * sizeof *v),
          *carried = v + p->judge.clip->text.cfg.t.width;
    int r = images && v ? 0 : tn_fail(err, TN_ENOMEM, "out of memory");
    for (int i = 0; !r && i < s->range.n; i++) images[i] = *paper_picture(p, s->range.concept, s->range.first + i);
    if (!r) r = tune(p, s, images, v, carried, err);
    if (!r) r = word_write(path, p->concept[s->range.concept].token, carried, 1, width, STEPS, err);
    free(images), free(v);
    return r;
}

static const unit_kind clip_word_kind = {"clip-word", ".safetensors", make, NULL};

int clip_word_unit(paper *p, int concept) {
    clip_word_spec s = {paper_all(p, concept)};
    tn_jw w;
    char hash[65];
    unit_recipe(p, &w, &clip_word_kind);
    paper_hash(p, s.range, hash);
    tn_jw_string(&w, "clip", p->clip_sha), tn_jw_string(&w, "pictures_sha256", hash);
    tn_jw_string(&w, "placeholder", p->concept[concept].token),
        tn_jw_string(&w, "coarse", p->concept[concept].initializer);
    tn_jw_string(&w, "sentence", sentence), tn_jw_int(&w, "steps", STEPS), tn_jw_number(&w, "rate", RATE);
    tn_jw_number(&w, "temperature", TEMPERATURE);
    return unit_add(p, &w, &clip_word_kind, &s, sizeof s, NULL, 0, STEPS / 4, 0);
}
