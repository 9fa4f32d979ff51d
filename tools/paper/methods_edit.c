/* Methods that begin with a picture: nn/edit, and the autoencoder alone. */
#include "tools/paper/methods.h"

#include "nn/fit/latent_fit.h"
#include "nn/image/preprocess.h"
#include "tools/latents.h"
#include <stdlib.h>
#include <string.h>

const nn_image *samples_source(const paper *p, const samples_spec *s, int64_t i) {
    return paper_picture(p, s->r.source.concept, s->r.source.first + (int)(i % s->r.source.n));
}

/* ---- with nn/edit ---- */

/* One picture of sentence `i`, with the noise of the request's seed + k. */
static int edit_one(paper *p, const samples_spec *s, const nn_edit_config *cfg, const nn_image *mask, gen_request q,
                    int64_t k, nn_image *out, tn_err *err) {
    nn_edit edit = {0};
    int r = nn_edit_open(p->model, cfg, samples_source(p, s, k), mask, &edit, err) ||
                    nn_edit_encode(&p->c, p->model, &edit, err)
                ? -1
                : 0;
    q.edit = &edit, q.seed += (uint64_t)k, q.count = 1;
    if (!r) r = gen_pictures(&p->c, p->model, &q, out, err);
    nn_edit_free(&edit);
    return r;
}

static int edit_all(paper *p, const samples_spec *s, const nn_edit_config *cfg, const nn_image *mask,
                    const float *learned, int64_t rows, nn_image *out, tn_err *err) {
    for (int i = 0; i < s->r.nsentences; i++) {
        for (int64_t k = 0; k < s->r.n; k++) {
            gen_request q = samples_request(p, s, i, learned, rows);
            if (edit_one(p, s, cfg, mask, q, k, out + i * s->r.n + k, err)) return -1;
        }
    }
    return 0;
}

/* White in the middle, black in a margin of that share of the sides. */
static int middle(const nn_image *like, double margin, nn_image *out, tn_err *err) {
    if (nn_image_alloc(like->width, like->height, out, err)) return -1;
    int64_t mx = (int64_t)(margin * (double)like->width), my = (int64_t)(margin * (double)like->height);
    for (int64_t y = 0; y < like->height; y++) {
        for (int64_t x = 0; x < like->width; x++) {
            bool inside = x >= mx && x < like->width - mx && y >= my && y < like->height - my;
            memset(out->rgb + (y * like->width + x) * 3, inside ? 255 : 0, 3);
        }
    }
    return 0;
}

static int blend(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out, tn_err *err) {
    nn_edit_config cfg = {.steps = s->r.steps, .shrink = (int64_t)s->r.param[1], .background = NN_BACKGROUND_PASTE};
    nn_image mask;
    if (middle(samples_source(p, s, 0), s->r.param[0], &mask, err)) return -1;
    int r = edit_all(p, s, &cfg, &mask, learned, rows, out, err);
    nn_image_free(&mask);
    return r;
}

static int ilvr(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out, tn_err *err) {
    nn_edit_config cfg = {.steps = s->r.steps, .low_pass = (int64_t)s->r.param[0], .low_pass_until = -1};
    return edit_all(p, s, &cfg, NULL, learned, rows, out, err);
}

const paper_method method_blend = {"blended latent diffusion", {"margin", "shrink"}, 1.2, blend};
const paper_method method_ilvr = {"ilvr", {"factor"}, 1.2, ilvr};

/* ---- the autoencoder alone ---- */

/* Through encoder, `steps` of optimisation and decoder. */
static int reconstruct(paper *p, const nn_image *in, int64_t steps, nn_image *out, tn_err *err) {
    latents l = {0};
    float *pixels = malloc((size_t)(3 * in->width * in->height) * sizeof *pixels);
    nn_latent_fit f = {.steps = steps, .lr = 0.1};
    int r = pixels ? latents_encode(&p->c, p->model->vae, in, &l, err)
                   : tn_fail(err, TN_ENOMEM, "out of memory for a picture");
    if (!r && steps) {
        nn_image_to_signed(in, pixels);
        r = nn_latent_fit_image(&p->c, p->model->vae, &f, pixels, l.z, l.h, l.w, err);
    }
    if (!r) r = latents_decode(&p->c, p->model->vae, &l, 0, out, err);
    free(pixels);
    latents_free(&l);
    return r;
}

static int latent_fit(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out, tn_err *err) {
    (void)learned, (void)rows;
    for (int64_t i = 0; i < s->r.n; i++) {
        if (reconstruct(p, samples_source(p, s, i), (int64_t)s->r.param[0], &out[i], err)) return -1;
    }
    return 0;
}

const paper_method method_encoder = {"autoencoder", {NULL}, 0.1, latent_fit};
const paper_method method_latent_fit = {"latent by optimisation", {"steps"}, 8.0, latent_fit};
