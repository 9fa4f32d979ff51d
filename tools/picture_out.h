/* Pictures on their way out: the names of their files, and whether they can be written at all. */
#ifndef TOOLS_PICTURE_OUT_H
#define TOOLS_PICTURE_OUT_H

#include "nn/image/png.h"

/* The path of picture i of `count`: its number in place of %d or %03d in `output`, else, where there are several, "-i"
 * in front of the ending. TN_EUSAGE where it does not fit. */
int out_picture_path(const char *output, int64_t i, int64_t count, char *path, size_t cap, tn_err *err);
/* Whether a file can be written there, found out by starting to; leaves nothing behind. TN_EIO. */
int out_try(const char *path, tn_err *err);
/* The same for all pictures; TN_EUNSUPPORTED for the ending of a format that is not written. */
int out_try_pictures(const char *output, int64_t count, tn_err *err);
/* A PPM where the path ends so, which has no room for texts; else a PNG. */
int out_picture(const char *path, const nn_image *image, const nn_text *texts, size_t n_texts, tn_err *err);

#endif
