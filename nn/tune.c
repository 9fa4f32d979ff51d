#include "nn/tune.h"

#include "nn/train_impl.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS = 2 }; /* text encoder, UNet */

/* One parameter's own data while it learns, and what the model had before. */
typedef struct slot {
    const char *part, *name; /* "unet", "conv_in.weight" */
    tn_tensor *t;
    float *w, *m, *s; /* weight, moments; one after the other */
    void *data;
    tn_dtype dtype;
} slot;

struct nn_tune {
    nn_train *run;
    slot *slots;
    int nslots;
    float *memory;          /* of all slots */
    int64_t steps, updates; /* done; of those, with a rate above 0 */
};

static const char *const part_name[PARTS] = {"text_encoder", "unet"};
static nn_params *part(nn_model *m, int i) { return i == 0 ? &m->text->weights.params : nn_unet_params(m->unet); }

/* ---- memory ---- */

static int64_t count(const nn_model *m) {
    int64_t n = 0;
    for (int i = 0; i < PARTS; i++) {
        const nn_params *p = part((nn_model *)(uintptr_t)m, i);
        for (int k = 0; k < p->n; k++) n += tn_numel(p->p[k].t);
    }
    return n;
}

size_t nn_tune_bytes(const nn_model *m) { return (size_t)count(m) * 4 * sizeof(float); }

/* Gradients on or off. Until they are written they are addresses, not memory. */
static int want_gradients(nn_model *m, bool need, tn_err *err) {
    for (int i = 0; i < PARTS; i++) {
        if (!nn_params_need(part(m, i), need, err)) continue;
        for (int k = 0; k < i; k++) nn_params_need(part(m, k), false, NULL);
        return -1;
    }
    return 0;
}

static int dry_step(tn_ctx *c, void *arg, tn_err *err) {
    nn_train *t = arg;
    nn_inversion_batch b = nn_train_batch(t);
    double loss;
    b.texts = NULL; /* what is kept of sentences is of other weights after a step */
    for (int64_t i = 0; i < b.B; i++) nn_train_sentence(t, 0, 0, 0, t->ids + i * t->L);
    return nn_inversion_gradient(c, t->model, &t->schedule, &t->word, &b, 1.0f, true, &loss, err);
}

int nn_tune_measure(nn_train *run, const tn_ctx *like, int64_t checkpoint, nn_need *out, tn_err *err) {
    tn_ctx c = *like;
    c.checkpoint = checkpoint;
    if (want_gradients(run->model, true, err)) return -1;
    int r = nn_measure(&c, run->model, dry_step, run, out, err);
    want_gradients(run->model, false, NULL);
    return r;
}

/* ---- the weights ---- */

void nn_tune_free(nn_tune *t) {
    if (!t) return;
    want_gradients(t->run->model, false, NULL);
    for (int i = 0; i < t->nslots; i++)
        t->slots[i].t->data = t->slots[i].data, t->slots[i].t->dtype = t->slots[i].dtype;
    free(t->slots), free(t->memory);
    free(t);
}

/* Copies of a parameter's numbers, and zeros for its moments. */
static float *take_over(slot *s, const char *part, const nn_param *p, const tn_kernels *k, float *at) {
    tn_tensor *t = p->t;
    int64_t n = tn_numel(t);
    *s = (slot){part, p->name, t, at, at + n, at + 2 * n, t->data, t->dtype};
    k->widen(n, t->data, t->dtype, s->w);
    t->data = s->w, t->dtype = TN_F32;
    return at + 3 * n;
}

int nn_tune_open(nn_train *run, nn_tune **out, tn_err *err) {
    nn_model *m = run->model;
    int params = part(m, 0)->n + part(m, 1)->n;
    nn_tune *t = calloc(1, sizeof *t);
    if (!t) return tn_fail(err, TN_ENOMEM, "out of memory");
    t->run = run;
    t->slots = calloc((size_t)params, sizeof *t->slots);
    t->memory = calloc((size_t)count(m), 3 * sizeof *t->memory);
    if (!t->slots || !t->memory || want_gradients(m, true, err)) {
        nn_tune_free(t);
        return tn_fail(err, TN_ENOMEM, "out of memory for the state of %" PRId64 " weights", count(m));
    }
    float *at = t->memory;
    for (int i = 0; i < PARTS; i++) {
        for (int k = 0; k < part(m, i)->n; k++) {
            const nn_param *p = &part(m, i)->p[k];
            if (p->t->data) at = take_over(&t->slots[t->nslots++], part_name[i], p, tn_kernels_best(), at);
        }
    }
    *out = t;
    return 0;
}

/* ---- steps ---- */

/* AdamW on every weight that a gradient came to; the norm of all gradients. A rate of zero is no update: AdamW would
 * leave every number as it is, but not the sign of each zero. */
static double update(nn_tune *t, tn_ctx *c, double lr) {
    double squares = 0.0;
    t->updates += lr > 0.0;
    for (int i = 0; i < t->nslots; i++) {
        slot *s = &t->slots[i];
        int64_t n = tn_numel(s->t);
        if (!s->t->grad_set) continue;
        for (int64_t k = 0; k < n; k++) squares += (double)s->t->grad[k] * (double)s->t->grad[k];
        if (lr > 0.0) tn_adamw(c, &t->run->cfg->adam, lr, t->updates, n, s->w, s->t->grad, s->m, s->s);
    }
    return sqrt(squares);
}

int nn_tune_advance(nn_tune *t, tn_ctx *c, nn_train_step *out, tn_err *err) {
    nn_train *run = t->run;
    const nn_train_config *cfg = run->cfg;
    double sum = 0.0, loss;
    *out = (nn_train_step){.step = t->steps + 1, .lr = nn_lr_at(&cfg->lr, t->steps), .variance = 1.0};
    for (int i = 0; i < t->nslots; i++) t->slots[i].t->grad_set = false;
    for (int64_t i = 0; i < cfg->accumulate; i++) {
        nn_inversion_batch b = nn_train_draw(run, c->k, t->steps * cfg->accumulate + i);
        b.texts = NULL;
        if (nn_inversion_gradient(c, run->model, &run->schedule, &run->word, &b, 1.0f / (float)cfg->accumulate, true,
                                  &loss, err))
            return tn_fail_in(err, "step %" PRId64, out->step);
        sum += loss;
    }
    out->loss = sum / (double)cfg->accumulate;
    out->grad_norm = update(t, c, out->lr);
    if (!isfinite(out->grad_norm))
        return tn_fail(err, TN_ENUMERIC, "step %" PRId64 ": the gradient is not finite", out->step);
    t->steps++;
    return 0;
}

int64_t nn_tune_steps_done(const nn_tune *t) { return t->steps; }

/* ---- checkpoints ---- */

static const char format[] = "oneword-tune-1";

/* A parameter's tensor in the file: [3,n], the weight and its moments. */
static void tensor_of(const slot *s, char name[NN_NAME_SIZE], int64_t shape[2]) {
    snprintf(name, NN_NAME_SIZE, "%s.%s", s->part, s->name);
    shape[0] = 3, shape[1] = tn_numel(s->t);
}

int nn_tune_save(const nn_tune *t, const char *fingerprint, const char *path, tn_err *err) {
    char name[NN_NAME_SIZE];
    int64_t shape[2], counters[] = {t->steps, t->updates};
    tn_st_writer *w;
    if (nn_checkpoint_new(t->run, format, fingerprint, path, counters, &w, err)) return -1;
    for (int i = 0; i < t->nslots; i++) {
        tensor_of(&t->slots[i], name, shape);
        tn_st_add(w, name, TN_ST_F32, 2, shape, t->slots[i].w);
    }
    int r = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    return r;
}

int nn_tune_load(nn_tune *t, const char *fingerprint, const char *path, tn_err *err) {
    char name[NN_NAME_SIZE];
    int64_t shape[2], counters[2];
    tn_st *st;
    if (nn_checkpoint_open(t->run, format, fingerprint, path, counters, &st, err)) return -1;
    int r = 0;
    for (int i = 0; !r && i < t->nslots; i++) {
        tensor_of(&t->slots[i], name, shape);
        const tn_st_tensor *x = tn_st_find(st, name);
        bool fits = x && x->dtype == TN_ST_F32 && x->ndim == 2 && x->shape[0] == shape[0] && x->shape[1] == shape[1];
        r = fits ? tn_st_read_f32(x, t->slots[i].w, err)
                 : tn_fail(err, TN_EINPUT, "%s: tensor %s is missing or misshapen", path, name);
    }
    if (!r) t->steps = counters[0], t->updates = counters[1];
    tn_st_close(st);
    return r;
}
