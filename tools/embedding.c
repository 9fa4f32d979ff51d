#include "tools/embedding.h"

#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A learned word has kilobytes. Who gives a whole model is told so instead of waiting for it to be read. */
enum { MAX_FILE = 64 << 20 };

void emb_free(emb_words *words) {
    for (int i = 0; i < words->n; i++) free(words->w[i].token), free(words->w[i].v);
    free(words->w);
    *words = (emb_words){0};
}

int emb_append(emb_words *words, const char *token, int64_t n, int64_t dim, const float *v, tn_err *err) {
    size_t count = (size_t)(n * dim), len = strlen(token) + 1;
    emb_word *w = realloc(words->w, ((size_t)words->n + 1) * sizeof *w);
    if (w) words->w = w;
    char *name = malloc(len);
    float *copy = malloc(count * sizeof *copy);
    if (!w || !name || !copy) {
        free(name), free(copy);
        return tn_fail(err, TN_ENOMEM, "out of memory for the word %s", token);
    }
    memcpy(name, token, len), memcpy(copy, v, count * sizeof *copy);
    words->w[words->n++] = (emb_word){.token = name, .n = n, .dim = dim, .v = copy};
    return 0;
}

/* ---- reading ---- */

/* What another format is called, from its first bytes; NULL: none that is known. */
static const char *format_of_bytes(const char *p, size_t len) {
    if (len >= 4 && memcmp(p, "PK\3\4", 4) == 0) return "a PyTorch .pt or .bin file";
    if (len >= 2 && (unsigned char)p[0] == 0x80 && p[1] >= 2 && p[1] <= 5) return "a pickled .pt or .bin file";
    if (len >= 8 && memcmp(p, "\211PNG\r\n\032\n", 8) == 0) return "an embedding in a PNG";
    if (len >= 12 && memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0) return "an embedding in a WebP";
    return NULL;
}

/* The same for a safetensors file that is not diffusers', from the names of its tensors. */
static const char *format_of_names(const tn_st *st) {
    if (tn_st_find(st, "emb_params")) return "an embedding of kohya's scripts (emb_params)";
    if (tn_st_find(st, "clip_l") || tn_st_find(st, "clip_g")) return "an embedding for SDXL (clip_l, clip_g)";
    for (size_t i = 0; i < st->n; i++) {
        if (strstr(st->tensor[i].name, "token_embedding.weight")) return "a whole text encoder";
        if (strstr(st->tensor[i].name, "conv_in.weight") || strstr(st->tensor[i].name, "input_blocks."))
            return "a whole model";
    }
    return NULL;
}

static int read_word(const tn_st_tensor *t, const char *name, emb_words *words, tn_err *err) {
    if (t->ndim < 1 || t->ndim > 2 || t->count == 0) {
        return tn_fail(err, TN_EINPUT,
                       "%s: tensor \"%s\" is no learned word: expected shape [vectors, width] or [width]", t->file,
                       t->name);
    }
    int64_t dim = t->shape[t->ndim - 1], n = t->ndim == 2 ? t->shape[0] : 1;
    float *v = malloc((size_t)t->count * sizeof *v);
    if (!v) return tn_fail(err, TN_ENOMEM, "%s: out of memory", t->file);
    int bad = tn_st_read_f32(t, v, err);
    for (int64_t i = 0; !bad && i < t->count; i++) {
        if (!isfinite(v[i]))
            bad =
                tn_fail(err, TN_EINPUT, "%s: \"%s\" holds NaN or infinity (its training diverged?)", t->file, t->name);
    }
    if (!bad) bad = emb_append(words, name ? name : t->name, n, dim, v, err);
    free(v);
    return bad;
}

static int read_words(const tn_st *st, const char *path, const char *name, emb_words *words, tn_err *err) {
    const char *format = format_of_names(st);
    if (format)
        return tn_fail(err, TN_EUNSUPPORTED,
                       "%s: %s, which is not read yet (learned_embeds.safetensors of diffusers is)", path, format);
    if (st->n == 0) return tn_fail(err, TN_EINPUT, "%s: holds no tensor", path);
    if (name && st->n > 1) {
        return tn_fail(err, TN_EUSAGE, "%s: holds %zu words, so one name for it is not enough (leave out \"%s=\")",
                       path, st->n, name);
    }
    for (size_t i = 0; i < st->n; i++) {
        if (read_word(&st->tensor[i], name, words, err)) return -1;
    }
    return 0;
}

/* Frees the words behind the first n. */
static void cut_back(emb_words *words, int n) {
    while (words->n > n) words->n--, free(words->w[words->n].token), free(words->w[words->n].v);
}

int emb_read(const char *path, const char *name, emb_words *words, tn_err *err) {
    char *bytes;
    size_t len;
    int before = words->n;
    if (tn_read_file(path, MAX_FILE, &bytes, &len, err)) return -1;
    const char *format = format_of_bytes(bytes, len);
    tn_st *st = NULL;
    int bad = format
                  ? tn_fail(err, TN_EUNSUPPORTED,
                            "%s: %s, which is not read yet (learned_embeds.safetensors of diffusers is)", path, format)
                  : tn_st_parse(bytes, len, path, &st, err);
    if (!bad) bad = read_words(st, path, name, words, err);
    tn_st_close(st);
    tn_sha256 sha;
    tn_sha256_init(&sha);
    tn_sha256_update(&sha, bytes, len);
    char hex[65];
    tn_sha256_hex(&sha, hex);
    for (int i = before; !bad && i < words->n; i++) memcpy(words->w[i].sha256, hex, sizeof hex);
    if (bad) cut_back(words, before);
    free(bytes);
    return bad;
}

int emb_read_argument(const char *argument, emb_words *words, tn_err *err) {
    const char *equals = strchr(argument, '=');
    if (!equals || equals == argument || tn_exists(argument)) return emb_read(argument, NULL, words, err);
    size_t n = (size_t)(equals - argument);
    char *name = malloc(n + 1);
    if (!name) return tn_fail(err, TN_ENOMEM, "out of memory");
    memcpy(name, argument, n), name[n] = '\0';
    int bad = emb_read(equals + 1, name, words, err);
    free(name);
    return bad;
}

/* ---- use ---- */

/* Whose vectors have this width. */
static const char *family(int64_t dim) {
    return dim == 768    ? " (made for Stable Diffusion 1.x?)"
           : dim == 1024 ? " (made for Stable Diffusion 2.x?)"
           : dim == 1280 ? " (made for LDM or SDXL?)"
                         : " (made for another model?)";
}

int emb_register(nn_model *m, const emb_words *words, float **learned, int64_t *rows, tn_err *err) {
    int64_t width = m->text->cfg.t.width, total = 0;
    for (int i = 0; i < words->n; i++) {
        const emb_word *w = &words->w[i];
        if (w->dim != width) {
            return tn_fail(err, TN_EINPUT,
                           "the word %s has vectors of width %lld, but this model's text encoder has width %lld%s",
                           w->token, (long long)w->dim, (long long)width, family(w->dim));
        }
        total += w->n;
    }
    float *v = NULL;
    if (total && !(v = malloc((size_t)(total * width) * sizeof *v)))
        return tn_fail(err, TN_ENOMEM, "out of memory for learned words");
    int64_t at = 0;
    for (int i = 0; i < words->n; i++) {
        const emb_word *w = &words->w[i];
        int32_t first;
        if (w->n > INT32_MAX || nn_tokenizer_add(m->tokenizer, w->token, (int)w->n, &first, err)) {
            free(v);
            return w->n > INT32_MAX ? tn_fail(err, TN_EINPUT, "the word %s has too many vectors", w->token) : -1;
        }
        memcpy(v + at * width, w->v, (size_t)(w->n * width) * sizeof *v);
        at += w->n;
    }
    *learned = v, *rows = total;
    return 0;
}

int emb_write(const char *path, const emb_words *words, tn_err *err) {
    tn_st_writer *writer = tn_st_writer_new();
    if (!writer) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    tn_st_add_meta(writer, "format", "pt");
    for (int i = 0; i < words->n; i++) {
        const emb_word *w = &words->w[i];
        tn_st_add(writer, w->token, TN_ST_F32, 2, (int64_t[]){w->n, w->dim}, w->v);
    }
    int bad = tn_st_write(writer, path, err);
    tn_st_writer_free(writer);
    return bad;
}
