/* What an encoder learns from: names that a model knows as words, each for one identity, and pictures of them, which
 * the model makes itself. Kept of the pictures are their latents, and what CLIP sees of them. */
#ifndef TOOLS_ENTITIES_H
#define TOOLS_ENTITIES_H

#include "tools/clip_score.h"
#include "tools/generate.h"
#include "tools/opt.h"

/* A file of "NAME CLASS" a line: one token each. Empty lines and lines that begin with '#' are passed over. */
typedef struct entities {
    char **name, **kind;
    int n;
    char sha256[65]; /* of the file */
} entities;
/* TN_EINPUT: a line that is not two words, or fewer than 8 of them. */
int entities_load(const char *path, entities *e, tn_err *err);
void entities_free(entities *e);

/* How pictures of them are made: "a photo of a NAME", `each` of every name. */
typedef struct sightings {
    const char *path; /* the file that keeps them */
    int64_t each, steps;
    double guidance;
    uint64_t seed;
    float *features; /* [n, each, width] of CLIP, unit vectors */
    float *latents;  /* [n, each, channels, side, side], as the UNet takes them */
    int64_t channels, side;
} sightings;
/* Fills the arrays of *s, which the caller frees also after a failure: what the file holds, made by the same models and
 * settings (else TN_EINPUT), and what it lacks, which is made and written as it comes, so that a run that was killed
 * goes on. */
int entities_see(const entities *e, tn_ctx *c, nn_model *m, const clip_judge *clip, const char *clip_dir, sightings *s,
                 const opt_common *o, tn_err *err);

#endif
