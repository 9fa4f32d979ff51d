#include "tools/verify.h"

#include "tensor/io/sys.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory and errors of a case ---- */

typedef struct verify_memory {
    struct verify_memory *next;
    double align; /* what follows is aligned for every type used here */
} memory;

void *verify_alloc(verify_case *c, size_t bytes) {
    memory *m = c->err.code ? NULL : calloc(1, sizeof *m + bytes);
    if (!m) {
        if (!c->err.code) tn_fail(&c->err, TN_ENOMEM, "%s: out of memory", c->path);
        return NULL;
    }
    m->next = c->memory;
    c->memory = m;
    return m + 1;
}

char *verify_join(verify_case *c, const char *a, const char *b, const char *c3) {
    size_t n = strlen(a) + (b ? strlen(b) : 0) + (c3 ? strlen(c3) : 0) + 1;
    char *s = verify_alloc(c, n);
    if (s) snprintf(s, n, "%s%s%s", a, b ? b : "", c3 ? c3 : "");
    return s;
}

static void stop(verify_case *c, int code, const char *fmt, va_list args) {
    char msg[400];
    if (c->err.code) return;
    vsnprintf(msg, sizeof msg, fmt, args);
    tn_fail(&c->err, code, "%s", msg);
}

void verify_bad(verify_case *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    stop(c, TN_EINPUT, fmt, args);
    va_end(args);
}

void verify_unsupported(verify_case *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    stop(c, TN_EUNSUPPORTED, fmt, args);
    va_end(args);
}

/* ---- opening ---- */

/* The folder of the file, and the one above: FOLDER without its last name, or FOLDER/.. where that says nothing. */
static void place(verify_case *c) {
    const char *slash = strrchr(c->path, '/');
    c->folder = verify_join(c, slash ? c->path : ".", NULL, NULL);
    if (!c->folder) return;
    if (slash) c->folder[slash == c->path ? 1 : slash - c->path] = '\0';
    slash = strrchr(c->folder, '/');
    const char *last = slash ? slash + 1 : c->folder;
    bool named = strcmp(last, ".") && strcmp(last, "..") && *last;
    c->model = named ? verify_join(c, slash ? c->folder : ".", NULL, NULL) : verify_join(c, c->folder, "/..", NULL);
    if (c->model && named && slash) c->model[slash == c->folder ? 1 : slash - c->folder] = '\0';
}

static int read_metadata(verify_case *c) {
    c->kind = tn_st_meta(c->st, "case");
    const char *attrs = tn_st_meta(c->st, "attrs");
    if (!c->kind) return tn_fail(&c->err, TN_EINPUT, "%s: no golden case: its metadata has no \"case\"", c->path);
    if (attrs && tn_json_parse(attrs, strlen(attrs), TN_JSON_PYTHON, &c->doc, &c->err)) {
        return tn_fail_in(&c->err, "%s: attrs", c->path);
    }
    c->attrs = c->doc ? tn_json_root(c->doc) : NULL;
    if (c->attrs && c->attrs->type != TN_JSON_OBJECT)
        return tn_fail(&c->err, TN_EINPUT, "%s: attrs is no object", c->path);
    c->compared = verify_alloc(c, c->st->n * sizeof *c->compared);
    return c->compared || !c->st->n ? 0 : -1;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

int verify_open(verify_case *c, const char *path, tn_ctx *ctx, const char *clip_vocab, tn_err *err) {
    *c = (verify_case){.path = path, .ctx = ctx, .clip_vocab = clip_vocab, .kind = "tokenizer"};
    int rc = 0;
    place(c);
    if (c->err.code)
        rc = -1;
    else if (ends_with(path, ".jsonl") || ends_with(path, "/expected.json"))
        c->kind = ends_with(path, "l") ? "tokenizer" : "embeds";
    else
        rc = tn_st_open(path, TN_MAP_COPY, &c->st, &c->err) ? -1 : read_metadata(c);
    if (rc) {
        *err = c->err;
        verify_close(c);
    }
    return rc;
}

void verify_close(verify_case *c) {
    tn_st_close(c->st);
    tn_json_free(c->doc);
    free(c->check);
    while (c->memory) {
        memory *m = c->memory;
        c->memory = m->next;
        free(m);
    }
    c->st = NULL, c->doc = NULL, c->check = NULL;
}

/* ---- settings ---- */

const tn_jval *verify_attr(verify_case *c, const char *key) { return tn_json_get(c->attrs, key); }

int64_t verify_int(verify_case *c, const char *key, int64_t lo, int64_t hi) {
    const tn_jval *v = verify_attr(c, key);
    if (!v || v->type != TN_JSON_NUMBER || !v->is_int || v->integer < lo || v->integer > hi) {
        verify_bad(c, "attrs.%s: expected a whole number from %lld to %lld", key, (long long)lo, (long long)hi);
        return lo;
    }
    return v->integer;
}

const char *verify_text(verify_case *c, const char *key) {
    const tn_jval *v = verify_attr(c, key);
    if (v && v->type == TN_JSON_STRING) return v->string;
    verify_bad(c, "attrs.%s: expected a text", key);
    return "";
}

double verify_number(verify_case *c, const char *key, double otherwise) {
    const tn_jval *v = verify_attr(c, key);
    if (!v) return otherwise;
    if (v->type != TN_JSON_NUMBER) verify_bad(c, "attrs.%s: expected a number", key);
    return v->type == TN_JSON_NUMBER ? v->number : otherwise;
}

/* ---- inputs ---- */

bool verify_has(const verify_case *c, const char *name) { return c->st && tn_st_find(c->st, name) != NULL; }

bool verify_has_any(const verify_case *c, const char *prefix) {
    for (size_t i = 0; c->st && i < c->st->n; i++) {
        if (!strncmp(c->st->tensor[i].name, prefix, strlen(prefix))) return true;
    }
    return false;
}

int64_t verify_dim(const verify_case *c, char letter) { return c->dim[letter - 'A']; }

/* Whether one size is what its letter says; an unknown letter learns it. */
static bool size_fits(verify_case *c, char letter, int64_t size) {
    if (letter >= '1' && letter <= '9') return size == letter - '0';
    int64_t *known = &c->dim[letter - 'A'];
    if (!*known) *known = size;
    return *known == size;
}

static bool shape_fits(verify_case *c, const tn_st_tensor *t, const char *dims) {
    int n = (int)strlen(dims);
    const char *star = strchr(dims, '*');
    int before = star ? (int)(star - dims) : n, after = star ? n - before - 1 : 0;
    if (star ? t->ndim < before + after : t->ndim != n) return false;
    for (int i = 0; i < before; i++) {
        if (!size_fits(c, dims[i], t->shape[i])) return false;
    }
    for (int i = 0; i < after; i++) {
        if (!size_fits(c, star[1 + i], t->shape[t->ndim - after + i])) return false;
    }
    return t->count > 0;
}

/* "[2, 3]" into text */
static const char *shape_text(int ndim, const int64_t *shape, char text[200]) {
    size_t at = 1;
    text[0] = '[', text[1] = '\0';
    for (int i = 0; i < ndim && at < 170; i++) {
        at += (size_t)snprintf(text + at, 200 - at, i ? ", %lld" : "%lld", (long long)shape[i]);
    }
    snprintf(text + at, 200 - at, "]");
    return text;
}

static const tn_st_tensor *input(verify_case *c, const char *name, const char *dims) {
    if (c->err.code) return NULL;
    const tn_st_tensor *t = c->st ? tn_st_find(c->st, name) : NULL;
    char text[200];
    if (!t)
        verify_bad(c, "the case has no %s", name);
    else if (!shape_fits(c, t, dims))
        verify_bad(c, "%s: shape %s does not fit", name, shape_text(t->ndim, t->shape, text));
    return c->err.code ? NULL : t;
}

float *verify_f32(verify_case *c, const char *name, const char *dims) {
    const tn_st_tensor *t = input(c, name, dims);
    float *x = t ? verify_alloc(c, (size_t)t->count * sizeof *x) : NULL;
    return x && !tn_st_read_f32(t, x, &c->err) ? x : NULL;
}

int64_t *verify_i64(verify_case *c, const char *name, const char *dims) {
    const tn_st_tensor *t = input(c, name, dims);
    int64_t *x = t ? verify_alloc(c, (size_t)t->count * sizeof *x) : NULL;
    return x && !tn_st_read_i64(t, x, &c->err) ? x : NULL;
}

unsigned char *verify_u8(verify_case *c, const char *name, const char *dims) {
    const tn_st_tensor *t = input(c, name, dims);
    if (t && t->dtype != TN_ST_U8) verify_bad(c, "%s: expected U8, got %s", name, tn_st_dtype_name(t->dtype));
    unsigned char *x = c->err.code ? NULL : verify_alloc(c, (size_t)t->count);
    if (x) memcpy(x, t->data, (size_t)t->count);
    return x;
}

void verify_range(verify_case *c, const char *name, const int64_t *ids, int64_t n, int64_t limit) {
    for (int64_t i = 0; i < n && !c->err.code; i++) {
        if (ids[i] < 0 || ids[i] >= limit)
            verify_bad(c, "%s: %lld is not within 0 .. %lld", name, (long long)ids[i], (long long)limit - 1);
    }
}

static tn_tensor *as_leaf(verify_case *c, const char *name, tn_dtype type, void *data) {
    const tn_st_tensor *t = tn_st_find(c->st, name);
    if (!data) return NULL;
    if (t->ndim > TN_MAX_DIMS) return verify_bad(c, "%s has %d dimensions", name, t->ndim), NULL;
    char *grad = verify_join(c, "grad.", strncmp(name, "in.", 3) ? name : name + 3, NULL);
    bool need = grad && type == TN_F32 && verify_has(c, grad);
    tn_tensor *x = tn_leaf(c->ctx, type, t->ndim, t->shape, data, need);
    if (need && c->n_leaves < (int)(sizeof c->leaf / sizeof c->leaf[0]))
        c->leaf[c->n_leaves++] = (struct verify_leaf){grad, x};
    return x;
}

tn_tensor *verify_leaf(verify_case *c, const char *name, const char *dims) {
    const tn_st_tensor *t = input(c, name, dims);
    if (!t) return NULL;
    if (t->dtype == TN_ST_I64) return as_leaf(c, name, TN_I64, verify_i64(c, name, dims));
    return as_leaf(c, name, TN_F32, verify_f32(c, name, dims));
}

tn_tensor *verify_leaf_f32(verify_case *c, const char *name, const char *dims) {
    const tn_st_tensor *t = input(c, name, dims);
    if (!t) return NULL;
    if (t->dtype != TN_ST_I64) return as_leaf(c, name, TN_F32, verify_f32(c, name, dims));
    int64_t *ids = verify_i64(c, name, dims);
    float *x = ids ? verify_alloc(c, (size_t)t->count * sizeof *x) : NULL;
    for (int64_t i = 0; x && i < t->count; i++) x[i] = (float)ids[i];
    return as_leaf(c, name, TN_F32, x);
}

/* ---- running ---- */

static const struct {
    const char *kind;
    void (*run)(verify_case *c);
} kinds[] = {
    {"op", verify_op},
    {"text_encoder", verify_text_encoder},
    {"unet", verify_unet},
    {"vae_encode", verify_vae_encode},
    {"vae_decode", verify_vae_decode},
    {"scheduler", verify_scheduler},
    {"inversion", verify_inversion},
    {"text_to_image", verify_text_to_image},
    {"ddim_inversion", verify_ddim_inversion},
    {"clip_similarity", verify_clip_similarity},
    {"clip_preprocess", verify_clip_preprocess},
    {"resize", verify_resize},
    {"ti_preprocess", verify_ti_preprocess},
    {"torch_cpu_generator", verify_rng},
    {"tokenizer", verify_tokenizer},
};

void verify_run(verify_case *c) {
    size_t i = 0, n = sizeof kinds / sizeof kinds[0];
    while (i < n && strcmp(kinds[i].kind, c->kind)) i++;
    if (!strcmp(c->kind, "embeds")) {
        verify_unsupported(c, "embedding files of other programs are not built in");
    } else if (i == n) {
        verify_bad(c, "unknown kind of case '%s'", c->kind);
    } else {
        tn_ctx_reset(c->ctx);
        c->ctx->record = true;
        c->ctx->trace = verify_trace, c->ctx->trace_arg = c;
        kinds[i].run(c);
        c->ctx->trace = NULL;
        if (!c->err.code) tn_ctx_status(c->ctx, &c->err);
    }
    if (!c->err.code) verify_leftovers(c);
    tn_ctx_reset(c->ctx);
}

int verify_first_failure(const verify_case *c) {
    int i = 0;
    while (i < c->n_checks && c->check[i].passed) i++;
    return i;
}
