/* The outer layer of PNG, shared by its readers and writers: signature, then chunks of length, type, data, CRC (PNG
 * 5). */
#ifndef NN_PNG_CHUNK_H
#define NN_PNG_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "nn/image/png.h"

extern const unsigned char nn_png_signature[8];

typedef struct nn_png_chunk {
    char type[5];              /* four letters and a NUL */
    const unsigned char *data; /* inside the file's bytes */
    size_t len;
} nn_png_chunk;

/* Checks the signature and sets *pos to the first chunk. */
int nn_png_start(const unsigned char *bytes, size_t len, size_t *pos, tn_err *err);
/* The chunk at *pos, which moves on to the next one. Running out of bytes is an error: the caller stops at IEND. */
int nn_png_next(const unsigned char *bytes, size_t len, size_t *pos, nn_png_chunk *chunk, tn_err *err);
bool nn_png_is(const nn_png_chunk *chunk, const char *type);

/* Starts a chunk at `to`; returns where its data go. */
unsigned char *nn_png_begin(unsigned char *to, const char *type);
/* Ends the chunk that began at `start` and whose data end at `end`: fills in the length, appends the CRC. Returns its
 * end. */
unsigned char *nn_png_end(unsigned char *start, unsigned char *end);

/* Bytes of a text's chunk at most; 0 with an error where its key or value cannot be written. */
size_t nn_png_text_room(const nn_text *text, tn_err *err);
/* Writes the chunk of a text that has passed nn_png_text_room; returns its end. */
unsigned char *nn_png_put_text(unsigned char *to, const nn_text *text);

/* The predictor of filter type 4 (PNG 9.4): of left, above and upper left the nearest to left + above - upper left. */
static inline int nn_png_paeth(int left, int above, int corner) {
    int a = abs(above - corner), b = abs(left - corner), c = abs(left + above - 2 * corner);
    return a <= b && a <= c ? left : b <= c ? above : corner;
}

#endif
