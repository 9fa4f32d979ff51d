/* Bump memory with mark and release: the whole memory manager of the project.
 *
 * Invariant: what was allocated after a mark is dead once the mark is released; nothing is freed singly, nothing is
 * counted. Chunks stay with the arena when they are released, so that a training run asks the system once. */
#ifndef TN_ARENA_H
#define TN_ARENA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct tn_chunk tn_chunk;

typedef struct tn_arena {
    tn_chunk *first, *current;
    size_t used, peak; /* bytes handed out now and at most, rounded to the alignment */
    bool counting;     /* dry run: only count, hand out a pointer that must not be followed */
    bool failed;       /* sticky: an allocation failed; pointers handed out since must not be followed */
} tn_arena;

typedef struct tn_mark {
    tn_chunk *chunk;
    size_t chunk_used, used;
} tn_mark;

/* 64-byte aligned, uninitialised. Never NULL: when counting or failed, a pointer that must not be followed. */
void *tn_arena_alloc(tn_arena *a, size_t bytes);
/* Makes sure that `bytes` more fit into one chunk; sets failed otherwise. */
void tn_arena_reserve(tn_arena *a, size_t bytes);
tn_mark tn_arena_mark(const tn_arena *a);
void tn_arena_release(tn_arena *a, tn_mark m);
void tn_arena_free(tn_arena *a); /* gives everything back; the arena is as new, `counting` kept */

#endif
