/* Contact sheets: rows of small pictures with labels, as one picture. */
#ifndef TOOLS_SHEET_H
#define TOOLS_SHEET_H

#include "nn/image/image.h"

/* A titled series of pictures, on a sheet or in a report. */
typedef struct strip {
    const char *title;
    const char *note;           /* a sentence or two below the title; NULL: none. Reports only */
    const nn_image *image;      /* [n], all of one size */
    const char *const *caption; /* [n], of which some may be NULL; NULL: none */
    int n;
    int columns; /* pictures in a row */
} strip;

/* Draws strips below each other, every picture enlarged `zoom` times, dots staying square. TN_ENOMEM. */
int sheet_draw(const char *title, const strip *strips, int n, int zoom, nn_image *out, tn_err *err);

#endif
