#include "tensor/tensor.h"

#include "tensor/io/sys.h"
#include "tensor/parallel.h"
#include <stdio.h>
#include <string.h>

void tn_ctx_init(tn_ctx *c, const tn_kernels *k, int threads) {
    *c = (tn_ctx){0};
    c->k = k ? k : tn_kernels_best();
    c->threads = threads > 0 ? threads : tn_max_threads();
    c->cur = &c->step;
}

void tn_ctx_free(tn_ctx *c) {
    tn_arena_free(&c->step.data), tn_arena_free(&c->step.meta);
    tn_arena_free(&c->block.data), tn_arena_free(&c->block.meta);
}

void tn_ctx_set_dry(tn_ctx *c) { c->step.data.counting = c->block.data.counting = true; }

size_t tn_ctx_peak(const tn_ctx *c) { return c->step.data.peak + c->block.data.peak; }

static void arena_reset(tn_arena *a) {
    tn_arena_release(a, (tn_mark){0});
    a->failed = false;
}

void tn_ctx_reset(tn_ctx *c) {
    arena_reset(&c->step.data), arena_reset(&c->step.meta);
    arena_reset(&c->block.data), arena_reset(&c->block.meta);
    c->cur = &c->step;
    c->tape = NULL;
    c->depth = 0;
    c->replay = false;
}

void tn_ctx_reserve(tn_ctx *c, size_t step, size_t block) {
    tn_ctx_reset(c);
    tn_arena_reserve(&c->step.data, step);
    tn_arena_reserve(&c->block.data, block);
    c->step.data.failed = c->block.data.failed = false;
}

/* Bytes of structs that a run is promised: several times what a training step of the largest model of the family needs
 * (tests/ test_oom.c measures). Untouched pages cost nothing. */
enum { STEP_STRUCTS = 4 << 20, BLOCK_STRUCTS = 1 << 20 };

int tn_ctx_begin(tn_ctx *c, bool record, tn_err *err) {
    tn_ctx_reset(c);
    c->record = record;
    tn_arena_reserve(&c->step.meta, STEP_STRUCTS);
    tn_arena_reserve(&c->block.meta, BLOCK_STRUCTS);
    if (c->step.meta.failed || c->block.meta.failed) return tn_fail(err, TN_ENOMEM, "out of memory for the tape");
    return 0;
}

static bool failed(const tn_ctx *c) { return c->step.data.failed || c->block.data.failed; }

int tn_ctx_status(const tn_ctx *c, tn_err *err) {
    if (!failed(c)) return 0;
    return tn_fail(err, TN_ENOMEM, "out of memory: the run needed more than %.2f GiB",
                   (double)tn_ctx_peak(c) / (1024.0 * 1024.0 * 1024.0));
}

bool tn_live(const tn_ctx *c) { return !c->step.data.counting && !failed(c); }

int64_t tn_numel(const tn_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

size_t tn_dtype_size(tn_dtype t) {
    static const size_t size[] = {4, 2, 2, 8, 1, 8}; /* in the order of tn_dtype */
    return size[t];
}

int64_t tn_dim(const tn_tensor *t, int axis) { return t->shape[axis < 0 ? t->ndim + axis : axis]; }

float *tn_f32(const tn_tensor *t) {
    TN_REQUIRE(t->dtype == TN_F32);
    return t->data;
}

/* A struct in the current space. Failed data is sticky and the run goes on without numbers, but shapes need their
 * structs: tn_ctx_begin sees to it that they are there. */
static void *meta(tn_ctx *c, size_t bytes) {
    void *p = tn_arena_alloc(&c->cur->meta, bytes);
    if (c->cur->meta.failed) TN_BUG("out of memory for the tape");
    return memset(p, 0, bytes);
}

static tn_tensor *header(tn_ctx *c, tn_dtype dtype, int ndim, const int64_t *shape) {
    TN_REQUIRE(ndim >= 0 && ndim <= TN_MAX_DIMS);
    tn_tensor *t = meta(c, sizeof *t);
    t->dtype = dtype, t->ndim = ndim, t->depth = c->depth;
    for (int i = 0; i < ndim; i++) t->shape[i] = shape[i];
    return t;
}

/* n elements in the current space; a size beyond the machine's is a failed allocation like any other. */
static void *elements(tn_ctx *c, int64_t n, size_t size) {
    bool fits = n >= 0 && (uint64_t)n <= SIZE_MAX / 2 / size;
    return tn_arena_alloc(&c->cur->data, fits ? (size_t)n * size : SIZE_MAX);
}

static void *floats(tn_ctx *c, int64_t n) { return elements(c, n, sizeof(float)); }

tn_tensor *tn_new(tn_ctx *c, tn_dtype dtype, int ndim, const int64_t *shape) {
    tn_tensor *t = header(c, dtype, ndim, shape);
    t->data = elements(c, tn_numel(t), tn_dtype_size(dtype));
    return t;
}

tn_tensor *tn_leaf(tn_ctx *c, tn_dtype dtype, int ndim, const int64_t *shape, void *data, bool need) {
    tn_tensor *t = data ? header(c, dtype, ndim, shape) : tn_new(c, dtype, ndim, shape);
    if (data) t->data = data;
    t->need = need;
    if (need) t->grad = floats(c, tn_numel(t));
    return t;
}

static tn_tensor *root(tn_tensor *t) { return t->base ? t->base : t; }

tn_tensor *tn_reshape(tn_ctx *c, tn_tensor *x, int ndim, const int64_t *shape) {
    tn_tensor *t = header(c, x->dtype, ndim, shape);
    TN_REQUIRE(tn_numel(t) == tn_numel(x));
    t->data = x->data, t->need = x->need, t->base = root(x);
    return t;
}

/* ---- scopes ---- */

tn_scope tn_scope_open(const tn_ctx *c) {
    tn_scope s = {tn_arena_mark(&c->cur->data), tn_arena_mark(&c->cur->meta)};
    return s;
}

enum { PIECE = 1 << 20 }; /* bytes that one task moves */

typedef struct move {
    char *to;
    const char *from;
    size_t n;
} move;

static void move_piece(void *arg, int64_t i, int worker) {
    const move *m = arg;
    size_t at = (size_t)i * PIECE, left = m->n - at;
    (void)worker;
    memcpy(m->to + at, m->from + at, left < PIECE ? left : PIECE);
}

/* Threads where the two places are apart; else the order of the bytes matters. */
static void move_bytes(int threads, void *to, const void *from, size_t n) {
    uintptr_t a = (uintptr_t)to, b = (uintptr_t)from;
    move m = {to, from, n};
    if (a + n <= b || b + n <= a) tn_parallel_for(threads, (int64_t)((n + PIECE - 1) / PIECE), move_piece, &m);
    else memmove(to, from, n);
}

void tn_scope_close(tn_ctx *c, tn_scope s) {
    if (c->record) return;
    tn_arena_release(&c->cur->data, s.data);
    tn_arena_release(&c->cur->meta, s.structs);
}

tn_tensor *tn_scope_keep(tn_ctx *c, tn_scope s, tn_tensor *y) {
    if (c->record) return y;
    tn_tensor old = *y; /* the struct's memory is given back too */
    tn_scope_close(c, s);
    y = tn_new(c, old.dtype, old.ndim, old.shape);
    if (tn_live(c)) move_bytes(c->threads, y->data, old.data, (size_t)tn_numel(y) * tn_dtype_size(y->dtype));
    return y;
}

void tn_trace(tn_ctx *c, const char *prefix, const char *name, const tn_tensor *t) {
    if (!c->trace || c->replay || !tn_live(c)) return;
    char full[200];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    c->trace(c->trace_arg, full, t);
}

/* ---- the tape ---- */

void tn_misfit(const tn_node *n, const char *file, int line, const char *what) {
    fprintf(stderr, "oneword: operator %s:", n->op->name);
    for (int i = 0; i < n->nin; i++) {
        fprintf(stderr, " (");
        for (int d = 0; n->in[i] && d < n->in[i]->ndim; d++) fprintf(stderr, d ? ",%lld" : "%lld", (long long)n->in[i]->shape[d]);
        fputc(')', stderr);
    }
    fputc('\n', stderr);
    tn_bug(file, line, "shapes do not fit: %s", what);
}

void *tn_scratch(tn_ctx *c, size_t bytes) { return tn_arena_alloc(&c->cur->data, bytes); }

/* ref/ as a back end: tensor/op/ref_backend.c. */
void tn_ref_forward(tn_ctx *c, tn_node *n);
void tn_ref_backward(tn_ctx *c, tn_node *n);

/* One operator in one direction, with its scratch. */
static void execute(tn_ctx *c, tn_node *n, bool backward) {
    double start = c->profile ? tn_clock() : 0.0;
    tn_mark m = tn_arena_mark(&c->cur->data);
    if (!c->use_ref || n->block) (backward ? n->op->backward : n->op->forward)(c, n);
    else if (tn_live(c)) (backward ? tn_ref_backward : tn_ref_forward)(c, n);
    tn_arena_release(&c->cur->data, m);
    if (c->profile && !n->block) c->profile(c->profile_arg, n, backward, tn_clock() - start);
}

tn_tensor *tn_apply(tn_ctx *c, const tn_op *op, const tn_attr *a, int nin, tn_tensor *const *in) {
    tn_node *n = meta(c, sizeof *n);
    n->op = op, n->nin = nin;
    if (a) n->a = *a;
    bool need = false;
    for (int i = 0; i < nin; i++) {
        n->in[i] = in[i];
        need = need || (in[i] && in[i]->need);
    }
    int64_t shape[TN_MAX_DIMS];
    int ndim = op->shape(n, shape);
    n->out = tn_new(c, TN_F32, ndim, shape);
    n->out->need = need && c->record && op->backward;
    if (op->saved) n->saved = floats(c, op->saved(n));
    execute(c, n, false);
    if (n->out->need) n->prev = c->tape, c->tape = n;
    return n->out;
}

float *tn_din(tn_node *n, int i, int *acc) {
    if (i >= n->nin || !n->in[i] || !n->in[i]->need) return NULL;
    tn_tensor *t = root(n->in[i]);
    *acc = t->grad_set;
    t->grad_set = true;
    return t->grad;
}

/* Gradients live as long as the tensors they belong to are in reach: in the space of the block being walked. */
static void ensure_grad(tn_ctx *c, tn_tensor *t) {
    if (!t || !t->need) return;
    t = root(t);
    if (t->grad) return;
    TN_REQUIRE(t->depth == c->depth); /* else a block used a tensor that is not among its inputs */
    t->grad = floats(c, tn_numel(t));
}

static void walk(tn_ctx *c, tn_node *n) {
    for (; n; n = n->prev) {
        if (!root(n->out)->grad_set) continue; /* nothing depends on it */
        n->out->grad = root(n->out)->grad;
        for (int i = 0; i < n->nin; i++) ensure_grad(c, n->in[i]);
        execute(c, n, true);
    }
}

void tn_seed(tn_ctx *c, tn_tensor *out, const float *cotangent) {
    TN_REQUIRE(out->need);
    ensure_grad(c, out);
    tn_tensor *t = root(out);
    int64_t n = tn_numel(t);
    bool add = t->grad_set;
    t->grad_set = true;
    if (!tn_live(c)) return;
    for (int64_t i = 0; i < n; i++) t->grad[i] = (add ? t->grad[i] : 0.0f) + (cotangent ? cotangent[i] : 1.0f);
}

void tn_backward(tn_ctx *c) {
    tn_node *tape = c->tape;
    c->tape = NULL;
    walk(c, tape);
}

/* ---- blocks ---- */

/* What a block leaves for its backward: how to run it again, or, kept, the tape and output of its one run. */
typedef struct block_record {
    tn_block_fn fn;
    const void *arg;
    tn_node *tape;
    tn_tensor *inner;
} block_record;

/* Runs fn with a tape of its own, one level deeper; leaves that tape in *tape. */
static tn_tensor *run_inside(tn_ctx *c, const block_record *r, tn_tensor *const *in, tn_node **tape) {
    tn_node *outer = c->tape;
    c->tape = NULL;
    c->depth++;
    tn_tensor *y = r->fn(c, r->arg, in);
    c->depth--;
    *tape = c->tape;
    c->tape = outer;
    return y;
}

static void block_backward(tn_ctx *c, tn_node *n) {
    block_record *r = n->block;
    tn_space *outer = c->cur;
    c->cur = &c->block;
    tn_mark data = tn_arena_mark(&c->block.data), structs = tn_arena_mark(&c->block.meta);
    tn_node *tape = r->tape;
    tn_tensor *inner = r->inner;
    if (!inner) {
        bool replay = c->replay;
        c->replay = c->record = true;
        inner = run_inside(c, r, n->in, &tape);
        c->replay = replay;
    }
    root(inner)->grad = n->out->grad;
    root(inner)->grad_set = true;
    c->depth++;
    walk(c, tape);
    c->depth--;
    tn_arena_release(&c->block.data, data);
    tn_arena_release(&c->block.meta, structs);
    c->cur = outer;
    if (c->after_block) c->after_block(c->after_block_arg);
}

static const tn_op block_op = {"block", NULL, NULL, NULL, block_backward, NULL, 0};

/* Forward of a block that is checkpointed or has nothing to record: activations go to the block space, only the output is copied out of it. */
static tn_tensor *run_and_forget(tn_ctx *c, const block_record *r, tn_tensor *const *in, bool need) {
    tn_mark data = tn_arena_mark(&c->block.data), structs = tn_arena_mark(&c->block.meta);
    bool record = c->record;
    tn_node *none;
    c->cur = &c->block, c->record = false;
    tn_tensor *inner = run_inside(c, r, in, &none);
    c->cur = &c->step, c->record = record;
    tn_tensor *y = tn_new(c, TN_F32, inner->ndim, inner->shape);
    if (tn_live(c)) move_bytes(c->threads, y->data, inner->data, (size_t)tn_numel(y) * sizeof(float));
    y->need = need;
    tn_arena_release(&c->block.data, data);
    tn_arena_release(&c->block.meta, structs);
    return y;
}

static tn_tensor *run_block(tn_ctx *c, const block_record *now, int nin, tn_tensor *const *in) {
    bool need = false;
    for (int i = 0; i < nin; i++) need = need || in[i]->need;
    if (!c->record) return now->fn(c, now->arg, in);
    if (!need) return run_and_forget(c, now, in, false);

    tn_node *n = meta(c, sizeof *n);
    block_record *r = meta(c, sizeof *r);
    *r = *now;
    n->op = &block_op, n->nin = nin, n->block = r;
    for (int i = 0; i < nin; i++) n->in[i] = in[i];
    if (c->checkpoint && tn_numel(in[0]) >= c->checkpoint) {
        n->out = run_and_forget(c, r, in, true);
    } else {
        r->inner = run_inside(c, r, in, &r->tape);
        n->out = tn_leaf(c, TN_F32, r->inner->ndim, r->inner->shape, r->inner->data, false);
        n->out->need = true;
    }
    n->prev = c->tape, c->tape = n;
    return n->out;
}

tn_tensor *tn_block(tn_ctx *c, tn_block_fn fn, const void *arg, int nin, tn_tensor *const *in) {
    TN_REQUIRE(nin <= TN_MAX_IN);
    if (c->depth > 0) return fn(c, arg, in); /* blocks do not nest: the outer one already bounds the memory */
    block_record now = {fn, arg, NULL, NULL};
    tn_tensor *y = run_block(c, &now, nin, in);
    if (c->after_block) c->after_block(c->after_block_arg);
    return y;
}
