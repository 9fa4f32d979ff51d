/* Convolution. Forward, and backward to the input, are direct (k_conv_direct.c):
 *
 *   forward  y  = w   [O, C KH KW]  x  cols(x)   [C KH KW, B P Q]
 *   dx       dx = w'  [C, O KH KW]  x  cols'(dy) [O KH KW, B H W]
 *
 * w' swaps o and c; cols' holds what an input pixel fed. A tap is a pair (i, j) of the KH x KW window. Gradients of weights are in
 * k_conv_weights.c; what becomes of an image that is doubled first, in k_conv_doubled.c.
 *
 * With a window of one pixel the image is cols, as it lies, and a matrix product needs no copy of it (k_matmul.c): 3 to 16 % faster
 * where an image has many pixels. The chains are the same, and so are the bits. */
#include "tensor/kernel/k_conv.h"
#include "tensor/kernel/k_table.h"
#include "tensor/parallel.h"

/* A 1x1 window without stride or padding sees no geometry. */
static int is_point(const k_conv *p) {
    return p->KH == 1 && p->KW == 1 && p->stride == 1 && !p->top && !p->left && p->P == p->H && p->Q == p->W;
}

/* An image is one long row then. */
static k_conv simplified(const k_conv *p) {
    k_conv s = *p;
    if (is_point(p)) {
        s.W = s.Q = p->H * p->W;
        s.H = s.P = 1;
    }
    return s;
}

/* Pixels from which on a point is a product: with fewer, images of a batch are better computed together. */
enum { PIXELS = 256 };
static int is_product(const k_conv *p) { return is_point(p) && p->P * p->Q >= PIXELS && !p->shift; }

static k_matmul forward_product(const k_conv *p) {
    int64_t n = p->P * p->Q;
    return (k_matmul){.M = p->O, .N = n, .K = p->C, .batch = p->batch, .A = p->w, .a_type = p->w_type, .lda = p->C, .B = p->x,
                      .ldb = n, .b_step = p->C * n, .C = p->y, .ldc = n, .c_step = p->O * n, .bias = p->bias,
                      .bias_type = p->bias_type, .bias_rows = 1, .add = p->add, .acc = p->acc, .threads = p->threads, .scratch = p->scratch};
}

static k_matmul dx_product(const k_conv *p) {
    int64_t n = p->P * p->Q;
    return (k_matmul){.M = p->C, .N = n, .K = p->O, .batch = p->batch, .A = p->w, .a_type = p->w_type, .lda = p->C, .a_trans = 1,
                      .B = p->dy, .ldb = n, .b_step = p->O * n, .C = p->dx, .ldc = n, .c_step = p->C * n, .acc = p->acc,
                      .threads = p->threads, .scratch = p->scratch};
}

/* Of one image: a chain goes through all images of a batch. */
static int is_dw_product(const k_conv *p) { return is_product(p) && p->batch == 1; }

static k_matmul dw_product(const k_conv *p) {
    int64_t n = p->P * p->Q;
    return (k_matmul){.M = p->O, .N = p->C, .K = n, .batch = 1, .A = p->dy, .lda = n, .B = p->x, .ldb = n, .b_trans = 1, .C = p->dw,
                      .ldc = p->C, .acc = p->acc, .threads = p->threads, .scratch = p->scratch};
}

/* y as the convolution of x with stride s: a pixel of the grid is a result, and sees its window. */
static void set_window(conv_view *v, int64_t s, int64_t top, int64_t left) {
    v->P = v->YH, v->Q = v->YW, v->stride = s, v->phases = 1;
    v->row0 = -top, v->col0 = -left, v->SH = v->KH, v->SW = v->KW;
}

/* The multiple of s from a on, in units of s. */
static int64_t next_multiple(int64_t a, int64_t s) { return a > 0 ? ceil_div(a, s) : a / s; }

/* y as the transpose of a convolution with stride s from y to x: result h is seen through those taps only for which s divides
 * h + top - i, at pixel (h + top - i) / s of x. So the results fall into s^2 phases, each with its share of the taps. */
static void set_transposed(conv_view *v, int64_t s, int64_t top, int64_t left) {
    v->P = ceil_div(v->YH, s), v->Q = ceil_div(v->YW, s), v->stride = 1, v->phases = s, v->top = top, v->left = left, v->transposed = 1;
    v->row0 = next_multiple(top - v->KH + 1, s), v->SH = next_multiple(top, s) - v->row0 + 1;
    v->col0 = next_multiple(left - v->KW + 1, s), v->SW = next_multiple(left, s) - v->col0 + 1;
}

/* Of an image that is doubled first, w counts as the folded window of 4x4 and stride 2, transposed forward. */
static conv_view forward_view(const k_conv *p) {
    conv_view v = {.batch = p->batch, .M = p->O, .channels = p->C, .H = p->H, .W = p->W, .YH = p->P, .YW = p->Q,
                   .KH = p->KH, .KW = p->KW, .folded = p->doubled};
    if (p->doubled) v.KH = v.KW = 4, set_transposed(&v, 2, 1, 1);
    else set_window(&v, p->stride, p->top, p->left);
    v.x = p->x, v.a = p->w, v.a_type = p->w_type, v.a_row = p->C * p->KH * p->KW, v.a_channel = p->KH * p->KW;
    v.y = p->y, v.bias = p->bias, v.bias_type = p->bias_type, v.shift = p->shift, v.add = p->add;
    v.acc = p->acc, v.threads = p->threads, v.scratch = p->scratch;
    return v;
}

static conv_view dx_view(const k_conv *p) {
    conv_view v = {.batch = p->batch, .M = p->C, .channels = p->O, .H = p->P, .W = p->Q, .YH = p->H, .YW = p->W,
                   .KH = p->KH, .KW = p->KW, .folded = p->doubled};
    if (p->doubled) v.KH = v.KW = 4, set_window(&v, 2, 1, 1);
    else set_transposed(&v, p->stride, p->top, p->left);
    v.x = p->dy, v.a = p->w, v.a_type = p->w_type, v.a_row = p->KH * p->KW, v.a_channel = p->C * p->KH * p->KW;
    v.y = p->dx, v.acc = p->acc, v.threads = p->threads, v.scratch = p->scratch;
    return v;
}

static void direct(const conv_view *v) { (K(conv_is_3x3)(v) ? K(conv_3x3) : K(conv_direct))(v); }

static size_t direct_scratch(const conv_view *v) { return (K(conv_is_3x3)(v) ? K(conv_3x3_scratch) : K(conv_direct_scratch))(v); }

void K(conv)(const k_conv *p) {
    if (is_product(p)) {
        k_matmul m = forward_product(p);
        K(matmul)(&m);
    } else {
        k_conv s = simplified(p);
        conv_view v = forward_view(&s);
        direct(&v);
    }
}

void K(conv_dx)(const k_conv *p) {
    if (is_product(p)) {
        k_matmul m = dx_product(p);
        K(matmul)(&m);
    } else {
        k_conv s = simplified(p);
        conv_view v = dx_view(&s);
        direct(&v);
    }
}

/* dbias[o] = sum of dy[b, o, :, :]: per image in blocks, then the images in order. */
static void dbias_task(void *arg, int64_t o, int worker) {
    const k_conv *p = arg;
    int64_t pixels = p->P * p->Q;
    float total = 0;
    (void)worker;
    for (int64_t b = 0; b < p->batch; b++) total += K(sum)(pixels, p->dy + (b * p->O + o) * pixels);
    p->dbias[o] = p->acc ? total + p->dbias[o] : total;
}

static void weight_gradient(const k_conv *p) {
    if (p->doubled) {
        K(conv_doubled_weights)(p);
    } else if (is_dw_product(p)) {
        k_matmul m = dw_product(p);
        K(matmul)(&m);
    } else {
        K(conv_weights)(p);
    }
}

void K(conv_dw)(const k_conv *p) {
    if (p->dw) weight_gradient(p);
    if (p->dbias) tn_parallel_for(p->threads, p->O, dbias_task, (void *)p);
}

size_t K(conv_scratch)(const k_conv *p) {
    size_t a, b;
    if (is_product(p)) {
        k_matmul y = forward_product(p), dx = dx_product(p);
        a = K(matmul_scratch)(&y), b = K(matmul_scratch)(&dx);
    } else {
        k_conv s = simplified(p);
        conv_view y = forward_view(&s), dx = dx_view(&s);
        a = direct_scratch(&y), b = direct_scratch(&dx);
    }
    return a > b ? a : b;
}

size_t K(conv_dw_scratch)(const k_conv *p) {
    if (p->doubled) return K(conv_doubled_weights_scratch)(p);
    if (!is_dw_product(p)) return K(conv_weights_scratch)(p);
    k_matmul m = dw_product(p);
    return K(matmul_scratch)(&m);
}
