/* The best of many candidates, as CLIP sees them: section 4.7 of the paper (Gal et al. 2208.01618) picks by hand the best
 * of 16 and names CLIP's choice (Radford et al. 2103.00020, as in Ramesh et al. 2102.12092) as the way without hands. */
#ifndef TOOLS_RANK_H
#define TOOLS_RANK_H

#include "tools/clip_score.h"
#include "tools/embedding.h"

/* What a candidate is to be near to: a sentence, pictures, or both. */
typedef struct rank_goal {
    float *text;                 /* [width]; NULL: none */
    float *like;                 /* [nlike, width]; NULL: none */
    int nlike;
    const unsigned char *mask;   /* [height,width] of the candidates: only where it is 1 do they count; NULL: everywhere */
} rank_goal;

typedef struct rank_place {
    int index;          /* of the candidate */
    double text, image; /* cosine with the sentence; mean cosine with the pictures; 0 where not asked for */
    double score;       /* what is sorted by */
} rank_place;

/* Scores n candidates and sorts them, the best first: place[0..n). With a mask they are judged as the code of Blended
 * latent diffusion does it: black outside the mask, squeezed to a square, so that no centre crop cuts the mask off. */
int rank_pictures(tn_ctx *c, const clip_judge *j, const rank_goal *goal, const nn_image *image, int n, rank_place *place,
                  tn_err *err);
/* The order alone, from the cosines. By both: the sum of the two in units of their standard deviations over the
 * candidates, because cosines with pictures are larger and spread otherwise. Of equals the first comes first. */
void rank_sort(rank_place *place, int n, bool by_text, bool by_image);

/* A prompt without the learned words, which the judge does not know: what the paper measures text by. Allocated;
 * TN_EUSAGE where nothing is left of it. */
int rank_sentence(const char *prompt, const emb_words *words, char **out, tn_err *err);

#endif
