/* Pictures of a run: through the encoder once, before training. */
#include "nn/image/preprocess.h"
#include "nn/train_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Moments of a picture and of its mirror image: the encoder is not equivariant, so both are kept. */
static int encode_picture(nn_train *t, tn_ctx *c, const nn_image *in, float *moments, tn_err *err) {
    int64_t S = t->cfg->resolution;
    float *pixels = malloc((size_t)(3 * S * S) * sizeof *pixels);
    int r = pixels ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a picture");
    for (int mirrored = 0; !r && mirrored < 2; mirrored++) {
        nn_image square;
        if ((r = nn_training_picture(in, S, NN_BICUBIC, t->cfg->center_crop, mirrored, &square, err))) break;
        nn_image_to_signed(&square, pixels);
        nn_image_free(&square);
        r = nn_encode_image(c, t->model->vae, pixels, 1, S, S, moments + mirrored * 2 * nn_train_latent(t), err);
    }
    free(pixels);
    return r;
}

int nn_train_prepare_moments(nn_train *t, tn_err *err) {
    int64_t factor = nn_vae_factor(t->model->vae), pictures = t->npictures + t->ncomposed;
    if (t->cfg->resolution % factor) {
        return tn_fail(err, TN_EUSAGE, "resolution %" PRId64 " is not a multiple of %" PRId64 " (nearest: %" PRId64 ")",
                       t->cfg->resolution, factor, (t->cfg->resolution + factor / 2) / factor * factor);
    }
    t->channels = nn_vae_cfg(t->model->vae)->latent_channels, t->side = t->cfg->resolution / factor;
    t->moments = calloc((size_t)(pictures * 4 * nn_train_latent(t)), sizeof *t->moments);
    if (!t->moments) return tn_fail(err, TN_ENOMEM, "out of memory for the latents of %" PRId64 " pictures", pictures);
    return 0;
}

/* ---- two concepts in one picture ---- */

static void paste(const nn_image *part, int64_t left, int64_t top, nn_image *onto) {
    for (int64_t y = 0; y < part->height; y++) {
        unsigned char *row = onto->rgb + 3 * ((top + y) * onto->width + left);
        memcpy(row, part->rgb + 3 * y * part->width, (size_t)(3 * part->width));
    }
}

/* Width and height of the box are uniform between a quarter and a half of the picture (personalized_compose of the
 * official code); it lies anywhere inside. */
int nn_train_composed(const nn_train *t, const nn_image *pictures, int64_t k, nn_image *out, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    int64_t S = cfg->resolution, from = cfg->compose_from;
    tn_rng g;
    tn_rng_seed(&g, nn_train_seed(cfg->seed, NN_DRAW_COMPOSE, (uint64_t)k));
    const nn_image *first = &pictures[tn_rng_randint(&g, from)],
                   *second = &pictures[from + tn_rng_randint(&g, t->npictures - from)];
    int64_t w = S / 4 + tn_rng_randint(&g, S / 2 - S / 4), h = S / 4 + tn_rng_randint(&g, S / 2 - S / 4);
    int64_t left = tn_rng_randint(&g, S - w + 1), top = tn_rng_randint(&g, S - h + 1);
    nn_image part;
    if (nn_training_picture(first, S, NN_BICUBIC, cfg->center_crop, false, out, err)) return -1;
    if (nn_resize(second, w, h, NN_BICUBIC, &part, err)) {
        nn_image_free(out);
        return -1;
    }
    paste(&part, left, top, out);
    nn_image_free(&part);
    return 0;
}

/* ---- all of them ---- */

/* The fixed batch of DVAR: as the pictures are, everything else drawn once. */
static void draw_eval(nn_train *t, const tn_kernels *k) {
    int64_t n = nn_train_latent(t);
    tn_rng g;
    tn_rng_seed(&g, nn_train_seed(t->cfg->seed, NN_DRAW_EVAL, 0));
    for (int64_t b = 0; b < NN_EVAL_BATCH; b++) {
        int64_t picture = b % t->npictures;
        int among, first = nn_train_group(t, picture, &among);
        float *noise = t->eval.noise + b * n;
        t->eval.sentence[b] = first + tn_rng_randint(&g, among);
        tn_rng_randn(&g, noise, (size_t)n);
        nn_sample_posterior(t->model->vae, k, t->moments + picture * 4 * n, noise, t->eval.latents + b * n, n);
        tn_rng_randn(&g, noise, (size_t)n);
        t->eval.timesteps[b] = tn_rng_randint(&g, t->schedule.config.num_train_timesteps);
    }
}

static int encode_composed(nn_train *t, tn_ctx *c, const nn_image *pictures, int64_t k, tn_err *err) {
    nn_image picture;
    if (nn_train_composed(t, pictures, k, &picture, err)) return -1;
    int r = encode_picture(t, c, &picture, t->moments + (t->npictures + k) * 4 * nn_train_latent(t), err);
    nn_image_free(&picture);
    return r;
}

int nn_train_encode(nn_train *t, tn_ctx *c, const nn_image *pictures, void (*progress)(void *, int, int), void *arg,
                    tn_err *err) {
    int64_t all = t->npictures + t->ncomposed, n = 4 * nn_train_latent(t);
    for (int64_t i = 0; i < all; i++) {
        if (i < t->npictures ? encode_picture(t, c, &pictures[i], t->moments + i * n, err)
                             : encode_composed(t, c, pictures, i - t->npictures, err))
            return -1;
        if (progress) progress(arg, (int)i + 1, (int)all);
    }
    if (!nn_all_finite(t->moments, all * n))
        return tn_fail(err, TN_ENUMERIC, "the encoder gave numbers that are not finite");
    nn_train_hash_data(t);
    if (t->cfg->stop_window) draw_eval(t, c->k);
    return 0;
}
