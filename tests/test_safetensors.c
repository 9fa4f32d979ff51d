/* safetensors reader and writer, the 16-bit formats, SHA-256. */
#include "tensor/io/bytes.h"
#include "tensor/io/half.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length field, header, n_data bytes 0, 1, 2, ...; caller frees. The length field says claim, or the truth where claim
 * is ~0. */
static unsigned char *build(const char *header, size_t header_len, uint64_t claim, size_t n_data, size_t *len) {
    *len = 8 + header_len + n_data;
    unsigned char *p = malloc(*len);
    if (!p) abort();
    tn_put_le64(p, claim == UINT64_MAX ? header_len : claim);
    memcpy(p + 8, header, header_len);
    for (size_t i = 0; i < n_data; i++) p[8 + header_len + i] = (unsigned char)i;
    return p;
}

static void refuses_bytes(test_state *t, const void *bytes, size_t len, const char *what, const char *reason) {
    unsigned char *exact = malloc(len ? len : 1); /* a read past the end is seen by a sanitizer */
    if (!exact) abort();
    memcpy(exact, bytes, len);
    tn_st *st = NULL;
    tn_err err = {TN_OK, ""};
    int status = tn_st_parse(exact, len, "file", &st, &err);
    CHECKF(t, status == -1 && err.code == TN_EINPUT && !st, "%s: status %d, code %d", what, status, err.code);
    CHECKF(t, strstr(err.msg, reason) != NULL, "%s: \"%s\" does not say \"%s\"", what, err.msg, reason);
    CHECKF(t, strncmp(err.msg, "file: ", 6) == 0 && !strpbrk(err.msg, "\n\r\033"), "%s: message \"%s\"", what, err.msg);
    if (!status) tn_st_close(st);
    free(exact);
}

static void refuses(test_state *t, const char *header, size_t n_data, const char *reason) {
    size_t len;
    unsigned char *p = build(header, strlen(header), UINT64_MAX, n_data, &len);
    refuses_bytes(t, p, len, header, reason);
    free(p);
}

static void accepts(test_state *t, const char *header, size_t n_data, size_t n_tensors) {
    size_t len;
    unsigned char *p = build(header, strlen(header), UINT64_MAX, n_data, &len);
    tn_st *st = NULL;
    tn_err err = {TN_OK, ""};
    if (CHECKF(t, tn_st_parse(p, len, "file", &st, &err) == 0, "%s: %s", header, err.msg)) {
        CHECKF(t, st->n == n_tensors, "%s: %zu tensors", header, st->n);
        tn_st_close(st);
    }
    free(p);
}

#define A "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static void test_length_field(test_state *t) {
    if (!test_section(t, "length field")) return;
    static const unsigned char bytes[64] = {0};
    refuses_bytes(t, bytes, 0, "no bytes", "empty");
    for (size_t n = 1; n < 8; n++) refuses_bytes(t, bytes, n, "less than 8 bytes", "8 bytes");
    refuses_bytes(t, bytes, 8, "length 0", "header");
    static const uint64_t claims[] = {1, UINT64_C(1) << 63, UINT64_MAX - 1, 100000001, UINT64_C(1) << 32, 5};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        size_t len;
        unsigned char *p = build("{}", 2, claims[i], 0, &len);
        refuses_bytes(t, p, len, "wrong length",
                      claims[i] == 1   ? "header"
                      : claims[i] == 5 ? "3 of them are missing"
                                       : "at most 100000000");
        free(p);
    }
    /* n = 100000001 with as many bytes there */
    unsigned char *large = calloc(1, 100000016);
    if (!large) abort();
    tn_put_le64(large, 100000001);
    tn_st *st;
    tn_err err;
    CHECK(t, tn_st_parse(large, 100000016, "file", &st, &err) == -1 && strstr(err.msg, "at most 100000000"));
    free(large);
}

static void test_header(test_state *t) {
    if (!test_section(t, "header")) return;
    accepts(t, "{}", 0, 0);
    accepts(t, " \n\t{\"a\":" A "}  \n ", 8, 1);
    accepts(t, "{\"__metadata__\":{\"k\":\"v\"},\"a\":" A "}", 8, 1);
    accepts(t, "{\"__metadata__\":{}}", 0, 0);
    refuses(t, "\xef\xbb\xbf{}", 0, "0xef");
    refuses(t, "{\"\xff\":" A "}", 8, "UTF-8");
    refuses(t, "{\"a\":" A "}x", 8, "nothing after the value");
    refuses(t, "{\"a\":" A, 8, "'}'");
    refuses(t, "[" A "]", 8, "object");
    refuses(t, "3", 0, "object");
    refuses(t, "{\"a\":" A ",\"a\":" A "}", 8, "duplicate key \"a\"");
    refuses(t, "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
            "duplicate key \"dtype\"");
    refuses(t, "{\"__metadata__\":{\"k\":1},\"a\":" A "}", 8, "string for k");
    refuses(t, "{\"__metadata__\":{\"k\":null}}", 0, "string for k");
    refuses(t, "{\"__metadata__\":[],\"a\":" A "}", 8, "object of strings");
    refuses(t, "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate");
    refuses(t, "{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, "duplicate");
    refuses(t, "{\"a\":NaN}", 0, "a value");
    refuses(t, "{\"a\":1}", 0, "expected an object");
    refuses(t, "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "shape is missing");
    refuses(t, "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype is missing");
    refuses(t, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets is missing");
    refuses(t, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":0}}", 8, "exactly");
    size_t len;
    unsigned char *p = build("{}\0\0\0", 5, UINT64_MAX, 0, &len);
    refuses_bytes(t, p, len, "trailing NUL", "0x00");
    free(p);
}

/* An entry "a" of this dtype, shape and offsets over n_data bytes. */
static void entry(char *out, size_t cap, const char *dtype, const char *shape, const char *offsets) {
    snprintf(out, cap, "{\"a\":{\"dtype\":%s,\"shape\":%s,\"data_offsets\":%s}}", dtype, shape, offsets);
}

static void test_entries(test_state *t) {
    if (!test_section(t, "entries")) return;
    static const struct {
        const char *dtype, *shape, *offsets;
        size_t n_data;
        const char *reason; /* NULL: accepted */
    } cases[] = {
        {"\"F32\"", "[2]", "[8,0]", 8, "backwards"},
        {"\"F32\"", "[2]", "[0,16]", 8, "need 8 bytes"},
        {"\"F32\"", "[4]", "[0,16]", 8, "8 of 16 bytes of data are missing"},
        {"\"F32\"", "[2]", "[0,8]", 7, "1 of 8 bytes of data are missing"},
        {"\"F32\"", "[2]", "[0,8]", 9, "1 bytes follow"},
        {"\"F32\"", "[2]", "[4,12]", 12, "hole"},
        {"\"F32\"", "[3]", "[0,8]", 8, "need 12 bytes"},
        {"\"F32\"", "[4294967296,4294967296]", "[0,0]", 0, "too large"},
        {"\"F32\"", "[1099511627776,1099511627776,0]", "[0,0]", 0, "too large"},
        {"\"F32\"", "[0,9223372036854775808]", "[0,0]", 0, "2^48"},
        {"\"F32\"", "[281474976710656]", "[0,0]", 0, "2^48"},
        {"\"F32\"", "[0]", "[281474976710656,281474976710656]", 0, "2^48"},
        {"\"F32\"", "[-2]", "[0,8]", 8, "2^48"},
        {"\"F32\"", "[-0]", "[0,0]", 0, "2^48"},
        {"\"F32\"", "[2.0]", "[0,8]", 8, "2^48"},
        {"\"F32\"", "[2e0]", "[0,8]", 8, "2^48"},
        {"\"F32\"", "[\"2\"]", "[0,8]", 8, "2^48"},
        {"\"F32\"", "[[2]]", "[0,8]", 8, "2^48"},
        {"\"F32\"", "2", "[0,8]", 8, "shape"},
        {"\"F32\"", "null", "[0,8]", 8, "shape"},
        {"\"F32\"", "[2]", "[0]", 8, "two integers"},
        {"\"F32\"", "[2]", "[0,8,8]", 8, "two integers"},
        {"\"F32\"", "[2]", "[0,-8]", 8, "two integers"},
        {"\"F32\"", "[2]", "{}", 8, "two integers"},
        {"\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]", 8, "at most 8"},
        {"\"F32\"", "[1,1,1,1,1,1,1,2]", "[0,8]", 8, NULL},
        {"\"F33\"", "[2]", "[0,8]", 8, "unknown dtype F33"},
        {"\"f32\"", "[2]", "[0,8]", 8, "unknown dtype"},
        {"32", "[2]", "[0,8]", 8, "unknown dtype"},
        {"\"F4\"", "[3]", "[0,1]", 1, "whole number"},
        {"\"F4\"", "[2]", "[0,1]", 1, NULL},
        {"\"F6_E2M3\"", "[4]", "[0,3]", 3, NULL},
        {"\"F64\"", "[]", "[0,8]", 8, NULL},
        {"\"F32\"", "[]", "[0,0]", 0, "need 4 bytes"},
        {"\"F32\"", "[0]", "[0,0]", 0, NULL},
        {"\"F32\"", "[5,0,3]", "[0,0]", 0, NULL},
        {"\"BOOL\"", "[3]", "[0,3]", 3, NULL},
        {"\"C64\"", "[1]", "[0,8]", 8, NULL},
        {"\"F8_E4M3\"", "[5]", "[0,5]", 5, NULL},
    };
    char header[300];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        entry(header, sizeof header, cases[i].dtype, cases[i].shape, cases[i].offsets);
        if (cases[i].reason)
            refuses(t, header, cases[i].n_data, cases[i].reason);
        else
            accepts(t, header, cases[i].n_data, 1);
    }
    char shape[65 * 2 + 2] = "[1";
    for (int i = 1; i < 65; i++) strcat(shape, ",1");
    strcat(shape, "]");
    entry(header, sizeof header, "\"F32\"", shape, "[0,4]");
    refuses(t, header, 4, "at most 8");
    /* two tensors */
#define AT(b, e) "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" #b "," #e "]}"
    accepts(t, "{\"b\":" AT(8, 16) ",\"a\":" AT(0, 8) "}", 16, 2);
    refuses(t, "{\"a\":" AT(0, 8) ",\"b\":" AT(4, 12) "}", 12, "overlap");
    refuses(t, "{\"a\":" AT(0, 8) ",\"b\":" AT(0, 8) "}", 8, "overlap");
    refuses(t, "{\"a\":" AT(0, 8) ",\"b\":" AT(12, 20) "}", 20, "hole");
}

static void test_names(test_state *t) {
    if (!test_section(t, "names")) return;
    accepts(t, "{\"../x\\n\\u001b[31m\":" A "}", 8, 1);
    refuses(t, "{\"x\\n\\u001b[31m\":{}}", 8, "x\\x0a\\x1b[31m"); /* escaped in the message */
    refuses(t, "{\"a\\u0000b\":" A "}", 8, "u0000");
    enum { LONG = 1 << 20 };
    char *header = malloc(LONG + 100);
    if (!header) abort();
    size_t lengths[] = {LONG, TN_ST_MAX_NAME + 1, TN_ST_MAX_NAME};
    for (int i = 0; i < 3; i++) {
        memcpy(header, "{\"", 2);
        memset(header + 2, 'n', lengths[i]);
        memcpy(header + 2 + lengths[i], "\":" A "}", sizeof "\":" A "}");
        if (i < 2)
            refuses(t, header, 8, "1024 bytes");
        else
            accepts(t, header, 8, 1);
    }
    free(header);
}

/* Ten million tensors of no bytes: refused for the number of values, in bounded time and memory. */
static void test_many(test_state *t) {
    if (!test_section(t, "many tensors")) return;
    enum { ROOM = 99000000 };
    char *header = malloc(ROOM);
    if (!header) abort();
    size_t n = 0;
    for (int i = 0; n + 80 < ROOM; i++)
        n += (size_t)sprintf(header + n, "%c\"%x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,0]}",
                             i ? ',' : '{', (unsigned)i);
    header[n++] = '}';
    size_t len;
    unsigned char *p = build(header, n, UINT64_MAX, 0, &len);
    free(header);
    tn_st *st;
    tn_err err;
    CHECK(t, tn_st_parse(p, len, "file", &st, &err) == -1 && err.code == TN_EINPUT && strstr(err.msg, "values"));
    free(p);
}

static void test_foreign(test_state *t) {
    if (!test_section(t, "foreign files")) return;
    static const struct {
        const char *bytes, *reason;
    } files[] = {{"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"},
                 {"<!DOCTYPE html><html></html>", "web page"},
                 {"\n<!doctype html>", "web page"},
                 {"<html><body></body></html>", "web page"},
                 {"PK\3\4\b\b\b\b\b\b\b\b\b\b\b\b\b", "zip"},
                 {"\x80\x02}q\x01(X\x06", "pickle"},
                 {"GGUF\3\1\1\1\1\1\1\1", "GGUF"},
                 {"hello, world", "not a safetensors file"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        refuses_bytes(t, files[i].bytes, strlen(files[i].bytes), files[i].reason, files[i].reason);
}

static void test_paths(test_state *t) {
    if (!test_section(t, "paths")) return;
    const char *dir = test_tmp("safetensors");
    char path[600], command[700];
    tn_st *st = NULL;
    tn_err err;
    snprintf(path, sizeof path, "%s/fifo", dir);
    snprintf(command, sizeof command, "mkfifo %s", path);
    const char *const bad[] = {dir, "/dev/zero", "/dev/null", path, "build/no/such/file", ""};
    if (system(command) != 0) abort();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int flags = 0; flags <= TN_MAP_COPY; flags++)
            CHECKF(t, tn_st_open(bad[i], flags, &st, &err) == -1 && err.code == TN_EIO && err.msg[0] && !st,
                   "%s: code %d %s", bad[i], err.code, err.msg);
    snprintf(path, sizeof path, "%s/empty.safetensors", dir);
    test_write(path, "", 0);
    CHECK(t, tn_st_open(path, 0, &st, &err) == -1 && err.code == TN_EINPUT && strstr(err.msg, path) &&
                 strstr(err.msg, "empty"));
}

/* ---- writing and reading back ---- */

static const int64_t s23[] = {2, 3}, s6[] = {6}, s3[] = {3}, s00[] = {4, 0};
static const float numbers[6] = {1.0f, -2.5f, 65519.0f, 1e-7f, 0.1f, -0.0f};
static const double doubles[3] = {0.1, -1e300, 4.9e-324};
static const int64_t longs[3] = {INT64_MIN, -1, INT64_MAX};
static const int32_t ints[3] = {INT32_MIN, -1, 77};
static const unsigned char bytes[3] = {0, 1, 255};

static tn_st_writer *sample(void) {
    tn_st_writer *w = tn_st_writer_new();
    if (!w) abort();
    tn_st_add(w, "z.u8", TN_ST_U8, 1, s3, bytes);
    tn_st_add(w, "b.f32", TN_ST_F32, 2, s23, numbers);
    tn_st_add(w, "a.bf16", TN_ST_BF16, 2, s23, numbers);
    tn_st_add(w, "a.f16", TN_ST_F16, 1, s6, numbers);
    tn_st_add(w, "a.f64", TN_ST_F64, 1, s3, doubles);
    tn_st_add(w, "c.i64", TN_ST_I64, 1, s3, longs);
    tn_st_add(w, "a.i32", TN_ST_I32, 1, s3, ints);
    tn_st_add(w, "empty", TN_ST_F32, 2, s00, NULL);
    tn_st_add(w, "scalar", TN_ST_F32, 0, NULL, numbers + 1);
    tn_st_add_raw(w, "raw", TN_ST_I16, 1, s3, "\x01\x00\xff\xff\x00\x80");
    tn_st_add_meta(w, "format", "pt");
    tn_st_add_meta(w, "\"quoted\"", "line\nbreak \xc3\xa9");
    return w;
}

static void check_floats(test_state *t, const tn_st *st) {
    float f[6];
    double d[6];
    tn_err err;
    const tn_st_tensor *b = tn_st_find(st, "b.f32"), *h = tn_st_find(st, "a.f16"), *g = tn_st_find(st, "a.bf16"),
                       *d64 = tn_st_find(st, "a.f64");
    if (!CHECK(t, b && h && g && d64)) return;
    CHECK(t, b->dtype == TN_ST_F32 && b->ndim == 2 && b->shape[0] == 2 && b->shape[1] == 3 && b->count == 6 &&
                 b->end - b->begin == 24);
    CHECK(t, tn_st_read_f32(b, f, &err) == 0 && memcmp(f, numbers, sizeof f) == 0);
    CHECK(t, tn_st_read_f64(b, d, &err) == 0 && d[4] == (double)0.1f);
    CHECK(t, tn_st_read_f32(h, f, &err) == 0 && f[1] == -2.5f && f[2] == 65504.0f && f[3] == ldexpf(2.0f, -24) &&
                 f[4] == 0.0999755859375f && signbit(f[5]));
    CHECK(t, tn_st_read_f64(h, d, &err) == 0 && d[4] == 0.0999755859375);
    CHECK(t, tn_st_read_f32(g, f, &err) == 0 && f[1] == -2.5f && f[2] == 65536.0f && f[4] == 0.10009765625f);
    CHECK(t, tn_st_read_f64(d64, d, &err) == 0 && memcmp(d, doubles, sizeof doubles) == 0);
    CHECK(t, tn_st_read_f32(d64, f, &err) == 0 && f[0] == 0.1f && f[1] == -HUGE_VALF && f[2] == 0.0f);
    b = tn_st_find(st, "scalar");
    CHECK(t, b && b->ndim == 0 && b->count == 1 && tn_st_read_f32(b, f, &err) == 0 && f[0] == -2.5f);
    b = tn_st_find(st, "empty");
    CHECK(t, b && b->count == 0 && b->begin == b->end && tn_st_read_f32(b, NULL, &err) == 0);
}

static void check_integers(test_state *t, const tn_st *st) {
    int64_t v[3];
    float f[6];
    tn_err err;
    const tn_st_tensor *c = tn_st_find(st, "c.i64"), *a = tn_st_find(st, "a.i32"), *z = tn_st_find(st, "z.u8"),
                       *raw = tn_st_find(st, "raw");
    if (!CHECK(t, c && a && z && raw)) return;
    CHECK(t, tn_st_read_i64(c, v, &err) == 0 && memcmp(v, longs, sizeof v) == 0);
    CHECK(t, tn_st_read_i64(a, v, &err) == 0 && v[0] == INT32_MIN && v[1] == -1 && v[2] == 77);
    CHECK(t, tn_st_read_i64(z, v, &err) == 0 && v[0] == 0 && v[1] == 1 && v[2] == 255);
    CHECK(t, tn_st_read_i64(raw, v, &err) == 0 && v[0] == 1 && v[1] == -1 && v[2] == -32768);
    CHECK(t, tn_st_read_f32(z, f, &err) == -1 && err.code == TN_EUNSUPPORTED && strstr(err.msg, "z.u8") &&
                 strstr(err.msg, "got U8"));
    CHECK(t, tn_st_read_f64(c, NULL, &err) == -1 && strstr(err.msg, "c.i64"));
    CHECK(t, tn_st_read_i64(tn_st_find(st, "b.f32"), NULL, &err) == -1 && strstr(err.msg, "got F32"));
    tn_dtype kernel = TN_I64;
    CHECK(t, tn_st_weight_dtype(TN_ST_BF16, &kernel) && kernel == TN_BF16 && tn_st_weight_dtype(TN_ST_F16, &kernel) &&
                 kernel == TN_F16);
    CHECK(t, tn_st_weight_dtype(TN_ST_F32, &kernel) && kernel == TN_F32 && !tn_st_weight_dtype(TN_ST_F64, &kernel));
}

static void test_round_trip(test_state *t) {
    if (!test_section(t, "round trip")) return;
    tn_st_writer *w = sample();
    unsigned char *mem, *again;
    size_t len, len_again;
    tn_err err;
    tn_st *st;
    if (!CHECK(t, tn_st_write_mem(w, &mem, &len, &err) == 0)) return;
    /* Byte for byte what is described: length, JSON without spaces, order of width and name, padding. */
    static const char head[] = "{\"__metadata__\":{\"format\":\"pt\",\"\\\"quoted\\\"\":\"line\\nbreak \xc3\xa9\"},"
                               "\"a.f64\":{\"dtype\":\"F64\",\"shape\":[3],\"data_offsets\":[0,24]},\"c.i64\":{"
                               "\"dtype\":\"I64\",\"shape\":[3],\"data_offsets\":[24,48]},"
                               "\"a.i32\":{\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[48,60]},\"b.f32\":{"
                               "\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[60,84]},"
                               "\"empty\":{\"dtype\":\"F32\",\"shape\":[4,0],\"data_offsets\":[84,84]},\"scalar\":{"
                               "\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[84,88]},"
                               "\"a.bf16\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[88,100]},\"a.f16\":{"
                               "\"dtype\":\"F16\",\"shape\":[6],\"data_offsets\":[100,112]},"
                               "\"raw\":{\"dtype\":\"I16\",\"shape\":[3],\"data_offsets\":[112,118]},\"z.u8\":{"
                               "\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[118,121]}}";
    size_t header = (size_t)tn_le64(mem);
    CHECK(t, header % 8 == 0 && header >= sizeof head - 1 && header < sizeof head - 1 + 8 && len == 8 + header + 121);
    CHECKF(t, memcmp(mem + 8, head, sizeof head - 1) == 0, "header: %.*s", (int)header, (const char *)mem + 8);
    for (size_t i = sizeof head - 1; i < header; i++) CHECK(t, mem[8 + i] == ' ');
    CHECK(t, memcmp(mem + 8 + header + 60, "\0\0\x80\x3f\0\0\x20\xc0", 8) == 0); /* 1, -2.5: little-endian */
    CHECK(t, memcmp(mem + 8 + header + 48, "\0\0\0\x80\xff\xff\xff\xff\x4d\0\0\0", 12) == 0);
    if (CHECK(t, tn_st_parse(mem, len, "mem", &st, &err) == 0)) {
        CHECK(t, st->n == 10 && strcmp(st->tensor[0].name, "a.f64") == 0 && strcmp(st->tensor[9].name, "z.u8") == 0);
        CHECK(t, st->n_meta == 2 && strcmp(tn_st_meta(st, "format"), "pt") == 0 &&
                     strcmp(st->meta[1].key, "\"quoted\"") == 0 && !tn_st_meta(st, "x"));
        CHECK(t, !tn_st_find(st, "nothing") && !tn_st_find(st, "__metadata__"));
        check_floats(t, st);
        check_integers(t, st);
        tn_st_close(st);
    }
    /* The same bytes again, at an odd address, and as a file. */
    CHECK(t, tn_st_write_mem(w, &again, &len_again, &err) == 0 && len == len_again && memcmp(mem, again, len) == 0);
    free(again);
    unsigned char *odd = malloc(len + 1);
    if (!odd) abort();
    memcpy(odd + 1, mem, len);
    if (CHECK(t, tn_st_parse(odd + 1, len, "mem", &st, &err) == 0))
        check_floats(t, st), check_integers(t, st), tn_st_close(st);
    free(odd);
    char path[600];
    snprintf(path, sizeof path, "%s/all.safetensors", test_tmp("safetensors"));
    CHECKF(t, tn_st_write(w, path, &err) == 0, "%s", err.msg);
    unsigned char *file = test_read(path, &len_again);
    CHECK(t, file && len_again == len && memcmp(file, mem, len) == 0);
    free(file);
    for (int flags = 0; flags <= TN_MAP_COPY; flags++)
        if (CHECK(t, tn_st_open(path, flags, &st, &err) == 0))
            check_floats(t, st), check_integers(t, st), tn_st_close(st);
    /* Every truncation and every longer file is refused. */
    for (size_t n = 0; n < len; n++) refuses_bytes(t, mem, n, "truncated", "");
    /* Every single changed byte of the header is refused or read, never worse. */
    for (size_t i = 0; i < 8 + header; i++) {
        unsigned char old = mem[i];
        for (int k = 0; k < 8; k++) {
            mem[i] = (unsigned char)(old ^ 1 << k);
            if (tn_st_parse(mem, len, "mem", &st, &err) == 0)
                tn_st_close(st);
            else
                CHECK(t, err.code == TN_EINPUT && err.msg[0] && !strchr(err.msg, '\n'));
        }
        mem[i] = old;
    }
    free(mem);
    tn_st_writer_free(w);
}

static void test_writer_errors(test_state *t) {
    if (!test_section(t, "writer errors")) return;
    tn_st_writer *w = sample();
    unsigned char *mem = NULL;
    size_t len;
    tn_err err;
    const char *dir = test_tmp("safetensors");
    CHECK(t, tn_st_write(w, dir, &err) == -1 && err.code == TN_EIO && strstr(err.msg, "folder"));
    CHECK(t, tn_st_write(w, "build/no/such/folder/x", &err) == -1 && err.code == TN_EIO && strstr(err.msg, "build/no"));
    tn_st_add(w, "b.f32", TN_ST_F16, 1, s6, numbers);
    char path[600];
    snprintf(path, sizeof path, "%s/x", dir);
    CHECK(t, tn_st_write_mem(w, &mem, &len, &err) == -1 && err.code == TN_EINPUT &&
                 strstr(err.msg, "duplicate key \"b.f32\"") && !mem);
    CHECK(t, tn_st_write(w, path, &err) == -1 && err.code == TN_EINPUT && strstr(err.msg, path) && !tn_exists(path));
    tn_st_writer_free(w);
    w = tn_st_writer_new();
    if (!w) abort();
    CHECK(t, tn_st_write_mem(w, &mem, &len, &err) == 0 && len == 16 &&
                 memcmp(mem + 8, "{}      ", 8) == 0); /* no tensors */
    free(mem);
    tn_st_add(w, "__metadata__", TN_ST_F32, 1, s6, numbers);
    CHECK(t, tn_st_write_mem(w, &mem, &len, &err) == -1 && err.code == TN_EINPUT);
    tn_st_writer_free(w);
    tn_st_writer_free(NULL);
    tn_st_close(NULL);
}

/* A thousand names: all found, none confused; the order is that of the data. */
static void test_find(test_state *t) {
    if (!test_section(t, "find")) return;
    enum { N = 3000 };
    tn_st_writer *w = tn_st_writer_new();
    float *data = malloc(N * sizeof *data);
    if (!w || !data) abort();
    const int64_t one[] = {1};
    char name[64];
    for (int i = 0; i < N; i++) {
        data[i] = (float)i;
        snprintf(name, sizeof name, "model.layers.%d.weight", i);
        tn_st_add(w, name, TN_ST_F32, 1, one, &data[i]);
    }
    unsigned char *mem;
    size_t len;
    tn_err err;
    tn_st *st;
    if (CHECK(t, tn_st_write_mem(w, &mem, &len, &err) == 0) && CHECK(t, tn_st_parse(mem, len, "mem", &st, &err) == 0)) {
        int wrong = 0;
        for (int i = 0; i < N; i++) {
            snprintf(name, sizeof name, "model.layers.%d.weight", i);
            const tn_st_tensor *x = tn_st_find(st, name);
            float v = -1.0f;
            wrong += !x || tn_st_read_f32(x, &v, &err) || v != (float)i;
            if (i) wrong += st->tensor[i].begin != st->tensor[i - 1].end;
        }
        CHECKF(t, wrong == 0, "%d wrong", wrong);
        tn_st_close(st);
        free(mem);
    }
    tn_st_writer_free(w);
    free(data);
}

/* ---- 16-bit formats: all of them one way; the other way, every midpoint and its neighbours ---- */

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static void test_half(test_state *t) {
    if (!test_section(t, "half")) return;
    int wrong_f16 = 0, wrong_bf16 = 0, wrong_ties = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
        double want = (e ? ldexp(1024 + m, e - 25) : ldexp(m, -24)) * (h & 0x8000 ? -1.0 : 1.0);
        float f = tn_f16_to_f32((uint16_t)h), g = tn_bf16_to_f32((uint16_t)h);
        if (e < 31)
            wrong_f16 += (double)f != want || !signbit(f) != !(h & 0x8000) || tn_f32_to_f16(f) != h;
        else if (m == 0)
            wrong_f16 += !isinf(f) || tn_f32_to_f16(f) != h;
        else
            wrong_f16 += !isnan(f) || !isnan(tn_f16_to_f32(tn_f32_to_f16(f)));
        if (isnan(g))
            wrong_bf16 += !isnan(tn_bf16_to_f32(tn_f32_to_bf16(g)));
        else
            wrong_bf16 += bits_of(g) != h << 16 || tn_f32_to_bf16(g) != h;
        if ((h & 0x7fff) >= 0x7bff) continue;
        /* The midpoint to the next number goes to the even one, its neighbours to their side. */
        float middle = (float)((want + (double)tn_f16_to_f32((uint16_t)(h + 1))) / 2);
        uint32_t b = bits_of(middle);
        wrong_ties += tn_f32_to_f16(middle) != (h & 1 ? h + 1 : h);
        wrong_ties += tn_f32_to_f16(float_of(b - 1)) != h || tn_f32_to_f16(float_of(b + 1)) != h + 1;
        if ((h & 0x7fff) >= 0x7f7f) continue;
        b = h << 16 | 0x8000;
        wrong_ties += tn_f32_to_bf16(float_of(b)) != (h & 1 ? h + 1 : h);
        wrong_ties += tn_f32_to_bf16(float_of(b - 1)) != h || tn_f32_to_bf16(float_of(b + 1)) != h + 1;
    }
    CHECKF(t, wrong_f16 == 0, "%d of F16", wrong_f16);
    CHECKF(t, wrong_bf16 == 0, "%d of BF16", wrong_bf16);
    CHECKF(t, wrong_ties == 0, "%d ties", wrong_ties);
    CHECK(t,
          tn_f32_to_f16(65519.996f) == 0x7bff && tn_f32_to_f16(65520.0f) == 0x7c00 && tn_f32_to_f16(-1e30f) == 0xfc00);
    CHECK(t, tn_f32_to_bf16(3.4028235e38f) == 0x7f80 && tn_f32_to_f16(1e-30f) == 0 &&
                 tn_f32_to_f16(-ldexpf(1.0f, -25)) == 0x8000);
}

static void digest_is(test_state *t, const char *text, size_t repeat, size_t step, const char *want) {
    tn_sha256 s;
    char hex[65];
    tn_sha256_init(&s);
    size_t n = strlen(text);
    for (size_t r = 0; r < repeat; r++)
        for (size_t i = 0; i < n; i += step) tn_sha256_update(&s, text + i, n - i < step ? n - i : step);
    tn_sha256_hex(&s, hex);
    CHECKF(t, strcmp(hex, want) == 0, "%.20s x %zu in steps of %zu: %s", text, repeat, step, hex);
}

static void test_sha256(test_state *t) {
    if (!test_section(t, "sha256")) return;
    /* FIPS 180-4 examples; the million 'a' too. */
    digest_is(t, "", 1, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_is(t, "abc", 1, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    for (size_t step = 1; step <= 56; step += 5)
        digest_is(t, two, 1, step, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    for (size_t step = 1; step <= 10; step += 3)
        digest_is(t, "aaaaaaaaaa", 100000, step, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    /* Lengths around the padding's corner (55, 56, 64 bytes), from sha256sum. */
    digest_is(t, "a", 55, 1, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    digest_is(t, "a", 56, 1, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
    digest_is(t, "a", 64, 1, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
}

void test_main(test_state *t) {
    test_length_field(t);
    test_header(t);
    test_entries(t);
    test_names(t);
    test_many(t);
    test_foreign(t);
    test_paths(t);
    test_round_trip(t);
    test_writer_errors(t);
    test_find(t);
    test_half(t);
    test_sha256(t);
}
