/* Convolution. Forward, and backward to the input, are direct (k_conv_direct.c):
 *
 *   forward  y  = w   [O, C KH KW]  x  cols(x)   [C KH KW, B P Q]
 *   dx       dx = w'  [C, O KH KW]  x  cols'(dy) [O KH KW, B H W]
 *
 * w' swaps o and c; cols' holds what an input pixel fed. A tap is a pair (i, j) of the KH x KW window. Gradients of weights are in
 * k_conv_weights.c. */
#include "tensor/kernel/k_conv.h"
#include "tensor/kernel/k_table.h"
#include "tensor/parallel.h"

/* A 1x1 window without stride or padding sees no geometry: an image is one long row. */
static k_conv simplified(const k_conv *p) {
    k_conv s = *p;
    if (p->KH == 1 && p->KW == 1 && p->stride == 1 && !p->top && !p->left && p->P == p->H && p->Q == p->W) {
        s.W = s.Q = p->H * p->W;
        s.H = s.P = 1;
    }
    return s;
}

static conv_view forward_view(const k_conv *p) {
    conv_view v = {.batch = p->batch, .M = p->O, .channels = p->C, .H = p->H, .W = p->W, .P = p->P, .Q = p->Q,
                   .KH = p->KH, .KW = p->KW, .stride = p->stride, .row0 = -p->top, .col0 = -p->left, .direction = 1};
    v.x = p->x, v.a = p->w, v.a_type = p->w_type;
    v.a_row = p->C * p->KH * p->KW, v.a_channel = p->KH * p->KW, v.tap_step = 1, v.window = p->KW;
    v.y = p->y, v.y_image = p->O * p->P * p->Q, v.y_channel = p->P * p->Q, v.y_row = p->Q, v.y_step = 1;
    v.bias = p->bias, v.bias_type = p->bias_type, v.shift = p->shift, v.add = p->add;
    v.acc = p->acc, v.threads = p->threads, v.scratch = p->scratch;
    return v;
}

/* With stride s an input pixel (h, w) is seen through those taps only for which s divides h + top - i and w + left - j.
 * So the pixels fall into s^2 phases, each with its share of the taps; one phase is a convolution of dy with stride 1. This is the
 * phase whose taps begin at (i0, j0), 0 <= i0, j0 < s. */
static conv_view phase_view(const k_conv *p, int64_t i0, int64_t j0) {
    int64_t s = p->stride, h0 = (i0 + s - p->top % s) % s, w0 = (j0 + s - p->left % s) % s; /* its first pixel */
    conv_view v = {.batch = p->batch, .M = p->C, .channels = p->O, .H = p->P, .W = p->Q, .stride = 1, .direction = -1};
    v.P = (p->H - h0 + s - 1) / s, v.Q = (p->W - w0 + s - 1) / s, v.KH = (p->KH - i0 + s - 1) / s, v.KW = (p->KW - j0 + s - 1) / s;
    v.row0 = (h0 + p->top - i0) / s, v.col0 = (w0 + p->left - j0) / s;
    v.x = p->dy, v.a = p->w, v.a_type = p->w_type;
    v.a_row = p->KH * p->KW, v.a_channel = p->C * p->KH * p->KW, v.i0 = i0, v.j0 = j0, v.tap_step = s, v.window = p->KW;
    v.y = p->dx ? p->dx + h0 * p->W + w0 : NULL;
    v.y_image = p->C * p->H * p->W, v.y_channel = p->H * p->W, v.y_row = s * p->W, v.y_step = s;
    v.acc = p->acc, v.threads = p->threads, v.scratch = p->scratch;
    return v;
}

void K(conv)(const k_conv *p) {
    k_conv s = simplified(p);
    conv_view v = forward_view(&s);
    K(conv_direct)(&v);
}

void K(conv_dx)(const k_conv *p) {
    k_conv s = simplified(p);
    for (int64_t ij = 0; ij < s.stride * s.stride; ij++) {
        conv_view v = phase_view(&s, ij / s.stride, ij % s.stride);
        K(conv_direct)(&v);
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

void K(conv_dw)(const k_conv *p) {
    if (p->dw) K(conv_weights)(p);
    if (p->dbias) tn_parallel_for(p->threads, p->O, dbias_task, (void *)p);
}

size_t K(conv_scratch)(const k_conv *p) {
    k_conv s = simplified(p);
    conv_view y = forward_view(&s);
    size_t most = K(conv_direct_scratch)(&y), size = K(conv_weights_scratch)(p);
    most = most > size ? most : size;
    for (int64_t ij = 0; ij < s.stride * s.stride; ij++) {
        conv_view v = phase_view(&s, ij / s.stride, ij % s.stride);
        size = K(conv_direct_scratch)(&v);
        most = most > size ? most : size;
    }
    return most;
}
