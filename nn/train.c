#include "nn/train_impl.h"

#include "tensor/io/sys.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void nn_train_free(nn_train *t) {
    if (!t) return;
    nn_schedule_free(&t->schedule);
    nn_word_free(&t->word);
    nn_text_cache_free(t->texts);
    for (int i = 0; t->image_token && i < t->npictures; i++) free(t->image_token[i]);
    free(t->image_token), free(t->sentences), free(t->moments), free(t->order), free(t->ids), free(t->timesteps);
    free(t->latents), free(t->noise), free(t->eval.ids), free(t->eval.latents), free(t->eval.noise);
    nn_dvar_free(&t->eval.losses);
    free(t);
}

/* ---- opening ---- */

/* What excludes what; ranges are the caller's. */
static int check(const nn_train_config *cfg, int npictures, int positions, tn_err *err) {
    if (cfg->num_vectors > positions - 2) {
        return tn_fail(err, TN_EUSAGE, "%" PRId64 " vectors do not fit into a sentence of %d tokens (at most %d)",
                       cfg->num_vectors, positions, positions - 2);
    }
    if (cfg->nswitches >= cfg->num_vectors) {
        return tn_fail(err, TN_EUSAGE, "%d vectors to be added, but only %" PRId64 " in all", cfg->nswitches,
                       cfg->num_vectors);
    }
    for (int i = 0; i < cfg->nswitches; i++) {
        if (cfg->switch_at[i] <= (i ? cfg->switch_at[i - 1] : 0))
            return tn_fail(err, TN_EUSAGE, "the steps at which vectors are added must rise, from 1 on");
    }
    if (cfg->compose_from == 0) return 0;
    if (cfg->nplaceholders != 2 || cfg->compose_from < 1 || cfg->compose_from >= npictures)
        return tn_fail(err, TN_EUSAGE, "two concepts take two placeholders and pictures of both");
    if (cfg->captions || cfg->per_image_share > 0.0)
        return tn_fail(err, TN_EUSAGE, "two concepts exclude captions and per-image tokens");
    if (cfg->compose_share > 0.0 && cfg->compose_pictures < 1)
        return tn_fail(err, TN_EUSAGE, "a share of composed pictures, but none are made");
    return 0;
}

static int prepare_batch(nn_train *t, tn_err *err) {
    size_t B = (size_t)t->cfg->batch, n = (size_t)nn_train_latent(t), L = (size_t)t->L;
    t->ids = malloc(B * L * sizeof *t->ids), t->timesteps = malloc(B * sizeof *t->timesteps);
    t->latents = malloc(B * n * sizeof *t->latents), t->noise = malloc(B * n * sizeof *t->noise);
    t->order = malloc((size_t)t->npictures * sizeof *t->order), t->epoch = -1;
    if (!t->order || !t->ids || !t->timesteps || !t->latents || !t->noise)
        return tn_fail(err, TN_ENOMEM, "out of memory for a batch");
    if (!t->cfg->stop_window) return 0;
    t->eval.ids = calloc(NN_EVAL_BATCH * L, sizeof *t->eval.ids);
    t->eval.latents = calloc(NN_EVAL_BATCH * n, sizeof(float)),
    t->eval.noise = calloc(NN_EVAL_BATCH * n, sizeof(float));
    if (!t->eval.ids || !t->eval.latents || !t->eval.noise)
        return tn_fail(err, TN_ENOMEM, "out of memory for the fixed batch");
    return 0;
}

int nn_train_open(tn_ctx *c, nn_model *m, const nn_train_config *cfg, const nn_templates *templates,
                  const nn_image *pictures, int npictures, void (*progress)(void *, int, int), void *arg,
                  nn_train **out, tn_err *err) {
    if (check(cfg, npictures, nn_prompt_length(m), err)) return -1;
    nn_train *t = calloc(1, sizeof *t);
    if (!t) return tn_fail(err, TN_ENOMEM, "out of memory");
    t->model = m, t->cfg = cfg, t->conv = c->conv, t->texts = nn_text_cache_new();
    t->npictures = npictures, t->ncomposed = cfg->compose_share > 0.0 ? cfg->compose_pictures : 0;
    int words = nn_tokenizer_get_facts(m->tokenizer).size;
    if (nn_schedule_init(&t->schedule, &m->schedule, err) || nn_train_prepare_word(t, c->k, err) ||
        nn_train_prepare_sentences(t, templates, err) || nn_train_prepare_moments(t, err) || prepare_batch(t, err) ||
        (pictures && nn_train_encode(t, c, pictures, progress, arg, err))) {
        nn_train_free(t);
        nn_tokenizer_take_back(m->tokenizer, words);
        return -1;
    }
    *out = t;
    return 0;
}

/* ---- steps ---- */

/* splitmix64 (Steele et al. 2014), folded to the 32 bits the generator takes. Two purposes share a sequence, as its
 * even and odd numbers; each pair of purposes has its own. */
uint64_t nn_train_seed(uint64_t seed, nn_draw purpose, uint64_t index) {
    uint64_t pair = (uint64_t)purpose / 2, odd = (uint64_t)purpose % 2;
    uint64_t z = seed + 0x5851f42d4c957f2du * pair + 0x9e3779b97f4a7c15u * (2 * index + odd + 1);
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
        tn_rng_seed(&g, nn_train_seed(t->cfg->seed, NN_DRAW_ORDER, (uint64_t)epoch));
        tn_rng_randperm(&g, t->order, t->npictures);
        t->epoch = epoch;
    }
    return t->order[draw % t->npictures];
}

/* What the setups make of the k-th draw, from a generator of their own, so that a plain run's draws stay what they are:
 * a composed picture in place of *picture; whether the sentence names the picture's own token. */
static bool vary(const nn_train *t, int64_t draw, int64_t *picture) {
    const nn_train_config *cfg = t->cfg;
    if (!t->ncomposed && !t->image_token) return false;
    tn_rng g;
    float coin;
    tn_rng_seed(&g, nn_train_seed(cfg->seed, NN_DRAW_SETUP, (uint64_t)draw));
    tn_rng_rand(&g, &coin, 1);
    if (t->ncomposed && (double)coin < cfg->compose_share) *picture = t->npictures + tn_rng_randint(&g, t->ncomposed);
    return t->image_token && (double)coin < cfg->per_image_share;
}

nn_inversion_batch nn_train_batch(const nn_train *t) {
    nn_inversion_batch b = {t->cfg->batch, t->L,     t->side,      t->side, t->ids,
                            t->latents,    t->noise, t->timesteps, t->texts};
    return b;
}

/* Draws of one sample, in this order: mirror, sentence, posterior noise, noise, timestep. */
nn_inversion_batch nn_train_draw(nn_train *t, const tn_kernels *k, int64_t micro) {
    const nn_train_config *cfg = t->cfg;
    int64_t n = nn_train_latent(t);
    int stage = nn_train_stage(t, t->steps_done);
    tn_rng g;
    tn_rng_seed(&g, nn_train_seed(cfg->seed, NN_DRAW_BATCH, (uint64_t)micro));
    for (int64_t b = 0; b < cfg->batch; b++) {
        float coin, *noise = t->noise + b * n;
        int64_t draw = micro * cfg->batch + b, picture = picture_of(t, draw);
        bool dual = vary(t, draw, &picture);
        int among, first = nn_train_group(t, picture, &among);
        tn_rng_rand(&g, &coin, 1);
        int64_t sentence = first + tn_rng_randint(&g, among) + (dual ? t->nbase : 0);
        const float *moments = t->moments + (picture * 2 + (cfg->flip && coin < 0.5f)) * 2 * n;
        tn_rng_randn(&g, noise, (size_t)n);
        nn_sample_posterior(t->model->vae, k, moments, cfg->posterior_mean ? NULL : noise, t->latents + b * n, n);
        tn_rng_randn(&g, noise, (size_t)n);
        t->timesteps[b] = tn_rng_randint(&g, t->schedule.config.num_train_timesteps);
        nn_train_sentence(t, stage, sentence, picture, t->ids + b * t->L);
    }
    return nn_train_batch(t);
}

/* The mean over the placeholders of each one's distance to where it started. */
static double regularise(nn_train *t) {
    const nn_train_config *cfg = t->cfg;
    double P = (double)cfg->nplaceholders, sum = 0.0;
    for (int i = 0; i < cfg->nplaceholders; i++)
        sum += nn_inversion_regularise(&t->word, i * cfg->num_vectors, cfg->num_vectors, cfg->reg_kind,
                                       cfg->reg_weight / P);
    return sum / P;
}

/* AdamW on the rows in use. A vector that was added at step a (from 0) takes its first step then. */
static void update(nn_train *t, tn_ctx *c, double lr) {
    const nn_train_config *cfg = t->cfg;
    nn_word *w = &t->word;
    int64_t V = cfg->num_vectors, at_first = V - cfg->nswitches, images = w->rows - t->image_row;
    w->updates++;
    for (int i = 0; i < cfg->nplaceholders; i++) {
        nn_inversion_update_rows(c, w, i * V, at_first, w->updates, &cfg->adam, lr);
        for (int s = 0; s < nn_train_stage(t, t->steps_done); s++)
            nn_inversion_update_rows(c, w, i * V + at_first + s, 1, w->updates - cfg->switch_at[s], &cfg->adam, lr);
    }
    if (images) nn_inversion_update_rows(c, w, t->image_row, images, w->updates, &cfg->adam, lr);
}

/* The loss of DVAR's fixed batch, with the vectors that the last step used. */
static int eval_loss(const nn_train *t, tn_ctx *c, double *loss, tn_err *err) {
    nn_inversion_batch b = {NN_EVAL_BATCH,   t->L,          t->side,           t->side, t->eval.ids,
                            t->eval.latents, t->eval.noise, t->eval.timesteps, NULL};
    int stage = nn_train_stage(t, t->steps_done - 1);
    for (int64_t i = 0; i < NN_EVAL_BATCH; i++)
        nn_train_sentence(t, stage, t->eval.sentence[i], 0, t->eval.ids + i * t->L);
    return nn_inversion_loss(c, t->model, &t->schedule, &t->word, &b, loss, err);
}

static int watch(nn_train *t, tn_ctx *c, nn_train_step *out, tn_err *err) {
    if (!t->cfg->stop_window) return 0;
    if (eval_loss(t, c, &out->eval_loss, err) || nn_dvar_add(&t->eval.losses, out->eval_loss, err)) return -1;
    out->variance = nn_dvar_ratio(&t->eval.losses, t->cfg->stop_window);
    return 0;
}

int nn_train_advance(nn_train *t, tn_ctx *c, nn_train_step *out, tn_err *err) {
    const nn_train_config *cfg = t->cfg;
    double sum = 0.0, loss;
    *out = (nn_train_step){.variance = 1.0};
    for (int64_t i = 0; i < cfg->accumulate; i++) {
        nn_inversion_batch b = nn_train_draw(t, c->k, t->steps_done * cfg->accumulate + i);
        if (nn_inversion_gradient(c, t->model, &t->schedule, &t->word, &b, 1.0f / (float)cfg->accumulate, i == 0, &loss,
                                  err)) {
            return tn_fail_in(err, "step %" PRId64, t->steps_done + 1);
        }
        sum += loss;
    }
    out->loss = sum / (double)cfg->accumulate;
    out->reg = cfg->reg_weight > 0.0 ? regularise(t) : 0.0;
    out->grad_norm = nn_inversion_clip(&t->word, cfg->clip_norm, cfg->clip_value);
    out->lr = nn_lr_at(&cfg->lr, t->steps_done);
    update(t, c, out->lr);
    out->step = ++t->steps_done, out->vectors = nn_train_in_use(t);
    if (!nn_all_finite(t->word.v, t->word.rows * t->word.dim)) {
        return tn_fail(err, TN_ENUMERIC, "step %" PRId64 ": the learned vector is not finite (lower --learning-rate)",
                       t->steps_done);
    }
    return watch(t, c, out, err);
}

int64_t nn_train_steps_done(const nn_train *t) { return t->steps_done; }

bool nn_train_stopped(const nn_train *t) {
    int64_t window = t->cfg->stop_window;
    return window > 0 && nn_dvar_ratio(&t->eval.losses, window) < t->cfg->stop_threshold;
}

bool nn_train_finished(const nn_train *t) { return t->steps_done >= t->cfg->steps || nn_train_stopped(t); }

nn_word *nn_train_word(nn_train *t) { return &t->word; }
const float *nn_train_vectors(const nn_train *t, int i) { return t->word.v + i * t->cfg->num_vectors * t->word.dim; }

int64_t nn_train_in_use(const nn_train *t) {
    return t->cfg->num_vectors - t->cfg->nswitches + nn_train_stage(t, t->steps_done - 1);
}

const char *nn_train_image_token(const nn_train *t, int i) { return t->image_token ? t->image_token[i] : NULL; }

const float *nn_train_image_vector(const nn_train *t, int i) {
    return t->image_token ? t->word.v + (t->image_row + i) * t->word.dim : NULL;
}

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
    nn_inversion_batch b = nn_train_batch(t);
    double loss;
    const int64_t *sentence = earliest_word(t);
    for (int64_t i = 0; i < b.B; i++) memcpy(t->ids + i * t->L, sentence, (size_t)t->L * sizeof *t->ids);
    if (t->cfg->stop_window && eval_loss(t, c, &loss, err)) return -1;
    return nn_inversion_gradient(c, t->model, &t->schedule, (nn_word *)(uintptr_t)&t->word, &b, 1.0f, true, &loss, err);
}

int nn_train_measure(const nn_train *t, const tn_ctx *like, int64_t checkpoint, nn_need *out, tn_err *err) {
    tn_ctx c = *like;
    c.checkpoint = checkpoint;
    return nn_measure(&c, t->model, dry_step, (void *)(uintptr_t)t, out, err);
}

size_t nn_train_kept(const nn_train *t) {
    return nn_text_cache_bytes(t->model->text, t->sentences, t->nsentences, t->L);
}

int nn_train_probe(nn_train *t, tn_ctx *c, double *seconds, tn_err *err) {
    double start = tn_clock(), loss;
    nn_inversion_batch b = nn_train_draw(t, c->k, 0);
    int r = nn_inversion_gradient(c, t->model, &t->schedule, &t->word, &b, 1.0f, true, &loss, err);
    if (!r && t->cfg->stop_window) r = eval_loss(t, c, &loss, err);
    *seconds = tn_clock() - start;
    return r;
}
