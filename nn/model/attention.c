/* The UNet's transformer block and the autoencoder's attention. */
#include "nn/model/blocks.h"
#include "tensor/op/ops.h"

/* ---- the UNet's transformer ---- */

#define T nn_transformer
#define BLOCK "transformer_blocks.0."
static const nn_bind_row transformer_rows[] = {
    NN_ROW(T, norm.w, "norm.weight", "C"),
    NN_ROW(T, norm.b, "norm.bias", "C"),
    NN_ROW(T, norm1.w, BLOCK "norm1.weight", "C"),
    NN_ROW(T, norm1.b, BLOCK "norm1.bias", "C"),
    NN_ROW(T, q1_w, BLOCK "attn1.to_q.weight", "CC"),
    NN_ROW(T, k1_w, BLOCK "attn1.to_k.weight", "CC"),
    NN_ROW(T, v1_w, BLOCK "attn1.to_v.weight", "CC"),
    NN_ROWS(T, o1, BLOCK "attn1.to_out.0", "CC", "C"),
    NN_ROW(T, norm2.w, BLOCK "norm2.weight", "C"),
    NN_ROW(T, norm2.b, BLOCK "norm2.bias", "C"),
    NN_ROW(T, q2_w, BLOCK "attn2.to_q.weight", "CC"),
    NN_ROW(T, k2_w, BLOCK "attn2.to_k.weight", "CD"),
    NN_ROW(T, v2_w, BLOCK "attn2.to_v.weight", "CD"),
    NN_ROWS(T, o2, BLOCK "attn2.to_out.0", "CC", "C"),
    NN_ROW(T, norm3.w, BLOCK "norm3.weight", "C"),
    NN_ROW(T, norm3.b, BLOCK "norm3.bias", "C"),
    NN_ROWS(T, ff1, BLOCK "ff.net.0.proj", "GC", "G"),
    NN_ROWS(T, ff2, BLOCK "ff.net.2", "CF", "C"),
};
static const nn_bind_row linear_rows[] = {
    NN_ROWS(T, proj_in, "proj_in", "CC", "C"),
    NN_ROWS(T, proj_out, "proj_out", "CC", "C"),
};
static const nn_bind_row conv_rows[] = {
    NN_ROWS(T, proj_in, "proj_in", "CC11", "C"),
    NN_ROWS(T, proj_out, "proj_out", "CC11", "C"),
};
#undef BLOCK
#undef T

int nn_transformer_bind(nn_binder *b, const char *prefix, nn_transformer *t, int64_t channels, int64_t context,
                        int64_t heads, int64_t groups, bool linear, tn_err *err) {
    const int64_t sizes[] = {channels, context, 8 * channels, 4 * channels};
    t->groups = (int)groups, t->heads = (int)heads;
    if (nn_bind(b, prefix, transformer_rows, sizeof transformer_rows / sizeof *transformer_rows, t, "CDGF", sizes, err))
        return -1;
    return nn_bind(b, prefix, linear ? linear_rows : conv_rows, 4, t, "CDGF", sizes, err);
}

static tn_tensor *layer_norm(tn_ctx *c, const nn_norm *n, tn_tensor *x) {
    return tn_layer_norm(c, x, nn_w(&n->w), nn_w(&n->b), 1e-5f);
}

/* x [B,N,C] + attention of its tokens to themselves */
static tn_tensor *attend_self(tn_ctx *c, const nn_transformer *t, tn_tensor *x) {
    tn_tensor *h = layer_norm(c, &t->norm1, x);
    tn_tensor *q = tn_linear(c, h, nn_w(&t->q1_w), NULL), *k = tn_linear(c, h, nn_w(&t->k1_w), NULL);
    tn_tensor *v = tn_linear(c, h, nn_w(&t->v1_w), NULL);
    h = tn_attention(c, q, k, v, t->heads, 0.0f, false);
    return tn_linear_add(c, h, nn_w(&t->o1_w), nn_w(&t->o1_b), x);
}

/* x [B,N,C] + attention of its tokens to the text, of which k and v are left */
static tn_tensor *attend_cross(tn_ctx *c, const nn_transformer *t, tn_tensor *x, tn_tensor *k, tn_tensor *v) {
    tn_tensor *q = tn_linear(c, layer_norm(c, &t->norm2, x), nn_w(&t->q2_w), NULL);
    tn_tensor *h = tn_attention(c, q, k, v, t->heads, 0.0f, false);
    return tn_linear_add(c, h, nn_w(&t->o2_w), nn_w(&t->o2_b), x);
}

static tn_tensor *feed_forward(tn_ctx *c, const nn_transformer *t, tn_tensor *x) {
    tn_tensor *h = tn_linear(c, layer_norm(c, &t->norm3, x), nn_w(&t->ff1_w), nn_w(&t->ff1_b));
    return tn_linear_add(c, tn_geglu(c, h), nn_w(&t->ff2_w), nn_w(&t->ff2_b), x);
}

static tn_tensor *transformer(tn_ctx *c, const void *arg, tn_tensor *const *in) {
    const nn_transformer *t = arg;
    tn_tensor *x = in[0];
    tn_scope s = tn_scope_open(c);
    tn_tensor *h = tn_group_norm(c, x, nn_w(&t->norm.w), nn_w(&t->norm.b), t->groups, 1e-6f, false);
    h = tn_linear_from_image(c, h, nn_w(&t->proj_in_w), nn_w(&t->proj_in_b));
    h = attend_self(c, t, h);
    h = tn_scope_keep(c, s, attend_cross(c, t, h, in[1], in[2])); /* the layer that is eight times as wide needs the room */
    h = feed_forward(c, t, h);
    return tn_linear_to_image(c, h, nn_w(&t->proj_out_w), nn_w(&t->proj_out_b), x);
}

nn_text_kv nn_transformer_text(tn_ctx *c, const nn_transformer *t, tn_tensor *context) {
    nn_text_kv kv = {tn_linear(c, context, nn_w(&t->k2_w), NULL), NULL};
    kv.v = tn_linear(c, context, nn_w(&t->v2_w), NULL);
    return kv;
}

tn_tensor *nn_transformer_forward(tn_ctx *c, const nn_transformer *t, tn_tensor *x, const nn_text_kv *text) {
    return tn_block(c, transformer, t, 3, (tn_tensor *[]){x, text->k, text->v});
}

/* ---- the autoencoder's attention ---- */

#define A nn_image_attention
#define ROW(name, suffix, old, dims) {suffix, old, offsetof(A, name), dims, NN_SQUEEZE}
/* Second names: of diffusers before 0.18, and shapes [C,C,1,1] where a converter kept CompVis' convolutions. */
static const nn_bind_row image_rows[] = {
    NN_ROW(A, norm.w, "group_norm.weight", "C"),
    NN_ROW(A, norm.b, "group_norm.bias", "C"),
    ROW(q_w, "to_q.weight", "query.weight", "CC"),
    ROW(q_b, "to_q.bias", "query.bias", "C"),
    ROW(k_w, "to_k.weight", "key.weight", "CC"),
    ROW(k_b, "to_k.bias", "key.bias", "C"),
    ROW(v_w, "to_v.weight", "value.weight", "CC"),
    ROW(v_b, "to_v.bias", "value.bias", "C"),
    ROW(o_w, "to_out.0.weight", "proj_attn.weight", "CC"),
    ROW(o_b, "to_out.0.bias", "proj_attn.bias", "C"),
};
#undef ROW
#undef A

int nn_image_attention_bind(nn_binder *b, const char *prefix, nn_image_attention *a, int64_t channels, int64_t groups,
                            tn_err *err) {
    a->groups = (int)groups;
    return nn_bind(b, prefix, image_rows, sizeof image_rows / sizeof *image_rows, a, "C", &channels, err);
}

static tn_tensor *image_attention(tn_ctx *c, const void *arg, tn_tensor *const *in) {
    const nn_image_attention *a = arg;
    tn_tensor *x = in[0], *h = tn_group_norm(c, x, nn_w(&a->norm.w), nn_w(&a->norm.b), a->groups, 1e-6f, false);
    tn_tensor *q = tn_linear_from_image(c, h, nn_w(&a->q_w), nn_w(&a->q_b));
    tn_tensor *k = tn_linear_from_image(c, h, nn_w(&a->k_w), nn_w(&a->k_b));
    tn_tensor *v = tn_linear_from_image(c, h, nn_w(&a->v_w), nn_w(&a->v_b));
    return tn_linear_to_image(c, tn_attention(c, q, k, v, 1, 0.0f, false), nn_w(&a->o_w), nn_w(&a->o_b), x);
}

tn_tensor *nn_image_attention_forward(tn_ctx *c, const nn_image_attention *a, tn_tensor *x) {
    return tn_block(c, image_attention, a, 1, &x);
}
