#include "nn/edit/edit.h"

#include "nn/config.h"
#include "nn/edit/low_pass.h"
#include "nn/edit/mask.h"
#include "nn/image/preprocess.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t nn_edit_first(int64_t steps, double strength) { return steps - (int64_t)((double)steps * strength); }

void nn_edit_free(nn_edit *e) {
    nn_image_free(&e->picture);
    free(e->pixels), free(e->latent), free(e->mask), free(e->masks);
    *e = (nn_edit){0};
}

/* ---- checks ---- */

static int check_side(const char *name, int64_t side, int64_t factor, tn_err *err) {
    if (side >= factor && side % factor == 0) return 0;
    int64_t nearest = (side + factor / 2) / factor * factor;
    return tn_fail(err, TN_EUSAGE,
                   "the %s %" PRId64 ": expected a multiple of %" PRId64 " for this model (the nearest is %" PRId64 ")",
                   name, side, factor, nearest < factor ? factor : nearest);
}

static int check_low_pass(const nn_edit *e, tn_err *err) {
    const nn_edit_config *k = &e->cfg;
    int64_t w = k->low_pass_pixels ? k->width : e->w, h = k->low_pass_pixels ? k->height : e->h;
    if (!k->low_pass || (w % k->low_pass == 0 && h % k->low_pass == 0)) return 0;
    return tn_fail(err, TN_EUSAGE,
                   "low pass %" PRId64 ": expected a divisor of width and height, which are %" PRId64 " and %" PRId64
                   " in the %s",
                   k->low_pass, w, h, k->low_pass_pixels ? "picture" : "latent");
}

static int check(nn_edit *e, const nn_vae *vae, const nn_image *picture, const nn_image *mask, tn_err *err) {
    nn_edit_config *k = &e->cfg;
    int64_t f = nn_vae_factor(vae);
    if (!k->width) k->width = picture->width;
    if (!k->height) k->height = picture->height;
    if (check_side("width", k->width, f, err) || check_side("height", k->height, f, err)) return -1;
    e->C = nn_vae_cfg(vae)->latent_channels, e->h = k->height / f, e->w = k->width / f;
    if (k->steps < 1 || k->first < 0 || k->first > k->steps)
        return tn_fail(err, TN_EUSAGE, "the first step is %" PRId64 ": expected 0 to %" PRId64 ", the number of steps",
                       k->first, k->steps);
    if (mask && (mask->width != picture->width || mask->height != picture->height))
        return tn_fail(err, TN_EUSAGE,
                       "the mask is %" PRId64 " x %" PRId64 ", the picture %" PRId64 " x %" PRId64
                       ": expected the same size",
                       mask->width, mask->height, picture->width, picture->height);
    if (!mask && (k->invert || k->shrink || k->background != NN_BACKGROUND_LATENT))
        return tn_fail(err, TN_EUSAGE, "a background and the shape of a mask need a mask");
    if (k->shrink < 0 || k->shrink > k->steps - k->first)
        return tn_fail(err, TN_EUSAGE,
                       "the mask shrinks %" PRId64 " times: expected 0 to %" PRId64 ", the steps that are left",
                       k->shrink, k->steps - k->first);
    return check_low_pass(e, err);
}

/* ---- masks ---- */

/* The mask of the pixels; those of the latents, from nearest neighbours, dilated by squares of 3, 5, ... 2 shrink + 1. */
static int make_masks(nn_edit *e, const nn_image *mask, tn_err *err) {
    const nn_edit_config *k = &e->cfg;
    int64_t n = e->h * e->w;
    float *grey = malloc((size_t)(mask->width * mask->height) * sizeof *grey);
    e->mask = malloc((size_t)(k->width * k->height)), e->masks = malloc((size_t)((k->shrink + 1) * n));
    int bad = grey && e->mask && e->masks ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the mask");
    if (!bad) {
        unsigned char *last = e->masks + k->shrink * n;
        nn_mask_grey(mask, k->invert, grey);
        bad = nn_mask_from_grey(grey, mask->width, mask->height, k->width, k->height, NN_LANCZOS, e->mask, err) ||
              nn_mask_from_grey(grey, mask->width, mask->height, e->w, e->h, NN_NEAREST, last, err);
        for (int64_t i = 0; !bad && i < k->shrink; i++)
            bad = nn_mask_dilate(last, e->w, e->h, k->shrink - i, e->masks + i * n, err);
    }
    free(grey);
    return bad ? -1 : 0;
}

bool nn_edit_is_empty(const nn_edit *e) {
    int64_t n = e->h * e->w;
    return e->masks && nn_mask_area(e->masks + e->cfg.shrink * n, n) == 0;
}

/* ---- the picture ---- */

/* Mean latent of pixels [3,H,W]. */
static int encode(tn_ctx *c, const nn_vae *vae, const float *pixels, int64_t height, int64_t width, float *latent,
                  tn_err *err) {
    int64_t f = nn_vae_factor(vae), n = nn_vae_cfg(vae)->latent_channels * (height / f) * (width / f);
    float *moments = malloc(2 * (size_t)n * sizeof *moments);
    int bad = moments ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the picture");
    if (!bad) bad = nn_encode_image(c, vae, pixels, 1, height, width, moments, err);
    if (!bad) nn_sample_posterior(vae, c->k, moments, NULL, latent, n);
    free(moments);
    if (bad || nn_all_finite(latent, n)) return bad;
    return tn_fail(err, TN_ENUMERIC, "the picture's latent is not finite");
}

static int take_picture(const nn_image *picture, nn_edit *e, tn_err *err) {
    int64_t width = e->cfg.width, height = e->cfg.height;
    if (nn_resize(picture, width, height, NN_LANCZOS, &e->picture, err)) return -1;
    e->pixels = malloc(3 * (size_t)(width * height) * sizeof *e->pixels);
    if (!e->pixels) return tn_fail(err, TN_ENOMEM, "out of memory for the picture");
    nn_image_to_signed(&e->picture, e->pixels);
    return 0;
}

int nn_edit_open(const nn_model *m, const nn_edit_config *cfg, const nn_image *picture, const nn_image *mask,
                 nn_edit *out, tn_err *err) {
    *out = (nn_edit){.cfg = *cfg};
    if (check(out, m->vae, picture, mask, err) || (mask && make_masks(out, mask, err))) return -1;
    return take_picture(picture, out, err);
}

int nn_edit_encode(tn_ctx *c, const nn_model *m, nn_edit *e, tn_err *err) {
    if (!e->latent) e->latent = malloc((size_t)(e->C * e->h * e->w) * sizeof *e->latent);
    if (!e->latent) return tn_fail(err, TN_ENOMEM, "out of memory for the picture");
    return encode(c, m->vae, e->pixels, e->cfg.height, e->cfg.width, e->latent, err);
}

/* ---- between the steps ---- */

int nn_edit_run_open(nn_edit_run *r, const nn_edit *e, const nn_model *m, const nn_schedule *schedule,
                     const nn_sampler *sampler, int64_t B, uint64_t seed, const tn_ctx *like, tn_err *err) {
    size_t n = (size_t)(e->C * e->h * e->w);
    TN_REQUIRE(e->latent && sampler->n_steps == (int)e->cfg.steps);
    *r = (nn_edit_run){.e = e, .m = m, .schedule = schedule, .sampler = sampler, .B = B};
    tn_ctx_init(&r->own, like->k, like->threads);
    r->own.conv = like->conv, r->own.use_ref = like->use_ref;
    r->rng = malloc((size_t)B * sizeof *r->rng), r->noisy = malloc(n * sizeof *r->noisy);
    bool pixels = e->cfg.low_pass && e->cfg.low_pass_pixels;
    if (pixels) {
        r->z0 = malloc((size_t)B * n * sizeof *r->z0);
        r->image = malloc(3 * (size_t)(e->cfg.width * e->cfg.height) * sizeof *r->image);
    }
    if (!r->rng || !r->noisy || (pixels && (!r->z0 || !r->image)))
        return tn_fail(err, TN_ENOMEM, "out of memory for an edit");
    for (int64_t i = 0; i < B; i++) tn_rng_seed(&r->rng[i], seed + (uint64_t)i + 0x80000000u);
    return 0;
}

void nn_edit_run_free(nn_edit_run *r) {
    if (r->e) tn_ctx_free(&r->own);
    free(r->rng), free(r->noisy), free(r->z0), free(r->image);
    *r = (nn_edit_run){0};
}

void nn_edit_begin(const nn_edit_run *r, float *latent) {
    const nn_edit *e = r->e;
    size_t n = (size_t)(e->C * e->h * e->w);
    int first = (int)e->cfg.first;
    for (int64_t i = 0; first && i < r->B; i++) {
        float *z = latent + (size_t)i * n;
        if (first == r->sampler->n_steps) memcpy(z, e->latent, n * sizeof *z);
        else nn_add_noise(r->schedule, e->latent, z, (int)r->sampler->timesteps[first], z, n);
    }
}

/* Whether the low band is exchanged behind that many steps. */
static bool exchanges(const nn_edit *e, int64_t done) {
    const nn_edit_config *k = &e->cfg;
    return k->low_pass && done > k->first && (k->low_pass_until < 0 || done <= k->low_pass_until);
}

/* The mask of a step: each one lasts for as many steps, as the public code counts them. */
static const unsigned char *mask_at(const nn_edit *e, int64_t step) {
    int64_t lasts = (e->cfg.steps - e->cfg.first) / (e->cfg.shrink + 1) + 1, i = (step - e->cfg.first) / lasts;
    return e->masks + (i < e->cfg.shrink && step < e->cfg.steps ? i : e->cfg.shrink) * e->h * e->w;
}

/* z where the mask is 1, the picture elsewhere. */
static void blend(const nn_edit *e, const unsigned char *mask, const float *picture, float *z) {
    int64_t n = e->h * e->w;
    for (int64_t i = 0; i < e->C * n; i++) z[i] = mask[i % n] ? z[i] : picture[i];
}

/* The picture at the level of noise that `step` begins with; behind the last one it is clean. */
static void picture_at(nn_edit_run *r, int64_t i, int step, size_t n) {
    const nn_edit *e = r->e;
    if (step == r->sampler->n_steps) {
        memcpy(r->noisy, e->latent, n * sizeof *r->noisy);
    } else {
        tn_rng_randn(&r->rng[i], r->noisy, n);
        nn_add_noise(r->schedule, e->latent, r->noisy, (int)r->sampler->timesteps[step], r->noisy, n);
    }
}

/* What the autoencoder's low band moved z_0 by, at this step's level. */
static void shift(nn_edit_run *r, int step, float *latent, size_t n) {
    int end = r->sampler->n_steps;
    float signal = step < end ? sqrtf(r->schedule->alphas_cumprod[(int)r->sampler->timesteps[step]]) : 1.0f;
    for (size_t i = 0; r->pending && i < (size_t)r->B * n; i++) latent[i] += signal * r->z0[i];
    r->pending = false;
}

int nn_edit_before(nn_edit_run *r, int step, float *latent, tn_err *err) {
    const nn_edit *e = r->e;
    size_t n = (size_t)(e->C * e->h * e->w);
    bool low = exchanges(e, step) && !e->cfg.low_pass_pixels;
    shift(r, step, latent, n);
    for (int64_t i = 0; (low || e->mask) && i < r->B; i++) {
        float *z = latent + (size_t)i * n;
        picture_at(r, i, step, n);
        if (low && nn_exchange_low_band(z, r->noisy, e->C, e->h, e->w, e->cfg.low_pass, err)) return -1;
        if (e->mask) blend(e, mask_at(e, step), r->noisy, z);
    }
    return 0;
}

/* In pixels the band is exchanged in the picture that the model predicts, as Blended latent diffusion's blending of
 * pixels does: decoded, changed, encoded. z0 becomes the difference, which the next step's latent gets at its level. */
int nn_edit_guide(nn_edit_run *r, int step, const float *latent, float *model_output, tn_err *err) {
    const nn_edit *e = r->e;
    int64_t n = e->C * e->h * e->w, width = e->cfg.width, height = e->cfg.height;
    float *predicted = r->noisy;
    if (!e->cfg.low_pass_pixels || !exchanges(e, step + 1)) return 0;
    for (int64_t i = 0; i < r->B; i++) {
        float *z0 = r->z0 + i * n;
        nn_predict_x0(r->schedule, latent + i * n, model_output + i * n, (int)r->sampler->timesteps[step], predicted,
                      (size_t)n);
        if (nn_decode_latent(&r->own, r->m->vae, predicted, 1, e->h, e->w, r->image, err) ||
            nn_exchange_low_band(r->image, e->pixels, 3, height, width, e->cfg.low_pass, err) ||
            encode(&r->own, r->m->vae, r->image, height, width, z0, err))
            return -1;
        for (int64_t j = 0; j < n; j++) z0[j] -= predicted[j];
    }
    r->pending = true;
    return 0;
}

/* ---- pictures ---- */

int nn_edit_develop(const nn_edit *e, float *image, nn_image *out, tn_err *err) {
    int64_t width = e->cfg.width, height = e->cfg.height;
    if (e->cfg.low_pass_pixels && exchanges(e, e->cfg.steps) &&
        nn_exchange_low_band(image, e->pixels, 3, height, width, e->cfg.low_pass, err))
        return -1;
    if (nn_image_from_signed(image, width, height, out, err)) return -1;
    for (int64_t i = 0; e->cfg.background == NN_BACKGROUND_PASTE && i < width * height; i++) {
        if (!e->mask[i]) memcpy(out->rgb + 3 * i, e->picture.rgb + 3 * i, 3);
    }
    return 0;
}

int nn_edit_fit(tn_ctx *c, const nn_model *m, const nn_edit *e, const float *latent, nn_image *image,
                void (*progress)(void *arg, int64_t step, double loss), void *arg, tn_err *err) {
    size_t n = 3 * (size_t)(e->cfg.width * e->cfg.height);
    nn_decoder_fit f = {latent, e->h, e->w, NULL, e->pixels, e->mask, e->cfg.decoder_steps, NN_DECODER_RATE,
                        NN_DECODER_PRESERVATION, progress, arg};
    if (!f.steps) f.steps = NN_DECODER_STEPS;
    float *pixels = malloc(2 * n * sizeof *pixels), *fitted = pixels + n;
    char *dir = nn_join(m->dir, "vae");
    int64_t checkpoint = c->checkpoint;
    nn_image own = {0};
    int bad = pixels && dir ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the background");
    f.foreground = pixels;
    if (!bad) bad = nn_decode_latent(c, m->vae, latent, 1, e->h, e->w, pixels, err);
    c->checkpoint = 1; /* else the activations of a picture of 512 x 512 are gigabytes */
    if (!bad) bad = nn_decoder_refine(c, dir, &f, fitted, err);
    c->checkpoint = checkpoint;
    if (!bad && tn_live(c)) bad = nn_image_from_signed(fitted, e->cfg.width, e->cfg.height, &own, err);
    if (!bad && tn_live(c)) nn_image_free(image), *image = own;
    free(pixels), free(dir);
    return bad;
}
