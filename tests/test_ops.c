/* Every case of every operator: the tuned kernels of each instruction set against ref/ in double, forward and backward;
 * the same bits on every instruction set and for 1, 2, 3 and 7 threads; gradients add to what is there. */
#include "tests/op_cases.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

static const char *const isa_names[] = {"scalar", "avx2", "avx512", "neon"};

/* Rounding of one float32 evaluation, squared; the sinusoid's angle is rounded on purpose (op_timestep.c): 6e-5
 * absolute. */
static double forward_bar(const tn_op *op) { return op == tn_op_get(TN_OP_timestep_embedding) ? 1e-9 : 1e-12; }
static const double backward_bar = 1e-11;

static void compare(test_state *t, const tn_op *op, const tn_case *k, const char *isa, const op_result *got, const op_result *want) {
    double e = op_nmse(got->out->data, want->out->data, tn_numel(want->out));
    CHECKF(t, e <= forward_bar(op), "%s, %s, %s: forward nmse %.2e", op->name, k->name, isa, e);
    for (int i = 0; i < k->nin; i++) {
        if (!want->in[i] || !want->in[i]->need) continue;
        CHECKF(t, want->in[i]->grad_set && got->in[i]->grad_set, "%s, %s: no gradient of input %d", op->name, k->name, i);
        e = op_nmse(got->in[i]->grad, want->in[i]->grad, tn_numel(want->in[i]));
        CHECKF(t, e <= backward_bar, "%s, %s, %s: gradient %d nmse %.2e", op->name, k->name, isa, i, e);
    }
}

static bool same_bits(const op_result *a, const op_result *b, int nin) {
    if (memcmp(a->out->data, b->out->data, (size_t)tn_numel(a->out) * 4)) return false;
    for (int i = 0; i < nin; i++) {
        if (a->in[i] && a->in[i]->need && memcmp(a->in[i]->grad, b->in[i]->grad, (size_t)tn_numel(a->in[i]) * 4)) return false;
    }
    return true;
}

static void run_case(test_state *t, const tn_op *op, const tn_case *k) {
    tn_ctx ref, first, other;
    tn_ctx_init(&ref, NULL, 1), tn_ctx_init(&first, tn_kernels_named("scalar", &(int){0}), 1);
    ref.use_ref = true;
    op_result want = op_case_run(&ref, op, k, true), base = op_case_run(&first, op, k, true);
    compare(t, op, k, "scalar", &base, &want);
    for (size_t i = 0; i < sizeof isa_names / sizeof *isa_names; i++) {
        int known;
        const tn_kernels *kernels = tn_kernels_named(isa_names[i], &known);
        static const int threads[] = {1, 2, 3, 7};
        for (size_t j = 0; kernels && j < sizeof threads / sizeof *threads; j++) {
            tn_ctx_init(&other, kernels, threads[j]);
            op_result got = op_case_run(&other, op, k, true);
            CHECKF(t, same_bits(&got, &base, k->nin), "%s, %s: other bits with %s on %d threads", op->name, k->name,
                   isa_names[i], threads[j]);
            tn_ctx_free(&other);
        }
    }
    tn_ctx_free(&ref), tn_ctx_free(&first);
}

/* The same operator used twice on the same leaves: gradients must be twice the single ones, which only adding gives. */
static void run_twice(test_state *t, const tn_op *op, const tn_case *k) {
    tn_ctx once, twice;
    tn_ctx_init(&once, NULL, 1), tn_ctx_init(&twice, NULL, 1);
    op_result a = op_case_run(&once, op, k, true), b = op_case_run(&twice, op, k, true);
    tn_tensor *again = tn_apply(&twice, op, &k->a, k->nin, b.in);
    tn_seed(&twice, again, b.out->grad);
    tn_backward(&twice);
    for (int i = 0; i < k->nin; i++) {
        if (!a.in[i] || !a.in[i]->need) continue;
        int64_t n = tn_numel(a.in[i]);
        for (int64_t j = 0; j < n; j++) a.in[i]->grad[j] *= 2.0f;
        double e = op_nmse(b.in[i]->grad, a.in[i]->grad, n);
        CHECKF(t, e <= 1e-12, "%s, %s: gradient %d is not added to: nmse %.2e", op->name, k->name, i, e);
    }
    tn_ctx_free(&once), tn_ctx_free(&twice);
}

void test_main(test_state *t) {
    for (int id = 0; id < TN_OP_COUNT; id++) {
        const tn_op *op = tn_op_get(id);
        if (!test_section(t, op->name)) continue;
        CHECKF(t, op->ncases > 0, "%s has no cases", op->name);
        CHECKF(t, strcmp(op->name, tn_op_texts[id].name) == 0, "%s is listed as %s", op->name, tn_op_texts[id].name);
        for (int i = 0; i < op->ncases; i++) {
            run_case(t, op, &op->cases[i]);
            if (op->backward) run_twice(t, op, &op->cases[i]);
        }
    }
}
