#include "nn/image/png.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "nn/image/inflate.h"
#include "nn/image/png_chunk.h"

void nn_texts_free(nn_texts *texts) {
    for (size_t i = 0; i < texts->n; i++) free(texts->item[i].key), free(texts->item[i].value);
    free(texts->item);
    *texts = (nn_texts){NULL, 0};
}

const char *nn_texts_find(const nn_texts *texts, const char *key) {
    for (size_t i = 0; i < texts->n; i++) {
        if (strcmp(texts->item[i].key, key) == 0) return texts->item[i].value;
    }
    return NULL;
}

/* ---- encodings ---- */

/* A code point of a UTF-8 string, moving *p behind it; -1 where it is malformed. 0 at the end, without moving. */
static long next_code_point(const unsigned char **p) {
    const unsigned char *s = *p;
    unsigned c = s[0], more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c == 0) return 0;
    *p = s + 1;
    if (c < 0x80) return (long)c;
    if (c < 0xc2 || c > 0xf4) return -1;
    long v = (long)(c & (0x3fu >> more));
    for (unsigned i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80) return -1;
        v = v << 6 | (s[i] & 0x3f);
    }
    if ((more == 2 && (v < 0x800 || (v >= 0xd800 && v < 0xe000))) || (more == 3 && (v < 0x10000 || v > 0x10ffff)))
        return -1;
    *p = s + 1 + more;
    return v;
}

/* The highest code point of a string, -1 where it is not UTF-8; *n = number of code points. */
static long highest(const char *text, size_t *n) {
    const unsigned char *p = (const unsigned char *)text;
    long top = 0, v;
    for (*n = 0; (v = next_code_point(&p)) != 0; ++*n) {
        if (v < 0) return -1;
        if (v > top) top = v;
    }
    return top;
}

/* Writes a string of code points below 256 as Latin-1, without the end. */
static unsigned char *put_latin1(unsigned char *to, const char *text) {
    const unsigned char *p = (const unsigned char *)text;
    for (long v; (v = next_code_point(&p)) != 0;) *to++ = (unsigned char)v;
    return to;
}

/* A new string; NULL where memory is out. */
static char *copy_utf8(const unsigned char *p, size_t len) {
    char *s = malloc(len + 1);
    if (!s) return NULL;
    if (len) memcpy(s, p, len);
    s[len] = '\0';
    return s;
}

/* Latin-1 is the first 256 code points: two bytes from 0x80 on. */
static char *copy_latin1(const unsigned char *p, size_t len) {
    char *s = malloc(2 * len + 1);
    if (!s) return NULL;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (p[i] >= 0x80) s[n++] = (char)(0xc0 | p[i] >> 6);
        s[n++] = (char)(p[i] >= 0x80 ? 0x80 | (p[i] & 0x3f) : p[i]);
    }
    s[n] = '\0';
    return s;
}

/* ---- reading ---- */

/* One chunk taken apart: where the text lies and how it is written. */
typedef struct raw_text {
    size_t key_len;
    const unsigned char *text;
    size_t len;
    bool compressed, utf8;
} raw_text;

/* Skips a NUL-terminated string of p[*at..len); false where there is no NUL. */
static bool skip_string(const unsigned char *p, size_t len, size_t *at) {
    const unsigned char *nul = *at < len ? memchr(p + *at, 0, len - *at) : NULL;
    if (!nul) return false;
    *at = (size_t)(nul - p) + 1;
    return true;
}

/* tEXt: key 0 text. zTXt: key 0 method(0) zlib. iTXt: key 0 flag method language 0 translated-key 0 text-or-zlib. */
static bool split(const nn_png_chunk *c, raw_text *t) {
    size_t at = 0;
    if (!skip_string(c->data, c->len, &at) || at < 2 || at > 80) return false;
    t->key_len = at - 1;
    t->utf8 = nn_png_is(c, "iTXt");
    t->compressed = nn_png_is(c, "zTXt");
    if (t->compressed) {
        if (at >= c->len || c->data[at++] != 0) return false;
    } else if (t->utf8) {
        if (c->len - at < 2 || c->data[at] > 1 || c->data[at + 1] != 0) return false;
        t->compressed = c->data[at] == 1;
        at += 2;
        if (!skip_string(c->data, c->len, &at) || !skip_string(c->data, c->len, &at)) return false;
    }
    t->text = c->data + at;
    t->len = c->len - at;
    return true;
}

/* Appends the text of a chunk; *left is what remains of the limit on bytes. */
static int add_text(const nn_png_chunk *c, nn_texts *texts, size_t *left, tn_err *err) {
    raw_text t;
    if (!split(c, &t)) return tn_fail(err, TN_EINPUT, "PNG chunk %s is malformed", c->type);
    if (texts->n == NN_PNG_MAX_TEXTS) return tn_fail(err, TN_ENOMEM, "PNG has more than %d texts", NN_PNG_MAX_TEXTS);
    unsigned char *inflated = NULL;
    if (t.compressed) {
        if (nn_zlib_inflate_alloc(t.text, t.len, *left, &inflated, &t.len, err))
            return tn_fail_in(err, "PNG chunk %s", c->type);
        t.text = inflated;
    }
    int rc = 0;
    size_t chars;
    char *key = copy_latin1(c->data, t.key_len), *value = NULL;
    if (t.len > *left)
        rc = tn_fail(err, TN_ENOMEM, "PNG has more than %u MiB of text", NN_PNG_MAX_TEXT_BYTES >> 20);
    else if (t.len && memchr(t.text, 0, t.len))
        rc = tn_fail(err, TN_EINPUT, "PNG chunk %s: a NUL inside the text", c->type);
    else if (!(value = t.utf8 ? copy_utf8(t.text, t.len) : copy_latin1(t.text, t.len)) || !key)
        rc = tn_fail(err, TN_ENOMEM, "out of memory for a text of %zu bytes", t.len);
    else if (highest(value, &chars) < 0)
        rc = tn_fail(err, TN_EINPUT, "PNG chunk %s: the text is not UTF-8", c->type);
    free(inflated);
    if (rc) {
        free(key), free(value);
        return rc;
    }
    *left -= t.len;
    texts->item[texts->n++] = (nn_text){key, value};
    return 0;
}

int nn_png_texts(const unsigned char *bytes, size_t len, const char *name, nn_texts *out, tn_err *err) {
    nn_texts texts = {calloc(NN_PNG_MAX_TEXTS, sizeof *texts.item), 0};
    if (!texts.item) return tn_fail(err, TN_ENOMEM, "%s: out of memory for texts", name);
    size_t pos = 0, left = NN_PNG_MAX_TEXT_BYTES;
    nn_png_chunk c;
    int rc = nn_png_start(bytes, len, &pos, err);
    while (rc == 0) {
        rc = nn_png_next(bytes, len, &pos, &c, err);
        if (rc || nn_png_is(&c, "IEND")) break;
        if (nn_png_is(&c, "tEXt") || nn_png_is(&c, "zTXt") || nn_png_is(&c, "iTXt"))
            rc = add_text(&c, &texts, &left, err);
    }
    if (rc) {
        nn_texts_free(&texts);
        return tn_fail_in(err, "%s", name);
    }
    *out = texts;
    return 0;
}

/* ---- writing ---- */

size_t nn_png_text_room(const nn_text *t, tn_err *err) {
    size_t n, chars, len = strlen(t->value);
    long top = highest(t->key, &n);
    bool spaces = t->key[0] == ' ' || (n && t->key[strlen(t->key) - 1] == ' ') || strstr(t->key, "  ");
    if (top < 0 || top > 255 || n < 1 || n > 79 || spaces) {
        tn_fail(err, TN_EINPUT,
                "PNG text key \"%.100s\": expected 1 to 79 characters of Latin-1, words one space apart", t->key);
        return 0;
    }
    if (highest(t->value, &chars) < 0) {
        tn_fail(err, TN_EINPUT, "PNG text \"%.100s\" is not UTF-8", t->key);
        return 0;
    }
    if (len > NN_PNG_MAX_TEXT_BYTES) {
        tn_fail(err, TN_ENOMEM, "PNG text \"%.100s\" has %zu bytes, over the limit of %u", t->key, len,
                NN_PNG_MAX_TEXT_BYTES);
        return 0;
    }
    return 12 + n + 5 + len;
}

unsigned char *nn_png_put_text(unsigned char *to, const nn_text *t) {
    size_t chars;
    bool latin1 = highest(t->value, &chars) < 256;
    unsigned char *p = put_latin1(nn_png_begin(to, latin1 ? "tEXt" : "iTXt"), t->key);
    *p++ = 0;
    if (latin1) return nn_png_end(to, put_latin1(p, t->value));
    memset(p, 0, 4); /* not compressed, method 0, no language, no translated key */
    memcpy(p + 4, t->value, strlen(t->value));
    return nn_png_end(to, p + 4 + strlen(t->value));
}
