/* JSON: a strict reader into a flat tree, and a writer. RFC 8259.
 *
 * The reader takes (pointer, length), never recurses, caps the depth at 64, refuses duplicate keys, lone surrogates,
 * NUL in strings and invalid UTF-8. Flags relax it where the world needs that: Python writes NaN and Infinity into
 * configurations. */
#ifndef TN_JSON_H
#define TN_JSON_H

#include "tensor/err.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum { TN_JSON_NULL, TN_JSON_BOOL, TN_JSON_NUMBER, TN_JSON_STRING, TN_JSON_ARRAY, TN_JSON_OBJECT } tn_json_type;

typedef struct tn_jval tn_jval;
struct tn_jval {
    tn_json_type type;
    bool boolean;         /* BOOL */
    bool is_int;          /* NUMBER written without fraction or exponent, and it fits int64 */
    int64_t integer;      /* NUMBER with is_int */
    double number;        /* NUMBER, correctly rounded */
    const char *string;   /* STRING: decoded UTF-8, NUL-terminated */
    const char *key;      /* key within the parent object, decoded, NUL-terminated; else NULL */
    size_t length;        /* STRING: bytes; ARRAY, OBJECT: number of members */
    const tn_jval *child; /* ARRAY, OBJECT: first member */
    const tn_jval *next;  /* next member of the same parent */
};

typedef struct tn_json tn_json; /* owns every value and string of one document */

enum {
    /* For configuration files, as Python reads and writes them: */
    TN_JSON_PYTHON = 1,   /* accept NaN, Infinity and -Infinity, 1e400 as infinity, a leading UTF-8 BOM */
    TN_JSON_LAST_WINS = 2 /* duplicate keys: keep the last one */
};

/* Parses text[0..len). 0 and *doc, or -1 (TN_EINPUT with the byte offset; TN_ENOMEM). */
int tn_json_parse(const char *text, size_t len, int flags, tn_json **doc, tn_err *err);
/* Reads a whole file of at most 64 MiB and parses it; messages start with the path. */
int tn_json_load(const char *path, int flags, tn_json **doc, tn_err *err);
const tn_jval *tn_json_root(const tn_json *doc);
void tn_json_free(tn_json *doc); /* NULL is fine */

/* Member of an object, hashed when the object is large (vocabularies); NULL where absent or v is NULL or no object. */
const tn_jval *tn_json_get(const tn_jval *v, const char *key);

/* Correctly rounded decimal to double, locale-free, of exactly text[0..len): the one number parser of the project.
 * Grammar of JSON plus an optional leading '+', leading '.', trailing '.'. false where anything is left over, and where
 * the number is too large for a double; what is too small becomes subnormal or zero. "nan"/"inf" are refused: *out is
 * always finite. */
bool tn_parse_double(const char *text, size_t len, double *out);
bool tn_parse_int64(const char *text, size_t len, int64_t *out); /* decimal, optional sign, no overflow */
/* Length of the UTF-8 sequence at s[0..n), n > 0, or 0 where it is none: overlong forms, surrogates and code points
 * above U+10FFFF are none (RFC 3629). With NUL-terminated text n may be 4. */
size_t tn_utf8_length(const unsigned char *s, size_t n);

/* Writer: appends to a growing buffer. Commas are placed by the writer; a failed allocation is sticky (buf NULL at the
 * end). */
typedef struct tn_jw {
    char *buf;
    size_t len, cap;
    bool failed, comma;
    int indent; /* spaces per level; 0 = one line */
    int depth;
} tn_jw;
void tn_jw_init(tn_jw *w, int indent);
void tn_jw_open(tn_jw *w, const char *key, char bracket); /* '{' or '['; key NULL inside arrays and at the root */
void tn_jw_close(tn_jw *w, char bracket);                 /* '}' or ']' */
void tn_jw_string(tn_jw *w, const char *key, const char *value);
void tn_jw_int(tn_jw *w, const char *key, int64_t value);
/* Of 9 to 17 digits the fewest that read back as the same double (tn_jw_float: as the same float); NaN, Inf -> null. */
void tn_jw_number(tn_jw *w, const char *key, double value);
void tn_jw_float(tn_jw *w, const char *key, float value);
void tn_jw_bool(tn_jw *w, const char *key, bool value);
void tn_jw_null(tn_jw *w, const char *key);
char *tn_jw_take(tn_jw *w); /* the NUL-terminated text, caller frees; NULL after a failed allocation */

#endif
