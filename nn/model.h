/* A model directory as diffusers stores Stable Diffusion: model_index.json and one folder a component. */
#ifndef NN_MODEL_H
#define NN_MODEL_H

#include "nn/model/clip.h"
#include "nn/model/unet.h"
#include "nn/model/vae.h"
#include "nn/schedule.h"
#include "nn/text/tokenizer.h"

enum {
    NN_LOAD_TEXT = 1,
    NN_LOAD_UNET = 2,
    NN_LOAD_VAE = 4,
    NN_LOAD_TOKENIZER = 8,
    NN_LOAD_SCHEDULER = 16,
    NN_LOAD_ALL = 31
};

typedef struct nn_model {
    char *dir;      /* where the components' folders lie */
    int components; /* the flags that it was loaded with */
    nn_text_model *text;   /* NULL where not asked for */
    nn_unet *unet;
    nn_vae *vae;
    nn_tokenizer *tokenizer;
    nn_schedule_config schedule; /* of its scheduler_config.json, literally; a class not built in as DDIM, noted */
    char notes[2000];      /* one line each: unknown configuration keys, ignored tensors; not errors */
} nn_model;

/* Loads the components asked for, from a folder that diffusers saved or from one of the Hugging Face cache
 * (models--OWNER--NAME), and checks that they belong together. Errors name file, key or tensor. */
int nn_model_load(const char *dir, int components, nn_model **out, tn_err *err);
void nn_model_free(nn_model *m);
/* nn_weights_rest for all networks. */
void nn_model_rest(const nn_model *m);
/* SHA-256 over names, dtypes, shapes and data of every weight and over the files of configuration and vocabulary, which
 * are read again: what a checkpoint depends on. The same on every machine. Reads all weights. */
int nn_model_fingerprint(const nn_model *m, char hex[65], tn_err *err);

#endif
