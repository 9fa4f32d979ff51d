#include "nn/fit/clip_guidance.h"

#include "nn/fit/latent_fit.h"
#include "nn/pipeline.h"
#include "tensor/op/ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t elements(const nn_clip_guidance *g) { return nn_vae_cfg(g->vae)->latent_channels * g->h * g->w; }

/* From x0 to the loss and back on c, which may only count. */
static tn_tensor *gradient(tn_ctx *c, const nn_clip_guidance *g, const nn_views *views, const float *x0, double *loss) {
    int64_t C = nn_vae_cfg(g->vae)->latent_channels;
    tn_tensor *z = tn_leaf(c, TN_F32, 4, (int64_t[]){1, C, g->h, g->w}, (void *)(uintptr_t)x0, true);
    tn_tensor *image = nn_vae_decode(c, g->vae, tn_scale(c, z, 1.0f / nn_vae_cfg(g->vae)->scaling_factor));
    *loss = nn_clip_angle_backward(c, nn_clip_view_features(c, g->clip, views, image), g->target);
    return z;
}

int nn_clip_guidance_gradient(nn_clip_guidance *g, const nn_views *views, const float *x0, float *grad, tn_err *err) {
    int64_t n = elements(g), kept = g->c->checkpoint;
    if (tn_ctx_begin(g->c, true, err)) return -1;
    g->c->checkpoint = NN_FIT_CHECKPOINT;
    tn_tensor *z = gradient(g->c, g, views, x0, &g->loss);
    g->c->checkpoint = kept;
    if (tn_ctx_status(g->c, err)) return -1;
    for (int64_t i = 0; i < n; i++) grad[i] = z->grad_set ? z->grad[i] : 0.0f;
    if (isfinite(g->loss) && nn_all_finite(grad, n)) return 0;
    return tn_fail(err, TN_ENUMERIC, "CLIP guidance: the gradient is not finite (a smaller scale?)");
}

/* ---- predictions ---- */

/* sample = a x0 + b eps. The x0 that a prediction stands for. */
static double x0_of(int type, double a, double b, double sample, double output) {
    if (type == NN_PREDICT_EPSILON) return (sample - b * output) / a;
    return type == NN_PREDICT_V ? a * sample - b * output : output;
}

/* What a prediction changes by where the eps that it stands for changes by one, the sample staying what it is: with v =
 * a eps - b x0 and x0 = (sample - b eps) / a, dv = a + b^2 / a = 1 / a. */
static double per_eps(int type, double a, double b) {
    return type == NN_PREDICT_EPSILON ? 1.0 : type == NN_PREDICT_V ? 1.0 / a : -b / a;
}

static int move(nn_clip_guidance *g, const nn_views *views, double abar, const float *latent, float *output, float *x0,
                float *grad, tn_err *err) {
    int type = g->schedule->config.prediction_type;
    double a = sqrt(abar), b = sqrt(1.0 - abar), along = g->scale * b * per_eps(type, a, b);
    for (int64_t i = 0; i < elements(g); i++) x0[i] = (float)x0_of(type, a, b, (double)latent[i], (double)output[i]);
    if (nn_clip_guidance_gradient(g, views, x0, grad, err)) return -1;
    for (int64_t i = 0; i < elements(g); i++) output[i] = (float)((double)output[i] + along * (double)grad[i]);
    return 0;
}

/* ---- views ---- */

/* A seed for each of (picture, step): the finalizer of SplitMix64 (Steele et al. 2014). */
static uint64_t mix(uint64_t seed, uint64_t step) {
    uint64_t z = seed + (step + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static int views_of(const nn_clip_guidance *g, int64_t sample, int step, nn_views *out, tn_err *err) {
    int64_t f = nn_vae_factor(g->vae);
    tn_rng r;
    if (!g->cutouts) return nn_views_whole(g->clip, g->h * f, g->w * f, out, err);
    tn_rng_seed(&r, mix(g->seed + (uint64_t)sample, (uint64_t)step));
    return nn_views_cutouts(g->clip, g->h * f, g->w * f, g->cutouts, &r, out, err);
}

int nn_clip_guidance_apply(nn_clip_guidance *g, int step, double t, int64_t B, const float *latent, float *model_output,
                           tn_err *err) {
    int64_t n = elements(g);
    double abar = (double)g->schedule->alphas_cumprod[(int)t];
    if (g->scale == 0.0) return 0;
    float *x0 = malloc(2 * (size_t)n * sizeof *x0);
    int bad = x0 ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for CLIP guidance");
    for (int64_t i = 0; i < B && !bad; i++) {
        nn_views views;
        if ((bad = views_of(g, i, step, &views, err))) break;
        bad = move(g, &views, abar, latent + i * n, model_output + i * n, x0, x0 + n, err);
        nn_views_free(&views);
    }
    free(x0);
    return bad;
}

int nn_clip_guidance_dry(tn_ctx *c, void *guidance, tn_err *err) {
    const nn_clip_guidance *g = guidance;
    nn_views views;
    double loss;
    int64_t kept = c->checkpoint;
    if (views_of(g, 0, 0, &views, err)) return -1;
    int bad = tn_ctx_begin(c, true, err);
    c->checkpoint = NN_FIT_CHECKPOINT;
    if (!bad) gradient(c, g, &views, NULL, &loss);
    c->checkpoint = kept;
    nn_views_free(&views);
    return bad;
}

size_t nn_clip_guidance_weights(const nn_clip *m) {
    size_t bytes = 0;
    for (int i = 0; i < m->weights.params.n; i++) {
        const nn_param *p = &m->weights.params.p[i];
        if (strncmp(p->name, "vis", 3) == 0) bytes += (size_t)tn_numel(p->t) * tn_dtype_size(p->t->dtype);
    }
    return bytes;
}
