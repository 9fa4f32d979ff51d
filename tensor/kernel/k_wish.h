/* Memory that will be needed, asked for while register tiles compute, into the second-level cache; private to tensor/kernel. All at
 * once the requests would take the places in which a tile's own misses wait. */
#ifndef TN_K_WISH_H
#define TN_K_WISH_H

#include "tensor/kernel/simd.h"

enum { CHUNK = 32, LINE = 64 }; /* steps of a tile between requests; bytes that come from memory together */

/* `times` times `lines` lines that are `line` bytes apart, each time `step` bytes on; `each` of the times every CHUNK steps. All 0:
 * nothing. */
typedef struct wish {
    uintptr_t at;
    int64_t times, step, lines, line, each;
    int64_t part; /* of the memory, in bytes, a tile asks for */
} wish;

/* In chunk i of a tile. A macro, for a call would put all of the tile's sums on the stack. */
#define ASK(w, i) \
    for (int64_t t_ = (i) * (w).each, end_ = min64(t_ + (w).each, (w).times); t_ < end_; t_++) { \
        uintptr_t from_ = (w).at + (uintptr_t)(t_ * (w).step); \
        for (int64_t l_ = 0; l_ < (w).lines; l_++) v_prefetch_l2(from_ + (uintptr_t)(l_ * (w).line)); \
    }

/* `rows` rows of `bytes` bytes that are `row` bytes apart, a part of them in each of `tiles` tiles of kc steps (next_part): row by
 * row, or column by column of lines, whichever is fewer at a time. */
static inline wish wish_for(uintptr_t at, int64_t rows, int64_t row, int64_t bytes, int64_t tiles, int64_t kc) {
    if (rows <= 0 || tiles <= 0) return (wish){0};
    int64_t part = ceil_div(rows, tiles), before = row % LINE ? LINE - 1 : (int64_t)(at % LINE);
    int64_t across = ceil_div(before + bytes, LINE);
    wish w = {at, part, row, across, LINE, 0, part * row};
    if (part < across) w.times = across, w.step = LINE, w.lines = part, w.line = row;
    w.each = ceil_div(w.times, ceil_div(max64(kc, 1), CHUNK));
    return w;
}

static inline void next_part(wish *w) { w->at += (uintptr_t)w->part; }

#endif
