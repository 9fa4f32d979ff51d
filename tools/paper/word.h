/* What the kinds of word share. Inside of tools/paper. */
#ifndef TOOLS_PAPER_WORD_H
#define TOOLS_PAPER_WORD_H

#include "tools/paper/paper.h"

/* A word as `train` writes it, with the number of steps it took among the file's metadata. */
int word_write(const char *path, const char *token, const float *v, int64_t n, int64_t dim, int64_t steps, tn_err *err);
/* The unit of a word tuned in CLIP's space. */
int clip_word_unit(paper *p, int concept);
/* The unit of the word that the encoder gives for the concept's pictures. */
int encoded_word_unit(paper *p, int concept);

#endif
