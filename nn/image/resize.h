/* Resizing as Pillow's Image.resize does it, equal to the byte (ImagingResample; written from its documented behaviour
 * and the goldens): the public training scripts and CLIP's preprocessing use it, and latents follow from its pixels.
 *
 * Each output sample is a weighted sum of input samples around its centre (x + 0.5) * in / out. When shrinking, the
 * filter is stretched by in / out, so that every input sample counts (antialiasing); bicubic is a = -0.5 (Keys 1981,
 * "Cubic convolution interpolation for digital image processing"). Weights are normalised to sum 1. The horizontal
 * pass comes first; an axis whose size does not change is skipped. With 8 bits the weights are rounded to 22
 * fractional bits and the result of each pass to 0..255. `nearest` takes the pixel under the centre and has no
 * antialiasing. */
#ifndef NN_RESIZE_H
#define NN_RESIZE_H

#include "nn/image/image.h"

enum nn_filter { NN_NEAREST, NN_BOX, NN_BILINEAR, NN_HAMMING, NN_BICUBIC, NN_LANCZOS };

/* The filter of that name ("nearest", "box", ... "lanczos", as Pillow has them); TN_EUSAGE with the list otherwise. */
int nn_filter_parse(const char *name, enum nn_filter *out, tn_err *err);

/* in -> a new picture of width x height (at least 1, and within NN_IMAGE_MAX_PIXELS). *out must not be *in. */
int nn_resize(const nn_image *in, int64_t width, int64_t height, enum nn_filter filter, nn_image *out, tn_err *err);

/* One plane of floats (Pillow's mode F), in [in_height, in_width] -> out [height, width], row-major. Sums are in
 * double, the result of each pass is rounded to float. */
int nn_resize_f32(const float *in, int64_t in_width, int64_t in_height, int64_t width, int64_t height,
                  enum nn_filter filter, float *out, tn_err *err);

#endif
