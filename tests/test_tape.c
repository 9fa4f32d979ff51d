/* The tape and its blocks: gradients with and without checkpointing are the same bits, views and repeated inputs add
 * up, dry runs predict the memory, what nobody needs is not recorded, and scopes give memory back where nothing is. */
#include "tensor/op/ops.h"
#include "tests/test.h"

#include <string.h>

enum { B = 2, L = 9, C = 24, LAYERS = 4 };

typedef struct layer {
    tn_tensor *w, *b, *gamma, *beta;
} layer;

typedef struct net {
    layer layers[LAYERS];
    tn_tensor *x, *extra;
} net;

/* A residual block with everything that can go wrong: a side input used in every block, a view, an input used twice. */
static tn_tensor *block(tn_ctx *c, const void *arg, tn_tensor *const *in) {
    const layer *l = arg;
    tn_tensor *h = tn_layer_norm(c, in[0], l->gamma, l->beta, 1e-5f);
    h = tn_reshape(c, h, 2, (int64_t[]){B * L, C});
    h = tn_linear(c, h, l->w, l->b);
    h = tn_reshape(c, tn_gelu(c, h), 3, (int64_t[]){B, L, C});
    h = tn_add(c, h, in[1]);
    tn_tensor *y = tn_attention(c, h, in[0], h, 4, 0.0f, true);
    return tn_add(c, tn_add(c, in[0], y), in[0]);
}

static tn_tensor *leaf(tn_ctx *c, int ndim, const int64_t *shape, uint64_t *seed) {
    tn_tensor *t = tn_leaf(c, TN_F32, ndim, shape, NULL, true);
    for (int64_t i = 0; tn_live(c) && i < tn_numel(t); i++) ((float *)t->data)[i] = test_rand(seed);
    return t;
}

static tn_tensor *build(tn_ctx *c, net *n) {
    uint64_t seed = 42;
    n->x = leaf(c, 3, (int64_t[]){B, L, C}, &seed);
    n->extra = leaf(c, 3, (int64_t[]){B, L, C}, &seed);
    for (int i = 0; i < LAYERS; i++) {
        n->layers[i].w = leaf(c, 2, (int64_t[]){C, C}, &seed), n->layers[i].b = leaf(c, 1, (int64_t[]){C}, &seed);
        n->layers[i].gamma = leaf(c, 1, (int64_t[]){C}, &seed), n->layers[i].beta = leaf(c, 1, (int64_t[]){C}, &seed);
    }
    tn_tensor *h = n->x;
    for (int i = 0; i < LAYERS; i++) h = tn_block(c, block, &n->layers[i], 2, (tn_tensor *[]){h, n->extra});
    return tn_mse(c, h, n->extra, NULL);
}

static tn_tensor *run(tn_ctx *c, net *n, int64_t checkpoint) {
    c->record = true, c->checkpoint = checkpoint;
    tn_tensor *loss = build(c, n);
    tn_seed(c, loss, NULL);
    tn_backward(c);
    return loss;
}

static bool same_grad(const tn_tensor *a, const tn_tensor *b) {
    return a->grad_set && b->grad_set && memcmp(a->grad, b->grad, (size_t)tn_numel(a) * sizeof(float)) == 0;
}

static void test_checkpoint(test_state *t) {
    tn_ctx kept, again;
    tn_ctx_init(&kept, NULL, 2), tn_ctx_init(&again, NULL, 2);
    net a, b;
    tn_tensor *la = run(&kept, &a, false), *lb = run(&again, &b, true);
    CHECK(t, memcmp(la->data, lb->data, sizeof(float)) == 0);
    CHECK(t, same_grad(a.x, b.x));
    CHECK(t, same_grad(a.extra, b.extra));
    for (int i = 0; i < LAYERS; i++) {
        CHECK(t, same_grad(a.layers[i].w, b.layers[i].w) && same_grad(a.layers[i].b, b.layers[i].b));
        CHECK(t, same_grad(a.layers[i].gamma, b.layers[i].gamma) && same_grad(a.layers[i].beta, b.layers[i].beta));
    }
    CHECKF(t, tn_ctx_peak(&again) < tn_ctx_peak(&kept), "checkpointing takes %zu bytes, the plain tape %zu",
           tn_ctx_peak(&again), tn_ctx_peak(&kept));
    size_t all = tn_ctx_peak(&again);
    for (int64_t from = B * L * C; from <= B * L * C + 1; from++) { /* the size of the blocks' input; one more */
        tn_ctx some;
        tn_ctx_init(&some, NULL, 2);
        run(&some, &b, from);
        CHECK(t, same_grad(a.x, b.x) && tn_ctx_peak(&some) == (from == B * L * C ? all : tn_ctx_peak(&kept)));
        tn_ctx_free(&some);
    }
    tn_ctx_free(&kept), tn_ctx_free(&again);
}

/* The gradient of the whole net against finite differences through ref/ in double would repeat test_ref; here one
 * number: the derivative along a direction, which sees a missing or doubled contribution at once. */
static void test_direction(test_state *t) {
    tn_ctx c;
    tn_ctx_init(&c, NULL, 1);
    net n;
    run(&c, &n, true);
    double slope = 0.0;
    uint64_t seed = 7;
    float direction[B * L * C];
    for (int i = 0; i < B * L * C; i++) {
        direction[i] = test_rand(&seed);
        slope += (double)n.x->grad[i] * (double)direction[i] + (double)n.extra->grad[i] * (double)direction[i];
    }
    double loss[2];
    for (int side = 0; side < 2; side++) {
        tn_ctx d;
        tn_ctx_init(&d, NULL, 1);
        net m;
        build(&d, &m); /* fills the leaves */
        float h = side ? 1e-3f : -1e-3f;
        for (int i = 0; i < B * L * C; i++) {
            ((float *)m.x->data)[i] += h * direction[i], ((float *)m.extra->data)[i] += h * direction[i];
        }
        tn_tensor *y = m.x;
        for (int i = 0; i < LAYERS; i++) y = tn_block(&d, block, &m.layers[i], 2, (tn_tensor *[]){y, m.extra});
        loss[side] = (double)*tn_f32(tn_mse(&d, y, m.extra, NULL));
        tn_ctx_free(&d);
    }
    double numeric = (loss[1] - loss[0]) / 2e-3;
    CHECKF(t, numeric - slope < 2e-3 * slope && slope - numeric < 2e-3 * slope, "slope %.6f, finite difference %.6f", slope, numeric);
    tn_ctx_free(&c);
}

static void test_dry(test_state *t) {
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        tn_ctx dry, real;
        tn_ctx_init(&dry, NULL, 2), tn_ctx_init(&real, NULL, 2);
        tn_ctx_set_dry(&dry);
        net n;
        run(&dry, &n, checkpoint);
        run(&real, &n, checkpoint);
        CHECKF(t, tn_ctx_peak(&dry) == tn_ctx_peak(&real), "dry run says %zu, the run took %zu", tn_ctx_peak(&dry), tn_ctx_peak(&real));
        size_t peak = tn_ctx_peak(&real);
        tn_ctx_reset(&real);
        run(&real, &n, checkpoint);
        CHECK(t, tn_ctx_peak(&real) == peak);
        tn_ctx_free(&dry), tn_ctx_free(&real);
    }
}

static void test_not_recorded(test_state *t) {
    tn_ctx c;
    tn_ctx_init(&c, NULL, 1);
    c.record = true;
    uint64_t seed = 3;
    tn_tensor *x = tn_leaf(&c, TN_F32, 2, (int64_t[]){3, 4}, NULL, false);
    for (int i = 0; i < 12; i++) ((float *)x->data)[i] = test_rand(&seed);
    tn_tensor *w = leaf(&c, 2, (int64_t[]){5, 4}, &seed);
    CHECK(t, !tn_silu(&c, x)->need && !c.tape);
    tn_tensor *y = tn_linear(&c, x, w, NULL);
    CHECK(t, y->need && c.tape && !c.tape->prev);
    tn_seed(&c, y, NULL);
    tn_backward(&c);
    CHECK(t, w->grad_set && !x->grad);
    tn_ctx_free(&c);
}

/* x, then a chain of layers each of which drops what came before: as many bytes for eight layers as for two. */
static tn_tensor *chain(tn_ctx *c, int layers, bool keep, int64_t n) {
    tn_tensor *x = tn_new(c, TN_F32, 2, (int64_t[]){n, C});
    for (int64_t i = 0; tn_live(c) && i < n * C; i++) tn_f32(x)[i] = (float)(i % 1000) / 1000.0f;
    tn_scope s = tn_scope_open(c);
    for (int i = 0; i < layers; i++) {
        tn_tensor *y = tn_add(c, x, tn_gelu(c, tn_scale(c, x, 0.5f)));
        x = keep ? tn_scope_keep(c, s, y) : y;
    }
    return x;
}

static void test_scopes(test_state *t) {
    enum { ROWS = 1 << 16 }; /* 6 MiB: several pieces of a move, on several threads */
    tn_ctx a, b, dry;
    tn_ctx_init(&a, NULL, 3), tn_ctx_init(&b, NULL, 2), tn_ctx_init(&dry, NULL, 1);
    tn_ctx_set_dry(&dry);
    tn_tensor *kept = chain(&a, 8, true, ROWS), *all = chain(&b, 8, false, ROWS);
    CHECK(t, memcmp(kept->data, all->data, (size_t)tn_numel(all) * sizeof(float)) == 0 && kept->shape[0] == ROWS);
    size_t one = (size_t)ROWS * C * sizeof(float);
    CHECKF(t, tn_ctx_peak(&a) == 5 * one, "eight layers took %zu tensors", tn_ctx_peak(&a) / one); /* two inputs, three made */
    chain(&dry, 8, true, ROWS);
    CHECK(t, tn_ctx_peak(&dry) == tn_ctx_peak(&a));
    tn_ctx_reset(&a);
    a.record = true; /* on a tape nothing is given back */
    chain(&a, 8, true, ROWS);
    CHECK(t, tn_ctx_peak(&a) == tn_ctx_peak(&b));
    tn_ctx_free(&a), tn_ctx_free(&b), tn_ctx_free(&dry);
    /* Where old and new place overlap the bytes arrive all the same; a view takes its data along. */
    tn_ctx_init(&a, NULL, 2);
    tn_ctx_reserve(&a, 2 * one, 0); /* one piece: the new place is at the mark */
    tn_tensor *small = tn_new(&a, TN_F32, 1, (int64_t[]){16});
    tn_scope s = tn_scope_open(&a);
    tn_new(&a, TN_F32, 1, (int64_t[]){32});
    tn_tensor *y = tn_new(&a, TN_F32, 2, (int64_t[]){ROWS, C});
    for (int64_t i = 0; i < tn_numel(y); i++) tn_f32(y)[i] = (float)i;
    y = tn_scope_keep(&a, s, tn_reshape(&a, y, 3, (int64_t[]){2, ROWS / 2, C}));
    bool same = y->ndim == 3 && !y->base;
    for (int64_t i = 0; i < tn_numel(y) && same; i++) same = tn_f32(y)[i] == (float)i;
    CHECK(t, same && (char *)y->data == (char *)small->data + 64);
    tn_ctx_free(&a);
}

/* The last call that it counts happens after the last block of the backward pass. */
static void count_block(void *arg) { ++*(int *)arg; }

static void test_after_block(test_state *t) {
    tn_ctx c;
    net n;
    int count = 0;
    tn_ctx_init(&c, NULL, 1);
    c.after_block = count_block, c.after_block_arg = &count;
    build(&c, &n);
    CHECK(t, count == LAYERS);
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        count = 0;
        tn_ctx_reset(&c);
        run(&c, &n, checkpoint);
        CHECKF(t, count == 2 * LAYERS, "after_block was called %d times", count);
    }
    tn_ctx_free(&c);
}

static void test_out_of_memory(test_state *t) {
    tn_ctx c;
    tn_err err;
    tn_ctx_init(&c, NULL, 1);
    int64_t huge[] = {1 << 30, 1 << 30, 1 << 2};
    tn_tensor *x = tn_new(&c, TN_F32, 3, huge);
    tn_silu(&c, x);
    CHECK(t, tn_ctx_status(&c, &err) == -1 && err.code == TN_ENOMEM);
    tn_ctx_reset(&c);
    CHECK(t, tn_ctx_status(&c, &err) == 0);
    tn_ctx_free(&c);
}

void test_main(test_state *t) {
    if (test_section(t, "checkpoint")) test_checkpoint(t);
    if (test_section(t, "direction")) test_direction(t);
    if (test_section(t, "dry run")) test_dry(t);
    if (test_section(t, "not recorded")) test_not_recorded(t);
    if (test_section(t, "scopes")) test_scopes(t);
    if (test_section(t, "after each block")) test_after_block(t);
    if (test_section(t, "out of memory")) test_out_of_memory(t);
}
