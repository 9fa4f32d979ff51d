/* Sentences of pictures, in a file: "NAME: SENTENCE" a line, NAME a file of the folder; empty lines and lines that
 * begin with '#' are passed over. */
#ifndef TOOLS_CAPTIONS_H
#define TOOLS_CAPTIONS_H

#include "tools/pictures.h"

typedef struct captions {
    char **line; /* of each picture in their order; NULL where it has none */
    int n;
} captions;

/* Each of the first `needed` pictures must have a sentence, and there may be none without a picture: TN_EINPUT with the
 * line or the picture. */
int captions_load(const char *path, const pictures *p, int needed, captions *out, tn_err *err);
void captions_free(captions *c);

#endif
