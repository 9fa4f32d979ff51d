/* The bundled data: the small world's model, CLIP and concepts. */
#ifndef TOOLS_BUNDLE_H
#define TOOLS_BUNDLE_H

#include "tensor/err.h"
#include <stddef.h>

/* Where "world/model" or the like lies: testdata/ of the current folder, testdata/ of the source tree that `program`
 * (as it was called: argv[-1] of a command) was built in, or share/oneword/ next to the bin/ that it was installed to.
 * Fills path[cap]. TN_EIO names the places. */
int bundle_find(const char *program, const char *what, char *path, size_t cap, tn_err *err);

#endif
