#include "tools/latents.h"

#include "nn/image/preprocess.h"
#include "nn/pipeline.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tools/opt.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void latents_free(latents *l) {
    free(l->z);
    *l = (latents){0};
}

/* ---- files ---- */

static const tn_st_tensor *choose(const tn_st *st, const char *name, const char *file, tn_err *err) {
    const tn_st_tensor *t = name ? tn_st_find(st, name) : tn_st_find(st, "latent");
    if (!t && !name && st->n == 1) t = &st->tensor[0];
    if (!t && name)
        tn_fail(err, TN_EUSAGE, "%s: holds no tensor \"%s\"", file, name);
    else if (!t)
        tn_fail(err, TN_EINPUT, "%s: holds %zu tensors, none of them \"latent\" (choose one with --tensor)", file,
                st->n);
    return t;
}

static int read_tensor(const tn_st_tensor *t, const nn_vae *vae, latents *l, tn_err *err) {
    int64_t channels = nn_vae_cfg(vae)->latent_channels;
    const int64_t *s = t->shape + t->ndim - 3;
    if (t->ndim < 3 || t->ndim > 4 || s[0] != channels || t->count == 0) {
        return tn_fail(err, TN_EINPUT,
                       "%s: \"%s\" is no latent of this model: expected [%" PRId64
                       ", h, w], with or without a number of "
                       "pictures in front",
                       t->file, t->name, channels);
    }
    int64_t f = nn_vae_factor(vae);
    if (s[1] > NN_IMAGE_MAX_PIXELS / f / f / s[2])
        return tn_fail(err, TN_ENOMEM, "%s: a picture of more than %d pixels", t->file, NN_IMAGE_MAX_PIXELS);
    l->count = t->ndim == 4 ? t->shape[0] : 1, l->h = s[1], l->w = s[2], l->n = channels * s[1] * s[2];
    if (!(l->z = malloc((size_t)t->count * sizeof *l->z))) return tn_fail(err, TN_ENOMEM, "%s: out of memory", t->file);
    if (tn_st_read_f32(t, l->z, err)) return -1;
    return nn_all_finite(l->z, t->count)
               ? 0
               : tn_fail(err, TN_EINPUT, "%s: \"%s\" holds NaN or infinity", t->file, t->name);
}

/* A latent that was scaled for another autoencoder decodes to something, only not to its picture. */
static void warn_scale(const tn_st *st, const nn_vae *vae, const char *file) {
    const char *text = tn_st_meta(st, "scaling_factor");
    double stated, own = (double)nn_vae_cfg(vae)->scaling_factor;
    if (text && tn_parse_double(text, strlen(text), &stated) && fabs(stated - own) > 1e-6 * own) {
        opt_warn("%s: made with scaling_factor %.9g, this model has %.9g: the picture will be wrong", file, stated,
                 own);
    }
}

int latents_read(const char *path, const char *tensor, const nn_vae *vae, latents *out, tn_err *err) {
    tn_st *st;
    latents l = {0};
    if (tn_st_open(path, 0, &st, err)) return -1;
    const tn_st_tensor *t = choose(st, tensor, path, err);
    int bad = t ? read_tensor(t, vae, &l, err) : -1;
    if (!bad) warn_scale(st, vae, path);
    tn_st_close(st);
    if (bad)
        latents_free(&l);
    else
        *out = l;
    return bad;
}

int latents_write(const char *path, const nn_vae *vae, const latents *l, const latents_note *notes, int n,
                  tn_err *err) {
    char factor[32];
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    snprintf(factor, sizeof factor, "%.9g", (double)nn_vae_cfg(vae)->scaling_factor);
    tn_st_add_meta(w, "scaling_factor", factor);
    for (int i = 0; i < n; i++) tn_st_add_meta(w, notes[i].key, notes[i].value);
    tn_st_add(w, "latent", TN_ST_F32, 4, (int64_t[]){l->count, nn_vae_cfg(vae)->latent_channels, l->h, l->w}, l->z);
    int bad = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    return bad;
}

/* ---- pictures ---- */

int latents_picture(const char *path, const nn_vae *vae, int64_t resolution, nn_image *out, tn_err *err) {
    int64_t f = nn_vae_factor(vae);
    nn_image own;
    if (resolution % f != 0) {
        int64_t near = (resolution + f / 2) / f * f;
        return tn_fail(err, TN_EUSAGE,
                       "--resolution %" PRId64 ": expected a multiple of %" PRId64
                       " for this model (the nearest is %" PRId64 ")",
                       resolution, f, near ? near : f);
    }
    if (nn_image_load(path, &own, err)) return -1;
    if (resolution) {
        int bad = nn_training_picture(&own, resolution, NN_BICUBIC, false, false, out, err);
        nn_image_free(&own);
        return bad;
    }
    if (own.width % f == 0 && own.height % f == 0) {
        *out = own;
        return 0;
    }
    tn_fail(err, TN_EINPUT,
            "%s: %" PRId64 " x %" PRId64 ": expected multiples of %" PRId64 " for this model (or give --resolution)",
            path, own.width, own.height, f);
    nn_image_free(&own);
    return -1;
}

int latents_encode(tn_ctx *c, const nn_vae *vae, const nn_image *image, latents *out, tn_err *err) {
    int64_t f = nn_vae_factor(vae), h = image->height / f, w = image->width / f;
    latents l = {1, h, w, nn_vae_cfg(vae)->latent_channels * h * w, NULL};
    float *pixels = malloc(3 * (size_t)(image->width * image->height) * sizeof *pixels),
          *moments = malloc(2 * (size_t)l.n * sizeof *moments);
    l.z = malloc((size_t)l.n * sizeof *l.z);
    int bad = pixels && moments && l.z ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the picture");
    if (!bad) {
        nn_image_to_signed(image, pixels);
        bad = nn_encode_image(c, vae, pixels, 1, image->height, image->width, moments, err);
    }
    if (!bad) nn_sample_posterior(vae, c->k, moments, NULL, l.z, l.n);
    if (!bad && !nn_all_finite(l.z, l.n)) bad = tn_fail(err, TN_ENUMERIC, "the picture's latent is not finite");
    free(pixels), free(moments);
    if (bad)
        latents_free(&l);
    else
        *out = l;
    return bad;
}

int latents_decode(tn_ctx *c, const nn_vae *vae, const latents *l, int64_t i, nn_image *out, tn_err *err) {
    int64_t f = nn_vae_factor(vae), width = l->w * f, height = l->h * f;
    float *pixels = malloc(3 * (size_t)(width * height) * sizeof *pixels);
    if (!pixels) return tn_fail(err, TN_ENOMEM, "out of memory for the picture");
    int bad = nn_decode_latent(c, vae, l->z + i * l->n, 1, l->h, l->w, pixels, err) ||
              nn_image_from_signed(pixels, width, height, out, err);
    free(pixels);
    return bad ? -1 : 0;
}
