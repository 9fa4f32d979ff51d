/* Elementary functions: doubles against the C library's long doubles, sixteen lanes against its doubles on every
 * instruction set, and both against recorded hashes, which must be the same on every machine. */
#include <float.h>
#include <stdlib.h>

#include "tensor/dmath.h"
#include "tests/test.h"
#include "tests/unary_cases.h"

/* FNV-1a over the bits of results; any NaN counts as the same one. */
static uint64_t hash_bytes(uint64_t h, uint64_t bits, int n) {
    for (int i = 0; i < n; i++) h = (h ^ (bits >> 8 * i & 255)) * UINT64_C(0x100000001b3);
    return h;
}
static uint64_t hash_double(uint64_t h, double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return hash_bytes(h, x != x ? 0 : u, 8);
}
static uint64_t hash_float(uint64_t h, float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return hash_bytes(h, x != x ? 0 : u, 4);
}
#define HASH_START UINT64_C(0xcbf29ce484222325)

/* ---- tensor/dmath.h ---- */

static uint64_t seed = 1;
/* Uniform in [a, b), all 53 bits used. */
static double between(double a, double b) {
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return a + (b - a) * (double)(seed * UINT64_C(2685821657736338717) >> 11) * 0x1p-53;
}

static double got_pow(double x) { return tn_pow(x, 2.75); }
static long double want_pow(long double x) { return powl(x, 2.75L); }
static double got_decay(double t) { return tn_pow(0.999, t); } /* 1 - beta^t of Adam */
static long double want_decay(long double t) { return powl(0.999, t); }

static const struct {
    const char *name;
    double (*got)(double);
    long double (*want)(long double);
    double from, to;
    double bar;    /* ulp */
    uint64_t hash; /* of 20000 results */
} dcases[] = {
    {"exp", tn_exp, expl, -708, 709.7, 0.56, UINT64_C(0x2554ebc59a98ad7e)},
    {"exp", tn_exp, expl, -1, 1, 0.56, UINT64_C(0xcd8df696e8adbc29)},
    {"exp subnormal", tn_exp, expl, -745, -708.5, 0.77, UINT64_C(0xff22853fd88e30e3)},
    {"log", tn_log, logl, 0, 1e300, 0.51, UINT64_C(0xab7a6202f829e525)},
    {"log", tn_log, logl, 0.5, 2, 0.51, UINT64_C(0x7b48439bf5f79790)},
    {"log1p", tn_log1p, log1pl, -1, 1, 0.51, UINT64_C(0x3a396e2865a23173)},
    {"log1p", tn_log1p, log1pl, -1e-9, 1e-9, 0.51, UINT64_C(0x25ba3372bbba0c28)},
    {"sin", tn_sin, sinl, -7, 7, 0.56, UINT64_C(0x14e637731d5658b4)},
    {"sin", tn_sin, sinl, -1e6, 1e6, 0.56, UINT64_C(0x56f3aa2419c778ea)},
    {"cos", tn_cos, cosl, -7, 7, 0.56, UINT64_C(0xabeabc03b46d89cd)},
    {"cos", tn_cos, cosl, -0x1p40, 0x1p40, 0.56, UINT64_C(0xc93b2aec32befb51)},
    {"pow", got_pow, want_pow, 0, 1e60, 0.6, UINT64_C(0x70b7b7642c72e6a6)},
    {"pow", got_decay, want_decay, 0, 100000, 0.6, UINT64_C(0xdc8503642a828ac4)},
    {"asin", tn_asin, asinl, -1, 1, 2.3, UINT64_C(0xcd461fcd3a520355)},
    {"asin", tn_asin, asinl, -1e-3, 1e-3, 1.1, UINT64_C(0xd1c9285827e9e53c)},
};

static double dulp(double got, long double want) {
    int e;
    frexp((double)want, &e);
    return (double)(fabsl((long double)got - want) / ldexpl(1, e < -1021 ? -1074 : e - 53));
}

static void doubles(test_state *t) {
    double slack = LDBL_MANT_DIG >= 64 ? 0.001 : 0.75; /* the reference is itself rounded */
    for (size_t i = 0; i < sizeof dcases / sizeof *dcases; i++) {
        double worst = 0, at = 0;
        uint64_t h = HASH_START;
        seed = 1 + i;
        for (int j = 0; j < 100000; j++) {
            double x = between(dcases[i].from, dcases[i].to), y = dcases[i].got(x), e = dulp(y, dcases[i].want(x));
            if (e > worst) worst = e, at = x;
            if (j < 20000) h = hash_double(h, y);
        }
        CHECKF(t, worst <= dcases[i].bar + slack, "%s(%a): %.3f ulp, allowed %.3f", dcases[i].name, at, worst,
               dcases[i].bar);
        CHECKF(t, h == dcases[i].hash, "%s in [%g, %g]: hash 0x%016llx, recorded 0x%016llx", dcases[i].name,
               dcases[i].from, dcases[i].to, (unsigned long long)h, (unsigned long long)dcases[i].hash);
    }
}

static void double_specials(test_state *t) {
    double inf = INFINITY, nan_ = NAN, tiny = 0x1p-1074;
    CHECK(t, tn_exp(0) == 1 && tn_exp(-inf) == 0 && tn_exp(inf) == inf && tn_exp(710) == inf && tn_exp(-746) == 0);
    CHECK(t, tn_exp(-745.13) == tiny && tn_exp(-745.14) == 0 && tn_exp(709.78) < inf && tn_exp(709.79) == inf);
    CHECK(t, tn_log(1) == 0 && tn_log(0) == -inf && tn_log(inf) == inf && isnan(tn_log(-1)) && tn_log(tiny) < -744);
    CHECK(t, tn_log1p(0) == 0 && signbit(tn_log1p(-0.0)) && tn_log1p(-1) == -inf && isnan(tn_log1p(-2)));
    CHECK(t, tn_log1p(tiny) == tiny && tn_log1p(inf) == inf);
    CHECK(t, tn_sin(0) == 0 && signbit(tn_sin(-0.0)) && tn_sin(tiny) == tiny && tn_cos(0) == 1);
    CHECK(t, isnan(tn_sin(inf)) && isnan(tn_cos(-inf)) && isnan(tn_sin(0x1.8p40)) && !isnan(tn_cos(-0x1p40)));
    CHECK(t, tn_sin(0x1.921fb54442d18p+1) == 0x1.1a62633145c07p-53); /* pi rounded: what was rounded away */
    CHECK(t, tn_asin(0) == 0 && signbit(tn_asin(-0.0)) && tn_asin(tiny) == tiny && isnan(tn_asin(1.0000000000000002)));
    CHECK(t, tn_asin(1) == 0x1.921fb54442d18p+0 && tn_asin(-1) == -0x1.921fb54442d18p+0);
    CHECK(t, tn_pow(0, 2) == 0 && tn_pow(0, -2) == inf && tn_pow(0, 0) == 1 && tn_pow(inf, -1) == 0 &&
                 tn_pow(nan_, 0) == 1);
    CHECK(t, tn_pow(1, inf) == 1 && tn_pow(0.5, inf) == 0 && tn_pow(2, inf) == inf && tn_pow(2, -1e300) == 0);
    CHECK(t, isnan(tn_pow(-1, 2)) && tn_pow(2, 10) == 1024 && tn_pow(2, -1074) == tiny && tn_pow(9, 0.5) == 3);
    CHECK(t, isnan(tn_exp(nan_)) && isnan(tn_log(nan_)) && isnan(tn_log1p(nan_)) && isnan(tn_sin(nan_)) &&
                 isnan(tn_cos(nan_)) && isnan(tn_asin(nan_)) && isnan(tn_pow(nan_, 1)) && isnan(tn_pow(1.5, nan_)));
}

/* ---- tensor/kernel/vmath.h through the kernels ---- */

static const tn_kernels *sets[4];
static int n_sets;

static void find_sets(void) {
    static const char *names[] = {"scalar", "avx2", "avx512", "neon"};
    int known;
    for (int i = 0; i < 4; i++)
        if ((sets[n_sets] = tn_kernels_named(names[i], &known))) n_sets++;
}

enum { STRIDE = 4099, N = (int)((UINT64_C(1) << 32) / STRIDE) + 1, N_SPECIAL = 16 };
static float x[N + N_SPECIAL], y[N + N_SPECIAL], z[N + N_SPECIAL], ones[N + N_SPECIAL];

/* Every 4099th float and those where something happens. */
static void fill_inputs(void) {
    static const float special[N_SPECIAL] = {0.0f,     -0.0f,      INFINITY,  -INFINITY,         NAN,    FLT_MAX,
                                             -FLT_MAX, 0x1p-149f,  0x1p-126f, -0x1.fffffcp-127f, 0.625f, 1.0f,
                                             -1.0f,    25735.926f, 88.72283f, -103.97208f};
    for (int64_t i = 0; i < N; i++) {
        uint32_t u = (uint32_t)(i * STRIDE);
        memcpy(&x[i], &u, sizeof u);
    }
    memcpy(x + N, special, sizeof special);
    for (int i = 0; i < N + N_SPECIAL; i++) ones[i] = 1;
}

static const uint64_t hashes[N_UNARY_CASES] = {
    UINT64_C(0x48a15e5ac438b011), UINT64_C(0xcaba7e6626e11d46), UINT64_C(0x0cfad3d8cf86ef61),
    UINT64_C(0xebdedabff8f6a83c), UINT64_C(0xbec40ccfac4fed46), UINT64_C(0xe67d56258b8f0303),
    UINT64_C(0xf40bc757b10ef0ae), UINT64_C(0x98512dcc88013e8b), UINT64_C(0x23ee547549e053e3),
    UINT64_C(0xa6016444f5a2856a), UINT64_C(0x106be101e55d5708), UINT64_C(0x0a1195ab98fd2931),
    UINT64_C(0xd99ea23c56e8c795), UINT64_C(0xe0b820e2e1fb880d)};

static void strided(test_state *t) {
    for (int c = 0; c < N_UNARY_CASES; c++) {
        const unary_case *u = &unary_cases[c];
        double worst = 0;
        float at = 0;
        uint64_t h = HASH_START;
        unary_run(sets[0], u, N + N_SPECIAL, x, ones, y);
        for (int i = 0; i < N + N_SPECIAL; i++) {
            double scale, want = u->ref((double)x[i], &scale), e = ulp_error(y[i], want, scale);
            if (e > worst) worst = e, at = x[i];
            h = hash_float(h, y[i]);
        }
        CHECKF(t, worst <= u->bar, "%s(%a): %.3f ulp, allowed %.2f", u->name, (double)at, worst, u->bar);
        CHECKF(t, h == hashes[c], "%s: hash 0x%016llx, recorded 0x%016llx", u->name, (unsigned long long)h,
               (unsigned long long)hashes[c]);
        for (int k = 1; k < n_sets; k++) {
            int bad = 0;
            unary_run(sets[k], u, N + N_SPECIAL, x, ones, z);
            for (int i = 0; i < N + N_SPECIAL; i++) bad += !same_float(y[i], z[i]);
            CHECKF(t, bad == 0, "%s: %s and %s differ in %d of %d", u->name, sets[0]->name, sets[k]->name, bad,
                   N + N_SPECIAL);
        }
    }
}

/* Short arrays: the same bits as inside a long one, nothing written behind the end, the result may replace the input.
 */
static void tails(test_state *t) {
    float in[64], dy[64], full[64], part[64];
    uint64_t s = 7;
    for (int i = 0; i < 64; i++) in[i] = 8 * test_rand(&s), dy[i] = test_rand(&s);
    for (int k = 0; k < n_sets; k++) {
        for (int c = 0; c < N_UNARY_CASES; c++) {
            const unary_case *u = &unary_cases[c];
            unary_run(sets[k], u, 64, in, dy, full);
            int bad = 0;
            for (int n = 0; n <= 49; n++) {
                for (int i = 0; i < 64; i++) part[i] = -77;
                unary_run(sets[k], u, n, in, dy, part);
                for (int i = 0; i < n; i++) bad += !same_float(part[i], full[i]);
                for (int i = n; i < 64; i++) bad += part[i] != -77;
                memcpy(part, in, sizeof part);
                unary_run(sets[k], u, n, part, dy, part);
                for (int i = 0; i < n; i++) bad += !same_float(part[i], full[i]);
                for (int i = n; i < 64; i++) bad += part[i] != in[i];
            }
            CHECKF(t, bad == 0, "%s of short arrays on %s: %d wrong", u->name, sets[k]->name, bad);
        }
    }
}

/* Accumulating is adding the separate gradient, bit by bit. */
static void accumulate(test_state *t) {
    float in[37], dy[37], fresh[37], acc[37], old[37];
    uint64_t s = 11;
    for (int i = 0; i < 37; i++) in[i] = 4 * test_rand(&s), dy[i] = test_rand(&s), old[i] = test_rand(&s);
    for (int k = 0; k < n_sets; k++) {
        for (k_fn fn = K_SILU; fn <= K_SIGMOID; fn++) {
            int bad = 0;
            memcpy(acc, old, sizeof acc);
            sets[k]->unary_backward(fn, 37, in, dy, fresh, 0);
            sets[k]->unary_backward(fn, 37, in, dy, acc, 1);
            for (int i = 0; i < 37; i++) bad += acc[i] != old[i] + fresh[i];
            CHECKF(t, bad == 0, "function %d on %s: %d sums wrong", (int)fn, sets[k]->name, bad);
        }
    }
}

enum { ROWS = 3, COLS = 21 };

/* Against its definition, x gelu(gate) with x first, and against the separate kernels in every bit. */
static void geglu(test_state *t) {
    float in[ROWS * 2 * COLS], dy[ROWS * COLS], out[ROWS * COLS], dx[ROWS * 2 * COLS], acc[ROWS * 2 * COLS], g[COLS],
        dg[COLS];
    uint64_t s = 5;
    for (int i = 0; i < ROWS * 2 * COLS; i++) in[i] = 4 * test_rand(&s), acc[i] = 1;
    for (int i = 0; i < ROWS * COLS; i++) dy[i] = test_rand(&s);
    for (int k = 0; k < n_sets; k++) {
        int bad = 0;
        for (int i = 0; i < ROWS * 2 * COLS; i++) acc[i] = 1;
        sets[k]->geglu(ROWS, COLS, in, out);
        sets[k]->geglu_backward(ROWS, COLS, in, dy, dx, 0);
        sets[k]->geglu_backward(ROWS, COLS, in, dy, acc, 1);
        for (int r = 0; r < ROWS; r++) {
            const float *a = in + r * 2 * COLS, *b = a + COLS, *d = dy + r * COLS, *da = dx + r * 2 * COLS,
                        *db = da + COLS;
            sets[k]->unary(K_GELU, COLS, b, g);
            sets[k]->unary_backward(K_GELU, COLS, b, ones, dg, 0);
            for (int i = 0; i < COLS; i++) {
                double scale, want = (double)a[i] * want_gelu((double)b[i], &scale);
                bad += out[r * COLS + i] != a[i] * g[i] || ulp_error(out[r * COLS + i], want, want) > 6;
                bad += da[i] != d[i] * g[i] || db[i] != d[i] * a[i] * dg[i];
            }
        }
        for (int i = 0; i < ROWS * 2 * COLS; i++) bad += acc[i] != 1 + dx[i];
        CHECKF(t, bad == 0, "%s: %d wrong", sets[k]->name, bad);
    }
}

/* What no error in units in the last place shows: signs of zero, limits, NaN from infinity. */
static void limits(test_state *t) {
    static const float in[4] = {-0.0f, -INFINITY, INFINITY, NAN};
    float out[4];
    for (int k = 0; k < n_sets; k++) {
        for (k_fn fn = K_SILU; fn <= K_QUICK_GELU; fn++) {
            sets[k]->unary(fn, 4, in, out);
            CHECK(t, out[0] == 0 && out[1] == 0 && out[2] == in[2] && isnan(out[3]));
            sets[k]->unary_backward(fn, 4, in, ones, out, 0);
            CHECK(t, out[0] == 0.5f && out[1] == 0 && out[2] == 1 && isnan(out[3]));
        }
        sets[k]->unary(K_TANH, 4, in, out);
        CHECK(t, out[0] == 0 && signbit(out[0]) && out[1] == -1 && out[2] == 1 && isnan(out[3]));
        sets[k]->unary(K_ERF, 4, in, out);
        CHECK(t, out[0] == 0 && signbit(out[0]) && out[1] == -1 && out[2] == 1 && isnan(out[3]));
    }
}

void test_main(test_state *t) {
    find_sets();
    fill_inputs();
    if (test_section(t, "doubles")) doubles(t);
    if (test_section(t, "double_specials")) double_specials(t);
    if (test_section(t, "strided")) strided(t);
    if (test_section(t, "tails")) tails(t);
    if (test_section(t, "accumulate")) accumulate(t);
    if (test_section(t, "geglu")) geglu(t);
    if (test_section(t, "limits")) limits(t);
}
