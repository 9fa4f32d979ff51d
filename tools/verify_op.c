/* Cases of one operator: attrs.op names it, its settings are beside the name. */
#include "tools/verify.h"

#include "tensor/op/ops.h"
#include <math.h>
#include <string.h>

/* The middle axis last: [pre, n, post] -> [pre, post, n], by the permutation of feature maps; and back. */
static tn_tensor *to_last(tn_ctx *c, tn_tensor *x, int64_t pre, int64_t n, int64_t post) {
    tn_tensor *t = tn_nchw_to_tokens(c, tn_reshape(c, x, 4, (int64_t[]){pre, n, post, 1}));
    return tn_reshape(c, t, 3, (int64_t[]){pre, post, n});
}
static tn_tensor *from_last(tn_ctx *c, tn_tensor *x, int64_t post) { return tn_tokens_to_nchw(c, x, post, 1); }

static int64_t product(const int64_t *shape, int from, int to) {
    int64_t n = 1;
    for (int i = from; i < to; i++) n *= shape[i];
    return n;
}

/* ---- one function an operator: reads the inputs, NULL after an error, else returns the result ---- */

static tn_tensor *run_linear(verify_case *c) {
    tn_tensor *x = verify_leaf(c, "in.x", "*K"), *w = verify_leaf(c, "in.weight", "NK");
    tn_tensor *b = verify_has(c, "in.bias") ? verify_leaf(c, "in.bias", "N") : NULL;
    return c->err.code ? NULL : tn_linear(c->ctx, x, w, b);
}

static tn_tensor *run_matmul(verify_case *c) {
    tn_tensor *a = verify_leaf(c, "in.a", "BMK"), *b = verify_leaf(c, "in.b", "BKN");
    return c->err.code ? NULL : tn_matmul(c->ctx, a, b, false, false);
}

static tn_tensor *run_matmul_bt(verify_case *c) {
    tn_tensor *a = verify_leaf(c, "in.a", "BMK"), *b = verify_leaf(c, "in.b", "BNK");
    return c->err.code ? NULL : tn_matmul(c->ctx, a, b, false, true);
}

/* Whole numbers of an array in attrs, exactly n of them, each 0 .. 2^20. */
static void numbers(verify_case *c, const char *key, int n, int64_t *out) {
    const tn_jval *list = verify_attr(c, key), *v = list && list->type == TN_JSON_ARRAY ? list->child : NULL;
    for (int i = 0; i < n; i++, v = v ? v->next : NULL) {
        bool ok = v && v->type == TN_JSON_NUMBER && v->is_int && v->integer >= 0 && v->integer <= 1 << 20;
        if (!ok) verify_bad(c, "attrs.%s: expected %d whole numbers", key, n);
        out[i] = ok ? v->integer : 0;
    }
}

static tn_tensor *run_conv2d(verify_case *c) {
    enum { LEFT, RIGHT, TOP, BOTTOM };
    int64_t pad[4];
    tn_tensor *x = verify_leaf(c, "in.x", "BIHW"), *w = verify_leaf(c, "in.weight", "OIPQ");
    tn_tensor *b = verify_has(c, "in.bias") ? verify_leaf(c, "in.bias", "O") : NULL;
    int stride = (int)verify_int(c, "stride", 1, 1 << 20);
    numbers(c, "zero_pad_left_right_top_bottom", 4, pad);
    if (verify_dim(c, 'H') + pad[TOP] + pad[BOTTOM] < verify_dim(c, 'P') ||
        verify_dim(c, 'W') + pad[LEFT] + pad[RIGHT] < verify_dim(c, 'Q')) {
        verify_bad(c, "the kernel is larger than the padded image");
    }
    if (c->err.code) return NULL;
    return tn_conv2d_pad(c->ctx, x, w, b, stride, (int)pad[TOP], (int)pad[BOTTOM], (int)pad[LEFT], (int)pad[RIGHT]);
}

static tn_tensor *run_group_norm(verify_case *c) {
    tn_tensor *x = verify_leaf(c, "in.x", "BC*"), *w = verify_leaf(c, "in.weight", "C"),
              *b = verify_leaf(c, "in.bias", "C");
    int64_t groups = verify_int(c, "num_groups", 1, 1 << 20);
    if (verify_dim(c, 'C') % groups) verify_bad(c, "attrs.num_groups: %lld channels", (long long)verify_dim(c, 'C'));
    return c->err.code ? NULL
                       : tn_group_norm(c->ctx, x, w, b, (int)groups, (float)verify_number(c, "eps", 1e-5), false);
}

static tn_tensor *run_layer_norm(verify_case *c) {
    tn_tensor *x = verify_leaf(c, "in.x", "*C"), *w = verify_leaf(c, "in.weight", "C"),
              *b = verify_leaf(c, "in.bias", "C");
    return c->err.code ? NULL : tn_layer_norm(c->ctx, x, w, b, (float)verify_number(c, "eps", 1e-5));
}

static tn_tensor *run_attention(verify_case *c) {
    tn_tensor *q = verify_leaf(c, "in.q", "BNC"), *k = verify_leaf(c, "in.k", "BMC"),
              *v = verify_leaf(c, "in.v", "BMC");
    int64_t heads = verify_int(c, "heads", 1, 1 << 20);
    const tn_jval *causal = verify_attr(c, "causal");
    bool hidden = causal && causal->type == TN_JSON_BOOL && causal->boolean;
    if (verify_dim(c, 'C') % heads) verify_bad(c, "attrs.heads: width %lld", (long long)verify_dim(c, 'C'));
    if (hidden && verify_dim(c, 'N') != verify_dim(c, 'M')) verify_bad(c, "causal attention between unequal lengths");
    return c->err.code ? NULL : tn_attention(c->ctx, q, k, v, (int)heads, (float)verify_number(c, "scale", 0), hidden);
}

static tn_tensor *run_softmax(verify_case *c) {
    tn_tensor *x = verify_leaf(c, "in.x", "*");
    if (c->err.code) return NULL;
    int64_t axis = verify_attr(c, "axis") ? verify_int(c, "axis", -x->ndim, x->ndim - 1) : -1;
    int at = (int)(axis < 0 ? axis + x->ndim : axis);
    if (c->err.code || at == x->ndim - 1) return c->err.code ? NULL : tn_softmax(c->ctx, x);
    int64_t post = product(x->shape, at + 1, x->ndim);
    tn_tensor *y = tn_softmax(c->ctx, to_last(c->ctx, x, product(x->shape, 0, at), x->shape[at], post));
    return tn_reshape(c->ctx, from_last(c->ctx, y, post), x->ndim, x->shape);
}

/* axes: "all", or neighbouring axes in ascending order */
static tn_tensor *run_mean(verify_case *c) {
    tn_tensor *x = verify_leaf(c, "in.x", "*");
    const tn_jval *axes = verify_attr(c, "axes");
    if (c->err.code) return NULL;
    int from = 0, to = x->ndim;
    if (axes && axes->type == TN_JSON_ARRAY && axes->length) {
        int64_t first = axes->child->is_int ? axes->child->integer : 0;
        from = (int)(first < 0 ? first + x->ndim : first), to = from;
        for (const tn_jval *v = axes->child; v; v = v->next) {
            int64_t axis = v->is_int && v->integer < 0 ? v->integer + x->ndim : v->integer;
            if (axis != to++ || from < 0 || to > x->ndim)
                verify_bad(c, "attrs.axes: expected neighbouring axes in ascending order");
        }
    }
    if (c->err.code) return NULL;
    int64_t shape[TN_MAX_DIMS], pre = product(x->shape, 0, from), n = product(x->shape, from, to),
                                post = product(x->shape, to, x->ndim);
    for (int i = 0; i < from; i++) shape[i] = x->shape[i];
    for (int i = to; i < x->ndim; i++) shape[i - to + from] = x->shape[i];
    return tn_reshape(c->ctx, tn_mean(c->ctx, to_last(c->ctx, x, pre, n, post)), x->ndim - (to - from), shape);
}

static tn_tensor *unary(verify_case *c, tn_tensor *(*fn)(tn_ctx *, tn_tensor *)) {
    tn_tensor *x = verify_leaf(c, "in.x", "*");
    return c->err.code ? NULL : fn(c->ctx, x);
}
static tn_tensor *run_silu(verify_case *c) { return unary(c, tn_silu); }
static tn_tensor *run_quick_gelu(verify_case *c) { return unary(c, tn_quick_gelu); }
static tn_tensor *run_sigmoid(verify_case *c) { return unary(c, tn_sigmoid); }

static tn_tensor *run_gelu(verify_case *c) {
    const tn_jval *how = verify_attr(c, "approximate");
    if (how && how->type == TN_JSON_STRING && !strncmp(how->string, "tanh", 4))
        verify_bad(c, "the tanh form of GELU is no operator here");
    return unary(c, tn_gelu);
}

static tn_tensor *run_geglu(verify_case *c) {
    tn_tensor *x = verify_leaf(c, "in.x", "*C");
    if (verify_dim(c, 'C') % 2) verify_bad(c, "in.x: an odd number of channels");
    return c->err.code ? NULL : tn_geglu(c->ctx, x);
}

static tn_tensor *run_upsample_nearest(verify_case *c) {
    tn_tensor *x = verify_leaf(c, "in.x", "BCHW");
    const tn_jval *size = verify_attr(c, "size");
    int64_t to[2];
    if (size && size->type == TN_JSON_ARRAY) {
        numbers(c, "size", 2, to);
        if (to[0] < 1 || to[1] < 1) verify_bad(c, "attrs.size: empty");
    } else {
        int64_t scale = verify_int(c, "scale", 1, 64);
        to[0] = scale * verify_dim(c, 'H'), to[1] = scale * verify_dim(c, 'W');
    }
    return c->err.code ? NULL : tn_upsample_nearest(c->ctx, x, to[0], to[1]);
}

static tn_tensor *run_avg_pool2d(verify_case *c) {
    tn_tensor *x = verify_leaf(c, "in.x", "BCHW");
    int64_t kernel = verify_int(c, "kernel", 1, 1 << 20);
    int stride = (int)verify_int(c, "stride", 1, 1 << 20);
    if (kernel > verify_dim(c, 'H') || kernel > verify_dim(c, 'W'))
        verify_bad(c, "attrs.kernel: larger than the image");
    return c->err.code ? NULL : tn_avg_pool2d(c->ctx, x, kernel, stride);
}

static tn_tensor *run_embedding(verify_case *c) {
    tn_tensor *ids = verify_leaf(c, "in.ids", "*"), *w = verify_leaf(c, "in.weight", "VC");
    if (c->err.code) return NULL;
    if (ids->dtype != TN_I64) return verify_bad(c, "in.ids: expected I64"), NULL;
    verify_range(c, "in.ids", ids->data, tn_numel(ids), verify_dim(c, 'V'));
    return c->err.code ? NULL : tn_embedding(c->ctx, ids, w, NULL);
}

static tn_tensor *run_mse_loss(verify_case *c) {
    tn_tensor *a = verify_leaf(c, "in.input", "*"), *b = verify_leaf(c, "in.target", "*");
    if (!c->err.code && (a->ndim != b->ndim || memcmp(a->shape, b->shape, sizeof a->shape[0] * (size_t)a->ndim))) {
        verify_bad(c, "in.target: another shape than in.input");
    }
    return c->err.code ? NULL : tn_mse(c->ctx, a, b, NULL);
}

static tn_tensor *run_cosine_similarity(verify_case *c) {
    tn_tensor *a = verify_leaf(c, "in.a", "NC"), *b = verify_leaf(c, "in.b", "MC");
    return c->err.code ? NULL : tn_cosine_similarity(c->ctx, a, b);
}

static tn_tensor *run_timestep_embedding(verify_case *c) {
    tn_tensor *t = verify_leaf_f32(c, "in.timesteps", "B");
    int64_t dim = verify_int(c, "dim", 2, 1 << 20);
    const tn_jval *flip = verify_attr(c, "flip_sin_to_cos");
    bool cos_first = flip && flip->type == TN_JSON_BOOL && flip->boolean;
    double shift = verify_number(c, "downscale_freq_shift", 0), period = verify_number(c, "max_period", 10000);
    if (!(period > 0) || !((double)(dim / 2) - shift > 0)) verify_bad(c, "attrs: no frequencies");
    return c->err.code ? NULL : tn_timestep_embedding(c->ctx, t, dim, cos_first, (float)shift, (float)period);
}

/* ---- two that have no single result ---- */

/* The posterior of the autoencoder: in.moments [B, 2C, ...], mean and logvar (clamped), a sample of it, its KL. */
static void gaussian(verify_case *c) {
    static const char *const names[][2] = {{"out.mean", "in.cotangent_mean"},
                                           {"out.logvar", "in.cotangent_logvar"},
                                           {"out.sample", "in.cotangent_sample"},
                                           {"out.kl", "in.cotangent_kl"}};
    tn_tensor *m = verify_leaf(c, "in.moments", "BD*"), *y[4];
    if (c->err.code) return;
    int64_t half = verify_dim(c, 'D') / 2;
    double lo = -30, hi = 20;
    const tn_jval *clamp = verify_attr(c, "clamp");
    if (clamp && clamp->length == 2) lo = clamp->child->number, hi = clamp->child->next->number;
    y[0] = tn_slice(c->ctx, m, 0, half), y[1] = tn_clamp(c->ctx, tn_slice(c->ctx, m, half, half), (float)lo, (float)hi);
    tn_tensor *noise = verify_leaf(c, "in.noise", "*");
    if (verify_dim(c, 'D') % 2 || (noise && tn_numel(noise) != tn_numel(y[0])))
        verify_bad(c, "in.noise: does not fit in.moments");
    if (c->err.code) return;
    y[2] = tn_gaussian_sample(c->ctx, y[0], y[1], tn_reshape(c->ctx, noise, y[0]->ndim, y[0]->shape));
    y[3] = tn_gaussian_kl(c->ctx, y[0], y[1]);
    bool seeded = false;
    for (int i = 0; i < 4; i++) verify_put(c, names[i][0], y[i]);
    for (int i = 0; i < 4; i++) seeded |= verify_seed(c, y[i], names[i][1]);
    if (seeded) tn_backward(c->ctx);
    verify_put_grads(c);
}

static void adamw(verify_case *c) {
    float *p = verify_f32(c, "in.param", "*"), *grads = verify_f32(c, "in.grads", "S*");
    if (c->err.code) return;
    const tn_st_tensor *param = tn_st_find(c->st, "in.param"), *all = tn_st_find(c->st, "in.grads");
    int64_t n = param->count, steps = verify_dim(c, 'S');
    const tn_jval *betas = verify_attr(c, "betas");
    if (all->count != n * steps) verify_bad(c, "in.grads: expected %lld gradients of in.param", (long long)steps);
    if (!betas || betas->type != TN_JSON_ARRAY || betas->length != 2)
        verify_bad(c, "attrs.betas: expected two numbers");
    float *m = verify_alloc(c, (size_t)n * sizeof *m), *v = verify_alloc(c, (size_t)n * sizeof *v);
    float *y = verify_alloc(c, (size_t)all->count * sizeof *y);
    if (c->err.code) return;
    tn_adamw_config cfg = {betas->child->number, betas->child->next->number, verify_number(c, "eps", 1e-8),
                           verify_number(c, "weight_decay", 0.01)};
    for (int64_t t = 0; t < steps; t++) {
        tn_adamw(c->ctx, &cfg, verify_number(c, "lr", 0), t + 1, n, p, grads + t * n, m, v);
        memcpy(y + t * n, p, (size_t)n * sizeof *y);
    }
    verify_put_data(c, "out.y", TN_F32, all->ndim, all->shape, y);
}

static const struct op_row {
    const char *name;
    tn_tensor *(*run)(verify_case *c);
} rows[] = {
    {"linear", run_linear},
    {"matmul", run_matmul},
    {"matmul_bt", run_matmul_bt},
    {"conv2d", run_conv2d},
    {"group_norm", run_group_norm},
    {"layer_norm", run_layer_norm},
    {"attention", run_attention},
    {"softmax", run_softmax},
    {"mean", run_mean},
    {"silu", run_silu},
    {"gelu", run_gelu},
    {"quick_gelu", run_quick_gelu},
    {"sigmoid", run_sigmoid},
    {"geglu", run_geglu},
    {"upsample_nearest", run_upsample_nearest},
    {"avg_pool2d", run_avg_pool2d},
    {"embedding", run_embedding},
    {"mse_loss", run_mse_loss},
    {"cosine_similarity", run_cosine_similarity},
    {"timestep_embedding", run_timestep_embedding},
};

void verify_op(verify_case *c) {
    const char *op = verify_text(c, "op");
    size_t i = 0, n = sizeof rows / sizeof rows[0];
    if (c->err.code) return;
    if (!strcmp(op, "diagonal_gaussian")) {
        gaussian(c);
        return;
    }
    if (!strcmp(op, "adamw")) {
        adamw(c);
        return;
    }
    while (i < n && strcmp(rows[i].name, op)) i++;
    if (i == n) {
        verify_bad(c, "unknown operator '%s'", op);
        return;
    }
    tn_tensor *y = rows[i].run(c);
    verify_put(c, "out.y", y);
    if (y && verify_seed(c, y, "in.cotangent")) tn_backward(c->ctx);
    verify_put_grads(c);
}
