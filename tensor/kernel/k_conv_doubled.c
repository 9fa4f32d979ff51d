/* A 3x3 convolution of an image that is doubled first, each pixel shown 2 x 2 times (nearest-neighbour upsampling). The doubled
 * image repeats itself, so taps that fall on the same pixel are added before they are multiplied. Along one axis, w = (w0 w1 w2):
 *
 *       x            ..   a    |    b    |    c   ..
 *       doubled      .. a    a |  b    b |  c    c ..
 *       y at 2p         [ w0     w1   w2 ]                 y[2p]   =  w0       a + (w1 + w2) b
 *       y at 2p + 1          [ w0     w1   w2 ]            y[2p+1] = (w0 + w1) b +  w2       c        (x[p] = b)
 *
 * So there are four phases of results in two dimensions, and each is a 2x2 convolution of the small image: 4 multiplications a
 * result instead of 9, and the doubled image is never there. Zeros around it are zeros around x.
 *
 * The gradient that reaches x[p] = b is read off the same lines:  dx[p] = w2 dy[2p-1] + (w1 + w2) dy[2p] + (w0 + w1) dy[2p+1] +
 * w0 dy[2p+2]. That is a convolution of dy with stride 2, padding 1 and the window
 *
 *       e = (w2, w1 + w2, w0 + w1, w0)
 *
 * and forward is its transpose, phase by phase. This is all that k_conv_direct.c has to know; the window, 4x4 in two dimensions, is made
 * here a panel at a time. de is the gradient of that convolution's weights, with x in the place of its dy, and by the chain rule
 *
 *       dw = (de2 + de3, de1 + de2, de0 + de1)
 *
 * A sum of taps is rounded once in each direction; the same on every machine. */
#include "tensor/kernel/k_conv.h"
#include "tensor/parallel.h"

enum { SIDE = 4, WINDOW = SIDE * SIDE, TAPS = 9 };

/* w[t] = tap t of rows row and channels c..c+15 of the view; 0 from channel c + n on. */
static void load_taps(const conv_view *v, int64_t row, int64_t c, int64_t n, v16 w[V_LANES]) {
    int64_t at = row * v->a_row + c * v->a_channel, total = v->M * v->channels * TAPS;
    if (n >= V_LANES && at + (V_LANES - 1) * v->a_channel + V_LANES <= total) {
        v_load_rows(w, v->a, v->a_type, at, v->a_channel);
    } else {
        for (int64_t l = 0; l < V_LANES; l++) w[l] = l < n ? v_loadn_typed(v->a, v->a_type, at + l * v->a_channel, TAPS) : v_zero();
    }
    v_transpose(w);
}

/* e = (w2, w1 + w2, w0 + w1, w0), along the axis in which elements lie `step` apart. */
static void fold(const v16 *w, int step, v16 *e, int e_step) {
    e[0] = w[2 * step], e[e_step] = v_add(w[step], w[2 * step]), e[2 * e_step] = v_add(w[0], w[step]), e[3 * e_step] = w[0];
}

void K(conv_fold)(const conv_view *v, int64_t m, int64_t h, int64_t c, int64_t n, int64_t width, int64_t lda, float *room) {
    int64_t s = v->phases, side = SIDE / s, to[WINDOW]; /* taps of a phase, each way */
    for (int64_t k = 0; k < WINDOW; k++) {
        int64_t i = k / SIDE, j = k % SIDE; /* tap i is of phase (i - 1) modulo s, and there the one of number i / s */
        to[k] = ((i + s - 1) % s * s + (j + s - 1) % s) * CONV_ROWS * lda + (i / s * side + j / s) * width;
    }
    for (int64_t r = 0; r < h; r++)
        for (int64_t z = 0; z < n; z += V_LANES) {
            v16 w[V_LANES], rows[SIDE * 3], e[WINDOW];
            load_taps(v, m + r, c + z, n - z, w);
            for (int j = 0; j < 3; j++) fold(w + j, 3, rows + j, 3);
            for (int i = 0; i < SIDE; i++) fold(rows + 3 * i, 1, e + SIDE * i, 1);
            for (int64_t k = 0; k < WINDOW; k++) v_store(room + to[k] + r * lda + z, e[k]);
        }
}

/* ---- gradient of the weights ---- */

/* The convolution from dy to x whose weights are e [C,O,4,4]. */
static k_conv folded(const k_conv *p) {
    k_conv e = {.batch = p->batch, .C = p->O, .H = p->P, .W = p->Q, .O = p->C, .KH = SIDE, .KW = SIDE, .P = p->H, .Q = p->W,
                .stride = 2, .top = 1, .left = 1, .x = p->dy, .dy = p->x, .threads = p->threads};
    return e;
}

static int64_t window_floats(const k_conv *p) { return round_up(p->C * p->O * WINDOW, V_LANES); }

static void unfold_task(void *arg, int64_t o, int worker) {
    const k_conv *p = arg;
    (void)worker;
    for (int64_t c = 0; c < p->C; c++) {
        const float *e = (const float *)p->scratch + (c * p->O + o) * WINDOW;
        float *dw = p->dw + (o * p->C + c) * TAPS, rows[3 * SIDE];
        for (int j = 0; j < SIDE; j++)
            for (int i = 0; i < 3; i++) rows[i * SIDE + j] = e[(2 - i) * SIDE + j] + e[(3 - i) * SIDE + j];
        for (int t = 0; t < TAPS; t++) {
            const float *row = rows + t / 3 * SIDE;
            float sum = row[2 - t % 3] + row[3 - t % 3];
            dw[t] = p->acc ? sum + dw[t] : sum;
        }
    }
}

void K(conv_doubled_weights)(const k_conv *p) {
    k_conv e = folded(p);
    e.dw = p->scratch, e.scratch = (float *)p->scratch + window_floats(p);
    K(conv_weights)(&e);
    tn_parallel_for(tn_threads_for(p->threads, 2.0 * (double)(p->C * p->O)), p->O, unfold_task, (void *)p);
}

size_t K(conv_doubled_weights_scratch)(const k_conv *p) {
    k_conv e = folded(p);
    return (size_t)window_floats(p) * sizeof(float) + K(conv_weights_scratch)(&e);
}
