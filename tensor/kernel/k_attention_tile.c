/* The parts of attention that forward and backward share: see k_attention.h. */
#include "tensor/kernel/k_attention.h"
#include "tensor/parallel.h"

/* ---- product ---- */

/* The register tile: ATTN_ROWS x 2 vectors of c, or x 1 at an odd end and where registers are few. With AVX-512 16 sums,
 * 2 vectors of b and one element of a are in registers; a step of depth loads 2 vectors and 8 scalars for 16
 * multiply-adds, and 16 sums hide a latency of 4 cycles at one or two multiply-adds a cycle. A taller or wider tile
 * would load less, but its ends, where nothing overlaps, weigh more: depth is only 40 in the commonest product. */
#if V_TILE_ROWS >= 8
#define WIDE 2
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#else
#define WIDE 1
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4)
#endif

#define POINT(r) const float *a##r = a.at + r * a.row;

#define START_1(r) v16 c##r = v_zero();
#define STEP_1(r) c##r = v_fma(v_set1(a##r[i]), b0, c##r);
#define ADD_1(r) c##r = v_fma(v_load(c + r * ldc), f0, c##r);
#define STORE_1(r) v_store(c + r * ldc, c##r);

static void tile_1(attn_view a, int64_t depth, const float *b, int64_t ldb, float *c, int64_t ldc, int add,
                   const float *decay) {
    EACH_ROW(POINT)
    EACH_ROW(START_1)
    for (int64_t t = 0, i = 0; t < depth; t++, i += a.step, b += ldb) {
        v16 b0 = v_load(b);
        EACH_ROW(STEP_1)
    }
    if (add) {
        v16 f0 = decay ? v_load(decay) : v_set1(1.0f);
        EACH_ROW(ADD_1)
    }
    EACH_ROW(STORE_1)
}

#if WIDE == 2
#define START_2(r) v16 c##r = v_zero(), d##r = v_zero();
#define STEP_2(r) \
    x = v_set1(a##r[i]); \
    c##r = v_fma(x, b0, c##r), d##r = v_fma(x, b1, d##r);
#define ADD_2(r) \
    c##r = v_fma(v_load(c + r * ldc), f0, c##r), d##r = v_fma(v_load(c + r * ldc + V_LANES), f1, d##r);
#define STORE_2(r) v_store(c + r * ldc, c##r), v_store(c + r * ldc + V_LANES, d##r);

static void tile_2(attn_view a, int64_t depth, const float *b, int64_t ldb, float *c, int64_t ldc, int add,
                   const float *decay) {
    EACH_ROW(POINT)
    EACH_ROW(START_2)
    for (int64_t t = 0, i = 0; t < depth; t++, i += a.step, b += ldb) {
        v16 x, b0 = v_load(b), b1 = v_load(b + V_LANES);
        EACH_ROW(STEP_2)
    }
    if (add) {
        v16 f0 = decay ? v_load(decay) : v_set1(1.0f), f1 = decay ? v_load(decay + V_LANES) : f0;
        EACH_ROW(ADD_2)
    }
    EACH_ROW(STORE_2)
}
#endif

/* Rows are the inner loop: the columns of b in use, 80 x 32 floats, stay in the first-level cache beside A. */
void K(attn_product)(attn_view a, int64_t rows, int64_t depth, const float *b, int64_t ldb, int64_t vecs, float *c,
                     int64_t ldc, int add, const float *decay) {
    const float *top = a.at;
    for (int64_t v = 0, n; v < vecs; v += n) {
        n = attn_min(WIDE, vecs - v);
        int64_t lane = v * V_LANES;
        for (int64_t r = 0; r < rows; r += ATTN_ROWS) {
            const float *factor = decay ? decay + lane : NULL;
            float *to = c + r * ldc + lane;
            a.at = top + r * a.row;
#if WIDE == 2
            if (n == 2) {
                tile_2(a, depth, b + lane, ldb, to, ldc, add, factor);
                continue;
            }
#endif
            tile_1(a, depth, b + lane, ldb, to, ldc, add, factor);
        }
    }
}

/* ---- between rows and lanes ---- */

#define LOAD_ROW(j) r[j] = (j) < rows ? v_loadn(from + (j) * stride, width) : v_zero();
#define SCALE(j) r[j] = v_mul(f, r[j]);
#define STORE_LANES(j) \
    if ((j) < width) v_store(to + (j) * ld, r[j]);

void K(attn_to_lanes)(const float *x, int64_t stride, int64_t n, int64_t D, float factor, float *xt, int64_t ld) {
    v16 f = v_set1(factor), r[V_LANES];
    for (int64_t v = 0; v < n; v += V_LANES)
        for (int64_t d = 0; d < D; d += V_LANES) {
            const float *from = x + v * stride + d;
            float *to = xt + d * ld + v;
            int64_t width = min64(V_LANES, D - d), rows = n - v;
            if (width == V_LANES && rows >= V_LANES) {
                v_load_rows(r, from, TN_F32, 0, stride);
            } else {
                V_SIXTEEN(LOAD_ROW)
            }
            v_transpose(r);
            V_SIXTEEN(SCALE)
            V_SIXTEEN(STORE_LANES)
        }
}

#define LOAD_LANES(j) r[j] = (j) < width ? v_mul(f, v_load(from + (j) * ld)) : v_zero();
#define STORE_ROW(j) \
    if ((j) < rows) v_storen(to + (j) * stride, r[j], width);

void K(attn_from_lanes)(const float *xt, int64_t ld, int64_t n, int64_t D, const float *factor, float *x, int64_t stride) {
    v16 r[V_LANES];
    for (int64_t v = 0; v < n; v += V_LANES)
        for (int64_t d = 0; d < D; d += V_LANES) {
            const float *from = xt + d * ld + v;
            float *to = x + v * stride + d;
            int64_t width = min64(V_LANES, D - d), rows = n - v;
            v16 f = factor ? v_load(factor + v) : v_set1(1.0f);
            V_SIXTEEN(LOAD_LANES)
            v_transpose(r);
            V_SIXTEEN(STORE_ROW)
        }
}

/* ---- packing ---- */

typedef struct packing {
    const float *x;
    int64_t length, H, D;
    float factor;
    float *dst;
} packing;

/* One block of tokens, all of its heads: the source is read in order. */
static void pack_block(void *arg, int64_t i, int worker) {
    const packing *p = arg;
    int64_t blocks = attn_blocks(p->length, ATTN_BLOCK), b = i / blocks, first = i % blocks * ATTN_BLOCK;
    int64_t pitch = attn_pitch(p->D), size = attn_packed_floats(p->length, p->D);
    v16 f = v_set1(p->factor);
    (void)worker;
    for (int64_t row = first; row < attn_min(first + ATTN_BLOCK, p->length); row++)
        for (int64_t h = 0; h < p->H; h++) {
            const float *from = p->x + ((b * p->length + row) * p->H + h) * p->D;
            float *to = p->dst + (b * p->H + h) * size + row * pitch;
            for (int64_t d = 0; d < p->D; d += V_LANES)
                v_store(to + d, v_mul(f, v_loadn(from + d, attn_min(V_LANES, p->D - d))));
        }
}

void K(attn_pack)(const float *x, int64_t B, int64_t length, int64_t H, int64_t D, float factor, int threads, float *dst) {
    packing p = {x, length, H, D, factor, dst};
    int wake = tn_threads_for(threads, 0.3 * (double)(B * length * H * D));
    tn_parallel_for(wake, B * attn_blocks(length, ATTN_BLOCK), pack_block, &p);
}
