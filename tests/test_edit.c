/* Edits against identities: what a mask of ones and of zeros, every strength, and the low band of N = 1 must give is
 * known to the bit; dilation against a plain loop; the fitted decoder by what it is for. And the order of candidates. On the
 * bundled model. */
#include "nn/config.h"
#include "nn/edit/low_pass.h"
#include "nn/edit/mask.h"
#include "nn/image/preprocess.h"
#include "tests/test.h"
#include "tools/generate.h"
#include "tools/rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- masks ---- */

static void dilate_plainly(const unsigned char *in, int64_t w, int64_t h, int64_t r, unsigned char *out) {
    for (int64_t y = 0; y < h; y++) {
        for (int64_t x = 0; x < w; x++) {
            out[y * w + x] = 0;
            for (int64_t v = y - r; v <= y + r; v++) {
                for (int64_t u = x - r; u <= x + r; u++) {
                    if (u >= 0 && v >= 0 && u < w && v < h && in[v * w + u]) out[y * w + x] = 1;
                }
            }
        }
    }
}

static void test_dilation(test_state *t) {
    unsigned char in[13 * 9], fast[13 * 9], plain[13 * 9];
    uint64_t seed = 3;
    tn_err err = {0};
    for (int round = 0; round < 40; round++) {
        int64_t w = 1 + round % 13, h = 1 + round % 9;
        for (int64_t i = 0; i < w * h; i++) in[i] = test_rand(&seed) > 0.8f;
        for (int64_t r = 0; r < 16; r++) {
            dilate_plainly(in, w, h, r, plain);
            if (nn_mask_dilate(in, w, h, r, fast, &err)) abort();
            CHECKF(t, memcmp(fast, plain, (size_t)(w * h)) == 0, "%d x %d by %d", (int)w, (int)h, (int)r);
        }
    }
}

static void test_masks(test_state *t) {
    unsigned char rgb[] = {255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 127, 127, 127, 128, 128, 128}, mask[6], copy[18];
    nn_image image = {6, 1, rgb};
    float grey[6];
    tn_err err = {0};
    nn_mask_grey(&image, false, grey);
    /* Pillow: Image.new("RGB", (1, 1), (255, 0, 0)).convert("L") is 76, green 150 */
    CHECK(t, grey[0] == 1.0f && grey[1] == 0.0f && grey[2] == 76.0f / 255.0f && grey[3] == 150.0f / 255.0f);
    CHECK(t, nn_mask_from_grey(grey, 6, 1, 6, 1, NN_LANCZOS, mask, &err) == 0 && memcmp(mask, "\1\0\0\1\0\1", 6) == 0);
    CHECK(t, nn_mask_area(mask, 6) == 3);
    CHECK(t, nn_mask_from_grey(grey, 6, 1, 2, 1, NN_NEAREST, mask, &err) == 0 && mask[0] == 0 && mask[1] == 0);
    nn_mask_grey(&image, true, grey);
    CHECK(t, nn_mask_from_grey(grey, 6, 1, 6, 1, NN_NEAREST, mask, &err) == 0 && memcmp(mask, "\0\1\1\0\1\0", 6) == 0);
    memcpy(copy, rgb, sizeof copy);
    nn_mask_blacken(mask, &image);
    for (int i = 0; i < 18; i++) CHECK(t, rgb[i] == (mask[i / 3] ? copy[i] : 0));
}

/* Not fmax, of which gcc 12 for AArch64 makes an internal error in loops like those below. */
static double larger(double a, double b) { return b <= a ? a : b; }

/* ---- the low band ---- */

static void test_low_pass(test_state *t) {
    enum { P = 2, H = 8, W = 16, N = P * H * W };
    float x[N], y[N], z[N], constant[N];
    uint64_t seed = 4;
    tn_err err = {0};
    for (int i = 0; i < N; i++) x[i] = test_rand(&seed), y[i] = test_rand(&seed), constant[i] = 0.25f;
    CHECK(t, nn_low_pass(x, P, H, W, 1, z, &err) == 0 && memcmp(z, x, sizeof z) == 0);
    for (int64_t n = 2; n <= 8; n *= 2) {
        double high = 0.0, most = 0.0;
        CHECK(t, nn_low_pass(constant, P, H, W, n, z, &err) == 0);
        for (int i = 0; i < N; i++) CHECK(t, fabsf(z[i] - 0.25f) < 1e-6f);
        CHECK(t, nn_low_pass(x, P, H, W, n, z, &err) == 0);
        for (int i = 0; i < N; i++) high += fabs((double)(z[i] - x[i]));
        CHECKF(t, high > 0.2 * N, "N = %d takes nothing away", (int)n);
        memcpy(z, x, sizeof z); /* its own band for its own */
        CHECK(t, nn_exchange_low_band(z, x, P, H, W, n, &err) == 0);
        for (int i = 0; i < N; i++) most = larger(most, fabs((double)(z[i] - x[i])));
        CHECKF(t, most < 1e-6, "N = %d: x in exchange for x differs by %g", (int)n, most);
    }
    memcpy(z, x, sizeof z);
    CHECK(t, nn_exchange_low_band(z, y, P, H, W, 1, &err) == 0 && memcmp(z, y, sizeof z) == 0);
}

/* ---- steps ---- */

static void test_strength(test_state *t) {
    static const struct { int steps; double strength; int left; } rows[] = { /* Python: int(steps * strength) */
        {50, 0.75, 37}, {50, 1.0, 50}, {50, 0.0, 0}, {50, 0.58, 28}, {20, 0.35, 7}, {10, 0.3, 3}, {3, 0.34, 1}, {7, 0.99, 6}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECKF(t, nn_edit_first(rows[i].steps, rows[i].strength) == rows[i].steps - rows[i].left, "%d steps, strength %g",
               rows[i].steps, rows[i].strength);
}

static void test_predicted(test_state *t) {
    enum { N = 64 };
    float x0[N], noise[N], noisy[N], output[N], back[N];
    uint64_t seed = 6;
    tn_err err = {0};
    for (int i = 0; i < N; i++) x0[i] = test_rand(&seed), noise[i] = test_rand(&seed);
    for (int kind = NN_PREDICT_EPSILON; kind <= NN_PREDICT_SAMPLE; kind++) {
        nn_schedule_config cfg;
        nn_schedule s;
        nn_schedule_config_default(&cfg, NN_SCHEDULER_DDIM);
        cfg.prediction_type = kind;
        if (nn_schedule_init(&s, &cfg, &err)) abort();
        for (int time = 1; time < 1000; time += 333) {
            double tolerance = 1e-6 / sqrt((double)s.alphas_cumprod[time]);
            nn_add_noise(&s, x0, noise, time, noisy, N);
            nn_training_target(&s, x0, noise, time, output, N);
            nn_predict_x0(&s, noisy, output, time, back, N);
            for (int i = 0; i < N; i++) CHECKF(t, fabs((double)(back[i] - x0[i])) < tolerance, "kind %d at %d", kind, time);
        }
        nn_schedule_free(&s);
    }
}

/* ---- whole edits ---- */

enum { SIDE = 64, LATENT = 4 * 16 * 16, STEPS = 4 };

typedef struct setup {
    nn_model *m;
    tn_ctx c;
    nn_image picture, mask, out[3];
    nn_edit e;
    nn_edit_config cfg;
    gen_request r;
    float latents[3 * LATENT], plain[3 * LATENT];
} setup;

static void open_setup(setup *s) {
    tn_err err = {0};
    *s = (setup){.cfg = {.steps = STEPS, .low_pass_until = -1},
                 .r = {.prompt = "a photo of a red cat", .steps = STEPS, .guidance = 3.0, .eta = 0.5, .seed = 7, .count = 1}};
    tn_ctx_init(&s->c, NULL, 2);
    if (nn_model_load("testdata/world/model", NN_LOAD_ALL, &s->m, &err) ||
        nn_image_load("testdata/world/concepts/mango/0.png", &s->picture, &err) || nn_image_alloc(SIDE, SIDE, &s->mask, &err))
        abort();
}

static void close_setup(setup *s) {
    for (int i = 0; i < 3; i++) nn_image_free(&s->out[i]);
    nn_edit_free(&s->e), nn_image_free(&s->picture), nn_image_free(&s->mask);
    nn_model_free(s->m), tn_ctx_free(&s->c);
    free(s);
}

/* White from column `from` on. */
static void paint(setup *s, int64_t from) {
    for (int64_t i = 0; i < SIDE * SIDE; i++) memset(s->mask.rgb + 3 * i, i % SIDE >= from ? 255 : 0, 3);
}

/* The latents of the pictures of s->r with these settings, or, `masked` < 0, of no edit at all. */
static void make(test_state *t, setup *s, int masked, float *latents) {
    tn_err err = {0};
    for (int i = 0; i < 3; i++) nn_image_free(&s->out[i]);
    nn_edit_free(&s->e);
    if (masked >= 0) {
        int bad = nn_edit_open(s->m, &s->cfg, &s->picture, masked ? &s->mask : NULL, &s->e, &err);
        if (!CHECKF(t, !bad && nn_edit_encode(&s->c, s->m, &s->e, &err) == 0, "%s", err.msg)) abort();
    }
    s->r.edit = masked >= 0 ? &s->e : NULL, s->r.latents = latents;
    if (!CHECKF(t, gen_pictures(&s->c, s->m, &s->r, s->out, &err) == 0, "%s", err.msg)) abort();
}

static bool same_picture(const nn_image *a, const nn_image *b) {
    return a->width == b->width && a->height == b->height && memcmp(a->rgb, b->rgb, 3 * (size_t)(a->width * a->height)) == 0;
}

static void test_mask_identities(test_state *t) {
    setup *s = malloc(sizeof *s);
    if (!s) abort();
    open_setup(s);
    make(t, s, -1, s->plain);
    nn_image plain = s->out[0];
    s->out[0] = (nn_image){0};
    for (s->cfg.background = NN_BACKGROUND_LATENT; s->cfg.background <= NN_BACKGROUND_PASTE; s->cfg.background++) {
        for (s->cfg.shrink = 0; s->cfg.shrink < 3; s->cfg.shrink += 2) {
            paint(s, 0);
            make(t, s, 1, s->latents);
            CHECKF(t, memcmp(s->latents, s->plain, sizeof *s->plain * LATENT) == 0, "a mask of ones is not plain generation");
            CHECK(t, same_picture(&s->out[0], &plain) && !nn_edit_is_empty(&s->e));
            paint(s, SIDE);
            make(t, s, 1, s->latents);
            CHECKF(t, memcmp(s->latents, s->e.latent, sizeof *s->plain * LATENT) == 0, "a mask of zeros changes the latent");
            CHECK(t, same_picture(&s->out[0], &s->picture) == (s->cfg.background == NN_BACKGROUND_PASTE) && nn_edit_is_empty(&s->e));
        }
    }
    nn_image_free(&plain);
    close_setup(s);
}

/* Half a mask: nothing moves outside it, everything inside; the bits are those of any batch and number of threads. */
static void test_half_mask(test_state *t) {
    setup *s = malloc(sizeof *s);
    int inside = 0;
    if (!s) abort();
    open_setup(s);
    paint(s, 24);
    s->cfg.background = NN_BACKGROUND_PASTE, s->cfg.shrink = 1, s->cfg.first = 1, s->r.count = 3;
    make(t, s, 1, s->plain);
    for (int i = 0; i < 3 * LATENT; i++) {
        bool kept = i % 16 < 6;
        if (kept) CHECK(t, s->plain[i] == s->e.latent[i % LATENT]);
        else inside += s->plain[i] != s->e.latent[i % LATENT];
    }
    CHECK(t, inside == 3 * LATENT / 16 * 10);
    for (int i = 0; i < SIDE * SIDE; i++) {
        if (i % SIDE < 24) CHECK(t, memcmp(s->out[1].rgb + 3 * i, s->picture.rgb + 3 * i, 3) == 0);
    }
    CHECK(t, !same_picture(&s->out[0], &s->out[1]) && !same_picture(&s->out[0], &s->picture));
    s->r.count = 1, s->r.seed += 2, s->c.threads = 1;
    make(t, s, 1, s->latents);
    CHECKF(t, memcmp(s->latents, s->plain + 2 * LATENT, sizeof *s->plain * LATENT) == 0, "one picture alone, by one thread, differs");
    close_setup(s);
}

/* img2img: begun mid-way it is the sampler on the picture's own noisy latent. */
static void test_strengths(test_state *t) {
    setup *s = malloc(sizeof *s);
    if (!s) abort();
    open_setup(s);
    make(t, s, -1, s->plain);
    make(t, s, 0, s->latents);
    CHECKF(t, memcmp(s->latents, s->plain, sizeof *s->plain * LATENT) == 0, "strength 1 is not plain generation");
    s->cfg.first = STEPS;
    make(t, s, 0, s->latents);
    CHECKF(t, memcmp(s->latents, s->e.latent, sizeof *s->plain * LATENT) == 0, "strength 0 changes the latent");
    double last = 0.0;
    for (s->cfg.first = STEPS - 1; s->cfg.first > 0; s->cfg.first--) { /* the more steps, the further away */
        double d = 0.0;
        make(t, s, 0, s->latents);
        for (int i = 0; i < LATENT; i++) d += fabs((double)(s->latents[i] - s->e.latent[i]));
        CHECKF(t, d > last, "from step %d: %g, with a step less %g", (int)s->cfg.first, d, last);
        last = d;
    }
    close_setup(s);
}

/* The distance of two latents in the low band. */
static double low_distance(const float *a, const float *b) {
    float x[LATENT], y[LATENT];
    double d = 0.0;
    tn_err err = {0};
    if (nn_low_pass(a, 4, 16, 16, 4, x, &err) || nn_low_pass(b, 4, 16, 16, 4, y, &err)) abort();
    for (int i = 0; i < LATENT; i++) d += fabs((double)(x[i] - y[i])) / LATENT;
    return d;
}

static void test_low_band(test_state *t) {
    setup *s = malloc(sizeof *s);
    if (!s) abort();
    open_setup(s);
    make(t, s, -1, s->plain);
    s->cfg.low_pass = 1;
    make(t, s, 0, s->latents);
    CHECKF(t, memcmp(s->latents, s->e.latent, sizeof *s->plain * LATENT) == 0, "N = 1 is not the reference's latent");
    s->cfg.low_pass_pixels = true;
    make(t, s, 0, s->latents);
    CHECKF(t, same_picture(&s->out[0], &s->picture), "N = 1 in pixels is not the reference");
    for (int pixels = 0; pixels < 2; pixels++) {
        s->cfg.low_pass = pixels ? 16 : 4, s->cfg.low_pass_pixels = pixels, s->cfg.low_pass_until = 0;
        make(t, s, 0, s->latents);
        CHECKF(t, memcmp(s->latents, s->plain, sizeof *s->plain * LATENT) == 0, "exchanged after no step is not plain");
        double free_run = low_distance(s->plain, s->e.latent), held, half;
        s->cfg.low_pass_until = -1;
        make(t, s, 0, s->latents);
        held = low_distance(s->latents, s->e.latent);
        s->cfg.low_pass_until = STEPS / 2;
        make(t, s, 0, s->latents);
        half = low_distance(s->latents, s->e.latent);
        CHECKF(t, held < 0.5 * free_run && held < half && half < free_run, "pixels %d: %g, until the middle %g, free %g", pixels,
               held, half, free_run);
    }
    close_setup(s);
}

/* The masks of ten steps, the first two left out: they shrink every third step (8 / 3 + 1), and the last one is the mask
 * itself; which is seen by what nn_edit_before leaves alone. */
static void test_shrinking(test_state *t) {
    setup *s = malloc(sizeof *s);
    nn_schedule schedule;
    nn_sampler sampler;
    nn_edit_run run;
    tn_err err = {0};
    float z[LATENT];
    if (!s) abort();
    open_setup(s);
    paint(s, 40); /* latent columns 10 to 15 */
    s->cfg = (nn_edit_config){.steps = 10, .first = 2, .shrink = 2, .low_pass_until = -1};
    if (nn_edit_open(s->m, &s->cfg, &s->picture, &s->mask, &s->e, &err) || nn_edit_encode(&s->c, s->m, &s->e, &err) ||
        nn_schedule_init(&schedule, &s->m->schedule, &err) || nn_sampler_init(&sampler, &schedule, 10, 0.0, LATENT, &err) ||
        nn_edit_run_open(&run, &s->e, s->m, &schedule, &sampler, 1, 1, &s->c, &err))
        abort();
    for (int step = 2; step <= 10; step++) {
        int from = step < 5 ? 8 : step < 8 ? 9 : 10; /* dilated by 2, by 1, not */
        for (int i = 0; i < LATENT; i++) z[i] = 100.0f;
        CHECK(t, nn_edit_before(&run, step, z, &err) == 0);
        for (int i = 0; i < LATENT; i++) CHECKF(t, (z[i] == 100.0f) == (i % 16 >= from), "step %d, column %d", step, i % 16);
    }
    nn_edit_run_free(&run), nn_sampler_free(&sampler), nn_schedule_free(&schedule);
    close_setup(s);
}

/* What the first step begins with, and what a later one's low band is, by the equations: sqrt(abar_t) z + sqrt(1 - abar_t)
 * noise, with the noise of torch's generator seeded with the seed, and of the one 2^31 further on. */
static void test_levels(test_state *t) {
    setup *s = malloc(sizeof *s);
    nn_schedule schedule;
    nn_sampler sampler;
    nn_edit_run run;
    tn_rng rng;
    tn_err err = {0};
    float z[2 * LATENT], noise[2 * LATENT], band[LATENT], own[LATENT], x[LATENT];
    if (!s) abort();
    open_setup(s);
    s->cfg = (nn_edit_config){.steps = 10, .first = 4, .low_pass = 4, .low_pass_until = -1};
    if (nn_edit_open(s->m, &s->cfg, &s->picture, NULL, &s->e, &err) || nn_edit_encode(&s->c, s->m, &s->e, &err) ||
        nn_schedule_init(&schedule, &s->m->schedule, &err) || nn_sampler_init(&sampler, &schedule, 10, 0.0, 2 * LATENT, &err) ||
        nn_edit_run_open(&run, &s->e, s->m, &schedule, &sampler, 2, 30, &s->c, &err))
        abort();
    tn_rng_seed(&rng, 1), tn_rng_randn(&rng, noise, 2 * LATENT), memcpy(z, noise, sizeof z);
    nn_edit_begin(&run, z);
    double a = (double)schedule.alphas_cumprod[(int)sampler.timesteps[4]], far = 0.0;
    for (int i = 0; i < 2 * LATENT; i++)
        far = larger(far, fabs((double)z[i] - sqrt(a) * (double)s->e.latent[i % LATENT] - sqrt(1.0 - a) * (double)noise[i]));
    CHECKF(t, far < 1e-6, "the latent of step 4 is off by %g", far);
    memcpy(noise, z, sizeof z);
    CHECK(t, nn_edit_before(&run, 4, z, &err) == 0);
    CHECKF(t, memcmp(noise, z, sizeof z) == 0, "the first step's latent has no low band to exchange");
    CHECK(t, nn_edit_before(&run, 6, z, &err) == 0);
    a = (double)schedule.alphas_cumprod[(int)sampler.timesteps[6]];
    for (int k = 0; k < 2; k++) {
        tn_rng_seed(&rng, 30 + (uint64_t)k + 0x80000000u), tn_rng_randn(&rng, x, LATENT);
        for (int i = 0; i < LATENT; i++) x[i] = (float)(sqrt(a) * (double)s->e.latent[i] + sqrt(1.0 - a) * (double)x[i]);
        if (nn_low_pass(x, 4, 16, 16, 4, band, &err) || nn_low_pass(noise + k * LATENT, 4, 16, 16, 4, own, &err)) abort();
        far = 0.0;
        for (int i = 0; i < LATENT; i++)
            far = larger(far, fabs((double)z[k * LATENT + i] - (double)noise[k * LATENT + i] + (double)own[i] - (double)band[i]));
        CHECKF(t, far < 1e-5, "sample %d: the low band of step 6 is off by %g", k, far);
    }
    nn_edit_run_free(&run), nn_sampler_free(&sampler), nn_schedule_free(&schedule);
    close_setup(s);
}

/* ---- the order of candidates ---- */

static void order(test_state *t, bool text, bool image, const int expected[4]) {
    rank_place p[] = {{0, 0.1, 0.9, 0.0}, {1, 0.3, 0.8, 0.0}, {2, 0.3, 0.7, 0.0}, {3, 0.2, 0.9, 0.0}};
    rank_sort(p, 4, text, image);
    for (int i = 0; i < 4; i++) CHECKF(t, p[i].index == expected[i], "place %d: %d, expected %d", i, p[i].index, expected[i]);
    for (int i = 1; i < 4; i++) CHECK(t, p[i - 1].score >= p[i].score);
}

/* By both, by hand: text has mean 0.225 and deviation sqrt(0.006875), image 0.825 and sqrt(0.006875): the sums of the
 * differences are -0.05, 0.05, -0.05, 0.05, of equals the first one first. */
static void test_order(test_state *t) {
    order(t, true, false, (int[]){1, 2, 3, 0});
    order(t, false, true, (int[]){0, 3, 1, 2});
    rank_place p[] = {{0, 0.1, 0.9, 0.0}, {1, 0.3, 0.8, 0.0}, {2, 0.3, 0.7, 0.0}, {3, 0.2, 0.9, 0.0}};
    rank_sort(p, 4, true, true);
    CHECK(t, p[0].index + p[1].index == 4 && p[2].index + p[3].index == 2);
    for (int i = 0; i < 4; i++) CHECK(t, fabs(fabs(p[i].score) - 0.05 / sqrt(0.006875)) < 1e-12);
    rank_place same[] = {{0, 0.5, 0.1, 0.0}, {1, 0.5, 0.3, 0.0}, {2, 0.5, 0.3, 0.0}}; /* text tells nothing */
    rank_sort(same, 3, true, true);
    CHECK(t, same[0].index == 1 && same[1].index == 2 && same[2].index == 0);
    rank_place one = {0, 0.5, 0.1, 9.0};
    rank_sort(&one, 1, true, true);
    CHECK(t, one.score == 0.0);
}

static void sentence(test_state *t, const char *prompt, const char *expected) {
    emb_word w[] = {{.token = (char[]){"<a>"}}, {.token = (char[]){"*"}}};
    emb_words words = {w, 2};
    char *out = NULL;
    tn_err err = {0};
    int bad = rank_sentence(prompt, &words, &out, &err);
    CHECKF(t, expected ? !bad && strcmp(out, expected) == 0 : bad && err.code == TN_EUSAGE && !out, "\"%s\": \"%s\"", prompt,
           out ? out : err.msg);
    free(out);
}

static void test_sentences(test_state *t) {
    sentence(t, "a photo of a <a> in the style of *", "a photo of a  in the style of ");
    sentence(t, "<a>*<a> cat", " cat");
    sentence(t, "<<a>a>", "<a>");
    sentence(t, "a cat", "a cat");
    sentence(t, "<a> *", NULL);
    sentence(t, "", NULL);
}

/* ---- the fitted decoder ---- */

static void keep_loss(void *arg, int64_t step, double loss) {
    double *losses = arg;
    if (step == 1) losses[0] = loss;
    losses[1] = loss, losses[2] = (double)step;
}

/* Mean square of the difference of bytes, where the mask says so. */
static double difference(const nn_image *a, const nn_image *b, const unsigned char *mask, unsigned char where) {
    double sum = 0.0, n = 0.0;
    for (int i = 0; i < 3 * SIDE * SIDE; i++) {
        if (mask[i / 3] != where) continue;
        sum += (double)(a->rgb[i] - b->rgb[i]) * (a->rgb[i] - b->rgb[i]), n++;
    }
    return sum / n;
}

static void test_decoder(test_state *t) {
    setup *s = malloc(sizeof *s);
    tn_err err = {0};
    double losses[3] = {0.0};
    nn_image fitted = {0}, again = {0};
    if (!s) abort();
    open_setup(s);
    paint(s, 32);
    s->cfg.background = NN_BACKGROUND_DECODER, s->cfg.decoder_steps = 16;
    make(t, s, 1, s->latents);
    CHECKF(t, nn_edit_fit(&s->c, s->m, &s->e, s->latents, &fitted, keep_loss, losses, &err) == 0, "%s", err.msg);
    CHECKF(t, losses[2] == 16 && losses[1] < 0.5 * losses[0], "loss %g -> %g", losses[0], losses[1]);
    double before = difference(&s->out[0], &s->picture, s->e.mask, 0), after = difference(&fitted, &s->picture, s->e.mask, 0),
           inside = difference(&fitted, &s->out[0], s->e.mask, 1);
    CHECKF(t, after < 0.5 * before, "background: mean square %g -> %g", before, after);
    CHECKF(t, inside < before, "foreground: mean square %g", inside);
    s->c.threads = 1, s->e.cfg.decoder_steps = 3;
    CHECKF(t, nn_edit_fit(&s->c, s->m, &s->e, s->latents, &again, NULL, NULL, &err) == 0, "%s", err.msg);
    s->c.threads = 2;
    CHECKF(t, nn_edit_fit(&s->c, s->m, &s->e, s->latents, &fitted, NULL, NULL, &err) == 0, "%s", err.msg);
    CHECKF(t, same_picture(&fitted, &again), "threads change the fitted decoder");
    float *image = malloc(2 * 3 * SIDE * SIDE * sizeof *image), *plain = image + 3 * SIDE * SIDE;
    nn_decoder_fit none = {.latent = s->latents, .h = 16, .w = 16, .foreground = s->e.pixels, .background = s->e.pixels, .mask = s->e.mask};
    CHECK(t, nn_decoder_refine(&s->c, "testdata/world/model/vae", &none, image, &err) == 0);
    CHECK(t, nn_decode_latent(&s->c, s->m->vae, s->latents, 1, 16, 16, plain, &err) == 0);
    CHECKF(t, memcmp(image, plain, 3 * SIDE * SIDE * sizeof *image) == 0, "no step is not the decoder");
    double first = 0.0; /* before the first step the foreground is as it should be */
    for (int i = 0; i < 3 * SIDE * SIDE; i++) {
        double d = (double)plain[i] - (double)s->e.pixels[i];
        if (!s->e.mask[i % (SIDE * SIDE)]) first += NN_DECODER_PRESERVATION * d * d / (3.0 * SIDE * SIDE);
    }
    CHECKF(t, fabs(losses[0] / first - 1.0) < 1e-5, "the first loss is %g, expected %g", losses[0], first);
    free(image);
    nn_image_free(&fitted), nn_image_free(&again);
    close_setup(s);
}

/* Every byte survives the way to [-1,1] and back: what is pasted or exchanged is the picture. */
static void test_bytes(test_state *t) {
    unsigned char rgb[256 * 3];
    float x[256 * 3];
    nn_image image = {256, 1, rgb}, back;
    tn_err err = {0};
    for (int i = 0; i < 256 * 3; i++) rgb[i] = (unsigned char)(i / 3);
    nn_image_to_signed(&image, x);
    CHECK(t, nn_image_from_signed(x, 256, 1, &back, &err) == 0 && memcmp(back.rgb, rgb, sizeof rgb) == 0);
    nn_image_free(&back);
}

/* ---- what is refused ---- */

static void refuse(test_state *t, setup *s, nn_edit_config cfg, const nn_image *mask, const char *says) {
    tn_err err = {0};
    CHECKF(t, nn_edit_open(s->m, &cfg, &s->picture, mask, &s->e, &err) == -1 && err.code == TN_EUSAGE && strstr(err.msg, says),
           "expected \"%s\", got \"%s\"", says, err.msg);
    nn_edit_free(&s->e);
}

static void test_refusals(test_state *t) {
    setup *s = malloc(sizeof *s);
    tn_err err = {0};
    nn_image small;
    if (!s || nn_image_alloc(8, 8, &small, &err)) abort();
    open_setup(s);
    refuse(t, s, (nn_edit_config){.steps = 4}, &small, "the mask is 8 x 8, the picture 64 x 64");
    refuse(t, s, (nn_edit_config){.steps = 4, .first = 5}, NULL, "expected 0 to 4");
    refuse(t, s, (nn_edit_config){.steps = 4, .first = -1}, NULL, "expected 0 to 4");
    refuse(t, s, (nn_edit_config){.steps = 4, .width = 62}, NULL, "the nearest is 64");
    refuse(t, s, (nn_edit_config){.steps = 4, .shrink = 1}, NULL, "need a mask");
    refuse(t, s, (nn_edit_config){.steps = 4, .background = NN_BACKGROUND_PASTE}, NULL, "need a mask");
    refuse(t, s, (nn_edit_config){.steps = 4, .first = 2, .shrink = 3}, &s->mask, "expected 0 to 2");
    refuse(t, s, (nn_edit_config){.steps = 4, .low_pass = 3}, NULL, "16 and 16 in the latent");
    refuse(t, s, (nn_edit_config){.steps = 4, .low_pass = 48, .low_pass_pixels = true}, NULL, "64 and 64 in the picture");
    nn_image_free(&small);
    close_setup(s);
}

void test_main(test_state *t) {
    if (test_section(t, "dilation")) test_dilation(t);
    if (test_section(t, "masks")) test_masks(t);
    if (test_section(t, "low pass")) test_low_pass(t);
    if (test_section(t, "strength")) test_strength(t);
    if (test_section(t, "predicted x0")) test_predicted(t);
    if (test_section(t, "bytes")) test_bytes(t);
    if (test_section(t, "mask identities")) test_mask_identities(t);
    if (test_section(t, "half a mask")) test_half_mask(t);
    if (test_section(t, "strengths")) test_strengths(t);
    if (test_section(t, "low band")) test_low_band(t);
    if (test_section(t, "shrinking")) test_shrinking(t);
    if (test_section(t, "levels")) test_levels(t);
    if (test_section(t, "order")) test_order(t);
    if (test_section(t, "sentences")) test_sentences(t);
    if (test_section(t, "decoder")) test_decoder(t);
    if (test_section(t, "refusals")) test_refusals(t);
}
