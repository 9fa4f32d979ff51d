/* See k_taps.h. 16 x 16 elements at a time are turned in registers; cache lines are asked for some rows or taps before. */
#include "tensor/kernel/k_taps.h"

enum {
    CHANNELS_AHEAD = 6,       /* where the taps of rows lie together */
    TAPS_AHEAD = 9 * V_LANES  /* where those of channels do */
};

static inline uintptr_t address_of(const taps *a, int64_t element) {
    return (uintptr_t)a->base + (uintptr_t)element * dtype_size(a->type);
}

#define EACH_9(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

/* out[e], lane l = element at + l row + e, e < 16, l < lanes. Lanes behind repeat the last; elements behind the end of the weight
 * are 0. With `nine` only the first nine, and with `reversed` those from the last on. */
static inline void turn(const taps *a, int64_t at, int64_t lanes, int nine, int reversed, float *out) {
    v16 r[16];
    int64_t stride = a->row, size = a->rows * a->channels * 9, last = at + (lanes - 1) * stride;
#define LOAD_EDGE(i) r[i] = v_loadn_typed(a->base, a->type, min64(at + i * stride, last), min64(V_LANES, size - min64(at + i * stride, last)));
    if (lanes == V_LANES && last + V_LANES <= size) {
        v_load_rows(r, a->base, a->type, at, stride);
    } else {
        V_SIXTEEN(LOAD_EDGE)
    }
    v_transpose(r);
#define STORE(i) v_store(out + (i) * V_LANES, r[i]);
#define STORE_BACK(i) v_store(out + (8 - (i)) * V_LANES, r[i]);
    if (!nine) {
        V_SIXTEEN(STORE)
    } else if (reversed) {
        EACH_9(STORE_BACK)
    } else {
        EACH_9(STORE)
    }
}

void K(turn_taps)(const taps *a, int64_t m0, int64_t c0, int64_t n, int reversed, float *g) {
    int64_t lanes = min64(V_LANES, a->rows - m0), at = m0 * a->row + c0 * a->channel;
    if (a->channel == 9 && !reversed) { /* the 9 n taps of a row are one stretch */
        for (int64_t e = 0; e < 9 * n; e += V_LANES, at += V_LANES, g += V_LANES * V_LANES) {
            for (int64_t i = 0; i < lanes; i++) v_prefetch(address_of(a, at + i * a->row + TAPS_AHEAD));
            turn(a, at, lanes, 0, 0, g);
        }
    } else {
        for (int64_t c = 0; c < n; c++, at += a->channel, g += 9 * V_LANES) {
            for (int64_t i = 0; i < 9; i++) v_prefetch(address_of(a, at + CHANNELS_AHEAD * a->channel + i * V_LANES));
            turn(a, at, lanes, 1, reversed, g);
        }
    }
}

taps_ahead K(taps_ahead)(const taps *a, int64_t m0, int64_t n_rows, int64_t c0, int64_t n) {
    int64_t size = (int64_t)dtype_size(a->type), rows = min64(n_rows, a->rows - m0), together = a->channel == 9;
    if (rows <= 0) return (taps_ahead){0};
    return (taps_ahead){.at = address_of(a, m0 * a->row + c0 * a->channel), .stretches = together ? rows : n,
                        .lines = ((together ? n : rows) * 9 * size + 126) / 64, .distance = (together ? a->row : a->channel) * size};
}
