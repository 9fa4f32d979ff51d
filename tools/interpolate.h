/* Pictures between two ends, along the great circle: of the noise they begin with, of the vectors of a word, or of
 * both. */
#ifndef TOOLS_INTERPOLATE_H
#define TOOLS_INTERPOLATE_H

#include "tools/generate.h"

typedef struct between_ends {
    const float *noise[2]; /* x_T [channels, h, w] of either end; NULL: the seed's for all */
    const float *word[2];  /* [n, width] of either end, NULL: none; interpolated vector by vector */
    int64_t row, n;        /* in frame i they take the place of rows row .. row + n - 1 of r->learned */
} between_ends;

/* Frame i of `frames` (at least 2) is as far along as i / (frames - 1): out[0] and out[frames - 1] are the pictures of
 * the ends, bit for bit. r->count is not used; r->noise must be NULL. Otherwise as gen_pictures. */
int between_pictures(tn_ctx *c, nn_model *m, const gen_request *r, const between_ends *e, int64_t frames, nn_image *out,
                     tn_err *err);

#endif
