#include "nn/image/preprocess.h"

#include <math.h>
#include <string.h>

int nn_crop(const nn_image *in, int64_t left, int64_t top, int64_t width, int64_t height, nn_image *out, tn_err *err) {
    if (left < 0 || top < 0 || width < 1 || height < 1 || width > in->width - left || height > in->height - top)
        return tn_fail(err, TN_EINPUT, "crop of %lld x %lld at (%lld, %lld) is not inside the picture of %lld x %lld",
                       (long long)width, (long long)height, (long long)left, (long long)top, (long long)in->width,
                       (long long)in->height);
    nn_image result;
    if (nn_image_alloc(width, height, &result, err)) return -1;
    for (int64_t y = 0; y < height; y++)
        memcpy(result.rgb + y * width * 3, in->rgb + ((top + y) * in->width + left) * 3, (size_t)width * 3);
    *out = result;
    return 0;
}

void nn_flip(nn_image *image) {
    for (int64_t y = 0; y < image->height; y++) {
        unsigned char *left = image->rgb + y * image->width * 3, *right = left + (image->width - 1) * 3, pixel[3];
        for (; left < right; left += 3, right -= 3) {
            memcpy(pixel, left, 3);
            memcpy(left, right, 3);
            memcpy(right, pixel, 3);
        }
    }
}

int nn_training_picture(const nn_image *in, int64_t size, enum nn_filter filter, bool center_crop, bool flip,
                        nn_image *out, tn_err *err) {
    nn_image square = {0, 0, NULL};
    if (center_crop) {
        int64_t side = in->width < in->height ? in->width : in->height;
        if (nn_crop(in, (in->width - side) / 2, (in->height - side) / 2, side, side, &square, err)) return -1;
    }
    int rc = nn_resize(center_crop ? &square : in, size, size, filter, out, err);
    nn_image_free(&square);
    if (rc == 0 && flip) nn_flip(out);
    return rc;
}

void nn_image_to_signed(const nn_image *in, float *out) {
    int64_t n = in->width * in->height;
    for (int64_t c = 0; c < 3; c++) {
        for (int64_t i = 0; i < n; i++) *out++ = (float)(in->rgb[i * 3 + c] / 127.5 - 1.0);
    }
}

int nn_clip_resize(const nn_image *in, int64_t size, nn_image *out, tn_err *err) {
    bool tall = in->height > in->width;
    int64_t shorter = tall ? in->width : in->height, longer = tall ? in->height : in->width;
    if (size < 1 || size > NN_IMAGE_MAX_PIXELS)
        return tn_fail(err, TN_EINPUT, "a picture of size %lld", (long long)size);
    int64_t scaled = size * longer / shorter;
    return nn_resize(in, tall ? size : scaled, tall ? scaled : size, NN_BICUBIC, out, err);
}

/* The start of the middle `size` of `length`. */
static int64_t crop_start(int64_t length, int64_t size, enum nn_crop_rule rule) {
    int64_t half = (length - size) / 2;
    bool odd = (length - size) % 2 != 0;
    return rule == NN_CROP_HALF_EVEN && odd && half % 2 != 0 ? half + 1 : half;
}

int nn_clip_preprocess(const nn_image *in, int64_t size, enum nn_crop_rule rule, const float mean[3],
                       const float std[3], float *out, tn_err *err) {
    nn_image picture;
    if (nn_clip_resize(in, size, &picture, err)) return -1;
    int64_t left = crop_start(picture.width, size, rule), top = crop_start(picture.height, size, rule);
    for (int c = 0; c < 3; c++) {
        for (int64_t y = 0; y < size; y++) {
            const unsigned char *p = picture.rgb + ((top + y) * picture.width + left) * 3 + c;
            for (int64_t x = 0; x < size; x++) *out++ = (float)((p[x * 3] / 255.0 - (double)mean[c]) / (double)std[c]);
        }
    }
    nn_image_free(&picture);
    return 0;
}

int nn_image_from_signed(const float *in, int64_t width, int64_t height, nn_image *out, tn_err *err) {
    nn_image result;
    if (nn_image_alloc(width, height, &result, err)) return -1;
    int64_t n = width * height;
    for (int64_t i = 0; i < 3 * n; i++) {
        float x = in[i] / 2.0f + 0.5f;
        if (isnan(x)) {
            nn_image_free(&result);
            return tn_fail(err, TN_ENUMERIC, "the picture has NaN at channel %lld, pixel %lld", (long long)(i / n),
                           (long long)(i % n));
        }
        x = x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
        result.rgb[i % n * 3 + i / n] = (unsigned char)rintf(x * 255.0f);
    }
    *out = result;
    return 0;
}
