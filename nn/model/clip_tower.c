/* CLIP's transformer (Radford et al. 2103.00020): pre-norm layers, causal in the text tower. */
#include "nn/model/clip_tower.h"

#include "tensor/op/ops.h"
#include <stdlib.h>

int nn_tower_check(const char *file, const nn_tower_reading *r, nn_clip_tower_config *out, tn_err *err) {
    if (r->t.width % r->t.heads)
        return tn_fail(err, TN_EINPUT, "%s: num_attention_heads: expected a divisor of hidden_size %lld, got %lld",
                       file, (long long)r->t.width, (long long)r->t.heads);
    *out = r->t;
    out->quick_gelu = r->act == 1;
    return 0;
}

static const nn_bind_row rows[] = {
    NN_ROWS(nn_clip_layer, ln1, "layer_norm1", "C", "C"),
    NN_ROWS(nn_clip_layer, q, "self_attn.q_proj", "CC", "C"),
    NN_ROWS(nn_clip_layer, k, "self_attn.k_proj", "CC", "C"),
    NN_ROWS(nn_clip_layer, v, "self_attn.v_proj", "CC", "C"),
    NN_ROWS(nn_clip_layer, o, "self_attn.out_proj", "CC", "C"),
    NN_ROWS(nn_clip_layer, ln2, "layer_norm2", "C", "C"),
    NN_ROWS(nn_clip_layer, fc1, "mlp.fc1", "MC", "M"),
    NN_ROWS(nn_clip_layer, fc2, "mlp.fc2", "CM", "C"),
};

int nn_tower_bind(nn_binder *b, const char *prefix, const nn_clip_tower_config *t, bool causal, nn_clip_layer **layers,
                  tn_err *err) {
    char name[NN_NAME_SIZE];
    nn_clip_layer *l = *layers = calloc((size_t)t->layers, sizeof *l);
    if (!l) return tn_fail(err, TN_ENOMEM, "%s: out of memory", prefix);
    for (int64_t i = 0; i < t->layers; i++) {
        l[i].t = t, l[i].causal = causal;
        nn_name(name, prefix, "layers", i, ".");
        if (nn_bind(b, name, rows, sizeof rows / sizeof *rows, &l[i], "CM", (int64_t[]){t->width, t->mlp}, err))
            return -1;
    }
    return 0;
}

/* x + attention(norm(x)), then x + mlp(norm(x)). With `before`, x are a text's later rows, and queries, keys and values of
 * the rows before them are known: attention sees all, in the same order, and what it says to the known rows is dropped.
 * made (or NULL): where queries, keys and values of x go. */
static tn_tensor *run(tn_ctx *c, const nn_clip_layer *l, tn_tensor *x, tn_tensor *const *before, tn_tensor **made) {
    tn_tensor *h = tn_layer_norm(c, x, nn_w(&l->ln1_w), nn_w(&l->ln1_b), l->t->eps);
    tn_tensor *qkv[] = {tn_linear(c, h, nn_w(&l->q_w), nn_w(&l->q_b)), NULL, NULL};
    qkv[1] = tn_linear(c, h, nn_w(&l->k_w), nn_w(&l->k_b)), qkv[2] = tn_linear(c, h, nn_w(&l->v_w), nn_w(&l->v_b));
    for (int i = 0; made && i < 3; i++) made[i] = qkv[i];
    for (int i = 0; before && i < 3; i++) qkv[i] = tn_concat(c, before[i], qkv[i]);
    h = tn_attention(c, qkv[0], qkv[1], qkv[2], (int)l->t->heads, 0.0f, l->causal);
    if (before) h = tn_slice(c, h, before[0]->shape[1], x->shape[1]);
    x = tn_linear_add(c, h, nn_w(&l->o_w), nn_w(&l->o_b), x);
    h = tn_layer_norm(c, x, nn_w(&l->ln2_w), nn_w(&l->ln2_b), l->t->eps);
    h = tn_linear(c, h, nn_w(&l->fc1_w), nn_w(&l->fc1_b));
    h = l->t->quick_gelu ? tn_quick_gelu(c, h) : tn_gelu(c, h);
    return tn_linear_add(c, h, nn_w(&l->fc2_w), nn_w(&l->fc2_b), x);
}

static tn_tensor *layer(tn_ctx *c, const void *l, tn_tensor *const *in) { return run(c, l, in[0], NULL, NULL); }
static tn_tensor *later_rows(tn_ctx *c, const void *l, tn_tensor *const *in) { return run(c, l, in[0], in + 1, NULL); }

tn_tensor *nn_tower_forward(tn_ctx *c, const nn_clip_layer *layers, tn_tensor *x, const char *trace_prefix) {
    tn_scope s = tn_scope_open(c);
    nn_trace_at(c, trace_prefix, "hidden_states", 0, x);
    for (int64_t i = 0; i < layers->t->layers; i++) {
        x = tn_scope_keep(c, s, tn_block(c, layer, &layers[i], 1, &x));
        nn_trace_at(c, trace_prefix, "hidden_states", i + 1, x);
    }
    return x;
}

tn_tensor *nn_tower_first_rows(tn_ctx *c, const nn_clip_layer *layers, tn_tensor *x, tn_tensor **made) {
    for (int64_t i = 0; i < layers->t->layers; i++) x = run(c, &layers[i], x, NULL, made + 3 * i);
    return x;
}

tn_tensor *nn_tower_later_rows(tn_ctx *c, const nn_clip_layer *layers, tn_tensor *x, tn_tensor *const *before) {
    for (int64_t i = 0; i < layers->t->layers; i++, before += 3)
        x = tn_block(c, later_rows, &layers[i], 4, (tn_tensor *[]){x, before[0], before[1], before[2]});
    return x;
}

tn_tensor *nn_counting_ids(tn_ctx *c, int ndim, const int64_t *shape, int64_t step) {
    tn_tensor *ids = tn_new(c, TN_I64, ndim, shape);
    for (int64_t i = 0; tn_live(c) && i < tn_numel(ids); i++) ((int64_t *)ids->data)[i] = i * step;
    return ids;
}
