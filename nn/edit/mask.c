#include "nn/edit/mask.h"

#include <stdlib.h>

/* Pillow's weights of ITU-R 601-2 luma, in 16 fractional bits. */
static int luma(const unsigned char *p) { return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16; }

void nn_mask_grey(const nn_image *picture, bool invert, float *grey) {
    for (int64_t i = 0; i < picture->width * picture->height; i++) {
        int v = luma(picture->rgb + 3 * i);
        grey[i] = (float)(invert ? 255 - v : v) / 255.0f;
    }
}

int nn_mask_from_grey(const float *grey, int64_t in_width, int64_t in_height, int64_t width, int64_t height,
                      enum nn_filter filter, unsigned char *mask, tn_err *err) {
    float *resized = malloc((size_t)(width * height) * sizeof *resized);
    if (!resized) return tn_fail(err, TN_ENOMEM, "out of memory for the mask");
    int bad = nn_resize_f32(grey, in_width, in_height, width, height, filter, resized, err);
    for (int64_t i = 0; !bad && i < width * height; i++) mask[i] = resized[i] >= 0.5f;
    free(resized);
    return bad;
}

/* One line of n pixels, `stride` apart: a count of the ones within the window, which moves along. */
static void dilate_line(const unsigned char *in, int64_t n, int64_t stride, int64_t radius, unsigned char *out) {
    int64_t ones = 0;
    for (int64_t i = 0; i < radius && i < n; i++) ones += in[i * stride];
    for (int64_t i = 0; i < n; i++) {
        if (i + radius < n) ones += in[(i + radius) * stride];
        if (i > radius) ones -= in[(i - radius - 1) * stride];
        out[i * stride] = ones > 0;
    }
}

/* A square is a line of lines. */
int nn_mask_dilate(const unsigned char *in, int64_t width, int64_t height, int64_t radius, unsigned char *out,
                   tn_err *err) {
    unsigned char *rows = malloc((size_t)(width * height));
    if (!rows) return tn_fail(err, TN_ENOMEM, "out of memory for the mask");
    for (int64_t y = 0; y < height; y++) dilate_line(in + y * width, width, 1, radius, rows + y * width);
    for (int64_t x = 0; x < width; x++) dilate_line(rows + x, height, width, radius, out + x);
    free(rows);
    return 0;
}

int64_t nn_mask_area(const unsigned char *mask, int64_t n) {
    int64_t area = 0;
    for (int64_t i = 0; i < n; i++) area += mask[i];
    return area;
}

void nn_mask_blacken(const unsigned char *mask, nn_image *picture) {
    for (int64_t i = 0; i < picture->width * picture->height; i++) {
        for (int k = 0; k < 3 && !mask[i]; k++) picture->rgb[3 * i + k] = 0;
    }
}
