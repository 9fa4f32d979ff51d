/* Checkpoints: what a run is at a moment, and what it must be the same as to go on. */
#include "nn/train_impl.h"
#include "tensor/io/bytes.h"
#include "tensor/io/sha256.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Words of 32 bits, little-endian whatever the machine, so that a checkpoint can move. */
static void hash_words(tn_sha256 *h, const void *data, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        unsigned char bytes[4];
        memcpy(&u, (const char *)data + 4 * i, 4);
        tn_put_le32(bytes, u);
        tn_sha256_update(h, bytes, 4);
    }
}

void nn_train_hash_data(nn_train *t) {
    tn_sha256 h;
    int64_t sentences = (t->cfg->nswitches + 1) * t->nsentences;
    tn_sha256_init(&h);
    for (int64_t i = 0; i < sentences * t->L; i++) hash_words(&h, &(int32_t){(int32_t)t->sentences[i]}, 1);
    hash_words(&h, t->moments, (size_t)((t->npictures + t->ncomposed) * 4 * nn_train_latent(t)));
    hash_words(&h, t->word.initial, (size_t)(t->word.rows * t->word.dim));
    tn_sha256_hex(&h, t->data_hash);
}

/* Behind the *n bytes of out[cap]; what does not fit is counted in *n all the same. */
static void append(char *out, size_t cap, size_t *n, const char *format, ...) TN_PRINTF(4, 5);
static void append(char *out, size_t cap, size_t *n, const char *format, ...) {
    va_list args;
    va_start(args, format);
    *n += (size_t)vsnprintf(*n < cap ? out + *n : NULL, *n < cap ? cap - *n : 0, format, args);
    va_end(args);
}

/* Everything that a later step depends on, as text: two runs may continue each other only if it is the same. The number
 * of steps is not part of it where the learning rate does not depend on it, so that a finished run can be made
 * longer. */
static int describe(const nn_train *t, char *out, size_t cap) {
    const nn_train_config *c = t->cfg;
    size_t n = 0;
    append(out, cap, &n,
           "seed=%" PRIu64 " batch=%" PRId64 " accumulate=%" PRId64 " vectors=%" PRId64
           " placeholders=%d resolution=%" PRId64
           " flip=%d posterior_mean=%d conv=%d adam=%a,%a,%a,%a clip=%a,%a reg=%a,%d lr=%d,%a,%" PRId64 ",%" PRId64,
           c->seed, c->batch, c->accumulate, c->num_vectors, c->nplaceholders, c->resolution, c->flip,
           c->posterior_mean, (int)t->conv, c->adam.beta1, c->adam.beta2, c->adam.eps, c->adam.weight_decay,
           c->clip_norm, c->clip_value, c->reg_weight, (int)c->reg_kind, (int)c->lr.kind, c->lr.base, c->lr.warmup,
           c->lr.kind == NN_LR_LINEAR || c->lr.kind == NN_LR_COSINE ? c->lr.total : 0);
    for (int i = 0; i < c->lr.pieces; i++) append(out, cap, &n, " %a:%" PRId64, c->lr.rate[i], c->lr.until[i]);
    for (int i = 0; i < c->nswitches; i++) append(out, cap, &n, " vector_at=%" PRId64, c->switch_at[i]);
    if (c->per_image_share > 0.0) append(out, cap, &n, " per_image=%a", c->per_image_share);
    if (c->compose_from)
        append(out, cap, &n, " compose=%d,%" PRId64 ",%a", c->compose_from, c->compose_pictures, c->compose_share);
    if (c->stop_window) append(out, cap, &n, " stop=%" PRId64 ",%a", c->stop_window, c->stop_threshold);
    return n < cap ? 0 : -1;
}

int nn_checkpoint_new(const nn_train *t, const char *format, const char *fingerprint, const char *path,
                      const int64_t counters[2], tn_st_writer **out, tn_err *err) {
    char settings[2000];
    if (describe(t, settings, sizeof settings)) return tn_fail(err, TN_EINTERNAL, "the settings do not fit");
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    tn_st_add_meta(w, "format", format), tn_st_add_meta(w, "model", fingerprint);
    tn_st_add_meta(w, "data", t->data_hash), tn_st_add_meta(w, "settings", settings);
    tn_st_add(w, "counters", TN_ST_I64, 1, (int64_t[]){2}, counters);
    *out = w;
    return 0;
}

static int check_meta(const tn_st *st, const char *path, const char *key, const char *want, const char *what,
                      tn_err *err) {
    const char *got = tn_st_meta(st, key);
    if (!got) return tn_fail(err, TN_EINPUT, "%s: not a checkpoint (no \"%s\")", path, key);
    if (strcmp(got, want) == 0) return 0;
    if (strlen(want) > 64)
        return tn_fail(err, TN_EINPUT, "%s: %s: expected \"%.200s\", got \"%.200s\" (start over in another --output)",
                       path, what, want, got);
    return tn_fail(err, TN_EINPUT, "%s: %s (start over in another --output)", path, what);
}

static int read_counters(const tn_st *st, const char *path, int64_t counters[2], tn_err *err) {
    const tn_st_tensor *x = tn_st_find(st, "counters");
    if (!x || x->dtype != TN_ST_I64 || x->count != 2) return tn_fail(err, TN_EINPUT, "%s: not a checkpoint", path);
    if (tn_st_read_i64(x, counters, err)) return -1;
    return counters[1] < 0 || counters[1] > counters[0] ? tn_fail(err, TN_EINPUT, "%s: impossible counters", path) : 0;
}

int nn_checkpoint_open(const nn_train *t, const char *format, const char *fingerprint, const char *path,
                       int64_t counters[2], tn_st **out, tn_err *err) {
    char settings[2000];
    if (describe(t, settings, sizeof settings)) return tn_fail(err, TN_EINTERNAL, "the settings do not fit");
    tn_st *st;
    if (tn_st_open(path, 0, &st, err)) return -1;
    if (read_counters(st, path, counters, err) ||
        check_meta(st, path, "format", format, "a checkpoint of another kind or version", err) ||
        check_meta(st, path, "settings", settings, "made with other settings", err) ||
        check_meta(st, path, "model", fingerprint, "made with another model", err) ||
        check_meta(st, path, "data", t->data_hash, "made with other pictures, sentences or initial vectors", err)) {
        tn_st_close(st);
        return -1;
    }
    *out = st;
    return 0;
}

/* ---- of the word ---- */

static const char format[] = "oneword-checkpoint-1";

int nn_train_save(const nn_train *t, const char *fingerprint, const char *path, tn_err *err) {
    int64_t shape[] = {t->word.rows, t->word.dim}, counters[] = {t->steps_done, t->word.updates};
    tn_st_writer *w;
    if (nn_checkpoint_new(t, format, fingerprint, path, counters, &w, err)) return -1;
    tn_st_add(w, "vectors", TN_ST_F32, 2, shape, t->word.v);
    tn_st_add(w, "first_moment", TN_ST_F32, 2, shape, t->word.m);
    tn_st_add(w, "second_moment", TN_ST_F32, 2, shape, t->word.s);
    if (t->cfg->stop_window) tn_st_add(w, "eval_losses", TN_ST_F64, 1, &t->eval.losses.n, t->eval.losses.loss);
    int r = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    return r;
}

static int read_rows(const nn_train *t, const tn_st *st, const char *path, const char *name, float *out, tn_err *err) {
    const tn_st_tensor *x = tn_st_find(st, name);
    if (!x || x->dtype != TN_ST_F32 || x->ndim != 2 || x->shape[0] != t->word.rows || x->shape[1] != t->word.dim) {
        return tn_fail(err, TN_EINPUT, "%s: tensor %s is missing or misshapen", path, name);
    }
    return tn_st_read_f32(x, out, err);
}

/* The losses of DVAR's batch: one for each step. */
static int read_losses(const nn_train *t, const tn_st *st, const char *path, int64_t steps, nn_dvar *out, tn_err *err) {
    if (!t->cfg->stop_window) return 0;
    const tn_st_tensor *x = tn_st_find(st, "eval_losses");
    if (!x || x->dtype != TN_ST_F64 || x->ndim != 1 || x->count != steps)
        return tn_fail(err, TN_EINPUT, "%s: tensor eval_losses is missing or misshapen", path);
    double *loss = malloc((size_t)(steps + 1) * sizeof *loss);
    if (!loss) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    *out = (nn_dvar){loss, steps, steps + 1};
    return steps ? tn_st_read_f64(x, loss, err) : 0;
}

int nn_train_load(nn_train *t, const char *fingerprint, const char *path, tn_err *err) {
    tn_st *st;
    nn_word w;
    nn_dvar losses = {0};
    int64_t counters[2];
    if (nn_checkpoint_open(t, format, fingerprint, path, counters, &st, err)) return -1;
    int r = counters[1] != counters[0] ? tn_fail(err, TN_EINPUT, "%s: impossible counters", path)
                                       : nn_word_init(&w, t->word.rows, t->word.dim, err);
    if (r) {
        tn_st_close(st);
        return -1;
    }
    r = read_rows(t, st, path, "vectors", w.v, err) || read_rows(t, st, path, "first_moment", w.m, err) ||
        read_rows(t, st, path, "second_moment", w.s, err) || read_losses(t, st, path, counters[0], &losses, err);
    if (!r) {
        memcpy(t->word.v, w.v, 3 * (size_t)(w.rows * w.dim) * sizeof(float)); /* v, m, s lie one after the other */
        t->steps_done = counters[0], t->word.updates = counters[1];
        nn_dvar_free(&t->eval.losses);
        t->eval.losses = losses;
    } else {
        nn_dvar_free(&losses);
    }
    nn_word_free(&w);
    tn_st_close(st);
    return r ? -1 : 0;
}
