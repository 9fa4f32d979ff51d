/* Golden cases: finding them, running them, comparing what is computed here with what PyTorch computed.
 *
 * A case is a safetensors file: `in.*` tensors go in; `out.*`, `grad.*` and `trace.*` are what must come out. Its
 * metadata names the kind of computation and, as JSON, every setting. A runner (verify_KIND in verify_*.c) reads the
 * inputs, computes, and hands every tensor it computes to verify_put under its name; the comparison happens there, in
 * the order of the computation, so that the first difference is the earliest. What the file holds and no runner handed
 * in is a failure by itself.
 *
 * Errors are sticky: the first one stays in c->err, later calls return NULL or zero, and a runner checks once before
 * computing. */
#ifndef TOOLS_VERIFY_H
#define TOOLS_VERIFY_H

#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tensor/tensor.h"
#include <stdbool.h>
#include <stdint.h>

/* How far one tensor is from its golden. */
typedef struct verify_check {
    const char *name;
    double nmse;         /* normalised squared error: sum (a-b)^2 / sum b^2 */
    double error, bar;   /* in the measure of the tensor's kind, see verify_compare.c; mostly that one */
    int64_t index;       /* the element that is furthest off; -1: nothing to point at */
    double ours, golden; /* that element */
    const char *note;    /* what is wrong where it is not a number: another shape, nothing compared; else NULL */
    bool passed;
} verify_check;

typedef struct verify_case {
    const char *path;
    char *folder; /* where the file lies */
    char *model;  /* the folder above it: the model of a file in cases/ */
    const char *kind;
    tn_st *st;    /* NULL for JSON lines */
    tn_json *doc; /* of attrs */
    const tn_jval *attrs;
    tn_ctx *ctx;
    const char *clip_vocab; /* --clip-vocab, or NULL */
    tn_err err;             /* the first error; code 0 while all is well */

    verify_check *check; /* in the order of the computation */
    int n_checks, cap_checks;
    bool *compared;         /* [st->n] */
    double largest_grad;    /* over all elements of the case's golden gradients */
    double largest_norm;    /* over its golden parameter gradients, as whole tensors */
    tn_st_writer *recorder; /* `oneword trace`: keeps everything that is handed in; else NULL */
    tn_jw *order;           /* its names in the order of the computation */

    int64_t dim[26]; /* what the letters of dims stand for; 0: not yet known */
    struct verify_leaf {
        const char *name;
        tn_tensor *t;
    } leaf[8];
    int n_leaves;
    struct verify_memory *memory; /* freed with the case */
} verify_case;

/* ---- opening: verify_case.c ---- */

/* Opens a case file or a JSON lines file. TN_EIO, TN_EINPUT where it is not one. verify_close in any event. */
int verify_open(verify_case *c, const char *path, tn_ctx *ctx, const char *clip_vocab, tn_err *err);
void verify_close(verify_case *c);
/* Runs it: checks are filled, and c->err where it could not be run (TN_EUNSUPPORTED: a later piece of work). */
void verify_run(verify_case *c);
/* The first check that did not pass, n_checks if none. */
int verify_first_failure(const verify_case *c);

void *verify_alloc(verify_case *c, size_t bytes);
/* "a" + "b" + "c"; NULL stands for nothing. */
char *verify_join(verify_case *c, const char *a, const char *b, const char *c3);
/* TN_EINPUT with the case's path in front, unless there is an error already. */
void verify_bad(verify_case *c, const char *fmt, ...) TN_PRINTF(2, 3);
void verify_unsupported(verify_case *c, const char *fmt, ...) TN_PRINTF(2, 3);

/* Settings. The first two must be there; verify_number gives `otherwise` where absent. */
int64_t verify_int(verify_case *c, const char *key, int64_t lo, int64_t hi);
const char *verify_text(verify_case *c, const char *key);
double verify_number(verify_case *c, const char *key, double otherwise);
const tn_jval *verify_attr(verify_case *c, const char *key); /* NULL where absent */

bool verify_has(const verify_case *c, const char *name);
bool verify_has_any(const verify_case *c, const char *prefix);
/* An input as a leaf of the context, F32 or I64. It wants a gradient where the file holds grad.NAME for in.NAME.
 * dims: one letter a dimension, the same letter the same size (c->dim, which a runner may set before); '1'-'9' is
 * itself; one '*' stands for any number of dimensions. Empty tensors are refused: operators have at least one element.
 */
tn_tensor *verify_leaf(verify_case *c, const char *name, const char *dims);
/* The same where an integer tensor may stand for numbers (timesteps). */
tn_tensor *verify_leaf_f32(verify_case *c, const char *name, const char *dims);
/* Its elements. */
float *verify_f32(verify_case *c, const char *name, const char *dims);
int64_t *verify_i64(verify_case *c, const char *name, const char *dims);
unsigned char *verify_u8(verify_case *c, const char *name, const char *dims);
/* All of ids[n] are within 0 .. limit-1. */
void verify_range(verify_case *c, const char *name, const int64_t *ids, int64_t n, int64_t limit);
int64_t verify_dim(const verify_case *c, char letter);

/* ---- comparing: verify_compare.c ---- */

/* Hands in a computed tensor; dtype F32, F64, I64 or U8. What the file does not hold is not compared. */
void verify_put_data(verify_case *c, const char *name, tn_dtype dtype, int ndim, const int64_t *shape,
                     const void *data);
void verify_put(verify_case *c, const char *name, const tn_tensor *t);
/* name + "." + i */
void verify_put_step(verify_case *c, const char *name, int i, tn_dtype dtype, int ndim, const int64_t *shape,
                     const void *data);
/* The same against a tensor of another file, under the name `shown`. */
void verify_put_against(verify_case *c, const tn_st_tensor *golden, const char *shown, int64_t n, const float *data);
void verify_record(verify_case *c, const verify_check *check);
/* tn_ctx.trace: arg is the case; hands in trace.NAME. */
void verify_trace(void *arg, const char *name, const tn_tensor *t);
/* The gradient of every leaf that wants one. */
void verify_put_grads(verify_case *c);
/* Seeds y with the tensor of that name where both want it; true if it did. */
bool verify_seed(verify_case *c, tn_tensor *y, const char *cotangent);
/* After the run: what the file holds and nobody handed in. */
void verify_leftovers(verify_case *c);
/* Normalised squared error and worst element of a pair of tensors: what `oneword diff` needs. */
void verify_measure(const double *ours, const double *golden, int64_t n, verify_check *check);

/* ---- kinds ---- */

void verify_op(verify_case *c);
void verify_text_encoder(verify_case *c);
void verify_unet(verify_case *c);
void verify_vae_encode(verify_case *c);
void verify_vae_decode(verify_case *c);
void verify_clip_similarity(verify_case *c);
void verify_scheduler(verify_case *c);
void verify_text_to_image(verify_case *c);
void verify_ddim_inversion(verify_case *c);
void verify_inversion(verify_case *c);
void verify_clip_preprocess(verify_case *c);
void verify_resize(verify_case *c);
void verify_ti_preprocess(verify_case *c);
void verify_rng(verify_case *c);
void verify_tokenizer(verify_case *c);

/* ---- finding: verify_find.c ---- */

typedef struct verify_paths {
    char **path;
    size_t n, cap;
} verify_paths;
/* Adds the case files that `path` stands for: itself, the cases of a model, everything below a folder. */
int verify_find(verify_paths *list, const char *path, tn_err *err);
void verify_paths_free(verify_paths *list);

#endif
