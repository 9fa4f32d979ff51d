/* oneword encode: a picture to the latent that the UNet works on. */
#include "nn/image/preprocess.h"
#include "nn/pipeline.h"
#include "tensor/rng.h"
#include "tools/latents.h"
#include "tools/opt.h"
#include "tools/picture_out.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct encode_options {
    opt_common common;
    const char *model, *input, *output;
    int64_t resolution, seed;
    bool sample, moments;
} encode_options;

#define FIELD(name) offsetof(encode_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR",
     "model directory as diffusers saves it"},
    {"i,input", OPT_TEXT, FIELD(input), 0, 0, "FILE", "the picture; or as an argument"},
    {"o,output", OPT_TEXT, FIELD(output), 0, 0, "FILE", "safetensors file (default: latent.safetensors)"},
    {"resolution", OPT_INT, FIELD(resolution), 1, 65536, "N",
     "squeeze the picture to N x N first, as training does (default: its own size)"},
    {"sample", OPT_FLAG, FIELD(sample), 0, 0, NULL, "draw from the posterior (default: its mean)"},
    {"S,seed", OPT_INT, FIELD(seed), -1, 9.2e18, "N", "of --sample, as a torch generator; -1 is random (default)"},
    {"moments", OPT_FLAG, FIELD(moments), 0, 0, NULL, "also write mean and log variance, as \"moments\""},
    OPT_COMMON(encode_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_encode = {
    "encode",
    "a picture to its latent",
    "encode --model DIR [options] PICTURE",
    "Writes \"latent\" [1, channels, h, w], multiplied by scaling_factor: what the UNet sees. decode is the way back.",
    rows,
    sizeof rows / sizeof *rows,
    run};

typedef struct encoding {
    int64_t channels, h, w;
    float *image, *moments, *latent; /* [3,H,W], [2C,h,w], [C,h,w] */
} encoding;

static int encode_picture(const encode_options *o, tn_ctx *c, const nn_vae *vae, const nn_image *image, encoding *e,
                          tn_err *err) {
    int64_t f = nn_vae_factor(vae);
    e->channels = nn_vae_cfg(vae)->latent_channels, e->h = image->height / f, e->w = image->width / f;
    size_t n = (size_t)(e->channels * e->h * e->w);
    e->image = malloc(3 * (size_t)(image->width * image->height) * sizeof *e->image);
    e->moments = malloc(2 * n * sizeof *e->moments), e->latent = malloc(n * sizeof *e->latent);
    float *noise = malloc(n * sizeof *noise);
    int bad =
        e->image && e->moments && e->latent && noise ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the picture");
    if (!bad) {
        nn_image_to_signed(image, e->image);
        bad = nn_encode_image(c, vae, e->image, 1, image->height, image->width, e->moments, err);
    }
    if (!bad) {
        tn_rng g;
        tn_rng_seed(&g, (uint64_t)o->seed);
        if (o->sample) tn_rng_randn(&g, noise, n);
        nn_sample_posterior(vae, c->k, e->moments, o->sample ? noise : NULL, e->latent, (int64_t)n);
        if (!nn_all_finite(e->latent, (int64_t)n))
            bad = tn_fail(err, TN_ENUMERIC, "%s: the latent is not finite", o->input);
    }
    free(noise);
    return bad;
}

static int write_latent(const encode_options *o, const nn_vae *vae, const encoding *e, tn_err *err) {
    char factor[32];
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "out of memory");
    snprintf(factor, sizeof factor, "%.9g", (double)nn_vae_cfg(vae)->scaling_factor);
    tn_st_add_meta(w, "scaling_factor", factor);
    tn_st_add(w, "latent", TN_ST_F32, 4, (int64_t[]){1, e->channels, e->h, e->w}, e->latent);
    if (o->moments) tn_st_add(w, "moments", TN_ST_F32, 4, (int64_t[]){1, 2 * e->channels, e->h, e->w}, e->moments);
    int bad = tn_st_write(w, o->output, err);
    tn_st_writer_free(w);
    return bad;
}

static int announce(const encode_options *o, const encoding *e, tn_err *err) {
    tn_jw w;
    if (!o->common.json) {
        puts(o->output);
        return 0;
    }
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", o->output);
    tn_jw_open(&w, "shape", '[');
    tn_jw_int(&w, NULL, 1), tn_jw_int(&w, NULL, e->channels), tn_jw_int(&w, NULL, e->h), tn_jw_int(&w, NULL, e->w);
    tn_jw_close(&w, ']');
    if (o->sample) tn_jw_int(&w, "seed", o->seed);
    return opt_put_json(&w, err);
}

static int encode(encode_options *o, tn_ctx *c, nn_model **m, tn_err *err) {
    nn_image image;
    encoding e = {0};
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (!o->input) return tn_fail(err, TN_EUSAGE, "a picture is needed (oneword encode --model DIR PICTURE)");
    if (o->sample && o->seed == -1) {
        o->seed = (int64_t)(tn_entropy() & 0x7fffffff);
        opt_note(&o->common, "seed %" PRId64, o->seed);
    }
    if (out_try(o->output, err) || opt_context(&o->common, c, err) || nn_model_load(o->model, NN_LOAD_VAE, m, err))
        return -1;
    if (latents_picture(o->input, (*m)->vae, o->resolution, &image, err)) return -1;
    int bad = encode_picture(o, c, (*m)->vae, &image, &e, err) || write_latent(o, (*m)->vae, &e, err) ? -1 : 0;
    if (!bad) bad = announce(o, &e, err);
    nn_image_free(&image);
    free(e.image), free(e.moments), free(e.latent);
    return bad;
}

static int run(int argc, char **argv) {
    encode_options o = {.output = "latent.safetensors", .seed = -1};
    opt_list rest = {.n = 0};
    tn_ctx c = {0};
    nn_model *m = NULL;
    tn_err err;
    int r = opt_parse(&cmd_encode, argc, argv, &o, NULL, &rest, &err);
    if (!r && rest.n + (o.input != NULL) > 1) r = tn_fail(&err, TN_EUSAGE, "one picture at a time");
    if (!r) {
        if (rest.n) o.input = rest.item[0];
        r = encode(&o, &c, &m, &err);
        tn_ctx_free(&c);
        nn_model_free(m);
    }
    return r < 0 ? opt_error(&err) : 0;
}
