/* mean, mse, l2_normalize, cosine_similarity. Definitions: ref/reduce.c. Sums use the kernels' fixed order. */
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

#include <math.h>
#include <string.h>

/* ---- mean over the last axis ---- */

static int mean_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim >= 1);
    for (int i = 0; i < x->ndim - 1; i++) shape[i] = x->shape[i];
    return x->ndim - 1;
}

static void mean_forward(tn_ctx *c, tn_node *n) {
    int64_t N = tn_dim(n->in[0], -1), R = tn_numel(n->out);
    const float *x = n->in[0]->data;
    float *y = n->out->data;
    for (int64_t r = 0; r < R && tn_live(c); r++) y[r] = c->k->sum(N, x + r * N) / (float)N;
}

static void mean_backward(tn_ctx *c, tn_node *n) {
    int64_t N = tn_dim(n->in[0], -1), R = tn_numel(n->out);
    int acc;
    float *dx = tn_din(n, 0, &acc);
    for (int64_t r = 0; dx && r < R && tn_live(c); r++) {
        float g = n->out->grad[r] / (float)N;
        for (int64_t i = r * N; i < (r + 1) * N; i++) dx[i] = acc ? dx[i] + g : g;
    }
}

static const tn_case mean_cases[] = {
    {"rows", {0}, 1, {{'x', 3, {2, 4, 15}}}},
    {"all", {0}, 1, {{'x', 1, {5003}}}},
};
const tn_op tn_op_mean = {"mean", mean_shape, NULL, mean_forward, mean_backward, mean_cases, 2};
tn_tensor *tn_mean(tn_ctx *c, tn_tensor *x) { return tn_apply(c, &tn_op_mean, NULL, 1, &x); }

/* ---- mse: mean of w (a - b)^2 over all elements ---- */

static int mse_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *a = n->in[0], *b = n->in[1], *w = n->in[2];
    (void)shape;
    TN_FIT(n, tn_numel(a) == tn_numel(b) && (!w || tn_numel(w) == tn_numel(a)) && tn_numel(a) > 0);
    return 0;
}

static void mse_forward(tn_ctx *c, tn_node *n) {
    int64_t N = tn_numel(n->in[0]);
    if (!tn_live(c)) return;
    float s = c->k->sum_sq_diff(N, n->in[0]->data, n->in[1]->data, n->in[2] ? n->in[2]->data : NULL);
    *(float *)n->out->data = s / (float)N;
}

static void mse_backward(tn_ctx *c, tn_node *n) {
    int64_t N = tn_numel(n->in[0]);
    const float *a = n->in[0]->data, *b = n->in[1]->data, *w = n->in[2] ? n->in[2]->data : NULL;
    int acc[2];
    float *d[2] = {tn_din(n, 0, &acc[0]), tn_din(n, 1, &acc[1])};
    if (!tn_live(c)) return;
    float scale = *n->out->grad * 2.0f / (float)N;
    for (int i = 0; i < 2; i++) {
        for (int64_t j = 0; d[i] && j < N; j++) {
            float g = scale * (a[j] - b[j]);
            if (w) g *= w[j];
            if (i == 1) g = -g;
            d[i][j] = acc[i] ? d[i][j] + g : g;
        }
    }
}

static const tn_case mse_cases[] = {
    {"plain", {0}, 3, {{'x', 4, {2, 4, 5, 3}}, {'x', 4, {2, 4, 5, 3}}, {0}}},
    {"weighted", {0}, 3, {{'x', 4, {2, 4, 50, 31}}, {'x', 4, {2, 4, 50, 31}}, {'p', 4, {2, 4, 50, 31}}}},
};
const tn_op tn_op_mse = {"mse", mse_shape, NULL, mse_forward, mse_backward, mse_cases, 2};
tn_tensor *tn_mse(tn_ctx *c, tn_tensor *a, tn_tensor *b, tn_tensor *weight) {
    return tn_apply(c, &tn_op_mse, NULL, 3, (tn_tensor *[]){a, b, weight});
}

/* ---- l2_normalize: y = x / r, r = ||x||; dx = (dy - y (y.dy)) / r ---- */

static int normalize_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0];
    TN_FIT(n, x->ndim >= 1);
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    return x->ndim;
}

static int64_t normalize_rows(const tn_node *n) { return tn_numel(n->in[0]) / tn_dim(n->in[0], -1); }

static void normalize_forward(tn_ctx *c, tn_node *n) {
    int64_t C = tn_dim(n->in[0], -1), R = normalize_rows(n);
    for (int64_t r = 0; r < R && tn_live(c); r++) {
        const float *x = (const float *)n->in[0]->data + r * C;
        float norm = sqrtf(c->k->dot(C, x, x));
        n->saved[r] = norm;
        for (int64_t i = 0; i < C; i++) ((float *)n->out->data)[r * C + i] = x[i] / norm;
    }
}

static void normalize_backward(tn_ctx *c, tn_node *n) {
    int64_t C = tn_dim(n->in[0], -1), R = normalize_rows(n);
    int acc;
    float *dx = tn_din(n, 0, &acc);
    for (int64_t r = 0; dx && r < R && tn_live(c); r++) {
        const float *y = (const float *)n->out->data + r * C, *dy = n->out->grad + r * C;
        float along = c->k->dot(C, y, dy);
        for (int64_t i = 0; i < C; i++) {
            float g = (dy[i] - y[i] * along) / n->saved[r];
            dx[r * C + i] = acc ? dx[r * C + i] + g : g;
        }
    }
}

static const tn_case normalize_cases[] = {{"rows", {0}, 1, {{'x', 2, {4, 19}}}}, {"wide", {0}, 1, {{'x', 2, {3, 512}}}}};
const tn_op tn_op_l2_normalize = {"l2_normalize", normalize_shape, normalize_rows, normalize_forward, normalize_backward,
                                  normalize_cases, 2};
tn_tensor *tn_l2_normalize(tn_ctx *c, tn_tensor *x) { return tn_apply(c, &tn_op_l2_normalize, NULL, 1, &x); }

/* ---- cosine_similarity: y_ij = a_i b_j / (|a_i| |b_j|); da_i = sum_j dy_ij (b_j/|b_j| - y_ij a_i/|a_i|) / |a_i| ---- */

static int cosine_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *a = n->in[0], *b = n->in[1];
    TN_FIT(n, a->ndim == 2 && b->ndim == 2 && a->shape[1] == b->shape[1]);
    shape[0] = a->shape[0], shape[1] = b->shape[0];
    return 2;
}

static int64_t cosine_saved(const tn_node *n) { return n->in[0]->shape[0] + n->in[1]->shape[0]; } /* the norms */

static void cosine_forward(tn_ctx *c, tn_node *n) {
    if (!tn_live(c)) return;
    int64_t N = n->in[0]->shape[0], M = n->in[1]->shape[0], C = n->in[0]->shape[1];
    const float *a = n->in[0]->data, *b = n->in[1]->data;
    float *na = n->saved, *nb = n->saved + N, *y = n->out->data;
    for (int64_t i = 0; i < N; i++) na[i] = sqrtf(c->k->dot(C, a + i * C, a + i * C));
    for (int64_t j = 0; j < M; j++) nb[j] = sqrtf(c->k->dot(C, b + j * C, b + j * C));
    for (int64_t i = 0; i < N; i++) {
        for (int64_t j = 0; j < M; j++) y[i * M + j] = c->k->dot(C, a + i * C, b + j * C) / (na[i] * nb[j]);
    }
}

/* Gradient of the rows of one side: mine [N,C] with norms nm, the other's [M,C] with norms no; y and dy indexed with
 * strides. */
static void cosine_side(int64_t N, int64_t M, int64_t C, const float *mine, const float *nm, const float *other, const float *no,
                        const float *y, const float *dy, int64_t si, int64_t sj, float *d, int acc) {
    if (!acc) memset(d, 0, (size_t)(N * C) * sizeof *d);
    for (int64_t i = 0; i < N; i++) {
        for (int64_t j = 0; j < M; j++) {
            float g = dy[i * si + j * sj] / nm[i], s = y[i * si + j * sj];
            for (int64_t k = 0; k < C; k++) d[i * C + k] += g * (other[j * C + k] / no[j] - s * mine[i * C + k] / nm[i]);
        }
    }
}

static void cosine_backward(tn_ctx *c, tn_node *n) {
    int64_t N = n->in[0]->shape[0], M = n->in[1]->shape[0], C = n->in[0]->shape[1];
    const float *a = n->in[0]->data, *b = n->in[1]->data, *y = n->out->data, *dy = n->out->grad;
    int acc;
    float *d;
    if ((d = tn_din(n, 0, &acc)) && tn_live(c)) cosine_side(N, M, C, a, n->saved, b, n->saved + N, y, dy, M, 1, d, acc);
    if ((d = tn_din(n, 1, &acc)) && tn_live(c)) cosine_side(M, N, C, b, n->saved + N, a, n->saved, y, dy, 1, M, d, acc);
}

static const tn_case cosine_cases[] = {{"pairs", {0}, 2, {{'x', 2, {4, 19}}, {'x', 2, {3, 19}}}}};
const tn_op tn_op_cosine_similarity = {"cosine_similarity", cosine_shape, cosine_saved, cosine_forward, cosine_backward,
                                       cosine_cases, 1};
tn_tensor *tn_cosine_similarity(tn_ctx *c, tn_tensor *a, tn_tensor *b) {
    return tn_apply(c, &tn_op_cosine_similarity, NULL, 2, (tn_tensor *[]){a, b});
}
