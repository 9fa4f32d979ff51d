/* build/tests/forge: makes and reads files for the shell tests, so that they need no scripting language.
 *
 *   st OUT HEADER BYTES          a safetensors file of this header text and so many zero bytes of data
 *   edit FILE OLD NEW            replaces the first OLD in a file by NEW (any lengths; \xNN and \0 are understood)
 *   put FILE OFFSET BYTES        overwrites bytes at an offset (negative: from the end)
 *   poke FILE TENSOR VALUE       one element in the middle of a tensor (F16, BF16, F32) becomes nan, inf or 1e30
 *   drop|flat|twice FILE TENSOR  rewrites the file without the tensor; with it in one dimension; with another one beside it
 *   list FILE                    "NAME DTYPE SHAPE" of each tensor
 *   lines FILE                   fails unless each line is a JSON object; prints their number
 *   ppm OUT W H                  a picture
 *   repeat TEXT N                prints TEXT N times
 * Exit status 0, or 1 with a message. */
#include "nn/image/image.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *what) {
    fprintf(stderr, "forge: %s\n", what);
    return 1;
}

static unsigned char *load(const char *path, size_t *n) {
    char *bytes;
    return tn_read_file(path, (size_t)1 << 30, &bytes, n, NULL) ? NULL : (unsigned char *)bytes;
}

static int store(const char *path, const void *bytes, size_t n) {
    return tn_write_atomic(path, bytes, n, NULL) ? failed("cannot write") : 0;
}

static int number(const char *s) { return (int)strtol(s, NULL, 10); }

/* \xNN and \0 in an argument; returns the length. */
static size_t unescape(const char *s, unsigned char *out) {
    size_t n = 0;
    while (*s) {
        if (s[0] == '\\' && s[1] == '0') out[n++] = 0, s += 2;
        else if (s[0] == '\\' && s[1] == 'x') out[n++] = (unsigned char)strtol((char[]){s[2], s[3], 0}, NULL, 16), s += 4;
        else out[n++] = (unsigned char)*s++;
    }
    return n;
}

static int make_st(const char *path, const char *header, const char *bytes) {
    size_t n = strlen(header), data = (size_t)number(bytes);
    unsigned char *file = calloc(1, 8 + n + data);
    if (!file) return failed("memory");
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)(n >> 8 * i);
    memcpy(file + 8, header, n);
    int r = store(path, file, 8 + n + data);
    free(file);
    return r;
}

static int edit(const char *path, const char *old, const char *new) {
    size_t n, nold, nnew, at = 0;
    unsigned char *file = load(path, &n), from[4096], to[4096];
    if (!file || strlen(old) > sizeof from || strlen(new) > sizeof to) return failed("cannot read");
    nold = unescape(old, from), nnew = unescape(new, to);
    while (at + nold <= n && memcmp(file + at, from, nold) != 0) at++;
    unsigned char *out = malloc(n + nnew + 1);
    bool found = out && at + nold <= n;
    if (found) {
        memcpy(out, file, at), memcpy(out + at, to, nnew), memcpy(out + at + nnew, file + at + nold, n - at - nold);
    }
    int r = found ? store(path, out, n - nold + nnew) : failed("edit: not found");
    free(file), free(out);
    return r;
}

static int put(const char *path, const char *offset, const char *bytes) {
    size_t n;
    unsigned char *file = load(path, &n), new[4096];
    long at = number(offset);
    if (!file || strlen(bytes) > sizeof new) return failed("cannot read");
    if (at < 0) at += (long)n;
    size_t len = unescape(bytes, new);
    bool fits = at >= 0 && (size_t)at + len <= n;
    if (fits) memcpy(file + at, new, len);
    int r = fits ? store(path, file, n) : failed("put: outside");
    free(file);
    return r;
}

static int poke(const char *path, const char *name, const char *value) {
    tn_err err;
    tn_st *st;
    size_t n;
    if (tn_st_open(path, TN_MAP_COPY, &st, &err)) return failed(err.msg);
    const tn_st_tensor *t = tn_st_find(st, name);
    unsigned char *file = load(path, &n);
    if (!t || !file) return failed("poke: no such tensor");
    size_t size = (size_t)tn_st_dtype_bits(t->dtype) / 8, end = n - (size_t)(st->tensor[st->n - 1].end - t->end);
    unsigned char *top = file + end - (size_t)(t->count / 2) * size - 1; /* the most significant byte of an element */
    bool half = t->dtype == TN_ST_F16, nan = strcmp(value, "nan") == 0, inf = strcmp(value, "inf") == 0;
    top[0] = half ? 0x7c : nan || inf ? 0x7f : 0x71;
    top[-1] = (unsigned char)(half ? nan : inf ? 0x80 : nan ? 0xc0 : 0x49);
    if (half && !nan && !inf) top[0] = 0x7b; /* 65504 at most */
    for (size_t i = 2; i < size; i++) *(top - i) = 0;
    int r = store(path, file, n);
    free(file);
    tn_st_close(st);
    return r;
}

/* drop, flat, twice */
static int rewrite(const char *what, const char *path, const char *name) {
    tn_err err;
    tn_st *st;
    tn_st_writer *w = tn_st_writer_new();
    if (!w || tn_st_open(path, TN_MAP_COPY, &st, &err)) return failed("rewrite: cannot open");
    bool found = false;
    for (size_t i = 0; i < st->n_meta; i++) tn_st_add_meta(w, st->meta[i].key, st->meta[i].value);
    for (size_t i = 0; i < st->n; i++) {
        const tn_st_tensor *t = &st->tensor[i];
        bool it = strcmp(t->name, name) == 0;
        found = found || it;
        if (it && *what == 'd') continue;
        tn_st_add_raw(w, t->name, t->dtype, it && *what == 'f' ? 1 : t->ndim, it && *what == 'f' ? &t->count : t->shape, t->data);
        if (it && *what == 't') tn_st_add_raw(w, "an.extra.tensor", t->dtype, t->ndim, t->shape, t->data);
    }
    int r = found ? tn_st_write(w, path, &err) : failed("rewrite: no such tensor");
    tn_st_writer_free(w);
    tn_st_close(st);
    return r ? 1 : 0;
}

static int list(const char *path) {
    tn_err err;
    tn_st *st;
    if (tn_st_open(path, TN_MAP_COPY, &st, &err)) return failed(err.msg);
    for (size_t i = 0; i < st->n; i++) {
        printf("%s %s [", st->tensor[i].name, tn_st_dtype_name(st->tensor[i].dtype));
        for (int d = 0; d < st->tensor[i].ndim; d++) printf("%s%lld", d ? "," : "", (long long)st->tensor[i].shape[d]);
        printf("]\n");
    }
    tn_st_close(st);
    return 0;
}

static int lines(const char *path) {
    size_t n;
    unsigned char *file = load(path, &n);
    int count = 0, bad = file ? 0 : failed("cannot read");
    for (char *s = (char *)file, *end; !bad && s && *s; s = end + 1, count++) {
        tn_json *doc;
        tn_err err;
        if (!(end = strchr(s, '\n'))) return failed("the last line is cut");
        bad = tn_json_parse(s, (size_t)(end - s), 0, &doc, &err) ? failed(err.msg) : 0;
        if (bad) break;
        if (tn_json_root(doc)->type != TN_JSON_OBJECT) bad = failed("no object");
        tn_json_free(doc);
    }
    free(file);
    printf("%d\n", count);
    return bad;
}

static int ppm(const char *path, const char *w, const char *h) {
    nn_image image;
    tn_err err;
    if (nn_image_alloc(number(w), number(h), &image, &err)) return failed(err.msg);
    for (int64_t i = 0; i < image.width * image.height * 3; i++) image.rgb[i] = (unsigned char)(i * i / 7);
    int r = nn_ppm_write(path, &image, &err);
    nn_image_free(&image);
    return r ? failed(err.msg) : 0;
}

int main(int n, char **a) {
    if (n == 5 && strcmp(a[1], "st") == 0) return make_st(a[2], a[3], a[4]);
    if (n == 5 && strcmp(a[1], "edit") == 0) return edit(a[2], a[3], a[4]);
    if (n == 5 && strcmp(a[1], "put") == 0) return put(a[2], a[3], a[4]);
    if (n == 5 && strcmp(a[1], "poke") == 0) return poke(a[2], a[3], a[4]);
    if (n == 4 && (strcmp(a[1], "drop") == 0 || strcmp(a[1], "flat") == 0 || strcmp(a[1], "twice") == 0)) return rewrite(a[1], a[2], a[3]);
    if (n == 3 && strcmp(a[1], "list") == 0) return list(a[2]);
    if (n == 3 && strcmp(a[1], "lines") == 0) return lines(a[2]);
    if (n == 5 && strcmp(a[1], "ppm") == 0) return ppm(a[2], a[3], a[4]);
    if (n == 4 && strcmp(a[1], "repeat") == 0) {
        for (int i = number(a[3]); i > 0; i--) fputs(a[2], stdout);
        return 0;
    }
    return failed("unknown command or number of arguments");
}
