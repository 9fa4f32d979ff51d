/* Masks: which part of a picture may change. A mask is one byte a pixel, row-major: 1 change, 0 keep. */
#ifndef NN_EDIT_MASK_H
#define NN_EDIT_MASK_H

#include "nn/image/resize.h"
#include <stdbool.h>

/* The brightness of a picture in [0,1], [height,width]: Pillow's convert("L") over 255. Inverted: 1 - that. */
void nn_mask_grey(const nn_image *picture, bool invert, float *grey);

/* A grey picture [in_height,in_width] at another size, 1 where it is at least one half. The public code of Blended
 * latent diffusion takes Lanczos for the pixels and nearest for the latents. TN_ENOMEM. */
int nn_mask_from_grey(const float *grey, int64_t in_width, int64_t in_height, int64_t width, int64_t height,
                      enum nn_filter filter, unsigned char *mask, tn_err *err);

/* Binary dilation by a square of 2 radius + 1: 1 where some pixel of the square around it is 1; outside is 0. out must
 * not be in. TN_ENOMEM. */
int nn_mask_dilate(const unsigned char *in, int64_t width, int64_t height, int64_t radius, unsigned char *out,
                   tn_err *err);

/* How many of n pixels may change. */
int64_t nn_mask_area(const unsigned char *mask, int64_t n);

/* The picture, black where it was kept: what CLIP judges an edit by. In place. */
void nn_mask_blacken(const unsigned char *mask, nn_image *picture);

#endif
