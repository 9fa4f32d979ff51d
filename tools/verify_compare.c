/* The bars, and the comparison. */
#include "tools/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
    NMSE,     /* sum (a-b)^2 / sum b^2 of the tensor */
    PARAM,    /* sum (a-b)^2 over the square of the largest norm of a parameter's gradient in the case */
    RELATIVE, /* the worst element: |a-b| / |b| */
    LEVELS,   /* the share of values that are off; more than one level is never right */
    EXACT     /* the number of values that are off */
} measure;

/* The first row that fits kind and name ("" fits all) decides; integers are EXACT but for LEVELS. */
static const struct bar_row {
    const char *kind, *prefix;
    measure how;
    double bar;
} bars[] = {
    /* Rounding of one operator in float32 is about 1e-14 of the sum of squares; two digits for long sums. */
    {"op", "out.", NMSE, 1e-12},
    {"op", "grad.", NMSE, 1e-9},
    /* A grid of points: one off is another schedule. */
    {"", "out.timesteps", EXACT, 0},
    {"", "out.inverse_timesteps", EXACT, 0},
    /* Runs feed rounding back into the model: 1e-4 of the size after tens of steps. */
    {"text_to_image", "out.image_u8", LEVELS, 1e-3},
    {"text_to_image", "out.", NMSE, 1e-8},
    {"ddim_inversion", "out.", NMSE, 1e-8},
    {"inversion", "out.embedding", NMSE, 1e-8},
    {"inversion", "out.grad.", NMSE, 1e-9},
    {"inversion", "out.", RELATIVE, 1e-5}, /* the losses */
    {"inversion", "trace.micro_loss", RELATIVE, 1e-5},
    /* Draws are bits. Those in double go through the C library's logarithm and cosine in PyTorch: the last bit is free.
     */
    {"torch_cpu_generator", "", RELATIVE, 1e-15},
    /* One parameter may have a tiny gradient between large ones; its error is that of the large ones. */
    {"", "grad.param.", PARAM, 1e-9},
    {"", "grad.", NMSE, 1e-9},
    {"", "", NMSE, 1e-10},
};
enum { N_BARS = sizeof bars / sizeof bars[0] };

/* A gradient that is zero by mathematics leaves rounding of its neighbours' size: this much of the largest one. */
static const double zero_bar = 5e-5;
/* As exact as PyTorch's own float32: this many times the deviation that was recorded for it. */
static const double deviations = 4.0;

static bool starts(const char *s, const char *prefix) { return !strncmp(s, prefix, strlen(prefix)); }

static const struct bar_row *bar_of(const char *kind, const char *name) {
    const struct bar_row *r = bars;
    while ((*r->kind && strcmp(r->kind, kind)) || !starts(name, r->prefix)) r++; /* the last row fits all */
    return r;
}

void verify_record(verify_case *c, const verify_check *check) {
    if (c->n_checks == c->cap_checks) {
        int cap = c->cap_checks ? 2 * c->cap_checks : 64;
        verify_check *grown = realloc(c->check, (size_t)cap * sizeof *grown);
        if (!grown) {
            if (!c->err.code) tn_fail(&c->err, TN_ENOMEM, "out of memory for %d results", cap);
            return;
        }
        c->check = grown, c->cap_checks = cap;
    }
    c->check[c->n_checks++] = *check;
}

void verify_measure(const double *ours, const double *golden, int64_t n, verify_check *k) {
    double error = 0, scale = 0, worst = -1;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(ours[i] - golden[i]);
        error += d * d, scale += golden[i] * golden[i];
        if (d > worst || isnan(d)) {
            worst = isnan(d) ? HUGE_VAL : d;
            k->index = i, k->ours = ours[i], k->golden = golden[i];
        }
    }
    /* Against zeros: absolute. NaN: never right. */
    k->nmse = error == 0 ? 0 : scale > 0 ? error / scale : error;
    if (isnan(k->nmse)) k->nmse = HUGE_VAL;
    k->error = k->nmse;
}

/* ---- sizes of the case's gradients ---- */

static double *read_doubles(verify_case *c, const tn_st_tensor *t) {
    double *x = verify_alloc(c, (size_t)t->count * sizeof *x);
    if (!x) return NULL;
    if (t->dtype == TN_ST_I64) {
        int64_t *whole = verify_alloc(c, (size_t)t->count * sizeof *whole);
        if (!whole || tn_st_read_i64(t, whole, &c->err)) return NULL;
        for (int64_t i = 0; i < t->count; i++) x[i] = (double)whole[i];
    } else if (t->dtype == TN_ST_U8) {
        for (int64_t i = 0; i < t->count; i++) x[i] = ((const unsigned char *)t->data)[i];
    } else if (tn_st_read_f64(t, x, &c->err)) {
        return NULL;
    }
    return x;
}

static void measure_gradients(verify_case *c) {
    if (c->largest_grad > 0 || !c->st) return;
    c->largest_grad = c->largest_norm = 1e-300; /* measured, and never divided by zero */
    for (size_t i = 0; i < c->st->n; i++) {
        const tn_st_tensor *t = &c->st->tensor[i];
        if (!starts(t->name, "grad.") && !starts(t->name, "out.grad.")) continue;
        const double *x = read_doubles(c, t);
        double sum = 0;
        for (int64_t j = 0; x && j < t->count; j++) {
            c->largest_grad = fmax(c->largest_grad, fabs(x[j]));
            sum += x[j] * x[j];
        }
        if (starts(t->name, "grad.param.")) c->largest_norm = fmax(c->largest_norm, sqrt(sum));
    }
}

/* ---- one tensor ---- */

static double f32_deviation(verify_case *c, const char *name) {
    char base[TN_ST_MAX_NAME + 1];
    size_t n = strlen(name);
    snprintf(base, sizeof base, "%s", name);
    if (n > 4 && !strcmp(name + n - 4, ".f64"))
        base[n - 4] = '\0'; /* recorded for the result, whichever way it is stored */
    const tn_jval *pair = tn_json_get(verify_attr(c, "f32_deviation"), base);
    bool there = pair && pair->type == TN_JSON_ARRAY && pair->child && pair->child->type == TN_JSON_NUMBER;
    return there && pair->child->number >= 0 ? pair->child->number : -1;
}

static bool all_zero(const double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (x[i] != 0) return false;
    }
    return true;
}

/* The error in a measure that looks at elements; k->index is moved to the worst one in that measure. */
static double by_element(measure how, const double *ours, const double *golden, int64_t n, verify_check *k) {
    double worst = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(ours[i] - golden[i]), r = how == RELATIVE ? (d == 0 ? 0 : d / fabs(golden[i])) : d;
        if (!(d == 0)) off++;
        if (!(r <= worst)) {
            worst = isnan(r) ? HUGE_VAL : r;
            k->index = i, k->ours = ours[i], k->golden = golden[i];
        }
    }
    if (how == RELATIVE) return worst;
    if (how == EXACT) return off;
    return worst > 1 ? HUGE_VAL : off / (double)n;
}

static void judge(verify_case *c, const tn_st_tensor *golden, const struct bar_row *row, const double *a,
                  const double *b, verify_check *k) {
    int64_t n = golden->count;
    bool whole = golden->dtype == TN_ST_I64 || golden->dtype == TN_ST_U8;
    bool draws = !strcmp(c->kind, "torch_cpu_generator") && golden->dtype != TN_ST_F64;
    measure how = (whole && row->how != LEVELS) || draws ? EXACT : row->how;
    verify_measure(a, b, n, k);
    double deviation = f32_deviation(c, golden->name), furthest = fabs(k->ours - k->golden);
    k->bar = how == row->how ? row->bar : 0;
    if (how == RELATIVE || how == LEVELS || how == EXACT) {
        k->error = by_element(how, a, b, n, k);
    } else if (all_zero(b, n)) {
        bool gradient = starts(golden->name, "grad.") || starts(golden->name, "out.grad.");
        measure_gradients(c);
        k->bar = gradient ? zero_bar : 0;
        if (gradient) k->error = furthest / c->largest_grad;
    } else if (how == PARAM) {
        double norm = 0;
        measure_gradients(c);
        for (int64_t i = 0; i < n; i++) norm += b[i] * b[i];
        k->error *= norm / (c->largest_norm * c->largest_norm);
    }
    k->passed =
        k->error <= k->bar || (how != EXACT && how != LEVELS && deviation >= 0 && furthest <= deviations * deviation);
}

/* Ours as doubles; in case memory. */
static double *widen(verify_case *c, tn_dtype dtype, int64_t n, const void *data) {
    double *x = verify_alloc(c, (size_t)n * sizeof *x);
    for (int64_t i = 0; x && i < n; i++) {
        x[i] = dtype == TN_F32   ? (double)((const float *)data)[i]
               : dtype == TN_F64 ? ((const double *)data)[i]
               : dtype == TN_I64 ? (double)((const int64_t *)data)[i]
                                 : (double)((const unsigned char *)data)[i];
    }
    return x;
}

static void compare(verify_case *c, const tn_st_tensor *golden, const char *shown, bool same_shape, tn_dtype dtype,
                    int64_t n, const void *data) {
    verify_check k = {.name = shown, .index = -1, .error = HUGE_VAL};
    if (!same_shape) {
        k.note = "the shapes differ";
    } else {
        double *a = widen(c, dtype, n, data), *b = a ? read_doubles(c, golden) : NULL;
        if (!b) return;
        judge(c, golden, bar_of(c->kind, golden->name), a, b, &k);
    }
    verify_record(c, &k);
}

static void keep(verify_case *c, const char *name, tn_dtype dtype, int ndim, const int64_t *shape, int64_t n,
                 const void *data) {
    static const tn_st_dtype type[] = {[TN_F32] = TN_ST_F32, [TN_F64] = TN_ST_F64, [TN_I64] = TN_ST_I64,
                                       [TN_U8] = TN_ST_U8,   [TN_F16] = TN_ST_F16, [TN_BF16] = TN_ST_BF16};
    size_t bytes = (size_t)n * (dtype == TN_F32 ? 4 : dtype == TN_U8 ? 1 : 8);
    void *copy = verify_alloc(c, bytes);
    if (!copy) return;
    memcpy(copy, data, bytes);
    tn_st_add(c->recorder, name, type[dtype], ndim, shape, copy);
    tn_jw_string(c->order, NULL, name);
}

void verify_put_data(verify_case *c, const char *name, tn_dtype dtype, int ndim, const int64_t *shape,
                     const void *data) {
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    if (c->err.code || !data) return;
    if (c->recorder) keep(c, name, dtype, ndim, shape, n, data);
    for (int wide = 0; wide < 2 && c->st; wide++) {
        char *full = verify_join(c, name, wide ? ".f64" : NULL, NULL);
        const tn_st_tensor *golden = full ? tn_st_find(c->st, full) : NULL;
        if (!golden) continue;
        c->compared[golden - c->st->tensor] = true;
        bool same = golden->ndim == ndim && (!ndim || !memcmp(golden->shape, shape, (size_t)ndim * sizeof *shape));
        compare(c, golden, golden->name, same, dtype, n, data);
    }
}

void verify_put(verify_case *c, const char *name, const tn_tensor *t) {
    if (t && tn_live(c->ctx)) verify_put_data(c, name, t->dtype, t->ndim, t->shape, t->data);
}

void verify_put_step(verify_case *c, const char *name, int i, tn_dtype dtype, int ndim, const int64_t *shape,
                     const void *data) {
    char number[16];
    snprintf(number, sizeof number, ".%d", i);
    char *full = verify_join(c, name, number, NULL);
    if (full) verify_put_data(c, full, dtype, ndim, shape, data);
}

void verify_put_against(verify_case *c, const tn_st_tensor *golden, const char *shown, int64_t n, const float *data) {
    if (!c->err.code) compare(c, golden, shown, golden->count == n, TN_F32, n, data);
}

void verify_trace(void *arg, const char *name, const tn_tensor *t) {
    verify_case *c = arg;
    char *full = verify_join(c, "trace.", name, NULL);
    if (full) verify_put(c, full, t);
}

/* ---- gradients ---- */

bool verify_seed(verify_case *c, tn_tensor *y, const char *cotangent) {
    if (c->err.code || !y->need || !verify_has(c, cotangent)) return false;
    const float *ct = verify_f32(c, cotangent, "*");
    if (ct && tn_st_find(c->st, cotangent)->count != tn_numel(y))
        verify_bad(c, "%s: not the shape of the result", cotangent);
    if (c->err.code) return false;
    tn_seed(c->ctx, y, ct);
    return true;
}

void verify_put_grads(verify_case *c) {
    for (int i = 0; i < c->n_leaves && tn_live(c->ctx); i++) {
        const tn_tensor *t = c->leaf[i].t;
        float *zeros = t->grad_set ? NULL : verify_alloc(c, (size_t)tn_numel(t) * sizeof *zeros);
        verify_put_data(c, c->leaf[i].name, TN_F32, t->ndim, t->shape, t->grad_set ? t->grad : zeros);
    }
}

void verify_leftovers(verify_case *c) {
    for (size_t i = 0; c->st && i < c->st->n && !c->recorder; i++) {
        if (c->compared[i] || starts(c->st->tensor[i].name, "in.")) continue;
        verify_record(
            c, &(verify_check){
                   .name = c->st->tensor[i].name, .index = -1, .error = HUGE_VAL, .note = "nothing compared it"});
    }
}
