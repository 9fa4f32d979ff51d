#include "nn/init.h"

#include "tensor/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One tensor being drawn. Its first piece seeds the generator, which all tensors share, as they are written in turn. */
typedef struct draw {
    uint64_t seed;
    float range; /* numbers lie within -range .. range */
    float constant; /* where the range is 0 */
    tn_rng *rng;
} draw;

static void make(void *arg, int64_t first, int64_t n, float *out) {
    const draw *d = arg;
    if (d->range == 0.0f) {
        for (int64_t i = 0; i < n; i++) out[i] = d->constant;
        return;
    }
    if (first == 0) tn_rng_seed(d->rng, d->seed);
    tn_rng_rand(d->rng, out, (size_t)n);
    for (int64_t i = 0; i < n; i++) out[i] = (2.0f * out[i] - 1.0f) * d->range;
}

/* FNV-1a over the name, from the seed; the generator takes 32 bits. */
static uint64_t seed_of(uint64_t seed, const char *name) {
    uint64_t h = 14695981039346656037u ^ seed;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h ^ h >> 32;
}

static draw plan(const nn_param *p, uint64_t seed, tn_rng *rng) {
    const tn_tensor *t = p->t;
    draw d = {seed_of(seed, p->name), 0.0f, 0.0f, rng};
    if (t->ndim > 1) { /* [out, in, ...]: each output sums over the rest */
        double fan_in = (double)(tn_numel(t) / t->shape[0]);
        d.range = (float)sqrt(3.0 / fan_in); /* a uniform number within r has the variance r^2 / 3 */
    } else if (strcmp(p->name + strlen(p->name) - strlen("weight"), "weight") == 0) {
        d.constant = 1.0f;
    }
    return d;
}

int nn_init_write(const nn_params *params, tn_st_dtype dtype, uint64_t seed, const char *path, tn_err *err) {
    tn_st_writer *w = tn_st_writer_new();
    draw *draws = malloc((size_t)params->n * sizeof *draws);
    tn_rng rng;
    int failed = w && draws ? 0 : tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    for (int i = 0; !failed && i < params->n; i++) {
        const nn_param *p = &params->p[i];
        draws[i] = plan(p, seed, &rng);
        tn_st_add_made(w, p->name, dtype, p->t->ndim, p->t->shape, make, &draws[i]);
    }
    if (!failed) tn_st_add_meta(w, "format", "pt"); /* transformers refuses a file that does not say so */
    if (!failed) failed = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    free(draws);
    return failed;
}
