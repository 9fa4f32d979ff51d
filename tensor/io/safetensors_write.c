#include "tensor/io/safetensors.h"

#include "tensor/io/bytes.h"
#include "tensor/io/half.h"
#include "tensor/io/json.h"
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    char *name;
    tn_st_dtype dtype;
    int ndim;
    int64_t shape[TN_ST_MAX_DIMS];
    int64_t count;
    const void *data;
    bool raw; /* data lies as in the file */
    tn_st_make make; /* or it is made piece by piece */
    void *arg;
} entry;

typedef struct meta {
    char *key, *value;
} meta;

struct tn_st_writer {
    entry *entries;
    meta *metas;
    size_t n, cap, n_meta, cap_meta;
    bool failed; /* an allocation did */
};

tn_st_writer *tn_st_writer_new(void) { return calloc(1, sizeof(tn_st_writer)); }

void tn_st_writer_free(tn_st_writer *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n; i++) free(w->entries[i].name);
    for (size_t i = 0; i < w->n_meta; i++) {
        free(w->metas[i].key);
        free(w->metas[i].value);
    }
    free(w->entries);
    free(w->metas);
    free(w);
}

static char *copy_text(const char *s) {
    size_t size = strlen(s) + 1;
    char *copy = malloc(size);
    if (copy) memcpy(copy, s, size);
    return copy;
}

/* Makes room for one more element; returns the array, moved or not, or NULL with the old one still good. */
static void *grow(void *array, size_t n, size_t *cap, size_t element) {
    if (n < *cap) return array;
    size_t wider = *cap ? 2 * *cap : 32;
    void *grown = realloc(array, wider * element);
    if (grown) *cap = wider;
    return grown;
}

/* ---- collecting ---- */

/* `e` says type and source of the data; the rest is filled in. */
static void add(tn_st_writer *w, entry e, const char *name, int ndim, const int64_t *shape) {
    TN_REQUIRE(ndim >= 0 && ndim <= TN_ST_MAX_DIMS);
    e.ndim = ndim, e.count = 1;
    for (int i = 0; i < ndim; i++) {
        TN_REQUIRE(shape[i] >= 0 && (shape[i] == 0 || e.count <= INT64_MAX / 64 / shape[i]));
        e.shape[i] = shape[i];
        e.count *= shape[i];
    }
    TN_REQUIRE(e.count * tn_st_dtype_bits(e.dtype) % 8 == 0);
    entry *entries = grow(w->entries, w->n, &w->cap, sizeof *entries);
    if (entries) w->entries = entries;
    e.name = copy_text(name);
    if (!entries || !e.name) {
        free(e.name);
        w->failed = true;
        return;
    }
    w->entries[w->n++] = e;
}

void tn_st_add(tn_st_writer *w, const char *name, tn_st_dtype dtype, int ndim, const int64_t *shape, const void *data) {
    static const bool known[TN_ST_DTYPES] = {
        [TN_ST_F64] = true, [TN_ST_F32] = true, [TN_ST_F16] = true, [TN_ST_BF16] = true,
        [TN_ST_I64] = true, [TN_ST_I32] = true, [TN_ST_U8] = true,  [TN_ST_BOOL] = true};
    TN_REQUIRE(known[dtype]);
    add(w, (entry){.dtype = dtype, .data = data}, name, ndim, shape);
}

void tn_st_add_raw(tn_st_writer *w, const char *name, tn_st_dtype dtype, int ndim, const int64_t *shape,
                   const void *bytes) {
    add(w, (entry){.dtype = dtype, .data = bytes, .raw = true}, name, ndim, shape);
}

void tn_st_add_made(tn_st_writer *w, const char *name, tn_st_dtype dtype, int ndim, const int64_t *shape, tn_st_make make,
                    void *arg) {
    TN_REQUIRE(dtype == TN_ST_F32 || dtype == TN_ST_F16 || dtype == TN_ST_BF16);
    add(w, (entry){.dtype = dtype, .make = make, .arg = arg}, name, ndim, shape);
}

void tn_st_add_meta(tn_st_writer *w, const char *key, const char *value) {
    meta *metas = grow(w->metas, w->n_meta, &w->cap_meta, sizeof *metas);
    if (metas) w->metas = metas;
    meta m = {copy_text(key), copy_text(value)};
    if (!metas || !m.key || !m.value) {
        free(m.key);
        free(m.value);
        w->failed = true;
        return;
    }
    w->metas[w->n_meta++] = m;
}

/* ---- the header ---- */

static uint64_t span_of(const entry *e) { return (uint64_t)e->count * (uint64_t)tn_st_dtype_bits(e->dtype) / 8; }

/* Wide elements first, so that every tensor is aligned to its own element when the data section is. */
static int compare_entries(const void *a, const void *b) {
    const entry *s = a, *t = b;
    int width = tn_st_dtype_bits(t->dtype) - tn_st_dtype_bits(s->dtype);
    return width ? width : strcmp(s->name, t->name);
}

/* The JSON text, padded so that the data begins at a multiple of 8. NULL where memory is out. */
static char *make_header(const tn_st_writer *w, size_t *len) {
    tn_jw j;
    tn_jw_init(&j, 0);
    tn_jw_open(&j, NULL, '{');
    if (w->n_meta) tn_jw_open(&j, "__metadata__", '{');
    for (size_t i = 0; i < w->n_meta; i++) tn_jw_string(&j, w->metas[i].key, w->metas[i].value);
    if (w->n_meta) tn_jw_close(&j, '}');
    uint64_t offset = 0;
    for (size_t i = 0; i < w->n; i++) {
        const entry *e = &w->entries[i];
        tn_jw_open(&j, e->name, '{');
        tn_jw_string(&j, "dtype", tn_st_dtype_name(e->dtype));
        tn_jw_open(&j, "shape", '[');
        for (int d = 0; d < e->ndim; d++) tn_jw_int(&j, NULL, e->shape[d]);
        tn_jw_close(&j, ']');
        tn_jw_open(&j, "data_offsets", '[');
        tn_jw_int(&j, NULL, (int64_t)offset);
        offset += span_of(e);
        tn_jw_int(&j, NULL, (int64_t)offset);
        tn_jw_close(&j, ']');
        tn_jw_close(&j, '}');
    }
    tn_jw_close(&j, '}');
    size_t unpadded = j.len, padded = (unpadded + 7) / 8 * 8;
    char *text = tn_jw_take(&j), *header = text ? realloc(text, padded + 1) : NULL;
    if (!header) {
        free(text);
        return NULL;
    }
    memset(header + unpadded, ' ', padded - unpadded);
    *len = padded;
    return header;
}

/* ---- the data ---- */

/* Where the bytes go: a file or a block of memory. */
typedef int (*sink)(void *to, const void *bytes, size_t n, tn_err *err);

/* One number of the host at index i into its little-endian bytes. */
static void encode(const entry *e, int64_t i, unsigned char *p) {
    uint32_t u32;
    uint64_t u64;
    switch (e->dtype) {
    case TN_ST_F64:
    case TN_ST_I64:
        memcpy(&u64, (const unsigned char *)e->data + 8 * i, sizeof u64);
        tn_put_le64(p, u64);
        return;
    case TN_ST_F32:
    case TN_ST_I32:
        memcpy(&u32, (const unsigned char *)e->data + 4 * i, sizeof u32);
        tn_put_le32(p, u32);
        return;
    case TN_ST_F16:
    case TN_ST_BF16:
        u32 = e->dtype == TN_ST_F16 ? tn_f32_to_f16(((const float *)e->data)[i])
                                    : tn_f32_to_bf16(((const float *)e->data)[i]);
        p[0] = (unsigned char)u32, p[1] = (unsigned char)(u32 >> 8);
        return;
    default:
        p[0] = ((const unsigned char *)e->data)[i];
    }
}

static int put_tensor(const entry *e, sink put, void *to, tn_err *err) {
    if (e->raw) return put(to, e->data, (size_t)span_of(e), err);
    enum { PIECE = 4096 };
    unsigned char buffer[8 * PIECE];
    float made[PIECE];
    const int64_t width = tn_st_dtype_bits(e->dtype) / 8;
    entry piece = *e;
    for (int64_t i = 0; i < e->count; i += PIECE) {
        int64_t n = e->count - i < PIECE ? e->count - i : PIECE, first = i;
        if (e->make) {
            e->make(e->arg, i, n, made);
            piece.data = made, first = 0;
        }
        for (int64_t k = 0; k < n; k++) encode(&piece, first + k, buffer + k * width);
        if (put(to, buffer, (size_t)(n * width), err)) return -1;
    }
    return 0;
}

static int put_all(const tn_st_writer *w, const char *header, size_t header_len, sink put, void *to, tn_err *err) {
    unsigned char length[8];
    tn_put_le64(length, header_len);
    if (put(to, length, sizeof length, err) || put(to, header, header_len, err)) return -1;
    for (size_t i = 0; i < w->n; i++)
        if (put_tensor(&w->entries[i], put, to, err)) return -1;
    return 0;
}

/* Sorts, makes the header, and reads it back strictly: that finds names that stand there twice, whatever made them
 * equal. What passes here, the reader accepts. */
static int prepare(tn_st_writer *w, char **header, size_t *len, tn_err *err) {
    tn_json *doc;
    for (size_t i = 0; i < w->n; i++) {
        const char *name = w->entries[i].name;
        if (strlen(name) > TN_ST_MAX_NAME || strcmp(name, "__metadata__") == 0)
            return tn_fail(err, TN_EINPUT, "no tensor can be named %.60s", name);
    }
    if (w->n) qsort(w->entries, w->n, sizeof *w->entries, compare_entries);
    *header = w->failed ? NULL : make_header(w, len);
    if (!*header) return tn_fail(err, TN_ENOMEM, "out of memory while writing tensors");
    if (tn_json_parse(*header, *len, 0, &doc, err)) {
        free(*header);
        return -1;
    }
    tn_json_free(doc);
    return 0;
}

static int put_file(void *to, const void *bytes, size_t n, tn_err *err) { return tn_out_write(to, bytes, n, err); }

int tn_st_write(tn_st_writer *w, const char *path, tn_err *err) {
    char *header;
    size_t len;
    tn_out *out;
    if (prepare(w, &header, &len, err)) return tn_fail_in(err, "%s", path);
    int status = tn_out_open(path, &out, err);
    if (!status && (status = put_all(w, header, len, put_file, out, err)) != 0)
        tn_out_discard(out);
    else if (!status)
        status = tn_out_commit(out, err);
    free(header);
    return status;
}

static int put_memory(void *to, const void *bytes, size_t n, tn_err *err) {
    unsigned char **at = to;
    (void)err;
    if (n) memcpy(*at, bytes, n);
    *at += n;
    return 0;
}

int tn_st_write_mem(tn_st_writer *w, unsigned char **bytes, size_t *len, tn_err *err) {
    char *header;
    size_t header_len;
    if (prepare(w, &header, &header_len, err)) return -1;
    uint64_t total = 8 + header_len;
    for (size_t i = 0; i < w->n; i++) total += span_of(&w->entries[i]);
    unsigned char *block = total <= SIZE_MAX ? malloc((size_t)total) : NULL, *at = block;
    if (!block) {
        free(header);
        return tn_fail(err, TN_ENOMEM, "out of memory while writing tensors");
    }
    int status = put_all(w, header, header_len, put_memory, &at, err);
    free(header);
    *bytes = block, *len = (size_t)total;
    return status;
}
