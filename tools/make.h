/* What generate and edit have in common: from options to pictures in files, each with the recipe to make it again. */
#ifndef TOOLS_MAKE_H
#define TOOLS_MAKE_H

#include "tools/memory.h"
#include "tools/opt.h"

typedef struct make_options {
    opt_common common;
    const char *model, *prompt, *prompts, *negative, *output, *sampler, *tokenizer_mode, *from_image, *save_latents,
        *memory;
    opt_list embedding;
    int64_t steps, seed, width, height, batch;
    double guidance, eta;
    bool no_metadata;
    /* the choice among candidates */
    const char *clip, *like, *rank, *rank_text;
    int64_t candidates, keep; /* 0: batch; all */
    /* guidance by CLIP */
    const char *clip_prompt, *clip_image;
    double clip_guidance; /* below 0: not given */
    int64_t cutouts;      /* 0: the whole picture */
    const char *latent;   /* x_T in a file: generate alone */
    /* a picture to begin with: edit alone */
    const char *picture, *mask, *background, *low_pass_space;
    double strength; /* below 0: not given */
    int64_t first_step, mask_shrink, decoder_steps, low_pass, low_pass_until; /* first_step below 0: by strength */
    bool invert_mask;
} make_options;

#define MAKE_FIELD(name) offsetof(make_options, name)

/* Rows that both commands have. */
#define MAKE_OPTIONS                                                                                                           \
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, MAKE_FIELD(model), 0, 0, "DIR", "model directory as diffusers saves it"}, \
    {"p,prompt", OPT_TEXT, MAKE_FIELD(prompt), 0, 0, "TEXT", "what to draw; learned words as their files spell them"},          \
    {"prompts", OPT_TEXT, MAKE_FIELD(prompts), 0, 0, "FILE", "several prompts, one a line; where --prompt has {}, each line in its place"}, \
    {"n,negative-prompt", OPT_TEXT, MAKE_FIELD(negative), 0, 0, "TEXT", "what not to draw (default: nothing)"},                 \
    {"embedding", OPT_LIST, MAKE_FIELD(embedding), 0, 0, "[NAME=]FILE", "a learned word, learned_embeds.safetensors; may be repeated"}, \
    {"o,output", OPT_TEXT, MAKE_FIELD(output), 0, 0, "FILE", "PNG or PPM; %d or %03d is the picture's number (default: output.png)"}, \
    {"steps", OPT_INT, MAKE_FIELD(steps), 1, 1000000, "N", "denoising steps (default: 20)"},                                    \
    {"cfg-scale,guidance-scale,scale,g", OPT_NUMBER, MAKE_FIELD(guidance), 0, 1000, "X", "classifier-free guidance; 1 is none (default: 7.5)"}, \
    {"sampler", OPT_TEXT, MAKE_FIELD(sampler), 0, 0, "ddim|ddpm", "how noise becomes a picture (default: ddim)"},               \
    {"eta", OPT_NUMBER, MAKE_FIELD(eta), 0, 1, "X", "noise in the steps of DDIM (default: 0)"},                                 \
    {"S,seed", OPT_INT, MAKE_FIELD(seed), -1, 9.2e18, "N", "picture i has seed N + i, as a torch generator; -1 is random (default)"}, \
    {"b,batch,num-images-per-prompt", OPT_INT, MAKE_FIELD(batch), 1, 100000, "N", "pictures of each prompt (default: 1)"},     \
    {"candidates", OPT_INT, MAKE_FIELD(candidates), 1, 100000, "N", "make so many of each prompt, keep the best, in their order; needs --clip"}, \
    {"keep", OPT_INT, MAKE_FIELD(keep), 1, 100000, "N", "how many candidates are kept (default: all)"},                         \
    {"clip", OPT_TEXT, MAKE_FIELD(clip), 0, 0, "DIR", "CLIP directory, which ranks the pictures, or guides them"},              \
    {"like", OPT_TEXT, MAKE_FIELD(like), 0, 0, "DIR", "rank by likeness to the pictures of a folder"},                          \
    {"rank", OPT_TEXT, MAKE_FIELD(rank), 0, 0, "text|image|both", "rank by prompt, by --like or by both (default: by what is given)"}, \
    {"rank-text", OPT_TEXT, MAKE_FIELD(rank_text), 0, 0, "TEXT", "sentence to rank by (default: the prompt without learned words)"}, \
    {"clip-guidance", OPT_NUMBER, MAKE_FIELD(clip_guidance), 0, 1e9, "X", "guide each step by the gradient of CLIP through the decoder, X times; needs --clip"}, \
    {"clip-prompt", OPT_TEXT, MAKE_FIELD(clip_prompt), 0, 0, "TEXT", "sentence to guide to (default: the prompt without learned words)"}, \
    {"clip-image", OPT_TEXT, MAKE_FIELD(clip_image), 0, 0, "FILE", "picture to guide to, in place of a sentence"},              \
    {"cutouts", OPT_INT, MAKE_FIELD(cutouts), 0, 1024, "N", "random squares that CLIP sees at each step (default: 0, the whole picture)"}, \
    {"from-image", OPT_TEXT, MAKE_FIELD(from_image), 0, 0, "PNG", "take prompts and settings from a picture; options given win"}, \
    {"tokenizer-mode", OPT_TEXT, MAKE_FIELD(tokenizer_mode), 0, 0, "hf|openai", "rules of the tokenizer (default: hf)"},       \
    {"save-latents", OPT_TEXT, MAKE_FIELD(save_latents), 0, 0, "FILE", "also write what the decoder gets, as safetensors"},     \
    {"memory,max-ram", OPT_TEXT, MAKE_FIELD(memory), 0, 0, MEM_META, MEM_HELP},                                                 \
    {"no-metadata", OPT_FLAG, MAKE_FIELD(no_metadata), 0, 0, NULL, "do not write the recipe into the PNG"},                     \
    OPT_COMMON(make_options, common)

/* The defaults of both. */
#define MAKE_DEFAULTS                                                                                                          \
    .output = "output.png", .sampler = "ddim", .tokenizer_mode = "hf", .steps = 20, .seed = -1, .batch = 1, .guidance = 7.5,    \
    .clip_guidance = -1.0, .strength = -1.0, .first_step = -1, .low_pass_until = -1

/* Runs such a command: parses argv over the defaults, makes the pictures; the exit status. */
int make_main(const opt_command *cmd, int argc, char **argv, const make_options *defaults);

#endif
