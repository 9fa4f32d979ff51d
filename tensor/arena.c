#include "tensor/arena.h"

#include "tensor/io/sys.h"
#include <stdint.h>
#include <stdlib.h>

enum { ALIGN = 64, FIRST_CHUNK = 1 << 16, LARGE_CHUNK = 2 * TN_HUGE_PAGE };

struct tn_chunk {
    tn_chunk *next;
    size_t size, used;
    unsigned char *base; /* aligned */
};

static const char nowhere[ALIGN]; /* what counting and failed arenas hand out; a write would be fatal */

/* A new chunk after the current one, or NULL. Chunks grow with the arena, so their number stays logarithmic. Large ones
 * consist of whole huge pages; what is never touched of them costs nothing. */
static tn_chunk *chunk_new(tn_arena *a, size_t bytes) {
    size_t size = a->used > FIRST_CHUNK ? a->used : FIRST_CHUNK, align = ALIGN;
    if (size < bytes) size = bytes;
    if (size > SIZE_MAX - sizeof(tn_chunk) - 2 * (size_t)TN_HUGE_PAGE) return NULL;
    if (size >= LARGE_CHUNK) align = TN_HUGE_PAGE, size = (size + align - 1) / align * align;
    tn_chunk *c = malloc(sizeof *c + align + size);
    if (!c) return NULL;
    c->size = size, c->used = 0;
    uintptr_t p = (uintptr_t)(c + 1);
    c->base = (unsigned char *)(c + 1) + (align - p % align) % align;
    if (align == TN_HUGE_PAGE) tn_prefer_huge_pages(c->base, size);
    tn_chunk **link = a->current ? &a->current->next : &a->first;
    c->next = *link;
    *link = c;
    return c;
}

/* Moves to a chunk that holds `bytes` more: the next one where it is large enough, else a new one. */
static bool advance(tn_arena *a, size_t bytes) {
    tn_chunk *c = a->current ? a->current->next : a->first;
    if (!c || c->size < bytes) c = chunk_new(a, bytes);
    if (!c) return false;
    c->used = 0;
    a->current = c;
    return true;
}

void *tn_arena_alloc(tn_arena *a, size_t bytes) {
    if (bytes > SIZE_MAX - ALIGN) {
        a->failed = true;
        return (void *)(uintptr_t)nowhere;
    }
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    a->used += bytes;
    if (a->used > a->peak) a->peak = a->used;
    if (a->counting || a->failed) return (void *)(uintptr_t)nowhere;
    if ((!a->current || a->current->size - a->current->used < bytes) && !advance(a, bytes)) {
        a->failed = true;
        return (void *)(uintptr_t)nowhere;
    }
    void *p = a->current->base + a->current->used;
    a->current->used += bytes;
    return p;
}

static void free_chunks(tn_arena *a) {
    for (tn_chunk *c = a->first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    a->first = a->current = NULL;
}

void tn_arena_reserve(tn_arena *a, size_t bytes) {
    if (a->counting || a->failed) return;
    bool fits = a->current && a->current->size - a->current->used >= bytes;
    tn_chunk *next = a->current ? a->current->next : a->first;
    if (fits || (next && next->size >= bytes)) return;
    if (a->used == 0) free_chunks(a); /* too small each, and nobody would use them again */
    if (!chunk_new(a, bytes)) a->failed = true;
}

tn_mark tn_arena_mark(const tn_arena *a) {
    tn_mark m = {a->current, a->current ? a->current->used : 0, a->used};
    return m;
}

void tn_arena_release(tn_arena *a, tn_mark m) {
    a->current = m.chunk;
    if (m.chunk) m.chunk->used = m.chunk_used;
    a->used = m.used;
}

void tn_arena_free(tn_arena *a) {
    free_chunks(a);
    bool counting = a->counting;
    *a = (tn_arena){0};
    a->counting = counting;
}
