/* New weights for a network of any configuration: random, and the same on every machine. */
#ifndef NN_INIT_H
#define NN_INIT_H

#include "nn/weights.h"

/* Writes a file of weights for an outline's parameters (nn_unet_outline and its like), a piece at a time. Matrices and
 * kernels are uniform around 0 with variance 1 / fan_in, so that a layer neither swells nor fades what goes through it
 * (LeCun et al., Efficient BackProp, section 4.6); scales of norms are 1, biases 0. A tensor's numbers depend on the
 * seed and its name. */
int nn_init_write(const nn_params *params, tn_st_dtype dtype, uint64_t seed, const char *path, tn_err *err);

#endif
