#include "nn/encoder.h"

#include "nn/inversion.h"
#include "tensor/rng.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float SCALE = 0.1f; /* s */

/* ---- weights ---- */

static int64_t inputs_of(const nn_encoder *e, int layer) { return layer == 0 ? e->features + e->width : e->hidden; }
static int64_t outputs_of(const nn_encoder *e, int layer) {
    return layer == NN_ENCODER_LAYERS - 1 ? e->width : e->hidden;
}

void nn_encoder_free(nn_encoder *e) {
    free(e->memory);
    *e = (nn_encoder){0};
}

/* The parameters as leaves that learn, each with its place in memory. */
static int lay_out(nn_encoder *e, tn_err *err) {
    e->count = 0;
    for (int i = 0; i < NN_ENCODER_LAYERS; i++) e->count += (inputs_of(e, i) + 1) * outputs_of(e, i);
    e->memory = calloc((size_t)e->count, 4 * sizeof *e->memory);
    if (!e->memory) return tn_fail(err, TN_ENOMEM, "out of memory for an encoder");
    float *at = e->memory;
    for (int i = 0; i < NN_ENCODER_LAYERS; i++) {
        int64_t in = inputs_of(e, i), out = outputs_of(e, i);
        e->w[i] = (tn_tensor){.ndim = 2, .shape = {out, in}, .data = at, .grad = at + e->count, .need = true};
        at += in * out;
        e->b[i] = (tn_tensor){.ndim = 1, .shape = {out}, .data = at, .grad = at + e->count, .need = true};
        at += out;
    }
    return 0;
}

/* Uniform with variance 1 / inputs (nn/init.h), and zeros in the last layer. */
int nn_encoder_new(int64_t features, int64_t width, int64_t hidden, uint64_t seed, nn_encoder *e, tn_err *err) {
    *e = (nn_encoder){.features = features, .width = width, .hidden = hidden};
    if (lay_out(e, err)) return -1;
    tn_rng g;
    tn_rng_seed(&g, seed);
    for (int i = 0; i < NN_ENCODER_LAYERS - 1; i++) {
        int64_t n = tn_numel(&e->w[i]);
        float *w = e->w[i].data, range = (float)sqrt(3.0 / (double)inputs_of(e, i));
        tn_rng_rand(&g, w, (size_t)n);
        for (int64_t k = 0; k < n; k++) w[k] = (2.0f * w[k] - 1.0f) * range;
    }
    return 0;
}

/* ---- the network ---- */

/* x [B, features + width] -> f [B, width] */
static tn_tensor *forward(tn_ctx *c, const nn_encoder *e, tn_tensor *x) {
    for (int i = 0; i < NN_ENCODER_LAYERS; i++) {
        x = tn_linear(c, x, nn_w(&e->w[i]), nn_w(&e->b[i]));
        if (i < NN_ENCODER_LAYERS - 1) x = tn_silu(c, x);
    }
    return x;
}

/* Numbers of size about 1: a vector's direction, times the root of its width. */
static void put_direction(const double *v, int64_t n, float *out) {
    double squares = 1e-30;
    for (int64_t i = 0; i < n; i++) squares += v[i] * v[i];
    double f = sqrt((double)n / squares);
    for (int64_t i = 0; i < n; i++) out[i] = (float)(v[i] * f);
}

/* One row of x: the mean of the pictures with use[i], and the kind. `sum` has room for either. */
static void put_input(const nn_encoder *e, const float *pictures, int64_t n, const bool *use, const float *kind,
                      double *sum, float *x) {
    memset(sum, 0, (size_t)e->features * sizeof *sum);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; (!use || use[i]) && k < e->features; k++) sum[k] += (double)pictures[i * e->features + k];
    }
    put_direction(sum, e->features, x);
    for (int64_t k = 0; k < e->width; k++) sum[k] = (double)kind[k];
    put_direction(sum, e->width, x + e->features);
}

static size_t sum_size(const nn_encoder *e) {
    return (size_t)(e->features > e->width ? e->features : e->width) * sizeof(double);
}

int nn_encoder_apply(tn_ctx *c, const nn_encoder *e, const float *pictures, int64_t n, const float *kind, float *word,
                     tn_err *err) {
    int64_t shape[] = {1, e->features + e->width};
    double *sum = malloc(sum_size(e));
    if (!sum) return tn_fail(err, TN_ENOMEM, "out of memory");
    if (tn_ctx_begin(c, false, err)) {
        free(sum);
        return -1;
    }
    tn_tensor *x = tn_new(c, TN_F32, 2, shape);
    if (tn_live(c)) put_input(e, pictures, n, NULL, kind, sum, tn_f32(x));
    free(sum);
    tn_tensor *f = forward(c, e, x);
    if (tn_ctx_status(c, err)) return -1;
    for (int64_t k = 0; k < e->width; k++) word[k] = kind[k] + SCALE * tn_f32(f)[k];
    return 0;
}

/* ---- learning ---- */

/* The samples of a step: a name and a picture each, and what the encoder is shown. */
typedef struct samples {
    int64_t *name, *picture;
    float *x; /* [batch, features + width] */
} samples;

static void free_samples(samples *s) { free(s->name), free(s->picture), free(s->x); }

static int draw_samples(const nn_encoder *e, const nn_lessons *l, const nn_encoder_config *cfg, tn_rng *g, samples *s,
                        tn_err *err) {
    size_t B = (size_t)cfg->batch;
    *s = (samples){malloc(B * sizeof *s->name), malloc(B * sizeof *s->picture),
                   malloc(B * (size_t)(e->features + e->width) * sizeof *s->x)};
    double *sum = malloc(sum_size(e));
    bool *use = malloc((size_t)l->each * sizeof *use);
    bool ok = s->name && s->picture && s->x && sum && use;
    for (int64_t b = 0; ok && b < cfg->batch; b++) {
        int64_t i = s->name[b] = tn_rng_randint(g, l->n), any = s->picture[b] = tn_rng_randint(g, l->each);
        for (int64_t k = 0; k < l->each; k++) use[k] = k == any || tn_rng_randint(g, 2);
        put_input(e, l->features + i * l->each * e->features, l->each, use, l->kind + i * e->width, sum,
                  s->x + b * (e->features + e->width));
    }
    free(sum), free(use);
    return ok ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a step of the encoder");
}

/* AdamW with the gradients at hand. */
static int update(tn_ctx *c, nn_encoder *e, const nn_encoder_config *cfg, double lr, tn_err *err) {
    float *grad = e->memory + e->count;
    for (int64_t i = 0; i < e->count; i++) {
        if (!isfinite(grad[i]))
            return tn_fail(err, TN_ENUMERIC, "the encoder's gradient is not finite (lower --learning-rate)");
    }
    tn_adamw(c, &cfg->adam, lr, ++e->updates, e->count, e->memory, grad, grad + e->count, grad + 2 * e->count);
    return 0;
}

static tn_tensor *begin(tn_ctx *c, nn_encoder *e, const nn_encoder_config *cfg, const samples *s) {
    for (int i = 0; i < NN_ENCODER_LAYERS; i++) e->w[i].grad_set = e->b[i].grad_set = false;
    return forward(c, e, tn_leaf(c, TN_F32, 2, (int64_t[]){cfg->batch, e->features + e->width}, s->x, false));
}

/* Loss: the mean over the numbers of |word - v|^2 / s^2 + closeness f^2. Its gradient to f, written out. */
int nn_encoder_study(tn_ctx *c, nn_encoder *e, const nn_lessons *l, const nn_encoder_config *cfg, double lr,
                     double *loss, tn_err *err) {
    samples s;
    tn_rng g;
    int64_t n = cfg->batch * e->width;
    tn_rng_seed(&g, cfg->seed + (uint64_t)e->updates);
    int r = draw_samples(e, l, cfg, &g, &s, err) || tn_ctx_begin(c, true, err);
    if (!r) {
        tn_tensor *f = begin(c, e, cfg, &s), *cotangent = tn_new(c, TN_F32, 2, f->shape);
        double sum = 0.0;
        for (int64_t i = 0; tn_live(c) && i < n; i++) {
            int64_t at = s.name[i / e->width] * e->width + i % e->width;
            double y = (double)tn_f32(f)[i], d = y - ((double)l->word[at] - (double)l->kind[at]) / (double)SCALE;
            sum += d * d + cfg->closeness * y * y;
            tn_f32(cotangent)[i] = (float)(2.0 * (d + cfg->closeness * y) / (double)n);
        }
        if (!(r = tn_ctx_status(c, err))) {
            tn_seed(c, f, tn_f32(cotangent));
            tn_backward(c);
            r = tn_ctx_status(c, err) || update(c, e, cfg, lr, err);
        }
        *loss = sum / (double)n;
    }
    free_samples(&s);
    return r ? -1 : 0;
}

/* One batch of the diffusion model: each sample has a sentence of its own word, which is row b of *word. */
typedef struct exercise {
    int64_t *ids, *timesteps;
    float *latents, *noise;
    nn_word word;
} exercise;

static void free_exercise(exercise *x) {
    free(x->ids), free(x->timesteps), free(x->latents), free(x->noise);
    nn_word_free(&x->word);
}

static int draw_exercise(const nn_encoder *e, const nn_lessons *l, const nn_encoder_config *cfg, const nn_practice *p,
                         const samples *s, tn_rng *g, exercise *x, tn_err *err) {
    int64_t B = cfg->batch, n = l->channels * l->side * l->side;
    *x = (exercise){malloc((size_t)(B * p->length) * sizeof *x->ids),
                    malloc((size_t)B * sizeof *x->timesteps),
                    malloc((size_t)(B * n) * sizeof *x->latents),
                    malloc((size_t)(B * n) * sizeof *x->noise),
                    {0}};
    if (!x->ids || !x->timesteps || !x->latents || !x->noise)
        return tn_fail(err, TN_ENOMEM, "out of memory for a step of the encoder");
    if (nn_word_init(&x->word, B, e->width, err)) return -1;
    for (int64_t b = 0; b < B; b++) {
        memcpy(x->ids + b * p->length, p->prompt, (size_t)p->length * sizeof *x->ids);
        x->ids[b * p->length + p->place] = p->model->text->cfg.vocab + b;
        memcpy(x->latents + b * n, l->latents + (s->name[b] * l->each + s->picture[b]) * n,
               (size_t)n * sizeof *x->latents);
        x->timesteps[b] = tn_rng_randint(g, p->schedule->config.num_train_timesteps);
    }
    tn_rng_randn(g, x->noise, (size_t)(B * n));
    return 0;
}

/* The gradient to a word is that to f divided by 1 / s; on top of it that of closeness. */
static int descend(tn_ctx *c, nn_encoder *e, const nn_lessons *l, const nn_encoder_config *cfg, const nn_practice *p,
                   const samples *s, exercise *x, double lr, double *loss, tn_err *err) {
    int64_t n = cfg->batch * e->width;
    nn_inversion_batch b = {cfg->batch, p->length, l->side, l->side, x->ids, x->latents, x->noise, x->timesteps, NULL};
    if (tn_ctx_begin(c, true, err)) return -1;
    tn_tensor *f = begin(c, e, cfg, s);
    if (tn_ctx_status(c, err)) return -1;
    for (int64_t i = 0; i < n; i++)
        x->word.v[i] = l->kind[s->name[i / e->width] * e->width + i % e->width] + SCALE * tn_f32(f)[i];
    if (nn_inversion_gradient(p->c, p->model, p->schedule, &x->word, &b, 1.0f, true, loss, err)) return -1;
    for (int64_t i = 0; i < n; i++) {
        double y = (double)tn_f32(f)[i], closeness = cfg->closeness * y / (double)n;
        x->word.grad[i] = (float)((double)SCALE * (double)x->word.grad[i] + 2.0 * closeness);
        *loss += closeness * y;
    }
    tn_seed(c, f, x->word.grad);
    tn_backward(c);
    return tn_ctx_status(c, err) || update(c, e, cfg, lr, err) ? -1 : 0;
}

int nn_encoder_practise(tn_ctx *c, nn_encoder *e, const nn_lessons *l, const nn_encoder_config *cfg,
                        const nn_practice *p, double lr, double *loss, tn_err *err) {
    samples s;
    exercise x = {0};
    tn_rng g;
    tn_rng_seed(&g, cfg->seed + (uint64_t)e->updates);
    int r = draw_samples(e, l, cfg, &g, &s, err) || draw_exercise(e, l, cfg, p, &s, &g, &x, err) ||
            descend(c, e, l, cfg, p, &s, &x, lr, loss, err);
    free_samples(&s);
    free_exercise(&x);
    return r ? -1 : 0;
}

/* ---- files ---- */

static const char *const names[] = {"layers.0.", "layers.1.", "layers.2."};
static const char FORMAT[] = "oneword-encoder-1";

int nn_encoder_save(const nn_encoder *e, const char *about, const char *path, tn_err *err) {
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    tn_st_add_meta(w, "format", FORMAT);
    tn_st_add_meta(w, "about", about);
    for (int i = 0; i < NN_ENCODER_LAYERS; i++) {
        char name[40];
        snprintf(name, sizeof name, "%sweight", names[i]);
        tn_st_add(w, name, TN_ST_F32, 2, e->w[i].shape, e->w[i].data);
        snprintf(name, sizeof name, "%sbias", names[i]);
        tn_st_add(w, name, TN_ST_F32, 1, e->b[i].shape, e->b[i].data);
    }
    int r = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    return r;
}

/* One tensor of the file into a parameter of the same shape. */
static int read_tensor(const tn_st *st, const char *path, const char *prefix, const char *what, tn_tensor *t,
                       tn_err *err) {
    char name[40];
    snprintf(name, sizeof name, "%s%s", prefix, what);
    const tn_st_tensor *x = tn_st_find(st, name);
    bool fits = x && x->dtype == TN_ST_F32 && x->ndim == t->ndim;
    for (int i = 0; fits && i < t->ndim; i++) fits = x->shape[i] == t->shape[i];
    if (!fits) return tn_fail(err, TN_EINPUT, "%s: tensor %s is missing or misshapen", path, name);
    if (tn_st_read_f32(x, t->data, err)) return -1;
    for (int64_t i = 0; i < tn_numel(t); i++) {
        if (!isfinite(tn_f32(t)[i])) return tn_fail(err, TN_EINPUT, "%s: tensor %s holds NaN or infinity", path, name);
    }
    return 0;
}

static int read_all(const tn_st *st, const char *path, nn_encoder *e, char **about, tn_err *err) {
    const char *format = tn_st_meta(st, "format"), *text = tn_st_meta(st, "about");
    const tn_st_tensor *first = tn_st_find(st, "layers.0.weight"), *last = tn_st_find(st, "layers.2.bias");
    if (!format || strcmp(format, FORMAT) != 0 || !text || !first || !last || first->ndim != 2 || last->ndim != 1)
        return tn_fail(err, TN_EINPUT, "%s: not an encoder's file (`oneword encoder train` makes one)", path);
    *e = (nn_encoder){.features = first->shape[1] - last->shape[0], .width = last->shape[0], .hidden = first->shape[0]};
    /* The other sizes follow, and are looked at one by one; a file of that many bytes bounds them. */
    if (e->features < 1 || e->width < 1 || e->hidden < 1 || e->hidden > INT32_MAX || first->shape[1] > INT32_MAX)
        return tn_fail(err, TN_EINPUT, "%s: tensor layers.0.weight is misshapen", path);
    const tn_st_tensor *middle = tn_st_find(st, "layers.1.weight");
    if (!middle || middle->count / e->hidden != e->hidden)
        return tn_fail(err, TN_EINPUT, "%s: tensor layers.1.weight is missing or misshapen", path);
    if (lay_out(e, err)) return -1;
    for (int i = 0; i < NN_ENCODER_LAYERS; i++) {
        if (read_tensor(st, path, names[i], "weight", &e->w[i], err) ||
            read_tensor(st, path, names[i], "bias", &e->b[i], err))
            return -1;
    }
    size_t n = strlen(text) + 1;
    if (!(*about = malloc(n))) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    memcpy(*about, text, n);
    return 0;
}

int nn_encoder_load(const char *path, nn_encoder *e, char **about, tn_err *err) {
    tn_st *st;
    if (tn_st_open(path, TN_MAP_COPY, &st, err)) return -1;
    *e = (nn_encoder){0};
    int r = read_all(st, path, e, about, err);
    tn_st_close(st);
    if (r) nn_encoder_free(e);
    return r;
}
