/* Weights bind by table.
 *
 * A network is described once, by small tables of rows (name, field, dims). Walking the tables with a binder in one of its modes
 * loads the weights from safetensors files (mapped, never copied where the host is little-endian and the data aligned), and
 * checks that every tensor of the table is there with its shape and that every tensor of the file was claimed. The canonical
 * names are those of diffusers and transformers. */
#ifndef NN_WEIGHTS_H
#define NN_WEIGHTS_H

#include "tensor/io/safetensors.h"
#include "tensor/tensor.h"

/* One parameter of a component, by its canonical full name. `source` is its name in the file where that differs (old names). */
typedef struct nn_param {
    char *name, *source;
    tn_tensor *t; /* points into the component */
} nn_param;

typedef struct nn_params {
    nn_param *p;
    int n, cap;
} nn_params;

/* One row of a table. dims: one character a dimension: a digit is itself (1-9); a letter is looked up in the `letters`/`sizes`
 * that the caller binds with, e.g. "OI33" or "C". flags say what older files may do. */
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

/* Opens the weights of a component: a file, or every shard of an index. `ignored` is a NULL-terminated list of name suffixes
 * that are not weights (position_ids, logit_scale, ...). Warnings (ignored count) go to the notes of nn_model. */
int nn_binder_open(const char *dir, const char *stem, const char *const *ignored, nn_binder **out, tn_err *err);
/* Binds the rows to the fields of *block: names are prefix + row->name. letters "OIC" with sizes {o,i,c}. */
int nn_bind(nn_binder *b, const char *prefix, const nn_bind_row *rows, int nrows, void *block, const char *letters, const int64_t *sizes,
            tn_err *err);
/* Ends binding: fails naming the unclaimed tensors. On success hands over the list of parameters and the open files, which the
 * component owns from now on. The binder is freed either way. */
typedef struct nn_weights {
    nn_params params;
    tn_st **files;
    int nfiles;
    void **owned; /* copies that had to be made (alignment, big-endian, F64) */
    int nowned;
} nn_weights;
int nn_binder_close(nn_binder *b, nn_weights *out, tn_err *err);
void nn_binder_abandon(nn_binder *b);
void nn_weights_free(nn_weights *w);

const nn_param *nn_param_find(const nn_params *p, const char *name); /* by canonical name or by its name in the file */
/* All parameters want gradients (allocated and marked unset), or none does (freed). */
int nn_params_need(nn_params *p, bool need, tn_err *err);

#endif
