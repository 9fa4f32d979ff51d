/* Two-dimensional convolution.
 *
 *   y[b,o,p,q] = bias[o] + sum_{c,i,j} w[o,c,i,j] x[b,c,r,s]    with r = p stride + i - top, s = q stride + j - left
 *
 *   x [B,C,H,W], w [O,C,KH,KW], bias [O], y [B,O,P,Q]; x counts as zero outside its H x W pixels.
 *
 * Backward. The output is linear in x and in w. Each product w x of the forward contributes dy w to the x that it used
 * and dy x to the w that it used:
 *
 *   dx[b,c,r,s] += dy[b,o,p,q] w[o,c,i,j]      dw[o,c,i,j] += dy[b,o,p,q] x[b,c,r,s]      dbias[o] += dy[b,o,p,q]
 *
 * over the same seven loops. Products with the zeros around the image had no x and give nothing. (Solved for dx this is
 * the transposed convolution of Dumoulin & Visin, 1603.07285, chapter 4; the scattered form needs no case for the
 * stride.)
 *
 * upsample_conv2d is the same of an image whose pixels are first shown 2 x 2 times (resample.c): H and W are the larger size, and
 * r, s of that size read x at floor(r/2), floor(s/2).
 *
 * Source: PyTorch torch.nn.functional.conv2d, groups and dilation 1. */
#include "ref/ref.h"

#include <stddef.h>

/* Index into x, whose pixels are shown up x up times, of the one under tap (i, j) of output (p, q), or -1 where the tap lies
 * outside the image. */
static int64_t tap(const ref_conv_shape *s, int64_t up, int64_t b, int64_t c, int64_t p, int64_t q, int64_t i, int64_t j) {
    int64_t row = p * s->stride + i - s->top, col = q * s->stride + j - s->left;
    if (row < 0 || row >= s->H || col < 0 || col >= s->W) return -1;
    return ((b * s->C + c) * (s->H / up) + row / up) * (s->W / up) + col / up;
}

static void conv(const ref_conv_shape *s, int64_t up, const double *x, const double *w, const double *b, double *y) {
    for (int64_t n = 0; n < s->B; n++)
        for (int64_t o = 0; o < s->O; o++)
            for (int64_t p = 0; p < s->P; p++)
                for (int64_t q = 0; q < s->Q; q++) {
                    double sum = b ? b[o] : 0;
                    for (int64_t c = 0; c < s->C; c++)
                        for (int64_t i = 0; i < s->KH; i++)
                            for (int64_t j = 0; j < s->KW; j++) {
                                int64_t at = tap(s, up, n, c, p, q, i, j);
                                if (at >= 0) sum += w[((o * s->C + c) * s->KH + i) * s->KW + j] * x[at];
                            }
                    y[((n * s->O + o) * s->P + p) * s->Q + q] = sum;
                }
}

static void conv_backward(const ref_conv_shape *s, int64_t up, const double *x, const double *w, const double *dy, double *dx,
                          double *dw, double *db) {
    for (int64_t n = 0; n < s->B; n++)
        for (int64_t o = 0; o < s->O; o++)
            for (int64_t p = 0; p < s->P; p++)
                for (int64_t q = 0; q < s->Q; q++) {
                    double g = dy[((n * s->O + o) * s->P + p) * s->Q + q];
                    if (db) db[o] += g;
                    for (int64_t c = 0; c < s->C; c++)
                        for (int64_t i = 0; i < s->KH; i++)
                            for (int64_t j = 0; j < s->KW; j++) {
                                int64_t at = tap(s, up, n, c, p, q, i, j), k = ((o * s->C + c) * s->KH + i) * s->KW + j;
                                if (at < 0) continue;
                                if (dx) dx[at] += g * w[k];
                                if (dw) dw[k] += g * x[at];
                            }
                }
}

void ref_conv2d(const ref_conv_shape *s, const double *x, const double *w, const double *b, double *y) {
    conv(s, 1, x, w, b, y);
}

void ref_conv2d_backward(const ref_conv_shape *s, const double *x, const double *w, const double *dy, double *dx,
                         double *dw, double *db) {
    conv_backward(s, 1, x, w, dy, dx, dw, db);
}

void ref_upsample_conv2d(const ref_conv_shape *s, const double *x, const double *w, const double *b, double *y) {
    conv(s, 2, x, w, b, y);
}

void ref_upsample_conv2d_backward(const ref_conv_shape *s, const double *x, const double *w, const double *dy, double *dx,
                                  double *dw, double *db) {
    conv_backward(s, 2, x, w, dy, dx, dw, db);
}
