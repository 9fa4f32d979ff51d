/* config.json by table: one row a key, with what it may say and where it goes.
 *
 * Silence is how wrong pictures happen: a key that changes the mathematics is either followed or refused by name. A key
 * that is not in the table is noted; a key whose value is understood but not built in is TN_EUNSUPPORTED; a value of
 * the wrong type or out of range is TN_EINPUT. A missing key leaves the field as the caller initialised it: with the
 * default of the class in diffusers or transformers, which is not always what Stable Diffusion's files say. */
#ifndef NN_CONFIG_H
#define NN_CONFIG_H

#include "tensor/err.h"
#include "tensor/io/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NN_LIST_MAX = 8 };

/* A list of whole numbers, or of choices; a key that may be one number or a list gives n = 1 for the former. */
typedef struct nn_list {
    int n;
    int64_t v[NN_LIST_MAX];
    bool scalar; /* written without brackets */
} nn_list;

typedef enum {
    NN_KEY_INT,     /* whole number in min..max -> int64_t */
    NN_KEY_NUMBER,  /* finite number in min..max -> float */
    NN_KEY_NUMBERS, /* three of them (a colour) -> float[3] */
    NN_KEY_BOOL,    /* -> bool */
    NN_KEY_INTS,    /* 1..NN_LIST_MAX whole numbers in min..max, or one without brackets -> nn_list */
    NN_KEY_CHOICE,  /* one of `names` -> int, its index */
    NN_KEY_CHOICES, /* a list of them -> nn_list of indices */
    NN_KEY_ONLY,    /* built in for the values in `names` only (as JSON writes them, strings bare), list or not */
    NN_KEY_ANY      /* changes nothing here */
} nn_key_type;

typedef struct nn_key {
    const char *name;
    nn_key_type type;
    size_t field;      /* offset in the caller's struct */
    const char *names; /* CHOICE, CHOICES, ONLY: separated by spaces */
    double min, max;
} nn_key;

/* What was ignored while loading, one line each; never an error. */
typedef struct nn_notes {
    char text[1000];
} nn_notes;
void nn_note(nn_notes *notes, const char *fmt, ...) TN_PRINTF(2, 3);

/* Reads the members of `object` into *fields. Keys that begin with "_" and are in no row are remarks of the writer.
 * `file` is for messages. */
int nn_config_read(const char *file, const tn_jval *object, const nn_key *keys, size_t nkeys, void *fields,
                   nn_notes *notes, tn_err *err);
/* Opens DIR/NAME and reads its root object. */
int nn_config_load(const char *dir, const char *name, const nn_key *keys, size_t nkeys, void *fields, nn_notes *notes,
                   tn_err *err);
/* Opens DIR/NAME as configurations are written by Python: NaN and repeated keys are let pass. The root is an object. */
int nn_config_open(const char *dir, const char *name, tn_json **doc, tn_err *err);

/* DIR/NAME, to be freed; NULL where memory is out. */
char *nn_join(const char *dir, const char *name);

#endif
