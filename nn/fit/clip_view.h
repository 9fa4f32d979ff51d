/* Pictures that are still being made, seen by CLIP: its preprocessing as operators, so that a gradient comes back.
 *
 * A view is a square of the picture, resized to the side that the image tower takes. Resizing is linear and separable,
 * out = D x A^T in each colour, so a view is two matrices, and mirroring it only reverses the rows of one. The matrices
 * are those of nn_resize_f32 (bicubic, antialiased: what nn_clip_preprocess does but for its bytes). */
#ifndef NN_CLIP_VIEW_H
#define NN_CLIP_VIEW_H

#include "nn/model/clip.h"
#include "tensor/rng.h"

typedef struct nn_views {
    int64_t n, H, W, S;      /* n views of side S of a picture [3,H,W] */
    float *across;           /* [n*S, W] */
    float *down;             /* [3 (the same for each colour), n, S, H] */
    float *noise;            /* [n,3,S,S], added to what the tower sees; NULL: none */
    float norm[9], shift[3]; /* from [-1,1] to (x - mean) / std, as a matrix of colours */
} nn_views;

/* The picture as nn_clip_preprocess shows it: the shorter side resized to S, the middle S x S. TN_ENOMEM. */
int nn_views_whole(const nn_clip *m, int64_t H, int64_t W, nn_views *out, tn_err *err);
/* n cutouts, as in the VQGAN-CLIP notebooks (Crowson et al. 2204.08583): squares whose side is uniform between half of
 * the shorter side and all of it, anywhere, mirrored half of the time, with normal noise of a deviation uniform in [0,
 * 0.1) on each. What is drawn depends on *g alone. TN_ENOMEM. */
int nn_views_cutouts(const nn_clip *m, int64_t H, int64_t W, int64_t n, tn_rng *g, nn_views *out, tn_err *err);
void nn_views_free(nn_views *v); /* leaves it zeroed */

/* image [1,3,H,W] in [-1,1], clamped to it as a picture file would -> features [n,P], not normalised. *v outlives the
 * step. */
tn_tensor *nn_clip_view_features(tn_ctx *c, const nn_clip *m, const nn_views *v, tn_tensor *image);

/* The mean over the rows of features [n,P] of theta^2 / 2, theta the angle to the unit vector target [P]: Crowson's
 * 2 asin(||f - target|| / 2)^2, f = features / ||features||. Also walks the tape back, so that the leaves have the
 * gradient. Stores 0 and computes nothing in a dry run. */
double nn_clip_angle_backward(tn_ctx *c, tn_tensor *features, const float *target);

#endif
