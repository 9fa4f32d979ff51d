#include "nn/fit/clip_view.h"

#include "nn/image/resize.h"
#include "tensor/dmath.h"
#include "tensor/op/ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void nn_views_free(nn_views *v) {
    free(v->across), free(v->down), free(v->noise);
    *v = (nn_views){0};
}

/* ---- the matrices ---- */

/* [out,in]: column i is what becomes of a row of pixels that is 1 at i and 0 elsewhere. */
static int resize_matrix(int64_t in, int64_t out, float *m, tn_err *err) {
    float *unit = calloc((size_t)(in * (in + out)), sizeof *unit), *made = unit + in * in;
    if (!unit) return tn_fail(err, TN_ENOMEM, "out of memory for a view of %lld pixels", (long long)in);
    for (int64_t i = 0; i < in; i++) unit[i * in + i] = 1.0f;
    int bad = nn_resize_f32(unit, in, in, out, in, NN_BICUBIC, made, err);
    for (int64_t i = 0; i < in && !bad; i++) {
        for (int64_t o = 0; o < out; o++) m[o * in + i] = made[i * out + o];
    }
    free(unit);
    return bad;
}

static int allocate(const nn_clip *m, int64_t H, int64_t W, int64_t n, bool noisy, nn_views *v, tn_err *err) {
    int64_t S = m->crop;
    *v = (nn_views){.n = n, .H = H, .W = W, .S = S};
    v->across = calloc((size_t)(n * S * W), sizeof *v->across),
    v->down = calloc((size_t)(3 * n * S * H), sizeof *v->down);
    if (noisy) v->noise = malloc((size_t)(n * 3 * S * S) * sizeof *v->noise);
    for (int i = 0; i < 3; i++) /* (x / 2 + 1/2 - mean) / std */
        v->norm[4 * i] = 0.5f / m->std[i], v->shift[i] = (0.5f - m->mean[i]) / m->std[i];
    if (v->across && v->down && (!noisy || v->noise)) return 0;
    nn_views_free(v);
    return tn_fail(err, TN_ENOMEM, "out of memory for %lld views of a picture", (long long)n);
}

/* down of the first colour is there: the others see the same. */
static void repeat_down(nn_views *v) {
    int64_t one = v->n * v->S * v->H;
    for (int colour = 1; colour < 3; colour++) memcpy(v->down + colour * one, v->down, (size_t)one * sizeof *v->down);
}

/* One axis of the whole view: resized to `scaled`, of which the middle S rows remain. */
static int whole_axis(int64_t in, int64_t scaled, int64_t S, float *to, tn_err *err) {
    float *all = malloc((size_t)(scaled * in) * sizeof *all);
    int bad = all ? resize_matrix(in, scaled, all, err) : tn_fail(err, TN_ENOMEM, "out of memory for a view");
    if (!bad) memcpy(to, all + (scaled - S) / 2 * in, (size_t)(S * in) * sizeof *to);
    free(all);
    return bad;
}

int nn_views_whole(const nn_clip *m, int64_t H, int64_t W, nn_views *out, tn_err *err) {
    nn_views v;
    if (allocate(m, H, W, 1, false, &v, err)) return -1;
    int64_t S = v.S, shorter = H < W ? H : W;
    if (whole_axis(W, S * W / shorter, S, v.across, err) || whole_axis(H, S * H / shorter, S, v.down, err)) {
        nn_views_free(&v);
        return -1;
    }
    repeat_down(&v);
    *out = v;
    return 0;
}

/* ---- cutouts ---- */

/* A row [in] of a square's matrix [S,side] into the picture's: shifted by `from`. */
static void place(const float *square, int64_t side, int64_t S, int64_t from, int64_t in, bool mirror, float *to) {
    for (int64_t s = 0; s < S; s++) {
        const float *row = square + (mirror ? S - 1 - s : s) * side;
        memcpy(to + s * in + from, row, (size_t)side * sizeof *to);
    }
}

static float uniform(tn_rng *g) {
    float u;
    tn_rng_rand(g, &u, 1);
    return u;
}

static int cut(nn_views *v, int64_t i, tn_rng *g, float *square, tn_err *err) {
    int64_t S = v->S, most = v->H < v->W ? v->H : v->W, least = (most + 1) / 2;
    int64_t side = least + tn_rng_randint(g, most - least + 1);
    int64_t left = tn_rng_randint(g, v->W - side + 1), top = tn_rng_randint(g, v->H - side + 1);
    bool mirror = uniform(g) < 0.5f;
    float spread = 0.1f * uniform(g), *noise = v->noise + i * 3 * S * S;
    tn_rng_randn(g, noise, (size_t)(3 * S * S));
    for (int64_t k = 0; k < 3 * S * S; k++) noise[k] *= spread;
    if (resize_matrix(side, S, square, err)) return -1;
    place(square, side, S, left, v->W, mirror, v->across + i * S * v->W);
    place(square, side, S, top, v->H, false, v->down + i * S * v->H);
    return 0;
}

int nn_views_cutouts(const nn_clip *m, int64_t H, int64_t W, int64_t n, tn_rng *g, nn_views *out, tn_err *err) {
    nn_views v;
    if (allocate(m, H, W, n, true, &v, err)) return -1;
    float *square = malloc((size_t)(v.S * (H < W ? H : W)) * sizeof *square);
    int bad = square ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for %lld cutouts", (long long)n);
    for (int64_t i = 0; i < n && !bad; i++) bad = cut(&v, i, g, square, err);
    free(square);
    if (bad) {
        nn_views_free(&v);
        return -1;
    }
    repeat_down(&v);
    *out = v;
    return 0;
}

/* ---- seeing ---- */

static tn_tensor *constant(tn_ctx *c, int ndim, const int64_t *shape, const float *data) {
    return tn_leaf(c, TN_F32, ndim, shape, (void *)(uintptr_t)data, false);
}

/* [1,3,H,W] -> [n,3,S,S]. The linear operator works along rows, so columns are turned into rows between the two axes;
 * the colours lie before the views until the normalisation, a linear map of colours, turns them round too. */
static tn_tensor *look(tn_ctx *c, const nn_views *v, tn_tensor *image) {
    int64_t n = v->n, H = v->H, S = v->S;
    tn_tensor *x = tn_clamp(c, tn_reshape(c, image, 3, (int64_t[]){3, H, v->W}), -1.0f, 1.0f);
    x = tn_linear(c, x, constant(c, 2, (int64_t[]){n * S, v->W}, v->across), NULL); /* [3, H, n*S] */
    x = tn_nchw_to_tokens(c, tn_reshape(c, x, 4, (int64_t[]){3, H, 1, n * S}));     /* [3, n*S, H] */
    tn_tensor *down = constant(c, 3, (int64_t[]){3 * n, S, H}, v->down);
    x = tn_matmul(c, down, tn_reshape(c, x, 3, (int64_t[]){3 * n, S, H}), false, true); /* [3*n, S down, S across] */
    x = tn_linear_from_image(c, tn_reshape(c, x, 4, (int64_t[]){1, 3, n, S * S}),
                             constant(c, 2, (int64_t[]){3, 3}, v->norm),
                             constant(c, 1, (int64_t[]){3}, v->shift)); /* [1, n*S*S, 3] */
    x = tn_tokens_to_nchw(c, tn_reshape(c, x, 3, (int64_t[]){n, S * S, 3}), S, S);
    return v->noise ? tn_add(c, x, constant(c, 4, (int64_t[]){n, 3, S, S}, v->noise)) : x;
}

tn_tensor *nn_clip_view_features(tn_ctx *c, const nn_clip *m, const nn_views *v, tn_tensor *image) {
    TN_REQUIRE(tn_numel(image) == 3 * v->H * v->W && v->S == m->vision.image);
    return nn_clip_image_features(c, m, look(c, v, image));
}

/* ---- the loss ---- */

/* theta from its cosine; *slope = d(theta^2 / 2) / d cos = -theta / sin theta, which goes to -1 with theta. */
static double angle_of(double cosine, double *slope) {
    double x = cosine < -1.0  ? -1.0
               : cosine > 1.0 ? 1.0
                              : cosine,
           theta = 2.0 * tn_asin(sqrt((1.0 - x) / 2.0)), s = tn_sin(theta);
    *slope = s > 1e-6 ? -theta / s : theta > 1.0 ? -1e6 : -1.0; /* the far pole has no direction */
    return theta;
}

double nn_clip_angle_backward(tn_ctx *c, tn_tensor *features, const float *target) {
    int64_t n = features->shape[0], P = features->shape[1];
    tn_tensor *y = tn_cosine_similarity(c, features, constant(c, 2, (int64_t[]){1, P}, target)); /* [n,1] */
    tn_tensor *cotangent = tn_new(c, TN_F32, 1, &n);
    double sum = 0.0;
    for (int64_t i = 0; i < n && tn_live(c); i++) {
        double slope, theta = angle_of((double)tn_f32(y)[i], &slope);
        sum += theta * theta / 2.0;
        tn_f32(cotangent)[i] = (float)(slope / (double)n);
    }
    tn_seed(c, y, tn_live(c) ? tn_f32(cotangent) : NULL);
    tn_backward(c);
    return sum / (double)n;
}
