/* Decompression of DEFLATE (RFC 1951) and of its zlib wrapper (RFC 1950).
 *
 * The whole input lies in memory and so does the whole output, so the window is the output itself. Errors name the
 * offset in the compressed data; the input is untrusted, every stream of bytes ends in a result or an error in time
 * proportional to its length plus the output's, and nothing beyond the stated limit is written or allocated. */
#ifndef NN_IMAGE_INFLATE_H
#define NN_IMAGE_INFLATE_H

#include <stddef.h>

#include "tensor/err.h"

/* A DEFLATE stream cannot expand a byte to more than this (258 bytes from two 1-bit codes): what callers may use to
 * prove that a compressed block is too short for what it claims to hold, before allocating. */
#define NN_INFLATE_MAX_RATIO 1032

/* Raw DEFLATE: decompresses in[0..len) to out[0..cap). *used = bytes of the input up to and with the last one of the
 * stream, *out_len = bytes written. Producing more than cap bytes is an error. */
int nn_inflate(const unsigned char *in, size_t len, unsigned char *out, size_t cap, size_t *used, size_t *out_len,
               tn_err *err);

/* The same for a zlib stream: two header bytes, DEFLATE, Adler-32 (checked). Preset dictionaries are refused. */
int nn_zlib_inflate(const unsigned char *in, size_t len, unsigned char *out, size_t cap, size_t *used, size_t *out_len,
                    tn_err *err);

/* A zlib stream of unknown size, which must fill the whole input: *out is allocated (the caller frees it) and has one
 * extra zero byte after its *out_len; more than `limit` bytes is TN_ENOMEM. */
int nn_zlib_inflate_alloc(const unsigned char *in, size_t len, size_t limit, unsigned char **out, size_t *out_len,
                          tn_err *err);

#endif
