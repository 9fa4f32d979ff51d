/* Features of pictures on disk, for clip_see (tools/clip_score.h): a full-size CLIP takes a second a picture on a CPU. */
#ifndef TOOLS_CLIP_CACHE_H
#define TOOLS_CLIP_CACHE_H

#include "tools/clip_score.h"

/* features [width] of a picture out of the judge's cache; *found tells whether they are there. TN_EINPUT: a file that is not
 * what it should be; TN_EIO. */
int clip_recall(const clip_judge *j, const nn_image *image, float *features, bool *found, tn_err *err);
int clip_remember(const clip_judge *j, const nn_image *image, const float *features, tn_err *err);

#endif
