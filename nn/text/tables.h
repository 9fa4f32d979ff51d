/* The generated tables (tests/gen_unicode.py). Only unicode.c and clean.c look at them.
 *
 * A "run" is a first code point << 8 and a value that holds up to the next run, so that a property of all 1 114 112
 * code points is a binary search in two thousand words. */
#ifndef NN_TEXT_TABLES_H
#define NN_TEXT_TABLES_H

#include <stddef.h>
#include <stdint.h>

typedef struct nn_uni_lower_range {
    uint32_t first, last;
    int32_t step, delta; /* first, first + step, ..., last become themselves + delta */
} nn_uni_lower_range;

typedef struct nn_uni_decomposition {
    uint32_t c, first, second; /* canonical, one level; second 0 for a singleton. Only `first` may decompose further. */
} nn_uni_decomposition;

typedef struct nn_html_entity {
    const char *name; /* without '&' and ';' */
    int bare;         /* 1: also recognised without the ';' */
    uint32_t first, second;
} nn_html_entity;

extern const uint32_t nn_uni_flag_runs[]; /* NN_UNI_* bits */
extern const size_t nn_uni_flag_runs_count;
extern const uint32_t nn_uni_ccc_runs[]; /* canonical combining class */
extern const size_t nn_uni_ccc_runs_count;
extern const nn_uni_lower_range nn_uni_lower_ranges[];
extern const size_t nn_uni_lower_ranges_count;
extern const nn_uni_decomposition nn_uni_decompositions[]; /* ascending c */
extern const size_t nn_uni_decompositions_count;
/* Indices into the above, ascending (first, second); composition exclusions are left out. */
extern const uint16_t nn_uni_compositions[];
extern const size_t nn_uni_compositions_count;
extern const nn_html_entity nn_html_entities[]; /* ascending name */
extern const size_t nn_html_entities_count;
extern const uint16_t nn_html_c1[32]; /* what &#128; .. &#159; mean: windows-1252 */

#endif
