/* Winograd convolution in both tile sizes: against ref/ in double, forward and backward; the same bits on every instruction
 * set and for 1, 2, 3 and 7 threads; that the form is really another one than the direct; that it adds where it should. */
#include "tests/op_cases.h"
#include "tests/test.h"

#include <string.h>

#define PADDED .stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1
#define NONE {0}, {0}

/* Beside the cases of the operator itself: what cuts the work differently. */
static const tn_case cases[] = {
    {"one vector of tiles of 4", {PADDED}, 5, {{'x', 4, {1, 20, 16, 16}}, {'w', 4, {33, 20, 3, 3}}, {'w', 1, {33}}, NONE}},
    {"odd size, tiles of 4 over two images", {PADDED}, 5, {{'x', 4, {2, 5, 13, 15}}, {'w', 4, {3, 5, 3, 3}}, {'w', 1, {3}}, NONE}},
    {"one image in tiles of 2", {PADDED}, 5, {{'x', 4, {1, 70, 6, 6}}, {'h', 4, {40, 70, 3, 3}}, {'h', 1, {40}}, NONE}},
    {"four tiles, three times 64 channels", {PADDED}, 5, {{'x', 4, {1, 150, 8, 8}}, {'h', 4, {70, 150, 3, 3}}, {'h', 1, {70}}, NONE}},
    {"three tiles", {PADDED}, 5, {{'x', 4, {1, 65, 4, 11}}, {'w', 4, {18, 65, 3, 3}}, {'w', 1, {18}}, NONE}},
    {"seven by nine", {PADDED}, 5, {{'x', 4, {1, 4, 7, 9}}, {'b', 4, {6, 4, 3, 3}}, {'b', 1, {6}}, NONE}},
    {"five by five, many images", {PADDED}, 5, {{'x', 4, {9, 3, 5, 5}}, {'w', 4, {4, 3, 3, 3}}, {'w', 1, {4}}, NONE}},
    {"two by two", {PADDED}, 5, {{'x', 4, {3, 17, 2, 2}}, {'w', 4, {18, 17, 3, 3}}, {0}, NONE}},
    {"no padding", {.stride = 1}, 5, {{'x', 4, {2, 6, 11, 23}}, {'w', 4, {7, 6, 3, 3}}, {'w', 1, {7}}, NONE}},
    {"padded on two sides", {.stride = 1, .bottom = 1, .right = 1}, 5, {{'x', 4, {1, 6, 12, 20}}, {'w', 4, {5, 6, 3, 3}}, {0}, NONE}},
    {"padded by two", {.stride = 1, .top = 2, .bottom = 2, .left = 2, .right = 2}, 5,
     {{'x', 4, {1, 3, 9, 30}}, {'w', 4, {5, 3, 3, 3}}, {0}, NONE}},
    {"wide rows", {PADDED}, 5, {{'x', 4, {1, 3, 6, 150}}, {'w', 4, {5, 3, 3, 3}}, {'w', 1, {5}}, NONE}},
    {"sixteen tiles in a row, time and residual", {PADDED}, 5,
     {{'x', 4, {2, 5, 7, 64}}, {'w', 4, {19, 5, 3, 3}}, {'w', 1, {19}}, {'x', 2, {2, 19}}, {'x', 4, {2, 19, 7, 64}}}},
    {"several blocks of tiles", {PADDED}, 5, {{'x', 4, {1, 70, 36, 36}}, {'h', 4, {35, 70, 3, 3}}, {'h', 1, {35}}, NONE}},
    {"several sections", {PADDED}, 5, {{'x', 4, {1, 40, 220, 220}}, {'w', 4, {2, 40, 3, 3}}, {'w', 1, {2}}, NONE}},
    {"a result larger than the caches", {PADDED}, 5, {{'x', 4, {1, 1, 1000, 1008}}, {'w', 4, {7, 1, 3, 3}}, {0}, NONE}},
    {"patches and tiles of dw in several sections", {PADDED}, 5, {{'x', 4, {1, 33, 320, 320}}, {'w', 4, {18, 33, 3, 3}}, {0}, NONE}},
    {"a dw larger than the caches", {PADDED}, 5, {{'x', 4, {1, 848, 3, 4}}, {'w', 4, {848, 848, 3, 3}}, {0}, NONE}},
    {"time and residual", {PADDED}, 5,
     {{'x', 4, {3, 5, 10, 10}}, {'w', 4, {19, 5, 3, 3}}, {'w', 1, {19}}, {'x', 2, {3, 19}}, {'x', 4, {3, 19, 10, 10}}}},
};

/* Squares of some roundings of a sum, which the transforms multiply by about three (k_winograd_points.h); they grow with the length
 * of the chain: channels, for dw tiles. */
static double bar(int64_t chain) { return 3e-12 * (chain > 256 ? (double)chain / 256 : 1); }

static const tn_op *conv(void) { return tn_op_get(TN_OP_conv2d); }

static bool is_winograds(const tn_case *k) { return k->in[1].shape[2] == 3 && k->a.stride == 1; }

static bool same(const tn_tensor *a, const float *x, const float *y) { return memcmp(x, y, (size_t)tn_numel(a) * sizeof *x) == 0; }

static bool same_bits(const op_result *a, const op_result *b) {
    bool all = same(a->out, a->out->data, b->out->data);
    for (int i = 0; i < 5; i++)
        if (a->in[i]) all = all && same(a->in[i], a->in[i]->grad, b->in[i]->grad);
    return all;
}

static void compare(test_state *t, const tn_case *k, const op_result *got, const op_result *want) {
    const tn_tensor *y = want->out, *x = want->in[0], *w = want->in[1];
    double e = op_nmse(got->out->data, y->data, tn_numel(y));
    CHECKF(t, e <= bar(x->shape[1]), "%s: forward nmse %.2e", k->name, e);
    e = op_nmse(got->in[0]->grad, x->grad, tn_numel(x));
    CHECKF(t, e <= bar(y->shape[1]), "%s: dx nmse %.2e", k->name, e);
    e = op_nmse(got->in[1]->grad, w->grad, tn_numel(w));
    CHECKF(t, e <= bar(y->shape[0] * y->shape[2] * y->shape[3] / 16), "%s: dw nmse %.2e", k->name, e);
}

static void run_case(test_state *t, const tn_case *k) {
    static const char *const isa_names[] = {"scalar", "avx2", "avx512", "neon"};
    static const int threads[] = {1, 2, 3, 7};
    tn_ctx ref, direct, first, other;
    tn_ctx_init(&ref, NULL, 0), tn_ctx_init(&direct, NULL, 0), tn_ctx_init(&first, NULL, 1);
    ref.use_ref = true, direct.conv = TN_CONV_DIRECT, first.conv = TN_CONV_WINOGRAD;
    op_result want = op_case_run(&ref, conv(), k, true), plain = op_case_run(&direct, conv(), k, true);
    op_result base = op_case_run(&first, conv(), k, true);
    compare(t, k, &base, &want);
    CHECKF(t, !same(base.out, base.out->data, plain.out->data), "%s: forward is the direct form", k->name);
    CHECKF(t, !same(base.in[0], base.in[0]->grad, plain.in[0]->grad), "%s: dx is the direct form", k->name);
    CHECKF(t, !same(base.in[1], base.in[1]->grad, plain.in[1]->grad), "%s: dw is the direct form", k->name);
    for (size_t i = 0; i < sizeof isa_names / sizeof *isa_names; i++) {
        const tn_kernels *kernels = tn_kernels_named(isa_names[i], &(int){0});
        bool large = tn_numel(base.in[0]) + tn_numel(base.in[1]) > 1000000 && i == 0; /* plain C takes its time */
        for (size_t j = large ? 3 : 0; kernels && j < sizeof threads / sizeof *threads; j++) {
            tn_ctx_init(&other, kernels, threads[j]);
            other.conv = TN_CONV_WINOGRAD;
            op_result got = op_case_run(&other, conv(), k, true);
            CHECKF(t, same_bits(&got, &base), "%s: other bits with %s on %d threads", k->name, isa_names[i], threads[j]);
            tn_ctx_free(&other);
        }
    }
    tn_ctx_free(&ref), tn_ctx_free(&direct), tn_ctx_free(&first);
}

/* Twice on the same leaves: gradients must be twice the single ones. */
static void run_twice(test_state *t, const tn_case *k) {
    tn_ctx once, twice;
    tn_ctx_init(&once, NULL, 1), tn_ctx_init(&twice, NULL, 1);
    once.conv = twice.conv = TN_CONV_WINOGRAD;
    op_result a = op_case_run(&once, conv(), k, true), b = op_case_run(&twice, conv(), k, true);
    tn_tensor *again = tn_apply(&twice, conv(), &k->a, k->nin, b.in);
    tn_seed(&twice, again, b.out->grad);
    tn_backward(&twice);
    for (int i = 0; i < 2; i++) {
        for (int64_t j = 0; j < tn_numel(a.in[i]); j++) a.in[i]->grad[j] *= 2.0f;
        CHECKF(t, same(a.in[i], a.in[i]->grad, b.in[i]->grad), "%s: d%s is not added to", k->name, i ? "w" : "x");
    }
    tn_ctx_free(&once), tn_ctx_free(&twice);
}

void test_main(test_state *t) {
    for (int i = 0; test_section(t, "cases of conv2d") && i < conv()->ncases; i++) {
        const tn_case *k = &conv()->cases[i];
        if (is_winograds(k)) run_case(t, k), run_twice(t, k);
    }
    if (test_section(t, "cases of Winograd"))
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run_case(t, &cases[i]), run_twice(t, &cases[i]);
}
