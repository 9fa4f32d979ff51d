/* PNG (ISO/IEC 15948, https://www.w3.org/TR/png-3/): every colour type and depth is read, 8-bit RGB is written.
 *
 * Pixels become 8-bit RGB as in nn/image/image.h. Samples of 1, 2 and 4 bits are scaled to 0..255 exactly; of 16-bit
 * samples the high byte is taken, which is what Pillow does for colour. (For 16-bit grey Pillow's convert("RGB") clips
 * every value above 255 to white; that is of no use to anybody and not followed: grey takes the high byte too.) Of an
 * animation the still image is read.
 *
 * Reading is strict: the checksum of every chunk, the order of chunks, unknown critical chunks, palette indices, the
 * length of the image data and its end are all checked, and an error names the first thing that is wrong. Bytes behind
 * IEND are ignored. */
#ifndef NN_PNG_H
#define NN_PNG_H

#include "nn/image/image.h"

int nn_png_decode(const unsigned char *bytes, size_t len, const char *name, nn_image *out, tn_err *err);

/* What a PNG says about itself in text: prompts, settings, an embedding. UTF-8, no control characters removed. */
typedef struct nn_text {
    char *key, *value;
} nn_text;
typedef struct nn_texts {
    nn_text *item;
    size_t n;
} nn_texts;

/* No file yields more text than this, compressed or not, in chunks or in bytes. */
#define NN_PNG_MAX_TEXTS 1024
#define NN_PNG_MAX_TEXT_BYTES (32u << 20)

/* The tEXt, zTXt and iTXt chunks in file order (n = 0 if there are none). Checks the chunks' checksums but not the
 * pixels. A text that is not valid in its encoding, or a NUL inside one, is TN_EINPUT. The caller frees *out. */
int nn_png_texts(const unsigned char *bytes, size_t len, const char *name, nn_texts *out, tn_err *err);
void nn_texts_free(nn_texts *texts); /* a zeroed one is fine */
/* The value of the first text with that key, or NULL. */
const char *nn_texts_find(const nn_texts *texts, const char *key);

/* A PNG of the picture with texts (UTF-8; a value within Latin-1 becomes tEXt, another one iTXt; keys are 1 to 79
 * characters of Latin-1) in front of the pixels. The bytes depend on the arguments alone. *out is allocated; the
 * caller frees it. */
int nn_png_encode(const nn_image *image, const nn_text *texts, size_t n_texts, unsigned char **out, size_t *out_len,
                  tn_err *err);
/* The same to a file, written whole or not at all. */
int nn_png_write(const char *path, const nn_image *image, const nn_text *texts, size_t n_texts, tn_err *err);

#endif
