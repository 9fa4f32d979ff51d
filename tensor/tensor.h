/* Tensors, the context they are computed in, and the tape.
 *
 * A tensor is contiguous and row-major: images NCHW, tokens [batch, length, channels], as PyTorch shows them. Reshape
 * shares the data; everything else copies. There are no strides.
 *
 * Operators run at once (eagerly). When some input wants a gradient, the executed operator is also put on the tape, and
 * tn_backward walks the tape from its end: this is micrograd (github.com/karpathy/micrograd), on tensors. Models are
 * written once, forward only; what is recorded follows from which leaves want gradients.
 *
 * Memory: two spaces of bump memory. `step` lives until the caller releases it, `block` for one block. A block
 * (tn_block) is a function of tensors that is one entry of the tape. Kept, its activations stay in the step space;
 * checkpointed (Chen et al. 1604.06174), only its output stays and backward runs it again. Either way the gradients
 * inside it live in the block space and are gone after it, and the bits are the same. Where nothing is recorded, a
 * model says with tn_scope_keep what it still needs, and the rest of the memory is used again. */
#ifndef TN_TENSOR_H
#define TN_TENSOR_H

#include "tensor/arena.h"
#include "tensor/err.h"
#include "tensor/kernel/kernels.h"
#include <stdbool.h>
#include <stdint.h>

enum { TN_MAX_DIMS = 5, TN_MAX_IN = 6 };

typedef struct tn_tensor tn_tensor;
struct tn_tensor {
    tn_dtype dtype; /* weights: F32, F16, BF16 as in the file; ids: I64; everything computed: F32 */
    int ndim;
    int64_t shape[TN_MAX_DIMS];
    void *data;
    float *grad;     /* NULL until backward (or the owner of a leaf) allocates it */
    bool grad_set;   /* grad holds a value; the first contribution overwrites, later ones add */
    bool need;       /* some leaf behind it wants a gradient */
    int depth;       /* number of blocks around its creation: where its gradient lives */
    tn_tensor *base; /* a reshaped view: shares data and gradient with base */
};

typedef struct tn_op tn_op;
typedef struct tn_node tn_node;

typedef struct tn_space {
    tn_arena data; /* what a dry run counts */
    tn_arena meta; /* tensor and node structs: always real */
} tn_space;

/* How conv2d is computed: the sum as it is written; by Winograd's transforms wherever they are defined (3x3, stride 1), which
 * rounds otherwise; or whichever of them is faster for the shape. */
typedef enum { TN_CONV_AUTO, TN_CONV_DIRECT, TN_CONV_WINOGRAD } tn_conv_form;

typedef struct tn_ctx {
    const tn_kernels *k;
    int threads;
    tn_conv_form conv;
    bool use_ref;    /* compute every operator with ref/ in double (slow): the audit of the tuned kernels */
    bool record;     /* put operators on the tape */
    /* A recorded block whose first input has at least so many elements keeps only its output and runs again in
     * backward: 0 none, 1 all. The large images of a UNet are the cheapest to compute again for the memory they take. */
    int64_t checkpoint;
    tn_space step, block, *cur;
    tn_node *tape; /* last recorded operator of the current block */
    int depth;     /* blocks around the current operator */
    bool replay;   /* a block is being run again for backward: traces stay silent */
    void (*trace)(void *arg, const char *name, const tn_tensor *t); /* sees named intermediate tensors; may be NULL */
    void *trace_arg;
    /* sees every operator (blocks apart, whose operators are seen) and the seconds it took; may be NULL */
    void (*profile)(void *arg, const tn_node *n, bool backward, double seconds);
    void *profile_arg;
    /* called when a block has run, forward or backward: what only it used may be given back; may be NULL */
    void (*after_block)(void *arg);
    void *after_block_arg;
} tn_ctx;

/* A context with the best kernels and `threads` threads (0: all). Nothing is allocated yet. */
void tn_ctx_init(tn_ctx *c, const tn_kernels *k, int threads);
void tn_ctx_free(tn_ctx *c);
/* Dry run: shapes only, nothing computed; peaks tell the memory that a real run takes. Call on a fresh context. */
void tn_ctx_set_dry(tn_ctx *c);
size_t tn_ctx_peak(const tn_ctx *c);
/* Forgets everything as tn_ctx_reset, and takes the memory of a run whose peaks are known (those of a dry run's spaces), one
 * piece each: then it takes no more than it needs. Where there is no such piece the run tries in smaller ones. */
void tn_ctx_reserve(tn_ctx *c, size_t step, size_t block);
/* Forgets the tape and everything in both spaces, keeps the memory for the next step. Clears the sticky failure. */
void tn_ctx_reset(tn_ctx *c);
/* How every run starts: a reset, what to put on the tape (record), and room for the run's structs, taken before the
 * first operator so that a run whose data cannot be had still ends in order. -1 with TN_ENOMEM where there is none. */
int tn_ctx_begin(tn_ctx *c, bool record, tn_err *err);
/* 0, or -1 with TN_ENOMEM if an allocation failed since the last reset: the results are then meaningless. */
int tn_ctx_status(const tn_ctx *c, tn_err *err);
bool tn_live(const tn_ctx *c); /* data may be read and written: neither dry nor failed */

int64_t tn_numel(const tn_tensor *t);
size_t tn_dtype_size(tn_dtype t);
int64_t tn_dim(const tn_tensor *t, int axis); /* axis < 0 counts from the end */
float *tn_f32(const tn_tensor *t);            /* data of an F32 tensor; a bug otherwise */

/* New uninitialised tensor in the current space. */
tn_tensor *tn_new(tn_ctx *c, tn_dtype dtype, int ndim, const int64_t *shape);
/* A leaf around the caller's data (which outlives the step), or, with data NULL, uninitialised. With need its gradient
 * is allocated at once (zeroes are not written: grad_set says whether anything arrived). */
tn_tensor *tn_leaf(tn_ctx *c, tn_dtype dtype, int ndim, const int64_t *shape, void *data, bool need);
/* The same numbers under another shape of as many elements. */
tn_tensor *tn_reshape(tn_ctx *c, tn_tensor *x, int ndim, const int64_t *shape);
/* Scopes: a stack within the current space. tn_scope_keep says that of the tensors made since tn_scope_open only y, one of
 * them, is still needed: where nothing is recorded, y moves down to where the scope began and all else is free. On a tape
 * everything is needed, and nothing happens. Returns y, where it now is. */
typedef struct tn_scope {
    tn_mark data, structs;
} tn_scope;
tn_scope tn_scope_open(const tn_ctx *c);
tn_tensor *tn_scope_keep(tn_ctx *c, tn_scope s, tn_tensor *y);
void tn_scope_close(tn_ctx *c, tn_scope s); /* nothing is needed */
/* Shows a tensor to the tracer under `prefix` + `name`. */
void tn_trace(tn_ctx *c, const char *prefix, const char *name, const tn_tensor *t);

/* ---- the tape ---- */

/* Attributes of an operator: the union of what operators need, each field used by the ones named. */
typedef struct tn_attr {
    bool ta, tb;                        /* matmul: transposed operands; linear: x, the result is an image */
    int stride, top, bottom, left, right; /* conv2d: zero padding per side; avg_pool2d: stride */
    int groups;                         /* group_norm */
    bool silu;                          /* group_norm: fused SiLU */
    float eps;                          /* norms */
    int heads;                          /* attention */
    bool causal;                        /* attention */
    float scale;                        /* attention, scale */
    int64_t h, w;                       /* upsample_nearest, linear to an image: target size; avg_pool2d: kernel */
    int64_t from, count;                /* slice */
    float lo, hi;                       /* clamp */
    int64_t dim;                        /* timestep_embedding */
    bool flip;                          /* timestep_embedding: cos before sin */
    float shift, period;                /* timestep_embedding */
} tn_attr;

struct tn_node {
    const tn_op *op;
    tn_node *prev;
    tn_attr a;
    int nin;
    tn_tensor *in[TN_MAX_IN]; /* optional inputs may be NULL */
    tn_tensor *out;
    float *saved; /* statistics that forward leaves for backward */
    void *block;  /* tn_block's own record */
};

/* One set of shapes and attributes that an operator is tested with; the tests run every case of every operator. */
typedef struct tn_case {
    const char *name;
    tn_attr a;
    int nin;
    struct tn_case_input {
        /* numbers that want a gradient: 'x' data, 'w' an F32, 'h' an F16, 'b' a BF16 weight; without: 'd' data, 'p'
         * positive, 'i' ids; 0: the input is absent */
        char fill;
        int ndim;
        int64_t shape[TN_MAX_DIMS];
    } in[TN_MAX_IN];
} tn_case;

struct tn_op {
    const char *name;
    int (*shape)(const tn_node *n, int64_t *shape); /* output shape from inputs and attributes; a misfit is a bug */
    int64_t (*saved)(const tn_node *n);             /* number of floats kept for backward; NULL: none */
    void (*forward)(tn_ctx *c, tn_node *n);
    void (*backward)(tn_ctx *c, tn_node *n); /* adds to the gradients of the inputs that want one; NULL: not differentiable */
    const tn_case *cases;
    int ncases;
};

/* Runs an operator and records it if needed. Constructors in tensor/op/ops.h call it. */
tn_tensor *tn_apply(tn_ctx *c, const tn_op *op, const tn_attr *a, int nin, tn_tensor *const *in);

/* For operators: workspace that is gone when forward or backward returns. */
void *tn_scratch(tn_ctx *c, size_t bytes);
/* For backward: where the gradient of input i goes, NULL if nobody wants it; *acc = 1 if it is to be added to. */
float *tn_din(tn_node *n, int i, int *acc);
void tn_misfit(const tn_node *n, const char *file, int line, const char *what);
#define TN_FIT(n, cond) ((cond) ? (void)0 : tn_misfit((n), __FILE__, __LINE__, #cond))

/* Sets the gradient of an output before tn_backward; cotangent NULL means ones. */
void tn_seed(tn_ctx *c, tn_tensor *out, const float *cotangent);
/* Walks the tape backwards and forgets it. Gradients of leaves are in leaf->grad where leaf->grad_set. */
void tn_backward(tn_ctx *c);

/* A block: one entry of the tape that runs fn on its inputs; without a tape, a call of fn. fn must be a pure function of arg (which outlives the
 * step) and the inputs: every tensor that wants a gradient and is not a leaf with memory of its own comes in through
 * `in`. */
typedef tn_tensor *(*tn_block_fn)(tn_ctx *c, const void *arg, tn_tensor *const *in);
tn_tensor *tn_block(tn_ctx *c, tn_block_fn fn, const void *arg, int nin, tn_tensor *const *in);

#endif
