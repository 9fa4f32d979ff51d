/* oneword decode: latents back to pictures. */
#include "nn/image/preprocess.h"
#include "nn/pipeline.h"
#include "tools/opt.h"
#include "tools/picture_out.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct decode_options {
    opt_common common;
    const char *model, *input, *output, *tensor;
} decode_options;

#define FIELD(name) offsetof(decode_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR",
     "model directory as diffusers saves it"},
    {"i,input", OPT_TEXT, FIELD(input), 0, 0, "FILE", "safetensors file with the latent; or as an argument"},
    {"tensor", OPT_TEXT, FIELD(tensor), 0, 0, "NAME", "which tensor (default: \"latent\", else the only one)"},
    {"o,output", OPT_TEXT, FIELD(output), 0, 0, "FILE",
     "PNG or PPM; %d or %03d is the picture's number (default: output.png)"},
    OPT_COMMON(decode_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_decode = {"decode",
                                "a latent to its picture",
                                "decode --model DIR [options] LATENT",
                                "Takes [channels, h, w] or [pictures, channels, h, w], multiplied by scaling_factor, "
                                "as encode and generate --save-latents write it.",
                                rows,
                                sizeof rows / sizeof *rows,
                                run};

typedef struct latents {
    int64_t count, h, w, n; /* n: elements of one */
    float *z;
} latents;

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

static int read_latents(const decode_options *o, const nn_vae *vae, latents *l, tn_err *err) {
    tn_st *st;
    if (tn_st_open(o->input, 0, &st, err)) return -1;
    const tn_st_tensor *t = choose(st, o->tensor, o->input, err);
    int bad = t ? read_tensor(t, vae, l, err) : -1;
    if (!bad) warn_scale(st, vae, o->input);
    tn_st_close(st);
    return bad;
}

static int write_one(const decode_options *o, const nn_image *image, int64_t i, int64_t count, tn_err *err) {
    char path[4096];
    if (out_picture_path(o->output, i, count, path, sizeof path, err) || out_picture(path, image, NULL, 0, err))
        return -1;
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", path), tn_jw_int(&w, "width", image->width), tn_jw_int(&w, "height", image->height);
    tn_jw_close(&w, '}');
    char *line = tn_jw_take(&w);
    puts(o->common.json && line ? line : path);
    free(line);
    return 0;
}

static int decode_all(const decode_options *o, tn_ctx *c, const nn_vae *vae, const latents *l, tn_err *err) {
    int64_t f = nn_vae_factor(vae), width = l->w * f, height = l->h * f;
    float *pixels = malloc(3 * (size_t)(width * height) * sizeof *pixels);
    if (!pixels) return tn_fail(err, TN_ENOMEM, "out of memory for the picture");
    int bad = out_try_pictures(o->output, l->count, err);
    for (int64_t i = 0; i < l->count && !bad; i++) {
        nn_image image = {0};
        bad = nn_decode_latent(c, vae, l->z + i * l->n, 1, l->h, l->w, pixels, err) ||
                      nn_image_from_signed(pixels, width, height, &image, err) || write_one(o, &image, i, l->count, err)
                  ? -1
                  : 0;
        nn_image_free(&image);
    }
    free(pixels);
    return bad;
}

static int decode(const decode_options *o, tn_ctx *c, nn_model **m, latents *l, tn_err *err) {
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (!o->input) return tn_fail(err, TN_EUSAGE, "a latent is needed (oneword decode --model DIR FILE)");
    if (opt_context(&o->common, c, err) || nn_model_load(o->model, NN_LOAD_VAE, m, err)) return -1;
    return read_latents(o, (*m)->vae, l, err) || decode_all(o, c, (*m)->vae, l, err) ? -1 : 0;
}

static int run(int argc, char **argv) {
    decode_options o = {.output = "output.png"};
    opt_list rest = {.n = 0};
    tn_ctx c = {0};
    nn_model *m = NULL;
    latents l = {0};
    tn_err err;
    int r = opt_parse(&cmd_decode, argc, argv, &o, NULL, &rest, &err);
    if (!r && rest.n + (o.input != NULL) > 1) r = tn_fail(&err, TN_EUSAGE, "one file at a time");
    if (!r) {
        if (rest.n) o.input = rest.item[0];
        r = decode(&o, &c, &m, &l, &err);
        tn_ctx_free(&c);
        nn_model_free(m);
        free(l.z);
    }
    return r < 0 ? opt_error(&err) : 0;
}
