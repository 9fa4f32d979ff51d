/* DEFLATE in both directions: every way in which a stream can be wrong, and round trips over data of all kinds. What
 * other programs compress is covered by the pictures of test_png.c. */
#include "nn/image/checksum.h"
#include "nn/image/deflate.h"
#include "nn/image/inflate.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

/* Bits as DEFLATE packs them: "101" puts 1, 0, 1 at ascending bit positions; spaces are ignored. */
static size_t pack(const char *bits, unsigned char *out) {
    size_t n = 0;
    memset(out, 0, 400);
    for (; *bits; bits++) {
        if (*bits == ' ') continue;
        if (*bits == '1') out[n / 8] |= (unsigned char)(1u << n % 8);
        n++;
    }
    return (n + 7) / 8;
}

static void bad_streams(test_state *t) {
    /* Huffman codes from their high bit, everything else from the low bit. */
    static const struct {
        const char *bits, *part;
    } c[] = {{"", "too early"},
             {"1 11", "reserved"},
             {"1 00 00000 1000000000000000 1111111111111111", "complement"},
             {"1 00 00000 1000000000000000 0111111111111111", "too early"},
             {"1 00 00000 10000000", "too early"},
             {"1 10 0000001 00000", "before the start"},
             {"1 10 01100001 0000001 00001", "before the start"},
             {"1 10 11000110 00000", "286"},
             {"1 10 11000111 00000", "286"},
             {"1 10 01100001 0000001 01111 0000000000000", "distance"},
             {"1 10 01100001 0000001 11110", "distance code"},
             {"1 10 01100001 0110000", "too early"},
             {"1 01 01111 00000 0000", "too many"},                              /* 287 literal codes */
             {"1 01 00000 01111 0000", "too many"},                              /* 31 distance codes */
             {"1 01 00000 00000 0000 100 100 100 100", "over-subscribed"},       /* lengths' code */
             {"1 01 00000 00000 0000 000 000 100 000 0000000000", "incomplete"}, /* one code of one bit */
             {"1 01 00000 00000 0000 100 000 100 000 0 00 0000000000", "repeats nothing"},
             {"1 01 00000 00000 0000 000 000 100 100 1 1111111 1 1111111", "too many code lengths"},
             {"1 01 00000 00000 0000 000 000 100 100 1 1111111 1 1011011", "end code"}};
    unsigned char in[400], out[1000];
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        size_t n = pack(c[i].bits, in), used, got;
        tn_err err = {0, ""};
        int rc = nn_inflate(in, n, out, sizeof out, &used, &got, &err);
        CHECKF(t, rc == -1 && err.code == TN_EINPUT && strstr(err.msg, c[i].part),
               "stream %zu: expected \"%s\", got %d \"%s\"", i, c[i].part, rc, err.msg);
    }
    static const struct {
        const char *bytes;
        size_t n;
        const char *part;
    } z[] = {{"\x78\x9c\x03\0\0\0\0\2", 8, "Adler-32"},          {"\x78\x9d\x03\0\0\0\0\1", 8, "not a zlib"},
             {"\x79\x9c\x03\0\0\0\0\1", 8, "not a zlib"},        {"\x88\x1c\x03\0\0\0\0\1", 8, "not a zlib"},
             {"\x78\xbb\0\0\0\1\3\0\0\0\0\1", 12, "dictionary"}, {"\x78\x9c\x03\0\0\0\0", 7, "too early"},
             {"\x78\x9c\x03\0\0\0\0\1x", 9, "follow"},           {"\x78", 1, "too early"}};
    for (size_t i = 0; i < sizeof z / sizeof *z; i++) {
        unsigned char *p = NULL;
        size_t n;
        tn_err err = {0, ""};
        int rc = nn_zlib_inflate_alloc((const unsigned char *)z[i].bytes, z[i].n, 1000, &p, &n, &err);
        CHECKF(t, rc == -1 && strstr(err.msg, z[i].part), "zlib %zu: expected \"%s\", got %d \"%s\"", i, z[i].part, rc,
               err.msg);
        if (rc == 0) free(p);
    }
}

/* n bytes of one of seven kinds, from incompressible to constant. */
static void make_data(unsigned char *p, size_t n, int kind, uint64_t *seed) {
    for (size_t i = 0; i < n; i++) {
        unsigned r = (unsigned)((test_rand(seed) + 1) * 8388608.0f);
        switch (kind) {
        case 0:
            p[i] = (unsigned char)(r >> 7);
            break; /* noise */
        case 1:
            p[i] = 0;
            break; /* zeros */
        case 2:
            p[i] = (unsigned char)(r & 1);
            break; /* one bit a byte */
        case 3:
            p[i] = (unsigned char)"a photo of a * "[i % 15];
            break; /* a short period */
        case 4:
            p[i] = i < 32768 ? (unsigned char)(r >> 7) : p[i - 32768];
            break; /* matches at the largest distance */
        case 5:
            p[i] = i < 32769 ? (unsigned char)(r >> 7) : p[i - 32769];
            break; /* one too far */
        default:
            p[i] = (unsigned char)((r & r >> 8 & r >> 16) & 255);
            break; /* skewed */
        }
    }
}

static void deflate_round_trips(test_state *t) {
    static const size_t sizes[] = {0, 1, 2, 3, 4, 257, 258, 259, 4097, 32767, 32769, 65535, 65536, 65537, 140000};
    uint64_t seed = 3;
    for (int kind = 0; kind < 7; kind++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t n = sizes[i], len = 0, used = 0, got = 0;
            unsigned char *p = malloc(n + 1), *q = malloc(n + 1), *z = NULL;
            tn_err err = {0, ""};
            if (!p || !q) abort();
            make_data(p, n, kind, &seed);
            CHECK(t, nn_zlib_deflate(p, n, &z, &len, &err) == 0);
            CHECKF(t, len <= n + n / 2048 + 64, "kind %d: %zu bytes became %zu", kind, n, len);
            if (n == 140000 && (kind == 1 || kind == 3))
                CHECKF(t, len < 400, "kind %d: %zu bytes became %zu", kind, n, len);
            if (n == 140000 && kind == 2) CHECKF(t, len < n / 6, "one bit a byte: %zu bytes became %zu", n, len);
            if (n == 140000 && kind == 4) CHECKF(t, len < 40000, "distance 32768: %zu bytes became %zu", n, len);
            int rc = nn_zlib_inflate(z, len, q, n, &used, &got, &err);
            CHECKF(t, rc == 0 && used == len && got == n && memcmp(p, q, n) == 0, "kind %d, %zu bytes: %s", kind, n,
                   err.msg);
            if (n) CHECKF(t, nn_zlib_inflate(z, len, q, n - 1, &used, &got, &err) == -1, "one byte of room too few");
            unsigned char *grown = NULL;
            rc = nn_zlib_inflate_alloc(z, len, n, &grown, &got, &err);
            CHECKF(t, rc == 0 && got == n && memcmp(p, grown, n) == 0 && grown[n] == 0, "kind %d, %zu bytes, allocated",
                   kind, n);
            if (rc == 0) free(grown);
            if (n) CHECK(t, nn_zlib_inflate_alloc(z, len, n - 1, &grown, &got, &err) == -1 && err.code == TN_ENOMEM);
            free(p), free(q), free(z);
        }
    }
    CHECK(t, nn_crc32(NN_CRC32_INIT, (const unsigned char *)"123456789", 9) == 0xcbf43926u);
    CHECK(t, nn_adler32(NN_ADLER32_INIT, (const unsigned char *)"Wikipedia", 9) == 0x11e60398u);
}

void test_main(test_state *t) {
    if (test_section(t, "bad streams")) bad_streams(t);
    if (test_section(t, "deflate round trips")) deflate_round_trips(t);
}
