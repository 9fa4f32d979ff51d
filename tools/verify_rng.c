/* Draws of PyTorch's generator. A tensor is called seedSEED.ID.DRAW; DRAW is randnN, randN, randintLIMITxN or
 * randpermN, with _f64 behind it for doubles. For each seed the draws whose ID is a number run in order from a fresh
 * generator, then, from a fresh one again, those whose ID is a letter. */
#include "tools/verify.h"

#include "tensor/rng.h"
#include <stdlib.h>
#include <string.h>

typedef struct draw {
    const char *name, *kind; /* kind points behind the second point of name */
    uint64_t seed;
    int64_t order; /* numbers before letters */
} draw;

enum { LETTERS = 1 << 30 };

/* The digits at s into *out; what follows them, NULL where there are none or too many. */
static const char *number(const char *s, int64_t *out) {
    size_t n = strspn(s, "0123456789");
    return n && tn_parse_int64(s, n, out) ? s + n : NULL;
}

static bool read_name(const char *name, draw *d) {
    int64_t seed, id;
    const char *s = strncmp(name, "seed", 4) ? NULL : number(name + 4, &seed);
    if (!s || *s != '.') return false;
    const char *after = number(s + 1, &id);
    if (!after && s[1] >= 'a' && s[1] <= 'z') id = LETTERS + s[1], after = s + 2;
    if (!after || *after != '.' || id > 2 * (int64_t)LETTERS) return false;
    *d = (draw){name, after + 1, (uint64_t)seed, id};
    return true;
}

static int in_order(const void *a, const void *b) {
    const draw *x = a, *y = b;
    if (x->seed != y->seed) return x->seed < y->seed ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Runs one draw and hands it in; a kind that is not known is left over, and said. */
static void run(verify_case *c, tn_rng *g, const draw *d) {
    static const struct {
        const char *kind, *end;
    } forms[] = {{"randn", ""}, {"randn", "_f64"}, {"rand", ""}, {"randint", ""}, {"randperm", ""}};
    int64_t n = 0, limit = 1;
    size_t form = 0;
    for (; form < 5; form++) {
        size_t k = strlen(forms[form].kind);
        const char *s = strncmp(d->kind, forms[form].kind, k) ? NULL : number(d->kind + k, &n);
        if (s && form == 3) limit = n, s = *s == 'x' ? number(s + 1, &n) : NULL;
        if (s && !strcmp(s, forms[form].end)) break;
    }
    if (form == 5 || n < 1 || limit < 1 || n != tn_st_find(c->st, d->name)->count) return;
    void *x = verify_alloc(c, (size_t)n * 8);
    if (!x) return;
    if (form == 0) tn_rng_randn(g, x, (size_t)n);
    if (form == 1) tn_rng_randn_f64(g, x, (size_t)n);
    if (form == 2) tn_rng_rand(g, x, (size_t)n);
    for (int64_t i = 0; i < n && form == 3; i++) ((int64_t *)x)[i] = tn_rng_randint(g, limit);
    if (form == 4) tn_rng_randperm(g, x, n);
    verify_put_data(c, d->name, form == 1 ? TN_F64 : form < 3 ? TN_F32 : TN_I64, 1, &n, x);
}

void verify_rng(verify_case *c) {
    draw *d = verify_alloc(c, (c->st->n + 1) * sizeof *d);
    size_t n = 0;
    if (!d) return;
    for (size_t i = 0; i < c->st->n; i++) n += read_name(c->st->tensor[i].name, &d[n]);
    qsort(d, n, sizeof *d, in_order);
    tn_rng g;
    for (size_t i = 0; i < n && !c->err.code; i++) {
        bool fresh = !i || d[i].seed != d[i - 1].seed || (d[i].order >= LETTERS) != (d[i - 1].order >= LETTERS);
        if (fresh) tn_rng_seed(&g, d[i].seed);
        run(c, &g, &d[i]);
    }
}
