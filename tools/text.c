#include "tools/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more bytes and a NUL. */
static bool room(text *t, size_t n) {
    if (t->failed || n >= SIZE_MAX / 4) return !(t->failed = true);
    if (t->n + n < t->cap) return true;
    size_t cap = t->cap ? t->cap : 1024;
    while (cap <= t->n + n) cap *= 2;
    char *p = realloc(t->p, cap);
    if (!p) return !(t->failed = true);
    t->p = p, t->cap = cap;
    return true;
}

static void add_bytes(text *t, const char *s, size_t n) {
    if (!room(t, n)) return;
    memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = '\0';
}

void text_add(text *t, const char *s) { add_bytes(t, s, strlen(s)); }

void text_format(text *t, const char *fmt, ...) {
    char line[1001];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    text_add(t, line);
}

void text_escape(text *t, const char *s) {
    for (size_t n; *s; s += n) {
        n = strcspn(s, "&<>\"");
        if (n) add_bytes(t, s, n);
        else text_add(t, *s == '&' ? "&amp;" : *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : "&quot;"), n = 1;
    }
}

void text_base64(text *t, const unsigned char *bytes, size_t n) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0u);
        char four[4] = {digit[v >> 18], digit[v >> 12 & 63], left > 1 ? digit[v >> 6 & 63] : '=', left > 2 ? digit[v & 63] : '='};
        add_bytes(t, four, 4);
    }
}

void text_free(text *t) {
    free(t->p);
    *t = (text){0};
}
