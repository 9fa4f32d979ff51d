/* Compression to a zlib stream (RFC 1950 around RFC 1951): LZ77 over hash chains with lazy matching; each block is
 * written with Huffman codes of its own, with the fixed codes, or stored, whichever is shortest. Made for filtered
 * pixels: strings shorter than 6 bytes are not matched, which saves up to 10 % on photographs. The bytes depend on the
 * input alone. */
#ifndef NN_IMAGE_DEFLATE_H
#define NN_IMAGE_DEFLATE_H

#include <stddef.h>

#include "tensor/err.h"

/* Compresses in[0..len), len < 2^31. *out is allocated (the caller frees it), *out_len bytes long and never more than
 * len + len / 2048 + 64. */
int nn_zlib_deflate(const unsigned char *in, size_t len, unsigned char **out, size_t *out_len, tn_err *err);

#endif
