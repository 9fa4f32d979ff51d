/* A word tuned in the space of a CLIP (nn/fit/clip_word.h) and carried over to a model's text encoder
 * (nn/fit/word_map.h). */
#ifndef TOOLS_CLIP_WORD_H
#define TOOLS_CLIP_WORD_H

#include "nn/fit/clip_word.h"
#include "nn/fit/word_map.h"
#include "nn/model.h"
#include "tools/clip_score.h"

typedef struct clip_word_request {
    const char *coarse;           /* one word that the CLIP knows: where it starts, and what it is pushed away from */
    const char *const *sentences; /* [n], each with {} for the word */
    int nsentences;
    const nn_image *pictures; /* [npictures] */
    int npictures;
} clip_word_request;

/* Fills v [width of the CLIP's text tower]; *f says how, and receives the figures. The judge's tokenizer is as before
 * afterwards. TN_EUSAGE: a coarse word that is not one token, a sentence without {}; TN_ENUMERIC, TN_ENOMEM. */
int clip_word_learn(tn_ctx *c, const clip_judge *judge, const clip_word_request *r, nn_clip_word *f, float *v,
                    tn_err *err);

/* v in the CLIP's table -> out [width of the model's text encoder]; *map, which nn_word_map_free frees, says how. */
int clip_word_carry(const tn_ctx *c, const clip_judge *judge, const nn_model *m, const float *v, float *out,
                    nn_word_map *map, tn_err *err);

#endif
