#include "nn/edit/low_pass.h"

#include "nn/image/resize.h"
#include <stdlib.h>

int nn_low_pass(const float *x, int64_t planes, int64_t h, int64_t w, int64_t n, float *out, tn_err *err) {
    TN_REQUIRE(n >= 1 && h % n == 0 && w % n == 0);
    float *small = malloc((size_t)(h / n * (w / n)) * sizeof *small);
    int bad = small ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the low band");
    for (int64_t p = 0; !bad && p < planes; p++) {
        bad = nn_resize_f32(x + p * h * w, w, h, w / n, h / n, NN_BICUBIC, small, err) ||
                      nn_resize_f32(small, w / n, h / n, w, h, NN_BICUBIC, out + p * h * w, err)
                  ? -1
                  : 0;
    }
    free(small);
    return bad;
}

int nn_exchange_low_band(float *x, const float *reference, int64_t planes, int64_t h, int64_t w, int64_t n,
                         tn_err *err) {
    int64_t size = planes * h * w;
    float *own = malloc(2 * (size_t)size * sizeof *own), *other = own + size;
    if (!own) return tn_fail(err, TN_ENOMEM, "out of memory for the low band");
    int bad = nn_low_pass(x, planes, h, w, n, own, err) || nn_low_pass(reference, planes, h, w, n, other, err) ? -1 : 0;
    for (int64_t i = 0; !bad && i < size; i++) x[i] = x[i] - own[i] + other[i];
    free(own);
    return bad;
}
