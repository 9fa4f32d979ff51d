/* Cases of schedules and samplers, and whole runs of a model under them. */
#include "tools/verify_model.h"

#include "nn/image/preprocess.h"
#include "nn/pipeline.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

bool verify_schedule(verify_case *c, const char *key, const char *class_override, nn_schedule *out) {
    const tn_jval *json = verify_attr(c, key);
    nn_schedule_config config;
    if (!json) verify_bad(c, "attrs.%s is missing", key);
    if (c->err.code || nn_schedule_config_parse(json, class_override, &config, &c->err)) return false;
    nn_schedule_init(out, &config, &c->err);
    nn_schedule_config_free(&config);
    return !c->err.code;
}

/* ---- scheduler ---- */

/* The tables, stored here or in the case that attrs.tables_in names. */
static void put_tables(verify_case *c, const nn_schedule *s) {
    static const char *const names[] = {"out.betas", "out.alphas_cumprod"};
    const float *tables[] = {s->betas, s->alphas_cumprod};
    int64_t n = s->config.num_train_timesteps;
    for (int i = 0; i < 2; i++) verify_put_data(c, names[i], TN_F32, 1, &n, tables[i]);
    if (!verify_attr(c, "tables_in")) return;
    char *path = verify_join(c, c->folder, "/", verify_text(c, "tables_in"));
    path = path ? verify_join(c, path, ".safetensors", NULL) : NULL;
    tn_st *other = NULL;
    if (!path || tn_st_open(path, TN_MAP_COPY, &other, &c->err)) return;
    for (int i = 0; i < 2; i++) {
        const tn_st_tensor *golden = tn_st_find(other, names[i]);
        char *shown = verify_join(c, verify_text(c, "tables_in"), ":", names[i]);
        if (!golden)
            verify_bad(c, "attrs.tables_in: %s has no %s", path, names[i]);
        else if (shown)
            verify_put_against(c, golden, shown, n, tables[i]);
    }
    tn_st_close(other);
}

static void put_timesteps(verify_case *c, const char *name, const nn_sampler *s) {
    int64_t n = s->n_steps;
    const tn_st_tensor *golden = tn_st_find(c->st, name);
    int64_t *whole = verify_alloc(c, (size_t)n * sizeof *whole);
    if (!whole) return;
    for (int64_t i = 0; i < n; i++) whole[i] = (int64_t)s->timesteps[i];
    if (golden && golden->dtype != TN_ST_I64)
        verify_put_data(c, name, TN_F64, 1, &n, s->timesteps);
    else
        verify_put_data(c, name, TN_I64, 1, &n, whole);
}

/* The name of a step's tensor: "in.noise" and 3 -> "in.noise.3". */
static const char *step_name(verify_case *c, const char *name, int i) {
    char number[16];
    snprintf(number, sizeof number, ".%d", i);
    const char *full = verify_join(c, name, number, NULL);
    return full ? full : name;
}

static void put_added_noise(verify_case *c, const nn_schedule *s) {
    float *x0 = verify_f32(c, "in.x0", "B*"), *noise = verify_f32(c, "in.noise", "B*");
    int64_t *t = verify_i64(c, "in.timesteps", "B"), B = verify_dim(c, 'B');
    if (c->err.code) return;
    const tn_st_tensor *like = tn_st_find(c->st, "in.x0");
    int64_t each = like->count / B;
    if (tn_st_find(c->st, "in.noise")->count != like->count) verify_bad(c, "in.noise: another shape than in.x0");
    verify_range(c, "in.timesteps", t, B, s->config.num_train_timesteps);
    float *noisy = verify_alloc(c, (size_t)like->count * sizeof *noisy),
          *velocity = verify_alloc(c, (size_t)like->count * sizeof *velocity);
    for (int64_t b = 0; b < B && !c->err.code; b++) {
        int64_t at = b * each;
        nn_add_noise(s, x0 + at, noise + at, (int)t[b], noisy + at, (size_t)each);
        nn_velocity(s, x0 + at, noise + at, (int)t[b], velocity + at, (size_t)each);
    }
    verify_put_data(c, "out.noisy", TN_F32, like->ndim, like->shape, noisy);
    verify_put_data(c, "out.velocity", TN_F32, like->ndim, like->shape, velocity);
}

/* One step on stored model outputs; sample goes in and out. */
static void step(verify_case *c, nn_sampler *s, int i, float *sample, float *x0, const tn_st_tensor *like) {
    const char *names[] = {step_name(c, "in.model_output", i), step_name(c, "in.noise", i)};
    const float *output = verify_f32(c, names[0], "*"), *noise = NULL;
    if (nn_sampler_needs_noise(s, i)) noise = verify_f32(c, names[1], "*");
    for (int k = 0; k < 2 && !c->err.code; k++) {
        const tn_st_tensor *t = tn_st_find(c->st, names[k]);
        if (t && t->count != like->count) verify_bad(c, "%s: another shape than in.sample", names[k]);
    }
    if (c->err.code) return;
    nn_sampler_step(s, i, output, sample, noise, sample, x0);
    verify_put_step(c, "out.prev_sample", i, TN_F32, like->ndim, like->shape, sample);
    verify_put_step(c, "out.pred_original_sample", i, TN_F32, like->ndim, like->shape, x0);
}

static void put_chain(verify_case *c, const nn_schedule *schedule) {
    float *sample = verify_f32(c, "in.sample", "*");
    int n = (int)verify_int(c, "num_inference_steps", 1, 1000000), stored = (int)verify_int(c, "steps_stored", 0, n);
    if (c->err.code) return;
    const tn_st_tensor *like = tn_st_find(c->st, "in.sample");
    float *x0 = verify_alloc(c, (size_t)like->count * sizeof *x0);
    nn_sampler s;
    if (!x0 || nn_sampler_init(&s, schedule, n, verify_number(c, "eta", 0), (size_t)like->count, &c->err)) return;
    float sigma = (float)s.init_noise_sigma;
    put_timesteps(c, "out.timesteps", &s);
    verify_put_data(c, "out.init_noise_sigma", TN_F32, 0, NULL, &sigma);
    for (int i = 0; i < stored && i < s.n_steps && !c->err.code; i++) step(c, &s, i, sample, x0, like);
    nn_sampler_free(&s);
}

void verify_scheduler(verify_case *c) {
    nn_schedule schedule;
    if (!verify_schedule(c, "config", NULL, &schedule)) return;
    put_tables(c, &schedule);
    if (verify_attr(c, "mode") && !strcmp(verify_text(c, "mode"), "add_noise"))
        put_added_noise(c, &schedule);
    else
        put_chain(c, &schedule);
    nn_schedule_free(&schedule);
}

/* ---- whole runs ---- */

typedef struct run {
    verify_case *c;
    const nn_model *m;
    nn_sampling s;
    float *latent;
    int64_t shape[4];
    const char *latents, *outputs; /* names of what every step gives; NULL: not shown */
} run;

static float *encode(run *r, const char *name, const char *trace) {
    verify_case *c = r->c;
    int64_t *ids = verify_i64(c, name, "BL"), B = verify_dim(c, 'B'), L = verify_dim(c, 'L'),
            D = r->m->text->cfg.t.width;
    if (L > r->m->text->cfg.positions)
        verify_bad(c, "%s: the model has %lld positions", name, (long long)r->m->text->cfg.positions);
    if (ids) verify_range(c, name, ids, B * L, r->m->text->cfg.vocab);
    if (D != nn_unet_cfg(r->m->unet)->cross_dim[0]) verify_bad(c, "the text encoder does not fit the UNet");
    float *out = verify_alloc(c, (size_t)(B * L * D) * sizeof *out);
    if (!out || nn_encode_text(c->ctx, r->m->text, ids, B, L, NULL, 0, out, &c->err)) return NULL;
    verify_put_data(c, trace, TN_F32, 3, (int64_t[]){B, L, D}, out);
    r->s.L = L, r->s.D = D;
    return out;
}

static void step_noise(void *arg, int i, float *noise, size_t n) {
    run *r = arg;
    const char *name = step_name(r->c, "in.noise", i);
    const float *x = verify_f32(r->c, name, "BCHW");
    memset(noise, 0, n * sizeof *noise);
    if (x) memcpy(noise, x, n * sizeof *noise); /* BCHW is the latent's shape */
}

static int after_step(void *arg, int i, const float *output, const float *latent) {
    run *r = arg;
    if (r->outputs) verify_put_step(r->c, r->outputs, i, TN_F32, 4, r->shape, output);
    verify_put_step(r->c, r->latents, i, TN_F32, 4, r->shape, latent);
    return r->c->err.code != 0;
}

/* Loads the latent, encodes the prompts. The tower's own traces are not part of such cases. */
static void prepare(run *r) {
    verify_case *c = r->c;
    c->ctx->trace = NULL;
    c->dim['C' - 'A'] = nn_unet_cfg(r->m->unet)->in_channels;
    r->latent = verify_f32(c, "in.latent", "BCHW");
    for (int i = 0; i < 4; i++) r->shape[i] = verify_dim(c, "BCHW"[i]);
    r->s = (nn_sampling){.unet = r->m->unet,
                         .B = r->shape[0],
                         .h = r->shape[2],
                         .w = r->shape[3],
                         .noise = step_noise,
                         .after = after_step,
                         .arg = r};
    r->s.guidance = (float)verify_number(c, "guidance_scale", 1);
    if (c->err.code) return;
    r->s.cond = encode(r, "in.input_ids", "trace.encoder_hidden_states");
    if (verify_has(c, "in.uncond_input_ids")) {
        r->s.uncond = encode(r, "in.uncond_input_ids", "trace.encoder_hidden_states_uncond");
    } else if (r->s.guidance != 1) {
        verify_bad(c, "guidance without in.uncond_input_ids");
    }
}

/* From r->latent, in place, under one scheduler class. */
static void sample(run *r, const char *class_override, const char *timesteps) {
    verify_case *c = r->c;
    nn_schedule schedule;
    nn_sampler s;
    int64_t n = r->shape[0] * r->shape[1] * r->shape[2] * r->shape[3];
    if (c->err.code || !verify_schedule(c, "config", class_override, &schedule)) return;
    int steps = (int)verify_int(c, "num_inference_steps", 1, 1000000);
    if (!c->err.code && !nn_sampler_init(&s, &schedule, steps, verify_number(c, "eta", 0), (size_t)n, &c->err)) {
        r->s.sampler = &s;
        put_timesteps(c, timesteps, &s);
        if (!c->err.code) nn_sample(c->ctx, &r->s, r->latent, &c->err);
        nn_sampler_free(&s);
    }
    nn_schedule_free(&schedule);
}

/* The decoder's picture, and as bytes [B,H,W,3]. */
static void put_image(run *r) {
    verify_case *c = r->c;
    const nn_vae *vae = r->m->vae;
    int64_t B = r->shape[0], h = r->shape[2] * nn_vae_factor(vae), w = r->shape[3] * nn_vae_factor(vae), n = 3 * h * w;
    float *raw = verify_alloc(c, (size_t)(B * n) * sizeof *raw);
    unsigned char *bytes = verify_alloc(c, (size_t)(B * n));
    if (!bytes || nn_decode_latent(c->ctx, vae, r->latent, B, r->shape[2], r->shape[3], raw, &c->err)) return;
    verify_put_data(c, "out.image_raw", TN_F32, 4, (int64_t[]){B, 3, h, w}, raw);
    for (int64_t i = 0; i < B; i++) {
        nn_image image;
        if (nn_image_from_signed(raw + i * n, w, h, &image, &c->err)) return;
        memcpy(bytes + i * n, image.rgb, (size_t)n);
        nn_image_free(&image);
    }
    verify_put_data(c, "out.image_u8", TN_U8, 4, (int64_t[]){B, h, w, 3}, bytes);
}

/* Whether all that will run is built in: said before anything is computed. */
static bool supported(verify_case *c, const char *class_override) {
    nn_schedule schedule;
    if (!verify_schedule(c, "config", class_override, &schedule)) return false;
    nn_schedule_free(&schedule);
    return true;
}

void verify_text_to_image(verify_case *c) {
    nn_model *m = supported(c, NULL) ? verify_model(c, NN_LOAD_TEXT | NN_LOAD_UNET | NN_LOAD_VAE) : NULL;
    if (!m) return;
    run r = {.c = c, .m = m, .latents = "out.latent", .outputs = "trace.model_output"};
    double ours = (double)nn_vae_cfg(m->vae)->scaling_factor, theirs = verify_number(c, "scaling_factor", ours);
    if (fabs(ours - theirs) > 1e-6 * fabs(theirs))
        verify_bad(c, "attrs.scaling_factor is %g, the model's is %g", theirs, ours);
    prepare(&r);
    sample(&r, NULL, "out.timesteps");
    if (!c->err.code) put_image(&r);
    nn_model_free(m);
}

void verify_ddim_inversion(verify_case *c) {
    nn_model *m = verify_model(c, NN_LOAD_TEXT | NN_LOAD_UNET);
    if (!m) return;
    run r = {.c = c, .m = m, .latents = "out.inverted"};
    prepare(&r);
    sample(&r, verify_text(c, "inverse_scheduler"), "out.inverse_timesteps");
    r.latents = "out.latent";
    sample(&r, verify_text(c, "scheduler"), "out.timesteps");
    nn_model_free(m);
}
