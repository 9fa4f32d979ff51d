/* oneword selftest: one hash for every machine.
 *
 * A short reference run on the bundled model, everything that the project computes on the way from photographs to a
 * word and back: pictures, encoder, sentences, two training steps, two guided sampling steps, decoder. The SHA-256 of
 * its results is the same for any number of threads, instruction set, compiler and CPU; the published one lies in
 * testdata/world/selftest.sha256. */
#include "nn/train.h"
#include "tensor/io/bytes.h"
#include "tensor/io/sha256.h"
#include "tensor/io/sys.h"
#include "tools/bundle.h"
#include "tools/generate.h"
#include "tools/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    opt_common common;
} settings;

static const opt_row rows[] = {OPT_COMMON(settings, common)};

static int run(int argc, char **argv);
const opt_command cmd_selftest = {
    "selftest", "recompute the published hash of a reference run", "selftest [--isa NAME] [--threads N]",
    "The last line of output is the SHA-256. Exit 7 where it is not the published one, 4 where the machine lacks the instruction set.",
    rows, sizeof rows / sizeof *rows, run};

enum { STEPS = 2, LATENT = 4 * 16 * 16 }; /* of the bundled model: 64x64 pictures, 16x16 latents */

static const nn_train_config train_config = {
    .placeholder = {"<selftest>"}, .initializer = {"cat"}, .nplaceholders = 1, .num_vectors = 1, .resolution = 64, .flip = true,
    .rules = NN_RULES_HF, .batch = 1, .accumulate = 1, .steps = STEPS, .lr = {.kind = NN_LR_CONSTANT, .base = 5e-3},
    .adam = {0.9, 0.999, 1e-8, 1e-2}, .seed = 7};

static void hash_floats(tn_sha256 *h, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        unsigned char b[4];
        memcpy(&u, &x[i], 4);
        tn_put_le32(b, u);
        tn_sha256_update(h, b, 4);
    }
}

/* Two steps of training on one picture; the losses and the vector go into the hash, the vector stays in *learned
 * [dim]. */
static int learn(tn_ctx *c, nn_model *m, const char *program, tn_sha256 *h, float *learned, tn_err *err) {
    char picture_path[4096], template_path[4096];
    nn_image picture = {0};
    nn_templates templates = {0};
    nn_train *t = NULL;
    int r = bundle_find(program, "world/concepts/mango/0.png", picture_path, sizeof picture_path, err) ||
            bundle_find(program, "world/templates-object.txt", template_path, sizeof template_path, err) ||
            nn_image_load(picture_path, &picture, err) || nn_templates_load(template_path, &templates, err) ||
            nn_train_open(c, m, &train_config, &templates, &picture, 1, NULL, NULL, &t, err);
    for (int i = 0; !r && i < STEPS; i++) {
        nn_train_step step;
        if ((r = nn_train_advance(t, c, &step, err))) break;
        hash_floats(h, &(float){(float)step.loss}, 1);
    }
    if (!r) {
        int64_t dim = nn_train_word(t)->dim;
        hash_floats(h, nn_train_vectors(t, 0), dim);
        memcpy(learned, nn_train_vectors(t, 0), (size_t)dim * sizeof *learned);
    }
    nn_train_free(t);
    nn_templates_free(&templates);
    nn_image_free(&picture);
    return r ? -1 : 0;
}

/* A guided picture with the word; latent and pixels go into the hash. */
static int generate(tn_ctx *c, nn_model *m, const float *learned, tn_sha256 *h, tn_err *err) {
    float latent[LATENT];
    nn_image image;
    gen_request q = {.prompt = "a photo of a <selftest> on the beach", .learned = learned, .rows = 1, .width = 64, .height = 64, .steps = 2,
                     .guidance = 4.0, .sampler = "ddim", .seed = 3, .count = 1, .rules = NN_RULES_HF, .latents = latent};
    if (gen_pictures(c, m, &q, &image, err)) return -1;
    hash_floats(h, latent, LATENT);
    tn_sha256_update(h, image.rgb, (size_t)(3 * image.width * image.height));
    nn_image_free(&image);
    return 0;
}

static int reference_run(tn_ctx *c, const char *program, char hex[65], tn_err *err) {
    char path[4096];
    nn_model *m = NULL;
    tn_sha256 h;
    tn_sha256_init(&h);
    if (bundle_find(program, "world/model", path, sizeof path, err) || nn_model_load(path, NN_LOAD_ALL, &m, err)) return -1;
    float *learned = malloc((size_t)m->text->cfg.t.width * sizeof *learned);
    int r = learned ? 0 : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r) r = learn(c, m, program, &h, learned, err);
    if (c->conv == TN_CONV_AUTO) c->conv = TN_CONV_WINOGRAD; /* both of its tiles; learning had it beside the direct form */
    if (!r) r = generate(c, m, learned, &h, err);
    if (!r) tn_sha256_hex(&h, hex);
    free(learned);
    nn_model_free(m);
    return r ? -1 : 0;
}

/* The published hash is the first word of its file. */
static int compare(const char *program, const char *hex, tn_err *err) {
    char path[4096], *text;
    size_t n;
    if (bundle_find(program, "world/selftest.sha256", path, sizeof path, err) || tn_read_file(path, 4096, &text, &n, err)) return -1;
    bool same = n >= 64 && strncmp(text, hex, 64) == 0;
    free(text);
    return same ? 0 : tn_fail(err, TN_EMISMATCH, "the hash is not the one in %s", path);
}

static int run(int argc, char **argv) {
    settings s = {0};
    tn_ctx c;
    tn_err err;
    char hex[65];
    int r = opt_parse(&cmd_selftest, argc, argv, &s, NULL, NULL, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    if (opt_context(&s.common, &c, &err)) return opt_error(&err);
    double start = tn_clock();
    r = reference_run(&c, argv[-1], hex, &err);
    if (!r) {
        opt_note(&s.common, "%s, %d threads: %.1f s", c.k->name, c.threads, tn_clock() - start);
        r = compare(argv[-1], hex, &err);
        if (r) opt_error(&err);
        puts(hex);
    } else {
        opt_error(&err);
    }
    tn_ctx_free(&c);
    return r ? err.code : 0;
}
