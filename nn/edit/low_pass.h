/* The low band of a picture or latent, and its exchange: iterative latent variable refinement (ILVR, Choi et al. 2021,
 * 2108.02938). */
#ifndef NN_EDIT_LOW_PASS_H
#define NN_EDIT_LOW_PASS_H

#include "tensor/err.h"
#include <stdint.h>

/* phi_N of the paper: each plane of x [planes,h,w] made N times smaller and larger again, bicubic both times, shrinking
 * with antialiasing, as the public code's Resizer does it (beyond the edge, which it mirrors, the weights are
 * normalised here). N divides h and w; N = 1 is x itself. out must not be x. TN_ENOMEM. */
int nn_low_pass(const float *x, int64_t planes, int64_t h, int64_t w, int64_t n, float *out, tn_err *err);

/* x = x - phi_N(x) + phi_N(reference), summed in this order: eq. 8 of the paper. */
int nn_exchange_low_band(float *x, const float *reference, int64_t planes, int64_t h, int64_t w, int64_t n, tn_err *err);

#endif
