#include "tools/metadata.h"

#include "tensor/io/json.h"
#include "tensor/io/sys.h"
#include "tools/version.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a picture to be repeated, and of the settings in its `parameters`: more than any has. */
enum { MAX_FILE = 512 << 20, MAX_SETTINGS = 1 << 16 };

void meta_free(meta_recipe *r) {
    for (int i = 0; i < r->nwords; i++) free(r->word[i].token);
    free(r->word), free(r->prompt), free(r->negative), free(r->model), free(r->rank.sentence), free(r->guide.sentence);
    *r = (meta_recipe){0};
}

int meta_set(char **field, const char *text, size_t n, tn_err *err) {
    char *copy = malloc(n + 1);
    if (!copy) return tn_fail(err, TN_ENOMEM, "out of memory for a text of %zu bytes", n);
    memcpy(copy, text, n), copy[n] = '\0';
    free(*field);
    *field = copy;
    return 0;
}

int meta_add_word(meta_recipe *r, const char *token, const char *sha256, tn_err *err) {
    meta_word *w = realloc(r->word, ((size_t)r->nwords + 1) * sizeof *w);
    if (!w) return tn_fail(err, TN_ENOMEM, "out of memory for the word %s", token);
    r->word = w, w[r->nwords] = (meta_word){0};
    snprintf(w[r->nwords].sha256, sizeof w->sha256, "%s", sha256);
    if (meta_set(&w[r->nwords].token, token, strlen(token), err)) return -1;
    r->nwords++;
    return 0;
}

/* ---- writing ---- */

typedef struct text {
    char *s; /* NULL after a failed allocation */
    size_t len;
} text;

static void put(text *t, const char *fmt, ...) TN_PRINTF(2, 3);
static void put(text *t, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = t->s ? realloc(t->s, t->len + (size_t)n + 1) : NULL;
    if (!s) free(t->s);
    t->s = s;
    if (!s) return;
    va_start(ap, fmt);
    vsnprintf(s + t->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->len += (size_t)n;
}

/* A value of the last line, in quotes where it would be misread without. */
static void put_value(text *t, const char *value) {
    if (!strpbrk(value, ",:\"\n")) {
        put(t, "%s", value);
        return;
    }
    put(t, "\"");
    for (const char *c = value; *c; c++) {
        if (*c == '\n')
            put(t, "\\n");
        else
            put(t, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    }
    put(t, "\"");
}

static const char *or_empty(const char *s) { return s ? s : ""; }

/* "ddim" -> "DDIM", as the web UI calls its samplers */
static void upper(const char *from, char to[32]) {
    size_t i = 0;
    for (; from[i] && i < 31; i++) to[i] = (char)(from[i] >= 'a' && from[i] <= 'z' ? from[i] - 'a' + 'A' : from[i]);
    to[i] = '\0';
}

static char *parameters(const meta_recipe *r) {
    char sampler[32];
    text t = {calloc(1, 1), 0}, hashes = {calloc(1, 1), 0};
    upper(r->sampler, sampler);
    put(&t, "%s\n", or_empty(r->prompt));
    if (or_empty(r->negative)[0]) put(&t, "Negative prompt: %s\n", r->negative);
    put(&t, "Steps: %lld, Sampler: %s, CFG scale: %.10g, Seed: %lld, Size: %lldx%lld", (long long)r->steps, sampler,
        r->guidance, (long long)r->seed, (long long)r->width, (long long)r->height);
    if (r->model_sha256[0]) put(&t, ", Model hash: %.10s", r->model_sha256);
    if (r->model) put(&t, ", Model: "), put_value(&t, r->model);
    if (r->eta != 0.0) put(&t, ", Eta: %.10g", r->eta);
    if (r->edit.picture_sha256[0])
        put(&t, ", Denoising strength: %.10g", (double)(r->steps - r->edit.first_step) / (double)r->steps);
    for (int i = 0; i < r->nwords; i++) put(&hashes, "%s%s: %.12s", i ? ", " : "", r->word[i].token, r->word[i].sha256);
    if (!hashes.s)
        free(t.s), t.s = NULL;
    else if (r->nwords)
        put(&t, ", TI hashes: "), put_value(&t, hashes.s);
    put(&t, ", Version: oneword %s", ONEWORD_VERSION);
    free(hashes.s);
    return t.s;
}

int meta_texts(const meta_recipe *r, nn_text texts[2], tn_err *err) {
    /* keys are read only: whoever frees the texts frees their values */
    texts[0] = (nn_text){"parameters", parameters(r)};
    texts[1] = (nn_text){"oneword", meta_json(r)};
    if (texts[0].value && texts[1].value) return 0;
    free(texts[0].value), free(texts[1].value);
    return tn_fail(err, TN_ENOMEM, "out of memory for the picture's metadata");
}

/* ---- reading: parameters ---- */

static int misfit(const char *name, const char *key, const char *wanted, tn_err *err) {
    return tn_fail(err, TN_EINPUT, "%s: the recipe in it: %s: expected %s", name, key, wanted);
}

/* One "Key: value" of the last line at *p, value unquoted into an allocated text; *p moves behind the comma. 1 at the
 * end. */
static int next_setting(const char **p, char key[32], char **value, tn_err *err) {
    const char *s = *p + strspn(*p, " ,");
    size_t n = strcspn(s, ":,");
    if (!*s) return 1;
    snprintf(key, 32, "%.*s", (int)(n < 31 ? n : 31), s);
    s += n;
    if (*s == ':') s++;
    s += strspn(s, " ");
    char *v = malloc(strlen(s) + 1);
    if (!v) return tn_fail(err, TN_ENOMEM, "out of memory");
    size_t len = 0;
    if (*s == '"') {
        for (s++; *s && *s != '"'; s++) {
            bool escaped = *s == '\\' && s[1];
            if (escaped) s++;
            v[len++] = escaped && *s == 'n' ? '\n' : *s;
        }
        s += strcspn(s, ",");
    } else {
        len = strcspn(s, ",");
        memcpy(v, s, len), s += len;
    }
    v[len] = '\0';
    *value = v, *p = s;
    return 0;
}

/* "<a>: 0123, <b>: 4567" */
static int take_words(const char *value, meta_recipe *r, tn_err *err) {
    for (const char *s = value; *s; s += strspn(s, ", ")) {
        size_t n = strcspn(s, ",");
        const char *colon = s + n;
        while (colon > s && *colon != ':') colon--;
        if (colon > s) {
            char token[256], sha[65];
            snprintf(token, sizeof token, "%.*s", (int)(colon - s), s);
            const char *from = colon + 1 + strspn(colon + 1, " ");
            snprintf(sha, sizeof sha, "%.*s", from < s + n ? (int)(s + n - from) : 0, from);
            if (meta_add_word(r, token, sha, err)) return -1;
        }
        s += n;
    }
    return 0;
}

static int take_setting(const char *key, const char *value, const char *name, meta_recipe *r, tn_err *err) {
    static const struct {
        const char *key;
        size_t field;
        bool whole;
    } numbers[] = {{"Steps", offsetof(meta_recipe, steps), true},
                   {"Seed", offsetof(meta_recipe, seed), true},
                   {"CFG scale", offsetof(meta_recipe, guidance), false},
                   {"Eta", offsetof(meta_recipe, eta), false}};
    size_t len = strlen(value);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(key, numbers[i].key) != 0) continue;
        void *field = (char *)r + numbers[i].field;
        bool ok = numbers[i].whole ? tn_parse_int64(value, len, field) && *(int64_t *)field >= 0
                                   : tn_parse_double(value, len, field);
        return ok ? 0 : misfit(name, key, "a number", err);
    }
    if (strcmp(key, "Size") == 0) {
        size_t x = strcspn(value, "x");
        bool ok =
            value[x] && tn_parse_int64(value, x, &r->width) && tn_parse_int64(value + x + 1, len - x - 1, &r->height);
        return ok && r->width > 0 && r->height > 0 ? 0 : misfit(name, key, "WIDTHxHEIGHT", err);
    }
    if (strcmp(key, "Sampler") == 0) {
        snprintf(r->sampler, sizeof r->sampler, "%s", value);
        for (char *c = r->sampler; (strcmp(value, "DDIM") == 0 || strcmp(value, "DDPM") == 0) && *c; c++)
            *c = (char)(*c - 'A' + 'a');
    } else if (strcmp(key, "Model hash") == 0) {
        snprintf(r->model_sha256, sizeof r->model_sha256, "%s", value);
    } else if (strcmp(key, "Model") == 0) {
        return meta_set(&r->model, value, len, err);
    } else if (strcmp(key, "TI hashes") == 0) {
        return take_words(value, r, err);
    }
    return 0; /* the web UI has many more; none of them changes what is done here */
}

/* Length of s[0..n) without the white space at its end. */
static size_t trimmed(const char *s, size_t n) {
    while (n && (s[n - 1] == '\n' || s[n - 1] == ' ' || s[n - 1] == '\r')) n--;
    return n;
}

int meta_parse_parameters(const char *s, const char *name, meta_recipe *r, tn_err *err) {
    size_t len = trimmed(s, strlen(s)), last = len;
    while (last && s[last - 1] != '\n') last--;
    if (strncmp(s + last, "Steps:", 6) != 0)
        return tn_fail(err, TN_EINPUT, "%s: its last line of parameters does not begin with \"Steps:\"", name);
    if (len - last > MAX_SETTINGS)
        return tn_fail(err, TN_EINPUT, "%s: more than %d bytes of settings in its parameters", name, MAX_SETTINGS);
    static const char mark[] = "Negative prompt:";
    size_t prompt = last;
    for (size_t i = 0; i < last; i += strcspn(s + i, "\n") + 1) {
        if (prompt == last && strncmp(s + i, mark, sizeof mark - 1) == 0) prompt = i;
    }
    if (meta_set(&r->prompt, s, trimmed(s, prompt), err)) return -1;
    const char *negative = s + prompt;
    if (prompt < last) negative += sizeof mark - 1, negative += strspn(negative, " ");
    if (meta_set(&r->negative, negative, trimmed(negative, (size_t)(s + last - negative)), err)) return -1;
    const char *p = s + last;
    char key[32], *value = NULL;
    int end;
    while (!(end = next_setting(&p, key, &value, err))) {
        int bad = take_setting(key, value, name, r, err);
        free(value);
        if (bad) return -1;
    }
    return end < 0 ? -1 : 0;
}

int meta_read(const char *path, meta_recipe *r, tn_err *err) {
    char *bytes;
    size_t len;
    nn_texts texts = {0};
    if (tn_read_file(path, MAX_FILE, &bytes, &len, err)) return -1;
    int bad = nn_png_texts((const unsigned char *)bytes, len, path, &texts, err);
    const char *own = bad ? NULL : nn_texts_find(&texts, "oneword"),
               *common = bad ? NULL : nn_texts_find(&texts, "parameters");
    if (own)
        bad = meta_parse_json(own, path, r, err);
    else if (common)
        bad = meta_parse_parameters(common, path, r, err);
    else if (!bad)
        bad =
            tn_fail(err, TN_EINPUT,
                    "%s: the picture does not say how it was made (no text \"oneword\" or \"parameters\" in it)", path);
    nn_texts_free(&texts);
    free(bytes);
    return bad;
}
