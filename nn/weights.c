#include "nn/weights.h"

#include "tensor/io/bytes.h"
#include "tensor/io/strmap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHARDS = 1000, SHOWN = 8 };

/* One tensor that the component may claim. */
typedef struct entry {
    const char *name;
    const tn_st_tensor *t;
    bool claimed;
} entry;

/* Names for a message: the first few, and how many there are. */
typedef struct name_list {
    char text[400];
    int n;
} name_list;

struct nn_binder {
    nn_weights w;
    entry *entry;
    size_t n;
    tn_strmap by_name;
    tn_json *index; /* owns the names of entries that came from an index */
    const char *dir, *optional_prefix;
    bool outline; /* no files: names and shapes alone */
    name_list missing;
};

static void add_name(name_list *l, const char *name) {
    size_t used = strlen(l->text);
    if (l->n++ < SHOWN && used + strlen(name) + 3 < sizeof l->text)
        sprintf(l->text + used, "%s%s", used ? ", " : "", name);
}

static int fail_names(const name_list *l, const char *dir, const char *what, tn_err *err) {
    return tn_fail(err, TN_EINPUT, "%s: %d tensor%s %s: %s%s", dir, l->n, l->n == 1 ? "" : "s", what, l->text,
                   l->n > SHOWN ? ", ..." : "");
}

static void abandon(nn_binder *b) {
    nn_weights_free(&b->w);
    tn_strmap_free(&b->by_name);
    tn_json_free(b->index);
    free(b->entry);
    free(b);
}

/* ---- which files ---- */

static bool is_ignored(const char *name, const char *const *patterns) {
    size_t n = strlen(name);
    for (; *patterns; patterns++) {
        size_t m = strlen(*patterns);
        if (m > n) continue;
        const char *part = (*patterns)[m - 1] == '.' ? name : name + n - m;
        if (memcmp(part, *patterns, m) == 0) return true;
    }
    return false;
}

static tn_st *open_file(nn_binder *b, const char *name, tn_err *err) {
    tn_st **files = realloc(b->w.files, (size_t)(b->w.nfiles + 1) * sizeof *files);
    char *path = nn_join(b->dir, name);
    tn_st *st = NULL;
    if (files) b->w.files = files;
    if (!files || !path) tn_fail(err, TN_ENOMEM, "%s: out of memory", b->dir);
    else if (tn_st_open(path, 0, &st, err) == 0) files[b->w.nfiles++] = st;
    free(path);
    return st;
}

static int alloc_entries(nn_binder *b, size_t n, tn_err *err) {
    b->entry = calloc(n ? n : 1, sizeof *b->entry);
    if (!b->entry || tn_strmap_init(&b->by_name, n)) return tn_fail(err, TN_ENOMEM, "%s: out of memory", b->dir);
    return 0;
}

static int add_entry(nn_binder *b, const char *name, const tn_st_tensor *t, tn_err *err) {
    bool overrun = false;
    entry *e = &b->entry[b->n++];
    e->name = name, e->t = t;
    tn_strmap_put(&b->by_name, name, e, &overrun);
    return overrun ? tn_fail(err, TN_EINPUT, "%s: tensor names that were made to collide", b->dir) : 0;
}

static int use_file(nn_binder *b, const char *name, tn_err *err) {
    tn_st *st = open_file(b, name, err);
    if (!st || alloc_entries(b, st->n, err)) return -1;
    for (size_t i = 0; i < st->n; i++) {
        if (add_entry(b, st->tensor[i].name, &st->tensor[i], err)) return -1;
    }
    return 0;
}

/* A shard lies beside its index: a name that leads elsewhere is an attack. */
static int check_shard_name(const char *index, const tn_jval *v, tn_err *err) {
    if (v->type != TN_JSON_STRING)
        return tn_fail(err, TN_EINPUT, "%s: weight_map of %s: expected a file name", index, v->key);
    const char *s = v->string;
    if (!*s || *s == '.' || strchr(s, '/') || strchr(s, '\\') || strchr(s, ':'))
        return tn_fail(err, TN_EINPUT, "%s: weight_map of %s: expected a file name in the same folder, got \"%s\"",
                       index, v->key, s);
    return 0;
}

/* The shard called `name`, opened at its first use; shard_names[i] belongs to files[i]. */
static tn_st *shard(nn_binder *b, const char *name, const char **shard_names, tn_err *err) {
    for (int i = 0; i < b->w.nfiles; i++) {
        if (strcmp(shard_names[i], name) == 0) return b->w.files[i];
    }
    if (b->w.nfiles == MAX_SHARDS) {
        tn_fail(err, TN_EINPUT, "%s: more than %d shards", b->dir, MAX_SHARDS);
        return NULL;
    }
    shard_names[b->w.nfiles] = name;
    return open_file(b, name, err);
}

static int use_index(nn_binder *b, const char *name, nn_notes *notes, tn_err *err) {
    const char *shard_names[MAX_SHARDS];
    if (nn_config_open(b->dir, name, &b->index, err)) return -1;
    const tn_jval *map = tn_json_get(tn_json_root(b->index), "weight_map");
    if (!map || map->type != TN_JSON_OBJECT)
        return tn_fail(err, TN_EINPUT, "%s/%s: weight_map: expected an object", b->dir, name);
    if (alloc_entries(b, map->length, err)) return -1;
    for (const tn_jval *v = map->child; v; v = v->next) {
        if (check_shard_name(name, v, err)) return tn_fail_in(err, "%s", b->dir);
        tn_st *st = shard(b, v->string, shard_names, err);
        if (!st) return -1;
        const tn_st_tensor *t = tn_st_find(st, v->key);
        if (!t) return tn_fail(err, TN_EINPUT, "%s/%s: tensor %s is not in %s", b->dir, name, v->key, v->string);
        if (add_entry(b, v->key, t, err)) return -1;
    }
    size_t stored = 0;
    for (int i = 0; i < b->w.nfiles; i++) stored += b->w.files[i]->n;
    if (stored > b->n)
        nn_note(notes, "%s: %zu tensors of the shards are not in the index and were ignored", b->dir, stored - b->n);
    return 0;
}

enum { MAX_NAME = 256 };

/* STEM + rest as a name in dir: does it exist? `path` has room for dir and name. */
static bool present(const nn_binder *b, char *path, char *name, const char *stem, const char *fmt,
                    const char *variant) {
    char rest[80];
    snprintf(rest, sizeof rest, fmt, variant);
    snprintf(name, MAX_NAME, "%s%s", stem, rest);
    sprintf(path, "%s/%s", b->dir, name);
    return tn_exists(path);
}

/* Nothing to read: says whether it lies there in a format that is not read. */
static int no_weights(const nn_binder *b, const char *stem, tn_err *err) {
    static const char *const foreign[] = {".bin",       ".gguf",    ".ckpt", ".pt",   ".pth",
                                          ".flashpack", ".msgpack", ".h5",   ".onnx", NULL};
    tn_list list;
    if (tn_list_dir(b->dir, &list, err)) return -1;
    tn_fail(err, TN_EIO, "%s: no weights: expected %s.safetensors", b->dir, stem);
    for (size_t i = 0; i < list.n; i++) {
        if (!is_ignored(list.name[i], foreign)) continue;
        tn_fail(err, TN_EUNSUPPORTED, "%s/%s: this format of weights is not read (convert it to %s.safetensors)",
                b->dir, list.name[i], stem);
        break;
    }
    tn_list_free(&list);
    return -1;
}

static int choose_files(nn_binder *b, const char *stem, nn_notes *notes, tn_err *err) {
    static const char *const variants[] = {"fp16", "bf16", "ema", "non_ema"};
    char name[MAX_NAME], *path = malloc(strlen(b->dir) + 1 + MAX_NAME);
    if (!path) return tn_fail(err, TN_ENOMEM, "%s: out of memory", b->dir);
    bool single = present(b, path, name, stem, ".safetensors", ""), index = false, variant = false;
    if (!single) index = present(b, path, name, stem, ".safetensors.index.json", "");
    for (size_t i = 0; !single && !index && i < sizeof variants / sizeof *variants; i++) {
        single = present(b, path, name, stem, ".%s.safetensors", variants[i]);
        index = !single && (present(b, path, name, stem, ".safetensors.index.%s.json", variants[i]) ||
                            present(b, path, name, stem, ".safetensors.%s.index.json", variants[i]));
        variant = single || index;
    }
    free(path);
    if (variant) nn_note(notes, "%s: only a variant of the weights is there: using %s", b->dir, name);
    if (single) return use_file(b, name, err);
    return index ? use_index(b, name, notes, err) : no_weights(b, stem, err);
}

int nn_binder_open(const char *dir, const char *stem, const char *const *ignored, const char *optional_prefix,
                   nn_notes *notes, nn_binder **out, tn_err *err) {
    nn_binder *b = calloc(1, sizeof *b);
    if (!b) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    b->dir = dir, b->optional_prefix = optional_prefix, b->outline = !stem;
    if (stem && choose_files(b, stem, notes, err)) {
        abandon(b);
        return -1;
    }
    int count = 0;
    for (size_t i = 0; i < b->n; i++) {
        b->entry[i].claimed = is_ignored(b->entry[i].name, ignored);
        count += b->entry[i].claimed;
    }
    if (count) nn_note(notes, "%s: %d stored tensor%s not used here", dir, count, count == 1 ? " is" : "s are");
    *out = b;
    return 0;
}

/* ---- one tensor ---- */

/* dims in digits and letters into sizes; returns their number. */
static int resolve_dims(const nn_bind_row *row, const char *letters, const int64_t *sizes, int64_t *shape) {
    int n = 0;
    for (const char *d = row->dims; *d; d++, n++) {
        const char *at = strchr(letters, *d);
        TN_REQUIRE(n < TN_MAX_DIMS && ((*d >= '1' && *d <= '9') || at));
        shape[n] = *d >= '1' && *d <= '9' ? *d - '0' : sizes[at - letters];
    }
    return n;
}

static void shape_text(char *out, size_t size, int ndim, const int64_t *shape) {
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < ndim && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%lld", i ? "," : "", (long long)shape[i]);
    if (used < size) snprintf(out + used, size - used, "]");
}

static int check_shape(const tn_st_tensor *t, const nn_bind_row *row, int ndim, const int64_t *shape, tn_err *err) {
    int stored = t->ndim;
    while ((row->flags & NN_SQUEEZE) && stored > ndim && t->shape[stored - 1] == 1) stored--;
    bool fits = stored == ndim;
    for (int i = 0; fits && i < ndim; i++) fits = t->shape[i] == shape[i];
    if (fits) return 0;
    char expected[120], got[120];
    shape_text(expected, sizeof expected, ndim, shape);
    shape_text(got, sizeof got, t->ndim, t->shape);
    return tn_fail(err, TN_EINPUT, "%s: tensor %s: expected shape %s, got %s (does config.json belong to this file?)",
                   t->file, t->name, expected, got);
}

static bool host_is_little(void) {
    const uint16_t one = 1;
    unsigned char low;
    memcpy(&low, &one, 1);
    return low == 1;
}

/* Numbers of this machine for the tensor: where the file's bytes are that already, they are used as they lie. */
static int place_data(nn_binder *b, const tn_st_tensor *t, tn_tensor *out, tn_err *err) {
    bool native = tn_st_weight_dtype(t->dtype, &out->dtype);
    if (!native && t->dtype != TN_ST_F64)
        return tn_fail(err, TN_EUNSUPPORTED,
                       "%s: tensor %s: weights of type %s are not supported (supported: F32, F16, BF16, F64)", t->file,
                       t->name, tn_st_dtype_name(t->dtype));
    if (!native) out->dtype = TN_F32;
    size_t size = tn_dtype_size(out->dtype);
    if (native && host_is_little() && (uintptr_t)t->data % size == 0) {
        out->data = (void *)t->data; /* mapped read-only: weights are never written in place */
        return 0;
    }
    void **owned = realloc(b->w.owned, (size_t)(b->w.nowned + 1) * sizeof *owned);
    if (owned) b->w.owned = owned;
    void *data = owned ? malloc((size_t)t->count * size) : NULL;
    if (!data) return tn_fail(err, TN_ENOMEM, "%s: tensor %s: out of memory", t->file, t->name);
    owned[b->w.nowned++] = out->data = data;
    if (out->dtype == TN_F32) return tn_st_read_f32(t, data, err);
    for (int64_t i = 0; i < t->count; i++) ((uint16_t *)data)[i] = tn_le16((const unsigned char *)t->data + 2 * i);
    return 0;
}

static char *copy(const char *a, const char *b) {
    char *s = malloc(strlen(a) + strlen(b) + 1);
    if (s) strcpy(s, a), strcat(s, b);
    return s;
}

static int add_param(nn_params *ps, char *name, const char *source, tn_tensor *t, tn_err *err) {
    if (ps->n == ps->cap) {
        int cap = ps->cap ? 2 * ps->cap : 64;
        nn_param *p = realloc(ps->p, (size_t)cap * sizeof *p);
        if (!p) return tn_fail(err, TN_ENOMEM, "%s: out of memory", name);
        ps->p = p, ps->cap = cap;
    }
    nn_param *p = &ps->p[ps->n];
    *p = (nn_param){name, NULL, t};
    if (strcmp(name, source) != 0 && !(p->source = copy(source, "")))
        return tn_fail(err, TN_ENOMEM, "%s: out of memory", name);
    ps->n++;
    return 0;
}

/* By its canonical name, without the optional prefix, or by its old name; *out NULL where the files hold none of them.
 */
static int find_entry(const nn_binder *b, const char *prefix, const nn_bind_row *row, const char *name, entry **out,
                      tn_err *err) {
    size_t n = b->optional_prefix ? strlen(b->optional_prefix) : 0;
    *out = tn_strmap_get(&b->by_name, name);
    if (!*out && n && strncmp(name, b->optional_prefix, n) == 0) *out = tn_strmap_get(&b->by_name, name + n);
    if (*out || !row->old) return 0;
    char *old = copy(prefix, row->old);
    if (!old) return tn_fail(err, TN_ENOMEM, "%s: out of memory", b->dir);
    *out = tn_strmap_get(&b->by_name, old);
    free(old);
    return 0;
}

/* The row as a parameter without data; takes over `name`. */
static int outline_row(nn_binder *b, const nn_bind_row *row, char *name, tn_tensor *field, const char *letters,
                       const int64_t *sizes, tn_err *err) {
    if (add_param(&b->w.params, name, name, field, err)) {
        free(name);
        return -1;
    }
    *field = (tn_tensor){.dtype = TN_F32};
    field->ndim = resolve_dims(row, letters, sizes, field->shape);
    return 0;
}

/* Binds one row; takes over `name`. */
static int bind_row(nn_binder *b, const char *prefix, const nn_bind_row *row, char *name, tn_tensor *field,
                    const char *letters, const int64_t *sizes, tn_err *err) {
    entry *e;
    if (b->outline) return outline_row(b, row, name, field, letters, sizes, err);
    tn_tensor t = {.ndim = resolve_dims(row, letters, sizes, t.shape)};
    if (find_entry(b, prefix, row, name, &e, err)) {
        free(name);
        return -1;
    }
    if (!e || e->claimed) {
        if (!(row->flags & NN_OPTIONAL)) add_name(&b->missing, name);
        free(name);
        return 0;
    }
    e->claimed = true;
    if (check_shape(e->t, row, t.ndim, t.shape, err) || place_data(b, e->t, &t, err) ||
        add_param(&b->w.params, name, e->name, field, err)) {
        free(name);
        return -1;
    }
    *field = t;
    return 0;
}

int nn_bind(nn_binder *b, const char *prefix, const nn_bind_row *rows, size_t nrows, void *block, const char *letters,
            const int64_t *sizes, tn_err *err) {
    for (size_t i = 0; i < nrows; i++) {
        char *name = copy(prefix, rows[i].name);
        if (!name) return tn_fail(err, TN_ENOMEM, "%s: out of memory", b->dir);
        tn_tensor *field = (tn_tensor *)(void *)((char *)block + rows[i].field);
        if (bind_row(b, prefix, &rows[i], name, field, letters, sizes, err)) return -1;
    }
    return 0;
}

int nn_binder_close(nn_binder *b, int bind_failed, nn_weights *out, tn_err *err) {
    name_list unclaimed = {"", 0};
    for (size_t i = 0; i < b->n; i++) {
        if (!b->entry[i].claimed) add_name(&unclaimed, b->entry[i].name);
    }
    if (!bind_failed && b->missing.n) bind_failed = fail_names(&b->missing, b->dir, "missing", err);
    if (!bind_failed && unclaimed.n) bind_failed = fail_names(&unclaimed, b->dir, "unknown to this model", err);
    if (!bind_failed) {
        *out = b->w;
        b->w = (nn_weights){0};
    }
    abandon(b);
    return bind_failed;
}

void nn_weights_free(nn_weights *w) {
    for (int i = 0; i < w->params.n; i++) {
        free(w->params.p[i].name), free(w->params.p[i].source);
        free(w->params.p[i].t->grad);
    }
    free(w->params.p);
    for (int i = 0; i < w->nfiles; i++) tn_st_close(w->files[i]);
    free(w->files);
    for (int i = 0; i < w->nowned; i++) free(w->owned[i]);
    free(w->owned);
    *w = (nn_weights){0};
}

void nn_weights_rest(const nn_weights *w) {
    for (int i = 0; i < w->nfiles; i++) tn_st_rest(w->files[i]);
}

bool nn_weights_are_mapped(const nn_weights *w, const void *data) {
    bool mapped = false;
    for (int i = 0; i < w->nfiles && !mapped; i++) mapped = tn_st_is_mapped(w->files[i], data);
    return mapped;
}

/* ---- parameters ---- */

const nn_param *nn_param_find(const nn_params *p, const char *name) {
    for (int i = 0; i < p->n; i++) {
        if (strcmp(p->p[i].name, name) == 0 || (p->p[i].source && strcmp(p->p[i].source, name) == 0)) return &p->p[i];
    }
    return NULL;
}

int nn_params_need(nn_params *p, bool need, tn_err *err) {
    for (int i = 0; i < p->n; i++) {
        tn_tensor *t = p->p[i].t;
        if (need && !t->grad && !(t->grad = malloc((size_t)tn_numel(t) * sizeof *t->grad))) {
            nn_params_need(p, false, NULL);
            return tn_fail(err, TN_ENOMEM, "out of memory for the gradient of %s", p->p[i].name);
        }
        if (!need) {
            free(t->grad);
            t->grad = NULL;
        }
        t->need = need, t->grad_set = false;
    }
    return 0;
}
