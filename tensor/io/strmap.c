#include "tensor/io/strmap.h"

#include <stdlib.h>
#include <string.h>

struct tn_strslot {
    const char *key;
    void *value;
    uint64_t hash;
};

/* With half the slots free, chance alone makes runs of a few dozen even for millions of names. */
enum { MAX_PROBES = 512 };

/* FNV-1a, then the mixing step of MurmurHash3: FNV alone leaves names that differ in their last byte in neighbouring
 * slots. */
static uint64_t hash_of(const char *s) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *s; s++) h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    h ^= h >> 33, h *= UINT64_C(0xff51afd7ed558ccd), h ^= h >> 33;
    return h;
}

int tn_strmap_init(tn_strmap *m, size_t n) {
    size_t size = 16;
    m->slot = NULL, m->mask = 0;
    if (n > SIZE_MAX / 8 / sizeof *m->slot) return -1;
    while (size < 2 * n) size *= 2;
    m->slot = calloc(size, sizeof *m->slot);
    m->mask = size - 1;
    return m->slot ? 0 : -1;
}

void tn_strmap_free(tn_strmap *m) {
    free(m->slot);
    m->slot = NULL, m->mask = 0;
}

void tn_strmap_clear(tn_strmap *m) {
    if (m->slot) memset(m->slot, 0, (m->mask + 1) * sizeof *m->slot);
}

/* The slot that holds the key, or the free one where it belongs; NULL where neither is among the first MAX_PROBES. */
static struct tn_strslot *seek(const tn_strmap *m, const char *key, uint64_t hash) {
    size_t i = (size_t)hash & m->mask;
    for (int probes = 0; probes < MAX_PROBES; probes++, i = (i + 1) & m->mask) {
        struct tn_strslot *s = &m->slot[i];
        if (!s->key || (s->hash == hash && strcmp(s->key, key) == 0)) return s;
    }
    return NULL;
}

void *tn_strmap_put(tn_strmap *m, const char *key, void *value, bool *overrun) {
    uint64_t hash = hash_of(key);
    struct tn_strslot *s = seek(m, key, hash);
    *overrun = !s;
    if (!s) return NULL;
    if (s->key) return s->value;
    s->key = key, s->value = value, s->hash = hash;
    return NULL;
}

void *tn_strmap_get(const tn_strmap *m, const char *key) {
    const struct tn_strslot *s = m->slot ? seek(m, key, hash_of(key)) : NULL;
    return s && s->key ? s->value : NULL;
}
