/* The generator against PyTorch 1.13's own draws (testdata/golden/rng), against published vectors, and its saved state.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/fma.h"
#include "tensor/io/bytes.h"
#include "tensor/rng.h"
#include "tests/test.h"

/* ---- goldens: a safetensors file read by hand, so that this test leans on nothing but the generator ---- */

typedef struct golden {
    unsigned char *file, *data;
    char *header;
    size_t len;
} golden;

static bool golden_open(golden *g, const char *path) {
    g->file = test_read(path, &g->len);
    if (!g->file || g->len < 8) return false;
    uint64_t n = tn_le64(g->file);
    if (n > g->len - 8) return false;
    g->data = g->file + 8 + n;
    g->header = malloc((size_t)n + 1);
    if (!g->header) return false;
    memcpy(g->header, g->file + 8, (size_t)n);
    g->header[n] = '\0';
    return true;
}

/* The bytes of a tensor, NULL where it is absent or not `bytes` long. */
static const unsigned char *golden_bytes(const golden *g, const char *name, size_t bytes) {
    char key[72];
    unsigned long from = 0, to = 0;
    snprintf(key, sizeof key, "\"%s\"", name);
    const char *p = strstr(g->header, key);
    p = p ? strstr(p, "data_offsets") : NULL;
    if (!p || sscanf(p, "data_offsets\": [%lu, %lu]", &from, &to) != 2) return NULL;
    size_t room = g->len - (size_t)(g->data - g->file);
    return to <= room && from <= to && to - from == bytes ? g->data + from : NULL;
}

static int differing32(const float *x, const unsigned char *want, size_t n) {
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        bad += u != tn_le32(want + 4 * i);
    }
    return bad;
}

static int differing64(const void *x, const unsigned char *want, size_t n) {
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t u;
        memcpy(&u, (const unsigned char *)x + 8 * i, 8);
        bad += u != tn_le64(want + 8 * i);
    }
    return bad;
}

static float x32[16384];
static double x64[64];
static int64_t xi[64];

/* Draws n numbers of `kind` and compares them bit by bit with tensor seedSEED.ID.KINDn.... */
static void draw(test_state *t, const golden *gold, tn_rng *g, const char *seed, const char *id, const char *kind,
                 size_t n, const char *suffix) {
    char name[64];
    int bad;
    snprintf(name, sizeof name, "seed%s.%s.%s%lu%s", seed, id, kind, (unsigned long)n, suffix);
    bool f64 = !strcmp(suffix, "_f64"), perm = !strcmp(kind, "randperm"), ints = perm || !strcmp(kind, "randint1000x");
    const unsigned char *want = golden_bytes(gold, name, n * (f64 || ints ? 8 : 4));
    if (!CHECKF(t, want != NULL, "%s: missing or of another size", name)) return;
    if (f64) {
        tn_rng_randn_f64(g, x64, n);
        bad = differing64(x64, want, n);
    } else if (ints) {
        if (perm) tn_rng_randperm(g, xi, (int64_t)n);
        for (size_t i = 0; i < n && !perm; i++) xi[i] = tn_rng_randint(g, 1000);
        bad = differing64(xi, want, n);
    } else {
        if (!strcmp(kind, "randn"))
            tn_rng_randn(g, x32, n);
        else
            tn_rng_rand(g, x32, n);
        bad = differing32(x32, want, n);
    }
    CHECKF(t, bad == 0, "%s: %d of %lu numbers differ from PyTorch's", name, bad, (unsigned long)n);
}

static void goldens(test_state *t) {
    static const struct {
        const char *name;
        uint64_t value;
    } seeds[] = {{"0", 0}, {"42", 42}, {"137", 137}, {"4294967301", 4294967301u}};
    static const size_t sizes[] = {1, 7, 15, 16, 17, 31, 33, 100, 4096, 16384, 5, 16};
    static const struct {
        const char *id, *kind;
        size_t n;
        const char *suffix;
    } mixed[] = {{"a", "rand", 33, ""},     {"b", "randint1000x", 40, ""}, {"c", "randn", 5, ""},
                 {"d", "randn", 5, ""},     {"e", "rand", 1, ""},          {"f", "randn", 16, ""},
                 {"g", "randperm", 37, ""}, {"h", "randn", 7, "_f64"},     {"i", "randn", 20, "_f64"}};
    golden gold = {0};
    bool open = golden_open(&gold, test_data("golden/rng/torch_cpu.safetensors"));
    CHECK(t, open);
    for (size_t s = 0; open && s < sizeof seeds / sizeof *seeds; s++) {
        tn_rng g;
        char id[8];
        tn_rng_seed(&g, seeds[s].value);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            snprintf(id, sizeof id, "%lu", (unsigned long)i);
            draw(t, &gold, &g, seeds[s].name, id, "randn", sizes[i], "");
        }
        tn_rng_seed(&g, seeds[s].value);
        for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++)
            draw(t, &gold, &g, seeds[s].name, mixed[i].id, mixed[i].kind, mixed[i].n, mixed[i].suffix);
    }
    free(gold.header);
    free(gold.file);
}

/* The engine's published test values, and normals as PyTorch users printed them. */
static void published(test_state *t) {
    static const uint32_t words[][5] = {{0, 0x8c7f0aac, 0x97c4aa2f, 0xb716a675, 0xd821ccc0},
                                        {5489, 3499211612u, 581869302u, 3890346734u, 3586334585u},
                                        {137, 4053805790u, 2173880614u, 380293709u, 1237255315u}};
    static const float block[16] = {-1.1258f, -1.1524f, -0.2506f, -0.4339f, 0.8487f, 0.6920f, -0.3160f, -2.1152f,
                                    0.3223f,  -1.2633f, 0.3500f,  0.3081f,  0.1198f, 1.2377f, 1.1168f,  -0.2473f};
    static const float serial[8] = {1.5410f, -0.2934f, -2.1788f, 0.5684f, -1.0845f, -1.3986f, 0.4033f, 0.8380f};
    tn_rng g;
    for (size_t i = 0; i < 3; i++) {
        tn_rng_seed(&g, words[i][0]);
        for (size_t j = 1; j < 5; j++) CHECK(t, tn_rng_u32(&g) == words[i][j]);
    }
    tn_rng_seed(&g, 5489); /* the C++ standard (26.5.5) gives the ten thousandth word */
    for (int i = 1; i < 10000; i++) tn_rng_u32(&g);
    CHECK(t, tn_rng_u32(&g) == 4123659995u);
    tn_rng_seed(&g, 0);
    tn_rng_randn(&g, x32, 16);
    for (int i = 0; i < 16; i++) CHECKF(t, fabsf(x32[i] - block[i]) < 6e-5f, "randn(16)[%d] = %g", i, x32[i]);
    tn_rng_seed(&g, 0);
    tn_rng_randn(&g, x32, 7);
    tn_rng_randn(&g, x32 + 7, 1); /* the normal that waited */
    for (int i = 0; i < 8; i++) CHECKF(t, fabsf(x32[i] - serial[i]) < 6e-5f, "randn(7)[%d] = %g", i, x32[i]);
}

static void state(test_state *t) {
    static unsigned char saved[TN_RNG_BYTES], again[TN_RNG_BYTES];
    static float want[100];
    tn_err e = {0};
    tn_rng g, h;
    for (size_t used = 0; used < 700; used += 33) { /* at many positions, with and without a waiting normal */
        tn_rng_seed(&g, used);
        tn_rng_rand(&g, x32, used);
        tn_rng_randn(&g, x32, used % 2 + 1);
        tn_rng_save(&g, saved);
        tn_rng_randn(&g, want, 3);
        tn_rng_randn(&g, want + 3, 97);
        memset(&h, 0xff, sizeof h);
        CHECK(t, tn_rng_load(&h, saved, &e) == 0);
        tn_rng_save(&h, again);
        CHECK(t, memcmp(saved, again, sizeof saved) == 0);
        tn_rng_randn(&h, x32, 3);
        tn_rng_randn(&h, x32 + 3, 97);
        CHECK(t, memcmp(x32, want, sizeof want) == 0);
    }
    static const struct {
        size_t at;
        uint32_t word;
    } damage[] = {{2496, 625},         {2496, 0xffffffffu}, {2500, 2},
                  {2508, 0x7ff80000u}, {2508, 0x7ff00000u}, {2508, 0x40300000u}};
    tn_rng_seed(&h, 9);
    tn_rng before = h;
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        memcpy(again, saved, sizeof saved);
        tn_put_le32(again + damage[i].at, damage[i].word);
        CHECK(t, tn_rng_load(&h, again, &e) == -1 && e.code == TN_EINPUT && strstr(e.msg, "random state"));
    }
    memset(again, 0, sizeof again);
    CHECK(t, tn_rng_load(&h, again, &e) == -1 && e.code == TN_EINPUT);
    CHECK(t, memcmp(&h, &before, sizeof h) == 0); /* refused bytes leave the generator as it was */
}

static void integers(test_state *t) {
    static int64_t p[1000];
    static bool seen[1000];
    tn_rng g;
    tn_rng_seed(&g, 3);
    for (int64_t n = 0; n <= 1000; n += n < 4 ? 1 : 332) {
        memset(seen, 0, sizeof seen);
        tn_rng_randperm(&g, p, n);
        int64_t count = 0;
        for (int64_t i = 0; i < n; i++)
            if (p[i] >= 0 && p[i] < n && !seen[p[i]]) seen[p[i]] = true, count++;
        CHECK(t, count == n);
    }
    /* torch.manual_seed(5); torch.randint(0, 1 << 40, (2,)), then (0, 1 << 32): both take 64 bits */
    static const int64_t bounds[4] = {INT64_C(1) << 40, INT64_C(1) << 40, INT64_C(1) << 32, 10};
    static const int64_t want[4] = {INT64_C(425438759118), INT64_C(1030067709629), 1562238070, 2};
    tn_rng_seed(&g, 5);
    for (int i = 0; i < 4; i++) CHECK(t, tn_rng_randint(&g, bounds[i]) == want[i]);
}

/* The emulated multiply-add against the C library's, including rounding to subnormals and cancellation. */
static void fma_emulation(test_state *t) {
    tn_rng g;
    int bad = 0;
    tn_rng_seed(&g, 1);
    for (int i = 0; i < 2000000; i++) {
        uint32_t u[3];
        float v[3];
        for (int j = 0; j < 3; j++) u[j] = tn_rng_u32(&g);
        if (i % 4) { /* comparable exponents, so that sums cancel; every second pair near the smallest numbers */
            uint32_t base = i % 2 ? 1u << 23 : 100u << 23;
            u[0] = (u[0] & 0x807fffffu) + (i % 2 ? 64u << 23 : base);
            u[1] = (u[1] & 0x83ffffffu) + (i % 2 ? 60u << 23 : base);
            u[2] = (u[2] & 0x80ffffffu) + (i % 2 ? (u[2] >> 24 & 1) << 23 : 73u << 23);
        }
        memcpy(v, u, sizeof v);
        float got = tn_fmaf(v[0], v[1], v[2]), want = fmaf(v[0], v[1], v[2]);
        bad += memcmp(&got, &want, sizeof got) != 0 && (got == got || want == want);
    }
    CHECKF(t, bad == 0, "%d of 2000000 differ from fmaf", bad);
    volatile float inf = INFINITY, zero = 0, big = 3e38f;
    CHECK(t, tn_fmaf(big, 2, -inf) == -inf && tn_fmaf(big, 10, 1) == inf);
    CHECK(t, tn_fmaf(inf, zero, 1) != tn_fmaf(inf, zero, 1) && signbit(tn_fmaf(-zero, 1, -zero)));
}

void test_main(test_state *t) {
    if (test_section(t, "goldens")) goldens(t);
    if (test_section(t, "published")) published(t);
    if (test_section(t, "state")) state(t);
    if (test_section(t, "integers")) integers(t);
    if (test_section(t, "fma")) fma_emulation(t);
}
