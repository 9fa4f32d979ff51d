/* Folders of pictures. */
#ifndef TOOLS_PICTURES_H
#define TOOLS_PICTURES_H

#include "nn/image/image.h"

typedef struct pictures {
    nn_image *image;
    char **name; /* file names, without the folder */
    int n;
    int skipped; /* files that are no pictures by their name */
} pictures;

/* Every picture of a folder in bytewise order of the names. Dotfiles and folders are passed over, files without the
 * ending of a picture counted in skipped. A picture that cannot be read is an error, and so is a folder without
 * pictures (TN_EINPUT). */
int pictures_load(const char *dir, pictures *p, tn_err *err);
void pictures_free(pictures *p);
/* Frees those behind the first n. */
void pictures_cut(pictures *p, int n);
/* Moves all of *more behind those of *p. TN_ENOMEM, both then as they were. */
int pictures_join(pictures *p, pictures *more, tn_err *err);

#endif
