/* The networks of a model directory, batch 1, at the size the model was trained for; and where their time goes. */
#include "nn/pipeline.h"
#include "nn/inversion.h"
#include "tensor/io/sys.h"
#include "tensor/rng.h"
#include "tools/bench.h"
#include "tools/generate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Inputs and outputs of all networks. The text is the whole vocabulary in turn, and one learned word. */
typedef struct world {
    nn_model *m;
    nn_schedule schedule;
    nn_word word;
    int64_t L, D, C, side, pixels; /* tokens and their width; latent [C,side,side]; picture [3,pixels,pixels] */
    int64_t *ids, timestep;
    float *context, *latent, *noise, *moments, *image;
} world;

static void world_free(world *w) {
    nn_schedule_free(&w->schedule);
    nn_word_free(&w->word);
    nn_model_free(w->m);
    free(w->ids), free(w->context), free(w->latent), free(w->noise), free(w->moments), free(w->image);
}

static int world_open(world *w, const char *dir, tn_err *err) {
    *w = (world){.timestep = 500};
    if (nn_model_load(dir, NN_LOAD_TEXT | NN_LOAD_UNET | NN_LOAD_VAE | NN_LOAD_SCHEDULER, &w->m, err)) return -1;
    w->L = w->m->text->cfg.positions, w->D = w->m->text->cfg.t.width, w->C = nn_vae_cfg(w->m->vae)->latent_channels;
    w->pixels = gen_native_size(w->m), w->side = w->pixels / nn_vae_factor(w->m->vae);
    if (nn_schedule_init(&w->schedule, &w->m->schedule, err) || nn_word_init(&w->word, 1, w->D, err)) return -1;
    size_t n = (size_t)(w->C * w->side * w->side), picture = (size_t)(3 * w->pixels * w->pixels);
    w->ids = malloc((size_t)w->L * sizeof *w->ids), w->context = malloc((size_t)(w->L * w->D) * sizeof(float));
    w->latent = malloc(n * sizeof(float)), w->noise = malloc(n * sizeof(float)), w->moments = malloc(2 * n * sizeof(float));
    w->image = malloc(picture * sizeof(float));
    if (!w->ids || !w->context || !w->latent || !w->noise || !w->moments || !w->image) return tn_fail(err, TN_ENOMEM, "out of memory for the inputs");
    for (int64_t i = 0; i < w->L; i++) w->ids[i] = i % w->m->text->token.shape[0];
    w->ids[w->L / 2] = w->m->text->token.shape[0];
    tn_rng g;
    tn_rng_seed(&g, 1);
    tn_rng_randn(&g, w->word.v, (size_t)w->D), tn_rng_randn(&g, w->latent, n), tn_rng_randn(&g, w->noise, n);
    tn_rng_rand(&g, w->image, picture);
    return 0;
}

/* ---- one run of each ---- */

static int run_text(tn_ctx *c, world *w, tn_err *err) {
    return nn_encode_text(c, w->m->text, w->ids, 1, w->L, w->word.v, 1, w->context, err);
}

static int run_unet(tn_ctx *c, world *w, tn_err *err) {
    tn_ctx_reset(c);
    c->record = false;
    float t = (float)w->timestep;
    tn_tensor *sample = tn_leaf(c, TN_F32, 4, (int64_t[]){1, w->C, w->side, w->side}, w->latent, false);
    tn_tensor *timestep = tn_leaf(c, TN_F32, 1, (int64_t[]){1}, &t, false);
    tn_tensor *context = tn_leaf(c, TN_F32, 3, (int64_t[]){1, w->L, w->D}, w->context, false);
    nn_unet_forward(c, w->m->unet, sample, timestep, context);
    return tn_ctx_status(c, err);
}

static int run_step(tn_ctx *c, world *w, tn_err *err) {
    nn_inversion_batch b = {1, w->L, w->side, w->side, w->ids, w->latent, w->noise, &w->timestep};
    tn_adamw_config adam = {0.9, 0.999, 1e-8, 1e-2};
    double loss;
    if (nn_inversion_gradient(c, w->m, &w->schedule, &w->word, &b, 1.0f, true, &loss, err)) return -1;
    nn_inversion_update(c, &w->word, &adam, 1e-4);
    return 0;
}

static int run_encode(tn_ctx *c, world *w, tn_err *err) {
    return nn_encode_image(c, w->m->vae, w->image, 1, w->pixels, w->pixels, w->moments, err);
}

static int run_decode(tn_ctx *c, world *w, tn_err *err) {
    return nn_decode_latent(c, w->m->vae, w->latent, 1, w->side, w->side, w->image, err);
}

typedef struct network {
    const char *name;
    int (*run)(tn_ctx *c, world *w, tn_err *err);
    bool profile;
} network;

static const network networks[] = {
    {"text encoder", run_text, false}, {"UNet", run_unet, true},         {"inversion step", run_step, true},
    {"VAE encoder", run_encode, false}, {"VAE decoder", run_decode, false},
};

/* ---- by operator ---- */

typedef struct share {
    double seconds[2], flops; /* forward and backward, over all runs */
    int64_t calls;
} share;

typedef struct shares {
    share op[TN_OP_COUNT];
    double flops;
} shares;

static void observe(void *arg, const tn_node *n, bool backward, double seconds) {
    shares *all = arg;
    for (int i = 0; i < TN_OP_COUNT; i++) {
        if (tn_op_get(i) != n->op) continue;
        share *s = &all->op[i];
        double flops = bench_flops(n, backward);
        s->seconds[backward] += seconds, s->flops += flops, s->calls += !backward, all->flops += flops;
    }
}

/* The operator with the most time of those not yet printed, -1 when there is none. */
static int largest(const shares *s, const bool *printed) {
    int best = -1;
    double most = 0.0;
    for (int i = 0; i < TN_OP_COUNT; i++) {
        double t = s->op[i].seconds[0] + s->op[i].seconds[1];
        if (!printed[i] && t > most) best = i, most = t;
    }
    return best;
}

static void print_shares(bench *b, const char *name, const shares *s, int runs) {
    bool printed[TN_OP_COUNT] = {false};
    double total = 0.0, per_run = 1.0 / runs;
    for (int i = 0; i < TN_OP_COUNT; i++) total += s->op[i].seconds[0] + s->op[i].seconds[1];
    char title[80];
    snprintf(title, sizeof title, "operators of %s", name);
    if (b->json) tn_jw_open(&b->w, title, '[');
    else printf("\n%-26s %8s %11s %12s %8s %9s\n", title, "calls", "forward ms", "backward ms", "share", "GFLOP/s");
    for (int i; (i = largest(s, printed)) >= 0; printed[i] = true) {
        const share *o = &s->op[i];
        double both = o->seconds[0] + o->seconds[1];
        if (b->json) {
            tn_jw_open(&b->w, NULL, '{');
            tn_jw_string(&b->w, "name", tn_op_texts[i].name), tn_jw_int(&b->w, "calls", o->calls / runs);
            tn_jw_number(&b->w, "forward", o->seconds[0] * per_run), tn_jw_number(&b->w, "backward", o->seconds[1] * per_run);
            if (o->flops > 0.0) tn_jw_number(&b->w, "gflops", o->flops / both * 1e-9);
            tn_jw_close(&b->w, '}');
            continue;
        }
        printf("%-26s %8" PRId64 " %11.3f %12.3f %7.1f%%", tn_op_texts[i].name, o->calls / runs, 1e3 * o->seconds[0] * per_run,
               1e3 * o->seconds[1] * per_run, 100.0 * both / total);
        if (o->flops > 0.0) printf(" %9.1f", o->flops / both * 1e-9);
        putchar('\n');
    }
    if (b->json) tn_jw_close(&b->w, ']');
}

static int profile(bench *b, world *w, const network *net, tn_err *err) {
    shares s = {.flops = 0.0};
    bench_times t = {.n = 0};
    tn_ctx c;
    tn_ctx_init(&c, b->c->k, b->c->threads);
    int r = net->run(&c, w, err);
    c.profile = observe, c.profile_arg = &s;
    while (!r && bench_again(b, &t)) {
        r = net->run(&c, w, err);
        t.t[t.n++] = 0.0;
    }
    tn_ctx_free(&c);
    if (!r) print_shares(b, net->name, &s, t.n);
    return r;
}

/* ---- whole networks ---- */

static int measure(bench *b, world *w, const network *net, tn_err *err) {
    shares s = {.flops = 0.0};
    bench_times t = {.n = 0};
    tn_ctx c; /* its own, so that the peak of memory is this network's */
    tn_ctx_init(&c, b->c->k, b->c->threads);
    c.profile = observe, c.profile_arg = &s;
    int r = net->run(&c, w, err); /* counts, and fills the arenas */
    c.profile = NULL;
    while (!r && bench_again(b, &t)) {
        double start = tn_clock();
        r = net->run(&c, w, err);
        t.t[t.n++] = tn_clock() - start;
    }
    bench_work work = {.seconds = bench_median(&t), .flops = s.flops, .memory = tn_ctx_peak(&c)};
    tn_ctx_free(&c);
    if (!r) bench_row(b, net->name, &work);
    return r;
}

int bench_models(bench *b, const char *dir, bool with_profile, tn_err *err) {
    enum { N = sizeof networks / sizeof *networks };
    world w;
    int r = world_open(&w, dir, err);
    char title[64];
    snprintf(title, sizeof title, "networks at %" PRId64 "x%" PRId64, w.pixels, w.pixels);
    if (!r && b->json) tn_jw_int(&b->w, "pixels", w.pixels);
    if (!r) bench_section(b, "networks", title);
    for (int i = 0; !r && i < N; i++) r = measure(b, &w, &networks[i], err);
    if (!r) bench_section_end(b);
    for (int i = 0; !r && with_profile && i < N; i++) {
        if (networks[i].profile) r = profile(b, &w, &networks[i], err);
    }
    world_free(&w);
    return r;
}
