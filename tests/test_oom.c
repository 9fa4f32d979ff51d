/* Memory that runs out: the n-th allocation fails, for every n, in loading a model, learning a word, making a picture,
 * reading and writing files. Each failure must come back as -1 with TN_ENOMEM (or be one the program can do without),
 * crash nothing and leak nothing, and once memory is there again all must work.
 *
 * The linker sends the program's malloc, calloc, realloc and free here (--wrap in the Makefile); libc's own are not
 * touched. */
#include "nn/fit/clip_guidance.h"
#include "nn/fit/clip_word.h"
#include "nn/fit/latent_fit.h"
#include "nn/fit/word_map.h"
#include "nn/image/png.h"
#include "nn/image/preprocess.h"
#include "nn/train.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tests/test.h"
#include "tools/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the allocator under test ---- */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

/* Allocations made, alive, and which fails: number `first` alone, or all from it on. One thread. */
static struct {
    long made, alive, first;
    bool all;
} heap = {0, 0, -1, false};

static bool refused(void) {
    long i = heap.made++;
    return heap.first >= 0 && (heap.all ? i >= heap.first : i == heap.first);
}

static void *born(void *p) {
    heap.alive += p != NULL;
    return p;
}

void *__wrap_malloc(size_t n) { return refused() ? NULL : born(__real_malloc(n)); }
void *__wrap_calloc(size_t n, size_t size) { return refused() ? NULL : born(__real_calloc(n, size)); }
void *__wrap_realloc(void *p, size_t n) {
    if (refused()) return NULL;
    return p ? __real_realloc(p, n) : born(__real_realloc(p, n));
}
void __wrap_free(void *p) {
    heap.alive -= p != NULL;
    __real_free(p);
}

/* ---- the walk ---- */

/* A job starts from nothing and leaves nothing: what it allocates it frees, whether it fails or not. */
typedef int (*job_fn)(void *arg, tn_err *err);

enum { WHOLE = 1500, STRIDE = 7 }; /* beginning and end entirely, every STRIDE-th between */

static bool one_failure(test_state *t, const char *name, job_fn job, void *arg, long n, bool all) {
    tn_err err = {0};
    long before = heap.alive;
    heap.made = 0, heap.first = n, heap.all = all;
    int r = job(arg, &err);
    heap.first = -1;
    bool ok = CHECKF(t, r == 0 || (r == -1 && err.code == TN_ENOMEM),
                     "%s: allocation %ld fails%s: result %d, code %d, \"%s\"", name, n, all ? " and all after it" : "",
                     r, err.code, err.msg);
    return CHECKF(t, heap.alive == before, "%s: allocation %ld fails: %ld blocks leaked", name, n,
                  heap.alive - before) &&
           ok;
}

static void every_allocation(test_state *t, const char *name, job_fn job, void *arg) {
    tn_err err = {0};
    long before = heap.alive, bad = 0;
    heap.made = 0;
    int r = job(arg, &err);
    long count = heap.made;
    if (!CHECKF(t, r == 0 && heap.alive == before, "%s: with memory: result %d, \"%s\", %ld blocks leaked", name, r,
                err.msg, heap.alive - before))
        return;
    CHECKF(t, count > 0, "%s allocates nothing", name);
    for (long n = 0; n < count && bad < 5; n += n < WHOLE || n > count - WHOLE ? 1 : STRIDE) {
        bad += !one_failure(t, name, job, arg, n, false);
        if (n % 5 == 0) bad += !one_failure(t, name, job, arg, n, true);
    }
    CHECKF(t, job(arg, &err) == 0 && heap.alive == before, "%s: does not work after failures: %s", name, err.msg);
    if (t->filter) printf("  %s: %ld allocations\n", name, count);
}

/* ---- loading ---- */

#define TINY "testdata/golden/tiny-sd15"

static int load_model(void *arg, tn_err *err) {
    nn_model *m;
    (void)arg;
    if (nn_model_load(TINY, NN_LOAD_ALL, &m, err)) return -1;
    char hex[65];
    int r = nn_model_fingerprint(m, hex, err);
    nn_model_free(m);
    return r;
}

/* ---- learning and generating ---- */

enum { SIDE = 16 };

typedef struct studio {
    nn_model *model;
    nn_templates templates;
    nn_image picture;
    nn_train_config cfg;
} studio;

/* The word is new in each run: a fresh tokenizer takes the place of the one that knows it. */
static bool forget_word(studio *s, tn_err *err) {
    nn_tokenizer *fresh;
    if (nn_tokenizer_load(TINY "/tokenizer", &fresh, err)) return false;
    nn_tokenizer_free(s->model->tokenizer);
    s->model->tokenizer = fresh;
    return true;
}

static int learn(void *arg, tn_err *err) {
    studio *s = arg;
    tn_ctx c;
    nn_train *train = NULL;
    nn_train_step step;
    tn_ctx_init(&c, NULL, 1);
    c.checkpoint = s->cfg.center_crop; /* any setting will do: both ways are walked */
    int r = nn_train_open(&c, s->model, &s->cfg, &s->templates, &s->picture, 1, NULL, NULL, &train, err);
    nn_need need;
    if (!r) r = nn_train_measure(train, &c, 0, &need, err);
    if (!r) r = nn_train_advance(train, &c, &step, err);
    nn_train_free(train);
    tn_ctx_free(&c);
    long first = heap.first;
    heap.first = -1;
    if (!forget_word(s, err)) r = -2;
    heap.first = first;
    return r;
}

static int generate(void *arg, tn_err *err) {
    studio *s = arg;
    tn_ctx c;
    nn_image out;
    gen_request r = {.prompt = "a", .width = SIDE, .height = SIDE, .steps = 1, .guidance = 2.0, .seed = 1, .count = 1};
    tn_ctx_init(&c, NULL, 1);
    int result = gen_pictures(&c, s->model, &r, &out, err);
    if (!result) nn_image_free(&out);
    tn_ctx_free(&c);
    return result;
}

/* With a mask, a low band in pixels and a fitted decoder: everything that an edit may be. */
static int edit(void *arg, tn_err *err) {
    studio *s = arg;
    tn_ctx c;
    nn_edit e;
    nn_image out = {0};
    float latent[4 * SIDE * SIDE];
    nn_edit_config cfg = {.width = SIDE, .height = SIDE, .steps = 1, .invert = true, .shrink = 1, .low_pass = 2, .low_pass_pixels = true,
                          .low_pass_until = -1, .background = NN_BACKGROUND_DECODER, .decoder_steps = 1};
    gen_request r = {.prompt = "a", .steps = 1, .guidance = 1.0, .seed = 1, .count = 1, .edit = &e, .latents = latent};
    tn_ctx_init(&c, NULL, 1);
    int result = nn_edit_open(s->model, &cfg, &s->picture, &s->picture, &e, err);
    if (!result) result = nn_edit_encode(&c, s->model, &e, err);
    if (!result) result = gen_pictures(&c, s->model, &r, &out, err);
    if (!result) result = nn_edit_fit(&c, s->model, &e, latent, &out, NULL, NULL, err);
    nn_image_free(&out);
    nn_edit_free(&e);
    tn_ctx_free(&c);
    return result;
}

static void test_studio(test_state *t) {
    tn_err err = {0};
    studio s = {.cfg = {.placeholder = {"<new>"},
                        .nplaceholders = 1,
                        .num_vectors = 2,
                        .resolution = SIDE,
                        .flip = true,
                        .batch = 1,
                        .accumulate = 1,
                        .steps = 1,
                        .lr = {.kind = NN_LR_CONSTANT, .base = 5e-3},
                        .adam = {0.9, 0.999, 1e-8, 1e-2}}};
    bool ok = nn_model_load(TINY, NN_LOAD_ALL, &s.model, &err) == 0 &&
              nn_templates_builtin(false, &s.templates, &err) == 0 && nn_image_alloc(20, 12, &s.picture, &err) == 0;
    if (CHECKF(t, ok, "%s", err.msg)) {
        s.templates.n = 2; /* sentences are all alike */
        memset(s.picture.rgb, 99, 20 * 12 * 3);
        if (test_section(t, "learning")) every_allocation(t, "learning", learn, &s);
        nn_train_config plain = s.cfg;
        s.cfg.nswitches = 1, s.cfg.switch_at[0] = 1, s.cfg.per_image_share = 1.0, s.cfg.stop_window = 2,
        s.templates.n = 1;
        if (test_section(t, "learning with setups")) every_allocation(t, "learning with setups", learn, &s);
        s.cfg = plain, s.templates.n = 2;
        s.cfg.center_crop = true;
        if (test_section(t, "learning checkpointed")) every_allocation(t, "learning checkpointed", learn, &s);
        s.templates.n = 27;
        if (test_section(t, "generating")) every_allocation(t, "generating", generate, &s);
        if (test_section(t, "editing")) every_allocation(t, "editing", edit, &s);
    }
    nn_image_free(&s.picture);
    nn_templates_free(&s.templates);
    nn_model_free(s.model);
}

/* The tape of the largest UNet of the family with nothing checkpointed must fit into what tn_ctx_begin takes: Stable
 * Diffusion 1.x has 16 transformer blocks and 22 resnets, SDXL 70 and 17, tiny-sd15 11 and 17. */
static void test_structs(test_state *t) {
    tn_err err = {0};
    nn_model *m;
    if (!CHECKF(t, nn_model_load(TINY, NN_LOAD_UNET, &m, &err) == 0, "%s", err.msg)) return;
    tn_ctx c;
    tn_ctx_init(&c, NULL, 1);
    tn_ctx_set_dry(&c);
    CHECK(t, tn_ctx_begin(&c, true, &err) == 0);
    float leaf[1];
    tn_tensor *x = tn_leaf(&c, TN_F32, 4, (int64_t[]){1, 4, 16, 16}, leaf, false),
              *time = tn_leaf(&c, TN_F32, 1, (int64_t[]){1}, leaf, false);
    tn_tensor *context = tn_leaf(&c, TN_F32, 3, (int64_t[]){1, 77, 24}, leaf, true);
    nn_unet_forward(&c, m->unet, x, time, context);
    CHECKF(t, c.step.meta.peak > 1000 && c.step.meta.peak * 8 < (4 << 20), "structs of a tape take %zu bytes",
           c.step.meta.peak);
    if (t->filter) printf("  structs: %zu bytes in the step, %zu in a block\n", c.step.meta.peak, c.block.meta.peak);
    tn_ctx_free(&c);
    nn_model_free(m);
}

/* ---- files ---- */

static int safetensors(void *arg, tn_err *err) {
    const char *path = arg;
    float x[6] = {1, 2, 3, 4, 5, 6};
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "no writer");
    tn_st_add_meta(w, "key", "value");
    tn_st_add(w, "a", TN_ST_F32, 2, (int64_t[]){2, 3}, x);
    tn_st_add(w, "b", TN_ST_F16, 1, (int64_t[]){6}, x);
    int r = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    tn_st *st;
    if (r || tn_st_open(path, TN_MAP_COPY, &st, err)) return -1;
    const tn_st_tensor *b = tn_st_find(st, "b");
    r = b ? tn_st_read_f32(b, x, err) : tn_fail(err, TN_EINPUT, "no b");
    if (!r && x[5] != 6.0f) r = tn_fail(err, TN_EINPUT, "other numbers");
    tn_st_close(st);
    return r;
}

static int json(void *arg, tn_err *err) {
    tn_json *doc;
    tn_jw w;
    (void)arg;
    if (tn_json_load(TINY "/tokenizer/vocab.json", 0, &doc, err)) return -1;
    bool found = tn_json_get(tn_json_root(doc), "a</w>") != NULL;
    tn_json_free(doc);
    tn_jw_init(&w, 2);
    tn_jw_open(&w, NULL, '[');
    for (int i = 0; i < 100; i++) tn_jw_string(&w, NULL, "a text of some length");
    tn_jw_close(&w, ']');
    char *text = tn_jw_take(&w);
    if (!text) return tn_fail(err, TN_ENOMEM, "no text");
    free(text);
    return found ? 0 : tn_fail(err, TN_EINPUT, "no such key");
}

static int png(void *arg, tn_err *err) {
    const char *path = arg;
    nn_image image, square, back;
    nn_text text[] = {{(char *)(uintptr_t) "parameters", (char *)(uintptr_t) "Steps: 1"},
                      {(char *)(uintptr_t) "name", (char *)(uintptr_t) "\xe4\xb8\xad"}};
    if (nn_image_alloc(33, 17, &image, err)) return -1;
    for (size_t i = 0; i < 33 * 17 * 3; i++) image.rgb[i] = (unsigned char)(i * i >> 4);
    int r = nn_training_picture(&image, 12, NN_BICUBIC, false, true, &square, err);
    if (!r) {
        r = nn_png_write(path, &square, text, 2, err);
        nn_image_free(&square);
    }
    nn_image_free(&image);
    if (r || nn_image_load(path, &back, err)) return -1;
    nn_image_free(&back);
    return 0;
}

static int png_texts(void *arg, tn_err *err) {
    size_t n;
    nn_texts texts;
    unsigned char *bytes = test_read(arg, &n);
    if (!bytes) return tn_fail(err, TN_ENOMEM, "no bytes");
    int r = nn_png_texts(bytes, n, arg, &texts, err);
    if (!r) nn_texts_free(&texts);
    free(bytes);
    return r;
}

static int sentences(void *arg, tn_err *err) {
    nn_templates x;
    (void)arg;
    if (nn_templates_load("testdata/world/templates-object.txt", &x, err)) return -1;
    nn_templates_free(&x);
    if (nn_templates_builtin(true, &x, err)) return -1;
    nn_templates_free(&x);
    return 0;
}

/* ---- latents and words by optimisation ---- */

typedef struct workshop {
    nn_vae *vae;
    nn_clip *clip;
} workshop;

static int fit_map(tn_err *err) {
    float x[60], y[40];
    nn_word_map m;
    for (int i = 0; i < 60; i++) x[i] = (float)(i * i % 17), y[i % 40] = (float)(i * i % 13);
    if (nn_word_map_fit(x, y, 20, 3, 2, 1, &m, err)) return -1;
    nn_word_map_free(&m);
    return 0;
}

static int fit(void *arg, tn_err *err) {
    const workshop *s = arg;
    tn_ctx c;
    float z[4 * 8 * 8], pixels[3 * 16 * 16] = {0}, grad[4 * 8 * 8], aim[256] = {1.0f}, coarse[256] = {0.0f, 1.0f},
                                        word[1024] = {0.1f};
    int64_t f = nn_vae_factor(s->vae), side = 16 / f, ids[] = {1, s->clip->text.cfg.vocab, 2};
    nn_latent_fit to_picture = {.steps = 1, .lr = 0.1}, to_sentence = to_picture;
    nn_clip_word to_word = {.steps = 1, .lr = 0.1, .temperature = 1.0};
    nn_clip_guidance g = {
        .vae = s->vae, .clip = s->clip, .target = aim, .scale = 1.0, .cutouts = 2, .h = side, .w = side, .c = &c};
    nn_views whole;
    tn_rng draws;
    for (int i = 0; i < 4 * 8 * 8; i++) z[i] = (float)(i % 7) * 0.1f;
    tn_ctx_init(&c, NULL, 1);
    tn_rng_seed(&draws, 1);
    int r = fit_map(err) || nn_latent_fit_image(&c, s->vae, &to_picture, pixels, z, side, side, err) ||
            nn_latent_fit_clip(&c, s->vae, s->clip, &to_sentence, aim, 2, &draws, z, side, side, err) ||
            nn_clip_word_fit(&c, s->clip, &to_word, ids, 1, 3, aim, coarse, word, err) ||
            nn_views_whole(s->clip, 16, 16, &whole, err);
    if (!r) {
        r = nn_clip_guidance_gradient(&g, &whole, z, grad, err);
        nn_views_free(&whole);
    }
    tn_ctx_free(&c);
    return r ? -1 : 0;
}

static void test_fit(test_state *t) {
    workshop s = {NULL, NULL};
    tn_err err = {0};
    bool ok =
        nn_vae_load(TINY "/vae", &s.vae, &err) == 0 && nn_clip_load("testdata/golden/tiny-clip", &s.clip, &err) == 0;
    ok = ok && nn_vae_cfg(s.vae)->latent_channels == 4 && s.clip->vision.projection <= 256 &&
         s.clip->text.cfg.t.width <= 1024;
    if (CHECKF(t, ok, "the tiny models: %s", err.msg)) every_allocation(t, "fit", fit, &s);
    nn_vae_free(s.vae);
    nn_clip_free(s.clip);
}

void test_main(test_state *t) {
    static char st_path[600], png_path[600];
    const char *dir = test_tmp("oom");
    snprintf(st_path, sizeof st_path, "%s/x.safetensors", dir), snprintf(png_path, sizeof png_path, "%s/x.png", dir);
    if (test_section(t, "safetensors")) every_allocation(t, "safetensors", safetensors, st_path);
    if (test_section(t, "json")) every_allocation(t, "json", json, NULL);
    if (test_section(t, "png")) every_allocation(t, "png", png, png_path);
    if (test_section(t, "png texts")) every_allocation(t, "png texts", png_texts, png_path);
    if (test_section(t, "templates")) every_allocation(t, "templates", sentences, NULL);
    if (test_section(t, "loading")) every_allocation(t, "loading", load_model, NULL);
    if (test_section(t, "fit")) test_fit(t);
    if (test_section(t, "structs")) test_structs(t);
    test_studio(t);
}
