#include "nn/image/png.h"

#include <stdlib.h>
#include <string.h>

#include "nn/image/deflate.h"
#include "nn/image/png_chunk.h"
#include "tensor/io/bytes.h"
#include "tensor/io/sys.h"

enum { BPP = 3, N_FILTERS = 5 };

/* ---- pixels ---- */

/* Filters a row of n bytes with one of the types 0..4; the row before the first is of zeros. Returns the sum of the
 * magnitudes of the result read as signed bytes: the smaller, the better it compresses, as a rule (PNG 12.7). */
static uint64_t filter_row(int type, const unsigned char *row, const unsigned char *above, size_t n,
                           unsigned char *to) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        int left = i >= BPP ? row[i - BPP] : 0, corner = i >= BPP ? above[i - BPP] : 0, guess = 0;
        switch (type) {
        case 1:
            guess = left;
            break;
        case 2:
            guess = above[i];
            break;
        case 3:
            guess = (left + above[i]) / 2;
            break;
        case 4:
            guess = nn_png_paeth(left, above[i], corner);
            break;
        default:
            break;
        }
        to[i] = (unsigned char)(row[i] - guess);
        sum += to[i] < 128 ? to[i] : 256u - to[i];
    }
    return sum;
}

/* All rows, each with the filter of the smallest sum in front; the lowest type of equals. NULL where memory is out. */
static unsigned char *filter_image(const nn_image *image, size_t *len) {
    size_t n = (size_t)image->width * BPP, h = (size_t)image->height;
    unsigned char *out = malloc(h * (n + 1)), *tried = malloc(n), *zeros = calloc(n, 1);
    for (size_t y = 0; out && tried && zeros && y < h; y++) {
        const unsigned char *row = image->rgb + y * n, *above = y ? row - n : zeros;
        unsigned char *best = out + y * (n + 1);
        uint64_t least = UINT64_MAX;
        for (int type = 0; type < N_FILTERS; type++) {
            uint64_t sum = filter_row(type, row, above, n, tried);
            if (sum >= least) continue;
            least = sum;
            best[0] = (unsigned char)type;
            memcpy(best + 1, tried, n);
        }
    }
    if (!tried || !zeros) free(out), out = NULL;
    free(tried), free(zeros);
    *len = h * (n + 1);
    return out;
}

/* ---- the file ---- */

static unsigned char *put_header(unsigned char *to, const nn_image *image) {
    unsigned char *p = nn_png_begin(to, "IHDR");
    tn_put_be32(p, (uint32_t)image->width);
    tn_put_be32(p + 4, (uint32_t)image->height);
    memcpy(p + 8, "\x08\x02\0\0", 5); /* 8 bits, RGB, DEFLATE, adaptive filters, not interlaced */
    return nn_png_end(to, p + 13);
}

int nn_png_encode(const nn_image *image, const nn_text *texts, size_t n_texts, unsigned char **out, size_t *out_len,
                  tn_err *err) {
    size_t room = 8 + 25 + 12 + 12, rows_len, data_len = 0;
    for (size_t i = 0; i < n_texts; i++) {
        size_t n = nn_png_text_room(texts + i, err);
        if (!n) return -1;
        room += n;
    }
    unsigned char *data = NULL, *rows = filter_image(image, &rows_len);
    if (!rows) return tn_fail(err, TN_ENOMEM, "out of memory for %zu bytes of filtered pixels", rows_len);
    int rc = nn_zlib_deflate(rows, rows_len, &data, &data_len, err);
    free(rows);
    if (rc) return -1;
    unsigned char *file = malloc(room + data_len);
    if (!file) {
        free(data);
        return tn_fail(err, TN_ENOMEM, "out of memory for a PNG of %zu bytes", room + data_len);
    }
    memcpy(file, nn_png_signature, 8);
    unsigned char *p = put_header(file + 8, image);
    for (size_t i = 0; i < n_texts; i++) p = nn_png_put_text(p, texts + i);
    memcpy(nn_png_begin(p, "IDAT"), data, data_len);
    p = nn_png_end(p, p + 8 + data_len);
    p = nn_png_end(p, nn_png_begin(p, "IEND"));
    free(data);
    *out = file, *out_len = (size_t)(p - file);
    TN_REQUIRE(*out_len <= room + data_len);
    return 0;
}

int nn_png_write(const char *path, const nn_image *image, const nn_text *texts, size_t n_texts, tn_err *err) {
    unsigned char *file;
    size_t len;
    if (nn_png_encode(image, texts, n_texts, &file, &len, err)) return tn_fail_in(err, "%s", path);
    int rc = tn_write_atomic(path, file, len, err);
    free(file);
    return rc;
}
