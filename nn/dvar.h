/* DVAR (Voronov et al. 2302.04841): when a word has been learned, the loss of one fixed batch (fixed pictures,
 * sentences, noise and timesteps) stops moving, which the loss of training, drowned in the noise of its draws, never
 * shows. The run ends when the variance of the last `window` such losses falls below a share of the variance of all of
 * them (yandex-research/DVAR early_stopping.py; for textual inversion the paper takes window 310 and .15). */
#ifndef NN_DVAR_H
#define NN_DVAR_H

#include "tensor/err.h"
#include <stdint.h>

typedef struct nn_dvar {
    double *loss; /* of every step so far */
    int64_t n, capacity;
} nn_dvar;
int nn_dvar_add(nn_dvar *d, double loss, tn_err *err); /* TN_ENOMEM */
/* Variance of the last `window` losses over that of all; 1 as long as there are fewer, or where all are the same. */
double nn_dvar_ratio(const nn_dvar *d, int64_t window);
void nn_dvar_free(nn_dvar *d);

#endif
