/* Units of work, and the folder that keeps their results.
 *
 * A unit is one word learned, one set of samples, one score, one list of numbers. Its recipe, a line of JSON, states
 * everything that its result depends on: the model's fingerprint, the version of the arithmetic, settings, hashes of
 * pictures, the keys of the units it is made from. Its key is the SHA-256 of that line, and its result is one file
 * named by the key, written whole or not at all. So a result that is there is right, whoever made it and when: a run
 * that was killed goes on, a second run finds everything done, and machines that share nothing but a folder share the
 * work. */
#ifndef TOOLS_PAPER_UNIT_H
#define TOOLS_PAPER_UNIT_H

#include "tensor/err.h"
#include "tensor/io/json.h"
#include <stdbool.h>
#include <stdint.h>

struct paper;
struct unit;

typedef struct unit_kind {
    const char *name, *ending; /* "word", ".safetensors" */
    /* Makes the result and writes it to `path`, atomically. */
    int (*make)(struct paper *p, const struct unit *u, const char *path, tn_err *err);
    /* Reads the result for later use into u->result; NULL where nobody asks for it. */
    int (*load)(struct paper *p, struct unit *u, const char *path, tn_err *err);
} unit_kind;

enum { UNIT_INPUTS = 4 };

typedef struct unit {
    char key[65];
    const unit_kind *kind;
    const char *recipe;     /* JSON, one line */
    const void *spec;       /* what `make` reads */
    int input[UNIT_INPUTS]; /* units it is made from, all earlier in the plan */
    int ninputs;
    uint32_t share;             /* decides which shard makes it: the key's, or that of the word it hangs on */
    int64_t training, sampling; /* work: steps of learning, guided steps of one picture */
    const char *section;        /* that asked first */
    bool wanted;                /* by a run: its own, or an input of one */
    void *result;               /* of kind->load; one block of memory */
} unit;

typedef struct unit_plan {
    unit *unit;
    int n, cap;
    int *slot; /* hash table of keys: unit + 1, 0 free */
    int nslots;
} unit_plan;

/* Starts a recipe with what all units depend on; the caller adds its own settings and hands it to unit_add. */
void unit_recipe(const struct paper *p, tn_jw *w, const unit_kind *kind);
/* Closes the recipe and returns the number of the unit with it, a new one where there is none. spec [size] is copied.
 */
int unit_add(struct paper *p, tn_jw *recipe, const unit_kind *kind, const void *spec, size_t size, const int *input,
             int ninputs, int64_t training, int64_t sampling);
/* DIR/units/KEY.ending; valid until the next call. */
const char *unit_path(const struct paper *p, const unit *u, char path[4096]);
bool unit_done(const struct paper *p, const unit *u);
/* Whether shard `index` of `count` (from 0) makes it. */
bool unit_in_shard(const unit *u, int64_t index, int64_t count);
void unit_free(unit_plan *plan);

#endif
