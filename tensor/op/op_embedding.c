/* embedding and gather_rows. Definitions: ref/embedding.c.
 *
 * The learned vectors are a tensor of their own behind the vocabulary: ids V, V+1, ... So the optimiser's whole state
 * is a few rows, and the table stays as it lies in the file. */
#include "tensor/op/ops.h"

#include <string.h>

static int embedding_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *ids = n->in[0], *table = n->in[1], *learned = n->in[2];
    TN_FIT(n, ids->dtype == TN_I64 && ids->ndim < TN_MAX_DIMS && table->ndim == 2);
    TN_FIT(n, !learned || (learned->ndim == 2 && learned->shape[1] == table->shape[1] && learned->dtype == TN_F32));
    for (int i = 0; i < ids->ndim; i++) shape[i] = ids->shape[i];
    shape[ids->ndim] = table->shape[1];
    return ids->ndim + 1;
}

static void embedding_forward(tn_ctx *c, tn_node *n) {
    if (!tn_live(c)) return;
    const tn_tensor *table = n->in[1], *learned = n->in[2];
    const int64_t *ids = n->in[0]->data;
    int64_t V = table->shape[0], C = table->shape[1], L = learned ? learned->shape[0] : 0;
    for (int64_t i = 0; i < tn_numel(n->in[0]); i++) {
        TN_FIT(n, ids[i] >= 0 && ids[i] < V + L);
        float *y = (float *)n->out->data + i * C;
        const char *row = (const char *)table->data + (size_t)(ids[i] * C) * tn_dtype_size(table->dtype);
        if (ids[i] < V) c->k->widen(C, row, table->dtype, y);
        else memcpy(y, (const float *)learned->data + (ids[i] - V) * C, (size_t)C * sizeof *y);
    }
}

/* Adds the rows of dy to those rows of the table (first..first+rows) that were looked up, in order of the positions. */
static void scatter(const tn_node *n, float *d, int acc, int64_t first, int64_t rows) {
    const int64_t *ids = n->in[0]->data;
    int64_t C = tn_dim(n->out, -1);
    if (!acc) memset(d, 0, (size_t)(rows * C) * sizeof *d);
    for (int64_t i = 0; i < tn_numel(n->in[0]); i++) {
        int64_t r = ids[i] - first;
        if (r < 0 || r >= rows) continue;
        for (int64_t j = 0; j < C; j++) d[r * C + j] += n->out->grad[i * C + j];
    }
}

static void embedding_backward(tn_ctx *c, tn_node *n) {
    int64_t V = n->in[1]->shape[0];
    int acc;
    float *d;
    if ((d = tn_din(n, 1, &acc)) && tn_live(c)) scatter(n, d, acc, 0, V);
    if ((d = tn_din(n, 2, &acc)) && tn_live(c)) scatter(n, d, acc, V, n->in[2]->shape[0]);
}

static const tn_case embedding_cases[] = {
    {"repeated ids", {0}, 3, {{'i', 2, {2, 9}}, {'w', 2, {10, 6}}, {0}}},
    {"learned rows, F16", {0}, 3, {{'i', 2, {3, 11}}, {'h', 2, {5, 20}}, {'w', 2, {3, 20}}}},
};
const tn_op tn_op_embedding = {"embedding", embedding_shape, NULL, embedding_forward, embedding_backward, embedding_cases,
                               sizeof embedding_cases / sizeof *embedding_cases};

tn_tensor *tn_embedding(tn_ctx *c, tn_tensor *ids, tn_tensor *table, tn_tensor *learned) {
    return tn_apply(c, &tn_op_embedding, NULL, 3, (tn_tensor *[]){ids, table, learned});
}

/* ---- gather_rows: y[b] = x[b, idx[b]] ---- */

static int gather_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0], *idx = n->in[1];
    TN_FIT(n, x->ndim == 3 && idx->dtype == TN_I64 && idx->ndim == 1 && idx->shape[0] == x->shape[0]);
    shape[0] = x->shape[0], shape[1] = x->shape[2];
    return 2;
}

static int64_t source_row(const tn_node *n, int64_t b) {
    int64_t i = ((const int64_t *)n->in[1]->data)[b], L = n->in[0]->shape[1];
    TN_FIT(n, i >= 0 && i < L);
    return b * L + i;
}

static void gather_forward(tn_ctx *c, tn_node *n) {
    int64_t C = n->in[0]->shape[2];
    for (int64_t b = 0; b < n->in[0]->shape[0] && tn_live(c); b++) {
        memcpy((float *)n->out->data + b * C, (const float *)n->in[0]->data + source_row(n, b) * C, (size_t)C * sizeof(float));
    }
}

static void gather_backward(tn_ctx *c, tn_node *n) {
    int acc;
    float *dx = tn_din(n, 0, &acc);
    if (!dx || !tn_live(c)) return;
    int64_t C = n->in[0]->shape[2];
    if (!acc) memset(dx, 0, (size_t)tn_numel(n->in[0]) * sizeof *dx);
    for (int64_t b = 0; b < n->in[0]->shape[0]; b++) {
        float *row = dx + source_row(n, b) * C;
        for (int64_t j = 0; j < C; j++) row[j] += n->out->grad[b * C + j];
    }
}

static const tn_case gather_cases[] = {{"pooled", {0}, 2, {{'x', 3, {4, 6, 5}}, {'i', 1, {4}}}}};
const tn_op tn_op_gather_rows = {"gather_rows", gather_shape, NULL, gather_forward, gather_backward, gather_cases, 1};

tn_tensor *tn_gather_rows(tn_ctx *c, tn_tensor *x, tn_tensor *idx) {
    return tn_apply(c, &tn_op_gather_rows, NULL, 2, (tn_tensor *[]){x, idx});
}
