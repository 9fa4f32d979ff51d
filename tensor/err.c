#include "tensor/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copies src to dst, writing control bytes as \xNN: a tensor name must not drive the reader's terminal. */
static void escape(char *dst, size_t cap, const char *src) {
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (; *src && n + 5 < cap; src++) {
        unsigned char c = (unsigned char)*src;
        if (c < 0x20 || c == 0x7f) {
            dst[n++] = '\\', dst[n++] = 'x';
            dst[n++] = hex[c >> 4], dst[n++] = hex[c & 15];
        } else {
            dst[n++] = (char)c;
        }
    }
    dst[n] = '\0';
}

int tn_fail(tn_err *e, int code, const char *fmt, ...) {
    if (!e) return -1;
    char raw[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    e->code = code;
    escape(e->msg, sizeof e->msg, raw);
    return -1;
}

int tn_fail_in(tn_err *e, const char *fmt, ...) {
    if (!e) return -1;
    char raw[2 * sizeof e->msg + 2];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(raw, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < sizeof e->msg ? (size_t)n : sizeof e->msg - 1;
    raw[used] = ':', raw[used + 1] = ' ';
    memcpy(raw + used + 2, e->msg, strlen(e->msg) + 1);
    escape(e->msg, sizeof e->msg, raw);
    return -1;
}

void tn_bug(const char *file, int line, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "oneword: bug at %s:%d: ", file, line);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}
