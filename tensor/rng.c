#include "tensor/rng.h"

#include <math.h>
#include <string.h>

#include "tensor/dmath.h"
#include "tensor/fma.h"
#include "tensor/io/bytes.h"

enum { N = 624, M = 397 };

static const double two_pi = 0x1.921fb54442d18p+2;

/* ---- the engine: mt19937 ---- */

void tn_rng_seed(tn_rng *g, uint64_t seed) {
    memset(g, 0, sizeof *g);
    g->state[0] = (uint32_t)seed;
    for (uint32_t j = 1; j < N; j++) g->state[j] = 1812433253u * (g->state[j - 1] ^ (g->state[j - 1] >> 30)) + j;
    g->next = N;
}

/* The next 624 words, in place: x[i+N] = x[i+M] ^ A(top bit of x[i], the other bits of x[i+1]). */
static void twist(uint32_t *s) {
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
}

uint32_t tn_rng_u32(tn_rng *g) {
    if (g->next == N) twist(g->state), g->next = 0;
    uint32_t y = g->state[g->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

uint64_t tn_rng_u64(tn_rng *g) {
    uint64_t top = tn_rng_u32(g);
    return top << 32 | tn_rng_u32(g);
}

/* ---- uniform ---- */

static float uniform(tn_rng *g) { return (float)(tn_rng_u32(g) & 0xffffffu) * 0x1p-24f; }
static double uniform_f64(tn_rng *g) { return (double)(tn_rng_u64(g) & ((1ull << 53) - 1)) * 0x1p-53; }

void tn_rng_rand(tn_rng *g, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = uniform(g);
}

int64_t tn_rng_randint(tn_rng *g, int64_t n) {
    TN_REQUIRE(n > 0);
    return (int64_t)(n >> 32 ? tn_rng_u64(g) % (uint64_t)n : tn_rng_u32(g) % (uint64_t)n);
}

void tn_rng_randperm(tn_rng *g, int64_t *p, int64_t n) {
    TN_REQUIRE(n >= 0 && n < UINT32_MAX / 20);
    for (int64_t i = 0; i < n; i++) p[i] = i;
    for (int64_t i = 0; i < n - 1; i++) { /* Fisher and Yates, from the front */
        int64_t j = i + (int64_t)(tn_rng_u32(g) % (uint32_t)(n - i)), kept = p[i];
        p[i] = p[j], p[j] = kept;
    }
}

/* ---- normal: Box and Muller 1958, r = sqrt(-2 log u1), (r cos, r sin)(2 pi u2) ---- */

/* Cephes logf (Moshier) for 0 < x <= 1, x normal: x = 2^e m with m in [sqrt(1/2), sqrt(2)), a polynomial of degree 9 in
 * m - 1, and e log 2 in two parts. The fused operations are those of the compiled code that PyTorch ships. */
static float cephes_log(float x) {
    static const float c[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                              -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                              2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    int k;
    float m = frexpf(x, &k), e = (float)k;
    if (m < 0.707106781186547524f) m *= 2, e -= 1;
    m -= 1;
    float z = m * m, y = c[0];
    for (int i = 1; i < 9; i++) y = tn_fmaf(y, m, c[i]);
    y = tn_fmaf(y * m, z, e * -2.12194440e-4f);
    y = tn_fmaf(z, -0.5f, y);
    return tn_fmaf(e, 0.693359375f, m + y);
}

/* Cephes sinf and cosf for 0 <= x <= 2 pi: the octant, x modulo pi/4 with pi/4 in three parts, a polynomial each. */
static void cephes_sincos(float x, float *sine, float *cosine) {
    int octant = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float n = (float)octant;
    x = tn_fmaf(n, -0.78515625f, x);
    x = tn_fmaf(n, -2.4187564849853515625e-4f, x);
    x = tn_fmaf(n, -3.77489497744594108e-8f, x);
    float z = x * x;
    float c = tn_fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f);
    c = tn_fmaf(c, z, 4.166664568298827e-2f);
    c = tn_fmaf(c * z, z, z * -0.5f) + 1;
    float s = tn_fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f);
    s = tn_fmaf(s, z, -1.6666654611e-1f);
    s = tn_fmaf(s * z, x, x);
    *sine = octant & 2 ? c : s;
    *cosine = octant & 2 ? s : c;
    if (octant & 4) *sine = -*sine;
    if ((octant + 2) & 4) *cosine = -*cosine;
}

/* In place: 16 uniforms, 1 - u1 in the first half and u2 in the second, to 16 normals. */
static void normals16(float *x) {
    for (int j = 0; j < 8; j++) {
        float r = sqrtf(-2.0f * cephes_log(1.0f - x[j])), s, c;
        cephes_sincos((float)two_pi * x[j + 8], &s, &c);
        x[j] = r * c + 0.0f; /* PyTorch adds the mean 0, which turns -0 into 0 */
        x[j + 8] = r * s + 0.0f;
    }
}

static void normals16_f64(double *x) {
    for (int j = 0; j < 8; j++) {
        double r = sqrt(-2.0 * tn_log(1.0 - x[j])), theta = two_pi * x[j + 8];
        x[j] = r * tn_cos(theta) + 0.0;
        x[j + 8] = r * tn_sin(theta) + 0.0;
    }
}

/* The serial path: two normals are made at a time, and the second waits in the generator, across calls and types. */
static double normal(tn_rng *g) {
    if (g->has_normal) {
        g->has_normal = false;
        return g->normal;
    }
    double u1 = uniform_f64(g), u2 = uniform_f64(g);
    double r = sqrt(-2.0 * tn_log1p(-u2)), theta = two_pi * u1;
    g->has_normal = true;
    g->normal = r * tn_sin(theta) + 0.0;
    return r * tn_cos(theta) + 0.0;
}

/* All uniforms are drawn first. A rest that does not fill a block draws the last 16 uniforms anew, over finished
 * normals. */
void tn_rng_randn(tn_rng *g, float *x, size_t n) {
    if (n < 16) {
        for (size_t i = 0; i < n; i++) x[i] = (float)normal(g);
        return;
    }
    tn_rng_rand(g, x, n);
    for (size_t i = 0; i + 16 <= n; i += 16) normals16(x + i);
    if (n % 16) {
        tn_rng_rand(g, x + n - 16, 16);
        normals16(x + n - 16);
    }
}

void tn_rng_randn_f64(tn_rng *g, double *x, size_t n) {
    if (n < 16) {
        for (size_t i = 0; i < n; i++) x[i] = normal(g);
        return;
    }
    for (size_t i = 0; i < n; i++) x[i] = uniform_f64(g);
    for (size_t i = 0; i + 16 <= n; i += 16) normals16_f64(x + i);
    if (n % 16) {
        for (size_t i = n - 16; i < n; i++) x[i] = uniform_f64(g);
        normals16_f64(x + n - 16);
    }
}

/* ---- state as bytes: 624 words, next, has_normal, the double's bits; all little-endian ---- */

void tn_rng_save(const tn_rng *g, unsigned char out[TN_RNG_BYTES]) {
    uint64_t bits;
    for (int i = 0; i < N; i++) tn_put_le32(out + 4 * i, g->state[i]);
    tn_put_le32(out + 4 * N, (uint32_t)g->next);
    tn_put_le32(out + 4 * N + 4, g->has_normal);
    memcpy(&bits, &g->normal, sizeof bits);
    tn_put_le64(out + 4 * N + 8, bits);
}

int tn_rng_load(tn_rng *g, const unsigned char in[TN_RNG_BYTES], tn_err *err) {
    tn_rng r;
    uint32_t next = tn_le32(in + 4 * N), has_normal = tn_le32(in + 4 * N + 4), any = 0;
    uint64_t bits = tn_le64(in + 4 * N + 8);
    for (int i = 0; i < N; i++) {
        r.state[i] = tn_le32(in + 4 * i);
        any |= i ? r.state[i] : r.state[i] & 0x80000000u; /* the low bits of word 0 are not part of the state */
    }
    if (!any) return tn_fail(err, TN_EINPUT, "random state: all words are zero");
    if (next > N) return tn_fail(err, TN_EINPUT, "random state: position %lu, expected 0..624", (unsigned long)next);
    if (has_normal > 1)
        return tn_fail(err, TN_EINPUT, "random state: flag %lu, expected 0 or 1", (unsigned long)has_normal);
    memcpy(&r.normal, &bits, sizeof bits);
    if (!(fabs(r.normal) < 10)) return tn_fail(err, TN_EINPUT, "random state: the waiting normal is not one");
    r.next = (int)next;
    r.has_normal = has_normal != 0;
    *g = r;
    return 0;
}
