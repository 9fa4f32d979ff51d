#include "tools/picture_out.h"

#include "tensor/io/sys.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Length of a %d or %03d at s, 0 where there is none; *digits is the 3. */
static size_t number_mark(const char *s, int *digits) {
    size_t n = 1;
    *digits = 0;
    if (s[0] != '%') return 0;
    if (s[n] == '0' && s[n + 1] >= '1' && s[n + 1] <= '9') *digits = s[n + 1] - '0', n += 2;
    return s[n] == 'd' ? n + 1 : 0;
}

int out_picture_path(const char *output, int64_t i, int64_t count, char *path, size_t cap, tn_err *err) {
    const char *mark = output;
    int digits = 0, n;
    size_t len = 0;
    while (*mark && !(len = number_mark(mark, &digits))) mark++;
    if (len) {
        n = snprintf(path, cap, "%.*s%0*" PRId64 "%s", (int)(mark - output), output, digits, i, mark + len);
    } else if (count == 1) {
        n = snprintf(path, cap, "%s", output);
    } else {
        const char *slash = strrchr(output, '/'), *name = slash ? slash + 1 : output, *dot = strrchr(name, '.');
        size_t stem = dot && dot != name ? (size_t)(dot - output) : strlen(output);
        n = snprintf(path, cap, "%.*s-%" PRId64 "%s", (int)stem, output, i, output + stem);
    }
    return n >= 0 && (size_t)n < cap ? 0 : tn_fail(err, TN_EUSAGE, "--output: the path is too long");
}

int out_try(const char *path, tn_err *err) {
    tn_out *out;
    if (tn_out_open(path, &out, err)) return -1;
    tn_out_discard(out);
    return 0;
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

int out_try_pictures(const char *output, int64_t count, tn_err *err) {
    static const char *const others[] = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"};
    char path[4096];
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (ends_with(output, others[i]))
            return tn_fail(err, TN_EUNSUPPORTED, "--output %s: pictures are written as .png or .ppm", output);
    }
    for (int64_t i = 0; i < count; i++) {
        if (out_picture_path(output, i, count, path, sizeof path, err) || out_try(path, err)) return -1;
    }
    return 0;
}

int out_picture(const char *path, const nn_image *image, const nn_text *texts, size_t n_texts, tn_err *err) {
    return ends_with(path, ".ppm") ? nn_ppm_write(path, image, err) : nn_png_write(path, image, texts, n_texts, err);
}
