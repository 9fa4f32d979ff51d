#include "tools/entities.h"

#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 4 << 20, FEWEST = 8, AT_ONCE = 16 /* names between two writings of the file */ };

void entities_free(entities *e) {
    for (int i = 0; i < e->n; i++) free(e->name[i]), free(e->kind[i]);
    free(e->name), free(e->kind);
    *e = (entities){0};
}

/* ---- names ---- */

/* A copy of the next word of a line, NULL where there is none or no memory; *at moves behind it. */
static char *next_word(const char **at) {
    const char *from = *at + strspn(*at, " \t\r");
    size_t n = strcspn(from, " \t\r\n");
    *at = from + n;
    char *copy = n ? malloc(n + 1) : NULL;
    if (copy) memcpy(copy, from, n), copy[n] = '\0';
    return copy;
}

static int take_line(const char *path, int number, const char *at, entities *e, tn_err *err) {
    char **name = realloc(e->name, (size_t)(e->n + 1) * sizeof *name);
    if (name) e->name = name;
    char **kind = realloc(e->kind, (size_t)(e->n + 1) * sizeof *kind);
    if (kind) e->kind = kind;
    if (!name || !kind) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    name[e->n] = next_word(&at), kind[e->n] = next_word(&at);
    at += strspn(at, " \t\r");
    if (name[e->n] && kind[e->n] && (*at == '\n' || !*at)) {
        e->n++;
        return 0;
    }
    free(name[e->n]), free(kind[e->n]);
    return tn_fail(err, TN_EINPUT, "%s, line %d: expected a name and the word for its kind", path, number);
}

static int parse(const char *path, const char *text, entities *e, tn_err *err) {
    int number = 0;
    for (const char *at = text; *at;) {
        size_t line = strcspn(at, "\n");
        number++;
        if (*at != '#' && strspn(at, " \t\r") < line && take_line(path, number, at, e, err)) return -1;
        at += line + (at[line] == '\n');
    }
    return e->n >= FEWEST ? 0 : tn_fail(err, TN_EINPUT, "%s: %d names, expected %d at least", path, e->n, FEWEST);
}

int entities_load(const char *path, entities *e, tn_err *err) {
    char *text;
    size_t size;
    tn_sha256 h;
    *e = (entities){0};
    if (tn_read_file(path, MAX_FILE, &text, &size, err)) return -1;
    tn_sha256_init(&h);
    tn_sha256_update(&h, text, size);
    tn_sha256_hex(&h, e->sha256);
    int r = memchr(text, '\0', size) ? tn_fail(err, TN_EINPUT, "%s: not a text file (NUL byte)", path) : parse(path, text, e, err);
    free(text);
    if (r) entities_free(e);
    return r;
}

/* ---- the file of what was seen ---- */

typedef struct seen {
    char settings[400]; /* all that the features depend on */
    int64_t width, n;   /* of a feature; names that are done */
    int64_t latent;     /* numbers of a name's latents */
} seen;

static int describe(const entities *e, const nn_model *m, const clip_judge *clip, const char *clip_dir, const sightings *s, seen *out,
                    tn_err *err) {
    char model[65], judge[65];
    if (nn_model_fingerprint(m, model, err) || clip_fingerprint(clip_dir, judge, err)) return -1;
    snprintf(out->settings, sizeof out->settings, "model=%s clip=%s names=%s each=%" PRId64 " steps=%" PRId64 " guidance=%a seed=%" PRIu64, model,
             judge, e->sha256, s->each, s->steps, s->guidance, s->seed);
    out->width = clip->width, out->n = 0;
    return 0;
}

static int load_seen(const sightings *s, int names, seen *k, tn_err *err) {
    tn_st *st;
    if (!tn_exists(s->path)) return 0;
    if (tn_st_open(s->path, TN_MAP_COPY, &st, err)) return -1;
    const char *settings = tn_st_meta(st, "settings");
    const tn_st_tensor *x = tn_st_find(st, "features"), *z = tn_st_find(st, "latents");
    int64_t n = x && x->ndim == 3 ? x->shape[0] : -1;
    int r = 0;
    if (!settings || n < 0 || n > names || !z || x->dtype != TN_ST_F32 || z->dtype != TN_ST_F32 || strcmp(settings, k->settings) != 0 ||
        x->count != n * s->each * k->width || z->count != n * k->latent)
        r = tn_fail(err, TN_EINPUT, "%s: made by another model or with other settings (remove it, or name another file)", s->path);
    else if (!(r = tn_st_read_f32(x, s->features, err) || tn_st_read_f32(z, s->latents, err))) k->n = n;
    tn_st_close(st);
    return r;
}

static int save_seen(const sightings *s, const seen *k, tn_err *err) {
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "%s: out of memory", s->path);
    tn_st_add_meta(w, "settings", k->settings);
    tn_st_add(w, "features", TN_ST_F32, 3, (int64_t[]){k->n, s->each, k->width}, s->features);
    tn_st_add(w, "latents", TN_ST_F32, 5, (int64_t[]){k->n, s->each, s->channels, s->side, s->side}, s->latents);
    int r = tn_st_write(w, s->path, err);
    tn_st_writer_free(w);
    return r;
}

/* ---- making them ---- */

static int see_one(tn_ctx *c, nn_model *m, const clip_judge *clip, const sightings *s, const char *name, int64_t i, float *features, float *latents,
                   tn_err *err) {
    char prompt[300];
    if (snprintf(prompt, sizeof prompt, "a photo of a %s", name) >= (int)sizeof prompt) return tn_fail(err, TN_EINPUT, "a name is too long");
    nn_image *image = calloc((size_t)s->each, sizeof *image);
    if (!image) return tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    gen_request r = {.prompt = prompt, .steps = s->steps, .guidance = s->guidance, .seed = s->seed + (uint64_t)(i * s->each), .count = s->each,
                     .rules = NN_RULES_HF, .latents = latents};
    int bad = gen_pictures(c, m, &r, image, err) || clip_see(c, clip, image, (int)s->each, features, err);
    for (int64_t k = 0; k < s->each; k++) nn_image_free(&image[k]);
    free(image);
    return bad ? tn_fail_in(err, "%s", name) : 0;
}

int entities_see(const entities *e, tn_ctx *c, nn_model *m, const clip_judge *clip, const char *clip_dir, sightings *s, const opt_common *o,
                 tn_err *err) {
    seen k;
    opt_progress bar;
    size_t each = (size_t)(s->each * clip->width);
    s->channels = nn_unet_cfg(m->unet)->in_channels, s->side = gen_native_size(m) / nn_vae_factor(m->vae);
    k.latent = s->each * s->channels * s->side * s->side;
    s->features = malloc((size_t)e->n * each * sizeof *s->features), s->latents = malloc((size_t)(e->n * k.latent) * sizeof *s->latents);
    if (!s->features || !s->latents) return tn_fail(err, TN_ENOMEM, "out of memory for the features");
    if (describe(e, m, clip, clip_dir, s, &k, err) || load_seen(s, e->n, &k, err)) return -1;
    opt_progress_start(&bar, o, "Names", e->n, k.n);
    while (k.n < e->n) {
        if (see_one(c, m, clip, s, e->name[k.n], k.n, s->features + (size_t)k.n * each, s->latents + k.n * k.latent, err)) return -1;
        k.n++;
        opt_progress_step(&bar, k.n, NULL);
        if ((k.n % AT_ONCE == 0 || k.n == e->n) && save_seen(s, &k, err)) return -1;
    }
    opt_progress_end(&bar);
    return 0;
}
