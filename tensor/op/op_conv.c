/* conv2d. Definition: ref/conv.c. */
#include "tensor/op/ops.h"

static int64_t out_size(int64_t in, int before, int after, int64_t kernel, int stride) {
    return (in + before + after - kernel) / stride + 1;
}

static int shape_rule(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2];
    TN_FIT(n, x->ndim == 4 && w->ndim == 4 && x->shape[1] == w->shape[1] && n->a.stride >= 1);
    TN_FIT(n, !b || (b->ndim == 1 && b->shape[0] == w->shape[0]));
    TN_FIT(n, x->shape[2] + n->a.top + n->a.bottom >= w->shape[2] && x->shape[3] + n->a.left + n->a.right >= w->shape[3]);
    shape[0] = x->shape[0], shape[1] = w->shape[0];
    shape[2] = out_size(x->shape[2], n->a.top, n->a.bottom, w->shape[2], n->a.stride);
    shape[3] = out_size(x->shape[3], n->a.left, n->a.right, w->shape[3], n->a.stride);
    return 4;
}

static k_conv problem(const tn_ctx *c, const tn_node *n) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *y = n->out;
    k_conv p = {.batch = x->shape[0], .C = x->shape[1], .H = x->shape[2], .W = x->shape[3], .O = w->shape[0],
                .KH = w->shape[2], .KW = w->shape[3], .P = y->shape[2], .Q = y->shape[3], .stride = n->a.stride,
                .top = n->a.top, .left = n->a.left, .x = x->data, .w = w->data, .w_type = w->dtype, .y = y->data,
                .dy = y->grad, .threads = c->threads};
    if (b) p.bias = b->data, p.bias_type = b->dtype;
    return p;
}

static void forward(tn_ctx *c, tn_node *n) {
    k_conv p = problem(c, n);
    p.scratch = tn_scratch(c, c->k->conv_scratch(&p));
    if (tn_live(c)) c->k->conv(&p);
}

static void backward(tn_ctx *c, tn_node *n) {
    k_conv p = problem(c, n);
    p.scratch = tn_scratch(c, c->k->conv_scratch(&p));
    if ((p.dx = tn_din(n, 0, &p.acc)) && tn_live(c)) c->k->conv_dx(&p);
    p.dx = NULL;
    if ((p.dw = tn_din(n, 1, &p.acc)) && tn_live(c)) c->k->conv_dw(&p);
    p.dw = NULL;
    if ((p.dbias = tn_din(n, 2, &p.acc)) && tn_live(c)) c->k->conv_dw(&p);
}

static const tn_case cases[] = {
    {"1x1", {.stride = 1}, 3, {{'x', 4, {2, 5, 6, 9}}, {'w', 4, {7, 5, 1, 1}}, {'w', 1, {7}}}},
    {"1x1, no bias", {.stride = 1}, 3, {{'x', 4, {1, 8, 5, 5}}, {'w', 4, {4, 8, 1, 1}}, {0}}},
    {"3x3", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 3, {{'x', 4, {2, 3, 7, 11}}, {'w', 4, {8, 3, 3, 3}}, {'w', 1, {8}}}},
    {"3x3, F16", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 3, {{'x', 4, {1, 48, 16, 16}}, {'h', 4, {40, 48, 3, 3}}, {'h', 1, {40}}}},
    {"3x3, one pixel", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 3, {{'x', 4, {1, 4, 1, 1}}, {'w', 4, {4, 4, 3, 3}}, {'w', 1, {4}}}},
    {"3x3, one row", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 3, {{'x', 4, {1, 3, 1, 13}}, {'w', 4, {4, 3, 3, 3}}, {'w', 1, {4}}}},
    {"3x3, stride 2", {.stride = 2, .top = 1, .bottom = 1, .left = 1, .right = 1}, 3, {{'x', 4, {1, 6, 7, 9}}, {'w', 4, {5, 6, 3, 3}}, {'w', 1, {5}}}},
    {"3x3, stride 2, even", {.stride = 2, .top = 1, .bottom = 1, .left = 1, .right = 1}, 3, {{'x', 4, {1, 6, 8, 10}}, {'b', 4, {6, 6, 3, 3}}, {'b', 1, {6}}}},
    {"3x3, stride 2, pad right and bottom", {.stride = 2, .bottom = 1, .right = 1}, 3, {{'x', 4, {2, 4, 7, 10}}, {'w', 4, {6, 4, 3, 3}}, {'w', 1, {6}}}},
    {"patches", {.stride = 8}, 3, {{'x', 4, {1, 3, 16, 24}}, {'w', 4, {6, 3, 8, 8}}, {0}}},
};
const tn_op tn_op_conv2d = {"conv2d", shape_rule, NULL, forward, backward, cases, sizeof cases / sizeof *cases};

tn_tensor *tn_conv2d_pad(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, int stride, int top, int bottom, int left, int right) {
    tn_attr a = {.stride = stride, .top = top, .bottom = bottom, .left = left, .right = right};
    return tn_apply(c, &tn_op_conv2d, &a, 3, (tn_tensor *[]){x, w, b});
}

tn_tensor *tn_conv2d(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, int stride, int padding) {
    return tn_conv2d_pad(c, x, w, b, stride, padding, padding, padding, padding);
}
