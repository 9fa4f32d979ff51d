#include "tests/op_cases.h"

#include "tests/test.h"
#include <string.h>

static uint16_t to_half(float x) { /* of numbers in [-1,1) with few bits: exact enough for a test input */
    uint32_t u;
    memcpy(&u, &x, 4);
    int e = (int)(u >> 23 & 255) - 127;
    if (e < -14) return (uint16_t)(u >> 31 << 15);
    return (uint16_t)(u >> 31 << 15 | (uint32_t)(e + 15) << 10 | (u >> 13 & 1023));
}

static uint16_t to_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)(u >> 16);
}

/* Upper bound of the ids of an input: rows of the table (and learned rows) for embedding, tokens for gather_rows. */
static int64_t id_limit(const tn_case *k) {
    int64_t rows = k->nin == 2 ? k->in[0].shape[1] : k->in[1].shape[0];
    return rows + (k->nin == 3 && k->in[2].fill ? k->in[2].shape[0] : 0);
}

static tn_tensor *input(tn_ctx *c, const tn_case *k, int i, bool need, uint64_t *seed) {
    const struct tn_case_input *s = &k->in[i];
    if (!s->fill) return NULL;
    tn_dtype type = s->fill == 'h' ? TN_F16 : s->fill == 'b' ? TN_BF16 : s->fill == 'i' ? TN_I64 : TN_F32;
    bool wants = need && strchr("xwhb", s->fill) != NULL;
    tn_tensor *t = tn_leaf(c, type, s->ndim, s->shape, NULL, wants);
    for (int64_t j = 0; j < tn_numel(t); j++) {
        float r = test_rand(seed);
        switch (s->fill) {
        case 'h': ((uint16_t *)t->data)[j] = to_half(r); break;
        case 'b': ((uint16_t *)t->data)[j] = to_bf16(r); break;
        case 'i': ((int64_t *)t->data)[j] = (int64_t)((r + 1.0f) * 0.5f * (float)id_limit(k)); break;
        case 'p': ((float *)t->data)[j] = (r + 1.0f) * 400.0f; break;
        default: ((float *)t->data)[j] = r; break;
        }
    }
    return t;
}

op_result op_case_run(tn_ctx *c, const tn_op *op, const tn_case *k, bool backward) {
    op_result r = {0};
    uint64_t seed = 88172645463325252u;
    for (const char *s = op->name; *s; s++) seed = seed * 31 + (uint64_t)*s;
    for (const char *s = k->name; *s; s++) seed = seed * 31 + (uint64_t)*s;
    backward = backward && op->backward;
    c->record = backward;
    for (int i = 0; i < k->nin; i++) r.in[i] = input(c, k, i, backward, &seed);
    r.out = tn_apply(c, op, &k->a, k->nin, r.in);
    if (!backward) return r;
    int64_t n = tn_numel(r.out);
    float *cotangent = tn_scratch(c, (size_t)n * sizeof *cotangent);
    for (int64_t i = 0; i < n; i++) cotangent[i] = test_rand(&seed);
    tn_seed(c, r.out, cotangent);
    tn_backward(c);
    return r;
}

double op_nmse(const float *a, const float *b, int64_t n) {
    double d = 0.0, s = 0.0, z = 0.0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        s += (double)b[i] * (double)b[i];
        z += (double)a[i] * (double)a[i];
    }
    return s > 0.0 ? d / s : z;
}
