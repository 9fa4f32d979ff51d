/* What a run takes of the machine's memory, known before it starts, and where weights are while nobody uses them. None of
 * it changes a result. */
#ifndef NN_MEMORY_H
#define NN_MEMORY_H

#include "nn/model.h"

/* Weights are mapped files, and count as memory in use from when they are first read until they are given back. Given
 * back, they stay in the system's cache of files as long as it has room, and cost little to read again. */
typedef enum nn_residency {
    NN_STAY,  /* weights and arenas stay */
    NN_LEAVE, /* both are given back when the run moves on to another network */
    NN_STREAM /* and weights also after each block */
} nn_residency;

/* Bytes, counted by a dry run. */
typedef struct nn_need {
    size_t step, block;   /* the two spaces of the context, at most */
    size_t weights, part; /* mapped weights that the run reads: in all, and at most between two ends of a block */
} nn_need;

/* Walks through run(c, arg) with a context that only counts, otherwise like *like. Fails where run does. */
int nn_measure(const tn_ctx *like, const nn_model *m, int (*run)(tn_ctx *c, void *arg, tn_err *err), void *arg,
               nn_need *out, tn_err *err);
/* What such a run takes on top of what the program has anyway. */
size_t nn_need_bytes(const nn_need *n, nn_residency r);

/* The beginning of a part of a run: makes c stream weights, or not, and sees to room for `n`; with NN_LEAVE and NN_STREAM
 * what the part before took is given back first. At the end of the last part call it with n NULL. */
void nn_memory_part(tn_ctx *c, const nn_model *m, nn_residency r, const nn_need *n);

#endif
