#include "tools/clip_score.h"

#include "nn/image/preprocess.h"
#include "tensor/op/ops.h"
#include "tools/clip_cache.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int clip_open(const char *dir, clip_judge *j, tn_err *err) {
    *j = (clip_judge){0};
    if (nn_clip_load(dir, &j->clip, err) || nn_tokenizer_load(dir, &j->tokenizer, err)) {
        clip_close(j);
        return -1;
    }
    j->width = j->clip->vision.projection;
    return 0;
}

void clip_close(clip_judge *j) {
    nn_clip_free(j->clip);
    nn_tokenizer_free(j->tokenizer);
    *j = (clip_judge){0};
}

/* The rows of y, made unit vectors. */
static int take_rows(tn_ctx *c, tn_tensor *y, int64_t n, int64_t width, float *features, tn_err *err) {
    y = tn_l2_normalize(c, y);
    if (tn_ctx_status(c, err)) return -1;
    memcpy(features, tn_f32(y), (size_t)(n * width) * sizeof *features);
    return 0;
}

/* Pictures that go through the image tower at once: bounds the memory. */
enum { SEE_BATCH = 8 };

static int see_some(tn_ctx *c, const clip_judge *j, const nn_image *images, int n, float *pixels, float *features, tn_err *err) {
    int64_t side = j->clip->crop, shape[] = {n, 3, side, side};
    for (int i = 0; i < n; i++) {
        float *at = pixels + (int64_t)i * 3 * side * side;
        if (nn_clip_preprocess(&images[i], side, NN_CROP_FLOOR, j->clip->mean, j->clip->std, at, err)) return -1;
    }
    tn_ctx_reset(c);
    tn_tensor *x = tn_leaf(c, TN_F32, 4, shape, pixels, false);
    return take_rows(c, nn_clip_image_features(c, j->clip, x), n, j->width, features, err);
}

static int see_all(tn_ctx *c, const clip_judge *j, const nn_image *images, int n, float *features, tn_err *err) {
    int64_t side = j->clip->crop;
    float *pixels = malloc((size_t)(SEE_BATCH * 3 * side * side) * sizeof *pixels);
    int r = pixels ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    for (int i = 0; !r && i < n; i += SEE_BATCH) {
        r = see_some(c, j, images + i, n - i < SEE_BATCH ? n - i : SEE_BATCH, pixels, features + i * j->width, err);
    }
    free(pixels);
    return r;
}

int clip_see(tn_ctx *c, const clip_judge *j, const nn_image *images, int n, float *features, tn_err *err) {
    if (!j->cache) return see_all(c, j, images, n, features, err);
    for (int i = 0; i < n; i++) {
        bool found;
        float *at = features + i * j->width;
        if (clip_recall(j, &images[i], at, &found, err)) return -1;
        if (!found && (see_all(c, j, &images[i], 1, at, err) || clip_remember(j, &images[i], at, err))) return -1;
    }
    return 0;
}

int clip_read(tn_ctx *c, const clip_judge *j, const char *text, float *features, bool *strange, tn_err *err) {
    int64_t length = j->clip->text.cfg.positions, shape[] = {1, length};
    nn_tokens t;
    if (nn_tokenizer_encode(j->tokenizer, text, strlen(text), NN_RULES_HF, (int)length, &t, err)) return -1;
    for (int i = 0; strange && i < t.n_split; i++) *strange = *strange || t.split[i].bare_byte;
    tn_ctx_reset(c);
    tn_tensor *ids = tn_leaf(c, TN_I64, 2, shape, NULL, false);
    for (int64_t i = 0; i < length && tn_live(c); i++) ((int64_t *)ids->data)[i] = t.ids[i];
    nn_tokens_free(&t);
    if (tn_ctx_status(c, err)) return -1;
    return take_rows(c, nn_clip_text_features(c, j->clip, ids, NULL), 1, j->width, features, err);
}

/* ---- cosines, in double and in the order of the vectors ---- */

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

double clip_pairs(const clip_judge *j, const float *a, int na, const float *b, int nb) {
    double sum = 0.0;
    for (int i = 0; i < na; i++) {
        for (int k = 0; k < nb; k++) sum += dot(a + i * j->width, b + k * j->width, j->width);
    }
    return sum / ((double)na * nb);
}

double clip_within(const clip_judge *j, const float *a, int na) {
    double sum = 0.0;
    for (int i = 0; i < na; i++) {
        for (int k = 0; k < na; k++) sum += i == k ? 0.0 : dot(a + i * j->width, a + k * j->width, j->width);
    }
    return na > 1 ? sum / ((double)na * (na - 1)) : 1.0;
}

double clip_of_mean(const clip_judge *j, const float *a, int na, const float *b) {
    double along = 0.0, square = 0.0;
    for (int64_t d = 0; d < j->width; d++) {
        double sum = 0.0;
        for (int i = 0; i < na; i++) sum += (double)a[i * j->width + d];
        along += sum * (double)b[d], square += sum * sum;
    }
    return square > 0.0 ? along / sqrt(square) : 0.0;
}
