/* --memory: how much a run may take, and the choice among its ways to run. */
#ifndef TOOLS_MEMORY_H
#define TOOLS_MEMORY_H

#include "tensor/err.h"
#include <stddef.h>

#define MEM_META "SIZE"
#define MEM_HELP "stay below 3 (GiB), 4.5G or 900M; or low, mid, fast (default: what is free); the result is the same"

typedef enum { MEM_FREE, MEM_BYTES, MEM_LOW, MEM_MID, MEM_FAST } mem_kind;
typedef struct mem_limit {
    mem_kind kind;
    size_t bytes; /* MEM_FREE (0: unknown), MEM_BYTES */
} mem_limit;
/* NULL: what the machine has free. "low", "mid", "fast"; a number of GiB; or with a unit, K, M, G or T, each of which may
 * be followed by B or iB (all of 1024). TN_EUSAGE. */
int mem_parse(const char *text, mem_limit *out, tn_err *err);

/* The fastest of n ways to run that fits; they are in the order of their times, the fastest first. `bytes` says what the
 * process takes at most in way i. "mid" is way `mid`. Where nothing fits: TN_ENOMEM naming the least that is needed and
 * `advice`; but with what is free (which may change, and can be swapped) the way that takes the least. */
int mem_choose(const mem_limit *limit, int n, int mid, int (*bytes)(void *arg, int way, size_t *out, tn_err *err),
               void *arg, const char *advice, int *way, size_t *taken, tn_err *err);

/* What the process has now and will have besides what a plan counts: code that did not run yet, the threads' stacks, the
 * rest of the last huge pages. */
size_t mem_base(void);

/* "3.21 GiB" or, where that is small, "15.2 MiB" into out[16], which it returns. */
const char *mem_text(char *out, size_t bytes);

#endif
