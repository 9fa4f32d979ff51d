/* nn/fit on the bundled model: great circles, DDIM inversion and its way back, CLIP's views and their gradient,
 * guidance by CLIP, latents and words found by optimisation, the map between two text encoders. */
#include "nn/fit/clip_guidance.h"
#include "nn/fit/clip_word.h"
#include "nn/fit/ddim_inversion.h"
#include "nn/fit/latent_fit.h"
#include "nn/fit/slerp.h"
#include "nn/fit/word_map.h"
#include "nn/image/preprocess.h"
#include "nn/model.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool near(double a, double b, double tolerance) { return fabs(a - b) <= tolerance; }

/* ---- great circles ---- */

static void test_slerp(test_state *t) {
    float a[33], b[33], out[33], zero[33] = {0};
    uint64_t seed = 7;
    for (int i = 0; i < 33; i++) a[i] = 3.0f * test_rand(&seed), b[i] = test_rand(&seed);
    nn_slerp(a, b, 0.0, out, 33);
    CHECK(t, memcmp(a, out, sizeof a) == 0);
    nn_slerp(a, b, 1.0, out, 33);
    CHECK(t, memcmp(b, out, sizeof b) == 0);
    float x[] = {1, 0, 0}, y[] = {0, 1, 0}, between[3];
    for (double at = 0.25; at < 1.0; at += 0.25) { /* the angle grows evenly, the length stays */
        nn_slerp(x, y, at, between, 3);
        double length = hypot((double)between[0], (double)between[1]);
        CHECKF(t, near(nn_angle(x, between, 3), at * acos(0.0), 1e-7) && near(length, 1.0, 1e-7),
               "at %g: angle %g, length %g", at, nn_angle(x, between, 3), length);
    }
    CHECK(t, near(nn_angle(x, (float[]){-2, 0, 0}, 3), acos(-1.0), 1e-12) && nn_angle(a, a, 33) == 0.0 &&
                 nn_angle(a, zero, 33) == 0.0);
    nn_slerp(x, (float[]){-1, 0, 0}, 0.25, between, 3); /* no arc: the straight line */
    CHECK(t, between[0] == 0.5f && between[1] == 0.0f);
    nn_slerp(a, zero, 0.5, out, 33);
    CHECK(t, out[5] == 0.5f * a[5]);
    memcpy(out, a, sizeof a);
    nn_slerp(out, b, 0.3, out, 33); /* in place */
    float apart[33];
    nn_slerp(a, b, 0.3, apart, 33);
    CHECK(t, memcmp(apart, out, sizeof out) == 0);
}

/* ---- the bundled model ---- */

enum { SIDE = 64, LATENT = 4 * 16 * 16, FEATURES = 128, WIDTH = 128 };

typedef struct world {
    tn_ctx c;
    nn_model *m;
    nn_clip *clip;
    nn_tokenizer *tokens; /* of the CLIP */
    nn_schedule schedule;
    nn_image picture;
    float pixels[3 * SIDE * SIDE], latent[LATENT], target[FEATURES];
    float *cond, *uncond; /* [1,L,D] */
} world;

static bool encode(world *s, const char *prompt, float **out, tn_err *err) {
    int64_t ids[128];
    int L = nn_prompt_length(s->m);
    *out = malloc((size_t)(L * WIDTH) * sizeof **out);
    return *out && nn_prompt_ids(s->m, prompt, NN_RULES_HF, ids, err) == 0 &&
           nn_encode_text(&s->c, s->m->text, ids, 1, L, NULL, 0, *out, err) == 0;
}

static void unit(const tn_tensor *y, float *out) {
    double sum = 0.0;
    for (int i = 0; i < FEATURES; i++) sum += (double)tn_f32(y)[i] * (double)tn_f32(y)[i];
    for (int i = 0; i < FEATURES; i++) out[i] = (float)((double)tn_f32(y)[i] / sqrt(sum));
}

static bool features_of_text(world *s, const char *text, float *out, tn_err *err) {
    nn_tokens tokens;
    int64_t L = s->clip->text.cfg.positions, ids[64];
    if (nn_tokenizer_encode(s->tokens, text, strlen(text), NN_RULES_HF, (int)L, &tokens, err)) return false;
    for (int i = 0; i < L; i++) ids[i] = tokens.ids[i];
    nn_tokens_free(&tokens);
    if (tn_ctx_begin(&s->c, false, err)) return false;
    unit(nn_clip_text_features(&s->c, s->clip, tn_leaf(&s->c, TN_I64, 2, (int64_t[]){1, L}, ids, false), NULL), out);
    return true;
}

static bool features_of_picture(world *s, float *out, tn_err *err) {
    nn_views v;
    if (nn_views_whole(s->clip, SIDE, SIDE, &v, err) || tn_ctx_begin(&s->c, false, err)) return false;
    tn_tensor *x = tn_leaf(&s->c, TN_F32, 4, (int64_t[]){1, 3, SIDE, SIDE}, s->pixels, false);
    unit(nn_clip_view_features(&s->c, s->clip, &v, x), out);
    nn_views_free(&v);
    return true;
}

static void shut(world *s) {
    nn_model_free(s->m), nn_clip_free(s->clip), nn_tokenizer_free(s->tokens);
    nn_schedule_free(&s->schedule);
    nn_image_free(&s->picture);
    free(s->cond), free(s->uncond);
    tn_ctx_free(&s->c);
}

static bool open(test_state *t, world *s, int threads) {
    tn_err err = {0};
    float moments[2 * LATENT];
    memset(s, 0, sizeof *s);
    tn_ctx_init(&s->c, NULL, threads);
    bool ok = nn_model_load("testdata/world/model", NN_LOAD_ALL, &s->m, &err) == 0 &&
              nn_clip_load("testdata/world/clip", &s->clip, &err) == 0 &&
              nn_tokenizer_load("testdata/world/clip", &s->tokens, &err) == 0 &&
              nn_image_load("testdata/world/concepts/mango/0.png", &s->picture, &err) == 0;
    if (ok) s->m->schedule.clip_sample = false, s->m->schedule.steps_offset = 1;
    ok = ok && nn_schedule_init(&s->schedule, &s->m->schedule, &err) == 0;
    if (ok) nn_image_to_signed(&s->picture, s->pixels);
    ok = ok && nn_encode_image(&s->c, s->m->vae, s->pixels, 1, SIDE, SIDE, moments, &err) == 0;
    if (ok) nn_sample_posterior(s->m->vae, s->c.k, moments, NULL, s->latent, LATENT);
    ok = ok && encode(s, "a photo of a cat", &s->cond, &err) && encode(s, "", &s->uncond, &err) &&
         features_of_text(s, "a photo of a blue car", s->target, &err);
    if (!CHECKF(t, ok, "the bundled model: %s", err.msg)) shut(s);
    return ok;
}

/* ---- DDIM inversion ---- */

/* One step of the official code's form, method of section 1.10 written as there, beside the sampler's. */
static void test_closed_form(test_state *t) {
    nn_schedule_config config;
    nn_schedule schedule;
    nn_sampler s;
    tn_err err = {0};
    nn_schedule_config_default(&config, NN_SCHEDULER_DDIM);
    config.beta_schedule = NN_BETA_SCALED_LINEAR, config.beta_start = 0.00085, config.beta_end = 0.012;
    nn_schedule_config_for_stable_diffusion(&config);
    CHECK(t, nn_schedule_init(&schedule, &config, &err) == 0);
    if (!CHECKF(t, nn_ddim_inversion_init(&s, &schedule, NN_INVERT_OFFICIAL, 50, 8, &err) == 0, "%s", err.msg)) return;
    CHECK(t, s.n_steps == 49 && s.timesteps[0] == 1 && s.timesteps[1] == 21 && s.timesteps[48] == 961);
    uint64_t seed = 3;
    for (int i = 0; i < 49; i++) {
        double a = (double)schedule.alphas_cumprod[(int)s.timesteps[i]],
               b = (double)schedule.alphas_cumprod[(int)s.timesteps[i] + 20];
        float x[8], e[8], got[8];
        for (int k = 0; k < 8; k++) x[k] = 2.0f * test_rand(&seed), e[k] = 2.0f * test_rand(&seed);
        nn_sampler_step(&s, i, e, x, NULL, got, NULL);
        for (int k = 0; k < 8; k++) {
            double want = (double)x[k] + sqrt(b) * ((1 / sqrt(a) - 1 / sqrt(b)) * (double)x[k] +
                                                    (sqrt(1 / b - 1) - sqrt(1 / a - 1)) * (double)e[k]);
            CHECKF(t, near((double)got[k], want, 1e-5), "step %d: %.8g, expected %.8g", i, (double)got[k], want);
        }
    }
    nn_sampler_free(&s);
    CHECK(t, nn_ddim_inversion_init(&s, &schedule, NN_INVERT_DIFFUSERS, 50, 8, &err) == 0 && s.n_steps == 50 &&
                 s.timesteps[49] == 981);
    nn_sampler_free(&s);
    CHECK(t, nn_ddim_inversion_init(&s, &schedule, NN_INVERT_OFFICIAL, 1, 8, &err) == -1 && err.code == TN_EUSAGE);
    CHECK(t, nn_ddim_inversion_init(&s, &schedule, NN_INVERT_OFFICIAL, 1001, 8, &err) == -1 && err.code == TN_EUSAGE);
    nn_schedule_free(&schedule);
}

static double round_trip(test_state *t, world *s, nn_inversion_rule rule, int steps, float guidance, float *noise) {
    nn_sampling like = {.unet = s->m->unet,
                        .B = 1,
                        .h = 16,
                        .w = 16,
                        .cond = s->cond,
                        .uncond = s->uncond,
                        .L = nn_prompt_length(s->m),
                        .D = WIDTH,
                        .guidance = guidance};
    float back[LATENT];
    double mse = -1.0;
    tn_err err = {0};
    CHECKF(t, nn_ddim_round_trip(&s->c, &like, &s->schedule, rule, steps, s->latent, noise, back, &mse, &err) == 0,
           "%s", err.msg);
    return mse;
}

static void test_round_trip(test_state *t) {
    world s;
    float noise[LATENT], other[LATENT];
    if (!open(t, &s, 2)) return;
    double few = round_trip(t, &s, NN_INVERT_OFFICIAL, 4, 1.0f, noise),
           some = round_trip(t, &s, NN_INVERT_OFFICIAL, 8, 1.0f, noise),
           many = round_trip(t, &s, NN_INVERT_OFFICIAL, 20, 1.0f, noise), spread = 0.0;
    CHECKF(t, many > 0.0 && many < some / 2.0 && some < few / 2.0, "the error does not fall with steps: %g %g %g", few,
           some, many);
    for (int i = 0; i < LATENT; i++) spread += (double)noise[i] * (double)noise[i] / LATENT;
    CHECKF(t, spread > 0.4 && spread < 1.3, "the noise has variance %g", spread);
    double guided = round_trip(t, &s, NN_INVERT_OFFICIAL, 8, 5.0f, other);
    CHECKF(t, guided > 4.0 * some, "guidance does not break it: %g, without %g", guided, some);
    double diffusers = round_trip(t, &s, NN_INVERT_DIFFUSERS, 8, 1.0f, other);
    CHECKF(t, diffusers > 0.0 && diffusers < few && diffusers != some, "the other rule: %g", diffusers);
    round_trip(t, &s, NN_INVERT_OFFICIAL, 2, 3.0f, noise);
    s.c.threads = 1;
    round_trip(t, &s, NN_INVERT_OFFICIAL, 2, 3.0f, other);
    CHECK(t, memcmp(noise, other, sizeof noise) == 0);
    shut(&s);
}

/* ---- views ---- */

/* What the tower gives for bytes by nn_clip_preprocess, and for the same numbers as a picture in the making. */
static double view_error(world *s, const nn_image *in) {
    nn_views v;
    tn_err err;
    int64_t S = s->clip->crop, n = 3 * in->width * in->height;
    float *pixels = malloc((size_t)n * sizeof *pixels), *seen = malloc((size_t)(3 * S * S) * sizeof *seen), a[FEATURES];
    nn_image_to_signed(in, pixels);
    if (nn_clip_preprocess(in, S, NN_CROP_FLOOR, s->clip->mean, s->clip->std, seen, &err) ||
        nn_views_whole(s->clip, in->height, in->width, &v, &err))
        return 9.0;
    tn_ctx_begin(&s->c, false, &err);
    memcpy(
        a,
        tn_f32(nn_clip_image_features(&s->c, s->clip, tn_leaf(&s->c, TN_F32, 4, (int64_t[]){1, 3, S, S}, seen, false))),
        sizeof a);
    tn_ctx_begin(&s->c, false, &err);
    tn_tensor *x = tn_leaf(&s->c, TN_F32, 4, (int64_t[]){1, 3, in->height, in->width}, pixels, false);
    double angle = nn_angle(a, tn_f32(nn_clip_view_features(&s->c, s->clip, &v, x)), FEATURES);
    nn_views_free(&v);
    free(pixels), free(seen);
    return angle;
}

static void test_views(test_state *t) {
    world s;
    tn_err err;
    if (!open(t, &s, 2)) return;
    double same = view_error(&s, &s.picture);
    CHECKF(t, same < 1e-5, "a picture of CLIP's own size: %g", same);
    static const int sizes[][2] = {{96, 96}, {150, 67}, {67, 150}, {40, 56}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes;
         i++) { /* bytes between resizing and normalising make the difference */
        nn_image other;
        CHECK(t, nn_resize(&s.picture, sizes[i][0], sizes[i][1], NN_BICUBIC, &other, &err) == 0);
        double angle = view_error(&s, &other);
        CHECKF(t, angle < 0.05, "%d x %d: %g", sizes[i][0], sizes[i][1], angle);
        nn_image_free(&other);
    }
    nn_views a, b;
    tn_rng g;
    for (int run = 0; run < 2; run++) {
        tn_rng_seed(&g, 5);
        CHECK(t, nn_views_cutouts(s.clip, 96, 80, 3, &g, run ? &b : &a, &err) == 0);
    }
    CHECK(t, memcmp(a.across, b.across, (size_t)(3 * 64 * 80) * sizeof(float)) == 0 &&
                 memcmp(a.noise, b.noise, (size_t)(9 * 64 * 64) * sizeof(float)) == 0);
    for (int64_t i = 0; i < 3 * 64; i++) { /* every pixel of a view is a weighted mean of the picture's */
        double sum = 0.0;
        for (int64_t k = 0; k < 80; k++) sum += (double)a.across[i * 80 + k];
        CHECKF(t, near(sum, 1.0, 1e-5), "weights of row %d add up to %g", (int)i, sum);
    }
    nn_views_free(&a), nn_views_free(&b);
    bool first = true, last = false; /* whether all see the first column, whether one sees far to the right */
    CHECK(t, nn_views_cutouts(s.clip, 96, 80, 8, &g, &a, &err) == 0);
    for (int64_t i = 0; i < 8; i++) {
        double ends[2] = {0.0, 0.0};
        for (int64_t k = 0; k < 64; k++) {
            const float *row = a.across + (i * 64 + k) * 80;
            ends[0] += fabs((double)row[0]), ends[1] += fabs((double)row[70]);
        }
        first = first && ends[0] > 0.0, last = last || ends[1] > 0.0;
    }
    CHECK(t, !first && last);
    nn_views_free(&a);
    shut(&s);
}

/* ---- guidance by CLIP ---- */

static nn_clip_guidance guidance_of(world *s, double scale) {
    return (nn_clip_guidance){.vae = s->m->vae,
                              .clip = s->clip,
                              .schedule = &s->schedule,
                              .target = s->target,
                              .scale = scale,
                              .h = 16,
                              .w = 16,
                              .c = &s->c};
}

/* The gradient along a direction beside the difference of two losses. The losses are good to about 1e-6, the steps
 * change them by about 1e-3, so a part in a hundred is what can be asked for. */
static void test_gradient(test_state *t) {
    world s;
    tn_err err = {0};
    float grad[LATENT], direction[LATENT], x[LATENT], unused[LATENT];
    if (!open(t, &s, 2)) return;
    nn_clip_guidance g = guidance_of(&s, 1.0);
    uint64_t seed = 11;
    tn_rng draws;
    tn_rng_seed(&draws, 2);
    for (int which = 0; which < 2; which++) {
        nn_views v;
        CHECK(t, (which ? nn_views_cutouts(s.clip, SIDE, SIDE, 4, &draws, &v, &err)
                        : nn_views_whole(s.clip, SIDE, SIDE, &v, &err)) == 0);
        CHECK(t, nn_clip_guidance_gradient(&g, &v, s.latent, grad, &err) == 0 && g.loss > 0.1 && g.loss < 4.0);
        double size = 0.0;
        for (int i = 0; i < LATENT; i++) size += (double)grad[i] * (double)grad[i];
        for (int towards = 0; towards < 2; towards++) {
            double slope = 0.0, step = 0.02, side[2];
            for (int i = 0; i < LATENT; i++) {
                direction[i] = towards ? (float)((double)grad[i] / sqrt(size)) : 0.0f;
                if (!towards) direction[i] = 0.1f * test_rand(&seed) + (float)(0.3 * (double)grad[i] / sqrt(size));
                slope += (double)grad[i] * (double)direction[i];
            }
            for (int k = 0; k < 2; k++) {
                for (int i = 0; i < LATENT; i++) x[i] = s.latent[i] + (float)(k ? -step : step) * direction[i];
                CHECK(t, nn_clip_guidance_gradient(&g, &v, x, unused, &err) == 0);
                side[k] = g.loss;
            }
            double measured = (side[0] - side[1]) / (2.0 * step);
            CHECKF(t, fabs(slope) > 1e-3 && fabs(measured - slope) < 0.01 * fabs(slope),
                   "views %d: slope %g, differences %g", which, slope, measured);
        }
        nn_views_free(&v);
    }
    shut(&s);
}

/* What a guided prediction leads to lies nearer to the target. */
static void test_downhill(test_state *t) {
    world s;
    tn_err err = {0};
    nn_views v;
    float sample[LATENT], eps[LATENT], x0[LATENT], unused[LATENT];
    uint64_t seed = 31;
    if (!open(t, &s, 2)) return;
    nn_clip_guidance g = guidance_of(&s, 5.0);
    double abar = (double)s.schedule.alphas_cumprod[401], a = sqrt(abar), b = sqrt(1.0 - abar);
    for (int i = 0; i < LATENT; i++) {
        eps[i] = test_rand(&seed);
        sample[i] = (float)(a * (double)s.latent[i] + b * (double)eps[i]);
    }
    CHECK(t, nn_clip_guidance_apply(&g, 0, 401, 1, sample, eps, &err) == 0);
    double before = g.loss;
    for (int i = 0; i < LATENT; i++) x0[i] = (float)(((double)sample[i] - b * (double)eps[i]) / a);
    CHECK(t, nn_views_whole(s.clip, SIDE, SIDE, &v, &err) == 0 &&
                 nn_clip_guidance_gradient(&g, &v, x0, unused, &err) == 0);
    CHECKF(t, g.loss < before, "the loss of the prediction: %g, guided %g", before, g.loss);
    nn_views_free(&v);
    shut(&s);
}

static void test_guidance(test_state *t) {
    world s;
    tn_err err = {0};
    float sample[2 * LATENT], eps[2 * LATENT], got[2 * LATENT], alone[LATENT], v[LATENT], x0[LATENT];
    if (!open(t, &s, 2)) return;
    uint64_t seed = 21;
    for (int i = 0; i < 2 * LATENT; i++) sample[i] = 2.0f * test_rand(&seed), eps[i] = 2.0f * test_rand(&seed);
    nn_clip_guidance g = guidance_of(&s, 0.0);
    memcpy(got, eps, sizeof got);
    CHECK(t, nn_clip_guidance_apply(&g, 0, 401, 2, sample, got, &err) == 0 && memcmp(got, eps, sizeof got) == 0);
    g.scale = 5.0, g.cutouts = 2, g.seed = 40;
    CHECK(t, nn_clip_guidance_apply(&g, 3, 401, 2, sample, got, &err) == 0 && memcmp(got, eps, sizeof got) != 0);
    g.seed = 41, s.c.threads = 1;
    memcpy(alone, eps + LATENT, sizeof alone);
    CHECK(t, nn_clip_guidance_apply(&g, 3, 401, 1, sample + LATENT, alone, &err) == 0 &&
                 memcmp(alone, got + LATENT, sizeof alone) == 0);
    /* The same change whatever the model predicts. */
    double abar = (double)s.schedule.alphas_cumprod[401], a = sqrt(abar), b = sqrt(1.0 - abar), off = 0.0, size = 0.0,
           off0 = 0.0;
    for (int i = 0; i < LATENT; i++) {
        double e = (double)eps[i], x = (double)sample[i];
        x0[i] = (float)((x - b * e) / a), v[i] = (float)(a * e - b * (x - b * e) / a);
    }
    g.cutouts = 0, g.seed = 40;
    memcpy(got, eps, sizeof got);
    CHECK(t, nn_clip_guidance_apply(&g, 0, 401, 1, sample, got, &err) == 0);
    s.schedule.config.prediction_type = NN_PREDICT_V;
    CHECK(t, nn_clip_guidance_apply(&g, 0, 401, 1, sample, v, &err) == 0);
    s.schedule.config.prediction_type = NN_PREDICT_SAMPLE;
    CHECK(t, nn_clip_guidance_apply(&g, 0, 401, 1, sample, x0, &err) == 0);
    for (int i = 0; i < LATENT; i++) {
        double moved = (double)got[i] - (double)eps[i], x = (double)sample[i];
        off += pow(a * (double)v[i] + b * x - (double)got[i], 2),
            off0 += pow((x - a * (double)x0[i]) / b - (double)got[i], 2);
        size += moved * moved;
    }
    CHECKF(t, size > 0.0 && off < 1e-6 * size && off0 < 1e-6 * size, "v prediction off by %g, x0 by %g of %g", off,
           off0, size);
    tn_ctx dry;
    tn_ctx_free(&s.c);
    CHECK(t, nn_clip_guidance_apply(&g, 0, 401, 1, sample, x0, &err) == 0);
    tn_ctx_init(&dry, s.c.k, s.c.threads), tn_ctx_set_dry(&dry);
    size_t taken = tn_ctx_peak(&s.c);
    CHECKF(t,
           nn_clip_guidance_dry(&dry, &g, &err) == 0 && tn_ctx_peak(&dry) >= taken &&
               tn_ctx_peak(&dry) < taken + taken / 20,
           "planned %zu bytes, took %zu", tn_ctx_peak(&dry), taken);
    tn_ctx_free(&dry);
    CHECK(t, nn_clip_guidance_weights(s.clip) > 1 << 20);
    shut(&s);
}

/* ---- latents by optimisation ---- */

static bool fit_image(test_state *t, world *s, int64_t steps, double lr, float *latent, nn_latent_fit *f) {
    tn_err err = {0};
    memcpy(latent, s->latent, sizeof s->latent);
    *f = (nn_latent_fit){.steps = steps, .lr = lr};
    return CHECKF(t, nn_latent_fit_image(&s->c, s->m->vae, f, s->pixels, latent, 16, 16, &err) == 0, "%s", err.msg);
}

static void test_latents(test_state *t) {
    world s;
    float a[LATENT], b[LATENT];
    nn_latent_fit f;
    tn_err err = {0};
    if (!open(t, &s, 2)) return;
    if (fit_image(t, &s, 8, 0.1, a, &f))
        CHECKF(t, f.last < 0.9 * f.first && f.last > 0.0, "the error of the picture: %g, then %g", f.first, f.last);
    s.c.threads = 1;
    if (fit_image(t, &s, 8, 0.1, b, &f)) CHECK(t, memcmp(a, b, sizeof a) == 0);
    if (fit_image(t, &s, 3, 50.0, b, &f))
        CHECK(t, f.last == f.first && memcmp(b, s.latent, sizeof b) == 0); /* only worse: the start stays */
    if (fit_image(t, &s, 0, 0.1, b, &f)) CHECK(t, f.last == f.first && memcmp(b, s.latent, sizeof b) == 0);
    for (int threads = 1; threads <= 2; threads++) {
        float *z = threads == 1 ? a : b;
        tn_rng g;
        tn_rng_seed(&g, 9);
        memcpy(z, s.latent, sizeof s.latent);
        s.c.threads = threads;
        f = (nn_latent_fit){.steps = 8, .lr = 0.1};
        CHECKF(t, nn_latent_fit_clip(&s.c, s.m->vae, s.clip, &f, s.target, 4, &g, z, 16, 16, &err) == 0, "%s", err.msg);
        CHECKF(t, f.last < 0.85 * f.first, "the loss of CLIP: %g, then %g", f.first, f.last);
    }
    CHECK(t, memcmp(a, b, sizeof a) == 0);
    nn_image other = s.picture;
    CHECK(t, isinf(nn_psnr(&s.picture, &other)));
    shut(&s);
}

/* ---- words ---- */

static void test_word_map(test_state *t) {
    enum { N = 90, P = 12, Q = 7 };
    float x[N * P], y[N * Q], w[P * Q], got[Q];
    nn_word_map m, other;
    tn_err err = {0};
    uint64_t seed = 5;
    for (int i = 0; i < P * Q; i++) w[i] = test_rand(&seed);
    for (int i = 0; i < N; i++) {
        for (int p = 0; p < P; p++) x[i * P + p] = test_rand(&seed) + 0.5f;
        for (int q = 0; q < Q; q++) {
            y[i * Q + q] = 2.0f;
            for (int p = 0; p < P; p++) y[i * Q + q] += x[i * P + p] * w[p * Q + q];
        }
    }
    if (!CHECKF(t, nn_word_map_fit(x, y, N, P, Q, 2, &m, &err) == 0, "%s", err.msg)) return;
    CHECKF(t, m.explained > 0.999999 && m.ridge == 1e-4 && m.words == N, "a linear map explains %g", m.explained);
    nn_word_map_apply(&m, x + 3 * P, got);
    for (int q = 0; q < Q; q++) CHECK(t, near((double)got[q], (double)y[3 * Q + q], 1e-3));
    CHECK(t, nn_word_map_fit(x, y, N, P, Q, 1, &other, &err) == 0 &&
                 memcmp(m.w, other.w, P * Q * sizeof(double)) == 0 && m.explained == other.explained);
    nn_word_map_free(&other);
    /* Leave-one-out in closed form is what leaving out in fact gives: the ridge is the same here, and small. */
    double error = 0.0, spread = 0.0;
    for (int i = 0; i < N * Q; i++) y[i] += 0.3f * test_rand(&seed);
    nn_word_map_free(&m);
    CHECK(t, nn_word_map_fit(x, y, N, P, Q, 2, &m, &err) == 0);
    for (int i = 0; i < N; i++) {
        float fewer_x[N * P], fewer_y[N * Q];
        memcpy(fewer_x, x, sizeof x), memcpy(fewer_y, y, sizeof y);
        memmove(fewer_x + i * P, fewer_x + (i + 1) * P, (size_t)((N - 1 - i) * P) * sizeof *x);
        memmove(fewer_y + i * Q, fewer_y + (i + 1) * Q, (size_t)((N - 1 - i) * Q) * sizeof *y);
        CHECK(t, nn_word_map_fit(fewer_x, fewer_y, N - 1, P, Q, 1, &other, &err) == 0);
        nn_word_map_apply(&other, x + i * P, got);
        for (int q = 0; q < Q; q++)
            error += pow((double)got[q] - (double)y[i * Q + q], 2),
                spread += pow((double)y[i * Q + q] - m.mean_to[q], 2);
        nn_word_map_free(&other);
    }
    CHECKF(t, near(1.0 - error / spread, m.explained, 5e-3), "left out one at a time: %g, in closed form %g",
           1.0 - error / spread, m.explained);
    nn_word_map_free(&m);
    for (int i = 0; i < N * Q; i++) y[i] = test_rand(&seed); /* nothing to find */
    CHECK(t, nn_word_map_fit(x, y, N, P, Q, 2, &m, &err) == 0 && m.explained < 0.1);
    nn_word_map_free(&m);
    CHECK(t, nn_word_map_fit(x, y, 1, P, Q, 2, &m, &err) == -1 && err.code == TN_EINPUT);
    memset(y, 0, sizeof y);
    CHECK(t, nn_word_map_fit(x, y, N, P, Q, 2, &m, &err) == -1 && err.code == TN_EINPUT);
}

static void test_between(test_state *t) {
    world s;
    nn_word_map m;
    tn_err err = {0};
    float x[WIDTH], y[WIDTH];
    if (!open(t, &s, 2)) return;
    for (int i = 0; i < WIDTH; i++) x[i] = (float)i;
    CHECK(t,
          nn_word_map_between(s.c.k, s.m->text, s.m->tokenizer, s.m->text, s.m->tokenizer, 2, &m, &err) == 0 && m.same);
    CHECKF(t, m.words > 200, "%d words", (int)m.words);
    nn_word_map_apply(&m, x, y);
    CHECK(t, memcmp(x, y, sizeof x) == 0);
    nn_word_map_free(&m);
    if (CHECKF(t, nn_word_map_between(s.c.k, &s.clip->text, s.tokens, s.m->text, s.m->tokenizer, 2, &m, &err) == 0,
               "%s", err.msg))
        CHECKF(t, !m.same && m.explained > 0.0 && m.explained < 1.0, "the judge's words explain %g of the model's",
               m.explained);
    nn_word_map_free(&m);
    shut(&s);
}

static void test_clip_word(test_state *t) {
    world s;
    tn_err err = {0};
    float pictures[FEATURES], coarse[FEATURES], v[3][WIDTH];
    int64_t L = 0, ids[64];
    if (!open(t, &s, 2)) return;
    nn_tokens tokens;
    CHECK(t, features_of_text(&s, "a photo of a cat", coarse, &err));
    CHECK(t, features_of_picture(&s, pictures, &err));
    L = s.clip->text.cfg.positions;
    int32_t first;
    CHECK(t, nn_tokenizer_add(s.tokens, "<x>", 1, &first, &err) == 0);
    CHECK(t, nn_tokenizer_encode(s.tokens, "a photo of a <x>", 16, NN_RULES_HF, (int)L, &tokens, &err) == 0);
    bool there = false;
    for (int i = 0; i < L; i++) ids[i] = tokens.ids[i], there = there || ids[i] == s.clip->text.cfg.vocab;
    nn_tokens_free(&tokens);
    CHECK(t, there);
    int32_t cat = nn_tokenizer_word(s.tokens, "cat");
    for (int run = 0; run < 3; run++) {
        const char *row =
            (const char *)s.clip->text.token.data + (size_t)(cat * WIDTH) * tn_dtype_size(s.clip->text.token.dtype);
        s.c.k->widen(WIDTH, row, s.clip->text.token.dtype, v[run]);
        s.c.threads = run == 2 ? 1 : 2;
        nn_clip_word f = {.steps = run ? 3 : 40, .lr = 0.01, .temperature = 0.25};
        CHECKF(t, nn_clip_word_fit(&s.c, s.clip, &f, ids, 1, L, pictures, coarse, v[run], &err) == 0, "%s", err.msg);
        CHECKF(t, near(f.coarse_first, 1.0, 1e-4), "the sentence with the coarse word's own vector: %g",
               f.coarse_first);
        CHECKF(t, run || (f.last < 0.5 * f.first && f.near_last > f.near_first + 0.1 && f.coarse_last < 0.5),
               "loss %g to %g, pictures %g to %g, coarse word %g", f.first, f.last, f.near_first, f.near_last,
               f.coarse_last);
    }
    CHECK(t, memcmp(v[1], v[2], sizeof v[1]) == 0);
    shut(&s);
}

void test_main(test_state *t) {
    if (test_section(t, "slerp")) test_slerp(t);
    if (test_section(t, "closed form")) test_closed_form(t);
    if (test_section(t, "round trip")) test_round_trip(t);
    if (test_section(t, "views")) test_views(t);
    if (test_section(t, "gradient")) test_gradient(t);
    if (test_section(t, "guidance")) test_guidance(t);
    if (test_section(t, "guidance downhill")) test_downhill(t);
    if (test_section(t, "latents")) test_latents(t);
    if (test_section(t, "word map")) test_word_map(t);
    if (test_section(t, "between encoders")) test_between(t);
    if (test_section(t, "clip word")) test_clip_word(t);
}
