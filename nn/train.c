#include "nn/train.h"

#include "nn/image/preprocess.h"
#include "nn/pipeline.h"
#include "tensor/io/bytes.h"
#include "tensor/io/sha256.h"
#include "tensor/io/sys.h"
#include "tensor/rng.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nn_train {
    nn_model *model;
    const nn_train_config *cfg;
    tn_conv_form conv; /* enters the bits as the settings do */
    nn_schedule schedule;
    nn_word word;
    int64_t steps_done;
    int64_t L;             /* tokens of a sentence */
    int nsentences;
    int64_t *sentences;    /* [nsentences, L] ids */
    int npictures;
    int64_t channels, side; /* of a latent */
    float *moments;        /* [npictures, 2 (as is, mirrored), 2*C*side*side] */
    char data_hash[65];    /* of sentences and moments: what else the result depends on */
    int64_t *order, epoch; /* the pictures' order in this epoch */
    /* one batch */
    int64_t *ids, *timesteps;
    float *latents, *noise;
    nn_text_cache *texts; /* the sentences before the word */
};

static int64_t latent_size(const nn_train *t) { return t->channels * t->side * t->side; }

void nn_train_free(nn_train *t) {
    if (!t) return;
    nn_schedule_free(&t->schedule);
    nn_word_free(&t->word);
    nn_text_cache_free(t->texts);
    free(t->sentences), free(t->moments), free(t->order), free(t->ids), free(t->timesteps), free(t->latents),
        free(t->noise);
    free(t);
}

/* ---- the initial vectors ---- */

/* One row of the text encoder's table. */
static void table_row(const nn_text_model *m, const tn_kernels *k, int64_t id, float *out) {
    const char *row = (const char *)m->token.data + (size_t)(id * m->cfg.t.width) * tn_dtype_size(m->token.dtype);
    k->widen(m->cfg.t.width, row, m->token.dtype, out);
}

/* Normal noise with the standard deviation of the vocabulary's entries: what a word looks like when nothing is known
 * of it. */
static void random_rows(const nn_text_model *m, const tn_kernels *k, uint64_t seed, int64_t rows, float *out,
                        float *row) {
    int64_t V = m->token.shape[0], C = m->cfg.t.width;
    double sum = 0.0;
    for (int64_t i = 0; i < V; i++) {
        table_row(m, k, i, row);
        for (int64_t j = 0; j < C; j++) sum += (double)row[j] * (double)row[j];
    }
    float spread = (float)sqrt(sum / (double)(V * C));
    tn_rng g;
    tn_rng_seed(&g, seed);
    tn_rng_randn(&g, out, (size_t)(rows * C));
    for (int64_t i = 0; i < rows * C; i++) out[i] *= spread;
}

/* The initialiser's n tokens are spread over the V vectors: vector i starts as token i*n/V (A1111's rule; with one
 * token all vectors start equal, as in diffusers). */
static int initial_rows(nn_train *t, const tn_kernels *k, int placeholder, float *out, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    const nn_text_model *m = t->model->text;
    const char *text = cfg->initializer[placeholder];
    int64_t V = cfg->num_vectors, C = m->cfg.t.width;
    if (!text) {
        random_rows(m, k, cfg->seed + (uint64_t)placeholder, V, out, t->word.grad);
        return 0;
    }
    nn_tokens tokens;
    if (nn_tokenizer_encode(t->model->tokenizer, text, strlen(text), cfg->rules, nn_prompt_length(t->model), &tokens,
                            err))
        return -1;
    int64_t n = tokens.n_real - 2;
    int r = 0;
    if (n < 1) r = tn_fail(err, TN_EUSAGE, "initializer token \"%s\" is empty", text);
    else if (n > V && V > 1)
        r = tn_fail(err, TN_EUSAGE,
                    "initializer \"%s\" has %" PRId64 " tokens for %" PRId64 " vectors (give --num-vectors %" PRId64
                    " or a shorter one)",
                    text, n, V, n);
    else if (n > 1 && V == 1)
        r = tn_fail(err, TN_EUSAGE,
                    "initializer \"%s\" is %" PRId64
                    " tokens, expected one (choose a word the model knows, or --num-vectors %" PRId64 ")",
                    text, n, n);
    for (int64_t i = 0; !r && i < V; i++) {
        int64_t id = tokens.ids[1 + i * n / V];
        if (id >= m->token.shape[0]) r = tn_fail(err, TN_EUSAGE, "initializer \"%s\" is a placeholder itself", text);
        else table_row(m, k, id, out + i * C);
    }
    nn_tokens_free(&tokens);
    return r;
}

static int prepare_word(nn_train *t, const tn_kernels *k, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    const nn_text_model *m = t->model->text;
    if (nn_word_init(&t->word, cfg->num_vectors * cfg->nplaceholders, m->cfg.t.width, err)) return -1;
    for (int i = 0; i < cfg->nplaceholders; i++) { /* before they are added: an initialiser is not one of them */
        if (initial_rows(t, k, i, t->word.v + i * cfg->num_vectors * t->word.dim, err)) return -1;
    }
    memcpy(t->word.initial, t->word.v, (size_t)(t->word.rows * t->word.dim) * sizeof(float));
    for (int i = 0; i < cfg->nplaceholders; i++) {
        int32_t first;
        if (nn_tokenizer_add(t->model->tokenizer, cfg->placeholder[i], (int)cfg->num_vectors, &first, err)) return -1;
    }
    return 0;
}

/* ---- sentences ---- */

/* "{}" becomes all placeholders in order; a sentence without "{}" is taken as it is (it may name them itself). */
static char *fill_template(const nn_train_config *cfg, const char *line) {
    char names[2000] = "";
    size_t used = 0;
    for (int i = 0; i < cfg->nplaceholders; i++) {
        int n = snprintf(names + used, sizeof names - used, i ? " %s" : "%s", cfg->placeholder[i]);
        if (n < 0 || (size_t)n >= sizeof names - used) return NULL;
        used += (size_t)n;
    }
    size_t cap = strlen(line) * (used + 1) + 1;
    char *out = malloc(cap), *o = out;
    for (const char *p = line; out && *p;) {
        if (p[0] == '{' && p[1] == '}') memcpy(o, names, used), o += used, p += 2;
        else *o++ = *p++;
    }
    if (out) *o = '\0';
    return out;
}

static int encode_sentence(nn_train *t, const char *line, int64_t *ids, tn_err *err) {
    char *text = fill_template(t->cfg, line);
    if (!text) return tn_fail(err, TN_ENOMEM, "out of memory for the sentences");
    int r = nn_prompt_ids(t->model, text, t->cfg->rules, ids, err);
    bool learned = false;
    for (int64_t i = 0; !r && i < t->L; i++) learned = learned || ids[i] >= t->model->text->cfg.vocab;
    if (!r && !learned) r = tn_fail(err, TN_EUSAGE, "the sentence \"%s\" does not contain the placeholder", text);
    free(text);
    return r;
}

static int prepare_sentences(nn_train *t, const nn_templates *templates, tn_err *err) {
    t->L = nn_prompt_length(t->model);
    t->nsentences = templates->n;
    t->sentences = malloc((size_t)(t->nsentences * t->L) * sizeof *t->sentences);
    if (!t->sentences) return tn_fail(err, TN_ENOMEM, "out of memory for the sentences");
    for (int i = 0; i < t->nsentences; i++) {
        if (encode_sentence(t, templates->line[i], t->sentences + i * t->L, err)) return -1;
    }
    return 0;
}

/* ---- pictures ---- */

/* Moments of a picture and of its mirror image: the encoder is not equivariant, so both are kept. */
static int encode_picture(nn_train *t, tn_ctx *c, const nn_image *in, float *moments, tn_err *err) {
    int64_t S = t->cfg->resolution;
    float *pixels = malloc((size_t)(3 * S * S) * sizeof *pixels);
    int r = pixels ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a picture");
    for (int mirrored = 0; !r && mirrored < 2; mirrored++) {
        nn_image square;
        if ((r = nn_training_picture(in, S, NN_BICUBIC, t->cfg->center_crop, mirrored, &square, err))) break;
        nn_image_to_signed(&square, pixels);
        nn_image_free(&square);
        r = nn_encode_image(c, t->model->vae, pixels, 1, S, S, moments + mirrored * 2 * latent_size(t), err);
    }
    free(pixels);
    return r;
}

static int prepare_moments(nn_train *t, int n, tn_err *err) {
    int64_t factor = nn_vae_factor(t->model->vae);
    if (t->cfg->resolution % factor) {
        return tn_fail(err, TN_EUSAGE, "resolution %" PRId64 " is not a multiple of %" PRId64 " (nearest: %" PRId64 ")",
                       t->cfg->resolution, factor, (t->cfg->resolution + factor / 2) / factor * factor);
    }
    t->channels = nn_vae_cfg(t->model->vae)->latent_channels, t->side = t->cfg->resolution / factor, t->npictures = n;
    t->moments = calloc((size_t)n * 4 * (size_t)latent_size(t), sizeof *t->moments);
    if (!t->moments) return tn_fail(err, TN_ENOMEM, "out of memory for the latents of %d pictures", n);
    return 0;
}

/* ---- opening ---- */

static int prepare_batch(nn_train *t, tn_err *err) {
    size_t B = (size_t)t->cfg->batch, n = (size_t)latent_size(t);
    t->ids = malloc(B * (size_t)t->L * sizeof *t->ids), t->timesteps = malloc(B * sizeof *t->timesteps);
    t->latents = malloc(B * n * sizeof *t->latents), t->noise = malloc(B * n * sizeof *t->noise);
    t->order = malloc((size_t)t->npictures * sizeof *t->order), t->epoch = -1;
    if (!t->order || !t->ids || !t->timesteps || !t->latents || !t->noise)
        return tn_fail(err, TN_ENOMEM, "out of memory for a batch");
    return 0;
}

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

static void hash_data(nn_train *t) {
    tn_sha256 h;
    tn_sha256_init(&h);
    for (int64_t i = 0; i < t->nsentences * t->L; i++) hash_words(&h, &(int32_t){(int32_t)t->sentences[i]}, 1);
    hash_words(&h, t->moments, (size_t)(t->npictures * 4 * latent_size(t)));
    hash_words(&h, t->word.initial, (size_t)(t->word.rows * t->word.dim));
    tn_sha256_hex(&h, t->data_hash);
}

int nn_train_encode(nn_train *t, tn_ctx *c, const nn_image *pictures, void (*progress)(void *, int, int), void *arg,
                    tn_err *err) {
    for (int i = 0; i < t->npictures; i++) {
        if (encode_picture(t, c, &pictures[i], t->moments + (int64_t)i * 4 * latent_size(t), err)) return -1;
        if (progress) progress(arg, i + 1, t->npictures);
    }
    if (!nn_all_finite(t->moments, t->npictures * 4 * latent_size(t)))
        return tn_fail(err, TN_ENUMERIC, "the encoder gave numbers that are not finite");
    hash_data(t);
    return 0;
}

int nn_train_open(tn_ctx *c, nn_model *m, const nn_train_config *cfg, const nn_templates *templates,
                  const nn_image *pictures, int npictures, void (*progress)(void *, int, int), void *arg,
                  nn_train **out, tn_err *err) {
    nn_train *t = calloc(1, sizeof *t);
    if (!t) return tn_fail(err, TN_ENOMEM, "out of memory");
    t->model = m, t->cfg = cfg, t->conv = c->conv, t->texts = nn_text_cache_new();
    int words = nn_tokenizer_get_facts(m->tokenizer).size;
    if (nn_schedule_init(&t->schedule, &m->schedule, err) || prepare_word(t, c->k, err) ||
        prepare_sentences(t, templates, err) || prepare_moments(t, npictures, err) || prepare_batch(t, err) ||
        (pictures && nn_train_encode(t, c, pictures, progress, arg, err))) {
        nn_train_free(t);
        nn_tokenizer_take_back(m->tokenizer, words);
        return -1;
    }
    *out = t;
    return 0;
}

/* ---- steps ---- */

/* A seed of its own for each micro-step and purpose: splitmix64 (Steele et al. 2014), folded to the 32 bits the
 * generator takes. */
static uint64_t mix(uint64_t seed, uint64_t purpose, uint64_t index) {
    uint64_t z = seed + 0x9e3779b97f4a7c15u * (2 * index + purpose + 1);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (z ^ z >> 32) & 0xffffffffu;
}

/* Which picture the k-th draw shows: a new random order of all pictures each epoch. */
static int64_t picture_of(nn_train *t, int64_t draw) {
    int64_t epoch = draw / t->npictures;
    if (epoch != t->epoch) {
        tn_rng g;
        tn_rng_seed(&g, mix(t->cfg->seed, 1, (uint64_t)epoch));
        tn_rng_randperm(&g, t->order, t->npictures);
        t->epoch = epoch;
    }
    return t->order[draw % t->npictures];
}

/* Draws of one sample, in this order: mirror, sentence, posterior noise, noise, timestep. */
static void draw_batch(nn_train *t, const tn_kernels *k, int64_t micro) {
    const nn_train_config *cfg = t->cfg;
    int64_t n = latent_size(t);
    tn_rng g;
    tn_rng_seed(&g, mix(cfg->seed, 0, (uint64_t)micro));
    for (int64_t b = 0; b < cfg->batch; b++) {
        float coin, *noise = t->noise + b * n;
        tn_rng_rand(&g, &coin, 1);
        int64_t sentence = tn_rng_randint(&g, t->nsentences), picture = picture_of(t, micro * cfg->batch + b);
        const float *moments = t->moments + (picture * 2 + (cfg->flip && coin < 0.5f)) * 2 * n;
        tn_rng_randn(&g, noise, (size_t)n);
        nn_sample_posterior(t->model->vae, k, moments, cfg->posterior_mean ? NULL : noise, t->latents + b * n, n);
        tn_rng_randn(&g, noise, (size_t)n);
        t->timesteps[b] = tn_rng_randint(&g, t->schedule.config.num_train_timesteps);
        memcpy(t->ids + b * t->L, t->sentences + sentence * t->L, (size_t)t->L * sizeof *t->ids);
    }
}

static nn_inversion_batch batch_of(const nn_train *t) {
    nn_inversion_batch b = {t->cfg->batch, t->L, t->side, t->side, t->ids, t->latents, t->noise, t->timesteps, t->texts};
    return b;
}

int nn_train_advance(nn_train *t, tn_ctx *c, nn_train_step *out, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    nn_inversion_batch b = batch_of(t);
    double sum = 0.0, loss;
    for (int64_t i = 0; i < cfg->accumulate; i++) {
        draw_batch(t, c->k, t->steps_done * cfg->accumulate + i);
        if (nn_inversion_gradient(c, t->model, &t->schedule, &t->word, &b, 1.0f / (float)cfg->accumulate, i == 0, &loss,
                                  err)) {
            return tn_fail_in(err, "step %" PRId64, t->steps_done + 1);
        }
        sum += loss;
    }
    out->loss = sum / (double)cfg->accumulate;
    out->reg = cfg->reg_weight > 0.0 ? nn_inversion_regularise(&t->word, cfg->reg_kind, cfg->reg_weight) : 0.0;
    out->grad_norm = nn_inversion_clip(&t->word, cfg->clip_norm, cfg->clip_value);
    out->lr = nn_lr_at(&cfg->lr, t->steps_done);
    nn_inversion_update(c, &t->word, &cfg->adam, out->lr);
    out->step = ++t->steps_done;
    if (!nn_all_finite(t->word.v, t->word.rows * t->word.dim)) {
        return tn_fail(err, TN_ENUMERIC, "step %" PRId64 ": the learned vector is not finite (lower --learning-rate)",
                       t->steps_done);
    }
    return 0;
}

int64_t nn_train_steps_done(const nn_train *t) { return t->steps_done; }
nn_word *nn_train_word(nn_train *t) { return &t->word; }
const float *nn_train_vectors(const nn_train *t, int i) { return t->word.v + i * t->cfg->num_vectors * t->word.dim; }

/* ---- memory ---- */

static int dry_encoder(tn_ctx *c, void *arg, tn_err *err) {
    const nn_train *t = arg;
    int64_t S = t->cfg->resolution;
    return nn_encode_image(c, t->model->vae, (float[]){0.0f}, 1, S, S, NULL, err);
}

int nn_train_measure_encoder(const nn_train *t, const tn_ctx *like, nn_need *out, tn_err *err) {
    return nn_measure(like, t->model, dry_encoder, (void *)(uintptr_t)t, out, err);
}

/* Tokens before the first learned one. */
static int64_t words_before(const nn_train *t, const int64_t *sentence) {
    int64_t n = 0;
    while (n < t->L && sentence[n] < t->model->text->cfg.vocab) n++;
    return n;
}

/* The sentence that takes the most: what comes before the word is done once, what comes after it in every step. */
static const int64_t *earliest_word(const nn_train *t) {
    const int64_t *found = t->sentences;
    for (int i = 1; i < t->nsentences; i++) {
        const int64_t *s = t->sentences + i * t->L;
        if (words_before(t, s) < words_before(t, found)) found = s;
    }
    return found;
}

static int dry_step(tn_ctx *c, void *arg, tn_err *err) {
    const nn_train *t = arg;
    nn_inversion_batch b = batch_of(t);
    double loss;
    const int64_t *sentence = earliest_word(t);
    for (int64_t i = 0; i < b.B; i++) memcpy(t->ids + i * t->L, sentence, (size_t)t->L * sizeof *t->ids);
    return nn_inversion_gradient(c, t->model, &t->schedule, (nn_word *)(uintptr_t)&t->word, &b, 1.0f, true, &loss, err);
}

int nn_train_measure(const nn_train *t, const tn_ctx *like, int64_t checkpoint, nn_need *out, tn_err *err) {
    tn_ctx c = *like;
    c.checkpoint = checkpoint;
    return nn_measure(&c, t->model, dry_step, (void *)(uintptr_t)t, out, err);
}

size_t nn_train_kept(const nn_train *t) { return nn_text_cache_bytes(t->model->text, t->sentences, t->nsentences, t->L); }

int nn_train_probe(nn_train *t, tn_ctx *c, double *seconds, tn_err *err) {
    nn_inversion_batch b = batch_of(t);
    double start = tn_clock(), loss;
    draw_batch(t, c->k, 0);
    int r = nn_inversion_gradient(c, t->model, &t->schedule, &t->word, &b, 1.0f, true, &loss, err);
    *seconds = tn_clock() - start;
    return r;
}

/* ---- checkpoints ---- */

/* Everything that a later step depends on, as text: two runs may continue each other only if it is the same. The number
 * of steps is not part of it where the learning rate does not depend on it, so that a finished run can be made
 * longer. */
static int describe(const nn_train *t, char *out, size_t cap) {
    const nn_train_config *c = t->cfg;
    int n = snprintf(out, cap,
                     "seed=%" PRIu64 " batch=%" PRId64 " accumulate=%" PRId64 " vectors=%" PRId64
                     " placeholders=%d resolution=%" PRId64
                     " flip=%d posterior_mean=%d conv=%d adam=%a,%a,%a,%a clip=%a,%a reg=%a,%d lr=%d,%a,%" PRId64 ",%" PRId64,
                     c->seed, c->batch, c->accumulate, c->num_vectors, c->nplaceholders, c->resolution, c->flip,
                     c->posterior_mean, (int)t->conv, c->adam.beta1, c->adam.beta2, c->adam.eps, c->adam.weight_decay, c->clip_norm,
                     c->clip_value, c->reg_weight, (int)c->reg_kind, (int)c->lr.kind, c->lr.base, c->lr.warmup,
                     c->lr.kind == NN_LR_LINEAR || c->lr.kind == NN_LR_COSINE ? c->lr.total : 0);
    for (int i = 0; i < c->lr.pieces && n > 0 && (size_t)n < cap; i++) {
        n += snprintf(out + n, cap - (size_t)n, " %a:%" PRId64, c->lr.rate[i], c->lr.until[i]);
    }
    return n > 0 && (size_t)n < cap ? 0 : -1;
}

int nn_train_save(const nn_train *t, const char *fingerprint, const char *path, tn_err *err) {
    char settings[2000];
    if (describe(t, settings, sizeof settings)) return tn_fail(err, TN_EINTERNAL, "the settings do not fit");
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    int64_t shape[] = {t->word.rows, t->word.dim}, counters[] = {t->steps_done, t->word.updates}, two = 2;
    tn_st_add_meta(w, "format", "oneword-checkpoint-1");
    tn_st_add_meta(w, "model", fingerprint);
    tn_st_add_meta(w, "data", t->data_hash);
    tn_st_add_meta(w, "settings", settings);
    tn_st_add(w, "vectors", TN_ST_F32, 2, shape, t->word.v);
    tn_st_add(w, "first_moment", TN_ST_F32, 2, shape, t->word.m);
    tn_st_add(w, "second_moment", TN_ST_F32, 2, shape, t->word.s);
    tn_st_add(w, "counters", TN_ST_I64, 1, &two, counters);
    int r = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    return r;
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

static int read_rows(const nn_train *t, const tn_st *st, const char *path, const char *name, float *out, tn_err *err) {
    const tn_st_tensor *x = tn_st_find(st, name);
    if (!x || x->dtype != TN_ST_F32 || x->ndim != 2 || x->shape[0] != t->word.rows || x->shape[1] != t->word.dim) {
        return tn_fail(err, TN_EINPUT, "%s: tensor %s is missing or misshapen", path, name);
    }
    return tn_st_read_f32(x, out, err);
}

int nn_train_load(nn_train *t, const char *fingerprint, const char *path, tn_err *err) {
    char settings[2000];
    if (describe(t, settings, sizeof settings)) return tn_fail(err, TN_EINTERNAL, "the settings do not fit");
    tn_st *st;
    if (tn_st_open(path, TN_MAP_COPY, &st, err)) return -1;
    nn_word w;
    int64_t counters[2];
    int r = nn_word_init(&w, t->word.rows, t->word.dim, err);
    const tn_st_tensor *x = tn_st_find(st, "counters");
    if (!r && (!x || x->dtype != TN_ST_I64 || x->count != 2)) r = tn_fail(err, TN_EINPUT, "%s: not a checkpoint", path);
    if (!r) {
        r = check_meta(st, path, "format", "oneword-checkpoint-1", "a checkpoint of another version", err) ||
            check_meta(st, path, "settings", settings, "made with other settings", err) ||
            check_meta(st, path, "model", fingerprint, "made with another model", err) ||
            check_meta(st, path, "data", t->data_hash, "made with other pictures, sentences or initial vectors", err) ||
            read_rows(t, st, path, "vectors", w.v, err) || read_rows(t, st, path, "first_moment", w.m, err) ||
            read_rows(t, st, path, "second_moment", w.s, err) || tn_st_read_i64(x, counters, err);
    }
    if (!r && (counters[0] < 0 || counters[1] != counters[0]))
        r = tn_fail(err, TN_EINPUT, "%s: impossible counters", path);
    if (!r) {
        memcpy(t->word.v, w.v, 3 * (size_t)(w.rows * w.dim) * sizeof(float)); /* v, m, s lie one after the other */
        t->steps_done = counters[0], t->word.updates = counters[1];
    }
    nn_word_free(&w);
    tn_st_close(st);
    return r ? -1 : 0;
}
