/* What the operators share: the table, widening of weights, elementwise loops. */
#include "tensor/op/ops.h"
#include "tensor/parallel.h"

#include <string.h>

#define TN_OP(name, formula, source) extern const tn_op tn_op_##name;
#include "tensor/op/ops.def"
#undef TN_OP

const tn_op *tn_op_get(int id) {
    static const tn_op *const table[TN_OP_COUNT] = {
#define TN_OP(name, formula, source) &tn_op_##name,
#include "tensor/op/ops.def"
#undef TN_OP
    };
    TN_REQUIRE(id >= 0 && id < TN_OP_COUNT);
    return table[id];
}

const tn_op_text tn_op_texts[TN_OP_COUNT] = {
#define TN_OP(name, formula, source) {#name, formula, source},
#include "tensor/op/ops.def"
#undef TN_OP
};

typedef struct range_job {
    void (*fn)(void *, int64_t, int64_t);
    void *arg;
    int64_t n;
} range_job;

enum { PIECE = 1 << 14 }; /* 64 KiB of floats: half of an L1 cache, large against the cost of handing out a task */

static void range_task(void *arg, int64_t i, int worker) {
    const range_job *j = arg;
    (void)worker;
    int64_t from = i * PIECE, left = j->n - from;
    j->fn(j->arg, from, left < PIECE ? left : PIECE);
}

void tn_elementwise(tn_ctx *c, int64_t n, void (*fn)(void *arg, int64_t from, int64_t count), void *arg) {
    range_job j = {fn, arg, n};
    tn_parallel_for(tn_threads_for(c->threads, 0.25 * (double)n), (n + PIECE - 1) / PIECE, range_task, &j);
}

const float *tn_widened(tn_ctx *c, const tn_tensor *t) {
    if (!t) return NULL;
    if (t->dtype == TN_F32) return t->data;
    int64_t n = tn_numel(t);
    float *y = tn_scratch(c, (size_t)n * sizeof(float));
    if (tn_live(c)) c->k->widen(n, t->data, t->dtype, y);
    return y;
}

typedef struct same_job {
    const tn_kernels *k;
    const float *dy;
    float *d;
    int acc;
} same_job;

static void same_range(void *arg, int64_t from, int64_t count) {
    const same_job *j = arg;
    if (j->acc) j->k->add(count, j->d + from, j->dy + from, j->d + from);
    else memcpy(j->d + from, j->dy + from, (size_t)count * sizeof(float));
}

void tn_din_same(tn_ctx *c, tn_node *n, int i) {
    same_job j = {.k = c->k, .dy = n->out->grad};
    j.d = tn_din(n, i, &j.acc);
    if (j.d && tn_live(c)) tn_elementwise(c, tn_numel(n->out), same_range, &j);
}
