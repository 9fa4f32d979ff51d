/* Learning a word: pictures, sentences, random draws, learning rate, checkpoints, around nn/inversion.h; and the setups
 * that the paper compares in section 5.2 (Gal et al. 2208.01618), each a few fields of nn_train_config.
 *
 * Every micro-step draws from a generator of its own, seeded by (seed, micro-step): what step k does depends on the
 * seed, k and the vectors alone. So a run that was killed and resumed repeats the rest exactly, and needs no generator
 * state on disk. */
#ifndef NN_TRAIN_H
#define NN_TRAIN_H

#include "nn/image/image.h"
#include "nn/inversion.h"
#include "nn/memory.h"
#include "nn/text/tokenizer.h"

/* ---- learning rate ---- */

typedef enum { NN_LR_CONSTANT, NN_LR_LINEAR, NN_LR_COSINE, NN_LR_PIECEWISE } nn_lr_kind;

enum { NN_LR_MAX_PIECES = 32 };
typedef struct nn_lr {
    nn_lr_kind kind;
    double base;
    int64_t warmup, total; /* in optimiser steps; warmup rises linearly from 0 */
    int pieces;            /* PIECEWISE: rate[i] until step until[i] (exclusive); the last one lasts */
    double rate[NN_LR_MAX_PIECES];
    int64_t until[NN_LR_MAX_PIECES];
} nn_lr;

/* "5e-3" or A1111's "5e-3:100,1e-3:1000" (rate until step; the last may lack a step). TN_EUSAGE. */
int nn_lr_parse(const char *text, nn_lr *lr, tn_err *err);
/* The rate of optimiser step 0, 1, ...: diffusers' get_scheduler. */
double nn_lr_at(const nn_lr *lr, int64_t step);

/* ---- sentences ---- */

/* A list of sentences with "{}" where the placeholder goes. */
typedef struct nn_templates {
    char **line;
    int n;
} nn_templates;
typedef enum {
    NN_TEMPLATES_OBJECT,   /* the 27 of the paper's appendix D */
    NN_TEMPLATES_STYLE,    /* the 19 for styles */
    NN_TEMPLATES_PAPER,    /* the 27, each with the full stop it is printed with */
    NN_TEMPLATES_OFFICIAL, /* the 81 of the official code: the 27 as photo, illustration and depiction, 57 of them
                              unlike */
} nn_template_list;
int nn_templates_builtin(nn_template_list which, nn_templates *t, tn_err *err);
/* One a line; empty lines and lines that begin with '#' are skipped; "[name]" (A1111) is taken as "{}". A file without
 * any "{}" is TN_EINPUT. */
int nn_templates_load(const char *path, nn_templates *t, tn_err *err);
void nn_templates_free(nn_templates *t);

/* ---- settings ---- */

enum { NN_MAX_PLACEHOLDERS = 16, NN_MAX_SWITCHES = 31 };

/* Where a vector starts of which nothing is known. UNIFORM: [0,1), as the official code (torch.rand). */
typedef enum { NN_NOISE_VOCABULARY, NN_NOISE_UNIFORM } nn_noise_kind;
/* How a word of several vectors enters a sentence. WRITTEN: a token each (diffusers); a sentence that they do not fit
 * into is refused. TRUNCATED: the placeholder's one token is widened after the tokenizer, and what no longer fits, the
 * end token included, is lost (the official code). The same where there is room. */
typedef enum { NN_EXPAND_WRITTEN, NN_EXPAND_TRUNCATED } nn_expansion;

/* Fields left zero are the plain run: the setups are off. */
typedef struct nn_train_config {
    const char *placeholder[NN_MAX_PLACEHOLDERS]; /* "<cat-toy>" */
    const char *initializer[NN_MAX_PLACEHOLDERS]; /* text of one or several tokens; NULL: noise like the vocabulary's */
    int nplaceholders;
    int64_t num_vectors; /* of each placeholder */
    int64_t resolution;
    bool center_crop, flip; /* flip: half of the pictures mirrored */
    bool posterior_mean;    /* latents without posterior noise */
    nn_tokenizer_rules rules;
    int64_t batch, accumulate, steps;
    nn_lr lr;
    tn_adamw_config adam;
    double clip_norm, clip_value; /* 0: none */
    double reg_weight;            /* of the distance to where a placeholder started, the mean over the placeholders */
    nn_reg_kind reg_kind;
    uint64_t seed;

    const float *initial[NN_MAX_PLACEHOLDERS]; /* [num_vectors, width]: start here; NULL: from the initializer */
    nn_noise_kind noise_kind;                  /* of a placeholder without either, and of per-image tokens */
    /* The initializer's row is taken with the first position's added to it, which is what the official code's
     * get_embedding_for_clip_token returns. */
    bool initial_position;
    nn_expansion expansion;
    /* Progressive: num_vectors - nswitches vectors at first, one more from step switch_at[i] on (counted from 0;
     * rising). A vector that is not in use yet does not change, and its AdamW counts its own steps. */
    int nswitches;
    int64_t switch_at[NN_MAX_SWITCHES];
    /* Per-image tokens: beside the placeholder each picture i has a token of its own, one vector "PLACEHOLDER@i", and
     * this share of the sentences ends in " with PLACEHOLDER@i" (official code .25, paper 1). 0: none. */
    double per_image_share;
    const char *const *captions; /* [npictures]: the sentence of each picture, in place of the templates; or NULL */
    /* Two words learned together (personalized_compose of the official code): two placeholders, pictures 0 ..
     * compose_from - 1 show the first, the others the second. This share of the draws is of composed pictures, one of
     * the second pasted into one of the first, under "FIRST and SECOND"; compose_pictures of them are made before
     * training. 0: none. */
    int compose_from;
    int64_t compose_pictures;
    double compose_share;
    /* DVAR (nn/dvar.h): the run ends where the variance of the last stop_window losses of a fixed batch falls below
     * stop_threshold times that of all. 0: never. */
    int64_t stop_window;
    double stop_threshold;
} nn_train_config;

typedef struct nn_train nn_train;

/* Prepares a run: adds the placeholders to the model's tokenizer, sets the initial vectors, encodes every sentence, and
 * passes every picture (and its mirror image) through the encoder once; with pictures NULL that is left to
 * nn_train_encode. `progress` may be NULL. *cfg and the model must outlive the run. TN_EUSAGE: a placeholder
 * that is a word already, an initialiser that is unknown, setups that exclude each other; and whatever pictures bring.
 * A run that could not be opened leaves no placeholder in the tokenizer. */
int nn_train_open(tn_ctx *c, nn_model *m, const nn_train_config *cfg, const nn_templates *t, const nn_image *pictures,
                  int npictures, void (*progress)(void *arg, int done, int total), void *arg, nn_train **out,
                  tn_err *err);
/* The encoder's part, for the npictures that nn_train_open was told of; then the run may be loaded and advanced. */
int nn_train_encode(nn_train *t, tn_ctx *c, const nn_image *pictures, void (*progress)(void *arg, int done, int total),
                    void *arg, tn_err *err);
void nn_train_free(nn_train *t);

typedef struct nn_train_step {
    int64_t step; /* steps done, this one included */
    double loss, reg, lr, grad_norm;
    int64_t vectors;            /* of each placeholder, in use */
    double eval_loss, variance; /* DVAR: of the fixed batch, and the ratio of variances (1 before the window is full) */
} nn_train_step;
/* One optimiser step (accumulate micro-steps). */
int nn_train_advance(nn_train *t, tn_ctx *c, nn_train_step *out, tn_err *err);
int64_t nn_train_steps_done(const nn_train *t);
/* Whether DVAR ended the run; and whether that or the number of steps did. */
bool nn_train_stopped(const nn_train *t);
bool nn_train_finished(const nn_train *t);
/* All rows: num_vectors of each placeholder in turn, then the pictures' own. */
nn_word *nn_train_word(nn_train *t);
/* What one picture takes of the encoder, and one step of text encoder and UNet with c->checkpoint = checkpoint, by dry
 * runs; and bytes that are kept from step to step. */
int nn_train_measure_encoder(const nn_train *t, const tn_ctx *like, nn_need *out, tn_err *err);
int nn_train_measure(const nn_train *t, const tn_ctx *like, int64_t checkpoint, nn_need *out, tn_err *err);
size_t nn_train_kept(const nn_train *t);

/* Seconds of one micro-step, by running the first one without keeping anything; before the pictures are encoded too. */
int nn_train_probe(nn_train *t, tn_ctx *c, double *seconds, tn_err *err);

/* The vectors of placeholder i: [num_vectors, width], of which the first nn_train_in_use have been learned. */
const float *nn_train_vectors(const nn_train *t, int i);
int64_t nn_train_in_use(const nn_train *t);
/* Per-image tokens: the name of picture i's (valid until nn_train_free) and its vector [width]; NULL where there are
 * none. */
const char *nn_train_image_token(const nn_train *t, int i);
const float *nn_train_image_vector(const nn_train *t, int i);
/* A composed picture as the run uses it, 0 .. compose_pictures - 1, resolution x resolution. */
int nn_train_composed(const nn_train *t, const nn_image *pictures, int64_t k, nn_image *out, tn_err *err);

/* Checkpoint: vectors, moments, counters and, as metadata, what the run depends on. Loading refuses (TN_EINPUT) one of
 * another model, other pictures or other settings, naming what differs. `fingerprint` identifies the model. */
int nn_train_save(const nn_train *t, const char *fingerprint, const char *path, tn_err *err);
int nn_train_load(nn_train *t, const char *fingerprint, const char *path, tn_err *err);

#endif
