#include "nn/fit/word_map.h"

#include "tensor/parallel.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Tried in this order; shares of the mean variance of a dimension. */
static const double ridges[] = {1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0};
/* Words that are left out in turn, evenly spaced: enough to choose by, where a vocabulary has fifty thousand. */
enum { RIDGES = sizeof ridges / sizeof *ridges, MOST_LEFT_OUT = 4096 };

void nn_word_map_free(nn_word_map *m) {
    free(m->mean_from), free(m->mean_to), free(m->w);
    *m = (nn_word_map){0};
}

void nn_word_map_apply(const nn_word_map *m, const float *x, float *y) {
    if (m->same) {
        memcpy(y, x, (size_t)m->to * sizeof *y);
        return;
    }
    for (int64_t j = 0; j < m->to; j++) {
        double sum = m->mean_to[j];
        for (int64_t i = 0; i < m->from; i++) sum += ((double)x[i] - m->mean_from[i]) * m->w[i * m->to + j];
        y[j] = (float)sum;
    }
}

/* ---- the fit ---- */

typedef struct fit {
    int64_t n, P, Q, tried; /* tried: words that are left out in turn */
    double *x, *y;          /* centred, [n,P], [n,Q] */
    double *gram, *cross;   /* X'X [P,P], X'Y [P,Q] */
    double *chol, *w;       /* lower triangle of X'X + lambda I = L L'; the solution [P,Q] */
    double *error;          /* [tried]: squared leave-one-out residual of each */
    double *scratch;        /* [workers, P + Q] */
    int threads;
} fit;

static void centre(const float *in, int64_t n, int64_t width, double *mean, double *out) {
    for (int64_t j = 0; j < width; j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < n; i++) sum += (double)in[i * width + j];
        mean[j] = sum / (double)n;
        for (int64_t i = 0; i < n; i++) out[i * width + j] = (double)in[i * width + j] - mean[j];
    }
}

/* Row p of X'X and X'Y: sums over the words in order, so that the bits are the same however rows are dealt out. */
static void products(void *arg, int64_t p, int worker) {
    fit *f = arg;
    (void)worker;
    double *g = f->gram + p * f->P, *r = f->cross + p * f->Q;
    memset(g, 0, (size_t)f->P * sizeof *g), memset(r, 0, (size_t)f->Q * sizeof *r);
    for (int64_t i = 0; i < f->n; i++) {
        const double *x = f->x + i * f->P, *y = f->y + i * f->Q;
        for (int64_t j = 0; j < f->P; j++) g[j] += x[p] * x[j];
        for (int64_t j = 0; j < f->Q; j++) r[j] += x[p] * y[j];
    }
}

/* Cholesky's decomposition; false where the matrix is not positive definite. */
static bool decompose(fit *f, double lambda) {
    int64_t P = f->P;
    for (int64_t i = 0; i < P; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double sum = f->gram[i * P + j] + (i == j ? lambda : 0.0);
            for (int64_t k = 0; k < j; k++) sum -= f->chol[i * P + k] * f->chol[j * P + k];
            if (i == j && !(sum > 0.0)) return false;
            f->chol[i * P + j] = i == j ? sqrt(sum) : sum / f->chol[j * P + j];
        }
    }
    return true;
}

/* v := L^-1 v for `columns` columns side by side, v [P,columns]. */
static void forward(const fit *f, double *v, int64_t columns) {
    for (int64_t i = 0; i < f->P; i++) {
        for (int64_t k = 0; k < i; k++) {
            double l = f->chol[i * f->P + k];
            for (int64_t c = 0; c < columns; c++) v[i * columns + c] -= l * v[k * columns + c];
        }
        for (int64_t c = 0; c < columns; c++) v[i * columns + c] /= f->chol[i * f->P + i];
    }
}

/* w = (L L')^-1 X'Y. */
static void solve(fit *f) {
    int64_t P = f->P, Q = f->Q;
    memcpy(f->w, f->cross, (size_t)(P * Q) * sizeof *f->w);
    forward(f, f->w, Q);
    for (int64_t i = P - 1; i >= 0; i--) {
        for (int64_t k = i + 1; k < P; k++) {
            double l = f->chol[k * P + i];
            for (int64_t c = 0; c < Q; c++) f->w[i * Q + c] -= l * f->w[k * Q + c];
        }
        for (int64_t c = 0; c < Q; c++) f->w[i * Q + c] /= f->chol[i * P + i];
    }
}

/* How far word i would be missed by the map fitted to the others: its residual over 1 - h, h = x' (X'X + lambda I)^-1 x
 * + 1/n its leverage, the last for the means. */
static void leave_out(void *arg, int64_t at, int worker) {
    fit *f = arg;
    int64_t i = at * f->n / f->tried;
    double *v = f->scratch + worker * (f->P + f->Q), *residual = v + f->P, h = 1.0 / (double)f->n, sum = 0.0;
    const double *x = f->x + i * f->P;
    memcpy(v, x, (size_t)f->P * sizeof *v);
    forward(f, v, 1);
    for (int64_t p = 0; p < f->P; p++) h += v[p] * v[p];
    memcpy(residual, f->y + i * f->Q, (size_t)f->Q * sizeof *residual);
    for (int64_t p = 0; p < f->P; p++) {
        for (int64_t q = 0; q < f->Q; q++) residual[q] -= x[p] * f->w[p * f->Q + q];
    }
    for (int64_t q = 0; q < f->Q; q++) sum += residual[q] * residual[q];
    f->error[at] = sum / ((1.0 - h) * (1.0 - h));
}

static int allocate(fit *f, nn_word_map *m, tn_err *err) {
    size_t n = (size_t)f->n, P = (size_t)f->P, Q = (size_t)f->Q;
    m->mean_from = malloc(P * sizeof *m->mean_from), m->mean_to = malloc(Q * sizeof *m->mean_to);
    m->w = malloc(P * Q * sizeof *m->w);
    f->x = malloc(n * P * sizeof *f->x), f->y = malloc(n * Q * sizeof *f->y);
    f->gram = malloc(P * P * sizeof *f->gram), f->cross = malloc(P * Q * sizeof *f->cross);
    f->chol = calloc(P * P, sizeof *f->chol), f->w = malloc(P * Q * sizeof *f->w);
    f->error = malloc((size_t)f->tried * sizeof *f->error);
    f->scratch = malloc((size_t)f->threads * (P + Q) * sizeof *f->scratch);
    bool there = m->mean_from && m->mean_to && m->w && f->x && f->y && f->gram && f->cross && f->chol && f->w &&
                 f->error && f->scratch;
    return there ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a map of %lld words", (long long)f->n);
}

static double total(const double *x, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* Every ridge in turn; the best one's solution stays in m->w. */
static int choose(fit *f, nn_word_map *m, tn_err *err) {
    double variance = 0.0, spread = 0.0, best = INFINITY;
    for (int64_t p = 0; p < f->P; p++) variance += f->gram[p * f->P + p] / (double)f->P;
    for (int64_t at = 0; at < f->tried; at++) {
        const double *y = f->y + at * f->n / f->tried * f->Q;
        for (int64_t q = 0; q < f->Q; q++) spread += y[q] * y[q];
    }
    for (int r = 0; r < RIDGES; r++) {
        if (!decompose(f, ridges[r] * variance)) continue;
        solve(f);
        tn_parallel_for(f->threads, f->tried, leave_out, f);
        double error = total(f->error, f->tried);
        if (!(error < best)) continue;
        best = error, m->ridge = ridges[r];
        memcpy(m->w, f->w, (size_t)(f->P * f->Q) * sizeof *m->w);
    }
    m->explained = 1.0 - best / spread;
    return best < INFINITY && spread > 0.0
               ? 0
               : tn_fail(err, TN_EINPUT,
                         "the words of the two text encoders have no linear map (do they differ at all?)");
}

int nn_word_map_fit(const float *x, const float *y, int64_t n, int64_t from, int64_t to, int threads, nn_word_map *out,
                    tn_err *err) {
    nn_word_map m = {.from = from, .to = to, .words = n};
    fit f = {.n = n,
             .P = from,
             .Q = to,
             .tried = n < MOST_LEFT_OUT ? n : MOST_LEFT_OUT,
             .threads = threads > 0 ? threads : tn_max_threads()};
    if (n < 2)
        return tn_fail(err, TN_EINPUT, "the two text encoders share %lld words: too few to carry a vector over",
                       (long long)n);
    int bad = allocate(&f, &m, err);
    if (!bad) {
        centre(x, n, from, m.mean_from, f.x), centre(y, n, to, m.mean_to, f.y);
        tn_parallel_for(f.threads, from, products, &f);
        bad = choose(&f, &m, err);
    }
    free(f.x), free(f.y), free(f.gram), free(f.cross), free(f.chol), free(f.w), free(f.error), free(f.scratch);
    if (bad)
        nn_word_map_free(&m);
    else
        *out = m;
    return bad;
}

/* ---- two encoders ---- */

/* "ab</w>" and longer: a word with a meaning of its own. Bytes are pieces of anything. */
static bool is_word(const char *text) {
    size_t n = strlen(text);
    return n > 5 && strcmp(text + n - 4, "</w>") == 0;
}

/* Rows of the words in common; NULL arrays: their number only. */
static int64_t gather(const tn_kernels *k, const nn_text_model *from, const nn_tokenizer *a, const nn_text_model *to,
                      const nn_tokenizer *b, float *x, float *y) {
    int64_t n = 0, size = nn_tokenizer_get_facts(a).file_size, other = nn_tokenizer_get_facts(b).file_size;
    char word[256];
    for (int32_t id = 0; id < size && id < from->cfg.vocab; id++) {
        const char *text = nn_tokenizer_text(a, id);
        size_t length = strlen(text) - 4;
        if (!is_word(text) || length >= sizeof word) continue;
        memcpy(word, text, length), word[length] = '\0';
        int32_t there = nn_tokenizer_word(b, word);
        if (there < 0 || there >= other || there >= to->cfg.vocab) continue;
        if (x) nn_text_row(&from->token, k, id, x + n * from->cfg.t.width), nn_text_row(&to->token, k, there, y + n * to->cfg.t.width);
        n++;
    }
    return n;
}

/* Equal but for the rounding of a narrower type, 2^-8 of bfloat16 at most. */
static bool equal_rows(const float *x, const float *y, int64_t n) {
    double difference = 0.0, size = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i];
        difference += d * d, size += (double)x[i] * (double)x[i];
    }
    return difference <= 1e-5 * size;
}

int nn_word_map_between(const tn_kernels *k, const nn_text_model *from, const nn_tokenizer *from_tokens,
                        const nn_text_model *to, const nn_tokenizer *to_tokens, int threads, nn_word_map *out,
                        tn_err *err) {
    int64_t P = from->cfg.t.width, Q = to->cfg.t.width, n = gather(k, from, from_tokens, to, to_tokens, NULL, NULL);
    if (n < 2) return nn_word_map_fit(NULL, NULL, n, P, Q, threads, out, err);
    float *x = malloc((size_t)(n * (P + Q)) * sizeof *x), *y = x + n * P;
    if (!x) return tn_fail(err, TN_ENOMEM, "out of memory for %lld words", (long long)n);
    gather(k, from, from_tokens, to, to_tokens, x, y);
    int bad = 0;
    if (P == Q && from->cfg.vocab == to->cfg.vocab && equal_rows(x, y, n * P))
        *out = (nn_word_map){.same = true, .from = P, .to = Q, .words = n, .explained = 1.0};
    else
        bad = nn_word_map_fit(x, y, n, P, Q, threads, out, err);
    free(x);
    return bad;
}
