/* Textual inversion (Gal et al. 2208.01618, eq. 2): v* = argmin E ||eps - eps_theta(z_t, t, c(y))||^2 over the rows of
 * the placeholder alone. Here are the learned rows, the gradient of one batch and the update; nn/train.h has the loop
 * around them. */
#ifndef NN_INVERSION_H
#define NN_INVERSION_H

#include "nn/model.h"
#include "tensor/op/ops.h"

/* The learned vectors and all state of their optimiser. Row r is the token with id vocabulary size + r. */
typedef struct nn_word {
    int64_t rows, dim, updates; /* updates: optimiser steps taken */
    float *v, *m, *s;           /* vectors, first and second moment, each [rows,dim] */
    float *grad, *initial;      /* of the step being built; where training started */
} nn_word;
int nn_word_init(nn_word *w, int64_t rows, int64_t dim, tn_err *err);
void nn_word_free(nn_word *w);

typedef struct nn_inversion_batch {
    int64_t B, L, h, w;
    const int64_t *ids;       /* [B,L] */
    const float *latents;     /* [B,C,h,w], scaled */
    const float *noise;       /* the same shape */
    const int64_t *timesteps; /* [B] */
    nn_text_cache *texts;     /* what is known of earlier batches' texts; may be NULL */
} nn_inversion_batch;

/* Runs one batch forward and backward: adds `scale` times the gradient of its loss to w->grad (first = overwrites) and
 * stores the loss (mean over all elements). The context decides about checkpointing. TN_ENOMEM; TN_ENUMERIC where the
 * loss or the gradient is not finite, w then unchanged but for grad. */
int nn_inversion_gradient(tn_ctx *c, const nn_model *m, const nn_schedule *s, nn_word *w, const nn_inversion_batch *b,
                          float scale, bool first, double *loss, tn_err *err);

/* The loss alone, nothing recorded; w may be any rows that the ids name. TN_ENOMEM; TN_ENUMERIC. */
int nn_inversion_loss(tn_ctx *c, const nn_model *m, const nn_schedule *s, const nn_word *w, const nn_inversion_batch *b,
                      double *loss, tn_err *err);

/* For V rows from `first` on: weight * R is added to the loss, its gradient to w->grad; returns R. With D = v - initial
 * [V,dim]:
 * NN_REG_L2: R = sum_i ||D_i||^2 / V;
 * NN_REG_OFFICIAL: the mean over all V x V entries of D D^T, which is what the official code computes
 * (rinongal/textual_inversion embedding_manager.py): the same for V = 1, else only the mean of the rows is held. */
typedef enum { NN_REG_L2, NN_REG_OFFICIAL } nn_reg_kind;
double nn_inversion_regularise(nn_word *w, int64_t first, int64_t V, nn_reg_kind kind, double weight);

/* Gradient clipping before the update: by total norm (torch's clip_grad_norm_) or by value; 0 = none. Returns the
 * norm before. */
double nn_inversion_clip(nn_word *w, double max_norm, double max_value);

/* One AdamW step with w->grad. */
void nn_inversion_update(tn_ctx *c, nn_word *w, const tn_adamw_config *cfg, double lr);
/* The same for n rows from `first` on, as their step number `step` (from 1); w->updates is the caller's. */
void nn_inversion_update_rows(tn_ctx *c, nn_word *w, int64_t first, int64_t n, int64_t step, const tn_adamw_config *cfg,
                              double lr);

/* The official code's way to several vectors: in ids [L] each `placeholder` becomes rows first, first+1, .. first+V-1,
 * what follows moves right, and the row is cut to L. */
void nn_expand_placeholder(int64_t *ids, int64_t L, int64_t placeholder, int64_t first, int64_t V);

#endif
