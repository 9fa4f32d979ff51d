#include "tools/generate.h"

#include "nn/config.h"
#include "nn/image/preprocess.h"
#include "tensor/rng.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Latent pixels of one batch: a picture of 512 x 512 alone, up to sixteen of 64 x 64. Larger batches read each weight
 * less often for a picture, which matters only where the pictures are small, and cost memory. */
enum { BATCH_LATENT_PIXELS = 4096, MAX_BATCH = 16 };

int64_t gen_native_size(const nn_model *m) {
    int64_t latent = nn_unet_cfg(m->unet)->sample_size;
    return latent > 0 ? latent * nn_vae_factor(m->vae) : nn_vae_cfg(m->vae)->sample_size;
}

int64_t gen_batch(const nn_model *m, int64_t width, int64_t height) {
    int64_t f = nn_vae_factor(m->vae), n = BATCH_LATENT_PIXELS / ((width / f) * (height / f));
    return n < 1 ? 1 : n > MAX_BATCH ? MAX_BATCH : n;
}

static int check_side(const char *name, int64_t side, int64_t factor, tn_err *err) {
    if (side >= factor && side % factor == 0) return 0;
    int64_t nearest = (side + factor / 2) / factor * factor;
    if (nearest < factor) nearest = factor;
    return tn_fail(err, TN_EUSAGE, "%s %lld: expected a multiple of %lld for this model (the nearest is %lld)", name,
                   (long long)side, (long long)factor, (long long)nearest);
}

int gen_check_size(const nn_model *m, int64_t width, int64_t height, tn_err *err) {
    int64_t factor = nn_vae_factor(m->vae);
    if (check_side("width", width, factor, err) || check_side("height", height, factor, err)) return -1;
    if (width <= NN_IMAGE_MAX_PIXELS / height) return 0;
    return tn_fail(err, TN_EUSAGE, "%lld x %lld: pictures have at most %d pixels", (long long)width, (long long)height,
                   NN_IMAGE_MAX_PIXELS);
}

/* ---- schedule ---- */

/* Keys that the file leaves out mean the defaults of the class it names, also where another class runs on it. */
static void keep_defaults(const tn_jval *json, const char *named, nn_schedule_config *config) {
    bool pndm = strcmp(named, "PNDMScheduler") == 0;
    if (pndm && !tn_json_get(json, "set_alpha_to_one")) config->set_alpha_to_one = false;
    bool linspace = nn_scheduler_class_of(named) == NN_SCHEDULER_OTHER && !pndm && strcmp(named, "LCMScheduler") != 0;
    if (linspace && !tn_json_get(json, "timestep_spacing")) config->timestep_spacing = NN_SPACING_LINSPACE;
}

int gen_schedule(const nn_model *m, const char *sampler, nn_schedule_config *config, char *named, tn_err *err) {
    bool ddpm = sampler && strcmp(sampler, "ddpm") == 0;
    if (sampler && !ddpm && strcmp(sampler, "ddim") != 0) {
        return tn_fail(err, TN_EUSAGE, "sampler \"%s\": expected ddim or ddpm", sampler);
    }
    char *path = nn_join(m->dir, "scheduler");
    if (!path) return tn_fail(err, TN_ENOMEM, "out of memory");
    tn_json *doc = NULL;
    int bad = nn_config_open(path, "scheduler_config.json", &doc, err);
    if (!bad && nn_schedule_config_parse(tn_json_root(doc), ddpm ? "DDPMScheduler" : "DDIMScheduler", config, err)) {
        bad = tn_fail_in(err, "%s/scheduler_config.json", path);
    }
    if (!bad) {
        const tn_jval *v = tn_json_get(tn_json_root(doc), "_class_name");
        const char *name = v && v->type == TN_JSON_STRING ? v->string : "";
        keep_defaults(tn_json_root(doc), name, config);
        nn_schedule_config_for_stable_diffusion(config);
        if (named) snprintf(named, 64, "%s", name);
    }
    tn_json_free(doc);
    free(path);
    return bad;
}

int gen_tokenize(const nn_model *m, const char *prompt, nn_tokenizer_rules rules, nn_tokens *out, tn_err *err) {
    return nn_tokenizer_encode(m->tokenizer, prompt, strlen(prompt), rules, nn_prompt_length(m), out, err);
}

/* ---- the run ---- */

typedef struct gen_run {
    tn_ctx *c;
    const nn_model *m;
    const gen_request *r;
    int64_t width, height, h, w, n; /* n: elements of one latent */
    int64_t batch, L, D, first;     /* first: number of the batch's first picture */
    int64_t B;                      /* pictures in this batch */
    int64_t steps_done, steps_total;
    bool guided;
    float *context;       /* [2,L,D]: prompt, negative prompt */
    float *cond, *uncond; /* [batch,L,D] */
    float *latent;        /* [batch,C,h,w] */
    float *image;         /* [3,height,width] */
    tn_rng *rng;          /* [batch] */
    nn_schedule schedule;
    gen_needs needs;
    nn_edit_run edit; /* of the batch */
    nn_clip_guidance clip;
    tn_ctx clip_ctx; /* for it: that of the sampling loop is in use */
    const nn_sampler *sampler;
} gen_run;

/* Every picture draws its noise from a generator of its own, so that it does not depend on its neighbours. */
static void draw(void *arg, int step, float *noise, size_t n) {
    gen_run *g = arg;
    (void)step;
    for (size_t i = 0; i < n / (size_t)g->n; i++) tn_rng_randn(&g->rng[i], noise + i * (size_t)g->n, (size_t)g->n);
}

static int after(void *arg, int step, const float *model_output, const float *latent) {
    gen_run *g = arg;
    (void)step, (void)model_output, (void)latent;
    g->steps_done++;
    if (g->r->progress) g->r->progress(g->r->arg, g->steps_done, g->steps_total);
    return 0;
}

static int before(void *arg, int step, float *latent, tn_err *err) {
    return nn_edit_before(&((gen_run *)arg)->edit, step, latent, err);
}

static int guide(void *arg, int step, const float *latent, float *model_output, tn_err *err) {
    gen_run *g = arg;
    if (g->r->clip && nn_clip_guidance_apply(&g->clip, step, g->sampler->timesteps[step], g->B, latent, model_output, err)) return -1;
    return g->r->edit ? nn_edit_guide(&g->edit, step, latent, model_output, err) : 0;
}

static int encode_prompts(gen_run *g, tn_err *err) {
    const gen_request *r = g->r;
    int64_t *ids = malloc(2 * (size_t)g->L * sizeof *ids);
    g->context = malloc(2 * (size_t)(g->L * g->D) * sizeof *g->context);
    int bad = ids && g->context ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a prompt");
    if (!bad) bad = nn_prompt_ids(g->m, r->prompt, r->rules, ids, err);
    if (!bad && g->guided) bad = nn_prompt_ids(g->m, r->negative ? r->negative : "", r->rules, ids + g->L, err);
    if (!bad)
        bad = nn_encode_text(g->c, g->m->text, ids, g->guided ? 2 : 1, g->L, r->learned, r->rows, g->context, err);
    free(ids);
    return bad;
}

static int allocate(gen_run *g, tn_err *err) {
    size_t batch = (size_t)g->batch, text = (size_t)(g->L * g->D);
    g->cond = malloc(batch * text * sizeof *g->cond);
    g->uncond = malloc(batch * text * sizeof *g->uncond);
    g->latent = malloc(batch * (size_t)g->n * sizeof *g->latent);
    g->image = malloc(3 * (size_t)(g->width * g->height) * sizeof *g->image);
    g->rng = malloc(batch * sizeof *g->rng);
    if (!g->cond || !g->uncond || !g->latent || !g->image || !g->rng)
        return tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    for (size_t i = 0; i < batch; i++) {
        memcpy(g->cond + i * text, g->context, text * sizeof *g->cond);
        if (g->guided) memcpy(g->uncond + i * text, g->context + text, text * sizeof *g->uncond);
    }
    return 0;
}

/* One picture of the batch to bytes. */
static int develop(gen_run *g, int64_t i, nn_image *out, tn_err *err) {
    const float *latent = g->latent + i * g->n;
    if (g->r->latents) memcpy(g->r->latents + (g->first + i) * g->n, latent, (size_t)g->n * sizeof *latent);
    if (nn_decode_latent(g->c, g->m->vae, latent, 1, g->h, g->w, g->image, err)) return -1;
    if (g->r->edit) return nn_edit_develop(g->r->edit, g->image, out, err);
    return nn_image_from_signed(g->image, g->width, g->height, out, err);
}

/* What an edit changes in the loop over the steps. */
static int begin_edit(tn_ctx *c, gen_run *g, nn_sampling *s, tn_err *err) {
    const nn_edit *e = g->r->edit;
    uint64_t seed = g->r->seed + (uint64_t)g->first;
    if (nn_edit_run_open(&g->edit, e, g->m, &g->schedule, s->sampler, s->B, seed, c, err)) return -1;
    nn_edit_begin(&g->edit, g->latent);
    s->first = (int)e->cfg.first, s->before = before;
    return 0;
}

/* Guidance by CLIP as it was asked for, for this run. */
static void fill_clip(gen_run *g, const tn_ctx *like) {
    if (!g->r->clip) return;
    g->clip = *g->r->clip;
    g->clip.vae = g->m->vae, g->clip.schedule = &g->schedule, g->clip.h = g->h, g->clip.w = g->w, g->clip.c = &g->clip_ctx;
    tn_ctx_init(&g->clip_ctx, like->k, like->threads);
    g->clip_ctx.conv = like->conv, g->clip_ctx.use_ref = like->use_ref;
}

/* The steps of B pictures, from noise in g->latent to what the decoder gets. */
static int sample(tn_ctx *c, gen_run *g, int64_t B, tn_err *err) {
    nn_sampler sampler;
    if (nn_sampler_init(&sampler, &g->schedule, (int)g->r->steps, g->r->eta, (size_t)(B * g->n), err)) return -1;
    nn_sampling s = {.unet = g->m->unet,
                     .sampler = &sampler,
                     .B = B,
                     .h = g->h,
                     .w = g->w,
                     .cond = g->cond,
                     .uncond = g->guided ? g->uncond : NULL,
                     .L = g->L,
                     .D = g->D,
                     .guidance = (float)g->r->guidance,
                     .noise = draw,
                     .after = after,
                     .arg = g};
    if (g->r->edit || g->r->clip) s.guide = guide;
    g->sampler = &sampler, g->B = B, g->clip.seed = g->r->seed + (uint64_t)g->first;
    int bad = g->r->edit ? begin_edit(c, g, &s, err) : 0;
    g->steps_total = (g->r->count + g->batch - 1) / g->batch * (sampler.n_steps - s.first);
    if (!bad) bad = nn_sample(c, &s, g->latent, err);
    nn_edit_run_free(&g->edit);
    nn_sampler_free(&sampler);
    return bad;
}

/* B pictures from g->first on. */
static int make_batch(gen_run *g, int64_t B, nn_image *out, tn_err *err) {
    for (int64_t i = 0; i < B; i++) {
        tn_rng_seed(&g->rng[i], g->r->seed + (uint64_t)(g->first + i));
        tn_rng_randn(&g->rng[i], g->latent + i * g->n, (size_t)g->n);
        if (g->r->noise) memcpy(g->latent + i * g->n, g->r->noise + (g->first + i) * g->n, (size_t)g->n * sizeof *g->latent);
    }
    nn_memory_part(g->c, g->m, g->r->residency, &g->needs.unet);
    int bad = sample(g->c, g, B, err);
    if (!bad) nn_memory_part(g->c, g->m, g->r->residency, &g->needs.vae);
    for (int64_t i = 0; i < B && !bad; i++) bad = develop(g, i, &out[g->first + i], err);
    return bad;
}

/* Everything that needs no memory to speak of. */
static int settle(gen_run *g, const nn_model *m, const gen_request *r, tn_err *err) {
    nn_schedule_config config;
    int64_t native = gen_native_size(m), f = nn_vae_factor(m->vae);
    *g = (gen_run){.m = m, .r = r, .width = r->width ? r->width : native, .height = r->height ? r->height : native};
    if (r->edit) g->width = r->edit->cfg.width, g->height = r->edit->cfg.height;
    TN_REQUIRE(!r->edit || r->edit->cfg.steps == r->steps);
    if (gen_check_size(m, g->width, g->height, err)) return -1;
    if (r->steps < 1 || r->steps > 1000000)
        return tn_fail(err, TN_EUSAGE, "steps: expected at least 1, got %lld", (long long)r->steps);
    g->h = g->height / f, g->w = g->width / f, g->n = nn_unet_cfg(m->unet)->in_channels * g->h * g->w;
    g->L = nn_prompt_length(m), g->D = m->text->cfg.t.width;
    g->batch = gen_batch(m, g->width, g->height);
    if (g->batch > r->count) g->batch = r->count;
    g->guided = (float)r->guidance != 1.0f;
    if (gen_schedule(m, r->sampler, &config, NULL, err)) return -1;
    int bad = nn_schedule_init(&g->schedule, &config, err);
    nn_schedule_config_free(&config);
    return bad;
}

/* ---- memory ---- */

/* The parts of a run for a context that only counts: the data are there, but nobody looks at them. */
static int dry_text(tn_ctx *c, void *arg, tn_err *err) {
    const gen_run *g = arg;
    return nn_encode_text(c, g->m->text, (int64_t[]){0}, g->guided ? 2 : 1, g->L, g->r->learned, g->r->rows, NULL, err);
}

static int dry_unet(tn_ctx *c, void *arg, tn_err *err) {
    gen_run g = *(const gen_run *)arg;
    gen_request r = *g.r;
    r.edit = NULL, r.clip = NULL, g.r = &r; /* what they take is counted by itself */
    g.cond = g.uncond = (float[]){0.0f};
    return sample(c, &g, g.batch, err);
}

static int dry_vae(tn_ctx *c, void *arg, tn_err *err) {
    const gen_run *g = arg;
    return nn_decode_latent(c, g->m->vae, (float[]){0.0f}, 1, g->h, g->w, NULL, err);
}

static int dry_encoder(tn_ctx *c, void *arg, tn_err *err) {
    const gen_run *g = arg;
    return nn_encode_image(c, g->m->vae, (float[]){0.0f}, 1, g->height, g->width, NULL, err);
}

static int dry_fit(tn_ctx *c, void *arg, tn_err *err) {
    const gen_run *g = arg;
    return nn_edit_fit(c, g->m, g->r->edit, (float[]){0.0f}, NULL, NULL, NULL, err);
}

static int measure_edit(const tn_ctx *like, gen_run *g, tn_err *err) {
    gen_needs *n = &g->needs;
    const nn_edit_config *k = &g->r->edit->cfg;
    if (nn_measure(like, g->m, dry_encoder, g, &n->encoder, err)) return -1;
    if (k->low_pass && k->low_pass_pixels) {
        n->beside = n->encoder.step > n->vae.step ? n->encoder : n->vae;
        n->beside.weights = n->encoder.weights + n->vae.weights;
    }
    if (k->background != NN_BACKGROUND_DECODER) return 0;
    if (nn_measure(like, g->m, dry_fit, g, &n->fit, err)) return -1;
    n->fit.weights += nn_decoder_copy_bytes(g->m->vae), n->fit.part += nn_decoder_copy_bytes(g->m->vae);
    return 0;
}

static int measure_clip(const tn_ctx *like, gen_run *g, tn_err *err) {
    fill_clip(g, like);
    int bad = nn_measure(like, g->m, nn_clip_guidance_dry, &g->clip, &g->needs.clip, err);
    g->needs.clip.weights += nn_clip_guidance_weights(g->clip.clip);
    g->needs.clip.part = g->needs.clip.weights; /* nothing of it is given back between blocks */
    return bad;
}

static int measure(const tn_ctx *like, gen_run *g, tn_err *err) {
    return nn_measure(like, g->m, dry_text, g, &g->needs.text, err) ||
           nn_measure(like, g->m, dry_unet, g, &g->needs.unet, err) ||
           nn_measure(like, g->m, dry_vae, g, &g->needs.vae, err) || (g->r->edit && measure_edit(like, g, err)) ||
           (g->r->clip && measure_clip(like, g, err));
}

int gen_measure(const tn_ctx *like, const nn_model *m, const gen_request *r, gen_needs *out, tn_err *err) {
    gen_run g;
    int bad = settle(&g, m, r, err) || measure(like, &g, err) ? -1 : 0;
    if (!bad) *out = g.needs;
    nn_schedule_free(&g.schedule);
    return bad;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

size_t gen_bytes(const gen_needs *n, nn_residency residency) {
    const nn_need *parts[] = {&n->text, &n->encoder, &n->unet, &n->vae, &n->fit};
    size_t weights = 0, step = 0, most = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bool unet = parts[i] == &n->unet;
        weights += parts[i]->weights;
        size_t steps = n->beside.step + n->clip.step + n->clip.block,
               bytes = nn_need_bytes(&n->beside, residency) + nn_need_bytes(&n->clip, residency);
        step = larger(step, parts[i]->step + (unet ? steps : 0));
        most = larger(most, nn_need_bytes(parts[i], residency) + (unet ? bytes : 0));
    }
    return residency == NN_STAY ? weights + n->clip.weights + step : most;
}

/* ---- all of it ---- */

static int prepare(gen_run *g, tn_ctx *c, nn_model *m, const gen_request *r, tn_err *err) {
    if (settle(g, m, r, err)) return -1;
    g->c = c;
    if (measure(c, g, err)) return -1;
    nn_memory_part(c, m, r->residency, &g->needs.text);
    return encode_prompts(g, err) || allocate(g, err) ? -1 : 0;
}

int gen_pictures(tn_ctx *c, nn_model *m, const gen_request *r, nn_image *out, tn_err *err) {
    gen_run g;
    for (int64_t i = 0; i < r->count; i++) out[i] = (nn_image){0};
    int bad = prepare(&g, c, m, r, err);
    for (; !bad && g.first < r->count; g.first += g.batch) {
        bad = make_batch(&g, r->count - g.first < g.batch ? r->count - g.first : g.batch, out, err);
    }
    nn_memory_part(c, m, r->residency, NULL);
    for (int64_t i = 0; bad && i < r->count; i++) nn_image_free(&out[i]);
    nn_schedule_free(&g.schedule);
    tn_ctx_free(&g.clip_ctx);
    free(g.context), free(g.cond), free(g.uncond), free(g.latent), free(g.image), free(g.rng);
    return bad;
}
