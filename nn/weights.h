/* Weights bind by table.
 *
 * A network is described once, by small tables of rows (name, field, dims). Walking the tables with a binder in one of
 * its modes loads the weights from safetensors files (mapped, never copied where the host is little-endian and the data
 * aligned), and checks that every tensor of the table is there with its shape and that every tensor of the file was
 * claimed. The canonical names are those of diffusers and transformers. */
#ifndef NN_WEIGHTS_H
#define NN_WEIGHTS_H

#include "nn/config.h"
#include "tensor/io/safetensors.h"
#include "tensor/tensor.h"

/* One parameter of a component, by its canonical full name. `source` is its name in the file where that differs. */
typedef struct nn_param {
    char *name, *source;
    tn_tensor *t; /* points into the component */
} nn_param;

typedef struct nn_params {
    nn_param *p;
    int n, cap;
} nn_params;

/* One row of a table. dims: one character a dimension: a digit is itself (1-9); a letter is looked up in the
 * `letters`/`sizes` that the caller binds with, e.g. "OI33" or "C". flags say what older files may do. */
typedef struct nn_bind_row {
    const char *name; /* under the block's prefix, "norm1.weight" */
    const char *old;  /* an older name for the same tensor, or NULL */
    size_t field;     /* offsetof(block struct, tn_tensor field) */
    const char *dims;
    int flags;
} nn_bind_row;

enum {
    NN_OPTIONAL = 1, /* may be absent: the tensor's data stays NULL */
    NN_SQUEEZE = 2   /* a 2-D weight may lie as [O,I,1,1] or [O,I,1] (attention projections of CompVis) */
};

typedef struct nn_binder nn_binder;

/* Opens the weights of a component in folder `dir`, in diffusers' order: STEM.safetensors, the shards of
 * STEM.safetensors.index.json, a variant (fp16, bf16, ema, non_ema; noted). `ignored` is a NULL-terminated list of what
 * is not a weight: name suffixes ("position_ids"), or prefixes where they end in '.' ("vision_model."); noted with
 * their count. `optional_prefix` (or NULL) is a start of the canonical names that a file may lack. TN_EUNSUPPORTED
 * names files of other formats; TN_EIO where there is nothing.
 * With `stem` NULL no file is opened: every row that is bound becomes a parameter with its canonical name and shape and
 * no data. Such an outline is what a new file of weights is made from. */
int nn_binder_open(const char *dir, const char *stem, const char *const *ignored, const char *optional_prefix,
                   nn_notes *notes, nn_binder **out, tn_err *err);
/* Binds the rows to the fields of *block, which start as zeros: names are prefix + row->name; letters "OIC" with sizes
 * {o,i,c}. Fails on a tensor of the wrong shape or type, and where memory is out. A missing tensor is remembered for
 * the end, so that all can be named at once. */
int nn_bind(nn_binder *b, const char *prefix, const nn_bind_row *rows, size_t nrows, void *block, const char *letters,
            const int64_t *sizes, tn_err *err);

/* What a component owns: its list of parameters, its open files, and copies that had to be made. */
typedef struct nn_weights {
    nn_params params;
    tn_st **files;
    int nfiles;
    void **owned; /* copies: unaligned data, a big-endian host, F64 */
    int nowned;
    nn_notes notes;
} nn_weights;

/* Ends binding, freeing the binder: with `bind_failed` passes that failure (and its *err) on; else fails naming the
 * tensors that are missing or that nobody claimed; else hands everything over to *out. */
int nn_binder_close(nn_binder *b, int bind_failed, nn_weights *out, tn_err *err);
/* Call it before the structs that the parameters lie in are freed. */
void nn_weights_free(nn_weights *w);
/* Gives the memory of the mapped files back to the system; the weights are read again where they are next used. */
void nn_weights_rest(const nn_weights *w);
/* Whether the data lie in one of the mapped files. */
bool nn_weights_are_mapped(const nn_weights *w, const void *data);

/* A weight as an operand. Forward does not change it, but backward may fill its gradient. NULL where an optional one is
 * absent. */
static inline tn_tensor *nn_w(const tn_tensor *t) { return t->data ? (tn_tensor *)t : NULL; }

const nn_param *nn_param_find(const nn_params *p, const char *name); /* by canonical name or by its name in the file */
/* All parameters want gradients (allocated, not zeroed, and marked unset), or none does (freed). */
int nn_params_need(nn_params *p, bool need, tn_err *err);

#endif
