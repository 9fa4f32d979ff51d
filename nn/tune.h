/* Pivotal tuning (Roich et al. 2106.05744; appendix B of Gal et al. 2208.01618): the word is fixed, and text encoder
 * and UNet learn around it, with the loss, the pictures and the sentences that the word was learned with. The official
 * code (rinongal/textual_inversion, v1-finetune_unfrozen.yaml) takes AdamW at 1e-7 on all of their weights.
 *
 * The run is an nn_train whose placeholders start from the word (`initial`) and which is never advanced: its settings
 * (lr, adam, batch, accumulate, steps, seed) and draws are used. */
#ifndef NN_TUNE_H
#define NN_TUNE_H

#include "nn/train.h"

typedef struct nn_tune nn_tune;

/* Bytes that are kept from step to step: weights in F32, gradients, both moments. */
size_t nn_tune_bytes(const nn_model *m);
/* What a step takes besides, by a dry run. The run may still be without pictures. */
int nn_tune_measure(nn_train *run, const tn_ctx *like, int64_t checkpoint, nn_need *out, tn_err *err);

/* From now on the weights of run's text encoder and UNet are F32 copies that learn, until nn_tune_free gives the model
 * its own ones back. `run` has been encoded. TN_ENOMEM. */
int nn_tune_open(nn_train *run, nn_tune **out, tn_err *err);
void nn_tune_free(nn_tune *t); /* NULL is fine; before the run and the model are freed */

/* One optimiser step; out->step, loss, lr and grad_norm are filled. TN_ENUMERIC where the loss or a weight is not
 * finite. */
int nn_tune_advance(nn_tune *t, tn_ctx *c, nn_train_step *out, tn_err *err);
int64_t nn_tune_steps_done(const nn_tune *t);

/* Checkpoint: weights, moments and counters, 12 bytes a weight. Loading refuses (TN_EINPUT) one of another model, word, other
 * pictures or settings, as nn_train_load does; where it fails half-way the run cannot go on. `fingerprint` identifies the model. */
int nn_tune_save(const nn_tune *t, const char *fingerprint, const char *path, tn_err *err);
int nn_tune_load(nn_tune *t, const char *fingerprint, const char *path, tn_err *err);

#endif
