#include "nn/image/png.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "nn/image/inflate.h"
#include "nn/image/png_chunk.h"
#include "tensor/io/bytes.h"

enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };

/* What the chunks in front of and between the image data say. */
typedef struct png {
    uint32_t width, height;
    unsigned depth, colour, channels;
    bool interlaced;
    const unsigned char *palette; /* RGB triples, NULL without PLTE */
    size_t n_palette;
    bool has_transparency;
    const unsigned char *data; /* the zlib stream: in the file if it is one IDAT, else in `joined` */
    size_t data_len, n_data;
    unsigned char *joined;
} png;

/* ---- chunks ---- */

static int read_header(png *p, const nn_png_chunk *c, tn_err *err) {
    if (nn_png_is(c, "CgBI"))
        return tn_fail(err, TN_EUNSUPPORTED,
                       "Apple's variant of PNG for iPhones (hint: pngcrush -revert-iphone-optimizations)");
    if (!nn_png_is(c, "IHDR")) return tn_fail(err, TN_EINPUT, "PNG starts with chunk %s, expected IHDR", c->type);
    if (c->len != 13) return tn_fail(err, TN_EINPUT, "PNG chunk IHDR has %zu bytes, expected 13", c->len);
    p->width = tn_be32(c->data), p->height = tn_be32(c->data + 4);
    p->depth = c->data[8], p->colour = c->data[9];
    if (p->width == 0 || p->height == 0 || p->width > INT32_MAX || p->height > INT32_MAX)
        return tn_fail(err, TN_EINPUT, "PNG of %lu x %lu pixels", (unsigned long)p->width, (unsigned long)p->height);
    if (p->height > NN_IMAGE_MAX_PIXELS / p->width)
        return tn_fail(err, TN_ENOMEM, "PNG of %lu x %lu pixels is over the limit of %d million",
                       (unsigned long)p->width, (unsigned long)p->height, NN_IMAGE_MAX_PIXELS / 1000000);
    /* Bit d is set where depth d is allowed for the colour type. */
    static const uint32_t depths[7] = {1u << 1 | 1u << 2 | 1u << 4 | 1u << 8 | 1u << 16,
                                       0,
                                       1u << 8 | 1u << 16,
                                       1u << 1 | 1u << 2 | 1u << 4 | 1u << 8,
                                       1u << 8 | 1u << 16,
                                       0,
                                       1u << 8 | 1u << 16};
    static const unsigned char channels[7] = {1, 0, 3, 1, 2, 0, 4};
    if (p->colour > 6 || p->depth > 16 || !(depths[p->colour] >> p->depth & 1))
        return tn_fail(err, TN_EINPUT, "PNG of colour type %u with %u bits: there is no such thing", p->colour,
                       p->depth);
    if (c->data[10] != 0 || c->data[11] != 0 || c->data[12] > 1)
        return tn_fail(err, TN_EUNSUPPORTED, "PNG of compression %u, filter %u, interlace %u, expected 0, 0, 0 or 1",
                       c->data[10], c->data[11], c->data[12]);
    p->channels = channels[p->colour];
    p->interlaced = c->data[12] == 1;
    return 0;
}

static int read_palette(png *p, const nn_png_chunk *c, tn_err *err) {
    if (p->palette || p->n_data || p->has_transparency)
        return tn_fail(err, TN_EINPUT, "PNG chunk PLTE is repeated or behind tRNS or IDAT");
    if (p->colour == GREY || p->colour == GREY_ALPHA) return tn_fail(err, TN_EINPUT, "PNG in grey has a palette");
    if (c->len == 0 || c->len % 3 != 0 || c->len > 3 * 256)
        return tn_fail(err, TN_EINPUT, "PNG palette of %zu bytes, expected 3 to 768 in steps of 3", c->len);
    p->palette = c->data;
    p->n_palette = c->len / 3;
    return 0;
}

/* Transparency does not change the pixels (see image.h) but must be well formed. */
static int check_transparency(png *p, const nn_png_chunk *c, tn_err *err) {
    if (p->has_transparency || p->n_data) return tn_fail(err, TN_EINPUT, "PNG chunk tRNS is repeated or behind IDAT");
    if (p->colour == GREY_ALPHA || p->colour == RGB_ALPHA)
        return tn_fail(err, TN_EINPUT, "PNG with an alpha channel has a tRNS chunk");
    if (p->colour == PALETTE && !p->palette) return tn_fail(err, TN_EINPUT, "PNG chunk tRNS is in front of PLTE");
    bool ok = p->colour == PALETTE ? c->len >= 1 && c->len <= p->n_palette : c->len == (p->colour == GREY ? 2u : 6u);
    if (!ok) return tn_fail(err, TN_EINPUT, "PNG chunk tRNS has %zu bytes, which does not fit the colour type", c->len);
    p->has_transparency = true;
    return 0;
}

/* Walks all chunks to IEND. Afterwards data_len and n_data are the sums over the IDAT chunks. */
static int read_chunks(png *p, const unsigned char *bytes, size_t len, tn_err *err) {
    size_t pos;
    nn_png_chunk c;
    if (nn_png_start(bytes, len, &pos, err) || nn_png_next(bytes, len, &pos, &c, err) || read_header(p, &c, err))
        return -1;
    bool data_over = false;
    for (;;) {
        if (nn_png_next(bytes, len, &pos, &c, err)) return -1;
        if (nn_png_is(&c, "IDAT")) {
            if (data_over) return tn_fail(err, TN_EINPUT, "PNG has other chunks between its IDAT chunks");
            if (!p->n_data++) p->data = c.data;
            p->data_len += c.len;
            continue;
        }
        data_over = p->n_data > 0;
        if (nn_png_is(&c, "IEND")) break;
        if (nn_png_is(&c, "PLTE")) {
            if (read_palette(p, &c, err)) return -1;
        } else if (nn_png_is(&c, "tRNS")) {
            if (check_transparency(p, &c, err)) return -1;
        } else if (nn_png_is(&c, "IHDR")) {
            return tn_fail(err, TN_EINPUT, "PNG has two IHDR chunks");
        } else if (!(c.type[0] & 0x20)) { /* an upper-case first letter: not to be ignored */
            return tn_fail(err, TN_EUNSUPPORTED, "PNG has a critical chunk of unknown type %s", c.type);
        }
    }
    if (c.len != 0) return tn_fail(err, TN_EINPUT, "PNG chunk IEND has %zu bytes, expected 0", c.len);
    if (p->data_len == 0) return tn_fail(err, TN_EINPUT, "PNG has no image data");
    if (p->colour == PALETTE && !p->palette) return tn_fail(err, TN_EINPUT, "PNG of palette type has no palette");
    return 0;
}

/* Several IDAT chunks are one stream, cut anywhere: copied together. */
static int join_data(png *p, const unsigned char *bytes, size_t len, tn_err *err) {
    if (p->n_data == 1) return 0;
    p->joined = malloc(p->data_len);
    if (!p->joined) return tn_fail(err, TN_ENOMEM, "out of memory for %zu bytes of image data", p->data_len);
    size_t pos = (size_t)(p->data - bytes) - 8, at = 0;
    for (size_t i = 0; i < p->n_data; i++) { /* they follow one another and are checked already */
        size_t n = tn_be32(bytes + pos);
        memcpy(p->joined + at, bytes + pos + 8, n);
        at += n, pos += n + 12;
    }
    TN_REQUIRE(at == p->data_len && pos < len);
    p->data = p->joined;
    return 0;
}

/* ---- pixels ---- */

/* The seven passes of Adam7 (PNG 8.2), and the one pass of a plain image. */
typedef struct pass {
    unsigned char x, y, dx, dy; /* first pixel and steps */
} pass;
static const pass adam7[7] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                              {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
static const pass plain[1] = {{0, 0, 1, 1}};

static size_t steps(uint32_t size, unsigned first, unsigned step) {
    return size > first ? (size - first + step - 1) / step : 0;
}

static size_t row_bytes(const png *p, size_t pixels) { return (pixels * p->channels * p->depth + 7) / 8; }

static size_t pass_bytes(const png *p, const pass *s) {
    size_t w = steps(p->width, s->x, s->dx), h = steps(p->height, s->y, s->dy);
    return w ? h * (1 + row_bytes(p, w)) : 0; /* a pass without columns has no rows either */
}

/* Undoes the filter of one row in place (PNG 9.2). `above` is the row before, of zeros for the first; `bpp` the bytes
 * of a whole pixel, at least 1: the first pixel has zeros to its left. */
static int unfilter(unsigned type, unsigned char *row, const unsigned char *above, size_t n, size_t bpp, tn_err *err) {
    size_t head = bpp < n ? bpp : n;
    switch (type) {
    case 0:
        break;
    case 1:
        for (size_t i = bpp; i < n; i++) row[i] = (unsigned char)(row[i] + row[i - bpp]);
        break;
    case 2:
        for (size_t i = 0; i < n; i++) row[i] = (unsigned char)(row[i] + above[i]);
        break;
    case 3:
        for (size_t i = 0; i < head; i++) row[i] = (unsigned char)(row[i] + above[i] / 2);
        for (size_t i = bpp; i < n; i++) row[i] = (unsigned char)(row[i] + (row[i - bpp] + above[i]) / 2);
        break;
    case 4:
        for (size_t i = 0; i < head; i++) row[i] = (unsigned char)(row[i] + above[i]);
        for (size_t i = bpp; i < n; i++)
            row[i] = (unsigned char)(row[i] + nn_png_paeth(row[i - bpp], above[i], above[i - bpp]));
        break;
    default:
        return tn_fail(err, TN_EINPUT, "PNG row filter %u, expected 0 to 4", type);
    }
    return 0;
}

/* One sample of a row whose pixels have one sample of 1, 2, 4 or 8 bits, the leftmost pixel in the high bits. */
static inline unsigned sample(const unsigned char *row, size_t x, unsigned depth) {
    size_t bit = x * depth;
    return (unsigned)row[bit >> 3] >> (8 - depth - (unsigned)(bit & 7)) & ((1u << depth) - 1);
}

/* Writes the n pixels of a row to rgb, `step` bytes from one to the next. */
static int expand_row(const png *p, const unsigned char *row, size_t n, unsigned char *rgb, size_t step, tn_err *err) {
    size_t bytes = p->depth == 16 ? 2 : 1, stride = bytes * p->channels; /* of 16 bits the first byte is the high one */
    if (p->colour == PALETTE) {
        for (size_t x = 0; x < n; x++, rgb += step) {
            unsigned index = sample(row, x, p->depth);
            if (index >= p->n_palette)
                return tn_fail(err, TN_EINPUT, "PNG pixel uses colour %u of a palette of %zu", index, p->n_palette);
            memcpy(rgb, p->palette + 3 * index, 3);
        }
    } else if (p->depth < 8) {
        unsigned scale = 255 / ((1u << p->depth) - 1);
        for (size_t x = 0; x < n; x++, rgb += step) memset(rgb, (int)(sample(row, x, p->depth) * scale), 3);
    } else if (p->colour == GREY || p->colour == GREY_ALPHA) {
        for (size_t x = 0; x < n; x++, rgb += step, row += stride) memset(rgb, row[0], 3);
    } else {
        for (size_t x = 0; x < n; x++, rgb += step, row += stride)
            rgb[0] = row[0], rgb[1] = row[bytes], rgb[2] = row[2 * bytes];
    }
    return 0;
}

/* Unfilters and expands one pass out of raw, which is changed. */
static int read_pass(const png *p, const pass *s, unsigned char *raw, const unsigned char *zeros, unsigned char *rgb,
                     tn_err *err) {
    size_t w = steps(p->width, s->x, s->dx), h = steps(p->height, s->y, s->dy), n = row_bytes(p, w);
    size_t bpp = p->channels * p->depth >= 8 ? p->channels * p->depth / 8 : 1;
    const unsigned char *above = zeros;
    for (size_t y = 0; w && y < h; y++) {
        unsigned char *row = raw + y * (n + 1) + 1;
        if (unfilter(row[-1], row, above, n, bpp, err)) return -1;
        unsigned char *to = rgb + ((s->y + y * s->dy) * p->width + s->x) * 3;
        if (expand_row(p, row, w, to, 3u * s->dx, err)) return -1;
        above = row;
    }
    return 0;
}

/* The decompressed rows of all passes: exactly the len bytes that the header asks for, from a stream that ends where
 * the image data end. */
static int inflate_rows(const png *p, size_t len, unsigned char **rows, tn_err *err) {
    if (len / NN_INFLATE_MAX_RATIO > p->data_len)
        return tn_fail(err, TN_EINPUT, "PNG of %lu x %lu pixels has only %zu bytes of image data",
                       (unsigned long)p->width, (unsigned long)p->height, p->data_len);
    unsigned char *raw = malloc(len);
    if (!raw) return tn_fail(err, TN_ENOMEM, "out of memory for %zu bytes of pixels", len);
    size_t used = 0, got = 0;
    int rc = nn_zlib_inflate(p->data, p->data_len, raw, len, &used, &got, err);
    if (rc == 0 && got != len) rc = tn_fail(err, TN_EINPUT, "PNG has %zu bytes of pixels, expected %zu", got, len);
    if (rc == 0 && used != p->data_len)
        rc = tn_fail(err, TN_EINPUT, "PNG has %zu bytes of image data behind their end", p->data_len - used);
    if (rc)
        free(raw);
    else
        *rows = raw;
    return rc;
}

static int read_pixels(const png *p, nn_image *out, tn_err *err) {
    const pass *passes = p->interlaced ? adam7 : plain;
    size_t n_passes = p->interlaced ? 7 : 1, total = 0, at = 0;
    for (size_t i = 0; i < n_passes; i++) total += pass_bytes(p, passes + i);
    unsigned char *raw = NULL;
    if (inflate_rows(p, total, &raw, err)) return -1;
    unsigned char *zeros = calloc(row_bytes(p, p->width), 1);
    nn_image image = {0, 0, NULL};
    int rc =
        zeros ? nn_image_alloc(p->width, p->height, &image, err) : tn_fail(err, TN_ENOMEM, "out of memory for a row");
    for (size_t i = 0; rc == 0 && i < n_passes; i++) {
        rc = read_pass(p, passes + i, raw + at, zeros, image.rgb, err);
        at += pass_bytes(p, passes + i);
    }
    free(zeros);
    free(raw);
    if (rc)
        nn_image_free(&image);
    else
        *out = image;
    return rc;
}

int nn_png_decode(const unsigned char *bytes, size_t len, const char *name, nn_image *out, tn_err *err) {
    png p = {0};
    int rc = read_chunks(&p, bytes, len, err);
    if (rc == 0) rc = join_data(&p, bytes, len, err);
    if (rc == 0) rc = read_pixels(&p, out, err);
    free(p.joined);
    return rc ? tn_fail_in(err, "%s", name) : 0;
}
