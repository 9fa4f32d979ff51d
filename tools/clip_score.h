/* Pictures and sentences as vectors of one space, that of a CLIP dual encoder (Radford et al. 2103.00020), and how near they lie
 * to each other: the measure of section 5.1 of the paper (Gal et al. 2208.01618).
 *
 * All features are of length 1, so that a dot product is a cosine. */
#ifndef TOOLS_CLIP_SCORE_H
#define TOOLS_CLIP_SCORE_H

#include "nn/image/image.h"
#include "nn/model/clip.h"
#include "nn/text/tokenizer.h"

typedef struct clip_judge {
    nn_clip *clip;
    nn_tokenizer *tokenizer;
    int64_t width;        /* of a feature vector: projection_dim */
    const char *cache;    /* folder that keeps the features of pictures; NULL: none */
    char fingerprint[65]; /* with a cache: of the CLIP directory */
} clip_judge;

/* A CLIP directory: weights, preprocessor_config.json and the tokenizer. Free also after a failure. */
int clip_open(const char *dir, clip_judge *j, tn_err *err);
void clip_close(clip_judge *j); /* leaves it zeroed */
/* SHA-256 over the files of a CLIP directory that can change what it sees: weights, configuration, vocabulary. */
int clip_fingerprint(const char *dir, char hex[65], tn_err *err);
/* From now on clip_see looks for the features of a picture in the folder `cache`, which is made, before it computes them, and
 * keeps them there: a file a picture, named by the SHA-256 of the CLIP's fingerprint and the pixels. `dir` as for clip_open;
 * `cache` is kept by reference. */
int clip_keep(clip_judge *j, const char *dir, const char *cache, tn_err *err);

/* features [n, width]. Pictures of any size, preprocessed as the model's files say. The vector of a picture does not depend on
 * the others. TN_ENOMEM. */
int clip_see(tn_ctx *c, const clip_judge *j, const nn_image *images, int n, float *features, tn_err *err);
/* features [width] of one sentence. Where `strange` is not NULL it is set to true if a word of the sentence falls apart into
 * single bytes, which a model with a vocabulary of words has never seen. */
int clip_read(tn_ctx *c, const clip_judge *j, const char *text, float *features, bool *strange, tn_err *err);

/* The mean cosine over all pairs of a [na, width] and b [nb, width]: what the official evaluation/clip_eval.py computes. */
double clip_pairs(const clip_judge *j, const float *a, int na, const float *b, int nb);
/* The same within one set, each picture with the others only; 1 for a single picture. */
double clip_within(const clip_judge *j, const float *a, int na);
/* The cosine between the mean of a [na, width] and one vector b: the wording of the paper, "the average CLIP-space embedding of
 * our samples". Larger than clip_pairs(a, b) by the factor 1 / length of the mean. */
double clip_of_mean(const clip_judge *j, const float *a, int na, const float *b);

#endif
