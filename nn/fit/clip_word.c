#include "nn/fit/clip_word.h"

#include "nn/pipeline.h"
#include "tensor/dmath.h"
#include "tensor/op/ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct tuning {
    tn_ctx *c;
    const nn_clip *clip;
    const int64_t *ids;
    int64_t B, L, width, P;
    const float *poles; /* [2,P]: pictures, coarse word */
    float *v;
    double temperature, between; /* between: cosine of the two poles */
} tuning;

/* log(1 + exp(u)), the loss of choosing between two whose logits differ by u; *slope = 1 / (1 + exp(-u)), its
 * derivative. */
static double choice(double u, double *slope) {
    *slope = 1.0 / (1.0 + tn_exp(-u));
    return u > 0.0 ? u + tn_log1p(tn_exp(-u)) : tn_log1p(tn_exp(u)); /* exp of a negative number only */
}

/* Rows of cosines of the sentence to both poles -> the mean loss, its gradient, the mean cosines. */
static double contrast(const tuning *t, const float *cosines, float *cotangent, double mean[2]) {
    double sum = 0.0, B = (double)t->B, T = t->temperature;
    for (int64_t b = 0; b < t->B; b++) {
        double near = (double)cosines[2 * b], coarse = (double)cosines[2 * b + 1], of_sentence, of_pictures;
        sum += (choice((coarse - near) / T, &of_sentence) + choice((t->between - near) / T, &of_pictures)) / 2.0 / B;
        cotangent[2 * b] = (float)(-(of_sentence + of_pictures) / 2.0 / T / B),
                      cotangent[2 * b + 1] = (float)(of_sentence / 2.0 / T / B);
        mean[0] += near / B, mean[1] += coarse / B;
    }
    return sum;
}

/* Loss and mean cosines at t->v, the gradient in the leaf that is returned. */
static int look(tuning *t, tn_tensor **leaf, double *loss, double mean[2], tn_err *err) {
    tn_ctx *c = t->c;
    if (tn_ctx_begin(c, true, err)) return -1;
    tn_tensor *v = *leaf = tn_leaf(c, TN_F32, 2, (int64_t[]){1, t->width}, t->v, true);
    tn_tensor *ids = tn_leaf(c, TN_I64, 2, (int64_t[]){t->B, t->L}, (void *)(uintptr_t)t->ids, false);
    tn_tensor *poles = tn_leaf(c, TN_F32, 2, (int64_t[]){2, t->P}, (void *)(uintptr_t)t->poles, false);
    tn_tensor *y = tn_cosine_similarity(c, nn_clip_text_features(c, t->clip, ids, v), poles);
    tn_tensor *cotangent = tn_new(c, TN_F32, 2, y->shape);
    mean[0] = mean[1] = 0.0;
    if (tn_live(c)) *loss = contrast(t, tn_f32(y), tn_f32(cotangent), mean);
    if (tn_live(c)) tn_seed(c, y, tn_f32(cotangent)), tn_backward(c);
    if (tn_ctx_status(c, err)) return -1;
    bool sound = isfinite(*loss) && (!v->grad_set || nn_all_finite(v->grad, t->width));
    return sound ? 0 : tn_fail(err, TN_ENUMERIC, "the loss or its gradient is not finite (a smaller learning rate?)");
}

int nn_clip_word_fit(tn_ctx *c, const nn_clip *m, nn_clip_word *f, const int64_t *ids, int64_t B, int64_t L,
                     const float *pictures, const float *coarse, float *v, tn_err *err) {
    static const tn_adamw_config adam = {0.9, 0.999, 1e-8, 0.0};
    int64_t width = m->text.cfg.t.width, P = m->vision.projection;
    float *room = calloc((size_t)(2 * P + 2 * width), sizeof *room), *first = room + 2 * P, *second = first + width;
    if (!room) return tn_fail(err, TN_ENOMEM, "out of memory for a word");
    memcpy(room, pictures, (size_t)P * sizeof *room), memcpy(room + P, coarse, (size_t)P * sizeof *room);
    tuning t = {c, m, ids, B, L, width, P, room, v, f->temperature, 0.0};
    for (int64_t i = 0; i < P; i++) t.between += (double)pictures[i] * (double)coarse[i];
    int r = 0;
    for (int64_t i = 0; i <= f->steps && r >= 0; i++) { /* the last round only looks */
        tn_tensor *leaf;
        double loss = 0.0, mean[2];
        bool end = i == f->steps || r == 1;
        if (look(&t, &leaf, &loss, mean, err)) {
            r = -1;
            break;
        }
        if (i == 0) f->first = loss, f->near_first = mean[0], f->coarse_first = mean[1];
        f->last = loss, f->near_last = mean[0], f->coarse_last = mean[1];
        if (end) break;
        if (leaf->grad_set) tn_adamw(c, &adam, f->lr, i + 1, width, v, leaf->grad, first, second);
        if (f->after && f->after(f->arg, i, loss)) r = 1;
    }
    free(room);
    return r;
}
