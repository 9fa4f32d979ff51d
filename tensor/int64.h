/* Small arithmetic on sizes and counts. Operands are not negative; sums and products fit. */
#ifndef TN_INT64_H
#define TN_INT64_H

#include <stdint.h>

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/* Where part `part` of n things begins, if they are cut into `parts` as evenly as can be; it ends where the next begins. */
static inline int64_t cut(int64_t n, int64_t part, int64_t parts) { return part * n / parts; }

#endif
