/* ref/ against itself and against arithmetic done by hand.
 *
 * Derivatives: every backward function against a difference quotient of its forward, with sign. Worked examples: small
 * inputs whose results a reader can check in his head, above all for the operators that only move numbers, where a
 * wrong forward and a backward wrong in the same way would satisfy the difference quotient. Results of PyTorch:
 * test_ref_golden.c. */
#include "tests/ref_calls.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- derivatives by differences --------------------------------------------------------------------------------- */

typedef struct fd_case {
    const char *op;
    int64_t n[12];
    int64_t size[3]; /* elements of each input; 0 = absent */
    int64_t out;     /* elements of the output */
    double p[2];
    const int64_t *ids;
} fd_case;

static const int64_t IDS[] = {4, 0, 6, 4, 1, 5, 6}; /* with repetitions, on both sides of V = 5 */
static const int64_t ROWS[] = {3, 0, 1};

static const fd_case fd_cases[] = {
    {"linear", {4, 5, 3}, {20, 15, 3}, 12, {0}, NULL},
    {"linear", {3, 2, 5}, {6, 10, 0}, 15, {0}, NULL},
    {"matmul", {2, 3, 4, 5, 0, 0}, {24, 40, 0}, 30, {0}, NULL},
    {"matmul", {2, 3, 4, 5, 0, 1}, {24, 40, 0}, 30, {0}, NULL},
    {"matmul", {2, 3, 4, 5, 1, 0}, {24, 40, 0}, 30, {0}, NULL},
    {"matmul", {2, 3, 4, 5, 1, 1}, {24, 40, 0}, 30, {0}, NULL},
    {"conv2d", {2, 3, 4, 5, 2, 3, 3, 4, 5, 1, 1, 1}, {120, 54, 2}, 80, {0}, NULL},
    {"conv2d", {1, 2, 6, 5, 3, 3, 3, 3, 2, 2, 0, 0}, {60, 54, 3}, 18, {0}, NULL}, /* padded below only */
    {"conv2d", {1, 2, 5, 7, 3, 3, 3, 3, 4, 2, 1, 1}, {70, 54, 0}, 36, {0}, NULL},
    {"conv2d", {1, 3, 4, 6, 2, 2, 3, 2, 2, 2, 0, 0}, {72, 36, 2}, 8, {0}, NULL}, /* 2 x 3 kernel */
    {"conv2d", {2, 3, 2, 3, 4, 1, 1, 2, 3, 1, 0, 0}, {36, 12, 4}, 48, {0}, NULL},
    {"upsample_conv2d", {2, 2, 4, 6, 2, 3, 3, 4, 6, 1, 1, 1}, {24, 36, 2}, 96, {0}, NULL},
    {"upsample_conv2d", {1, 3, 2, 2, 2, 3, 3, 2, 2, 1, 1, 1}, {3, 54, 0}, 8, {0}, NULL},
    {"group_norm", {2, 6, 5, 3}, {60, 6, 6}, 60, {1e-5}, NULL},
    {"group_norm", {2, 4, 3, 1}, {24, 4, 4}, 24, {1e-1}, NULL}, /* an eps that is seen */
    {"group_norm", {1, 3, 4, 3}, {12, 3, 3}, 12, {1e-6}, NULL},
    {"layer_norm", {3, 7}, {21, 7, 7}, 21, {1e-5}, NULL},
    {"layer_norm", {2, 4}, {8, 4, 4}, 8, {1e-1}, NULL},
    {"attention", {2, 4, 3, 2, 3, 0}, {48, 36, 36}, 48, {0.6}, NULL},
    {"attention", {1, 5, 5, 2, 2, 1}, {20, 20, 20}, 20, {0.7}, NULL},
    {"attention", {1, 4, 2, 1, 3, 1}, {12, 6, 6}, 12, {-0.5}, NULL}, /* more queries than keys */
    {"softmax", {3, 6}, {18, 0, 0}, 18, {0}, NULL},
    {"sigmoid", {30}, {30, 0, 0}, 30, {0}, NULL},
    {"silu", {30}, {30, 0, 0}, 30, {0}, NULL},
    {"gelu", {30}, {30, 0, 0}, 30, {0}, NULL},
    {"quick_gelu", {30}, {30, 0, 0}, 30, {0}, NULL},
    {"geglu", {3, 5}, {30, 0, 0}, 15, {0}, NULL},
    {"add_broadcast", {1, 8, 1}, {8, 8, 0}, 8, {0}, NULL},
    {"add_broadcast", {3, 4, 5}, {60, 4, 0}, 60, {0}, NULL},
    {"scale", {9}, {9, 0, 0}, 9, {-1.3}, NULL},
    {"upsample_nearest", {2, 2, 3, 4, 6}, {12, 0, 0}, 48, {0}, NULL},
    {"upsample_nearest", {2, 4, 5, 7, 9}, {40, 0, 0}, 126, {0}, NULL},
    {"upsample_nearest", {1, 5, 4, 3, 2}, {20, 0, 0}, 6, {0}, NULL},
    {"avg_pool2d", {2, 4, 6, 2, 2}, {48, 0, 0}, 12, {0}, NULL},
    {"avg_pool2d", {1, 6, 5, 3, 2}, {30, 0, 0}, 4, {0}, NULL}, /* overlapping windows, a remainder */
    {"concat", {2, 3, 2, 4}, {24, 16, 0}, 40, {0}, NULL},
    {"slice", {2, 5, 3, 1, 3}, {30, 0, 0}, 18, {0}, NULL},
    {"nchw_to_tokens", {2, 3, 4}, {24, 0, 0}, 24, {0}, NULL},
    {"tokens_to_nchw", {2, 3, 4}, {24, 0, 0}, 24, {0}, NULL},
    {"embedding", {7, 5, 2, 3}, {15, 6, 0}, 21, {0}, IDS},
    {"gather_rows", {3, 4, 2}, {24, 0, 0}, 6, {0}, ROWS},
    {"mean", {3, 5}, {15, 0, 0}, 3, {0}, NULL},
    {"mse", {8}, {8, 8, 0}, 1, {0}, NULL},
    {"mse", {8}, {8, 8, 8}, 1, {0}, NULL},
    {"l2_normalize", {3, 5}, {15, 0, 0}, 15, {0}, NULL},
    {"cosine_similarity", {3, 2, 5}, {15, 10, 0}, 6, {0}, NULL},
    {"clamp", {20}, {20, 0, 0}, 20, {-0.4, 0.5}, NULL},
    {"gaussian_sample", {9}, {9, 9, 9}, 9, {0}, NULL},
    {"gaussian_kl", {3, 4}, {12, 12, 0}, 3, {0}, NULL},
};
enum { FD_COUNT = sizeof fd_cases / sizeof fd_cases[0], MAX = 128 };

/* The scalar whose gradient the backward functions give: the sum of output times cotangent. */
static double loss(const ref_op *op, const call *c, int64_t out) {
    double sum = 0;
    op->forward(c);
    for (int64_t i = 0; i < out; i++) sum += c->y[i] * c->dy[i];
    return sum;
}

/* dL/dx from four points; the error is of order h^4, about 1e-12 here, and rounding adds about 1e-13. */
static double slope(const ref_op *op, const call *c, int64_t out, double *x) {
    const double h = 1e-3, x0 = *x;
    double at[4];
    for (int i = 0; i < 4; i++) {
        static const int step[4] = {-2, -1, 1, 2};
        *x = x0 + step[i] * h;
        at[i] = loss(op, c, out);
    }
    *x = x0;
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h);
}

/* Gradients onto arrays that hold something already, then each gradient alone with the others unwanted. */
static void check_adding(test_state *t, const fd_case *f, const ref_op *op, call *c, double d[3][MAX]) {
    double base[3][MAX], alone[MAX], *wanted[3] = {c->d[0], c->d[1], c->d[2]};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < MAX; i++) base[k][i] = d[k][i];
    op->backward(c); /* a second time: twice the gradient */
    for (int k = 0; k < 3; k++)
        for (int64_t i = 0; wanted[k] && i < f->size[k]; i++)
            CHECKF(t, fabs(d[k][i] - 2 * base[k][i]) <= 1e-14 * (1 + fabs(base[k][i])),
                   "%s input %d element %d: a second backward gave %.17g, not twice %.17g", f->op, k, (int)i, d[k][i],
                   base[k][i]);
    for (int k = 0; k < 3; k++) {
        if (!wanted[k]) continue;
        for (int j = 0; j < 3; j++) c->d[j] = j == k ? alone : NULL;
        memset(alone, 0, sizeof alone);
        op->backward(c);
        CHECKF(t, memcmp(alone, base[k], sizeof alone) == 0, "%s input %d: the gradient alone differs", f->op, k);
    }
    c->d[0] = c->d[1] = c->d[2] = NULL;
    op->backward(c); /* nothing wanted: must touch nothing */
}

static void check_backward(test_state *t, const fd_case *f, const ref_op *op, uint64_t *seed) {
    double in[3][MAX], d[3][MAX] = {{0}}, y[MAX], dy[MAX];
    call c = {.ids = f->ids, .y = y, .dy = dy};
    memcpy(c.n, f->n, sizeof c.n);
    memcpy(c.p, f->p, sizeof c.p);
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < MAX; i++) in[k][i] = test_rand(seed);
        c.in[k] = f->size[k] ? in[k] : NULL;
        c.d[k] = f->size[k] && k < op->grads ? d[k] : NULL;
    }
    for (int i = 0; i < MAX; i++) dy[i] = test_rand(seed);
    op->backward(&c);
    for (int k = 0; k < 3; k++) {
        double scale = 0;
        for (int64_t i = 0; c.d[k] && i < f->size[k]; i++) scale = fmax(scale, fabs(d[k][i]));
        if (c.d[k]) CHECKF(t, scale > 1e-3, "%s input %d: a gradient that is zero tests nothing", f->op, k);
        for (int64_t i = 0; c.d[k] && i < f->size[k]; i++) {
            double want = slope(op, &c, f->out, &in[k][i]);
            CHECKF(t, fabs(d[k][i] - want) <= 1e-9 * scale, "%s input %d element %d: gradient %.12g, differences %.12g",
                   f->op, k, (int)i, d[k][i], want);
        }
    }
    check_adding(t, f, op, &c, d);
}

static void test_derivatives(test_state *t) {
    uint64_t seed = 20220802;
    int covered = 0;
    for (int o = 0; o < REF_OP_COUNT; o++) {
        int cases = 0;
        for (int i = 0; i < FD_COUNT; i++)
            if (strcmp(fd_cases[i].op, ref_ops[o].name) == 0) {
                check_backward(t, &fd_cases[i], &ref_ops[o], &seed);
                cases++;
            }
        CHECKF(t, cases > 0, "%s: no case", ref_ops[o].name);
        covered += cases;
    }
    CHECKF(t, covered == FD_COUNT, "%d of %d cases name an operator that does not exist", FD_COUNT - covered, FD_COUNT);
}

/* ---- worked examples -------------------------------------------------------------------------------------------- */

static void expect(test_state *t, const char *what, const double *got, const double *want, int n) {
    for (int i = 0; i < n; i++)
        CHECKF(t, fabs(got[i] - want[i]) <= 1e-15 * fabs(want[i]), "%s[%d]: %.17g, expected %.17g", what, i, got[i],
               want[i]);
}
/* expect() with the expected numbers written in the call. */
#define EXPECT(t, what, got, ...)                                                                                      \
    do {                                                                                                               \
        const double want_[] = {__VA_ARGS__};                                                                          \
        expect(t, what, got, want_, (int)(sizeof want_ / sizeof want_[0]));                                            \
    } while (0)

static const double COUNT[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static void test_moving(test_state *t) {
    double y[24];
    const double ab[] = {10, 20};
    ref_add_broadcast(COUNT, ab, y, 2, 2, 2);
    EXPECT(t, "add", y, 11, 12, 23, 24, 15, 16, 27, 28);
    ref_scale(COUNT, -3, y, 3);
    EXPECT(t, "scale", y, -3, -6, -9);
    ref_concat(COUNT, COUNT + 4, y, 2, 1, 2, 2); /* two of a, four of b, for each of two samples */
    EXPECT(t, "concat", y, 1, 2, 5, 6, 7, 8, 3, 4, 9, 10, 11, 12);
    ref_slice(COUNT, y, 2, 3, 2, 1, 1);
    EXPECT(t, "slice", y, 3, 4, 9, 10);
    ref_nchw_to_tokens(COUNT, y, 2, 2, 3); /* channel rows 123 456 become tokens 14 25 36 */
    EXPECT(t, "nchw_to_tokens", y, 1, 4, 2, 5, 3, 6, 7, 10, 8, 11, 9, 12);
    ref_tokens_to_nchw(y, y + 12, 2, 2, 3);
    expect(t, "tokens_to_nchw", y + 12, COUNT, 12);
    const int64_t ids[] = {3, 0, 2, 3}, idx[] = {2, 0};
    ref_embedding(ids, COUNT, COUNT + 8, y, 4, 2, 2, 2); /* ids 0, 1 -> 12 34; 2, 3 -> 9 10, 11 12 */
    EXPECT(t, "embedding", y, 11, 12, 1, 2, 9, 10, 11, 12);
    ref_gather_rows(COUNT, idx, y, 2, 3, 2);
    EXPECT(t, "gather_rows", y, 5, 6, 7, 8);
    ref_upsample_nearest(COUNT, y, 1, 1, 2, 1, 5); /* floor(i 2/5) = 0 0 0 1 1 */
    EXPECT(t, "upsample to 5", y, 1, 1, 1, 2, 2);
    ref_upsample_nearest(COUNT, y, 1, 5, 1, 3, 1); /* floor(i 5/3) = 0 1 3 */
    EXPECT(t, "upsample down to 3", y, 1, 2, 4);
    const ref_conv_shape s = {1, 1, 4, 6, 2, 3, 3, 4, 6, 1, 1, 1};
    double large[24], w[18], z[48], v[48];
    for (int i = 0; i < 18; i++) w[i] = i - 7;
    ref_upsample_nearest(COUNT, large, 1, 2, 3, 4, 6);
    ref_conv2d(&s, large, w, COUNT, z);
    ref_upsample_conv2d(&s, COUNT, w, COUNT, v);
    expect(t, "upsample_conv2d", v, z, 48);
    ref_avg_pool2d(COUNT, y, 1, 2, 5, 2, 2); /* the fifth column is left over */
    EXPECT(t, "avg_pool2d", y, 4, 6);
}

static void test_products(test_state *t) {
    double y[24];
    const double eye[] = {1, 0, 0, 1}, ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    ref_matmul(COUNT, eye, y, 1, 3, 2, 2, 0, 0); /* times one: a as it lies, or transposed */
    EXPECT(t, "a", y, 1, 2, 3, 4, 5, 6);
    ref_matmul(COUNT, eye, y, 1, 3, 2, 2, 1, 0);
    EXPECT(t, "a transposed", y, 1, 4, 2, 5, 3, 6);
    ref_matmul(eye, COUNT, y, 1, 2, 2, 3, 0, 1);
    EXPECT(t, "b transposed", y, 1, 3, 5, 2, 4, 6);
    ref_linear(COUNT, COUNT, ones, y, 1, 2, 2); /* (1,2).(1,2) + 1, (1,2).(3,4) + 1 */
    EXPECT(t, "linear", y, 6, 12);
    ref_conv_shape s = {1, 1, 4, 4, 1, 3, 3, 2, 2, 2, 0, 0};
    ref_conv2d(&s, (const double[16]){1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, ones, NULL, y);
    EXPECT(t, "stride 2, padded below and right: taps inside", y, 9, 6, 6, 4);
    s.top = s.left = 1;
    ref_conv2d(&s, (const double[16]){1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, ones, NULL, y);
    EXPECT(t, "stride 2, padded on all sides: taps inside", y, 4, 6, 6, 9);
    /* Equal scores give the mean of the values that are seen. */
    const double zero[3] = {0}, v[] = {6, 3, 9};
    ref_attention(zero, zero, v, y, 1, 3, 3, 1, 1, 1, 1);
    EXPECT(t, "causal", y, 6, 4.5, 6);
    ref_attention(zero, zero, v, y, 1, 3, 2, 1, 1, 1, 1);
    EXPECT(t, "causal with two keys", y, 6, 4.5, 4.5);
    ref_attention((const double[]){2000}, (const double[]){1, 1}, v, y, 1, 1, 2, 1, 1, 1, 0);
    EXPECT(t, "attention with large scores", y, 4.5);
    ref_softmax((const double[]){1000, 1000, -1e300}, y, 1, 3);
    EXPECT(t, "softmax of large numbers", y, 0.5, 0.5, 0);
}

static void test_numbers(test_state *t) {
    double y[8], d[5] = {0};
    ref_gelu((const double[]){-10, 0}, y, 2); /* -10 Phi(-10): the tail keeps its digits */
    CHECKF(t, fabs(y[0] / -7.619853024160527e-23 - 1) < 1e-13, "gelu(-10) = %.17g", y[0]);
    CHECK(t, y[1] == 0);
    ref_sigmoid((const double[]){-800, 0, 800}, y, 3);
    EXPECT(t, "sigmoid", y, 0, 0.5, 1);
    ref_geglu((const double[]){3, 5, 0, 100}, y, 1, 2); /* values 3, 5; gates 0, 100 */
    EXPECT(t, "geglu", y, 0, 500);
    y[0] = ref_mse(COUNT, (const double[]){0, 0, 0}, (const double[]){1, 0, 2}, 3);
    EXPECT(t, "mse with weights", y, 19.0 / 3);
    ref_mean(COUNT, y, 2, 3);
    EXPECT(t, "mean", y, 2, 5);
    ref_l2_normalize((const double[]){3, 4, -8, 6}, y, 2, 2);
    EXPECT(t, "l2_normalize", y, 0.6, 0.8, -0.8, 0.6);
    ref_cosine_similarity((const double[]){3, 4}, (const double[]){4, 3, -6, -8}, y, 1, 2, 2);
    EXPECT(t, "cosine_similarity", y, 0.96, -1);
    const double x[] = {-2, -1, 0, 1, 2};
    ref_clamp(x, y, 5, -1, 1);
    EXPECT(t, "clamp", y, -1, -1, 0, 1, 1);
    ref_clamp_backward(x, COUNT, d, 5, -1, 1);
    EXPECT(t, "clamp backward passes at the bounds", d, 0, 2, 3, 4, 0);
    ref_gaussian_sample((const double[]){5}, (const double[]){log(4)}, (const double[]){-3}, y, 1);
    EXPECT(t, "gaussian_sample: 5 - 3 sigma, sigma 2", y, -1);
    ref_gaussian_kl((const double[]){0, 2, 0, 0}, (const double[]){0, 0, 0, 0}, y, 2, 2);
    EXPECT(t, "gaussian_kl", y, 2, 0);
    ref_timestep_embedding((const double[]){0}, y, 1, 5, 1, 0, 10000);
    EXPECT(t, "timestep 0, odd width", y, 1, 1, 0, 0, 0);
    ref_timestep_embedding((const double[]){2}, y, 1, 4, 0, 1, 10000); /* frequencies 1 and exactly 1/10000 */
    CHECKF(t, fabs(y[0] - sin(2)) < 1e-15 && fabs(y[1] - sin(2e-4)) < 1e-15, "sines %.17g %.17g", y[0], y[1]);
    CHECKF(t, fabs(y[2] - cos(2)) < 1e-15 && fabs(y[3] - cos(2e-4)) < 1e-15, "cosines %.17g %.17g", y[2], y[3]);
}

/* With constant gradients the corrected moments are g and g^2 at every step: p falls by the decay, then by lr g / (|g|
 * + eps). */
static void test_adamw(test_state *t) {
    double p = 2, m = 0, v = 0, g = -0.25, want = 2;
    for (int step = 1; step <= 5; step++) {
        ref_adamw(&p, &g, &m, &v, 1, step, 0.1, 0.9, 0.999, 0.05, 0.02);
        want = want - 0.1 * 0.02 * want + 0.1 * 0.25 / (0.25 + 0.05);
        CHECKF(t, fabs(p - want) < 1e-13, "step %d: %.17g, expected %.17g", step, p, want);
    }
}

void test_main(test_state *t) {
    if (test_section(t, "derivatives")) test_derivatives(t);
    if (test_section(t, "moving")) test_moving(t);
    if (test_section(t, "products")) test_products(t);
    if (test_section(t, "numbers")) test_numbers(t);
    if (test_section(t, "adamw")) test_adamw(t);
}
