/* A linear map from one table of words to another, fitted where they have words in common: how a vector that was found
 * in one text encoder is carried over to another (Mikolov et al. 1309.4168). */
#ifndef NN_WORD_MAP_H
#define NN_WORD_MAP_H

#include "nn/model/clip.h"
#include "nn/text/tokenizer.h"

typedef struct nn_word_map {
    bool same;        /* the tables are one and the same: vectors go over as they are, and the rest is not used */
    int64_t from, to; /* widths */
    int64_t words;    /* shared ones that it was fitted to */
    double ridge;     /* lambda, as a share of the mean variance of a dimension */
    double
        explained; /* share of the variance of words left out one at a time: 1 perfect, 0 no better than their mean */
    double *mean_from, *mean_to, *w; /* [from], [to], [from,to]: y = mean_to + (x - mean_from) w */
} nn_word_map;

/* x [n,from], y [n,to], rows of the same words: ridge regression on centred rows, w = (X'X + lambda I)^-1 X'Y, with the
 * lambda of a fixed list that predicts words best that it has not seen (leave-one-out, in closed form: residual / (1 -
 * leverage)). In double; the bits do not depend on threads. TN_EINPUT: fewer than two words, or none that differ;
 * TN_ENOMEM. */
int nn_word_map_fit(const float *x, const float *y, int64_t n, int64_t from, int64_t to, int threads, nn_word_map *out,
                    tn_err *err);
/* From one encoder's table to another's. Words in common: tokens of both vocabularies, by their text, that end a word
 * ("cat</w>") and are more than one byte. same: equal vocabularies and tables (but for the rounding of a narrower
 * type). */
int nn_word_map_between(const tn_kernels *k, const nn_text_model *from, const nn_tokenizer *from_tokens,
                        const nn_text_model *to, const nn_tokenizer *to_tokens, int threads, nn_word_map *out,
                        tn_err *err);
/* x [from] -> y [to] */
void nn_word_map_apply(const nn_word_map *m, const float *x, float *y);
void nn_word_map_free(nn_word_map *m); /* leaves it zeroed */

#endif
