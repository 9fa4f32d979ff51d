/* A bitmap font for contact sheets: 5 x 8 pixels a character, printable ASCII. */
#ifndef TOOLS_FONT_H
#define TOOLS_FONT_H

#include "nn/image/image.h"

enum { FONT_ADVANCE = 6, FONT_HEIGHT = 8 }; /* of one character at scale 1, in pixels */

/* Draws a line of text, its upper left corner at (x, y), each dot of the font scale x scale pixels; what lies outside the picture
 * is left out. Characters beyond ASCII become '?'. */
void font_draw(nn_image *image, int64_t x, int64_t y, int scale, const unsigned char rgb[3], const char *text);

#endif
