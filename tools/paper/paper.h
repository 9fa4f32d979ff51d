/* The experiments of the textual inversion paper (Gal et al. 2208.01618) on the bundled world.
 *
 * An experiment asks for units of work (unit.h) by the functions below, each of which returns a unit's number and makes
 * nothing. Every section asks twice, with the same code: when the run is planned, and when its report is written, with
 * all results there. */
#ifndef TOOLS_PAPER_PAPER_H
#define TOOLS_PAPER_PAPER_H

#include "nn/train.h"
#include "tools/evaluate.h"
#include "tools/paper/unit.h"
#include "tools/pictures.h"

enum { PAPER_CONCEPTS = 32, PAPER_HELD_OUT = 5, PAPER_SECTIONS = 32, PAPER_SENTENCES = 16, PAPER_PARAMS = 4 };

/* What is learned: a folder of testdata/world/concepts, and for some objects more pictures in testdata/world/more. */
typedef struct paper_concept {
    const char *name, *initializer;
    const char *caption, *brief; /* a person's, long and short; NULL: none */
    char token[72];              /* "<mango>" */
    bool style;
    pictures pics, more;
    char sha256[65]; /* paper_hash of pics, which is asked for often */
} paper_concept;

/* Pictures first .. first + n of a concept, those of `more` behind the others. */
typedef struct paper_range {
    int concept, first, n;
} paper_range;

/* What a run is sized by. */
typedef struct paper_size {
    int64_t objects, styles; /* how many concepts of each kind */
    int64_t train_steps;
    int64_t samples;      /* pictures of a sentence: reconstruction */
    int64_t sentences;    /* of editability: the first of eval_prompts */
    int64_t edit_samples; /* pictures of each of them */
    int64_t steps;        /* of DDIM */
    int64_t seed;
    bool quick; /* fewer setups, too */
} paper_size;

typedef struct paper {
    opt_common common;
    const char *program, *output;
    paper_size size;
    bool selected[PAPER_SECTIONS]; /* of paper_sections */
    int64_t shard, shards;         /* this run is number shard (from 0) of so many */
    char world[1024];
    tn_ctx c;
    nn_model *model;
    int vocabulary; /* tokens of the model, before words are added */
    nn_templates object_templates, style_templates;
    clip_judge judge;
    char arithmetic[65];                             /* the published hash of selftest */
    char model_sha[65], clip_sha[65], names_sha[65]; /* names: of entities.txt */
    paper_concept concept[PAPER_CONCEPTS];
    int nconcepts;
    int object[PAPER_CONCEPTS], nobjects; /* those that this run is about, as numbers of concepts */
    int style[PAPER_CONCEPTS], nstyles;
    unit_plan plan;
    const char *section;                 /* being planned */
    double step_seconds, sample_seconds; /* probed: a step of learning, a guided step of one picture */
    struct pool *pool;                   /* texts and specs, freed at the end */
    tn_err err;                          /* of the first thing that failed while asking */
    bool failed;
} paper;

/* ---- memory of a run ---- */

/* A block, or a text, that lives as long as the run. NULL after a failure, which is remembered in p->failed. */
void *paper_keep(paper *p, const void *data, size_t n);
const char *paper_text(paper *p, const char *fmt, ...) TN_PRINTF(2, 3);

/* ---- inputs ---- */

int paper_open(paper *p, tn_err *err);
void paper_close(paper *p);
/* -1 where there is none of that name. */
int paper_concept_named(const paper *p, const char *name);
const nn_image *paper_picture(const paper *p, int concept, int i);
/* The pictures a word is learned from by default, and those that no word is ever learned from (n 0: none are there). */
paper_range paper_all(const paper *p, int concept);
paper_range paper_held_out(const paper *p, int concept);
/* SHA-256 over sizes and pixels. */
void paper_hash(const paper *p, paper_range r, char hex[65]);

/* ---- words ---- */

typedef enum {
    WORD_LEARNED,
    WORD_INITIALIZER, /* the coarse word that learning starts from */
    WORD_BRIEF,
    WORD_CAPTION, /* a person's description in its place */
    WORD_NONE,    /* the sentence without it */
    WORD_CLIP,    /* tuned in CLIP's space alone (PALAVRA) */
    WORD_ENCODED  /* given by the encoder */
} word_source;

/* A way to a word for a concept: section 5.2. Zero means the default. */
typedef struct paper_setup {
    const char *name, *label; /* "two", "two vectors" */
    word_source source;
    int64_t vectors;
    double rate;       /* at the start; it falls to 0 along a cosine. Default 1e-2 */
    double reg_weight; /* of the squared distance to the initial vector */
    bool official;     /* that distance by the published code's formula */
    int pictures;      /* the first so many. Default: those of concepts/ */
    bool progressive;  /* a second vector from two fifths of the steps on, a third from four fifths */
    bool per_image;    /* a token of its own for each picture, beside the word */
    bool dvar;         /* a constant rate and twice the steps, of which DVAR (nn/dvar.h) stops when it sees fit */
    bool few;          /* an eighth of the steps */
    bool encoded;      /* starts from the encoder's word */
    bool untimely;     /* the same steps and rate without DVAR */
} paper_setup;

/* What stands in a sentence: a learned word, or a text. */
typedef struct paper_word {
    int unit; /* -1: none is learned */
    const char *text;
} paper_word;
paper_word paper_learn(paper *p, const paper_setup *s, int concept);
/* Two words in one run, with pictures of one pasted into the other's among its pictures (train --compose): one unit. */
void paper_learn_together(paper *p, const paper_setup *s, int first, int second, paper_word out[2]);
/* How many steps a word took, in a report. */
int paper_steps_taken(const paper *p, paper_word w, int64_t *steps, tn_err *err);

/* ---- pictures ---- */

/* Ways to pictures other than from noise (methods.h). */
typedef struct paper_method paper_method;

typedef struct paper_request {
    const char *const *sentence; /* the k-th "{}" of each is the k-th word */
    int nsentences;
    const paper_word *words;
    int nwords;
    int64_t n;                  /* pictures of each sentence, picture i with the noise of seed + i */
    double guidance;            /* 0: the default, 4 */
    int64_t steps;              /* 0: the run's */
    const paper_method *method; /* NULL: from noise */
    double param[PAPER_PARAMS]; /* of the method */
    const char *goal;           /* a sentence more, for methods that want one */
    paper_range source;         /* pictures that it begins with; n 0: none */
} paper_request;
int paper_make_samples(paper *p, const paper_request *r);
/* `n` pictures of one sentence, from noise. */
int paper_samples(paper *p, const char *sentence, const paper_word *words, int nwords, int64_t n);
/* The pictures of a unit of samples: n of them, which the caller frees. */
int paper_load_samples(const paper *p, int unit, nn_image **out, int *n, tn_err *err);

/* ---- scores ---- */

/* Of n pictures: the mean cosine of each to each set of pictures, and its cosine to each text. */
typedef struct paper_scores {
    int n, nsets, ntexts;
    double *set;     /* [nsets, n] */
    double *text;    /* [ntexts, n] */
    double *of_mean; /* [ntexts]: cosine of the mean picture */
    double store[];
} paper_scores;

/* A "{}" in a text is taken out, as in the definition of editability. */
int paper_score_some(paper *p, int samples, int from, int n, const paper_range *sets, int nsets,
                     const char *const *texts, int ntexts);
/* Of all pictures of a unit. */
int paper_score(paper *p, int samples, const paper_range *sets, int nsets, const char *const *texts, int ntexts);
/* The same of a concept's own pictures; in a set of the same concept each is compared with the others only. */
int paper_score_pictures(paper *p, paper_range of, const paper_range *sets, int nsets, const char *const *texts,
                         int ntexts);
/* PSNR of picture i of a unit and picture i of a range, in dB, as set 0 of scores. */
int paper_psnr(paper *p, int samples, paper_range r);
/* The result, in a report. */
const paper_scores *paper_result(const paper *p, int unit);

#endif
