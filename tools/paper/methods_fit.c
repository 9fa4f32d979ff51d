/* Methods that find something first: gradients of CLIP, the noise of a picture, weights around a word (nn/fit,
 * nn/tune.h). */
#include "tools/paper/methods.h"

#include "nn/fit/latent_fit.h"
#include "nn/tune.h"
#include "tools/interpolate.h"
#include "tools/invert.h"
#include <stdlib.h>
#include <string.h>

/* What CLIP makes of the goal. */
static int read_goal(paper *p, const samples_spec *s, float **target, tn_err *err) {
    *target = malloc((size_t)p->judge.width * sizeof **target);
    if (!*target) return tn_fail(err, TN_ENOMEM, "out of memory");
    return clip_read(&p->c, &p->judge, s->goal, *target, NULL, err);
}

/* ---- towards a sentence, by CLIP ---- */

/* Picture k: guided from noise, or from its source with as much noise as the strength says. */
static int guide_one(paper *p, const samples_spec *s, const nn_clip_guidance *g, gen_request q, int64_t k,
                     nn_image *out, tn_err *err) {
    nn_edit edit = {0};
    nn_edit_config cfg = {.steps = s->r.steps, .first = nn_edit_first(s->r.steps, s->r.param[2])};
    bool begins = s->r.source.n > 0 && s->r.param[2] < 1.0;
    int r = 0;
    if (begins) {
        r = nn_edit_open(p->model, &cfg, samples_source(p, s, k), NULL, &edit, err) ||
                    nn_edit_encode(&p->c, p->model, &edit, err)
                ? -1
                : 0;
        q.edit = &edit;
    }
    q.clip = g, q.seed += (uint64_t)k, q.count = 1;
    if (!r) r = gen_pictures(&p->c, p->model, &q, out, err);
    nn_edit_free(&edit);
    return r;
}

static int clip_guided(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out,
                       tn_err *err) {
    float *target = NULL;
    int r = read_goal(p, s, &target, err);
    nn_clip_guidance g = {
        .clip = p->judge.clip, .target = target, .scale = s->r.param[0], .cutouts = (int64_t)s->r.param[1]};
    for (int64_t k = 0; !r && k < s->r.n; k++)
        r = guide_one(p, s, &g, samples_request(p, s, 0, learned, rows), k, &out[k], err);
    free(target);
    return r;
}

static int latent_clip(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out,
                       tn_err *err) {
    float *target = NULL;
    nn_latent_fit f = {.steps = (int64_t)s->r.param[0], .lr = 0.1};
    int r = read_goal(p, s, &target, err);
    (void)learned, (void)rows;
    for (int64_t k = 0; !r && k < s->r.n; k++) {
        latents l = {0};
        tn_rng g;
        tn_rng_seed(&g, (uint64_t)(p->size.seed + k));
        r = latents_encode(&p->c, p->model->vae, samples_source(p, s, k), &l, err);
        if (!r)
            r = nn_latent_fit_clip(&p->c, p->model->vae, p->judge.clip, &f, target, (int64_t)s->r.param[1], &g, l.z,
                                   l.h, l.w, err);
        if (!r) r = latents_decode(&p->c, p->model->vae, &l, 0, &out[k], err);
        latents_free(&l);
    }
    free(target);
    return r;
}

/* Costs are shares of what they took on the bundled model: a gradient through decoder and image tower is some two
 * steps. */
const paper_method method_clip_guided = {"clip-guided diffusion", {"scale", "cutouts", "strength"}, 4.0, clip_guided};
const paper_method method_latent_clip = {"latent by clip", {"steps", "cutouts"}, 8.0, latent_clip};

/* ---- there and back ---- */

static int invert_one(paper *p, const samples_spec *s, const float *learned, int64_t rows, int64_t k, nn_image *out,
                      tn_err *err) {
    latents of = {0}, noise = {0};
    inv_request there = {.prompt = s->prompt[0],
                         .learned = learned,
                         .rows = rows,
                         .steps = s->r.steps,
                         .guidance = s->r.param[0],
                         .rule = NN_INVERT_OFFICIAL,
                         .rules = NN_RULES_HF};
    gen_request back = samples_request(p, s, 0, learned, rows);
    int r = latents_encode(&p->c, p->model->vae, samples_source(p, s, k), &of, err) ||
                    inv_noise(&p->c, p->model, &there, &of, &noise, err)
                ? -1
                : 0;
    back.prompt = s->goal, back.noise = noise.z, back.count = 1;
    if (!r) r = gen_pictures(&p->c, p->model, &back, out, err);
    latents_free(&of), latents_free(&noise);
    return r;
}

static int inverted(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out, tn_err *err) {
    for (int64_t k = 0; k < s->r.n; k++) {
        if (invert_one(p, s, learned, rows, k, &out[k], err)) return -1;
    }
    return 0;
}

const paper_method method_inverted = {"ddim inversion", {"inversion_guidance"}, 2.0, inverted};

/* ---- between words ---- */

static int between(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out, tn_err *err) {
    gen_request q = samples_request(p, s, 0, learned, rows);
    between_ends e = {.word = {learned, learned + p->model->text->cfg.t.width}, .row = 0, .n = 1};
    TN_REQUIRE(rows == 2);
    return between_pictures(&p->c, p->model, &q, &e, s->r.n, out, err);
}

const paper_method method_between = {"slerp of words", {NULL}, 1.0, between};

/* ---- around a word ---- */

/* Tunes, and samples with the weights that came out. */
static int tune_and_sample(paper *p, const samples_spec *s, nn_train *run, nn_image *out, tn_err *err) {
    nn_tune *t;
    nn_train_step step;
    if (nn_tune_open(run, &t, err)) return -1;
    int r = 0;
    for (int64_t i = 0; !r && i < (int64_t)s->r.param[0]; i++) r = nn_tune_advance(t, &p->c, &step, err);
    for (int i = 0; !r && i < s->r.nsentences; i++) {
        gen_request q = samples_request(p, s, i, nn_train_word(run)->v, nn_train_word(run)->rows);
        r = gen_pictures(&p->c, p->model, &q, out + i * s->r.n, err);
    }
    nn_tune_free(t);
    return r;
}

static int tuned(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out, tn_err *err) {
    const paper_concept *c = &p->concept[s->r.source.concept];
    nn_train_config cfg = {.placeholder = {s->token[0]},
                           .nplaceholders = 1,
                           .num_vectors = rows,
                           .initial = {learned},
                           .resolution = gen_native_size(p->model),
                           .rules = NN_RULES_HF,
                           .batch = 1,
                           .accumulate = 1,
                           .steps = (int64_t)s->r.param[0],
                           .lr = {.kind = NN_LR_CONSTANT, .base = s->r.param[1]},
                           .adam = {0.9, 0.999, 1e-8, 1e-2},
                           .seed = (uint64_t)p->size.seed};
    nn_train *run;
    nn_image *images = malloc((size_t)s->r.source.n * sizeof *images); /* the structs alone */
    if (!images) return tn_fail(err, TN_ENOMEM, "out of memory");
    for (int i = 0; i < s->r.source.n; i++) images[i] = *samples_source(p, s, i);
    nn_tokenizer_take_back(p->model->tokenizer, p->vocabulary); /* the run adds the word itself */
    const nn_templates *sentences = c->style ? &p->style_templates : &p->object_templates;
    int r = nn_train_open(&p->c, p->model, &cfg, sentences, images, s->r.source.n, NULL, NULL, &run, err);
    if (!r) {
        r = tune_and_sample(p, s, run, out, err);
        nn_train_free(run);
    }
    free(images);
    return r;
}

const paper_method method_tuned = {"pivotal tuning", {"steps", "rate"}, 1.5, tuned};
