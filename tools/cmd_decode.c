/* oneword decode: latents back to pictures. */
#include "nn/model.h"
#include "tensor/io/json.h"
#include "tools/latents.h"
#include "tools/opt.h"
#include "tools/picture_out.h"

#include <stdio.h>
#include <stdlib.h>

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

static int write_one(const decode_options *o, const nn_image *image, int64_t i, int64_t count, tn_err *err) {
    char path[4096];
    if (out_picture_path(o->output, i, count, path, sizeof path, err) || out_picture(path, image, NULL, 0, err))
        return -1;
    tn_jw w;
    if (!o->common.json) {
        puts(path);
        return 0;
    }
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", path), tn_jw_int(&w, "width", image->width), tn_jw_int(&w, "height", image->height);
    return opt_put_json(&w, err);
}

static int decode_all(const decode_options *o, tn_ctx *c, const nn_vae *vae, const latents *l, tn_err *err) {
    int bad = out_try_pictures(o->output, l->count, err);
    for (int64_t i = 0; i < l->count && !bad; i++) {
        nn_image image = {0};
        bad = latents_decode(c, vae, l, i, &image, err) || write_one(o, &image, i, l->count, err) ? -1 : 0;
        nn_image_free(&image);
    }
    return bad;
}

static int decode(const decode_options *o, tn_ctx *c, nn_model **m, latents *l, tn_err *err) {
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (!o->input) return tn_fail(err, TN_EUSAGE, "a latent is needed (oneword decode --model DIR FILE)");
    if (opt_context(&o->common, c, err) || nn_model_load(o->model, NN_LOAD_VAE, m, err)) return -1;
    return latents_read(o->input, o->tensor, (*m)->vae, l, err) || decode_all(o, c, (*m)->vae, l, err) ? -1 : 0;
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
        latents_free(&l);
    }
    return r < 0 ? opt_error(&err) : 0;
}
