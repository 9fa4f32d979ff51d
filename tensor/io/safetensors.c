#include "tensor/io/safetensors.h"

#include "tensor/io/bytes.h"
#include "tensor/io/half.h"
#include "tensor/io/json.h"
#include "tensor/io/strmap.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The reference's limit, and the schema's. */
static const uint64_t MAX_HEADER = 100000000;
static const int64_t MAX_SIZE = (INT64_C(1) << 48) - 1;

/* In the order of tn_st_dtype. */
static const struct {
    const char *name;
    int bits;
} dtypes[TN_ST_DTYPES] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};

const char *tn_st_dtype_name(tn_st_dtype dtype) { return dtypes[dtype].name; }
int tn_st_dtype_bits(tn_st_dtype dtype) { return dtypes[dtype].bits; }

bool tn_st_weight_dtype(tn_st_dtype dtype, tn_dtype *out) {
    if (dtype != TN_ST_F32 && dtype != TN_ST_F16 && dtype != TN_ST_BF16) return false;
    *out = dtype == TN_ST_F32 ? TN_F32 : dtype == TN_ST_F16 ? TN_F16 : TN_BF16;
    return true;
}

struct tn_st_private {
    tn_map map;    /* zero for bytes of the caller */
    tn_json *json; /* holds all names and metadata */
    tn_strmap by_name;
    char *file;
};

/* ---- reading the header ---- */

/* Files that are often found where a safetensors file should be. Asked only where the bytes were refused. */
static const char *foreign_file(const unsigned char *p, size_t len) {
    static const struct {
        const char *start, *hint;
        size_t n;
    } kinds[] = {
        {"version https://git-lfs", " (this is a Git LFS pointer: fetch the file itself with 'git lfs pull')", 23},
        {"<!", " (this is a web page: the download went wrong)", 2},
        {"<html", " (this is a web page: the download went wrong)", 5},
        {"PK\003\004", " (this is a zip archive, perhaps a PyTorch checkpoint: name it .ckpt, .pt or .bin)", 4},
        {"\x80\x02", " (this is a Python pickle, perhaps a PyTorch checkpoint: name it .ckpt, .pt or .bin)", 2},
        {"GGUF", " (this is a GGUF file)", 4},
    };
    while (len > 0 && (*p == '\n' || *p == '\r' || *p == ' ')) p++, len--;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (len >= kinds[i].n && memcmp(p, kinds[i].start, kinds[i].n) == 0) return kinds[i].hint;
    return "";
}

/* Checks the length field and that the header lies in the file. */
static int check_length(const unsigned char *p, size_t len, uint64_t *n, tn_err *err) {
    const char *hint = foreign_file(p, len);
    if (len == 0) return tn_fail(err, TN_EINPUT, "the file is empty (was a download interrupted?)");
    if (len < 8)
        return tn_fail(err, TN_EINPUT, "expected a safetensors file of at least 8 bytes, got %zu%s", len, hint);
    *n = tn_le64(p);
    if (*n > MAX_HEADER)
        return tn_fail(err, TN_EINPUT,
                       "not a safetensors file: expected a header of at most %" PRIu64 " bytes, got %" PRIu64 "%s",
                       MAX_HEADER, *n, hint);
    if (*n > len - 8)
        return tn_fail(err, TN_EINPUT, "truncated: the header has %" PRIu64 " bytes, %" PRIu64 " of them are missing%s",
                       *n, *n - (len - 8), hint);
    return 0;
}

/* An array of non-negative integers below 2^48 into out[0..max). Returns how many, or -1. */
static int read_sizes(const tn_jval *v, int64_t *out, size_t max) {
    if (!v || v->type != TN_JSON_ARRAY || v->length > max) return -1;
    int n = 0;
    for (const tn_jval *m = v->child; m; m = m->next) {
        if (m->type != TN_JSON_NUMBER || !m->is_int || m->integer > MAX_SIZE || signbit(m->number)) return -1;
        out[n++] = m->integer;
    }
    return n;
}

static bool find_dtype(const char *name, tn_st_dtype *out) {
    for (int i = 0; i < TN_ST_DTYPES; i++)
        if (strcmp(dtypes[i].name, name) == 0) return *out = (tn_st_dtype)i, true;
    return false;
}

/* Elements and bits of a shape. false where they do not fit 2^62, which no span of bytes does. */
static bool count_elements(tn_st_tensor *t, uint64_t *bits) {
    const uint64_t limit = UINT64_C(1) << 62;
    uint64_t count = 1, width = (uint64_t)dtypes[t->dtype].bits;
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] && count > limit / (uint64_t)t->shape[i]) return false;
        count *= (uint64_t)t->shape[i];
    }
    if (count > limit / width) return false;
    t->count = (int64_t)count;
    *bits = count * width;
    return true;
}

/* One entry of the header; all but the position of its data among the others is checked. */
static int read_entry(const tn_jval *entry, tn_st_tensor *t, tn_err *err) {
    const char *name = entry->key;
    if (strlen(name) > TN_ST_MAX_NAME)
        return tn_fail(err, TN_EINPUT, "tensor %.60s...: the name has more than %d bytes", name, TN_ST_MAX_NAME);
    if (entry->type != TN_JSON_OBJECT) return tn_fail(err, TN_EINPUT, "tensor %.200s: expected an object", name);
    const tn_jval *dtype = tn_json_get(entry, "dtype");
    const tn_jval *shape = tn_json_get(entry, "shape");
    const tn_jval *span = tn_json_get(entry, "data_offsets");
    const char *missing = !dtype ? "; dtype is missing" : !shape ? "; shape is missing" : "; data_offsets is missing";
    if (!dtype || !shape || !span || entry->length != 3)
        return tn_fail(err, TN_EINPUT, "tensor %.200s: expected exactly dtype, shape and data_offsets%s", name,
                       dtype && shape && span ? "" : missing);
    t->name = name;
    if (dtype->type != TN_JSON_STRING || !find_dtype(dtype->string, &t->dtype))
        return tn_fail(err, TN_EINPUT, "tensor %.200s: unknown dtype %.40s", name,
                       dtype->type == TN_JSON_STRING ? dtype->string : "(not a string)");
    t->ndim = read_sizes(shape, t->shape, TN_ST_MAX_DIMS);
    if (t->ndim < 0)
        return tn_fail(err, TN_EINPUT, "tensor %.200s: expected a shape of at most %d integers from 0 to 2^48-1", name,
                       TN_ST_MAX_DIMS);
    int64_t offset[2];
    if (read_sizes(span, offset, 2) != 2)
        return tn_fail(err, TN_EINPUT, "tensor %.200s: expected data_offsets of two integers from 0 to 2^48-1", name);
    t->begin = (uint64_t)offset[0], t->end = (uint64_t)offset[1];
    uint64_t bits;
    if (t->end < t->begin) return tn_fail(err, TN_EINPUT, "tensor %.200s: data_offsets run backwards", name);
    if (!count_elements(t, &bits)) return tn_fail(err, TN_EINPUT, "tensor %.200s: the shape is too large", name);
    if (bits % 8)
        return tn_fail(err, TN_EINPUT, "tensor %.200s: %" PRIu64 " bits are no whole number of bytes", name, bits);
    if (bits / 8 != t->end - t->begin)
        return tn_fail(err, TN_EINPUT,
                       "tensor %.200s: shape and dtype need %" PRIu64 " bytes, data_offsets span %" PRIu64, name,
                       bits / 8, t->end - t->begin);
    return 0;
}

static int read_metadata(const tn_jval *v, tn_st *st, tn_err *err) {
    if (v->type != TN_JSON_OBJECT) return tn_fail(err, TN_EINPUT, "__metadata__: expected an object of strings");
    st->meta = calloc(v->length ? v->length : 1, sizeof *st->meta);
    if (!st->meta) return tn_fail(err, TN_ENOMEM, "out of memory");
    for (const tn_jval *m = v->child; m; m = m->next) {
        if (m->type != TN_JSON_STRING)
            return tn_fail(err, TN_EINPUT, "__metadata__: expected a string for %.200s", m->key);
        st->meta[st->n_meta].key = m->key;
        st->meta[st->n_meta++].value = m->string;
    }
    return 0;
}

static int compare_tensors(const void *a, const void *b) {
    const tn_st_tensor *s = a, *t = b;
    if (s->begin != t->begin) return s->begin < t->begin ? -1 : 1;
    if (s->end != t->end) return s->end < t->end ? -1 : 1; /* empty tensors first */
    return strcmp(s->name, t->name);
}

/* The data must be covered by the tensors without holes, overlaps or rest: bytes that no tensor owns could be another
 * file. */
static int check_layout(tn_st *st, const unsigned char *data, uint64_t data_len, tn_err *err) {
    uint64_t end = 0;
    for (size_t i = 0; i < st->n; i++) {
        tn_st_tensor *t = &st->tensor[i];
        if (t->begin != end)
            return tn_fail(err, TN_EINPUT,
                           "tensor %.200s: its data begins at %" PRIu64 ", expected %" PRIu64
                           ", where the tensor before ends (%s)",
                           t->name, t->begin, end, t->begin < end ? "they overlap" : "there is a hole");
        end = t->end;
    }
    if (end > data_len)
        return tn_fail(err, TN_EINPUT,
                       "truncated: %" PRIu64 " of %" PRIu64 " bytes of data are missing (was a download interrupted?)",
                       end - data_len, end);
    if (end < data_len)
        return tn_fail(err, TN_EINPUT, "%" PRIu64 " bytes follow after the last tensor", data_len - end);
    for (size_t i = 0; i < st->n; i++) st->tensor[i].data = data + st->tensor[i].begin;
    return 0;
}

static int index_names(tn_st *st, tn_err *err) {
    if (tn_strmap_init(&st->priv->by_name, st->n)) return tn_fail(err, TN_ENOMEM, "out of memory");
    for (size_t i = 0; i < st->n; i++) {
        bool overrun; /* the JSON reader has refused duplicates: every name is new */
        tn_strmap_put(&st->priv->by_name, st->tensor[i].name, &st->tensor[i], &overrun);
        if (overrun) return tn_fail(err, TN_EINPUT, "the names of the tensors collide by design");
    }
    return 0;
}

static int read_header(tn_st *st, const unsigned char *p, size_t len, tn_err *err) {
    uint64_t n = 0;
    if (check_length(p, len, &n, err)) return -1;
    if (tn_json_parse((const char *)p + 8, (size_t)n, 0, &st->priv->json, err)) return tn_fail_in(err, "header");
    const tn_jval *root = tn_json_root(st->priv->json);
    if (root->type != TN_JSON_OBJECT) return tn_fail(err, TN_EINPUT, "header: expected an object");
    st->tensor = calloc(root->length ? root->length : 1, sizeof *st->tensor);
    if (!st->tensor) return tn_fail(err, TN_ENOMEM, "out of memory");
    for (const tn_jval *m = root->child; m; m = m->next) {
        if (strcmp(m->key, "__metadata__") == 0) {
            if (read_metadata(m, st, err)) return -1;
            continue;
        }
        st->tensor[st->n].file = st->priv->file;
        if (read_entry(m, &st->tensor[st->n++], err)) return -1;
    }
    qsort(st->tensor, st->n, sizeof *st->tensor, compare_tensors);
    return check_layout(st, p + 8 + n, len - 8 - n, err) || index_names(st, err) ? -1 : 0;
}

int tn_st_parse(const void *bytes, size_t len, const char *name, tn_st **out, tn_err *err) {
    tn_st *st = calloc(1, sizeof *st);
    if (st) st->priv = calloc(1, sizeof *st->priv);
    if (st && st->priv) st->priv->file = malloc(strlen(name) + 1);
    if (!st || !st->priv || !st->priv->file) {
        tn_st_close(st);
        return tn_fail(err, TN_ENOMEM, "%s: out of memory", name);
    }
    memcpy(st->priv->file, name, strlen(name) + 1);
    if (read_header(st, bytes, len, err)) {
        tn_st_close(st);
        return tn_fail_in(err, "%s", name);
    }
    *out = st;
    return 0;
}

int tn_st_open(const char *path, int flags, tn_st **out, tn_err *err) {
    tn_map map;
    if (tn_map_open(path, flags, &map, err)) return -1;
    if (tn_st_parse(map.data, map.len, path, out, err)) {
        tn_map_close(&map);
        return -1;
    }
    (*out)->priv->map = map;
    return 0;
}

void tn_st_close(tn_st *st) {
    if (!st) return;
    if (st->priv) {
        tn_strmap_free(&st->priv->by_name);
        tn_json_free(st->priv->json);
        tn_map_close(&st->priv->map);
        free(st->priv->file);
    }
    free(st->priv);
    free(st->tensor);
    free(st->meta);
    free(st);
}

void tn_st_rest(const tn_st *st) { tn_map_rest(&st->priv->map); }

bool tn_st_is_mapped(const tn_st *st, const void *p) {
    const tn_map *m = &st->priv->map;
    uintptr_t at = (uintptr_t)p, from = (uintptr_t)m->data;
    return m->mapped && at >= from && at - from < m->len;
}

const tn_st_tensor *tn_st_find(const tn_st *st, const char *name) { return tn_strmap_get(&st->priv->by_name, name); }

const char *tn_st_meta(const tn_st *st, const char *key) {
    for (size_t i = 0; i < st->n_meta; i++)
        if (strcmp(st->meta[i].key, key) == 0) return st->meta[i].value;
    return NULL;
}

/* ---- reading the data ---- */

static double load_f64(const unsigned char *p) {
    uint64_t bits = tn_le64(p);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static int fail_dtype(const tn_st_tensor *t, const char *wanted, tn_err *err) {
    return tn_fail(err, TN_EUNSUPPORTED, "%s: tensor %.200s: expected %s, got %s", t->file, t->name, wanted,
                   dtypes[t->dtype].name);
}

static const char float_types[] = "F64, F32, F16 or BF16", int_types[] = "an integer type up to I64";

int tn_st_read_f32(const tn_st_tensor *t, float *dst, tn_err *err) {
    const unsigned char *p = t->data;
    const int64_t n = t->count;
    if (t->dtype == TN_ST_F32) {
        for (int64_t i = 0; i < n; i++) dst[i] = tn_le_f32(p + 4 * i);
    } else if (t->dtype == TN_ST_F16) {
        for (int64_t i = 0; i < n; i++) dst[i] = tn_f16_to_f32(tn_le16(p + 2 * i));
    } else if (t->dtype == TN_ST_BF16) {
        for (int64_t i = 0; i < n; i++) dst[i] = tn_bf16_to_f32(tn_le16(p + 2 * i));
    } else if (t->dtype == TN_ST_F64) {
        for (int64_t i = 0; i < n; i++) dst[i] = (float)load_f64(p + 8 * i);
    } else {
        return fail_dtype(t, float_types, err);
    }
    return 0;
}

int tn_st_read_f64(const tn_st_tensor *t, double *dst, tn_err *err) {
    const unsigned char *p = t->data;
    const int64_t n = t->count;
    if (t->dtype == TN_ST_F32) {
        for (int64_t i = 0; i < n; i++) dst[i] = (double)tn_le_f32(p + 4 * i);
    } else if (t->dtype == TN_ST_F16) {
        for (int64_t i = 0; i < n; i++) dst[i] = (double)tn_f16_to_f32(tn_le16(p + 2 * i));
    } else if (t->dtype == TN_ST_BF16) {
        for (int64_t i = 0; i < n; i++) dst[i] = (double)tn_bf16_to_f32(tn_le16(p + 2 * i));
    } else if (t->dtype == TN_ST_F64) {
        for (int64_t i = 0; i < n; i++) dst[i] = load_f64(p + 8 * i);
    } else {
        return fail_dtype(t, float_types, err);
    }
    return 0;
}

int tn_st_read_i64(const tn_st_tensor *t, int64_t *dst, tn_err *err) {
    bool is_signed = t->dtype == TN_ST_I8 || t->dtype == TN_ST_I16 || t->dtype == TN_ST_I32 || t->dtype == TN_ST_I64;
    bool is_unsigned = t->dtype == TN_ST_U8 || t->dtype == TN_ST_U16 || t->dtype == TN_ST_U32 || t->dtype == TN_ST_BOOL;
    if (!is_signed && !is_unsigned) return fail_dtype(t, int_types, err);
    const unsigned char *p = t->data;
    const int width = dtypes[t->dtype].bits / 8;
    for (int64_t i = 0; i < t->count; i++, p += width) {
        /* A negative number is filled up with ones above its own bytes. */
        uint64_t v = is_signed && p[width - 1] & 0x80 ? UINT64_MAX : 0;
        for (int b = width - 1; b >= 0; b--) v = v << 8 | p[b];
        memcpy(&dst[i], &v, sizeof v);
    }
    return 0;
}
