/* How the pictures of a unit are made, beyond a sentence and noise. Inside of tools/paper: experiments see paper.h. */
#ifndef TOOLS_PAPER_SAMPLES_H
#define TOOLS_PAPER_SAMPLES_H

#include "tools/paper/paper.h"

enum { SAMPLES_WORDS = UNIT_INPUTS };

typedef struct samples_spec {
    paper_request r;                     /* its texts belong to the run */
    const char *prompt[PAPER_SENTENCES]; /* the sentences, with the words in them */
    const char *goal;
    const char *token[SAMPLES_WORDS];
    int word[SAMPLES_WORDS], nwords; /* learned ones: units */
} samples_spec;

/* A way to pictures. `make` fills out[0 .. n nsentences) for learned words that are in the model's tokenizer, their
 * vectors learned [rows, width]. */
struct paper_method {
    const char *name;
    const char *param[PAPER_PARAMS]; /* what the request's numbers mean; NULL behind the last */
    double cost;                     /* of a picture, in guided steps of the UNet for each step of sampling */
    int (*make)(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out, tn_err *err);
};

/* What all methods begin with: sentence `i`, n pictures. */
gen_request samples_request(const paper *p, const samples_spec *s, int i, const float *learned, int64_t rows);

/* Source picture i. */
const nn_image *samples_source(const paper *p, const samples_spec *s, int64_t i);

#endif
