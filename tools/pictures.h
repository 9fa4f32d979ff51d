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

#endif
