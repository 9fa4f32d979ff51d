/* Residual blocks and resampling. */
#include "nn/model/blocks.h"
#include "tensor/op/ops.h"

#include <stdio.h>

const char *nn_name(char *out, const char *prefix, const char *name, int64_t i, const char *rest) {
    int n = snprintf(out, NN_NAME_SIZE, "%s%s.%lld%s", prefix, name, (long long)i, rest);
    TN_REQUIRE(n > 0 && n < NN_NAME_SIZE);
    return out;
}

void nn_trace_at(tn_ctx *c, const char *prefix, const char *name, int64_t i, const tn_tensor *t) {
    char full[NN_NAME_SIZE];
    tn_trace(c, "", nn_name(full, prefix, name, i, ""), t);
}

int nn_conv_bind(nn_binder *b, const char *prefix, nn_conv *conv, int64_t in, int64_t out, int64_t kernel,
                 tn_err *err) {
    static const nn_bind_row rows[] = {NN_ROW(nn_conv, w, ".weight", "OIKK"), NN_ROW(nn_conv, b, ".bias", "O")};
    return nn_bind(b, prefix, rows, 2, conv, "OIK", (int64_t[]){out, in, kernel}, err);
}

int nn_norm_bind(nn_binder *b, const char *prefix, nn_norm *norm, int64_t channels, tn_err *err) {
    static const nn_bind_row rows[] = {NN_ROW(nn_norm, w, ".weight", "C"), NN_ROW(nn_norm, b, ".bias", "C")};
    return nn_bind(b, prefix, rows, 2, norm, "C", &channels, err);
}

tn_tensor *nn_conv_forward(tn_ctx *c, const nn_conv *conv, tn_tensor *x) {
    return tn_conv2d(c, x, nn_w(&conv->w), nn_w(&conv->b), 1, (int)(tn_dim(&conv->w, 2) / 2));
}

int nn_resnet_bind(nn_binder *b, const char *prefix, nn_resnet *r, int64_t in, int64_t out, int64_t time,
                   int64_t groups, float eps, tn_err *err) {
    static const nn_bind_row rows[] = {
        NN_ROW(nn_resnet, norm1.w, "norm1.weight", "I"),
        NN_ROW(nn_resnet, norm1.b, "norm1.bias", "I"),
        NN_ROW(nn_resnet, conv1.w, "conv1.weight", "OI33"),
        NN_ROW(nn_resnet, conv1.b, "conv1.bias", "O"),
        NN_ROW(nn_resnet, norm2.w, "norm2.weight", "O"),
        NN_ROW(nn_resnet, norm2.b, "norm2.bias", "O"),
        NN_ROW(nn_resnet, conv2.w, "conv2.weight", "OO33"),
        NN_ROW(nn_resnet, conv2.b, "conv2.bias", "O"),
        NN_ROWS(nn_resnet, time, "time_emb_proj", "OT", "O"), /* with a time embedding */
        NN_ROW(nn_resnet, shortcut.w, "conv_shortcut.weight", "OI11"),
        NN_ROW(nn_resnet, shortcut.b, "conv_shortcut.bias", "O"),
    };
    const int64_t sizes[] = {in, out, time};
    r->groups = (int)groups, r->eps = eps;
    if (nn_bind(b, prefix, rows, 8, r, "IOT", sizes, err)) return -1;
    if (time && nn_bind(b, prefix, rows + 8, 2, r, "IOT", sizes, err)) return -1;
    return in != out ? nn_bind(b, prefix, rows + 10, 2, r, "IOT", sizes, err) : 0;
}

static tn_tensor *norm_silu(tn_ctx *c, const nn_resnet *r, const nn_norm *n, tn_tensor *x) {
    return tn_group_norm(c, x, nn_w(&n->w), nn_w(&n->b), r->groups, r->eps, true);
}

static tn_tensor *resnet(tn_ctx *c, const nn_resnet *r, tn_tensor *x, tn_tensor *time) {
    tn_tensor *shift = time ? tn_linear(c, time, nn_w(&r->time_w), nn_w(&r->time_b)) : NULL;
    tn_tensor *h = norm_silu(c, r, &r->norm1, x);
    h = tn_conv2d_add(c, h, nn_w(&r->conv1.w), nn_w(&r->conv1.b), shift, NULL);
    h = norm_silu(c, r, &r->norm2, h);
    if (nn_w(&r->shortcut.w)) x = nn_conv_forward(c, &r->shortcut, x);
    return tn_conv2d_add(c, h, nn_w(&r->conv2.w), nn_w(&r->conv2.b), NULL, x);
}

/* The three forms as blocks; joining the skip inside means that a checkpointed block does not keep the joint tensor. */
static tn_tensor *plain(tn_ctx *c, const void *r, tn_tensor *const *in) { return resnet(c, r, in[0], NULL); }
static tn_tensor *timed(tn_ctx *c, const void *r, tn_tensor *const *in) { return resnet(c, r, in[0], in[1]); }
static tn_tensor *joined(tn_ctx *c, const void *r, tn_tensor *const *in) {
    return resnet(c, r, tn_concat(c, in[0], in[2]), in[1]);
}

tn_tensor *nn_resnet_forward(tn_ctx *c, const nn_resnet *r, tn_tensor *x, tn_tensor *time, tn_tensor *skip) {
    tn_tensor *in[] = {x, time, skip};
    return skip ? tn_block(c, joined, r, 3, in) : time ? tn_block(c, timed, r, 2, in) : tn_block(c, plain, r, 1, in);
}

tn_tensor *nn_downsample(tn_ctx *c, const nn_conv *conv, tn_tensor *x, int64_t padding) {
    if (padding == 0) return tn_conv2d_pad(c, x, nn_w(&conv->w), nn_w(&conv->b), 2, 0, 1, 0, 1);
    return tn_conv2d(c, x, nn_w(&conv->w), nn_w(&conv->b), 2, (int)padding);
}

tn_tensor *nn_upsample(tn_ctx *c, const nn_conv *conv, tn_tensor *x, int64_t h, int64_t w) {
    if (h == 2 * tn_dim(x, 2) && w == 2 * tn_dim(x, 3)) return tn_upsample_conv2d(c, x, nn_w(&conv->w), nn_w(&conv->b));
    return nn_conv_forward(c, conv, tn_upsample_nearest(c, x, h, w));
}
