/* Pictures with 8 bits per channel, and the files they come from.
 *
 * Reading follows PIL's Image.open(...).convert("RGB"), which is what the public training scripts use: alpha and
 * transparent palette entries are dropped, not blended; grey becomes three equal channels; gamma and colour profiles
 * are ignored. */
#ifndef NN_IMAGE_H
#define NN_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/err.h"

/* Row-major [height, width, 3], red first. rgb is owned: nn_image_free. */
typedef struct nn_image {
    int64_t width, height;
    unsigned char *rgb;
} nn_image;

/* No picture has more pixels than this: a 100-byte file can claim any size. */
#define NN_IMAGE_MAX_PIXELS 100000000

/* A picture of that size, its contents undefined. Sizes below 1 are TN_EINPUT, more than the limit TN_ENOMEM. */
int nn_image_alloc(int64_t width, int64_t height, nn_image *out, tn_err *err);
void nn_image_free(nn_image *image); /* a zeroed or freed image is fine */

/* Reads a PNG, PPM (P6) or PGM (P5), told apart by their first bytes, not by the file name. Other known formats are
 * named in the error (TN_EUNSUPPORTED) with a way out. *out is untouched on error; the caller frees it otherwise. */
int nn_image_load(const char *path, nn_image *out, tn_err *err);
/* The same for bytes in memory; `name` is for messages. */
int nn_image_decode(const unsigned char *bytes, size_t len, const char *name, nn_image *out, tn_err *err);

/* PPM/PGM, binary, one picture: P5 and P6 with maxval 1..65535 and comments. Samples become round-half-even(255 v /
 * maxval) for every maxval, as Pillow does for P6. Bytes behind the picture are ignored. */
int nn_ppm_decode(const unsigned char *bytes, size_t len, const char *name, nn_image *out, tn_err *err);
/* A P6 with maxval 255, written whole or not at all. */
int nn_ppm_write(const char *path, const nn_image *image, tn_err *err);

#endif
