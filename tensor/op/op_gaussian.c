/* clamp, gaussian_sample, gaussian_kl: the autoencoder's posterior. Definitions: ref/gaussian.c. */
#include "tensor/op/ops.h"

static int same_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    for (int i = 1; i < n->nin; i++) TN_FIT(n, tn_numel(n->in[i]) == tn_numel(x));
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    return x->ndim;
}

/* ---- clamp: the gradient is zero strictly outside the interval ---- */

static void clamp_forward(tn_ctx *c, tn_node *n) {
    const float *x = n->in[0]->data;
    float *y = n->out->data, lo = n->a.lo, hi = n->a.hi;
    for (int64_t i = 0; i < tn_numel(n->out) && tn_live(c); i++) y[i] = x[i] < lo ? lo : x[i] > hi ? hi : x[i];
}

static void clamp_backward(tn_ctx *c, tn_node *n) {
    const float *x = n->in[0]->data;
    int acc;
    float *dx = tn_din(n, 0, &acc);
    for (int64_t i = 0; dx && i < tn_numel(n->out) && tn_live(c); i++) {
        float g = x[i] < n->a.lo || x[i] > n->a.hi ? 0.0f : n->out->grad[i];
        dx[i] = acc ? dx[i] + g : g;
    }
}

static const tn_case clamp_cases[] = {{"half of it", {.lo = -0.25f, .hi = 0.5f}, 1, {{'x', 3, {2, 9, 5}}}}};
const tn_op tn_op_clamp = {"clamp", same_shape, NULL, clamp_forward, clamp_backward, clamp_cases, 1};
tn_tensor *tn_clamp(tn_ctx *c, tn_tensor *x, float lo, float hi) {
    return tn_apply(c, &tn_op_clamp, &(tn_attr){.lo = lo, .hi = hi}, 1, &x);
}

/* ---- gaussian_sample: z = mean + std noise, std = exp(logvar / 2) kept for backward; no gradient to the noise ---- */

static int64_t sample_saved(const tn_node *n) { return tn_numel(n->in[0]); }

static void sample_forward(tn_ctx *c, tn_node *n) {
    if (!tn_live(c)) return;
    int64_t N = tn_numel(n->out);
    const float *mean = n->in[0]->data, *logvar = n->in[1]->data, *noise = n->in[2]->data;
    float *std = n->saved, *z = n->out->data;
    c->k->axpby(N, 0.5f, logvar, 0.0f, NULL, std);
    c->k->unary(K_EXP, N, std, std);
    for (int64_t i = 0; i < N; i++) z[i] = mean[i] + std[i] * noise[i];
}

static void sample_backward(tn_ctx *c, tn_node *n) {
    const float *noise = n->in[2]->data, *std = n->saved, *dz = n->out->grad;
    int acc[2];
    float *dmean = tn_din(n, 0, &acc[0]), *dlogvar = tn_din(n, 1, &acc[1]);
    for (int64_t i = 0; i < tn_numel(n->out) && tn_live(c); i++) {
        if (dmean) dmean[i] = (acc[0] ? dmean[i] : 0.0f) + dz[i];
        if (dlogvar) dlogvar[i] = (acc[1] ? dlogvar[i] : 0.0f) + 0.5f * dz[i] * noise[i] * std[i];
    }
}

static const tn_case sample_cases[] = {
    {"latent", {0}, 3, {{'x', 4, {2, 4, 3, 3}}, {'x', 4, {2, 4, 3, 3}}, {'d', 4, {2, 4, 3, 3}}}},
};
const tn_op tn_op_gaussian_sample = {"gaussian_sample", same_shape, sample_saved, sample_forward, sample_backward, sample_cases, 1};
tn_tensor *tn_gaussian_sample(tn_ctx *c, tn_tensor *mean, tn_tensor *logvar, tn_tensor *noise) {
    return tn_apply(c, &tn_op_gaussian_sample, NULL, 3, (tn_tensor *[]){mean, logvar, noise});
}

/* ---- gaussian_kl: against N(0, 1), summed over all but the batch; var = exp(logvar) kept ---- */

static int kl_shape(const tn_node *n, int64_t *shape) {
    TN_FIT(n, n->in[0]->ndim >= 1 && tn_numel(n->in[0]) == tn_numel(n->in[1]));
    shape[0] = n->in[0]->shape[0];
    return 1;
}

static void kl_forward(tn_ctx *c, tn_node *n) {
    if (!tn_live(c)) return;
    int64_t B = n->in[0]->shape[0], N = tn_numel(n->in[0]) / B;
    const float *mean = n->in[0]->data, *logvar = n->in[1]->data;
    float *var = n->saved;
    c->k->unary(K_EXP, B * N, logvar, var);
    for (int64_t b = 0; b < B; b++) {
        double s = 0.0;
        for (int64_t i = b * N; i < (b + 1) * N; i++) {
            s += (double)mean[i] * (double)mean[i] + (double)var[i] - 1.0 - (double)logvar[i];
        }
        ((float *)n->out->data)[b] = (float)(0.5 * s);
    }
}

static void kl_backward(tn_ctx *c, tn_node *n) {
    int64_t B = n->in[0]->shape[0], N = tn_numel(n->in[0]) / B;
    const float *mean = n->in[0]->data, *var = n->saved;
    int acc[2];
    float *dmean = tn_din(n, 0, &acc[0]), *dlogvar = tn_din(n, 1, &acc[1]);
    for (int64_t i = 0; i < B * N && tn_live(c); i++) {
        float g = n->out->grad[i / N];
        if (dmean) dmean[i] = (acc[0] ? dmean[i] : 0.0f) + g * mean[i];
        if (dlogvar) dlogvar[i] = (acc[1] ? dlogvar[i] : 0.0f) + g * 0.5f * (var[i] - 1.0f);
    }
}

static const tn_case kl_cases[] = {{"latent", {0}, 2, {{'x', 4, {2, 4, 3, 3}}, {'x', 4, {2, 4, 3, 3}}}}};
const tn_op tn_op_gaussian_kl = {"gaussian_kl", kl_shape, sample_saved, kl_forward, kl_backward, kl_cases, 1};
tn_tensor *tn_gaussian_kl(tn_ctx *c, tn_tensor *mean, tn_tensor *logvar) {
    return tn_apply(c, &tn_op_gaussian_kl, NULL, 2, (tn_tensor *[]){mean, logvar});
}
