/* A word tuned in CLIP's own space, as PALAVRA does in its second stage (Cohen et al. 2204.01694): its vector is moved
 * until the sentence with it lies near the concept's pictures and away from the sentence with the coarse word. It tells
 * the concept from others, which is what it was tuned for; the paper (Gal et al. 2208.01618, 4.2) shows what it draws.
 */
#ifndef NN_CLIP_WORD_H
#define NN_CLIP_WORD_H

#include "nn/model/clip.h"

typedef struct nn_clip_word {
    int64_t steps;
    double lr;          /* of Adam */
    double temperature; /* of the cosines */
    /* Called after each step with the loss before it; nonzero stops. May be NULL. */
    int (*after)(void *arg, int64_t step, double loss);
    void *arg;
    double first, last;               /* out: the loss at the start and of the result */
    double near_first, near_last;     /* out: the mean cosine to the pictures */
    double coarse_first, coarse_last; /* out: the same to the coarse word */
} nn_clip_word;

/* ids [B,L]: sentences in which the token `vocabulary size` is the word; v [width], in: the start, out: the result;
 * pictures [P] and coarse [P]: unit vectors, the mean of the pictures' features and the sentence with the coarse word.
 * The loss is CLIP's own (Radford et al. 2103.00020, figure 3), symmetric, with the coarse word for the rest of the
 * world: with t the features of a sentence, p of the pictures, q of the coarse sentence and s(a,b) = exp(cos(a,b) / T),
 *     -1/2 log( s(t,p) / (s(t,p) + s(t,q)) ) - 1/2 log( s(t,p) / (s(t,p) + s(p,q)) ),
 * the mean over B sentences. The first half alone is content with leaving both. 0, 1 stopped, -1: TN_ENOMEM,
 * TN_ENUMERIC. */
int nn_clip_word_fit(tn_ctx *c, const nn_clip *m, nn_clip_word *f, const int64_t *ids, int64_t B, int64_t L,
                     const float *pictures, const float *coarse, float *v, tn_err *err);

#endif
