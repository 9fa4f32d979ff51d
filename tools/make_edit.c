#include "tensor/io/sha256.h"
#include "tools/make_job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int settle_low_pass(make_options *o, tn_err *err) {
    if (!o->low_pass && (o->low_pass_space || o->low_pass_until >= 0))
        return tn_fail(err, TN_EUSAGE, "--low-pass-space and --low-pass-until need --low-pass N");
    if (!o->low_pass_space) o->low_pass_space = "latent";
    return 0;
}

/* How much is changed: all where something else holds on to the picture, else three quarters, as diffusers has it for
 * img2img. */
static void settle_strength(make_options *o) {
    if (o->strength < 0.0) o->strength = o->mask || o->low_pass ? 1.0 : 0.75;
    if (o->first_step < 0) o->first_step = nn_edit_first(o->steps, o->strength);
}

int make_settle_edit(make_job *j, tn_err *err) {
    make_options *o = &j->o;
    if (!o->picture) return 0;
    if (o->strength >= 0.0 && make_given(j, MAKE_FIELD(first_step)))
        return tn_fail(err, TN_EUSAGE, "--strength and --first-step say the same: give one of them");
    if (!o->mask && (o->background || o->mask_shrink || o->invert_mask))
        return tn_fail(err, TN_EUSAGE, "--background, --mask-shrink and --invert-mask need --mask");
    if (o->decoder_steps && (!o->background || strcmp(o->background, "decoder") != 0))
        return tn_fail(err, TN_EUSAGE, "--decoder-steps needs --background decoder");
    if (!o->background) o->background = o->mask ? "paste" : "latent";
    if (!o->decoder_steps) o->decoder_steps = NN_DECODER_STEPS;
    if (settle_low_pass(o, err)) return -1;
    settle_strength(o);
    return 0;
}

void make_hash_pixels(const nn_image *image, char hex[65]) {
    tn_sha256 h;
    char size[64];
    int n = snprintf(size, sizeof size, "%" PRId64 " %" PRId64 "\n", image->width, image->height);
    tn_sha256_init(&h);
    tn_sha256_update(&h, size, (size_t)n);
    tn_sha256_update(&h, image->rgb, 3 * (size_t)(image->width * image->height));
    tn_sha256_hex(&h, hex);
}

static nn_edit_config config(const make_options *o) {
    nn_edit_config k = {.width = o->width,
                        .height = o->height,
                        .steps = o->steps,
                        .first = o->first_step,
                        .invert = o->invert_mask,
                        .shrink = o->mask_shrink,
                        .decoder_steps = o->decoder_steps,
                        .low_pass = o->low_pass,
                        .low_pass_pixels = strcmp(o->low_pass_space, "pixel") == 0,
                        .low_pass_until = o->low_pass_until};
    k.background = strcmp(o->background, "paste") == 0     ? NN_BACKGROUND_PASTE
                   : strcmp(o->background, "decoder") == 0 ? NN_BACKGROUND_DECODER
                                                           : NN_BACKGROUND_LATENT;
    return k;
}

/* A mask without a pixel is a mistake; without one of the latent it does nothing, and seems to. */
static int check_mask(const make_job *j, tn_err *err) {
    if (!nn_edit_is_empty(&j->edit)) return 0;
    int64_t f = nn_vae_factor(j->model->vae);
    return tn_fail(err, TN_EINPUT,
                   "%s: the mask is empty, no pixel in the middle of a field of %" PRId64 " x %" PRId64
                   " is white (white changes%s; alpha is not looked at)",
                   j->o.mask, f, f, j->o.invert_mask ? " without --invert-mask" : "");
}

int make_open_edit(make_job *j, tn_err *err) {
    make_options *o = &j->o;
    nn_image picture = {0}, mask = {0};
    nn_edit_config k;
    if (!o->picture) return 0;
    k = config(o);
    int bad = nn_image_load(o->picture, &picture, err) || (o->mask && nn_image_load(o->mask, &mask, err)) ? -1 : 0;
    if (!bad && nn_edit_open(j->model, &k, &picture, o->mask ? &mask : NULL, &j->edit, err))
        bad = tn_fail_in(err, "%s", o->picture);
    if (!bad) make_hash_pixels(&picture, j->picture_sha256);
    if (!bad && o->mask) make_hash_pixels(&mask, j->mask_sha256), bad = check_mask(j, err);
    if (!bad) o->width = j->edit.cfg.width, o->height = j->edit.cfg.height;
    nn_image_free(&picture), nn_image_free(&mask);
    return bad;
}

static void show_fit(void *arg, int64_t step, double loss) {
    char extra[32];
    snprintf(extra, sizeof extra, "loss %.4f", loss);
    opt_progress_step(arg, step, extra);
}

int make_fit(make_job *j, const float *latent, nn_image *image, tn_err *err) {
    opt_progress bar;
    if (j->edit.cfg.background != NN_BACKGROUND_DECODER) return 0;
    nn_memory_part(&j->c, j->model, j->residency, &j->needs.fit);
    opt_progress_start(&bar, &j->o.common, "decoder", j->edit.cfg.decoder_steps, 0);
    int bad = nn_edit_fit(&j->c, j->model, &j->edit, latent, image, show_fit, &bar, err);
    if (!bad) opt_progress_end(&bar);
    nn_memory_part(&j->c, j->model, j->residency, NULL);
    return bad;
}
