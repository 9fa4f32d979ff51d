/* PNG and PPM: pictures written by other programs, everything that may be wrong with a file, and round trips. */
#include "nn/image/checksum.h"
#include "nn/image/deflate.h"
#include "nn/image/image.h"
#include "nn/image/png.h"
#include "tensor/io/bytes.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- helpers ---- */

static uint64_t fnv(const unsigned char *p, size_t n) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* A file under construction. */
typedef struct file {
    unsigned char *p;
    size_t n;
} file;

static void add(file *f, const void *data, size_t n) {
    f->p = realloc(f->p, f->n + n + 1);
    if (!f->p) abort();
    if (n) memcpy(f->p + f->n, data, n);
    f->n += n;
}

static void add_chunk(file *f, const char *type, const void *data, size_t n) {
    unsigned char word[4];
    size_t start = f->n + 4;
    tn_put_be32(word, (uint32_t)n);
    add(f, word, 4);
    add(f, type, 4);
    add(f, data, n);
    tn_put_be32(word, nn_crc32(NN_CRC32_INIT, f->p + start, n + 4));
    add(f, word, 4);
}

static void add_header(file *f, uint32_t w, uint32_t h, int depth, int colour, int interlace) {
    unsigned char d[13] = {0};
    tn_put_be32(d, w), tn_put_be32(d + 4, h);
    d[8] = (unsigned char)depth, d[9] = (unsigned char)colour, d[12] = (unsigned char)interlace;
    add(f, "\x89PNG\r\n\x1a\n", 8);
    add_chunk(f, "IHDR", d, 13);
}

/* IDAT with the deflated rows, whose zlib stream loses `cut` bytes or gains zeros. */
static void add_rows(file *f, const void *rows, size_t n, int cut) {
    unsigned char *z = NULL;
    size_t len = 0;
    if (nn_zlib_deflate(rows, n, &z, &len, NULL)) abort();
    file d = {NULL, 0};
    add(&d, z, len);
    if (cut < 0) add(&d, "\0\0\0\0\0\0\0\0", (size_t)-cut);
    add_chunk(f, "IDAT", d.p, cut > 0 ? d.n - (size_t)cut : d.n);
    free(d.p);
    free(z);
}

/* The file must be refused with that code and a message that contains `part`. Frees it. */
static void refuse(test_state *t, file *f, int code, const char *part, int line) {
    nn_image im = {7, 7, NULL};
    tn_err err = {0, ""};
    int rc = nn_image_decode(f->p, f->n, "x.png", &im, &err);
    test_check(t, rc == -1 && err.code == code && strstr(err.msg, part) && strstr(err.msg, "x.png") && im.width == 7,
               __FILE__, line, "expected code %d and \"%s\", got %d, code %d: %s", code, part, rc, err.code, err.msg);
    if (rc == 0) nn_image_free(&im);
    free(f->p);
    *f = (file){NULL, 0};
}
#define REFUSE(f, code, part) refuse(t, &(f), code, part, __LINE__)

/* ---- pictures of other programs ---- */

static void corpus(test_state *t) {
    FILE *list = fopen(test_data("png/expected.txt"), "r");
    if (!CHECK(t, list != NULL)) return;
    char name[100], path[200];
    long w, h;
    unsigned long long want;
    int n = 0;
    while (fscanf(list, "%99s %ld %ld %llx", name, &w, &h, &want) == 4) {
        nn_image im = {0, 0, NULL};
        tn_err err = {0, ""};
        snprintf(path, sizeof path, "testdata/png/%s", name);
        n++;
        if (!CHECKF(t, nn_image_load(path, &im, &err) == 0, "%s", err.msg)) continue;
        if (CHECKF(t, im.width == w && im.height == h, "%s: size", name))
            CHECKF(t, fnv(im.rgb, (size_t)(w * h * 3)) == want, "%s: pixels", name);
        nn_image_free(&im);
    }
    fclose(list);
    CHECKF(t, n == 87, "87 pictures, got %d", n);
}

static void texts(test_state *t) {
    size_t len;
    unsigned char *p = test_read(test_data("png/texts.png"), &len);
    nn_texts x = {NULL, 0};
    tn_err err;
    if (!CHECK(t, p != NULL)) return;
    if (CHECKF(t, nn_png_texts(p, len, "texts", &x, &err) == 0, "%s", err.msg)) {
        CHECKF(t, x.n == 5, "5 texts, got %zu", x.n);
        const char *title = nn_texts_find(&x, "Title"), *par = nn_texts_find(&x, "parameters");
        const char *author = nn_texts_find(&x, "Author"), *comment = nn_texts_find(&x, "Comment");
        CHECK(t, title && strcmp(title, "caf\xc3\xa9") == 0);
        CHECK(t, par && strlen(par) == 40 * 22 && strncmp(par, "a photo of *\nSteps: 20a", 23) == 0);
        CHECK(t, author && strcmp(author, "H\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80") == 0);
        CHECK(t, comment && strlen(comment) == 200 && strncmp(comment, "\xcf\x89\xcf\x89", 4) == 0);
        CHECK(t, nn_texts_find(&x, "after") && !*nn_texts_find(&x, "after"));
        CHECK(t, !nn_texts_find(&x, "none"));
        nn_texts_free(&x);
    }
    free(p);
}

/* ---- bad files ---- */

static void bad_sizes(test_state *t) {
    static const struct {
        uint32_t w, h;
        int code;
        const char *part;
    } c[] = {{0, 0, TN_EINPUT, "0 x 0"},
             {5, 0, TN_EINPUT, "5 x 0"},
             {0x80000000u, 1, TN_EINPUT, "2147483648 x 1"},
             {0xffffffffu, 0xffffffffu, TN_EINPUT, "4294967295"},
             {65535, 65535, TN_ENOMEM, "limit"},
             {0x7fffffff, 0x7fffffff, TN_ENOMEM, "limit"},
             {10001, 10000, TN_ENOMEM, "limit"},
             {10000, 10000, TN_EINPUT, "only"}, /* within the limit, but the data cannot hold it */
             {400, 1, TN_EINPUT, "expected 1201"}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        file f = {NULL, 0};
        add_header(&f, c[i].w, c[i].h, 8, 2, 0);
        add_rows(&f, "\0\1\2\3", 4, 0);
        add_chunk(&f, "IEND", NULL, 0);
        REFUSE(f, c[i].code, c[i].part);
    }
}

static void bad_kinds(test_state *t) {
    int valid = 0;
    for (int colour = 0; colour < 9; colour++) {
        for (int depth = 0; depth < 20; depth++) {
            file f = {NULL, 0};
            add_header(&f, 1, 1, depth, colour, 0);
            if (colour == 2 || colour == 3) add_chunk(&f, "PLTE", "abc", 3);
            int channels = colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1;
            add_rows(&f, "\0\0\0\0\0\0\0\0\0", (size_t)(1 + (channels * depth + 7) / 8) % 10, 0);
            add_chunk(&f, "IEND", NULL, 0);
            nn_image im;
            if (nn_image_decode(f.p, f.n, "x", &im, NULL) == 0) valid++, nn_image_free(&im);
            free(f.p);
        }
    }
    CHECKF(t, valid == 15, "15 combinations of colour type and depth, got %d", valid);
    file f = {NULL, 0};
    add_header(&f, 1, 1, 8, 2, 2);
    REFUSE(f, TN_EUNSUPPORTED, "interlace 2");
}

/* Chunks by name, in the order given, of a 1 x 1 picture of a colour type; upper-case P etc. stand for whole chunks. */
static file assemble(const char *recipe, int colour) {
    file f = {NULL, 0};
    add_header(&f, 1, 1, 8, colour, 0);
    static const unsigned char zeros[9] = {0};
    size_t row = 1u + (colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1);
    for (; *recipe; recipe++) {
        switch (*recipe) {
        case 'D':
            add_rows(&f, zeros, row, 0);
            break; /* the picture */
        case 'd':
            add_chunk(&f, "IDAT", NULL, 0);
            break; /* an empty IDAT */
        case 'm':
            add_rows(&f, zeros, row + 1, 0);
            break; /* one byte of pixels too many */
        case 'l':
            add_rows(&f, zeros, row - 1, 0);
            break; /* one too few */
        case 'x':
            add_rows(&f, zeros, row, -3);
            break; /* bytes behind the stream */
        case 'c':
            add_rows(&f, zeros, row, 2);
            break; /* the stream is cut */
        case '5':
            add_rows(&f, "\5\0\0\0\0", row, 0);
            break; /* filter type 5 */
        case 'i':
            add_rows(&f, "\0\2", 2, 0);
            break; /* palette index 2 */
        case 'P':
            add_chunk(&f, "PLTE", "abcdef", 6);
            break; /* two colours */
        case 'p':
            add_chunk(&f, "PLTE", "abcd", 4);
            break; /* not a multiple of 3 */
        case 'o':
            add_chunk(&f, "PLTE", NULL, 0);
            break; /* none */
        case 'T':
            add_chunk(&f, "tRNS", "\1\2", 2);
            break; /* two bytes of transparency */
        case 't':
            add_chunk(&f, "tRNS", "\1\2\3", 3);
            break; /* three */
        case 'H':
            add_chunk(&f, "IHDR", "\0\0\0\1\0\0\0\1\10\2\0\0", 13);
            break;
        case 'U':
            add_chunk(&f, "ABcD", "x", 1);
            break; /* critical, unknown */
        case 'u':
            add_chunk(&f, "abCD", "x", 1);
            break; /* ancillary, unknown */
        case '1':
            add_chunk(&f, "ab1D", "x", 1);
            break; /* not a type */
        case 'E':
            add_chunk(&f, "IEND", NULL, 0);
            break;
        case 'e':
            add_chunk(&f, "IEND", "x", 1);
            break;
        case 'z':
            add(&f, "trailing bytes", 14);
            break;
        default:
            abort();
        }
    }
    return f;
}

static void bad_chunks(test_state *t) {
    static const struct {
        const char *recipe;
        int colour, code;
        const char *part;
    } c[] = {{"D", 2, TN_EINPUT, "IEND"},
             {"E", 2, TN_EINPUT, "no image data"},
             {"ddE", 2, TN_EINPUT, "no image data"},
             {"DuDE", 2, TN_EINPUT, "between"},
             {"DuxE", 2, TN_EINPUT, "between"},
             {"DPE", 2, TN_EINPUT, "PLTE"},
             {"PPDE", 3, TN_EINPUT, "PLTE"},
             {"DE", 3, TN_EINPUT, "no palette"},
             {"pDE", 3, TN_EINPUT, "palette of 4"},
             {"oDE", 3, TN_EINPUT, "palette of 0"},
             {"PDE", 0, TN_EINPUT, "grey"},
             {"PDE", 4, TN_EINPUT, "grey"},
             {"PiE", 3, TN_EINPUT, "colour 2"},
             {"TPDE", 3, TN_EINPUT, "PLTE"},
             {"PtDE", 3, TN_EINPUT, "tRNS"},
             {"PTTDE", 3, TN_EINPUT, "tRNS"},
             {"PDTE", 3, TN_EINPUT, "tRNS"},
             {"tDE", 0, TN_EINPUT, "tRNS"},
             {"TDE", 2, TN_EINPUT, "tRNS"},
             {"TDE", 4, TN_EINPUT, "alpha"},
             {"TDE", 6, TN_EINPUT, "alpha"},
             {"HDE", 2, TN_EINPUT, "two IHDR"},
             {"UDE", 2, TN_EUNSUPPORTED, "ABcD"},
             {"1DE", 2, TN_EINPUT, "type"},
             {"De", 2, TN_EINPUT, "IEND"},
             {"mE", 2, TN_EINPUT, "more than"},
             {"lE", 2, TN_EINPUT, "3 bytes of pixels, expected 4"},
             {"xE", 2, TN_EINPUT, "behind their end"},
             {"cE", 2, TN_EINPUT, "too early"},
             {"5E", 2, TN_EINPUT, "filter 5"},
             {"Dz", 2, TN_EINPUT, "claims"}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        file f = assemble(c[i].recipe, c[i].colour);
        REFUSE(f, c[i].code, c[i].part);
    }
    static const char *const fine[] = {"DE", "dDE", "DdE", "uDuE", "DEz", "PTDE", "PDE"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        file f = assemble(fine[i], i < 5 ? 2 : 3);
        nn_image im;
        tn_err err;
        if (CHECKF(t, nn_image_decode(f.p, f.n, "x", &im, &err) == 0, "%s: %s", fine[i], err.msg)) nn_image_free(&im);
        free(f.p);
    }
    file f = {NULL, 0};
    add(&f, "\x89PNG\r\n\x1a\n", 8);
    add_chunk(&f, "IDAT", "x", 1);
    REFUSE(f, TN_EINPUT, "expected IHDR");
    add(&f, "\x89PNG\n\x1a\n\0", 8);
    REFUSE(f, TN_EINPUT, "signature");
    add(&f, "\x89PNG\r\n\x1a\n", 8);
    add_chunk(&f, "CgBI", "x", 1);
    REFUSE(f, TN_EUNSUPPORTED, "Apple");
}

/* Every prefix and every single flipped bit of a good file is noticed: checksums cover all of it. */
static void damaged(test_state *t) {
    size_t len;
    unsigned char *p = test_read(test_data("png/texts.png"), &len);
    if (!CHECK(t, p != NULL)) return;
    nn_image im;
    nn_texts x;
    for (size_t n = 0; n < len; n++) {
        if (!CHECKF(t, nn_image_decode(p, n, "x", &im, NULL) == -1, "cut to %zu bytes", n)) nn_image_free(&im);
        if (!CHECKF(t, nn_png_texts(p, n, "x", &x, NULL) == -1, "cut to %zu bytes", n)) nn_texts_free(&x);
    }
    for (size_t bit = 0; bit < 8 * len; bit++) {
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (!CHECKF(t, nn_image_decode(p, len, "x", &im, NULL) == -1, "bit %zu flipped", bit)) nn_image_free(&im);
        p[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    free(p);
}

/* Compressed data changed at random, checksums of the chunks made right again: any result is fine that is not a crash,
 * and most must be refused, since Adler-32 remains. */
static void fuzzed(test_state *t) {
    static const char *const names[] = {"png/c2_08_n.png", "png/c3_04_i.png", "png/c6_16_n.png", "png/zlib_0.png"};
    uint64_t seed = 7;
    int accepted = 0;
    for (int i = 0; i < 4; i++) {
        size_t len;
        unsigned char *p = test_read(test_data(names[i]), &len);
        if (!CHECK(t, p != NULL)) return;
        size_t at = 8;
        while (memcmp(p + at + 4, "IDAT", 4) != 0) at += tn_be32(p + at) + 12;
        size_t n = tn_be32(p + at);
        for (int k = 0; k < 500; k++) {
            unsigned char *q = malloc(len);
            if (!q) abort();
            memcpy(q, p, len);
            for (int m = 0; m < 3; m++)
                q[at + 8 + (size_t)((test_rand(&seed) + 1) * 0.5f * (float)n)] ^= (unsigned char)(1 << (k & 7));
            tn_put_be32(q + at + 8 + n, nn_crc32(NN_CRC32_INIT, q + at + 4, n + 4));
            nn_image im;
            if (nn_image_decode(q, len, "x", &im, NULL) == 0) accepted++, nn_image_free(&im);
            free(q);
        }
        free(p);
    }
    CHECKF(t, accepted < 20, "%d of 2000 damaged streams accepted", accepted);
}

static void bad_texts(test_state *t) {
    size_t big = 40u << 20, len;
    unsigned char *zeros = calloc(big, 1), *z;
    if (!zeros || nn_zlib_deflate(zeros, big, &z, &len, NULL)) abort();
    free(zeros);
    static const struct {
        const char *type, *data;
        size_t n;
        const char *part;
    } c[] = {{"tEXt", "key without end", 15, "malformed"},
             {"tEXt", "\0x", 2, "malformed"},
             {"tEXt", "k\0a\0b", 5, "NUL"},
             {"zTXt", "k\0\0\x78\x9c????", 9, "compressed"},
             {"zTXt", "k\0\1\x78\x9c????", 9, "malformed"},
             {"zTXt", "k\0\0", 3, "too early"},
             {"zTXt", "k\0", 2, "malformed"},
             {"iTXt", "k\0\0\0\0\0\xff", 7, "UTF-8"},
             {"iTXt", "k\0\0\0\0\0\xed\xa0\x80", 9, "UTF-8"},
             {"iTXt", "k\0\0\0\0\0\xc0\x80", 8, "UTF-8"},
             {"iTXt", "k\0\0\0\0\0\xe2\x82", 8, "UTF-8"},
             {"iTXt", "k\0\2\0\0\0x", 7, "malformed"},
             {"iTXt", "k\0\0\0\0", 5, "malformed"},
             {"iTXt", "k\0\1\0\0\0\x78", 7, "too early"}};
    for (size_t i = 0; i <= sizeof c / sizeof *c; i++) {
        file f = {NULL, 0}, bomb = {NULL, 0};
        add_header(&f, 1, 1, 8, 2, 0);
        bool last = i == sizeof c / sizeof *c;
        if (last) {
            add(&bomb, "k\0\0", 3);
            add(&bomb, z, len);
            add_chunk(&f, "zTXt", bomb.p, bomb.n);
        } else {
            add_chunk(&f, c[i].type, c[i].data, c[i].n);
        }
        add_rows(&f, "\0\1\2\3", 4, 0);
        add_chunk(&f, "IEND", NULL, 0);
        nn_texts x = {NULL, 0};
        nn_image im;
        tn_err err = {0, ""};
        int rc = nn_png_texts(f.p, f.n, "x.png", &x, &err);
        CHECKF(t, rc == -1 && strstr(err.msg, last ? "more than" : c[i].part) && strstr(err.msg, "x.png"),
               "text %zu: %d %s", i, rc, err.msg);
        if (rc == 0) nn_texts_free(&x);
        if (CHECKF(t, nn_image_decode(f.p, f.n, "x", &im, &err) == 0, "the pixels are read all the same"))
            nn_image_free(&im);
        free(f.p), free(bomb.p);
    }
    free(z);
}

/* ---- writing ---- */

static void png_round_trips(test_state *t) {
    static const int64_t sizes[][2] = {{1, 1}, {1, 7}, {9, 1}, {16, 16}, {61, 43}, {200, 150}};
    static const nn_text notes[] = {{"parameters", "a photo of *\nSteps: 20"},
                                    {"caf\xc3\xa9", "\xc3\xbc\xc3\xbf"},
                                    {"big", "\xe2\x82\xac \xf0\x9f\x98\x80"},
                                    {"empty", ""}};
    uint64_t seed = 11;
    char path[600];
    snprintf(path, sizeof path, "%s/x.png", test_tmp("png"));
    for (size_t i = 0; i < 6; i++) {
        nn_image a, b;
        tn_err err = {0, ""};
        size_t len, len2, bytes;
        unsigned char *p = NULL, *p2 = NULL;
        if (nn_image_alloc(sizes[i][0], sizes[i][1], &a, &err)) abort();
        bytes = (size_t)(a.width * a.height * 3);
        for (size_t k = 0; k < bytes; k++)
            a.rgb[k] = (unsigned char)(i == 5 ? k / 300 + k % 3 * 40 : (size_t)((test_rand(&seed) + 1) * 127.9f));
        CHECKF(t, nn_png_write(path, &a, notes, 4, &err) == 0, "%s", err.msg);
        if (CHECKF(t, nn_image_load(path, &b, &err) == 0, "%s", err.msg)) {
            CHECK(t, a.width == b.width && a.height == b.height && memcmp(a.rgb, b.rgb, bytes) == 0);
            nn_image_free(&b);
        }
        CHECK(t, nn_png_encode(&a, notes, 4, &p, &len, &err) == 0);
        p2 = test_read(path, &len2);
        CHECKF(t, p2 && len == len2 && memcmp(p, p2, len) == 0, "the same bytes twice");
        if (i == 5) CHECKF(t, len < bytes / 40, "a gradient of %zu bytes became %zu", bytes, len);
        nn_texts x = {NULL, 0};
        if (CHECK(t, nn_png_texts(p, len, "x", &x, &err) == 0 && x.n == 4)) {
            for (int k = 0; k < 4; k++)
                CHECK(t, strcmp(x.item[k].key, notes[k].key) == 0 && strcmp(x.item[k].value, notes[k].value) == 0);
        }
        nn_texts_free(&x);
        nn_image_free(&a);
        free(p), free(p2);
    }
}

static void png_refuses_texts(test_state *t) {
    static const nn_text bad[] = {
        {"", "x"},
        {" a", "x"},
        {"a ", "x"},
        {"a  b", "x"},
        {"\xe2\x82\xac", "x"},
        {"a", "\xff"},
        {"a", "\xc3"},
        {"a", "\xed\xa0\x80"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890", "x"}};
    nn_image a;
    if (nn_image_alloc(1, 1, &a, NULL)) abort();
    memset(a.rgb, 0, 3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        unsigned char *p = NULL;
        size_t len;
        tn_err err = {0, ""};
        int rc = nn_png_encode(&a, bad + i, 1, &p, &len, &err);
        CHECKF(t, rc == -1 && err.code == TN_EINPUT, "text %zu is refused", i);
        if (rc == 0) free(p);
    }
    tn_err err = {0, ""};
    CHECK(t, nn_png_write("build/no such folder/x.png", &a, NULL, 0, &err) == -1 && err.code == TN_EIO);
    nn_image_free(&a);
}

/* ---- PPM and other formats ---- */

static void ppm(test_state *t) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *rgb;
        size_t w, h;
    } good[] = {{"P6 2 1 255\n\1\2\3\4\5\6", 17, "\1\2\3\4\5\6", 2, 1},
                {"P5\n#a comment\n1 # more\n 2\t15\r\x0f\1", 31, "\xff\xff\xff\x11\x11\x11", 1, 2},
                {"P5 1 1 1 \1 trailing", 19, "\xff\xff\xff", 1, 1},
                {"P5 3 1 2\n\0\1\2", 12, "\0\0\0\x80\x80\x80\xff\xff\xff", 3, 1}, /* 127.5 to the even 128 */
                {"P5 1 1 6\n\1", 10, "\x2a\x2a\x2a", 1, 1},                       /* 42.5 to the even 42 */
                {"P6 1 1 65535\n\0\x80\xff\xff\x80\0", 19, "\0\xff\x80", 1, 1},   /* 0.498 down, 128.5 - up */
                {"P5 1 1 256\n\1\0", 13, "\xff\xff\xff", 1, 1}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        nn_image im;
        tn_err err = {0, ""};
        if (!CHECKF(t, nn_image_decode((const unsigned char *)good[i].bytes, good[i].n, "x", &im, &err) == 0, "%s",
                    err.msg))
            continue;
        size_t n = good[i].w * good[i].h * 3;
        CHECKF(t,
               im.width == (int64_t)good[i].w && im.height == (int64_t)good[i].h && memcmp(im.rgb, good[i].rgb, n) == 0,
               "PPM %zu", i);
        nn_image_free(&im);
    }
    static const struct {
        const char *bytes;
        int code;
        const char *part;
    } bad[] = {{"P6", TN_EINPUT, "binary"},
               {"P6 ", TN_EINPUT, "header"},
               {"P6 1 1", TN_EINPUT, "header"},
               {"P6 1 1 255", TN_EINPUT, "header"},
               {"P6 1 1 255\nab", TN_EINPUT, "expected 3 bytes"},
               {"P6 1 1 0\nabc", TN_EINPUT, "header"},
               {"P6 1 1 65536\nabcdef", TN_EINPUT, "header"},
               {"P6 -1 1 255\nabc", TN_EINPUT, "header"},
               {"P6 0 1 255\nabc", TN_EINPUT, "0 x 1"},
               {"P6 1 # 1 255 abc", TN_EINPUT, "header"},
               {"P6 99999999999999999999 1 255\nabc", TN_EINPUT, "header"},
               {"P6 65535 65535 255\nabc", TN_EINPUT, "million"},
               {"P5 1 1 9\n:", TN_EINPUT, "maximum of 9"},
               {"P3 1 1 255\n1 2 3", TN_EUNSUPPORTED, "plain PPM"},
               {"\xff\xd8\xff\xe0 JFIF", TN_EUNSUPPORTED, "JPEG (hint: convert"},
               {"GIF89a...", TN_EUNSUPPORTED, "GIF"},
               {"RIFF1234WEBPVP8 ", TN_EUNSUPPORTED, "WebP"},
               {"1234ftypheic", TN_EUNSUPPORTED, "HEIC"},
               {"1234ftypavif", TN_EUNSUPPORTED, "AVIF"},
               {"BM1234", TN_EUNSUPPORTED, "BMP"},
               {"version https://git-lfs.github.com", TN_EUNSUPPORTED, "git lfs pull"},
               {"<html>", TN_EUNSUPPORTED, "web page"},
               {"", TN_EINPUT, "empty"},
               {"hello", TN_EINPUT, "not a picture"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        file f = {NULL, 0};
        add(&f, bad[i].bytes, strlen(bad[i].bytes));
        REFUSE(f, bad[i].code, bad[i].part);
    }
    nn_image a, b;
    tn_err err = {0, ""};
    char path[600];
    snprintf(path, sizeof path, "%s/x.ppm", test_tmp("ppm"));
    if (nn_image_alloc(5, 3, &a, &err)) abort();
    for (int i = 0; i < 45; i++) a.rgb[i] = (unsigned char)(i * 5);
    CHECK(t, nn_ppm_write(path, &a, &err) == 0);
    if (CHECKF(t, nn_image_load(path, &b, &err) == 0, "%s", err.msg)) {
        CHECK(t, b.width == 5 && b.height == 3 && memcmp(a.rgb, b.rgb, 45) == 0);
        nn_image_free(&b);
    }
    nn_image_free(&a);
    CHECK(t, nn_image_load("testdata/png/none.png", &b, &err) == -1 && err.code == TN_EIO);
}

void test_main(test_state *t) {
    if (test_section(t, "corpus")) corpus(t);
    if (test_section(t, "texts")) texts(t);
    if (test_section(t, "bad sizes")) bad_sizes(t);
    if (test_section(t, "bad kinds")) bad_kinds(t);
    if (test_section(t, "bad chunks")) bad_chunks(t);
    if (test_section(t, "damaged")) damaged(t);
    if (test_section(t, "fuzzed")) fuzzed(t);
    if (test_section(t, "bad texts")) bad_texts(t);
    if (test_section(t, "png round trips")) png_round_trips(t);
    if (test_section(t, "png refuses texts")) png_refuses_texts(t);
    if (test_section(t, "ppm")) ppm(t);
}
