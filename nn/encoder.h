/* From pictures straight to a word, which the paper wishes for (Gal et al. 2208.01618, section 6). In the manner of E4T
 * (Gal et al. 2302.12228) the word lies beside that of its kind:
 *
 *     v = v_kind + s f(x, v_kind),   s = 0.1
 *
 * x is what CLIP sees: the mean of the pictures' image embeddings, of length 1. f has two hidden layers of SiLU. It
 * learns from names that the model knows as words: first to give their vectors, then by the loss of the diffusion model
 * itself, and in both to stay near the kind. */
#ifndef NN_ENCODER_H
#define NN_ENCODER_H

#include "nn/model.h"
#include "tensor/op/ops.h"

enum { NN_ENCODER_LAYERS = 3 };

typedef struct nn_encoder {
    int64_t features, width, hidden; /* of x, of a word, of the layers between */
    tn_tensor w[NN_ENCODER_LAYERS], b[NN_ENCODER_LAYERS];
    int64_t count, updates; /* numbers in all; steps of AdamW */
    float *memory;          /* weights, gradients, first and second moments: [4, count] */
} nn_encoder;

/* f = 0: a new one gives the word of the kind. TN_ENOMEM. */
int nn_encoder_new(int64_t features, int64_t width, int64_t hidden, uint64_t seed, nn_encoder *e, tn_err *err);
void nn_encoder_free(nn_encoder *e); /* leaves it zeroed */
/* pictures [n, features], unit vectors; kind [width] -> word [width] */
int nn_encoder_apply(tn_ctx *c, const nn_encoder *e, const float *pictures, int64_t n, const float *kind, float *word,
                     tn_err *err);

/* The weights as safetensors; `about` says which models and names it is of, and is the caller's to check. The moments
 * are not kept. TN_EINPUT: not such a file. *about is to be freed. */
int nn_encoder_save(const nn_encoder *e, const char *about, const char *path, tn_err *err);
int nn_encoder_load(const char *path, nn_encoder *e, char **about, tn_err *err);

/* What it learns from: n names with `each` pictures. */
typedef struct nn_lessons {
    int64_t n, each;
    const float *features;    /* [n, each, features] */
    const float *kind, *word; /* [n, width] */
    const float *latents;     /* [n, each, channels, side, side], as the UNet takes them */
    int64_t channels, side;
} nn_lessons;

typedef struct nn_encoder_config {
    int64_t batch;
    double closeness; /* weight of the mean square of f: E4T has 0.01 */
    uint64_t seed;
    tn_adamw_config adam;
} nn_encoder_config;

/* One step towards the known words, at rate lr: each sample sees the mean of a few of its pictures. *loss is before it.
 */
int nn_encoder_study(tn_ctx *c, nn_encoder *e, const nn_lessons *l, const nn_encoder_config *cfg, double lr,
                     double *loss, tn_err *err);
/* One step by the diffusion loss of its words in "a photo of a WORD"; the model is frozen. `prompt` [length] are that
 * sentence's ids, `place` where the word is in it. */
typedef struct nn_practice {
    nn_model *model;
    const nn_schedule *schedule;
    const int64_t *prompt;
    int64_t length, place;
    tn_ctx *c; /* for the model's part, beside the encoder's own */
} nn_practice;
int nn_encoder_practise(tn_ctx *c, nn_encoder *e, const nn_lessons *l, const nn_encoder_config *cfg,
                        const nn_practice *p, double lr, double *loss, tn_err *err);

#endif
