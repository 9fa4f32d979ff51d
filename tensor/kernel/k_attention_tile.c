/* The parts of attention that forward and backward share: see k_attention.h. */
#include "tensor/kernel/k_attention.h"
#include "tensor/kernel/k_tile.h"
#include "tensor/kernel/vmath.h"
#include "tensor/parallel.h"

/* ---- product ---- */

/* The register tile: ATTN_ROWS x 2 vectors of c, or x 1 at an odd end and where registers are few. With AVX-512 16 sums,
 * 2 vectors of b and one element of a are in registers; a step of depth loads 2 vectors and 8 scalars for 16
 * multiply-adds, and 16 sums hide a latency of 4 cycles at one or two multiply-adds a cycle. A taller or wider tile
 * would load less, but its ends, where nothing overlaps, weigh more: depth is only 40 in the commonest product. */
#if V_TILE_VECS == 2
#define EACH_ROW ROWS_8
#else
#define EACH_ROW ROWS_5
#endif

#define POINT(r) const float *a##r = a.at + r * a.row;
#define START_1(r) v16 c##r = v_zero();
#define START_2(r) v16 d##r = v_zero();
#define STEP_1(r) c##r = v_fma(v_set1(a##r[i]), b0, c##r);
#define STEP_2(r) \
    x = v_set1(a##r[i]); \
    c##r = v_fma(x, b0, c##r), d##r = v_fma(x, b1, d##r);

#define AT(x, r, v) ((x) + (r) * ldc + (v) * V_LANES)
#define END(r, v, sum) \
    if (end.kind == ATTN_PROB) sum = v_exp2(v_sub(sum, v_set1(end.of_row[r]))); \
    else if (end.kind == ATTN_DS) sum = v_mul(v_load(AT(end.prob, r, v)), v_sub(sum, v_set1(end.of_row[r]))); \
    else sum = v_add(v_load(AT(c, r, v)), sum); \
    v_store(AT(c, r, v), sum);
#define END_1(r) END(r, 0, c##r)
#define END_2(r) END(r, 1, d##r)

static void tile_1(attn_view a, int64_t depth, const float *b, int64_t ldb, float *c, int64_t ldc, attn_end end) {
    EACH_ROW(POINT)
    EACH_ROW(START_1)
    for (int64_t t = 0, i = 0; t < depth; t++, i += a.step, b += ldb) {
        v16 b0 = v_load(b);
        EACH_ROW(STEP_1)
    }
    EACH_ROW(END_1)
}

#if V_TILE_VECS == 2
static void tile_2(attn_view a, int64_t depth, const float *b, int64_t ldb, float *c, int64_t ldc, attn_end end) {
    EACH_ROW(POINT)
    EACH_ROW(START_1)
    EACH_ROW(START_2)
    for (int64_t t = 0, i = 0; t < depth; t++, i += a.step, b += ldb) {
        v16 x, b0 = v_load(b), b1 = v_load(b + V_LANES);
        EACH_ROW(STEP_2)
    }
    EACH_ROW(END_1)
    EACH_ROW(END_2)
}
#endif

/* Rows are the inner loop: the columns of b in use, 80 x 32 floats, stay in the first-level cache beside A. */
void K(attn_product)(attn_view a, int64_t rows, int64_t depth, const float *b, int64_t ldb, int64_t vecs, float *c,
                     int64_t ldc, attn_end end) {
    for (int64_t v = 0, n; v < vecs; v += n) {
        n = min64(V_TILE_VECS, vecs - v);
        for (int64_t r = 0; r < rows; r += ATTN_ROWS) {
            attn_view from = {a.at + r * a.row, a.row, a.step};
            int64_t at = r * ldc + v * V_LANES;
            attn_end last = {end.kind, end.of_row ? end.of_row + r : NULL, end.prob ? end.prob + at : NULL};
#if V_TILE_VECS == 2
            if (n == 2) {
                tile_2(from, depth, b + v * V_LANES, ldb, c + at, ldc, last);
                continue;
            }
#endif
            tile_1(from, depth, b + v * V_LANES, ldb, c + at, ldc, last);
        }
    }
}

/* ---- rows of two vectors and a half ---- */

static int64_t tail_of(int64_t D) { return V_TILE_VECS == 2 && D > 2 * V_LANES && D % V_LANES <= V_LANES / 2 ? D % V_LANES : 0; }

void K(attn_twice)(float *b, int64_t ldb, int64_t depth, int64_t D) {
    int64_t n = tail_of(D);
    for (float *at = b + D - n; n && at < b + depth * ldb; at += ldb) memcpy(at + V_LANES / 2, at, (size_t)n * sizeof *at);
}

#if V_TILE_VECS == 2
/* The halves of two rows share a vector: its element of A is that of the even row on the left and that of the odd row on the
 * right, and b has its half twice. */
#define PAIRS(X) X(0, 1) X(2, 3) X(4, 5) X(6, 7)
#define START_HALF(r, s) v16 e##r = v_zero();
#define STEP_HALF(r, s) \
    x = v_set1(a##r[i]), y = v_set1(a##s[i]); \
    c##r = v_fma(x, b0, c##r), d##r = v_fma(x, b1, d##r); \
    c##s = v_fma(y, b0, c##s), d##s = v_fma(y, b1, d##s); \
    e##r = v_fma(v_select(left, x, y), b2, e##r);
#define END_HALF(r, s) \
    v_store(pair, e##r); \
    for (int64_t j = 0; j < tail; j++) AT(c, r, 2)[j] += pair[j], AT(c, s, 2)[j] += pair[V_LANES / 2 + j];

static void tile_tail(attn_view a, int64_t depth, const float *b, int64_t ldb, int64_t tail, float *c, int64_t ldc) {
    v16m left = v_first(V_LANES / 2);
    attn_end end = {ATTN_ADD, NULL, NULL};
    float pair[V_LANES];
    EACH_ROW(POINT)
    EACH_ROW(START_1)
    EACH_ROW(START_2)
    PAIRS(START_HALF)
    for (int64_t t = 0, i = 0; t < depth; t++, i += a.step, b += ldb) {
        v16 x, y, b0 = v_load(b), b1 = v_load(b + V_LANES), b2 = v_load(b + 2 * V_LANES);
        PAIRS(STEP_HALF)
    }
    EACH_ROW(END_1)
    EACH_ROW(END_2)
    PAIRS(END_HALF)
}
#endif

void K(attn_product_rows)(attn_view a, int64_t rows, int64_t depth, const float *b, int64_t ldb, int64_t D, float *c,
                          int64_t ldc) {
    int64_t tail = tail_of(D), whole = ceil_div(D, V_LANES);
    if (tail) whole -= 3;
    K(attn_product)(a, rows, depth, b, ldb, whole, c, ldc, (attn_end){ATTN_ADD, NULL, NULL});
#if V_TILE_VECS == 2
    for (int64_t r = 0; tail && r < rows; r += ATTN_ROWS) {
        attn_view from = {a.at + r * a.row, a.row, a.step};
        tile_tail(from, depth, b + whole * V_LANES, ldb, tail, c + r * ldc + whole * V_LANES, ldc);
    }
#endif
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
    int64_t blocks = ceil_div(p->length, ATTN_BLOCK), b = i / blocks, first = i % blocks * ATTN_BLOCK;
    int64_t pitch = attn_pitch(p->D), size = attn_packed_floats(p->length, p->D);
    v16 f = v_set1(p->factor);
    (void)worker;
    for (int64_t row = first; row < min64(first + ATTN_BLOCK, p->length); row++)
        for (int64_t h = 0; h < p->H; h++) {
            const float *from = p->x + ((b * p->length + row) * p->H + h) * p->D;
            float *to = p->dst + (b * p->H + h) * size + row * pitch;
            for (int64_t d = 0; d < p->D; d += V_LANES)
                v_store(to + d, v_mul(f, v_loadn(from + d, min64(V_LANES, p->D - d))));
        }
}

void K(attn_pack)(const float *x, int64_t B, int64_t length, int64_t H, int64_t D, float factor, int threads, float *dst) {
    packing p = {x, length, H, D, factor, dst};
    int wake = tn_threads_for(threads, 0.3 * (double)(B * length * H * D));
    tn_parallel_for(wake, B * ceil_div(length, ATTN_BLOCK), pack_block, &p);
}
