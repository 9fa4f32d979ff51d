/* From a prompt to pictures: the part of `generate` that training's validation pictures, `eval` and `selftest` use too.
 */
#ifndef TOOLS_GENERATE_H
#define TOOLS_GENERATE_H

#include "nn/edit/edit.h"
#include "nn/fit/clip_guidance.h"
#include "nn/memory.h"

typedef struct gen_request {
    const char *prompt, *negative; /* negative NULL: "" */
    /* [rows, width]: vectors behind the vocabulary, whose placeholders are in the model's tokenizer; NULL and 0: none */
    const float *learned;
    int64_t rows;
    int64_t width, height; /* pixels, multiples of the autoencoder's factor; 0: the size the model was made for */
    int64_t steps;
    double guidance;     /* 1: the negative prompt is not used */
    double eta;          /* of DDIM, 0 to 1 */
    const char *sampler; /* "ddim" or "ddpm"; NULL: "ddim" */
    uint64_t seed;       /* picture i has the noise of torch's generator seeded with seed + i */
    int64_t count;
    /* A picture to begin with, NULL: none. Its steps are these; width and height are its own. It must be encoded, but
     * for gen_measure. A background that wants a fitted decoder is left to nn_edit_fit. */
    const nn_edit *edit;
    /* [count, channels, h, w]: x_T instead of the seed's, from which the noise of steps is still drawn; NULL: the seed's. */
    const float *noise;
    /* Guidance by CLIP: its clip, target, scale and cutouts; the rest of it is filled in here. NULL: none. */
    const nn_clip_guidance *clip;
    nn_tokenizer_rules rules;
    /* Called after each step of a batch with the steps done, of all batches; may be NULL. */
    void (*progress)(void *arg, int64_t done, int64_t total);
    void *arg;
    nn_residency residency; /* what is given back between text encoder, UNet and autoencoder, and within them */
    float *latents; /* [count, channels, h, w], filled with what the decoder gets; NULL: not wanted */
} gen_request;

/* out[0..count) are made; the caller frees each with nn_image_free. On failure none is left. A picture does not depend
 * on count: picture i is bit for bit the one made alone with seed + i. Nothing is printed. TN_EUSAGE: a size that does
 * not fit; TN_ENUMERIC: the latent or the picture is not finite; TN_EINPUT, TN_EUNSUPPORTED: the model's scheduler;
 * TN_ENOMEM. */
int gen_pictures(tn_ctx *c, nn_model *m, const gen_request *r, nn_image *out, tn_err *err);

/* What gen_pictures takes for such a request, counted by dry runs of its parts; and the most that the process takes on top
 * of what it has. */
typedef struct gen_needs {
    nn_need text, unet, vae;
    /* Of an edit: its picture's encoding; the autoencoder beside the UNet; the fitting of a decoder. */
    nn_need encoder, beside, fit;
    nn_need clip; /* of guidance by CLIP: image tower and decoder, forward and backward, beside the UNet */
} gen_needs;
int gen_measure(const tn_ctx *like, const nn_model *m, const gen_request *r, gen_needs *out, tn_err *err);
size_t gen_bytes(const gen_needs *n, nn_residency residency);

/* How many pictures of a size are made at once: bounds the memory, whatever `count` is. */
int64_t gen_batch(const nn_model *m, int64_t width, int64_t height);
/* Width and height of the pictures the model was made for: sample_size of the UNet times the autoencoder's factor. */
int64_t gen_native_size(const nn_model *m);
/* TN_EUSAGE naming the nearest valid size where a side is not a multiple of the autoencoder's factor, or is too large.
 */
int gen_check_size(const nn_model *m, int64_t width, int64_t height, tn_err *err);
/* The schedule of the model's files for a sampler ("ddim" or "ddpm"), as Stable Diffusion's pipeline reads it. `named`,
 * 64 bytes or NULL, receives the class that the files name. */
int gen_schedule(const nn_model *m, const char *sampler, nn_schedule_config *config, char *named, tn_err *err);
/* A prompt as tokens, cut or padded to that length. */
int gen_tokenize(const nn_model *m, const char *prompt, nn_tokenizer_rules rules, nn_tokens *out, tn_err *err);

#endif
