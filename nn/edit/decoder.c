#include "nn/edit/decoder.h"

#include "tensor/op/ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The weights that learn, widened to F32, with Adam's moments. `params` is the decoder's part of the autoencoder's list;
 * its names belong to that. */
typedef struct copy {
    nn_vae *vae;
    nn_params params;
    float **weight, **moment; /* [params.n]; moment: first, then second */
    int64_t n;                /* elements of an image */
    float *target, *importance;
} copy;

static void copy_free(copy *k) {
    for (int i = 0; i < k->params.n; i++) {
        if (k->weight) free(k->weight[i]);
        if (k->moment) free(k->moment[i]);
    }
    nn_vae_free(k->vae);
    free(k->params.p), free(k->weight), free(k->moment), free(k->target), free(k->importance);
}

/* Puts a copy in the place of a mapped weight. */
static int thaw(tn_ctx *c, tn_tensor *t, float **weight, float **moment, tn_err *err) {
    size_t n = (size_t)tn_numel(t);
    *weight = malloc(n * sizeof **weight), *moment = calloc(2 * n, sizeof **moment);
    if (!*weight || !*moment) return tn_fail(err, TN_ENOMEM, "out of memory for a copy of the decoder");
    c->k->widen((int64_t)n, t->data, t->dtype, *weight);
    t->data = *weight, t->dtype = TN_F32;
    return 0;
}

static int copy_decoder(copy *k, tn_ctx *c, const char *dir, tn_err *err) {
    if (nn_vae_load(dir, &k->vae, err)) return -1;
    nn_params *all = nn_vae_params(k->vae);
    k->params.p = malloc((size_t)all->n * sizeof *k->params.p);
    k->weight = calloc((size_t)all->n, sizeof *k->weight), k->moment = calloc((size_t)all->n, sizeof *k->moment);
    if (!k->params.p || !k->weight || !k->moment) return tn_fail(err, TN_ENOMEM, "out of memory for a decoder");
    for (int i = 0; i < all->n; i++) {
        nn_param *p = &all->p[i];
        if (!p->t->data || strncmp(p->name, "decoder.", 8) != 0) continue;
        int at = k->params.n++;
        k->params.p[at] = *p;
        if (thaw(c, p->t, &k->weight[at], &k->moment[at], err)) return -1;
    }
    return nn_params_need(&k->params, true, err);
}

/* The two parts of the loss as one: each pixel has one target and one weight. */
static int set_target(copy *k, const nn_decoder_fit *f, tn_err *err) {
    int64_t pixels = k->n / 3;
    k->target = malloc((size_t)k->n * sizeof *k->target), k->importance = malloc((size_t)k->n * sizeof *k->importance);
    if (!k->target || !k->importance) return tn_fail(err, TN_ENOMEM, "out of memory for the background");
    for (int64_t i = 0; f->mask && i < k->n; i++) {
        bool inside = f->mask[i % pixels];
        k->target[i] = inside ? f->foreground[i] : f->background[i];
        k->importance[i] = inside ? 1.0f : (float)f->preservation;
    }
    return 0;
}

static tn_tensor *leaf(tn_ctx *c, int64_t channels, int64_t h, int64_t w, const float *data) {
    return tn_leaf(c, TN_F32, 4, (int64_t[]){1, channels, h, w}, (void *)(uintptr_t)data, false);
}

/* The loss of this moment's weights, and its gradient. */
static int gradient(copy *k, tn_ctx *c, const nn_decoder_fit *f, double *loss, tn_err *err) {
    const nn_vae_config *cfg = nn_vae_cfg(k->vae);
    int64_t factor = nn_vae_factor(k->vae), H = f->h * factor, W = f->w * factor;
    if (tn_ctx_begin(c, true, err)) return -1;
    for (int i = 0; i < k->params.n; i++) k->params.p[i].t->grad_set = false;
    tn_tensor *z = tn_scale(c, leaf(c, cfg->latent_channels, f->h, f->w, f->latent), 1.0f / cfg->scaling_factor);
    tn_tensor *y = tn_mse(c, nn_vae_decode(c, k->vae, z), leaf(c, 3, H, W, k->target), leaf(c, 3, H, W, k->importance));
    tn_seed(c, y, NULL);
    tn_backward(c);
    if (tn_ctx_status(c, err)) return -1;
    if (!tn_live(c)) return 0;
    *loss = (double)*tn_f32(y);
    return isfinite(*loss) ? 0 : tn_fail(err, TN_ENUMERIC, "fitting the decoder: the loss is not finite");
}

static int fit(copy *k, tn_ctx *c, const nn_decoder_fit *f, tn_err *err) {
    static const tn_adamw_config adam = {0.9, 0.999, 1e-8, 0.0};
    int64_t steps = tn_live(c) ? f->steps : 1; /* one tells a dry run all */
    double loss = 0.0;
    for (int64_t step = 1; step <= steps; step++) {
        if (gradient(k, c, f, &loss, err)) return tn_fail_in(err, "step %lld", (long long)step);
        for (int i = 0; tn_live(c) && i < k->params.n; i++) {
            tn_tensor *t = k->params.p[i].t;
            int64_t n = tn_numel(t);
            if (t->grad_set) tn_adamw(c, &adam, f->rate, step, n, k->weight[i], t->grad, k->moment[i], k->moment[i] + n);
        }
        if (tn_live(c) && f->progress) f->progress(f->arg, step, loss);
    }
    return nn_params_need(&k->params, false, err);
}

size_t nn_decoder_copy_bytes(const nn_vae *m) {
    size_t n = 0;
    const nn_params *all = &nn_vae_weights(m)->params;
    for (int i = 0; i < all->n; i++) {
        if (strncmp(all->p[i].name, "decoder.", 8) == 0) n += (size_t)tn_numel(all->p[i].t);
    }
    return 4 * n * sizeof(float);
}

int nn_decoder_refine(tn_ctx *c, const char *dir, const nn_decoder_fit *f, float *image, tn_err *err) {
    copy k = {0};
    int bad = copy_decoder(&k, c, dir, err);
    if (!bad) {
        int64_t factor = nn_vae_factor(k.vae);
        k.n = 3 * f->h * f->w * factor * factor;
        bad = set_target(&k, f, err) || fit(&k, c, f, err) ||
                      nn_decode_latent(c, k.vae, f->latent, 1, f->h, f->w, image, err)
                  ? -1
                  : 0;
    }
    tn_ctx_reset(c); /* nothing on it is of use any more */
    copy_free(&k);
    return bad;
}
