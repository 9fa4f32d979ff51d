/* From pictures to the tensors that networks see, and back: floats, NCHW, as [3, height, width] of one picture. */
#ifndef NN_PREPROCESS_H
#define NN_PREPROCESS_H

#include <stdbool.h>

#include "nn/image/image.h"
#include "nn/image/resize.h"

/* The part of a picture whose upper left corner is (left, top); must lie inside, or TN_EINPUT. */
int nn_crop(const nn_image *in, int64_t left, int64_t top, int64_t width, int64_t height, nn_image *out, tn_err *err);
/* Mirrors left and right in place. */
void nn_flip(nn_image *image);

/* A training picture before it becomes numbers, as in the scripts of diffusers and of the paper (textual_inversion.py,
 * __getitem__): with center_crop the middle square of the shorter side's size, then size x size whatever the shape,
 * then mirrored with flip. */
int nn_training_picture(const nn_image *in, int64_t size, enum nn_filter filter, bool center_crop, bool flip,
                        nn_image *out, tn_err *err);
/* x / 127.5 - 1: bytes to [-1, 1], the range of the autoencoder. out [3, height, width]. */
void nn_image_to_signed(const nn_image *in, float *out);

/* Where the centre crop of CLIP's preprocessing starts when the margin is odd. */
enum nn_crop_rule {
    NN_CROP_FLOOR,     /* Hugging Face: margin / 2 rounded down */
    NN_CROP_HALF_EVEN, /* torchvision, openai: round(margin / 2), halves to even */
};

/* The first half of CLIP's preprocessing: bicubic, the shorter side to size, the longer to int(size * long / short). */
int nn_clip_resize(const nn_image *in, int64_t size, nn_image *out, tn_err *err);
/* CLIP's preprocessing: nn_clip_resize, the middle size x size, x / 255, (x - mean) / std per channel. out [3, size,
 * size]. */
int nn_clip_preprocess(const nn_image *in, int64_t size, enum nn_crop_rule rule, const float mean[3],
                       const float std[3], float *out, tn_err *err);

/* The autoencoder's output [3, height, width] to a picture: round(255 * clamp(x / 2 + 0.5, 0, 1)), halves to even, in
 * float as the public code computes it. NaN is TN_ENUMERIC: a black picture must not look like a result. */
int nn_image_from_signed(const float *in, int64_t width, int64_t height, nn_image *out, tn_err *err);

#endif
