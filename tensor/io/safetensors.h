/* safetensors: u64 little-endian header length n, n bytes of JSON {name: {dtype, shape, data_offsets}, "__metadata__":
 * {string: string}}, then the data, little-endian and row-major. https://github.com/huggingface/safetensors
 *
 * The reader accepts exactly what the reference accepts (contiguous data without holes, overlaps or trailing bytes;
 * each span equal to shape x dtype) and refuses more: duplicate names, names over 1024 bytes, more than 8 dimensions,
 * sizes of 2^48 and more. Whatever bytes it is given, it answers with a usable tn_st or with an error that says what is
 * wrong. */
#ifndef TN_SAFETENSORS_H
#define TN_SAFETENSORS_H

#include "tensor/err.h"
#include "tensor/io/sys.h"
#include "tensor/kernel/kernels.h"
#include <stdbool.h>
#include <stdint.h>

/* All types of the format; most can be listed and copied only. */
typedef enum {
    TN_ST_BOOL,
    TN_ST_F4,
    TN_ST_F6_E2M3,
    TN_ST_F6_E3M2,
    TN_ST_U8,
    TN_ST_I8,
    TN_ST_F8_E5M2,
    TN_ST_F8_E4M3,
    TN_ST_F8_E8M0,
    TN_ST_F8_E4M3FNUZ,
    TN_ST_F8_E5M2FNUZ,
    TN_ST_I16,
    TN_ST_U16,
    TN_ST_F16,
    TN_ST_BF16,
    TN_ST_I32,
    TN_ST_U32,
    TN_ST_F32,
    TN_ST_C64,
    TN_ST_F64,
    TN_ST_I64,
    TN_ST_U64,
    TN_ST_DTYPES /* their number */
} tn_st_dtype;
const char *tn_st_dtype_name(tn_st_dtype dtype); /* as in the file: "BF16" */
int tn_st_dtype_bits(tn_st_dtype dtype);
/* The type kernels know it by: F32, F16 and BF16; false for the rest. */
bool tn_st_weight_dtype(tn_st_dtype dtype, tn_dtype *out);

enum { TN_ST_MAX_DIMS = 8, TN_ST_MAX_NAME = 1024 };

typedef struct tn_st_tensor {
    const char *file; /* the tn_st's name, for messages */
    const char *name;
    tn_st_dtype dtype;
    int ndim; /* 0: a scalar of one element */
    int64_t shape[TN_ST_MAX_DIMS];
    int64_t count;       /* elements: the product of shape */
    uint64_t begin, end; /* bytes within the data section */
    const void *data;    /* end - begin bytes, little-endian, not aligned to anything (old files) */
} tn_st_tensor;

typedef struct tn_st_pair {
    const char *key, *value;
} tn_st_pair;

/* An open file. Tensors are in the order of their data, which is the order to read them in. */
typedef struct tn_st {
    size_t n;
    tn_st_tensor *tensor;
    size_t n_meta;
    tn_st_pair *meta; /* __metadata__, in the order of the file */
    struct tn_st_private *priv;
} tn_st;

/* Maps a file (flags: TN_MAP_COPY reads it into memory, for files that may change under us) and checks all of its
 * header. */
int tn_st_open(const char *path, int flags, tn_st **out, tn_err *err);
/* The same for bytes in memory, which must outlive *out. `name` stands for the path in messages. */
int tn_st_parse(const void *bytes, size_t len, const char *name, tn_st **out, tn_err *err);
void tn_st_close(tn_st *st);                                       /* NULL is fine */
/* The memory of a mapped file's data goes back to the system, as tn_map_rest; and whether p points into such data. */
void tn_st_rest(const tn_st *st);
bool tn_st_is_mapped(const tn_st *st, const void *p);
const tn_st_tensor *tn_st_find(const tn_st *st, const char *name); /* hashed; NULL where absent */
const char *tn_st_meta(const tn_st *st, const char *key);          /* a value of __metadata__; NULL where absent */

/* All elements of a tensor into dst[count]. f32 and f64 read F64 (f32: rounded), F32, F16 and BF16; i64 reads the
 * signed and unsigned integers up to I64 and BOOL. -1 (TN_EUNSUPPORTED) for any other type, naming tensor and type. */
int tn_st_read_f32(const tn_st_tensor *t, float *dst, tn_err *err);
int tn_st_read_f64(const tn_st_tensor *t, double *dst, tn_err *err);
int tn_st_read_i64(const tn_st_tensor *t, int64_t *dst, tn_err *err);

/* ---- writing ---- */

/* Collects what a file shall hold. The bytes written depend on what was added, never on the machine: tensors by
 * descending size of their element, then by name; metadata in the order added; the header padded with spaces to a
 * multiple of 8. */
typedef struct tn_st_writer tn_st_writer;
tn_st_writer *tn_st_writer_new(void); /* NULL where memory is out */
void tn_st_writer_free(tn_st_writer *w);
/* Adds a tensor of numbers of this machine: float for F32, F16 and BF16 (rounded to nearest even), double for F64,
 * int64_t for I64, int32_t for I32, unsigned char for U8 and BOOL; other types are a bug. Name and shape are copied;
 * the data is read when the file is written. A failed allocation is remembered and reported there. */
void tn_st_add(tn_st_writer *w, const char *name, tn_st_dtype dtype, int ndim, const int64_t *shape, const void *data);
/* Adds a tensor of any type whose bytes are already as they shall lie in the file. */
void tn_st_add_raw(tn_st_writer *w, const char *name, tn_st_dtype dtype, int ndim, const int64_t *shape,
                   const void *bytes);
/* Adds a tensor whose numbers are made when the file is written, a piece at a time and in order, so that a file may be
 * larger than memory: make(arg, first, n, out) gives elements first .. first + n - 1 as float; F32, F16 or BF16 in the
 * file. Pieces are of 4096, the last one of what is left. */
typedef void (*tn_st_make)(void *arg, int64_t first, int64_t n, float *out);
void tn_st_add_made(tn_st_writer *w, const char *name, tn_st_dtype dtype, int ndim, const int64_t *shape, tn_st_make make,
                    void *arg);
void tn_st_add_meta(tn_st_writer *w, const char *key, const char *value); /* both copied */
/* Writes the file atomically (tn_out). Two tensors of one name are an error (TN_EINPUT). May be called again. */
int tn_st_write(tn_st_writer *w, const char *path, tn_err *err);
/* The same bytes in memory; the caller frees *bytes. */
int tn_st_write_mem(tn_st_writer *w, unsigned char **bytes, size_t *len, tn_err *err);

#endif
