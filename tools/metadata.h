/* What a generated picture says about its making, so that it can be made again: two text chunks of its PNG.
 *
 * `parameters` is the text that AUTOMATIC1111's web UI writes and that picture sites and other programs read:
 *     PROMPT
 *     Negative prompt: NEGATIVE
 *     Steps: 20, Sampler: DDIM, CFG scale: 7.5, Seed: 1, Size: 512x512, Model hash: ..., Model: ..., TI hashes: ...,
 * Version: ... (values with a comma, a colon or a line end in quotes, as JSON strings). It is ambiguous for some
 * prompts and has no place for some settings, so `oneword` holds the same again as JSON, and more; it is what counts
 * where both are there. */
#ifndef TOOLS_METADATA_H
#define TOOLS_METADATA_H

#include "nn/image/png.h"
#include "nn/text/tokenizer.h"
#include <stdbool.h>

typedef struct meta_word { /* a learned word that was at hand */
    char *token;
    char sha256[65]; /* of its file */
} meta_word;

/* The picture that a picture was made from, as nn_edit_config has it. */
typedef struct meta_edit {
    char picture_sha256[65], mask_sha256[65]; /* of their pixels; "": none */
    int64_t first_step, mask_shrink, decoder_steps, low_pass, low_pass_until;
    bool invert_mask;
    char background[16], low_pass_space[16];
} meta_edit;

/* What came of a choice among candidates. It says nothing about the making, and is not read. */
typedef struct meta_rank {
    int64_t place, of;  /* 1 is the best; of 0: nothing was chosen */
    char *sentence;     /* what text is about, allocated; NULL: not by text */
    bool by_image;
    double text, image; /* cosines */
    char clip_sha256[65];
} meta_rank;

/* Guidance by CLIP. */
typedef struct meta_guide {
    double scale;
    int64_t cutouts;
    char *sentence;   /* what it leads to, allocated; NULL: a picture */
    char picture_sha256[65], clip_sha256[65];
} meta_guide;

typedef struct meta_recipe {
    char *prompt, *negative; /* UTF-8, allocated; NULL: "" */
    int64_t steps, seed, width, height;
    char sampler[32]; /* "ddim"; of other programs what they call it, "Euler a" */
    double guidance, eta;
    char conv[16]; /* the form that all convolutions were forced into, "direct" or "winograd"; "": by shape */
    nn_tokenizer_rules rules;
    char *model;           /* base name of the model's directory, allocated; NULL: unknown */
    char model_sha256[65]; /* fingerprint of the model; "" unknown; of other programs the digits they give */
    meta_word *word;
    int nwords;
    meta_edit edit;
    meta_rank rank;
    char latent_sha256[65]; /* of the numbers of x_T, where they were not the seed's; "" */
    bool guided;            /* by CLIP */
    meta_guide guide;
} meta_recipe;

void meta_free(meta_recipe *r); /* leaves it zeroed */
int meta_add_word(meta_recipe *r, const char *token, const char *sha256, tn_err *err);
/* Replaces a string of a recipe by a copy of n bytes. */
int meta_set(char **field, const char *text, size_t n, tn_err *err);

/* The two chunks of a recipe; the values are allocated. TN_ENOMEM. */
int meta_texts(const meta_recipe *r, nn_text texts[2], tn_err *err);
/* Reads the recipe of a PNG. What it does not state stays as it is in *r, which is valid afterwards also on failure.
 * TN_EINPUT where there is none or it cannot be understood. */
int meta_read(const char *path, meta_recipe *r, tn_err *err);
/* The `parameters` text alone; `name` is for messages. */
int meta_parse_parameters(const char *text, const char *name, meta_recipe *r, tn_err *err);

/* The `oneword` text: written (allocated, NULL where memory is out), and read. */
char *meta_json(const meta_recipe *r);
int meta_parse_json(const char *text, const char *name, meta_recipe *r, tn_err *err);

#endif
