/* The inside of a run, shared by nn/train*.c. */
#ifndef NN_TRAIN_IMPL_H
#define NN_TRAIN_IMPL_H

#include "nn/dvar.h"
#include "nn/pipeline.h"
#include "nn/train.h"
#include "tensor/io/safetensors.h"
#include "tensor/rng.h"

enum { NN_EVAL_BATCH = 4 }; /* of DVAR: the paper's */

struct nn_train {
    nn_model *model;
    const nn_train_config *cfg;
    tn_conv_form conv; /* enters the bits as the settings do */
    nn_schedule schedule;
    nn_word word;
    int64_t steps_done;

    /* Sentences. Those of one group are drawn from alike; which group is a picture's: nn_train_group. With per-image
     * tokens sentence nbase + i is sentence i with the token of picture 0, for which the drawn picture's is put. */
    int64_t L;             /* tokens of a sentence */
    int nbase, nsentences; /* nsentences: nbase, or twice as many */
    int64_t *sentences;    /* [nswitches + 1, nsentences, L] ids: by how many vectors have been added */
    char **image_token;    /* [npictures], or NULL */
    int64_t image_row;     /* the first row of per-image tokens */

    /* Pictures, and behind them the composed ones. */
    int npictures;
    int64_t ncomposed;
    int64_t channels, side; /* of a latent */
    float *moments;         /* [npictures + ncomposed, 2 (as is, mirrored), 2*C*side*side] */
    char data_hash[65];     /* of sentences and moments: what else the result depends on */
    int64_t *order, epoch;  /* the pictures' order in this epoch */

    /* one batch */
    int64_t *ids, *timesteps;
    float *latents, *noise;
    nn_text_cache *texts; /* the sentences before the word */

    /* DVAR: the fixed batch, and what became of its loss */
    struct {
        int64_t *ids, timesteps[NN_EVAL_BATCH], sentence[NN_EVAL_BATCH];
        float *latents, *noise;
        nn_dvar losses;
    } eval;
};

static inline int64_t nn_train_latent(const nn_train *t) { return t->channels * t->side * t->side; }

/* A seed of its own for each index and purpose. */
typedef enum {
    NN_DRAW_BATCH,   /* a micro-step */
    NN_DRAW_ORDER,   /* an epoch */
    NN_DRAW_SETUP,   /* a sample: which of the setups it shows */
    NN_DRAW_COMPOSE, /* a composed picture */
    NN_DRAW_IMAGE,   /* a per-image token's vector */
    NN_DRAW_EVAL     /* the fixed batch */
} nn_draw;
uint64_t nn_train_seed(uint64_t seed, nn_draw purpose, uint64_t index);

/* The batch of micro-step `micro`, drawn; and the same with what its arrays hold. They are t's. */
nn_inversion_batch nn_train_draw(nn_train *t, const tn_kernels *k, int64_t micro);
nn_inversion_batch nn_train_batch(const nn_train *t);

/* ---- train_words.c: vectors and sentences ---- */

int nn_train_prepare_word(nn_train *t, const tn_kernels *k, tn_err *err);
int nn_train_prepare_sentences(nn_train *t, const nn_templates *templates, tn_err *err);
/* How many vectors have been added before step `step` (from 0), itself included. */
int nn_train_stage(const nn_train *t, int64_t step);
/* The first sentence of a picture's group, and their number. */
int nn_train_group(const nn_train *t, int64_t picture, int *n);
/* Sentence `index` of a stage, for a picture: ids [L]. */
void nn_train_sentence(const nn_train *t, int stage, int64_t index, int64_t picture, int64_t *ids);

/* ---- train_pictures.c ---- */

int nn_train_prepare_moments(nn_train *t, tn_err *err);

/* ---- train_state.c ---- */

void nn_train_hash_data(nn_train *t);
/* What all checkpoints of a run begin with: format, model, pictures and sentences, settings, and two counters, of steps done
 * and of updates among them. To be added to and written; and opened, where all of it must be the same (TN_EINPUT). */
int nn_checkpoint_new(const nn_train *t, const char *format, const char *fingerprint, const char *path,
                      const int64_t counters[2], tn_st_writer **out, tn_err *err);
int nn_checkpoint_open(const nn_train *t, const char *format, const char *fingerprint, const char *path,
                       int64_t counters[2], tn_st **out, tn_err *err);

#endif
