#include "nn/image/image.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "nn/image/png.h"
#include "tensor/io/sys.h"

/* A file of the most pixels, four 16-bit channels and stored uncompressed, is not longer. */
#define FILE_MAX ((size_t)1 << 30)

int nn_image_alloc(int64_t width, int64_t height, nn_image *out, tn_err *err) {
    if (width < 1 || height < 1)
        return tn_fail(err, TN_EINPUT, "a picture of %lld x %lld pixels", (long long)width, (long long)height);
    if (width > NN_IMAGE_MAX_PIXELS || height > NN_IMAGE_MAX_PIXELS / width)
        return tn_fail(err, TN_ENOMEM, "a picture of %lld x %lld pixels is over the limit of %d million",
                       (long long)width, (long long)height, NN_IMAGE_MAX_PIXELS / 1000000);
    size_t bytes = (size_t)width * (size_t)height * 3;
    unsigned char *rgb = malloc(bytes);
    if (!rgb) return tn_fail(err, TN_ENOMEM, "out of memory for a picture of %zu bytes", bytes);
    *out = (nn_image){width, height, rgb};
    return 0;
}

void nn_image_free(nn_image *image) {
    free(image->rgb);
    *image = (nn_image){0, 0, NULL};
}

/* What users have in their folders besides pictures this program reads. */
static const struct magic {
    size_t at, len;
    const char *bytes, *format, *hint;
} known[] = {
    {0, 3, "\xff\xd8\xff", "JPEG", "convert in.jpg out.png"},
    {0, 4, "GIF8", "GIF", "convert in.gif[0] out.png"},
    {8, 4, "WEBP", "WebP", "convert in.webp out.png"},
    {4, 8, "ftypavif", "AVIF", "convert in.avif out.png"},
    {4, 8, "ftypavis", "AVIF", "convert in.avif out.png"},
    {4, 7, "ftyphei", "HEIC", "convert in.heic out.png"},
    {4, 7, "ftyphev", "HEIC", "convert in.heic out.png"},
    {4, 8, "ftypmif1", "HEIF", "convert in.heif out.png"},
    {0, 4, "II*\0", "TIFF", "convert in.tif out.png"},
    {0, 4, "MM\0*", "TIFF", "convert in.tif out.png"},
    {0, 2, "\xff\x0a", "JPEG XL", "convert in.jxl out.png"},
    {0, 8, "\0\0\0\x0cJXL ", "JPEG XL", "convert in.jxl out.png"},
    {0, 8, "\0\0\0\x0cjP  ", "JPEG 2000", "convert in.jp2 out.png"},
    {0, 4, "8BPS", "Photoshop", "export it as PNG"},
    {0, 4, "\0\0\1\0", "Windows icon", "convert in.ico out.png"},
    {0, 4, "v/1\1", "OpenEXR", "convert in.exr out.png"},
    {0, 4, "qoif", "QOI", "convert in.qoi out.png"},
    {0, 4, "%PDF", "PDF", "pdftoppm in.pdf out"},
    {0, 4, "<svg", "SVG", "convert in.svg out.png"},
    {0, 5, "<?xml", "XML or SVG", "convert in.svg out.png"},
    {0, 2, "P1", "plain PBM", "convert in.pbm out.png"},
    {0, 2, "P2", "plain PGM", "convert in.pgm out.png"},
    {0, 2, "P3", "plain PPM", "convert in.ppm out.png"},
    {0, 2, "P4", "PBM", "convert in.pbm out.png"},
    {0, 2, "P7", "PAM", "convert in.pam out.png"},
    {0, 2, "PF", "PFM", "convert in.pfm out.png"},
    {0, 2, "BM", "BMP", "convert in.bmp out.png"},
    {0, 7, "version", "not a picture but perhaps a Git LFS pointer", "git lfs pull"},
    {0, 9, "<!DOCTYPE", "not a picture but a web page", "download the file itself"},
    {0, 5, "<html", "not a picture but a web page", "download the file itself"},
};

static bool starts(const unsigned char *bytes, size_t len, size_t at, const char *magic, size_t n) {
    return len >= at + n && memcmp(bytes + at, magic, n) == 0;
}

int nn_image_decode(const unsigned char *bytes, size_t len, const char *name, nn_image *out, tn_err *err) {
    if (len == 0) return tn_fail(err, TN_EINPUT, "%s: the file is empty", name);
    if (starts(bytes, len, 0, "\x89PNG", 4)) return nn_png_decode(bytes, len, name, out, err);
    if (starts(bytes, len, 0, "P5", 2) || starts(bytes, len, 0, "P6", 2))
        return nn_ppm_decode(bytes, len, name, out, err);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct magic *k = known + i;
        if (starts(bytes, len, k->at, k->bytes, k->len))
            return tn_fail(err, TN_EUNSUPPORTED, "%s: expected PNG, PPM or PGM, got %s (hint: %s)", name, k->format,
                           k->hint);
    }
    return tn_fail(err, TN_EINPUT,
                   "%s: not a picture: neither PNG, PPM nor PGM, nor another format known by its first bytes", name);
}

int nn_image_load(const char *path, nn_image *out, tn_err *err) {
    char *bytes;
    size_t len;
    if (tn_read_file(path, FILE_MAX, &bytes, &len, err)) return -1;
    int rc = nn_image_decode((const unsigned char *)bytes, len, path, out, err);
    free(bytes);
    return rc;
}
