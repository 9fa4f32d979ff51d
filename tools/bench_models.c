/* The networks of a model directory, each with the memory of its own context. */
#include "nn/inversion.h"
#include "nn/pipeline.h"
#include "tensor/io/sys.h"
#include "tensor/rng.h"
#include "tools/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Inputs and outputs of all networks. The text is the whole vocabulary in turn, and one learned word. */
typedef struct world {
    nn_model *m;
    nn_schedule schedule;
    nn_word word;
    nn_text_cache *texts;
    int64_t B, L, D, C, side, pixels; /* batch; tokens and their width; latent [C,side,side]; picture [3,pixels,pixels] */
    int64_t *ids, *timesteps;
    float *context, *latent, *noise, *moments, *image, *t;
    float *p, *grad_m, *grad_s; /* for training all weights: own copies of them, and AdamW's moments */
    int64_t updates;
} world;

static void world_free(world *w) {
    if (w->p && w->m) nn_params_need(nn_unet_params(w->m->unet), false, NULL);
    nn_schedule_free(&w->schedule);
    nn_word_free(&w->word);
    nn_text_cache_free(w->texts);
    nn_model_free(w->m);
    free(w->ids), free(w->timesteps), free(w->context), free(w->latent), free(w->noise), free(w->moments), free(w->image);
    free(w->t), free(w->p), free(w->grad_m), free(w->grad_s);
}

/* Sizes: what was asked for, else what the components state. */
static void choose_sizes(world *w, const bench_setting *s) {
    int64_t factor = w->m->vae ? nn_vae_factor(w->m->vae) : 8;
    w->B = s->batch ? s->batch : 1;
    w->L = s->tokens ? s->tokens : w->m->text ? w->m->text->cfg.positions : 77;
    w->D = w->m->text ? w->m->text->cfg.t.width : w->m->unet ? nn_unet_cfg(w->m->unet)->cross_dim[0] : 1;
    w->C = w->m->unet ? nn_unet_cfg(w->m->unet)->in_channels : w->m->vae ? nn_vae_cfg(w->m->vae)->latent_channels : 1;
    if (s->pixels) w->side = s->pixels / factor;
    else if (w->m->unet) w->side = nn_unet_cfg(w->m->unet)->sample_size;
    else w->side = w->m->vae ? nn_vae_cfg(w->m->vae)->sample_size / factor : 1;
    w->pixels = w->side * factor;
}

static int make_inputs(world *w, tn_err *err) {
    size_t n = (size_t)(w->B * w->C * w->side * w->side), picture = (size_t)(3 * w->B * w->pixels * w->pixels);
    size_t tokens = (size_t)(w->B * w->L), words = tokens * (size_t)w->D;
    w->ids = malloc(tokens * sizeof *w->ids), w->timesteps = malloc((size_t)w->B * sizeof *w->timesteps);
    w->context = malloc(words * sizeof(float)), w->t = malloc((size_t)w->B * sizeof(float));
    w->latent = malloc(n * sizeof(float)), w->noise = malloc(n * sizeof(float)), w->moments = malloc(2 * n * sizeof(float));
    w->image = malloc(picture * sizeof(float));
    if (!w->ids || !w->timesteps || !w->context || !w->t || !w->latent || !w->noise || !w->moments || !w->image)
        return tn_fail(err, TN_ENOMEM, "out of memory for the inputs");
    w->texts = nn_text_cache_new();
    int64_t vocabulary = w->m->text ? w->m->text->token.shape[0] : 1;
    for (int64_t b = 0; b < w->B; b++) {
        for (int64_t i = 0; i < w->L; i++) w->ids[b * w->L + i] = i % vocabulary;
        w->ids[b * w->L + (w->L > 5 ? 5 : 0)] = vocabulary; /* begin, a photo of a */
        w->timesteps[b] = 500, w->t[b] = 500.0f;
    }
    tn_rng g;
    tn_rng_seed(&g, 1);
    tn_rng_randn(&g, w->word.v, (size_t)w->D), tn_rng_randn(&g, w->latent, n), tn_rng_randn(&g, w->noise, n);
    tn_rng_randn(&g, w->context, words), tn_rng_rand(&g, w->image, picture);
    return 0;
}

/* Weights that may be written: copies of the mapped ones, in one piece. */
static int own_weights(world *w, tn_err *err) {
    nn_params *params = nn_unet_params(w->m->unet);
    size_t total = 0;
    for (int i = 0; i < params->n; i++) {
        if (params->p[i].t->dtype != TN_F32) return tn_fail(err, TN_EUNSUPPORTED, "training all weights needs them in F32: %s is not", params->p[i].name);
        total += (size_t)tn_numel(params->p[i].t);
    }
    w->p = malloc(total * sizeof(float)), w->grad_m = calloc(total, sizeof(float)), w->grad_s = calloc(total, sizeof(float));
    if (!w->p || !w->grad_m || !w->grad_s) return tn_fail(err, TN_ENOMEM, "out of memory for the state of training");
    float *at = w->p;
    for (int i = 0; i < params->n; i++) {
        tn_tensor *t = params->p[i].t;
        int64_t n = tn_numel(t);
        for (int64_t j = 0; j < n; j++) at[j] = ((const float *)t->data)[j];
        t->data = at, at += n;
    }
    return nn_params_need(params, true, err);
}

static int world_open(world *w, const bench_setting *s, int components, tn_err *err) {
    *w = (world){.B = 0};
    if (s->pixels) components |= NN_LOAD_VAE; /* only for its factor; the weights are mapped, not read */
    if (nn_model_load(s->dir, components, &w->m, err)) return -1;
    choose_sizes(w, s);
    if ((components & NN_LOAD_SCHEDULER) && nn_schedule_init(&w->schedule, &w->m->schedule, err)) return -1;
    return nn_word_init(&w->word, 1, w->D, err) || make_inputs(w, err) ? -1 : 0;
}

/* ---- one run of each ---- */

static int run_text(tn_ctx *c, void *arg, tn_err *err) {
    world *w = arg;
    return nn_encode_text(c, w->m->text, w->ids, w->B, w->L, w->word.v, 1, w->context, err);
}

/* Forward, and backward to the token rows. */
static int run_text_backward(tn_ctx *c, void *arg, tn_err *err) {
    world *w = arg;
    if (tn_ctx_begin(c, true, err)) return -1;
    tn_tensor *rows = tn_leaf(c, TN_F32, 3, (int64_t[]){w->B, w->L, w->D}, w->context, true);
    tn_seed(c, nn_text_encode(c, w->m->text, rows, ""), NULL);
    tn_backward(c);
    return tn_ctx_status(c, err);
}

static tn_tensor *predict(tn_ctx *c, world *w, bool need) {
    tn_tensor *sample = tn_leaf(c, TN_F32, 4, (int64_t[]){w->B, w->C, w->side, w->side}, w->latent, false);
    tn_tensor *timestep = tn_leaf(c, TN_F32, 1, (int64_t[]){w->B}, w->t, false);
    tn_tensor *context = tn_leaf(c, TN_F32, 3, (int64_t[]){w->B, w->L, w->D}, w->context, need);
    return nn_unet_forward(c, w->m->unet, sample, timestep, context);
}

static int run_unet(tn_ctx *c, void *arg, tn_err *err) {
    if (tn_ctx_begin(c, false, err)) return -1;
    predict(c, arg, false);
    return tn_ctx_status(c, err);
}

/* Forward, the loss, and backward: to the text, or to what else wants a gradient. */
static int differentiate(tn_ctx *c, world *w, bool text, tn_err *err) {
    if (tn_ctx_begin(c, true, err)) return -1;
    tn_tensor *y = predict(c, w, text);
    tn_seed(c, tn_mse(c, y, tn_leaf(c, TN_F32, 4, y->shape, w->noise, false), NULL), NULL);
    tn_backward(c);
    return tn_ctx_status(c, err);
}

static int run_unet_backward(tn_ctx *c, void *arg, tn_err *err) { return differentiate(c, arg, true, err); }

static const tn_adamw_config adam = {0.9, 0.999, 1e-8, 1e-2};

/* Cached latents and noise to a step of the word. */
static int run_inversion(tn_ctx *c, void *arg, tn_err *err) {
    world *w = arg;
    nn_inversion_batch b = {w->B, w->L, w->side, w->side, w->ids, w->latent, w->noise, w->timesteps, w->texts};
    double loss;
    if (nn_inversion_gradient(c, w->m, &w->schedule, &w->word, &b, 1.0f, true, &loss, err)) return -1;
    nn_inversion_update(c, &w->word, &adam, 1e-4);
    return 0;
}

static int run_encode(tn_ctx *c, void *arg, tn_err *err) {
    world *w = arg;
    return nn_encode_image(c, w->m->vae, w->image, w->B, w->pixels, w->pixels, w->moments, err);
}

static int run_decode(tn_ctx *c, void *arg, tn_err *err) {
    world *w = arg;
    return nn_decode_latent(c, w->m->vae, w->latent, w->B, w->side, w->side, w->image, err);
}

/* All weights of the UNet learn: forward, backward, AdamW. */
static int run_train(tn_ctx *c, void *arg, tn_err *err) {
    world *w = arg;
    if (!w->p && own_weights(w, err)) return -1;
    nn_params *params = nn_unet_params(w->m->unet);
    for (int i = 0; i < params->n; i++) params->p[i].t->grad_set = false;
    if (differentiate(c, w, false, err)) return -1;
    w->updates++;
    int64_t at = 0;
    for (int i = 0; i < params->n; i++) {
        tn_tensor *t = params->p[i].t;
        if (t->grad_set) tn_adamw(c, &adam, 1e-4, w->updates, tn_numel(t), t->data, t->grad, w->grad_m + at, w->grad_s + at);
        at += tn_numel(t);
    }
    return 0;
}

enum { ALL_OF_INVERSION = NN_LOAD_TEXT | NN_LOAD_UNET | NN_LOAD_SCHEDULER };
typedef struct network {
    const char *name;
    int (*run)(tn_ctx *c, void *world, tn_err *err);
    int needs;
    bool profile, asked; /* profiled; run only where it is asked for by name */
} network;
static const network networks[] = {
    {"text", run_text, NN_LOAD_TEXT, false, false},        {"text-bwd", run_text_backward, NN_LOAD_TEXT, false, false},
    {"unet", run_unet, NN_LOAD_UNET, true, false},         {"unet-bwd", run_unet_backward, NN_LOAD_UNET, false, false},
    {"inversion", run_inversion, ALL_OF_INVERSION, true, false}, {"vae-encode", run_encode, NN_LOAD_VAE, true, false},
    {"vae-decode", run_decode, NN_LOAD_VAE, true, false},  {"train", run_train, NN_LOAD_UNET, true, true},
};
enum { NETWORKS = sizeof networks / sizeof *networks };

const char *bench_network_name(int i) { return i < NETWORKS ? networks[i].name : NULL; }

static bool chosen(const bench *b, const network *n) { return b->only ? bench_wanted(b, n->name) : !n->asked; }

/* ---- measuring ---- */

static void count(void *arg, const tn_node *n, bool backward, double seconds) {
    (void)seconds;
    *(double *)arg += bench_flops(n, backward);
}

static int measure(bench *b, world *w, const network *net, tn_err *err) {
    double flops = 0.0;
    bench_times t = {.n = 0};
    tn_ctx c; /* its own, so that the peak of memory is this network's */
    tn_ctx_init(&c, b->c->k, b->c->threads);
    c.conv = b->c->conv;
    c.profile = count, c.profile_arg = &flops;
    int r = net->run(&c, w, err); /* counts, and fills the arenas */
    c.profile = NULL;
    while (!r && bench_again(b, &t)) {
        double start = tn_clock();
        r = net->run(&c, w, err);
        t.t[t.n++] = tn_clock() - start;
    }
    bench_work work = {.seconds = bench_median(&t), .flops = flops, .memory = tn_ctx_peak(&c)};
    tn_ctx_free(&c);
    if (!r) bench_row(b, net->name, &work);
    return r;
}

static int measure_all(bench *b, world *w, const bench_setting *s, tn_err *err) {
    char title[80];
    snprintf(title, sizeof title, "networks, %" PRId64 "x%" PRId64 " latent, batch %" PRId64, w->side, w->side, w->B);
    if (b->json) tn_jw_int(&b->w, "latent", w->side), tn_jw_int(&b->w, "batch", w->B);
    bench_section(b, "networks", title);
    for (int i = 0; i < NETWORKS; i++) {
        if (chosen(b, &networks[i]) && measure(b, w, &networks[i], err)) return -1;
    }
    bench_section_end(b);
    for (int i = 0; i < NETWORKS && s->profile; i++) {
        if (networks[i].profile && chosen(b, &networks[i]) && bench_profile(b, networks[i].name, networks[i].run, w, err)) return -1;
    }
    return 0;
}

int bench_models(bench *b, const bench_setting *s, tn_err *err) {
    int components = 0;
    for (int i = 0; i < NETWORKS; i++) components |= chosen(b, &networks[i]) ? networks[i].needs : 0;
    if (!components) return 0;
    world w;
    int r = world_open(&w, s, components, err);
    if (!r) r = measure_all(b, &w, s, err);
    world_free(&w);
    return r;
}
