/* Group norm, layer norm and softmax, forward and backward. The formulas and their derivation: ref/norm.c,
 * ref/softmax.c.
 *
 * The variance is computed in two passes around the pivot m, the mean rounded to float. What the rounding lost, the
 * residual r = mean(x - m), is kept: deviations are (x - m) - r, where x - m is exact for x near m (Sterbenz), and the
 * variance is mean((x - m)^2) - r^2 (Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983,
 * eq. 1.7). So a mean of thousands times the spread costs no digits. Forward saves m as mean; backward starts from it
 * and finds the rest again.
 *
 * Order of summation, from shapes only: blocks of SUM_BLOCK elements in 2 x 16 lanes, blocks added in order in double.
 */
#include "tensor/kernel/k_table.h"

#include "tensor/kernel/simd.h"
#include "tensor/kernel/vmath.h"
#include "tensor/parallel.h"

enum {
    SUM_BLOCK = 1024, /* elements that are summed in float; each of the 32 partial sums has at most 32 terms */
    ROWS = 16,        /* rows of a layer norm that one task takes */
    COLUMNS = 64,     /* columns whose dgamma and dbeta one task owns */
    ROW_BLOCK = 128   /* rows that are summed in one chain for dgamma and dbeta */
};

typedef struct sums {
    double a, ab;
} sums;

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

/* 16 lanes, or n at the end of a row. */
static v16 get(const float *x, int64_t n) { return n >= V_LANES ? v_load(x) : v_loadn(x, n); }

/* The first n lanes of a - m, zeros in the others. */
static v16 shifted(const float *a, v16 m, int64_t n) {
    return n >= V_LANES ? v_sub(v_load(a), m) : v_select(v_first(n), v_sub(v_loadn(a, n), m), v_zero());
}

/* Adds the sums of (a - ma) and of (a - ma)(b - mb) over n <= SUM_BLOCK elements. */
static void add_block(sums *s, const float *a, float ma, const float *b, float mb, int64_t n) {
    v16 va = v_set1(ma), vb = v_set1(mb), s0 = v_zero(), s1 = v_zero(), p0 = v_zero(), p1 = v_zero();
    int64_t i = 0;
    for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
        v16 x = v_sub(v_load(a + i), va), y = v_sub(v_load(a + i + V_LANES), va);
        s0 = v_add(s0, x), s1 = v_add(s1, y);
        p0 = v_fma(x, v_sub(v_load(b + i), vb), p0), p1 = v_fma(y, v_sub(v_load(b + i + V_LANES), vb), p1);
    }
    for (; i < n; i += V_LANES) {
        v16 x = shifted(a + i, va, n - i);
        s0 = v_add(s0, x), p0 = v_fma(x, shifted(b + i, vb, n - i), p0);
    }
    s->a += (double)v_reduce_add(v_add(s0, s1));
    s->ab += (double)v_reduce_add(v_add(p0, p1));
}

static sums sums_of(const float *a, float ma, const float *b, float mb, int64_t n) {
    sums s = {0.0, 0.0};
    for (int64_t i = 0; i < n; i += SUM_BLOCK) add_block(&s, a + i, ma, b + i, mb, min_i64(SUM_BLOCK, n - i));
    return s;
}

/* sums_of(a, m, a, m), read once. */
static sums squares_of(const float *a, float m, int64_t n) {
    sums t = {0.0, 0.0};
    v16 vm = v_set1(m);
    for (int64_t i = 0; i < n; i += SUM_BLOCK) {
        int64_t end = min_i64(n, i + SUM_BLOCK), j = i;
        v16 s0 = v_zero(), s1 = v_zero(), p0 = v_zero(), p1 = v_zero();
        for (; j + 2 * V_LANES <= end; j += 2 * V_LANES) {
            v16 x = v_sub(v_load(a + j), vm), y = v_sub(v_load(a + j + V_LANES), vm);
            s0 = v_add(s0, x), s1 = v_add(s1, y);
            p0 = v_fma(x, x, p0), p1 = v_fma(y, y, p1);
        }
        for (; j < end; j += V_LANES) {
            v16 x = shifted(a + j, vm, end - j);
            s0 = v_add(s0, x), p0 = v_fma(x, x, p0);
        }
        t.a += (double)v_reduce_add(v_add(s0, s1));
        t.ab += (double)v_reduce_add(v_add(p0, p1));
    }
    return t;
}

/* The sum of a alone, in the same order. */
static double sum_of(const float *a, int64_t n) {
    double total = 0.0;
    for (int64_t i = 0; i < n; i += SUM_BLOCK) {
        int64_t end = min_i64(n, i + SUM_BLOCK), j = i;
        v16 s0 = v_zero(), s1 = v_zero();
        for (; j + 2 * V_LANES <= end; j += 2 * V_LANES) s0 = v_add(s0, v_load(a + j)), s1 = v_add(s1, v_load(a + j + V_LANES));
        for (; j < end; j += V_LANES) s0 = v_add(s0, get(a + j, end - j));
        total += (double)v_reduce_add(v_add(s0, s1));
    }
    return total;
}

/* The statistics of n elements: deviation i is (x_i - pivot) - residual. */
typedef struct moments {
    float pivot, residual, rstd;
    double inverse_var; /* rstd^2 unrounded: dx is a difference that cancels in short groups */
} moments;

static moments moments_around(float pivot, const float *x, int64_t n, float eps) {
    sums s = squares_of(x, pivot, n);
    double residual = s.a / (double)n, var = s.ab / (double)n - residual * residual;
    double inverse = 1.0 / ((var < 0.0 ? 0.0 : var) + (double)eps); /* a NaN stays one */
    moments m = {pivot, (float)residual, (float)sqrt(inverse), inverse};
    return m;
}

/* Forward: the pivot is the mean. Backward starts from the pivot that forward has saved. */
static float pivot_of(const float *x, int64_t n) { return (float)(sum_of(x, n) / (double)n); }

static v16 deviation(v16 x, const moments *m) { return v_sub(v_sub(x, v_set1(m->pivot)), v_set1(m->residual)); }

/* Stores n lanes (16 if n is larger), or adds them to what is there. */
static void put(float *to, v16 x, int64_t n, int acc) {
    if (n >= V_LANES)
        v_store(to, acc ? v_add(v_load(to), x) : x);
    else
        v_storen(to, acc ? v_add(v_loadn(to, n), x) : x, n);
}

static v16 get_typed(const void *x, tn_dtype type, int64_t i, int64_t n) {
    return n >= V_LANES ? v_load_typed(x, type, i) : v_loadn_typed(x, type, i, n);
}

/* dx = rstd (g - mean_g - slope deviation) with g = dy gamma, mean_g = mean(g), slope = rstd^2 mean(g deviation). The
 * two subtractions come before the product with rstd: with one element in the group g - mean_g is then exactly 0. */
static v16 input_gradient(v16 g, v16 dev, const moments *m, double mean_g, double slope) {
    return v_mul(v_set1(m->rstd), v_fnma(dev, v_set1((float)slope), v_sub(g, v_set1((float)mean_g))));
}

/* ---- group norm ---- */

/* A task is one group of one sample: C/G channels of S elements, which lie one after another. */
static void group_forward(void *arg, int64_t i, int worker) {
    const k_group_norm *p = arg;
    int64_t channels = p->C / p->G, n = channels * p->S;
    const float *x = p->x + i * n;
    float *y = p->y + i * n;
    moments m = moments_around(pivot_of(x, n), x, n, p->eps);
    p->mean[i] = m.pivot, p->rstd[i] = m.rstd;
    for (int64_t c = i % p->G * channels, k = 0; k < channels; k++, c++, x += p->S, y += p->S) {
        v16 scale = v_set1(s_load_typed(p->gamma, p->wtype, c) * m.rstd),
            shift = v_set1(s_load_typed(p->beta, p->wtype, c));
        for (int64_t s = 0; s < p->S; s += V_LANES) {
            v16 t = v_fma(deviation(get(x + s, p->S - s), &m), scale, shift);
            put(y + s, p->silu ? v_silu(t) : t, p->S - s, 0);
        }
    }
    (void)worker;
}

static int group_threads(const k_group_norm *p) { return tn_threads_for(p->threads, 0.5 * (double)(p->B * p->C * p->S)); }

void K(group_norm)(const k_group_norm *p) {
    k_group_norm copy = *p;
    tn_parallel_for(group_threads(p), p->B * p->G, group_forward, &copy);
}

/* Backward keeps two sums of each channel, and with SiLU per worker the gradient by the result of the affine map of one
 * group: its exponentials are computed once, and it waits in the second-level cache for the pass that needs it again. */
size_t K(group_norm_scratch)(const k_group_norm *p) {
    size_t workers = p->threads > 1 ? (size_t)p->threads : 1, group = (size_t)(p->C / p->G * p->S);
    return (size_t)(p->B * p->C) * sizeof(sums) + (p->dy && p->silu ? workers * group * sizeof(float) : 0);
}

/* g = dy silu'(t) for n elements of channel c, t computed again as in forward. */
static void affine_gradient(const k_group_norm *p, const moments *m, int64_t c, const float *x, const float *dy, int64_t n,
                            float *g) {
    v16 scale = v_set1(s_load_typed(p->gamma, p->wtype, c) * m->rstd),
        shift = v_set1(s_load_typed(p->beta, p->wtype, c));
    for (int64_t s = 0; s < n; s += V_LANES) {
        v16 t = v_fma(deviation(get(x + s, n - s), m), scale, shift);
        put(g + s, v_mul(get(dy + s, n - s), v_silu_grad(t)), n - s, 0);
    }
}

/* dx of one group, and per channel sum(g) and sum(g (x - pivot)) - residual sum(g), for dgamma and dbeta, into the
 * scratch. */
static void group_backward(void *arg, int64_t i, int worker) {
    const k_group_norm *p = arg;
    int64_t channels = p->C / p->G, n = channels * p->S, c0 = i % p->G * channels;
    const float *x = p->x + i * n, *dy = p->dy + i * n, *g = dy;
    sums *per_channel = (sums *)p->scratch + i * channels;
    float *room = (float *)((sums *)p->scratch + p->B * p->C) + worker * n;
    moments m = moments_around(p->mean[i], x, n, p->eps);
    double mean_g = 0.0, slope = 0.0;
    if (p->silu) g = room;
    for (int64_t k = 0; k < channels; k++) {
        sums t = {0.0, 0.0};
        for (int64_t s = k * p->S, end = s + p->S; s < end; s += SUM_BLOCK) {
            int64_t len = min_i64(SUM_BLOCK, end - s);
            if (p->silu) affine_gradient(p, &m, c0 + k, x + s, dy + s, len, room + s);
            add_block(&t, g + s, 0.0f, x + s, m.pivot, len);
        }
        t.ab -= (double)m.residual * t.a;
        per_channel[k] = t;
        double gamma = (double)s_load_typed(p->gamma, p->wtype, c0 + k);
        mean_g += gamma * t.a / (double)n, slope += gamma * t.ab / (double)n * m.inverse_var;
    }
    for (int64_t k = 0; p->dx && k < channels; k++) {
        v16 gamma = v_set1(s_load_typed(p->gamma, p->wtype, c0 + k));
        for (int64_t s = k * p->S, end = s + p->S; s < end; s += V_LANES) {
            v16 dev = deviation(get(x + s, end - s), &m), gs = v_mul(get(g + s, end - s), gamma);
            put(p->dx + i * n + s, input_gradient(gs, dev, &m, mean_g, slope), end - s, p->acc_x);
        }
    }
}

void K(group_norm_backward)(const k_group_norm *p) {
    k_group_norm copy = *p;
    const sums *per_channel = p->scratch;
    tn_parallel_for(group_threads(p), p->B * p->G, group_backward, &copy);
    for (int64_t c = 0; (p->dgamma || p->dbeta) && c < p->C; c++) {
        double dgamma = 0.0, dbeta = 0.0;
        for (int64_t b = 0; b < p->B; b++) {
            sums t = per_channel[b * p->C + c];
            dgamma += t.ab * (double)p->rstd[b * p->G + c / (p->C / p->G)], dbeta += t.a;
        }
        if (p->dgamma) p->dgamma[c] = (p->acc_w ? p->dgamma[c] : 0.0f) + (float)dgamma;
        if (p->dbeta) p->dbeta[c] = (p->acc_w ? p->dbeta[c] : 0.0f) + (float)dbeta;
    }
}

/* ---- layer norm ---- */

/* The rows of a task go through each of three sweeps together: what a row waits for at the end of a sweep (a sum over lanes,
 * a division, a root) then overlaps with the others' work. ROWS rows fit the second-level cache, mostly the first. */
static void layer_forward(void *arg, int64_t i, int worker) {
    const k_layer_norm *p = arg;
    int64_t r0 = i * ROWS, rows = min_i64(ROWS, p->R - r0);
    const float *x = p->x + r0 * p->C;
    moments m[ROWS];
    for (int64_t r = 0; r < rows; r++) m[r].pivot = pivot_of(x + r * p->C, p->C);
    for (int64_t r = 0; r < rows; r++) {
        m[r] = moments_around(m[r].pivot, x + r * p->C, p->C, p->eps);
        p->mean[r0 + r] = m[r].pivot, p->rstd[r0 + r] = m[r].rstd;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < p->C; c += V_LANES) {
            int64_t at = r * p->C + c, n = p->C - c;
            v16 xhat = v_mul(deviation(get(x + at, n), &m[r]), v_set1(m[r].rstd));
            put(p->y + r0 * p->C + at,
                v_fma(xhat, get_typed(p->gamma, p->wtype, c, n), get_typed(p->beta, p->wtype, c, n)), n, 0);
        }
    (void)worker;
}

static int layer_threads(const k_layer_norm *p) { return tn_threads_for(p->threads, 0.5 * (double)(p->R * p->C)); }

void K(layer_norm)(const k_layer_norm *p) {
    k_layer_norm copy = *p;
    tn_parallel_for(layer_threads(p), (p->R + ROWS - 1) / ROWS, layer_forward, &copy);
}

/* Backward keeps the residual of each row, and per worker dy gamma of one row. */
size_t K(layer_norm_scratch)(const k_layer_norm *p) {
    int64_t workers = p->threads > 1 ? p->threads : 1;
    return (size_t)(p->R + workers * p->C) * sizeof(float);
}

static void layer_backward_rows(void *arg, int64_t i, int worker) {
    const k_layer_norm *p = arg;
    float *residual = p->scratch, *g = residual + p->R + worker * p->C;
    for (int64_t r = i * ROWS; r < min_i64(p->R, (i + 1) * ROWS); r++) {
        const float *x = p->x + r * p->C, *dy = p->dy + r * p->C;
        moments m = moments_around(p->mean[r], x, p->C, p->eps);
        residual[r] = m.residual;
        if (!p->dx) continue;
        for (int64_t c = 0; c < p->C; c += V_LANES)
            put(g + c, v_mul(get(dy + c, p->C - c), get_typed(p->gamma, p->wtype, c, p->C - c)), p->C - c, 0);
        sums t = sums_of(g, 0.0f, x, m.pivot, p->C);
        double mean_g = t.a / (double)p->C, slope = (t.ab - (double)m.residual * t.a) / (double)p->C * m.inverse_var;
        for (int64_t c = 0; c < p->C; c += V_LANES) {
            v16 dev = deviation(get(x + c, p->C - c), &m);
            put(p->dx + r * p->C + c, input_gradient(get(g + c, p->C - c), dev, &m, mean_g, slope), p->C - c, p->acc_x);
        }
    }
}

/* dgamma and dbeta of COLUMNS columns: chains of ROW_BLOCK rows, added block by block. */
static void layer_backward_columns(void *arg, int64_t i, int worker) {
    const k_layer_norm *p = arg;
    const float *residual = p->scratch;
    for (int64_t c = i * COLUMNS; c < min_i64(p->C, (i + 1) * COLUMNS); c += V_LANES) {
        int64_t n = p->C - c;
        v16 dgamma = v_zero(), dbeta = v_zero();
        for (int64_t r0 = 0; r0 < p->R; r0 += ROW_BLOCK) {
            v16 sum_gx = v_zero(), sum_g = v_zero();
            for (int64_t r = r0; r < min_i64(p->R, r0 + ROW_BLOCK); r++) {
                moments m = {p->mean[r], residual[r], p->rstd[r], 0.0};
                v16 g = get(p->dy + r * p->C + c, n), dev = deviation(get(p->x + r * p->C + c, n), &m);
                sum_g = v_add(sum_g, g), sum_gx = v_fma(g, v_mul(dev, v_set1(m.rstd)), sum_gx);
            }
            dgamma = v_add(dgamma, sum_gx), dbeta = v_add(dbeta, sum_g);
        }
        if (p->dgamma) put(p->dgamma + c, dgamma, n, p->acc_w);
        if (p->dbeta) put(p->dbeta + c, dbeta, n, p->acc_w);
    }
    (void)worker;
}

void K(layer_norm_backward)(const k_layer_norm *p) {
    k_layer_norm copy = *p;
    tn_parallel_for(layer_threads(p), (p->R + ROWS - 1) / ROWS, layer_backward_rows, &copy);
    if (p->dgamma || p->dbeta)
        tn_parallel_for(layer_threads(p), (p->C + COLUMNS - 1) / COLUMNS, layer_backward_columns, &copy);
}

/* ---- softmax ---- */

/* A row of -inf only gives NaN, as in PyTorch. */
void K(softmax)(int64_t rows, int64_t n, const float *x, float *y) {
    for (; rows > 0; rows--, x += n, y += n) {
        v16 top = v_set1(-INFINITY);
        for (int64_t i = 0; i < n; i += V_LANES)
            top = v_max(top, v_select(v_first(min_i64(n - i, V_LANES)), get(x + i, n - i), top));
        v16 max = v_set1(v_reduce_max(top));
        for (int64_t i = 0; i < n; i += V_LANES) put(y + i, v_exp(v_sub(get(x + i, n - i), max)), n - i, 0);
        v16 factor = v_set1((float)(1.0 / sum_of(y, n)));
        for (int64_t i = 0; i < n; i += V_LANES) put(y + i, v_mul(get(y + i, n - i), factor), n - i, 0);
    }
}

/* dx (+)= y (dy - sum(y dy)). */
void K(softmax_backward)(int64_t rows, int64_t n, const float *y, const float *dy, float *dx, int acc) {
    for (; rows > 0; rows--, y += n, dy += n, dx += n) {
        v16 dot = v_set1((float)sums_of(y, 0.0f, dy, 0.0f, n).ab);
        for (int64_t i = 0; i < n; i += V_LANES)
            put(dx + i, v_mul(get(y + i, n - i), v_sub(get(dy + i, n - i), dot)), n - i, acc);
    }
}
