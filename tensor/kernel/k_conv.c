/* Convolution as a matrix product whose columns are gathered from the image while they are packed (implicit im2col:
 * Chellapilla et al., "High performance convolutional neural networks for document processing", 2006, without the
 * matrix in memory).
 *
 *   forward  y  = w   [O, C KH KW]  x  cols(x)   [C KH KW, B P Q]
 *   dx       dx = w'  [C, O KH KW]  x  cols'(dy) [O KH KW, B H W]
 *   dw       dw = dy  [O, B P Q]    x  cols(x)^T [B P Q, C KH KW]
 *
 * The columns of all images stand side by side, so that small images fill the tiles together. w' swaps o and c;
 * cols' holds what an input pixel fed; with stride s dx is one such product for each of s^2 phases of pixels. A tap
 * is a pair (i, j) of the KH x KW window. */
#include "tensor/kernel/k_gemm.h"
#include "tensor/kernel/k_table.h"
#include "tensor/parallel.h"

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* A 1x1 window without stride or padding sees no geometry: one long row gathers fastest. */
static k_conv simplified(const k_conv *p) {
    k_conv s = *p;
    if (p->KH == 1 && p->KW == 1 && p->stride == 1 && !p->top && !p->left && p->P == p->H && p->Q == p->W) {
        s.W = s.Q = p->H * p->W;
        s.H = s.P = 1;
    }
    return s;
}

/* ---- gathering: n consecutive columns of one row; up to 15 elements behind out[n] may be written ---- */

/* out[t] = line[first + t], or 0 where that is outside 0..width */
static void gather_dense(const float *line, int64_t width, int64_t first, int64_t n, float *out) {
    int64_t lo = min64(n, max64(0, -first)), hi = max64(lo, min64(n, width - first)), t = lo;
    for (int64_t z = 0; z < lo; z++) out[z] = 0;
    for (; t + 16 <= hi; t += 16) v_store(out + t, v_load(line + first + t));
    if (t < hi) v_store(out + t, v_loadn(line + first + t, hi - t));
    for (int64_t z = hi; z < n; z++) out[z] = 0;
}

/* out[t] = line[first + t step], or 0 where that is outside 0..width */
static void gather_line(const float *line, int64_t width, int64_t first, int64_t step, int64_t n, float *out) {
    if (step == 1) {
        gather_dense(line, width, first, n, out);
        return;
    }
    int64_t lo = first >= 0 ? 0 : min64(n, (step - 1 - first) / step);
    int64_t hi = first >= width ? lo : max64(lo, min64(n, (width - first + step - 1) / step));
    for (int64_t z = 0; z < lo; z++) out[z] = 0;
    for (int64_t t = lo; t < hi; t++) out[t] = line[first + t * step];
    for (int64_t z = hi; z < n; z++) out[z] = 0;
}

/* One row of the matrix, columns pos..pos+n; columns count pixels through all images. */
typedef void gather_row(const void *ctx, int64_t row, int64_t pos, int64_t n, float *out);

/* Row (c, i, j) of cols(x): what tap (i, j) of channel c sees for output pixels pos..pos+n. */
static void gather_x(const void *ctx, int64_t row, int64_t pos, int64_t n, float *out) {
    const k_conv *p = ctx;
    int64_t taps = p->KH * p->KW, c = row / taps, i = row % taps / p->KW, j = row % taps % p->KW;
    int64_t b = pos / (p->P * p->Q), y = pos % (p->P * p->Q) / p->Q, q = pos % p->Q;
    while (n > 0) {
        const float *image = p->x + (b * p->C + c) * p->H * p->W;
        int64_t run = min64(p->Q - q, n), h = y * p->stride + i - p->top;
        int inside = h >= 0 && h < p->H;
        gather_line(inside ? image + h * p->W : image, inside ? p->W : 0, q * p->stride + j - p->left, p->stride, run,
                    out);
        out += run, n -= run, q = 0;
        if (++y == p->P) y = 0, b++;
    }
}

/* With stride s an input pixel (h, w) is seen through those taps only for which s divides h + top - i and w + left - j.
 * So the pixels fall into s^2 phases, each with its share of the taps; one phase is a product without zeros between
 * pixels. */
typedef struct phase {
    const k_conv *p;
    int64_t h0, w0, H, W;   /* its first pixel, and how many there are, at distance s */
    int64_t i0, j0, KH, KW; /* its first tap, and how many, at distance s */
} phase;

/* The phase whose taps begin at (i, j), 0 <= i, j < s. */
static phase phase_of(const k_conv *p, int64_t i, int64_t j) {
    int64_t s = p->stride, h0 = (i + s - p->top % s) % s, w0 = (j + s - p->left % s) % s;
    phase f = {p, h0, w0, (p->H - h0 + s - 1) / s, (p->W - w0 + s - 1) / s, /* the pixels */
               i, j,      (p->KH - i + s - 1) / s, (p->KW - j + s - 1) / s}; /* the taps */
    return f;
}

/* Row (o, tap) of cols'(dy), pixels of the phase pos..pos+n: the output pixel that saw the input pixel through the
 * tap. */
static void gather_dy(const void *ctx, int64_t row, int64_t pos, int64_t n, float *out) {
    const phase *f = ctx;
    const k_conv *p = f->p;
    int64_t taps = f->KH * f->KW, o = row / taps, i = row % taps / f->KW, j = row % taps % f->KW;
    int64_t b = pos / (f->H * f->W), h = pos % (f->H * f->W) / f->W, w = pos % f->W;
    int64_t up = (f->h0 + p->top - f->i0) / p->stride - i, right = (f->w0 + p->left - f->j0) / p->stride - j;
    while (n > 0) {
        const float *image = p->dy + (b * p->O + o) * p->P * p->Q;
        int64_t run = min64(f->W - w, n), y = h + up;
        int inside = y >= 0 && y < p->P;
        gather_dense(inside ? image + y * p->Q : image, inside ? p->Q : 0, w + right, run, out);
        out += run, n -= run, w = 0;
        if (++h == f->H) h = 0, b++;
    }
}

/* ---- packers ---- */

enum { CHUNK = 512, ROWS_CHUNK = 64 }; /* columns gathered at a time; elements of each of 16 rows */

/* Rows k0..k0+kc of the gathered matrix into panels: each row through a line that stays in the first-level cache. */
static void pack_rows(const void *ctx, gather_row *gather, int64_t k0, int64_t kc, int64_t n0, int64_t cols,
                      float *dst) {
    float line[CHUNK + 2 * V_LANES];
    for (int64_t c = 0; c < cols; c += CHUNK) {
        int64_t n = min64(CHUNK, cols - c), width = (n + V_LANES - 1) / V_LANES * V_LANES;
        for (int64_t k = 0; k < kc; k++) {
            gather(ctx, k0 + k, n0 + c, n, line);
            for (int64_t z = n; z < width; z++) line[z] = 0;
            for (int64_t j = 0; j < width; j += V_LANES)
                v_store(dst + ((c + j) / GEMM_COLS * kc + k) * GEMM_COLS + j % GEMM_COLS, v_load(line + j));
        }
    }
}

/* Small images, which the deep levels of a UNet have: rows of 1, 2, 4, 8 or 16 pixels, so that vectors hold whole rows. A tap
 * then is a shift of the plane, laid between zeros, and a mask for the columns that the shift has taken from another row. */
enum { SMALL = 256, SMALL_WINDOW = 3, MARGIN = 64 }; /* a shift is at most 2 rows and 2 pixels, and one vector is read from it */

static int is_small(const k_conv *p) {
    int64_t pixels = p->H * p->W;
    return p->stride == 1 && p->P == p->H && p->Q == p->W && V_LANES % p->W == 0 && pixels % V_LANES == 0 && pixels <= SMALL &&
           p->KH <= SMALL_WINDOW && p->KW <= SMALL_WINDOW;
}

/* direction 1: x as y sees it through a tap; -1: dy as dx sees it. */
static void pack_small(const k_conv *p, const float *x, int64_t channels, int64_t direction, int64_t k0, int64_t kc, int64_t n0,
                       int64_t cols, float *dst) {
    int64_t pixels = p->H * p->W, taps = p->KH * p->KW;
    float plane[MARGIN + SMALL + MARGIN] = {0};
    v16i mask[SMALL_WINDOW];
    for (int64_t j = 0; j < p->KW; j++) {
        int32_t inside[V_LANES];
        for (int64_t l = 0; l < V_LANES; l++) {
            int64_t w = l % p->W + direction * (j - p->left);
            inside[l] = w >= 0 && w < p->W ? -1 : 0;
        }
        mask[j] = vi_load(inside);
    }
    for (int64_t n = 0, len; n < cols; n += len) { /* one image, or what is asked of it */
        int64_t b = (n0 + n) / pixels, first = (n0 + n) % pixels;
        len = min64(pixels - first, cols - n);
        for (int64_t k = 0; k < kc; k++) {
            int64_t c = (k0 + k) / taps, tap = (k0 + k) % taps, i = tap / p->KW, j = tap % p->KW;
            if (k == 0 || tap == 0) memcpy(plane + MARGIN, x + (b * channels + c) * pixels, (size_t)pixels * sizeof *x);
            const float *from = plane + MARGIN + first + direction * ((i - p->top) * p->W + j - p->left);
            for (int64_t t = 0; t < len; t += V_LANES) {
                v16 seen = v_float(vi_and(v_bits(v_load(from + t)), mask[j]));
                v_store(dst + ((n + t) / GEMM_COLS * kc + k) * GEMM_COLS + (n + t) % GEMM_COLS, seen);
            }
        }
    }
}

static void pack_cols_x(const void *ctx, int64_t unused, int64_t k0, int64_t kc, int64_t n0, int64_t cols, float *dst) {
    const k_conv *p = ctx;
    (void)unused;
    if (is_small(p)) pack_small(p, p->x, p->C, 1, k0, kc, n0, cols, dst);
    else pack_rows(p, gather_x, k0, kc, n0, cols, dst);
}

static void pack_cols_dy(const void *ctx, int64_t b, int64_t k0, int64_t kc, int64_t n0, int64_t cols, float *dst) {
    const phase *f = ctx;
    if (is_small(f->p)) pack_small(f->p, f->p->dy, f->p->O, -1, k0, kc, n0, cols, dst);
    else pack_rows(f, gather_dy, k0, kc, b * f->H * f->W + n0, cols, dst);
}

/* cols(x)^T: 16 columns are gathered along k and turned in registers. */
static void pack_cols_x_turned(const void *ctx, int64_t unused, int64_t k0, int64_t kc, int64_t n0, int64_t cols,
                               float *dst) {
    float rows[16][ROWS_CHUNK + V_LANES];
    int64_t width = (cols + V_LANES - 1) / V_LANES * V_LANES;
    (void)unused;
    memset(rows, 0, sizeof rows);
    for (int64_t j = 0; j < width; j += 16)
        for (int64_t k = 0; k < kc; k += ROWS_CHUNK) {
            int64_t n = min64(kc - k, ROWS_CHUNK);
            for (int64_t r = 0; r < 16; r++) {
                if (j + r < cols)
                    gather_x(ctx, n0 + j + r, k0 + k, n, rows[r]);
                else
                    memset(rows[r], 0, sizeof rows[r]);
            }
            for (int64_t t = 0; t < n; t += 16) {
                v16 v[16];
                for (int r = 0; r < 16; r++) v[r] = v_load(rows[r] + t);
                v_transpose(v);
                float *out = dst + (j / GEMM_COLS * kc + k + t) * GEMM_COLS + j % GEMM_COLS;
                for (int64_t r = 0; r < min64(16, n - t); r++) v_store(out + r * GEMM_COLS, v[r]);
            }
        }
}

/* dy as [O, B P Q]: a plain matrix per image. */
static void pack_dy(const void *ctx, int64_t unused, int64_t m0, int64_t rows, int64_t height, int64_t k0, int64_t kc,
                    float *dst) {
    const k_conv *p = ctx;
    int64_t pixels = p->P * p->Q;
    gemm_view v = {p->dy, TN_F32, pixels, p->O * pixels, 0};
    (void)unused;
    for (int64_t m = 0; m < rows; m += height)
        for (int64_t k = 0, n, h = min64(height, rows - m); k < kc; k += n) {
            int64_t pos = (k0 + k) % pixels;
            n = min64(kc - k, pixels - pos);
            K(pack_a_view)(&v, (k0 + k) / pixels, m0 + m, h, h, pos, n, dst + m * kc + k * h);
        }
}

/* r[t] = tap first + t, of `rows` consecutive channels of w, for t < 16; `at` is the element of the first channel
 * and tap. Where there are fewer taps the next channel's come along, to be dropped. */
static void turn_taps(const k_conv *p, int64_t at, int64_t rows, v16 r[16]) {
    int64_t taps = p->KH * p->KW, size = p->O * p->C * taps;
    for (int64_t i = 0; i < 16; i++, at += taps) {
        if (i >= rows)
            r[i] = v_zero();
        else
            r[i] = at + 16 <= size ? v_load_typed(p->w, p->w_type, at) : v_loadn_typed(p->w, p->w_type, at, size - at);
    }
    v_transpose_rows(r, rows);
}

/* Taps t0..t0+n of the phase, of `rows` channels from `channel` of output o, as dst[t][rows]. The panel ends `room`
 * elements from dst, and the next one may stand there already: no vector reaches beyond. */
static void pack_taps(const phase *f, int64_t o, int64_t channel, int64_t rows, int64_t t0, int64_t n, int64_t room,
                      float *dst) {
    const k_conv *p = f->p;
    int64_t j = t0 % f->KW, tap = (f->i0 + t0 / f->KW * p->stride) * p->KW + f->j0 + j * p->stride, window = -16;
    v16 r[16];
    for (int64_t t = 0; t < n; t++, dst += rows, room -= rows) {
        if (tap - window >= 16) {
            window = tap / 16 * 16;
            turn_taps(p, (o * p->C + channel) * p->KH * p->KW + window, rows, r);
        }
        if (room >= V_LANES)
            v_store(dst, r[tap - window]);
        else
            v_storen(dst, r[tap - window], rows);
        tap += p->stride;
        if (++j == f->KW) j = 0, tap += p->stride * (p->KW - f->KW);
    }
}

/* w' [C, (o, tap of the phase)]. The channels of one o lie together, so all panels take theirs before the next o. */
static void pack_w_swapped(const void *ctx, int64_t unused, int64_t m0, int64_t rows, int64_t height, int64_t k0,
                           int64_t kc, float *dst) {
    const phase *f = ctx;
    int64_t taps = f->KH * f->KW;
    if (f->p->KH * f->p->KW == 1) {
        gemm_view v = {f->p->w, f->p->w_type, f->p->C, 0, 1};
        K(pack_a_view)(&v, unused, m0, rows, height, k0, kc, dst);
        return;
    }
    for (int64_t k = 0, n; k < kc; k += n) {
        int64_t t = (k0 + k) % taps;
        n = min64(taps - t, kc - k);
        for (int64_t m = 0; m < rows; m += height) {
            int64_t h = min64(height, rows - m);
            pack_taps(f, (k0 + k) / taps, m0 + m, h, t, n, (kc - k) * h, dst + m * kc + k * h);
        }
    }
}

/* ---- the kernels ---- */

static gemm forward_gemm(const k_conv *p, const gemm_view *w) {
    gemm g = {0};
    int64_t pixels = p->P * p->Q;
    g.M = p->O, g.N = p->batch * pixels, g.K = p->C * p->KH * p->KW, g.batch = 1;
    g.pack_a = K(pack_a_view), g.a_ctx = w, g.pack_b = pack_cols_x, g.b_ctx = p;
    g.C = p->y, g.ldc = g.span = pixels, g.span_step = p->O * pixels, g.col_step = 1;
    g.bias = p->bias, g.bias_type = p->bias_type, g.bias_rows = 1;
    g.acc = p->acc, g.threads = p->threads, g.scratch = p->scratch;
    return g;
}

static gemm dx_gemm(const phase *f) {
    const k_conv *p = f->p;
    gemm g = {0};
    int64_t pixels = f->H * f->W, image = p->C * p->H * p->W;
    g.M = p->C, g.N = pixels, g.K = p->O * f->KH * f->KW, g.batch = p->batch;
    g.pack_a = pack_w_swapped, g.pack_b = pack_cols_dy, g.a_ctx = g.b_ctx = f;
    g.C = p->dx + f->h0 * p->W + f->w0, g.ldc = p->H * p->W;
    if (p->stride == 1) { /* all images side by side */
        g.N *= p->batch, g.batch = 1, g.span = pixels, g.span_step = image, g.col_step = 1;
    } else { /* a span is one row of the phase */
        g.c_step = image, g.span = f->W, g.span_step = p->stride * p->W, g.col_step = p->stride;
    }
    g.acc = p->acc, g.threads = p->threads, g.scratch = p->scratch;
    return g;
}

static gemm dw_gemm(const k_conv *p) {
    gemm g = {0};
    g.M = p->O, g.N = p->C * p->KH * p->KW, g.K = p->batch * p->P * p->Q, g.batch = 1;
    g.pack_a = pack_dy, g.pack_b = pack_cols_x_turned, g.a_ctx = g.b_ctx = p;
    g.C = p->dw, g.ldc = g.span = g.N, g.col_step = 1;
    g.acc = p->acc, g.threads = p->threads, g.scratch = p->scratch;
    return g;
}

void K(conv)(const k_conv *p) {
    k_conv s = simplified(p);
    gemm_view w = {s.w, s.w_type, s.C * s.KH * s.KW, 0, 0};
    gemm g = forward_gemm(&s, &w);
    K(gemm)(&g);
}

void K(conv_dx)(const k_conv *p) {
    k_conv s = simplified(p);
    for (int64_t ij = 0; ij < s.stride * s.stride; ij++) {
        phase f = phase_of(&s, ij / s.stride, ij % s.stride);
        gemm g = dx_gemm(&f);
        K(gemm)(&g);
    }
}

/* dbias[o] = sum of dy[b, o, :, :]: per image in blocks, then the images in order. */
static void dbias_task(void *arg, int64_t o, int worker) {
    const k_conv *p = arg;
    int64_t pixels = p->P * p->Q;
    float total = 0;
    (void)worker;
    for (int64_t b = 0; b < p->batch; b++) total += K(sum)(pixels, p->dy + (b * p->O + o) * pixels);
    p->dbias[o] = p->acc ? total + p->dbias[o] : total;
}

void K(conv_dw)(const k_conv *p) {
    k_conv s = simplified(p);
    if (s.dw) {
        gemm g = dw_gemm(&s);
        K(gemm)(&g);
    }
    if (s.dbias) tn_parallel_for(s.threads, s.O, dbias_task, &s);
}

size_t K(conv_scratch)(const k_conv *p) {
    k_conv s = simplified(p);
    gemm y = forward_gemm(&s, NULL), w = dw_gemm(&s);
    size_t a = K(gemm_scratch)(&y), b = K(gemm_scratch)(&w), c = 0;
    for (int64_t ij = 0; ij < s.stride * s.stride; ij++) {
        phase f = phase_of(&s, ij / s.stride, ij % s.stride);
        gemm g = dx_gemm(&f);
        size_t size = K(gemm_scratch)(&g);
        c = c > size ? c : size;
    }
    size_t ab = a > b ? a : b;
    return ab > c ? ab : c;
}
