/* Operators that move numbers and compute nothing: concatenation, slices, images to tokens and back.
 *
 *   concat           y[o, 0..A, i] = a,   y[o, A..A+Bn, i] = b          a [O,A,I], b [O,Bn,I], y [O,A+Bn,I]
 *   slice            y[o,m,i] = x[o, from+m, i]                         x [O,M,I], y [O,count,I]
 *   nchw_to_tokens   y[b,s,c] = x[b,c,s]                                x [B,C,S], y [B,S,C]
 *   tokens_to_nchw   y[b,c,s] = x[b,s,c]                                x [B,S,C], y [B,C,S]
 *
 * Any axis can be the middle one: O counts everything before it, I everything behind. Skip connections of the UNet
 * concatenate channels (O = B, I = S); the VAE's moments are sliced into mean and logvar the same way.
 *
 * Backward. Each y is one x, so dy goes back to where x came from; what a slice left out receives nothing. */
#include "ref/ref.h"

#include <stddef.h>

void ref_concat(const double *a, const double *b, double *y, int64_t O, int64_t A, int64_t Bn, int64_t I) {
    for (int64_t o = 0; o < O; o++)
        for (int64_t i = 0; i < I; i++) {
            for (int64_t m = 0; m < A; m++) y[(o * (A + Bn) + m) * I + i] = a[(o * A + m) * I + i];
            for (int64_t m = 0; m < Bn; m++) y[(o * (A + Bn) + A + m) * I + i] = b[(o * Bn + m) * I + i];
        }
}

void ref_concat_backward(const double *dy, double *da, double *db, int64_t O, int64_t A, int64_t Bn, int64_t I) {
    for (int64_t o = 0; o < O; o++)
        for (int64_t i = 0; i < I; i++) {
            for (int64_t m = 0; da && m < A; m++) da[(o * A + m) * I + i] += dy[(o * (A + Bn) + m) * I + i];
            for (int64_t m = 0; db && m < Bn; m++) db[(o * Bn + m) * I + i] += dy[(o * (A + Bn) + A + m) * I + i];
        }
}

void ref_slice(const double *x, double *y, int64_t O, int64_t M, int64_t I, int64_t from, int64_t count) {
    for (int64_t o = 0; o < O; o++)
        for (int64_t m = 0; m < count; m++)
            for (int64_t i = 0; i < I; i++) y[(o * count + m) * I + i] = x[(o * M + from + m) * I + i];
}

void ref_slice_backward(const double *dy, double *dx, int64_t O, int64_t M, int64_t I, int64_t from, int64_t count) {
    if (!dx) return;
    for (int64_t o = 0; o < O; o++)
        for (int64_t m = 0; m < count; m++)
            for (int64_t i = 0; i < I; i++) dx[(o * M + from + m) * I + i] += dy[(o * count + m) * I + i];
}

void ref_nchw_to_tokens(const double *x, double *y, int64_t B, int64_t C, int64_t S) {
    for (int64_t b = 0; b < B; b++)
        for (int64_t s = 0; s < S; s++)
            for (int64_t c = 0; c < C; c++) y[(b * S + s) * C + c] = x[(b * C + c) * S + s];
}

void ref_nchw_to_tokens_backward(const double *dy, double *dx, int64_t B, int64_t C, int64_t S) {
    if (!dx) return;
    for (int64_t b = 0; b < B; b++)
        for (int64_t s = 0; s < S; s++)
            for (int64_t c = 0; c < C; c++) dx[(b * C + c) * S + s] += dy[(b * S + s) * C + c];
}

void ref_tokens_to_nchw(const double *x, double *y, int64_t B, int64_t C, int64_t S) {
    for (int64_t b = 0; b < B; b++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t s = 0; s < S; s++) y[(b * C + c) * S + s] = x[(b * S + s) * C + c];
}

void ref_tokens_to_nchw_backward(const double *dy, double *dx, int64_t B, int64_t C, int64_t S) {
    if (!dx) return;
    for (int64_t b = 0; b < B; b++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t s = 0; s < S; s++) dx[(b * S + s) * C + c] += dy[(b * C + c) * S + s];
}
