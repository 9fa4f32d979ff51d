/* What `oneword demo` has done, for its report. */
#ifndef TOOLS_DEMO_H
#define TOOLS_DEMO_H

#include "nn/train.h"
#include "tools/embedding.h"
#include "tools/evaluate.h"
#include "tools/pictures.h"
#include "tools/train_options.h"

/* Words that are judged: the learned one, the one it started from, one learned for another concept. */
enum { DEMO_LEARNED, DEMO_INITIALISER, DEMO_OTHER, DEMO_WORDS };
enum { DEMO_SNAPSHOTS = 5, DEMO_VIEWS = 4, DEMO_COMPOSED = 2 };

typedef struct demo {
    opt_common common;
    const char *program, *concept, *output;
    int64_t seed, train_steps, samples, steps; /* train_steps 0: the preset's */
    int edit_samples;                          /* of each scene and style: an eighth of samples */

    char world[1024], model_dir[1200], concept_dir[1200], templates_file[1200]; /* the bundled data */
    char token[80], initialiser[80], other[80];                                 /* "<mango>", "cat", "pipa" */
    char command[4096];                                                         /* that trains the same word */

    train_options options;
    nn_train_config cfg;
    tn_ctx c;
    clip_judge judge;
    pictures pics, style; /* the concept's, and those that the second word was learned from */
    float *features;      /* of pics */
    emb_words words;      /* learned, style, other: the rows of `learned` */
    float *learned;
    int64_t rows;

    double *loss;                   /* [cfg.steps] */
    int64_t at[DEMO_SNAPSHOTS];     /* steps at which there are samples: 0, ..., the last one */
    eval_set snapshot[DEMO_SNAPSHOTS];
    double similarity[DEMO_SNAPSHOTS]; /* of these to the pictures */
    eval_word word[DEMO_WORDS];
    const char *called[DEMO_WORDS];    /* as in the prompts */
    eval_set composed[DEMO_COMPOSED];
    double seconds; /* that learning took, samples not counted */
} demo;

/* The style that comes learned, for compositions. */
#define DEMO_STYLE "rosewood"

/* Whether the word is clearly nearer to its pictures than both others, and can still be edited. Fills out with the verdict. */
bool demo_verdict(const demo *d, char *out, size_t cap);
/* Writes OUTPUT/sheet.png and OUTPUT/report.html. */
int demo_write(const demo *d, tn_err *err);

#endif
