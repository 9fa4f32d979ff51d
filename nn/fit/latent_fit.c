#include "nn/fit/latent_fit.h"

#include "nn/pipeline.h"
#include "tensor/dmath.h"
#include "tensor/op/ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

double nn_psnr(const nn_image *a, const nn_image *b) {
    int64_t n = 3 * a->width * a->height, sum = 0;
    TN_REQUIRE(a->width == b->width && a->height == b->height);
    for (int64_t i = 0; i < n; i++) sum += (a->rgb[i] - b->rgb[i]) * (a->rgb[i] - b->rgb[i]);
    return sum ? 10.0 * tn_log(255.0 * 255.0 * (double)n / (double)sum) / tn_log(10.0) : INFINITY;
}

/* One descent: where it is and Adam's moments. */
typedef struct descent {
    tn_ctx *c;
    const nn_vae *vae;
    int64_t C, h, w, n;
    float *z, *m, *v, *best; /* [n] */
    const float *image;      /* to a picture */
    const nn_clip *clip;     /* to a sentence */
    const float *target;
    const nn_views *views;
} descent;

/* The error of the picture as it would be seen, clamped; in double and in order. */
static double picture_error(const float *made, const float *image, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)made[i] < -1.0  ? -1.0
                   : (double)made[i] > 1.0 ? 1.0
                                           : (double)made[i],
               d = x - (double)image[i];
        sum += d * d;
    }
    return sum / (double)n;
}

/* Loss at d->z, its gradient in the leaf that is returned; what is not recorded has none. */
static int look(descent *d, bool record, tn_tensor **leaf, double *loss, tn_err *err) {
    tn_ctx *c = d->c;
    if (tn_ctx_begin(c, true, err)) return -1;
    tn_tensor *z = *leaf = tn_leaf(c, TN_F32, 4, (int64_t[]){1, d->C, d->h, d->w}, d->z, record);
    tn_tensor *made = nn_vae_decode(c, d->vae, tn_scale(c, z, 1.0f / nn_vae_cfg(d->vae)->scaling_factor));
    if (d->image) {
        tn_tensor *x = tn_leaf(c, TN_F32, 4, made->shape, (void *)(uintptr_t)d->image, false);
        tn_tensor *y = tn_mse(c, made, x, NULL);
        if (record) tn_seed(c, y, NULL), tn_backward(c);
        if (tn_live(c)) *loss = picture_error(tn_f32(made), d->image, tn_numel(made));
    } else {
        *loss = nn_clip_angle_backward(c, nn_clip_view_features(c, d->clip, d->views, made), d->target);
    }
    if (tn_ctx_status(c, err)) return -1;
    bool sound = isfinite(*loss) && (!z->grad_set || nn_all_finite(z->grad, d->n));
    return sound ? 0 : tn_fail(err, TN_ENUMERIC, "the loss or its gradient is not finite (a smaller learning rate?)");
}

static int open_descent(descent *d, tn_ctx *c, const nn_vae *vae, float *latent, int64_t h, int64_t w, tn_err *err) {
    int64_t C = nn_vae_cfg(vae)->latent_channels, n = C * h * w;
    *d = (descent){.c = c, .vae = vae, .C = C, .h = h, .w = w, .n = n, .z = latent};
    if (!(d->m = calloc(3 * (size_t)n, sizeof *d->m))) return tn_fail(err, TN_ENOMEM, "out of memory for a latent");
    d->v = d->m + n, d->best = d->m + 2 * n;
    return 0;
}

static void adam(descent *d, const nn_latent_fit *f, int64_t step, const tn_tensor *leaf) {
    static const tn_adamw_config config = {0.9, 0.999, 1e-8, 0.0};
    if (leaf->grad_set) tn_adamw(d->c, &config, f->lr, step + 1, d->n, d->z, leaf->grad, d->m, d->v);
}

int nn_latent_fit_image(tn_ctx *c, const nn_vae *vae, nn_latent_fit *f, const float *image, float *latent, int64_t h,
                        int64_t w, tn_err *err) {
    descent d;
    int64_t kept = c->checkpoint;
    if (open_descent(&d, c, vae, latent, h, w, err)) return -1;
    int r = 0;
    d.image = image, c->checkpoint = NN_FIT_CHECKPOINT;
    for (int64_t i = 0; i <= f->steps && !r; i++) { /* the last round only looks */
        tn_tensor *leaf;
        double loss = 0.0;
        if ((r = look(&d, i < f->steps, &leaf, &loss, err))) break;
        if (i == 0) f->first = loss;
        if (i == 0 || loss < f->last) f->last = loss, memcpy(d.best, d.z, (size_t)d.n * sizeof *d.z);
        if (i < f->steps) adam(&d, f, i, leaf);
        if (i < f->steps && f->after && f->after(f->arg, i, loss)) r = 1;
    }
    if (r >= 0) memcpy(latent, d.best, (size_t)d.n * sizeof *latent);
    c->checkpoint = kept;
    free(d.m);
    return r;
}

/* The loss of the whole picture. */
static int whole(descent *d, double *loss, tn_err *err) {
    nn_views views;
    tn_tensor *leaf;
    int64_t f = nn_vae_factor(d->vae);
    if (nn_views_whole(d->clip, d->h * f, d->w * f, &views, err)) return -1;
    d->views = &views;
    int r = look(d, true, &leaf, loss, err);
    nn_views_free(&views);
    return r;
}

int nn_latent_fit_clip(tn_ctx *c, const nn_vae *vae, const nn_clip *clip, nn_latent_fit *f, const float *target,
                       int64_t cutouts, tn_rng *g, float *latent, int64_t h, int64_t w, tn_err *err) {
    descent d;
    int64_t kept = c->checkpoint, factor = nn_vae_factor(vae);
    if (open_descent(&d, c, vae, latent, h, w, err)) return -1;
    d.clip = clip, d.target = target, c->checkpoint = NN_FIT_CHECKPOINT;
    int r = whole(&d, &f->first, err);
    for (int64_t i = 0; i < f->steps && !r; i++) {
        nn_views views;
        tn_tensor *leaf;
        double loss = 0.0;
        if ((r = nn_views_cutouts(clip, h * factor, w * factor, cutouts, g, &views, err))) break;
        d.views = &views;
        r = look(&d, true, &leaf, &loss, err);
        if (!r) adam(&d, f, i, leaf);
        if (!r && f->after && f->after(f->arg, i, loss)) r = 1;
        nn_views_free(&views);
    }
    if (r >= 0 && whole(&d, &f->last, err)) r = -1;
    c->checkpoint = kept;
    free(d.m);
    return r;
}
