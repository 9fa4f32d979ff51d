/* A map from strings to pointers for names out of files: built once, read often; no name is taken out.
 *
 * Open addressing with linear probing, at most half full. Names are chosen by whoever wrote the file, so a search that
 * runs too long is refused instead of followed: crafted collisions cost an error, never minutes. Iteration order is not
 * offered; who needs an order keeps it beside the map. */
#ifndef TN_STRMAP_H
#define TN_STRMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tn_strmap {
    struct tn_strslot *slot; /* 2^k slots, NULL key = free */
    size_t mask;             /* 2^k - 1 */
} tn_strmap;

/* Room for n names. -1 where memory is out. */
int tn_strmap_init(tn_strmap *m, size_t n);
void tn_strmap_free(tn_strmap *m);
void tn_strmap_clear(tn_strmap *m); /* empty, with the same room */
/* Puts key -> value unless the key is there; returns what the map held before (NULL: the pair is new). Keys are
 * borrowed, not copied, and the value must not be NULL. *overrun is set (and nothing put) where too many keys collide.
 */
void *tn_strmap_put(tn_strmap *m, const char *key, void *value, bool *overrun);
void *tn_strmap_get(const tn_strmap *m, const char *key); /* NULL where absent */

#endif
