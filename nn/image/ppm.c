#include "nn/image/image.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/io/sys.h"

/* One number of the header, behind white space and comments (from # to the end of the line). Returns -1 where there is
 * none or it is over `most`. */
static int64_t header_number(const unsigned char *p, size_t len, size_t *pos, int64_t most) {
    size_t i = *pos;
    for (; i < len; i++) {
        if (p[i] == '#') {
            while (i < len && p[i] != '\n' && p[i] != '\r') i++;
            if (i == len) return -1;
        } else if (p[i] != ' ' && !(p[i] >= '\t' && p[i] <= '\r')) {
            break;
        }
    }
    if (i == len || p[i] < '0' || p[i] > '9') return -1;
    int64_t v = 0;
    for (; i < len && p[i] >= '0' && p[i] <= '9'; i++) {
        v = v * 10 + (p[i] - '0');
        if (v > most) return -1;
    }
    *pos = i;
    return v;
}

/* n samples of one or two bytes (big-endian) to 8 bits, each written `copies` times. The index of a sample over
 * maxval, or n. */
static size_t convert(const unsigned char *p, size_t n, int64_t maxval, size_t copies, unsigned char *rgb) {
    unsigned char table[256] = {0};
    for (int64_t v = 0; v <= maxval && v < 256; v++) table[v] = (unsigned char)rint((double)v / (double)maxval * 255.0);
    for (size_t i = 0; i < n; i++) {
        int64_t v = maxval > 255 ? p[2 * i] << 8 | p[2 * i + 1] : p[i];
        if (v > maxval) return i;
        unsigned char b = maxval > 255 ? (unsigned char)rint((double)v / (double)maxval * 255.0) : table[v];
        for (size_t k = 0; k < copies; k++) *rgb++ = b;
    }
    return n;
}

int nn_ppm_decode(const unsigned char *bytes, size_t len, const char *name, nn_image *out, tn_err *err) {
    if (len < 3 || bytes[0] != 'P' || (bytes[1] != '5' && bytes[1] != '6'))
        return tn_fail(err, TN_EINPUT, "%s: not a binary PPM or PGM", name);
    size_t pos = 2, channels = bytes[1] == '6' ? 3 : 1;
    int64_t width = header_number(bytes, len, &pos, INT32_MAX);
    int64_t height = width < 0 ? -1 : header_number(bytes, len, &pos, INT32_MAX);
    int64_t maxval = height < 0 ? -1 : header_number(bytes, len, &pos, 65535);
    if (maxval < 1 || pos >= len) return tn_fail(err, TN_EINPUT, "%s: bad PPM header at byte %zu", name, pos);
    pos++; /* exactly one white space before the samples */
    if (width < 1 || height < 1 || width > NN_IMAGE_MAX_PIXELS || height > NN_IMAGE_MAX_PIXELS / width)
        return tn_fail(err, TN_EINPUT, "%s: PPM of %lld x %lld pixels, expected 1 to %d million", name,
                       (long long)width, (long long)height, NN_IMAGE_MAX_PIXELS / 1000000);
    size_t samples = (size_t)width * (size_t)height * channels, need = samples * (maxval > 255 ? 2 : 1);
    if (need > len - pos)
        return tn_fail(err, TN_EINPUT, "%s: truncated, expected %zu bytes of samples, got %zu", name, need, len - pos);
    nn_image image;
    if (nn_image_alloc(width, height, &image, err)) return tn_fail_in(err, "%s", name);
    size_t done = convert(bytes + pos, samples, maxval, 3 / channels, image.rgb);
    if (done < samples) {
        nn_image_free(&image);
        return tn_fail(err, TN_EINPUT, "%s: sample %zu is over the maximum of %lld", name, done, (long long)maxval);
    }
    *out = image;
    return 0;
}

int nn_ppm_write(const char *path, const nn_image *image, tn_err *err) {
    char header[64];
    int n = snprintf(header, sizeof header, "P6\n%lld %lld\n255\n", (long long)image->width, (long long)image->height);
    size_t head = (size_t)n, body = (size_t)image->width * (size_t)image->height * 3;
    unsigned char *file = malloc(head + body);
    if (!file) return tn_fail(err, TN_ENOMEM, "%s: out of memory for %zu bytes", path, head + body);
    memcpy(file, header, head);
    memcpy(file + head, image->rgb, body);
    int rc = tn_write_atomic(path, file, head + body, err);
    free(file);
    return rc;
}
