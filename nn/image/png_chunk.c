#include "nn/image/png_chunk.h"

#include <string.h>

#include "nn/image/checksum.h"
#include "tensor/io/bytes.h"

const unsigned char nn_png_signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

int nn_png_start(const unsigned char *bytes, size_t len, size_t *pos, tn_err *err) {
    if (len < 8 || memcmp(bytes, nn_png_signature, 4) != 0) return tn_fail(err, TN_EINPUT, "not a PNG");
    if (memcmp(bytes, nn_png_signature, 8) != 0)
        return tn_fail(err, TN_EINPUT,
                       "PNG signature is damaged (hint: the file was copied as text, with line ends changed)");
    *pos = 8;
    return 0;
}

bool nn_png_is(const nn_png_chunk *chunk, const char *type) { return memcmp(chunk->type, type, 4) == 0; }

int nn_png_next(const unsigned char *bytes, size_t len, size_t *pos, nn_png_chunk *chunk, tn_err *err) {
    const unsigned char *p = bytes + *pos;
    size_t left = len - *pos;
    if (left == 0) return tn_fail(err, TN_EINPUT, "PNG ends at byte %zu without an IEND chunk", *pos);
    if (left < 12) return tn_fail(err, TN_EINPUT, "PNG is cut off inside a chunk at byte %zu", *pos);
    uint32_t n = tn_be32(p);
    memcpy(chunk->type, p + 4, 4);
    chunk->type[4] = '\0';
    for (int i = 0; i < 4; i++) {
        unsigned c = p[4 + i] | 0x20u;
        if (c < 'a' || c > 'z') return tn_fail(err, TN_EINPUT, "PNG chunk at byte %zu has no valid type", *pos);
    }
    if (n > left - 12)
        return tn_fail(err, TN_EINPUT, "PNG chunk %s at byte %zu claims %lu bytes, the file has %zu more", chunk->type,
                       *pos, (unsigned long)n, left - 12);
    uint32_t want = tn_be32(p + 8 + n), got = nn_crc32(NN_CRC32_INIT, p + 4, (size_t)n + 4);
    if (want != got)
        return tn_fail(err, TN_EINPUT, "PNG chunk %s at byte %zu is damaged: CRC is %08lx, the file says %08lx",
                       chunk->type, *pos, (unsigned long)got, (unsigned long)want);
    chunk->data = p + 8;
    chunk->len = n;
    *pos += (size_t)n + 12;
    return 0;
}

unsigned char *nn_png_begin(unsigned char *to, const char *type) {
    memcpy(to + 4, type, 4);
    return to + 8;
}

unsigned char *nn_png_end(unsigned char *start, unsigned char *end) {
    size_t n = (size_t)(end - start) - 8;
    tn_put_be32(start, (uint32_t)n);
    tn_put_be32(end, nn_crc32(NN_CRC32_INIT, start + 4, n + 4));
    return end + 4;
}
