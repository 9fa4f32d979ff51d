#include "tensor/io/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Invariant while nothing failed: buf is NULL or holds len bytes and a NUL, cap > len. */
static void put(tn_jw *w, const char *text, size_t n) {
    if (w->failed) return;
    if (w->cap - w->len <= n) { /* room for the NUL too */
        size_t cap = w->cap ? w->cap : 256;
        while (cap - w->len <= n && cap < SIZE_MAX / 2) cap *= 2;
        char *buf = cap - w->len > n ? realloc(w->buf, cap) : NULL;
        if (!buf) {
            w->failed = true;
            return;
        }
        w->buf = buf, w->cap = cap;
    }
    memcpy(w->buf + w->len, text, n);
    w->len += n;
    w->buf[w->len] = '\0';
}

static void put_text(tn_jw *w, const char *text) { put(w, text, strlen(text)); }

static void new_line(tn_jw *w) {
    if (!w->indent) return;
    put(w, "\n", 1);
    for (int i = 0; i < w->depth * w->indent; i++) put(w, " ", 1);
}

/* Names of files need not be UTF-8; JSON must: what is not becomes U+FFFD, the replacement character. */
static void put_quoted(tn_jw *w, const char *text) {
    put(w, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n = tn_utf8_length(s, 4);
        char escape[8];
        if (!n) {
            put_text(w, "\xef\xbf\xbd");
        } else if (*s == '"' || *s == '\\') {
            snprintf(escape, sizeof escape, "\\%c", *s);
            put_text(w, escape);
        } else if (*s == '\n') {
            put_text(w, "\\n");
        } else if (*s < 0x20 || *s == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s);
            put_text(w, escape);
        } else {
            put(w, (const char *)s, n);
        }
        s += n ? n : 1;
    }
    put(w, "\"", 1);
}

/* What stands before every value: the comma, the line, the key. */
static void begin_value(tn_jw *w, const char *key) {
    if (w->comma) put(w, ",", 1);
    if (w->depth > 0) new_line(w);
    if (key) {
        put_quoted(w, key);
        put_text(w, w->indent ? ": " : ":");
    }
    w->comma = true;
}

void tn_jw_init(tn_jw *w, int indent) {
    memset(w, 0, sizeof *w);
    w->indent = indent;
}

void tn_jw_open(tn_jw *w, const char *key, char bracket) {
    begin_value(w, key);
    put(w, &bracket, 1);
    w->depth++;
    w->comma = false;
}

void tn_jw_close(tn_jw *w, char bracket) {
    TN_REQUIRE(w->depth > 0);
    w->depth--;
    if (w->comma) new_line(w); /* an empty container closes on its line */
    put(w, &bracket, 1);
    w->comma = true;
}

void tn_jw_string(tn_jw *w, const char *key, const char *value) {
    begin_value(w, key);
    put_quoted(w, value);
}

void tn_jw_int(tn_jw *w, const char *key, int64_t value) {
    char text[24];
    int n = snprintf(text, sizeof text, "%lld", (long long)value);
    begin_value(w, key);
    put(w, text, (size_t)n);
}

/* %.*g, with whatever a foreign locale puts for the decimal point turned back into one. */
static size_t format_double(char *text, size_t cap, double value, int digits) {
    char raw[64];
    snprintf(raw, sizeof raw, "%.*g", digits, value);
    size_t n = 0;
    for (const char *s = raw; *s && n + 1 < cap; s++) {
        bool plain = (*s >= '0' && *s <= '9') || *s == '-' || *s == '+' || *s == 'e';
        if (plain || n == 0 || text[n - 1] != '.') text[n++] = plain ? *s : '.';
    }
    text[n] = '\0';
    return n;
}

static void put_number(tn_jw *w, const char *key, double value, bool as_float) {
    char text[64];
    size_t n = 0;
    double back = 0.0;
    begin_value(w, key);
    if (isnan(value) || isinf(value)) {
        put_text(w, "null");
        return;
    }
    if (value == 0.0 && signbit(value)) {
        put_text(w, "-0.0"); /* "-0" is an integer to many readers, and loses its sign */
        return;
    }
    for (int digits = 9; digits <= 17; digits++) {
        n = format_double(text, sizeof text, value, digits);
        if (tn_parse_double(text, n, &back) && (as_float ? (float)back == (float)value : back == value)) break;
    }
    put(w, text, n);
}

void tn_jw_number(tn_jw *w, const char *key, double value) { put_number(w, key, value, false); }
void tn_jw_float(tn_jw *w, const char *key, float value) { put_number(w, key, (double)value, true); }

void tn_jw_bool(tn_jw *w, const char *key, bool value) {
    begin_value(w, key);
    put_text(w, value ? "true" : "false");
}

void tn_jw_null(tn_jw *w, const char *key) {
    begin_value(w, key);
    put_text(w, "null");
}

char *tn_jw_take(tn_jw *w) {
    put(w, "", 0);
    char *text = w->buf;
    if (w->failed) free(text), text = NULL;
    tn_jw_init(w, w->indent);
    return text;
}
