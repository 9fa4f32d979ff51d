/* The parts of tools/make.h's job, one file each: make.c the run, make_recipe.c what is written into pictures and read
 * from them, make_edit.c the picture to begin with, make_rank.c the choice among candidates, make_guide.c the noise to
 * begin with and guidance by CLIP. */
#ifndef TOOLS_MAKE_JOB_H
#define TOOLS_MAKE_JOB_H

#include "tools/generate.h"
#include "tools/latents.h"
#include "tools/make.h"
#include "tools/metadata.h"
#include "tools/prompt.h"
#include "tools/rank.h"

typedef struct make_job {
    make_options o;
    const opt_command *cmd;
    bool *given; /* [cmd->nrows] */
    tn_ctx c;
    nn_model *model;
    emb_words words;
    float *learned; /* [nrows, width] */
    int64_t nrows;
    prompt_list prompts; /* at least one */
    int64_t count, keep; /* pictures made and kept of each prompt */
    meta_recipe made, now; /* of --from-image; of the pictures to be made */
    /* the run */
    mem_limit limit;
    gen_needs needs;
    nn_residency residency;
    size_t base; /* memory that the program has before the first picture */
    opt_progress progress;
    int64_t groups_done;
    float *latents;      /* of the pictures of one batch, [.., C,h,w]; NULL: not wanted */
    float *kept;         /* of all that were written, for --save-latents */
    int64_t size, nkept; /* of one latent; how many are in `kept` */
    /* edit */
    nn_edit edit;
    char picture_sha256[65], mask_sha256[65];
    /* choice */
    bool ranked;
    clip_judge judge;
    rank_goal goal;
    char *sentence; /* what goal.text is made of */
    char clip_sha256[65];
    /* noise and guidance */
    latents noise;            /* of --latent */
    nn_clip_guidance guide;   /* its clip is NULL where nothing is guided */
    float *aim;               /* [judge.width], guide.target */
    char *aim_sentence;       /* what it is made of; NULL: a picture */
    char aim_sha256[65];      /* of that picture's pixels */
} make_job;

bool make_given(const make_job *j, size_t field); /* MAKE_FIELD(name) */

/* Everything that --from-image says and the command line does not. */
int make_take_recipe(make_job *j, tn_err *err);
/* The recipe of what will be made, but for prompt, seed and rank. */
int make_write_recipe(make_job *j, tn_err *err);
/* The part of make_take_recipe that is about noise and guidance, and of make_compare_recipes. */
void make_take_guide(make_job *j);
void make_compare_guide(const make_job *j);
/* Warns of what --from-image's picture was made with and these will not be. */
void make_compare_recipes(const make_job *j);

/* Checks of options alone, and defaults that follow from others. */
int make_settle_edit(make_job *j, tn_err *err);
/* Reads picture and mask and sets the size. */
int make_open_edit(make_job *j, tn_err *err);
/* The decoder fitted to one picture's background, where that was asked for. */
int make_fit(make_job *j, const float *latent, nn_image *image, tn_err *err);

/* SHA-256 of a picture's size and pixels. */
void make_hash_pixels(const nn_image *image, char hex[65]);

int make_settle_rank(make_job *j, tn_err *err);
/* Opens the judge; where pictures are ranked looks at those of --like. */
int make_open_rank(make_job *j, tn_err *err);
/* The order of n candidates of a prompt; where nothing is ranked, the one they have. */
int make_rank(make_job *j, const char *prompt, const nn_image *images, int64_t n, rank_place *place, tn_err *err);
/* What the recipe and a line of --json say of a place, one of n. */
int make_note_rank(make_job *j, const rank_place *place, int64_t rank, int64_t n, tn_err *err);

/* Also says whether pictures are ranked: a CLIP that guides does not rank unless asked to. Before make_settle_rank. */
int make_settle_guide(make_job *j, tn_err *err);
/* Reads the noise of --latent, from which the size follows. */
int make_open_latent(make_job *j, tn_err *err);
/* Prepares guidance by the judge that make_open_rank opened. */
int make_open_guide(make_job *j, tn_err *err);
/* What guidance leads to is what `prompt` says, unless it is the same for all. */
int make_aim(make_job *j, const char *prompt, tn_err *err);
/* What the recipe says of the noise and the guidance of picture i. */
int make_note_guide(make_job *j, int64_t i, tn_err *err);

#endif
