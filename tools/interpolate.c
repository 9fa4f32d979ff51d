#include "tools/interpolate.h"

#include "nn/fit/slerp.h"
#include <stdlib.h>
#include <string.h>

typedef struct frames {
    gen_request r;
    const between_ends *e;
    int64_t width, n; /* of a vector; of a latent */
    float *learned, *noise;
    int64_t done, each; /* steps before this frame; of a frame */
    const gen_request *asked;
    int64_t count;
} frames;

static void step_done(void *arg, int64_t done, int64_t total) {
    frames *f = arg;
    f->each = total;
    if (f->asked->progress) f->asked->progress(f->asked->arg, f->done + done, total * f->count);
}

static int open_frames(frames *f, const nn_model *m, const gen_request *r, const between_ends *e, int64_t count,
                       tn_err *err) {
    int64_t factor = nn_vae_factor(m->vae), native = gen_native_size(m);
    int64_t w = (r->width ? r->width : native) / factor, h = (r->height ? r->height : native) / factor;
    *f = (frames){.r = *r,
                  .e = e,
                  .width = m->text->cfg.t.width,
                  .n = nn_unet_cfg(m->unet)->in_channels * h * w,
                  .asked = r,
                  .count = count};
    TN_REQUIRE(count >= 2 && !r->noise && e->row + (e->word[0] ? e->n : 0) <= r->rows);
    f->noise = malloc((size_t)f->n * sizeof *f->noise);
    f->learned = malloc((size_t)(r->rows * f->width + 1) * sizeof *f->learned);
    if (!f->noise || !f->learned) return tn_fail(err, TN_ENOMEM, "out of memory for interpolated pictures");
    if (r->learned) memcpy(f->learned, r->learned, (size_t)(r->rows * f->width) * sizeof *f->learned);
    f->r.learned = r->learned ? f->learned : NULL, f->r.noise = e->noise[0] ? f->noise : NULL, f->r.count = 1;
    f->r.progress = step_done, f->r.arg = f;
    return 0;
}

/* Sets noise and word of a frame. */
static void move(frames *f, double t) {
    const between_ends *e = f->e;
    if (e->noise[0]) nn_slerp(e->noise[0], e->noise[1], t, f->noise, (size_t)f->n);
    for (int64_t i = 0; e->word[0] && i < e->n; i++) {
        int64_t at = i * f->width;
        nn_slerp(e->word[0] + at, e->word[1] + at, t, f->learned + e->row * f->width + at, (size_t)f->width);
    }
}

int between_pictures(tn_ctx *c, nn_model *m, const gen_request *r, const between_ends *e, int64_t count, nn_image *out,
                     tn_err *err) {
    frames f;
    for (int64_t i = 0; i < count; i++) out[i] = (nn_image){0};
    int bad = open_frames(&f, m, r, e, count, err);
    for (int64_t i = 0; i < count && !bad; i++) {
        move(&f, (double)i / (double)(count - 1));
        bad = gen_pictures(c, m, &f.r, &out[i], err);
        f.done += f.each;
    }
    for (int64_t i = 0; bad && i < count; i++) nn_image_free(&out[i]);
    free(f.noise), free(f.learned);
    return bad;
}
