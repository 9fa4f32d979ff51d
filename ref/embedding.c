/* Rows chosen by number: token embeddings with the learned vectors behind them, and one row per sample.
 *
 *   embedding     y[i] = table[ids[i]]            for ids[i] <  V      ids [n], table [V,C], y [n,C]
 *                 y[i] = learned[ids[i] - V]      for ids[i] >= V      learned [Vl,C]
 *   gather_rows   y[b] = x[b, idx[b]]                                  x [B,L,C], idx [B], y [B,C]
 *
 * A placeholder token is an id beyond the vocabulary. Textual inversion optimises `learned` and nothing else (Gal et
 * al., 2208.01618, section 3): with dtable NULL no gradient of the vocabulary exists at all, instead of being computed
 * and put back afterwards.
 *
 * Backward. The chosen row receives dy. An id that occurs several times receives the sum: a placeholder written twice
 * in a prompt, or once in each prompt of a batch, learns from all its places.
 *
 * Source: PyTorch embedding, gather; the pooled state of openai/CLIP's encode_text (the row of the end token). */
#include "ref/ref.h"

#include <stddef.h>

void ref_embedding(const int64_t *ids, const double *table, const double *learned, double *y, int64_t n, int64_t V,
                   int64_t Vl, int64_t C) {
    (void)Vl; /* bounds the ids, which the caller has checked */
    for (int64_t i = 0; i < n; i++) {
        const double *row = ids[i] < V ? table + ids[i] * C : learned + (ids[i] - V) * C;
        for (int64_t c = 0; c < C; c++) y[i * C + c] = row[c];
    }
}

void ref_embedding_backward(const int64_t *ids, const double *dy, double *dtable, double *dlearned, int64_t n,
                            int64_t V, int64_t Vl, int64_t C) {
    (void)Vl;
    for (int64_t i = 0; i < n; i++) {
        double *rows = ids[i] < V ? dtable : dlearned;
        int64_t row = ids[i] < V ? ids[i] : ids[i] - V;
        for (int64_t c = 0; rows && c < C; c++) rows[row * C + c] += dy[i * C + c];
    }
}

void ref_gather_rows(const double *x, const int64_t *idx, double *y, int64_t B, int64_t L, int64_t C) {
    for (int64_t b = 0; b < B; b++)
        for (int64_t c = 0; c < C; c++) y[b * C + c] = x[(b * L + idx[b]) * C + c];
}

void ref_gather_rows_backward(const int64_t *idx, const double *dy, double *dx, int64_t B, int64_t L, int64_t C) {
    if (!dx) return;
    for (int64_t b = 0; b < B; b++)
        for (int64_t c = 0; c < C; c++) dx[(b * L + idx[b]) * C + c] += dy[b * C + c];
}
