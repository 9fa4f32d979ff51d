/* From a picture's latent to the noise that makes it, given a prompt (nn/fit/ddim_inversion.h). */
#ifndef TOOLS_INVERT_H
#define TOOLS_INVERT_H

#include "nn/fit/ddim_inversion.h"
#include "tools/latents.h"

typedef struct inv_request {
    const char *prompt, *negative; /* what the picture shows; NULL: "" */
    const float *learned;          /* [rows, width], as in gen_request */
    int64_t rows;
    int64_t steps;
    double guidance; /* 1: the negative prompt is not used */
    nn_inversion_rule rule;
    nn_tokenizer_rules rules;
    /* Called after each step with the steps done since the call began; may be NULL. */
    void (*progress)(void *arg, int64_t done);
    void *arg;
} inv_request;

/* Steps that a call takes: of one inversion, and of one round trip. */
int64_t inv_work(const inv_request *r, bool round_trip);

/* of: one latent (count 1) -> noise, of its shape; the caller frees it. Nothing is printed. Errors as gen_pictures'. */
int inv_noise(tn_ctx *c, const nn_model *m, const inv_request *r, const latents *of, latents *noise, tn_err *err);

/* There and back: *mse of the latent, and the picture that comes out, which the caller frees. */
int inv_round_trip(tn_ctx *c, const nn_model *m, const inv_request *r, const latents *of, double *mse, nn_image *back,
                   tn_err *err);

#endif
