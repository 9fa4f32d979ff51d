/* conv2d, upsample_conv2d. Definition: ref/conv.c; of what conv2d adds to the product: ref/add_scale.c. */
#include "tensor/int64.h"
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

static int64_t out_size(int64_t in, int before, int after, int64_t kernel, int stride) {
    return (in + before + after - kernel) / stride + 1;
}

static int shape_rule(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *shift = n->in[3], *add = n->in[4];
    TN_FIT(n, x->ndim == 4 && w->ndim == 4 && x->shape[1] == w->shape[1] && n->a.stride >= 1);
    TN_FIT(n, !b || (b->ndim == 1 && b->shape[0] == w->shape[0]));
    TN_FIT(n, x->shape[2] + n->a.top + n->a.bottom >= w->shape[2] && x->shape[3] + n->a.left + n->a.right >= w->shape[3]);
    shape[0] = x->shape[0], shape[1] = w->shape[0];
    shape[2] = out_size(x->shape[2], n->a.top, n->a.bottom, w->shape[2], n->a.stride);
    shape[3] = out_size(x->shape[3], n->a.left, n->a.right, w->shape[3], n->a.stride);
    TN_FIT(n, !shift || (shift->ndim == 2 && shift->shape[0] == shape[0] && shift->shape[1] == shape[1]));
    for (int i = 0; add && i < 4; i++) TN_FIT(n, add->ndim == 4 && add->shape[i] == shape[i]);
    return 4;
}

static k_conv problem(const tn_ctx *c, const tn_node *n) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *y = n->out;
    k_conv p = {.batch = x->shape[0], .C = x->shape[1], .H = x->shape[2], .W = x->shape[3], .O = w->shape[0],
                .KH = w->shape[2], .KW = w->shape[3], .P = y->shape[2], .Q = y->shape[3], .stride = n->a.stride,
                .top = n->a.top, .left = n->a.left, .x = x->data, .w = w->data, .w_type = w->dtype, .y = y->data,
                .dy = y->grad, .threads = c->threads};
    if (b) p.bias = b->data, p.bias_type = b->dtype;
    if (n->nin > 3 && n->in[3]) p.shift = n->in[3]->data;
    if (n->nin > 4 && n->in[4]) p.add = n->in[4]->data;
    return p;
}

/* What Winograd's form with tiles of m x m takes for `out` channels of h x w pixels from `in` channels, in operations on 16
 * lanes. Each pair of channels has a product for each element of a patch and tile; the transforms of a patch, of a result and of
 * a weight were measured to take as long as 16, 9 and 5 multiply-adds an element. Tiles share vectors with those of other images
 * of a batch: an image pays for the lanes that it fills. */
static double winograd_work(int64_t in, int64_t out, int64_t h, int64_t w, int64_t m) {
    double vectors = (double)(ceil_div(h, m) * ceil_div(w, m)) / 16, a = (double)in, b = (double)out;
    return (double)((m + 2) * (m + 2)) * (a * b / 16 * (16 * vectors + 5) + vectors * (16 * a + 9 * b));
}

static bool winograd_fits(const tn_ctx *c, const k_conv *p) {
    return p->KH == 3 && p->KW == 3 && p->stride == 1 && p->top <= 2 && p->left <= 2 && c->conv != TN_CONV_DIRECT;
}

/* Winograd's tile for a result of `out` x h x w from `in` channels; 0: the direct form. Of two forms the one with less work; the
 * direct one unless the other saves a fifth, as that runs nearer to the machine's peak. On two threads Winograd's form was 0.8 to
 * 1.1 times as fast at this border (32 to 128@8x8, one image; 2 to 3 times with 32 images), 1.5 at 1280@8x8, 2.8 at 1280@16x16, 3.4
 * at 320@64x64. The direct form of a doubled image has 4 taps. The shape of one image decides alone: bits may depend neither on the
 * machine nor on the batch that a picture is computed in. */
static int winograd_tile(const tn_ctx *c, const k_conv *p, int64_t in, int64_t out, int64_t h, int64_t w) {
    if (!winograd_fits(c, p)) return 0;
    double four = winograd_work(in, out, h, w, 4), two = winograd_work(in, out, h, w, 2), best = four <= two ? four : two;
    double direct = (p->doubled ? 4.0 : 9.0) / 16 * (double)(h * w) * (double)in * (double)out;
    if (c->conv == TN_CONV_AUTO && 1.25 * best > direct) return 0;
    return four <= two ? 4 : 2;
}

/* Whether the gradient of weights is computed by Winograd's form: its transforms were measured to take as long as 600 multiply-adds
 * for a tile of 16 channels of x or dy, and 480 for 16 weights. All images count, as they do in the sum. On two threads it was 0.8
 * times as fast as the direct form for one image of 320 to 320@8 and 4 to 320@64, 1.3 for two of the former, 2 for four, and 2 to
 * 2.8 for 32 images of 128@4 to 64@16. */
static bool winograd_weights(const tn_ctx *c, const k_conv *p) {
    if (!winograd_fits(c, p) || p->doubled) return false;
    double tiles = (double)(p->batch * ceil_div(p->P, 4) * ceil_div(p->Q, 4)), a = (double)p->C, b = (double)p->O;
    double work = a * b / 16 * (36 * tiles + 480) + tiles * 600 * (double)(ceil_div(p->C, 16) + ceil_div(p->O, 16));
    return c->conv == TN_CONV_WINOGRAD || 1.25 * work <= 9.0 / 16 * (double)(p->batch * p->P * p->Q) * a * b;
}

static void forward(tn_ctx *c, tn_node *n) {
    k_conv p = problem(c, n);
    p.tile = winograd_tile(c, &p, p.C, p.O, p.P, p.Q);
    p.scratch = tn_scratch(c, (p.tile ? c->k->winograd_scratch : c->k->conv_scratch)(&p));
    if (tn_live(c)) (p.tile ? c->k->winograd : c->k->conv)(&p);
}

/* dshift[b,o] = sum of dy[b,o,:,:] */
typedef struct plane_sum {
    const tn_kernels *k;
    const float *dy;
    float *d;
    int64_t pixels;
    int acc;
} plane_sum;

static void sum_plane(void *arg, int64_t i, int worker) {
    const plane_sum *s = arg;
    float sum = s->k->sum(s->pixels, s->dy + i * s->pixels);
    (void)worker;
    s->d[i] = s->acc ? s->d[i] + sum : sum;
}

static void shift_gradient(tn_ctx *c, tn_node *n) {
    const tn_tensor *y = n->out;
    plane_sum s = {.k = c->k, .dy = y->grad, .pixels = y->shape[2] * y->shape[3]};
    s.d = tn_din(n, 3, &s.acc);
    if (!s.d || !tn_live(c)) return;
    tn_parallel_for(tn_threads_for(c->threads, 0.25 * (double)tn_numel(y)), y->shape[0] * y->shape[1], sum_plane, &s);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t backward_scratch(const tn_ctx *c, const tn_node *n, const k_conv *p) {
    bool by_winograd = winograd_weights(c, p);
    size_t x = !n->in[0]->need ? 0 : p->tile ? c->k->winograd_scratch(p) : c->k->conv_scratch(p);
    size_t w = !n->in[1]->need ? 0 : by_winograd ? c->k->winograd_dw_scratch(p) : c->k->conv_dw_scratch(p);
    return larger(x, w);
}

static void gradients(tn_ctx *c, tn_node *n, k_conv p) {
    p.scratch = tn_scratch(c, backward_scratch(c, n, &p));
    if ((p.dx = tn_din(n, 0, &p.acc)) && tn_live(c)) (p.tile ? c->k->winograd_dx : c->k->conv_dx)(&p);
    p.dx = NULL;
    if ((p.dw = tn_din(n, 1, &p.acc)) && tn_live(c)) (winograd_weights(c, &p) ? c->k->winograd_dw : c->k->conv_dw)(&p);
    p.dw = NULL;
    if ((p.dbias = tn_din(n, 2, &p.acc)) && tn_live(c)) c->k->conv_dw(&p);
}

static void backward(tn_ctx *c, tn_node *n) {
    tn_din_same(c, n, 4);
    shift_gradient(c, n);
    k_conv p = problem(c, n);
    p.tile = winograd_tile(c, &p, p.O, p.C, p.H, p.W);
    gradients(c, n, p);
}

static const tn_case cases[] = {
    {"1x1", {.stride = 1}, 5, {{'x', 4, {2, 5, 6, 9}}, {'w', 4, {7, 5, 1, 1}}, {'w', 1, {7}}, {0}, {0}}},
    {"1x1, no bias", {.stride = 1}, 5, {{'x', 4, {1, 8, 5, 5}}, {'w', 4, {4, 8, 1, 1}}, {0}, {0}, {0}}},
    {"3x3", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 5, {{'x', 4, {2, 3, 7, 11}}, {'w', 4, {8, 3, 3, 3}}, {'w', 1, {8}}, {0}, {0}}},
    {"3x3, F16", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 5, {{'x', 4, {1, 48, 16, 16}}, {'h', 4, {40, 48, 3, 3}}, {'h', 1, {40}}, {0}, {0}}},
    {"3x3, one pixel", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 5, {{'x', 4, {1, 4, 1, 1}}, {'w', 4, {4, 4, 3, 3}}, {'w', 1, {4}}, {0}, {0}}},
    {"3x3, one row", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 5, {{'x', 4, {1, 3, 1, 13}}, {'w', 4, {4, 3, 3, 3}}, {'w', 1, {4}}, {0}, {0}}},
    {"3x3, stride 2", {.stride = 2, .top = 1, .bottom = 1, .left = 1, .right = 1}, 5, {{'x', 4, {1, 6, 7, 9}}, {'w', 4, {5, 6, 3, 3}}, {'w', 1, {5}}, {0}, {0}}},
    {"3x3, stride 2, even", {.stride = 2, .top = 1, .bottom = 1, .left = 1, .right = 1}, 5, {{'x', 4, {1, 6, 8, 10}}, {'b', 4, {6, 6, 3, 3}}, {'b', 1, {6}}, {0}, {0}}},
    {"3x3, stride 2, pad right and bottom", {.stride = 2, .bottom = 1, .right = 1}, 5, {{'x', 4, {2, 4, 7, 10}}, {'w', 4, {6, 4, 3, 3}}, {'w', 1, {6}}, {0}, {0}}},
    {"time and residual", {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1}, 5, {{'x', 4, {2, 5, 6, 7}}, {'w', 4, {19, 5, 3, 3}}, {'w', 1, {19}}, {'x', 2, {2, 19}}, {'x', 4, {2, 19, 6, 7}}}},
    {"1x1, residual, F16", {.stride = 1}, 5, {{'x', 4, {1, 33, 8, 8}}, {'h', 4, {18, 33, 1, 1}}, {'h', 1, {18}}, {0}, {'x', 4, {1, 18, 8, 8}}}},
    {"3x3, time, stride 2", {.stride = 2, .top = 1, .bottom = 1, .left = 1, .right = 1}, 5, {{'x', 4, {2, 4, 6, 8}}, {'w', 4, {6, 4, 3, 3}}, {0}, {'x', 2, {2, 6}}, {0}}},
    {"patches", {.stride = 8}, 5, {{'x', 4, {1, 3, 16, 24}}, {'w', 4, {6, 3, 8, 8}}, {0}, {0}, {0}}},
};
const tn_op tn_op_conv2d = {"conv2d", shape_rule, NULL, forward, backward, cases, sizeof cases / sizeof *cases};

tn_tensor *tn_conv2d_pad(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, int stride, int top, int bottom, int left, int right) {
    tn_attr a = {.stride = stride, .top = top, .bottom = bottom, .left = left, .right = right};
    return tn_apply(c, &tn_op_conv2d, &a, 5, (tn_tensor *[]){x, w, b, NULL, NULL});
}

tn_tensor *tn_conv2d(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, int stride, int padding) {
    return tn_conv2d_pad(c, x, w, b, stride, padding, padding, padding, padding);
}

tn_tensor *tn_conv2d_add(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b, tn_tensor *shift, tn_tensor *add) {
    int pad = (int)(tn_dim(w, 2) / 2);
    tn_attr a = {.stride = 1, .top = pad, .bottom = pad, .left = pad, .right = pad};
    return tn_apply(c, &tn_op_conv2d, &a, 5, (tn_tensor *[]){x, w, b, shift, add});
}

/* ---- upsample_conv2d: always direct; what Winograd's form would be better for is not recorded as one ---- */

static int upsample_shape(const tn_node *n, int64_t *shape) {
    const tn_tensor *x = n->in[0], *w = n->in[1], *b = n->in[2];
    TN_FIT(n, x->ndim == 4 && w->ndim == 4 && x->shape[1] == w->shape[1] && w->shape[2] == 3 && w->shape[3] == 3);
    TN_FIT(n, !b || (b->ndim == 1 && b->shape[0] == w->shape[0]));
    shape[0] = x->shape[0], shape[1] = w->shape[0], shape[2] = 2 * x->shape[2], shape[3] = 2 * x->shape[3];
    return 4;
}

static k_conv doubled_problem(const tn_ctx *c, const tn_node *n) {
    k_conv p = problem(c, n);
    p.doubled = 1;
    return p;
}

static void upsample_forward(tn_ctx *c, tn_node *n) {
    k_conv p = doubled_problem(c, n);
    p.scratch = tn_scratch(c, c->k->conv_scratch(&p));
    if (tn_live(c)) c->k->conv(&p);
}

static void upsample_backward(tn_ctx *c, tn_node *n) { gradients(c, n, doubled_problem(c, n)); }

#define SAME .stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1
static const tn_case upsample_cases[] = {
    {"4x5", {SAME}, 3, {{'x', 4, {2, 3, 4, 5}}, {'w', 4, {6, 3, 3, 3}}, {'w', 1, {6}}}},
    {"16x32, F16", {SAME}, 3, {{'x', 4, {1, 24, 16, 32}}, {'h', 4, {17, 24, 3, 3}}, {'h', 1, {17}}}},
    {"8x8, many channels", {SAME}, 3, {{'x', 4, {3, 80, 8, 8}}, {'b', 4, {40, 80, 3, 3}}, {0}}},
    {"one pixel", {SAME}, 3, {{'x', 4, {1, 4, 1, 1}}, {'w', 4, {4, 4, 3, 3}}, {'w', 1, {4}}}},
};
const tn_op tn_op_upsample_conv2d = {"upsample_conv2d", upsample_shape, NULL, upsample_forward, upsample_backward, upsample_cases,
                                     sizeof upsample_cases / sizeof *upsample_cases};

tn_tensor *tn_upsample_conv2d(tn_ctx *c, tn_tensor *x, tn_tensor *w, tn_tensor *b) {
    int64_t h = 2 * tn_dim(x, 2), side = 2 * tn_dim(x, 3);
    k_conv p = {.KH = 3, .KW = 3, .stride = 1, .top = 1, .left = 1, .doubled = 1};
    if (winograd_tile(c, &p, tn_dim(x, 1), tn_dim(w, 0), h, side)) return tn_conv2d(c, tn_upsample_nearest(c, x, h, side), w, b, 1, 1);
    tn_attr a = {SAME};
    return tn_apply(c, &tn_op_upsample_conv2d, &a, 3, (tn_tensor *[]){x, w, b});
}
