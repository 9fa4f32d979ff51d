#include "nn/inversion.h"

#include "nn/pipeline.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int nn_word_init(nn_word *w, int64_t rows, int64_t dim, tn_err *err) {
    size_t n = (size_t)(rows * dim);
    float *p = calloc(5 * n, sizeof *p);
    if (!p) return tn_fail(err, TN_ENOMEM, "out of memory for %lld learned vectors", (long long)rows);
    *w = (nn_word){rows, dim, 0, p, p + n, p + 2 * n, p + 3 * n, p + 4 * n};
    return 0;
}

void nn_word_free(nn_word *w) {
    free(w->v);
    *w = (nn_word){0};
}

/* z_t and the target of the loss for each sample at its own timestep. */
static void diffuse(const nn_schedule *s, const nn_inversion_batch *b, int64_t n, float *noisy, float *target) {
    for (int64_t i = 0; i < b->B; i++) {
        const float *x0 = b->latents + i * n, *noise = b->noise + i * n;
        nn_add_noise(s, x0, noise, (int)b->timesteps[i], noisy + i * n, (size_t)n);
        nn_training_target(s, x0, noise, (int)b->timesteps[i], target + i * n, (size_t)n);
    }
}

/* The loss of one batch, as a tensor. */
static tn_tensor *forward(tn_ctx *c, const nn_model *m, const nn_schedule *s, tn_tensor *learned,
                          const nn_inversion_batch *b) {
    int64_t C = nn_unet_cfg(m->unet)->in_channels, shape[] = {b->B, C, b->h, b->w};
    tn_tensor *t = tn_new(c, TN_F32, 1, &b->B), *noisy = tn_new(c, TN_F32, 4, shape),
              *target = tn_new(c, TN_F32, 4, shape);
    if (tn_live(c)) {
        diffuse(s, b, C * b->h * b->w, noisy->data, target->data);
        for (int64_t i = 0; i < b->B; i++) ((float *)t->data)[i] = (float)b->timesteps[i];
    }
    tn_tensor *context = nn_text_encode_cached(c, m->text, b->texts, b->ids, b->B, b->L, learned);
    return tn_mse(c, nn_unet_forward(c, m->unet, noisy, t, context), target, NULL);
}

int nn_inversion_loss(tn_ctx *c, const nn_model *m, const nn_schedule *s, const nn_word *w, const nn_inversion_batch *b,
                      double *loss, tn_err *err) {
    if (tn_ctx_begin(c, false, err)) return -1;
    tn_tensor *learned = tn_leaf(c, TN_F32, 2, (int64_t[]){w->rows, w->dim}, w->v, false), *y = forward(c, m, s, learned, b);
    if (tn_ctx_status(c, err)) return -1;
    if (!tn_live(c)) return 0;
    *loss = (double)*tn_f32(y);
    return isfinite(*loss) ? 0 : tn_fail(err, TN_ENUMERIC, "the loss is not finite");
}

int nn_inversion_gradient(tn_ctx *c, const nn_model *m, const nn_schedule *s, nn_word *w, const nn_inversion_batch *b,
                          float scale, bool first, double *loss, tn_err *err) {
    if (tn_ctx_begin(c, true, err)) return -1;
    tn_tensor *learned = tn_leaf(c, TN_F32, 2, (int64_t[]){w->rows, w->dim}, w->v, true), *y = forward(c, m, s, learned, b);
    if (y->need) { /* else no placeholder is in the batch */
        tn_seed(c, y, &scale);
        tn_backward(c);
    }
    if (tn_ctx_status(c, err)) return -1;
    if (!tn_live(c)) return 0;
    *loss = (double)*tn_f32(y);
    int64_t n = w->rows * w->dim;
    for (int64_t i = 0; i < n; i++)
        w->grad[i] = (first ? 0.0f : w->grad[i]) + (learned->grad_set ? learned->grad[i] : 0.0f);
    if (!isfinite(*loss)) return tn_fail(err, TN_ENUMERIC, "the loss is not finite");
    if (!nn_all_finite(w->grad, n)) return tn_fail(err, TN_ENUMERIC, "the gradient is not finite");
    return 0;
}

/* Both kinds in double, rounded once when added. OFFICIAL: R = ||sum_i D_i||^2 / V^2, dR/dD_i = 2 sum_j D_j / V^2. */
double nn_inversion_regularise(nn_word *w, int64_t first, int64_t V, nn_reg_kind kind, double weight) {
    const float *v = w->v + first * w->dim, *initial = w->initial + first * w->dim;
    float *grad = w->grad + first * w->dim;
    double R = 0.0, over = kind == NN_REG_L2 ? (double)V : (double)V * (double)V;
    for (int64_t j = 0; j < w->dim; j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < V; i++) {
            double d = (double)v[i * w->dim + j] - (double)initial[i * w->dim + j];
            sum += d;
            if (kind == NN_REG_L2) R += d * d;
        }
        if (kind == NN_REG_OFFICIAL) R += sum * sum;
        for (int64_t i = 0; i < V; i++) {
            int64_t k = i * w->dim + j;
            double d = kind == NN_REG_OFFICIAL ? sum : (double)v[k] - (double)initial[k];
            grad[k] = (float)((double)grad[k] + weight * 2.0 * d / over);
        }
    }
    return R / over;
}

double nn_inversion_clip(nn_word *w, double max_norm, double max_value) {
    int64_t n = w->rows * w->dim;
    double norm = 0.0;
    for (int64_t i = 0; i < n; i++) norm += (double)w->grad[i] * (double)w->grad[i];
    norm = sqrt(norm);
    float shrink = max_norm > 0.0 && max_norm < norm + 1e-6 ? (float)(max_norm / (norm + 1e-6)) : 1.0f,
          limit = (float)max_value;
    for (int64_t i = 0; i < n; i++) {
        float g = w->grad[i] * shrink;
        w->grad[i] = max_value > 0.0 && g > limit ? limit : max_value > 0.0 && g < -limit ? -limit : g;
    }
    return norm;
}

void nn_inversion_update_rows(tn_ctx *c, nn_word *w, int64_t first, int64_t n, int64_t step, const tn_adamw_config *cfg,
                              double lr) {
    int64_t at = first * w->dim;
    tn_adamw(c, cfg, lr, step, n * w->dim, w->v + at, w->grad + at, w->m + at, w->s + at);
}

void nn_inversion_update(tn_ctx *c, nn_word *w, const tn_adamw_config *cfg, double lr) {
    nn_inversion_update_rows(c, w, 0, w->rows, ++w->updates, cfg, lr);
}

void nn_expand_placeholder(int64_t *ids, int64_t L, int64_t placeholder, int64_t first, int64_t V) {
    for (int64_t i = L - 1; i >= 0; i--) { /* from the right, so that moved ids are not looked at again */
        if (ids[i] != placeholder) continue;
        int64_t fit = V < L - i ? V : L - i;
        memmove(ids + i + fit, ids + i + 1, (size_t)(L - i - fit) * sizeof *ids);
        for (int64_t k = 0; k < fit; k++) ids[i + k] = first + k;
    }
}
