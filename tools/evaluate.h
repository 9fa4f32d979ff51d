/* Section 5.1 of the paper (Gal et al. 2208.01618): how well a word reconstructs its pictures and how well it can still be edited,
 * both in the space of CLIP. Behind `oneword eval` and the table of `make demo`. */
#ifndef TOOLS_EVALUATE_H
#define TOOLS_EVALUATE_H

#include "tools/clip_score.h"
#include "tools/generate.h"
#include "tools/opt.h"
#include "tools/stats.h"

/* "{}" is the place of the word. */
typedef struct eval_prompt {
    const char *text, *label; /* the label fits under a picture of 64 x 64 shown at twice its size */
} eval_prompt;

/* What editability is asked with by default: six backgrounds, then six styles. Every word is one that the bundled model knows. */
enum { EVAL_SCENES = 6, EVAL_STYLES = 6, EVAL_PROMPTS = EVAL_SCENES + EVAL_STYLES };
extern const eval_prompt eval_prompts[EVAL_PROMPTS];
/* The sentence of reconstruction. */
#define EVAL_PLAIN "a photo of a {}"

/* How pictures are made. */
typedef struct eval_job {
    tn_ctx *c;
    nn_model *model;
    const clip_judge *judge;
    const float *learned; /* [rows, width]: the learned words, whose placeholders are in the model's tokenizer */
    int64_t rows, steps;
    double guidance;
    uint64_t seed;     /* picture i of every prompt has the noise of seed + i */
    opt_progress *bar; /* counts pictures x steps */
    int64_t done;      /* where the bar stands; the caller starts it at 0 */
} eval_job;

/* The pictures of one prompt, their features, and how near they are to the prompt without the word. */
typedef struct eval_set {
    char *prompt;    /* with the word in it */
    nn_image *image; /* [n] */
    int n;
    float *features;          /* [n, width] */
    double *cosine;           /* [n], of each to the prompt without the word */
    double *without;          /* [n]: the paper's definition on all samples but one */
    estimate mean_of_cosines; /* the official code's definition of editability */
    estimate cosine_of_mean;  /* the paper's; the interval is a jackknife's */
    bool strange;           /* the prompt without the word has words that the judge has never seen */
} eval_set;

/* Makes n pictures of the sentence `text` with `word` in the place of "{}". *out is as zeros after a failure. */
int eval_make(eval_job *job, const char *text, const char *word, int n, eval_set *out, tn_err *err);
/* Scores the features of a set against a sentence, whose "{}" is taken out. */
int eval_editability(tn_ctx *c, const clip_judge *judge, const char *text, eval_set *set, tn_err *err);
void eval_set_free(eval_set *set);

/* The mean cosine over all pairs of n samples and the concept's pictures, both as features: the interval is over samples. */
int eval_reconstruction(const clip_judge *judge, const float *samples, int n, const float *pictures, int npictures, estimate *out,
                        tn_err *err);

/* All that is said of one word. */
typedef struct eval_word {
    eval_set plain;          /* EVAL_PLAIN */
    estimate reconstruction; /* of these */
    eval_set *edit;          /* one a prompt */
    int nedit;
    /* The means over the prompts. Sample i of every prompt has the same noise, so the intervals are over i: the prompts are
     * what was asked, not drawn. */
    estimate mean_of_cosines, cosine_of_mean;
} eval_word;

/* prompts: n sentences with "{}"; pictures: the features [npictures, width] of the concept's. edit_samples may be 0. */
int eval_run(eval_job *job, const char *word, const float *pictures, int npictures, int samples, const char *const *prompts, int n,
             int edit_samples, eval_word *out, tn_err *err);
/* The steps that eval_run moves the bar by. */
int64_t eval_work(const eval_job *job, int samples, int n, int edit_samples);
void eval_word_free(eval_word *w);

/* `text` with `word` in the place of every "{}"; the caller frees it. TN_ENOMEM. */
int eval_fill(const char *text, const char *word, char **out, tn_err *err);

#endif
