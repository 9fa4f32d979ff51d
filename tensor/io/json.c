/* The reader is one loop over values with an explicit stack of open brackets. Invariants: every string of the document
 * lies in one buffer as long as the text (a decoded string and its NUL never need more than what stood there, quotes
 * included); every value lies in a block of doc->blocks; an object with more than INDEX_FROM members carries a hash map
 * of them. */
#include "tensor/io/json.h"

#include "tensor/io/strmap.h"
#include "tensor/io/sys.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* MAX_VALUES bounds the memory that a small file can claim: "[0,0,0,..." costs two bytes a value there, 72 here. */
enum { MAX_DEPTH = 64, INDEX_FROM = 16, MAX_VALUES = 1 << 22, BLOCK = 256, MAX_FILE = 64 << 20 };

/* What a tn_jval is in truth; the map is for tn_json_get alone. */
typedef struct node {
    tn_jval v;
    tn_strmap *index;
} node;

typedef struct block {
    struct block *next;
    size_t used;
    node node[BLOCK];
} block;

struct tn_json {
    tn_jval *root;
    char *strings;
    block *blocks;
    size_t n_values;
};

/* An open array or object, and the last member it has so far. */
typedef struct frame {
    tn_jval *container, *last;
} frame;

typedef struct parser {
    const char *text;
    size_t at, len;
    int flags;
    tn_json *doc;
    char *string_end; /* where the next string goes, in doc->strings */
    frame stack[MAX_DEPTH];
    int depth;
    tn_err *err;
} parser;

/* ---- errors ---- */

/* "line 3, byte 57: expected WHAT, got 'x'", bytes counted from 0. */
static int fail_expected(const parser *p, const char *what) {
    size_t line = 1;
    for (size_t i = 0; i < p->at && i < p->len; i++) line += p->text[i] == '\n';
    if (p->at >= p->len)
        return tn_fail(p->err, TN_EINPUT, "line %zu, byte %zu: expected %s, got the end of the text", line, p->at,
                       what);
    unsigned char c = (unsigned char)p->text[p->at];
    if (c > 0x20 && c < 0x7f)
        return tn_fail(p->err, TN_EINPUT, "line %zu, byte %zu: expected %s, got '%c'", line, p->at, what, c);
    return tn_fail(p->err, TN_EINPUT, "line %zu, byte %zu: expected %s, got the byte 0x%02x", line, p->at, what, c);
}

static int fail_no_memory(const parser *p) { return tn_fail(p->err, TN_ENOMEM, "out of memory while reading JSON"); }

/* ---- values ---- */

static node *node_of(const tn_jval *v) { return (node *)(void *)v; } /* v is the first member of its node */

static tn_jval *new_value(parser *p, const char *key) {
    tn_json *doc = p->doc;
    if (doc->n_values == MAX_VALUES) {
        tn_fail(p->err, TN_EINPUT, "byte %zu: more than %d values in one JSON text", p->at, MAX_VALUES);
        return NULL;
    }
    if (!doc->blocks || doc->blocks->used == BLOCK) {
        block *b = malloc(sizeof *b);
        if (!b) {
            fail_no_memory(p);
            return NULL;
        }
        b->next = doc->blocks, b->used = 0;
        doc->blocks = b;
    }
    node *n = &doc->blocks->node[doc->blocks->used++];
    memset(n, 0, sizeof *n);
    doc->n_values++;
    n->v.key = key;
    if (p->depth > 0) {
        frame *f = &p->stack[p->depth - 1];
        if (f->last) f->last->next = &n->v;
        if (!f->last) f->container->child = &n->v;
        f->last = &n->v;
        f->container->length++;
    }
    return &n->v;
}

/* A later member takes the place of an earlier one of the same name; the key and the place in the order stay, as in
 * Python. */
static void replace_value(tn_jval *old, tn_jval *later) {
    node old_node = *node_of(old);
    *node_of(old) = *node_of(later);
    old->key = old_node.v.key, old->next = old_node.v.next;
    node_of(later)->index = old_node.index; /* whoever owns a map, the block frees it */
}

/* The member of that name among the first n of a small object. */
static tn_jval *find_linear(const tn_jval *object, const char *key, size_t n) {
    const tn_jval *m = object->child;
    for (size_t i = 0; i < n; i++, m = m->next)
        if (strcmp(m->key, key) == 0) return &node_of(m)->v;
    return NULL;
}

/* Called at the closing brace: builds the index of a large object, and finds the names that stand there twice. */
static int close_object(parser *p, tn_jval *object) {
    tn_strmap *map = NULL;
    if (object->length > INDEX_FROM) {
        map = calloc(1, sizeof *map);
        if (!map) return fail_no_memory(p);
        node_of(object)->index = map;
        if (tn_strmap_init(map, object->length)) return fail_no_memory(p);
    }
    tn_jval *last = NULL, *next;
    size_t kept = 0;
    for (tn_jval *m = object->child ? &node_of(object->child)->v : NULL; m; m = next) {
        next = m->next ? &node_of(m->next)->v : NULL;
        bool overrun = false;
        tn_jval *earlier = map ? tn_strmap_put(map, m->key, m, &overrun) : find_linear(object, m->key, kept);
        if (overrun) return tn_fail(p->err, TN_EINPUT, "byte %zu: the keys of this object collide by design", p->at);
        if (!earlier) {
            last = m, kept++;
        } else if (p->flags & TN_JSON_LAST_WINS) {
            last->next = m->next;
            replace_value(earlier, m);
        } else {
            return tn_fail(p->err, TN_EINPUT, "duplicate key \"%.200s\" in the object that ends at byte %zu", m->key,
                           p->at);
        }
    }
    object->length = kept;
    return 0;
}

/* ---- strings ---- */

size_t tn_utf8_length(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    size_t length = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (length > n) return 0;
    unsigned low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    return length;
}

static char *utf8_put(char *out, uint32_t c) {
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    int extra = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(lead[extra] | c >> (6 * extra));
    while (extra-- > 0) *out++ = (char)(0x80 | (c >> (6 * extra) & 0x3f));
    return out;
}

/* Four hexadecimal digits at p->at. */
static int parse_hex4(parser *p, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        int c = p->at < p->len ? p->text[p->at] : -1;
        int digit = -1;
        if (c >= '0' && c <= '9') digit = c - '0';
        if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
        if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
        if (digit < 0) return fail_expected(p, "four hexadecimal digits after \\u");
        *out = *out << 4 | (unsigned)digit;
    }
    return 0;
}

/* The code point of a \u escape whose "\u" has been read; a high surrogate must be followed by an escaped low one. */
static int parse_unicode(parser *p, uint32_t *c) {
    size_t start = p->at - 2;
    if (parse_hex4(p, c)) return -1;
    if (*c == 0) return tn_fail(p->err, TN_EINPUT, "byte %zu: \\u0000 in a string is not accepted", start);
    if (*c < 0xd800 || *c > 0xdfff) return 0;
    uint32_t low = 0;
    if (*c < 0xdc00 && p->at + 1 < p->len && p->text[p->at] == '\\' && p->text[p->at + 1] == 'u') {
        p->at += 2;
        if (parse_hex4(p, &low)) return -1;
    }
    if (low < 0xdc00 || low > 0xdfff)
        return tn_fail(p->err, TN_EINPUT, "byte %zu: \\u%04x is half of a surrogate pair", start, (unsigned)*c);
    *c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
    return 0;
}

static int parse_escape(parser *p, char **out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    p->at++; /* the backslash */
    char c = p->at < p->len ? p->text[p->at] : '\0';
    const char *plain = c ? strchr(from, c) : NULL;
    if (plain) {
        *(*out)++ = to[plain - from];
        p->at++;
        return 0;
    }
    if (c != 'u') return fail_expected(p, "one of \"\\/bfnrtu after a backslash");
    p->at++;
    uint32_t code;
    if (parse_unicode(p, &code)) return -1;
    *out = utf8_put(*out, code);
    return 0;
}

/* A string whose opening quote is at p->at; decoded and NUL-terminated in *string, of *length bytes. */
static int parse_string(parser *p, const char **string, size_t *length) {
    if (p->at >= p->len || p->text[p->at] != '"') return fail_expected(p, "a string in double quotes");
    char *start = p->string_end, *out = start;
    for (p->at++;;) {
        if (p->at >= p->len) return fail_expected(p, "a closing '\"'");
        unsigned char c = (unsigned char)p->text[p->at];
        if (c == '"') break;
        if (c == '\\') {
            if (parse_escape(p, &out)) return -1;
            continue;
        }
        size_t n = tn_utf8_length((const unsigned char *)p->text + p->at, p->len - p->at);
        if (c < 0x20) return fail_expected(p, "no raw control character in a string");
        if (!n) return fail_expected(p, "valid UTF-8");
        while (n--) *out++ = p->text[p->at++];
    }
    p->at++;
    *string = start, *length = (size_t)(out - start);
    *out++ = '\0';
    p->string_end = out;
    return 0;
}

/* ---- numbers and words ---- */

static size_t skip_digits(const parser *p, size_t i) {
    while (i < p->len && p->text[i] >= '0' && p->text[i] <= '9') i++;
    return i;
}

static int parse_number(parser *p, tn_jval *v) {
    size_t start = p->at, i = start;
    bool integer = true;
    if (p->text[i] == '-') i++;
    size_t whole = i;
    i = skip_digits(p, i);
    p->at = i;
    if (i == whole) return fail_expected(p, "a digit");
    if (p->text[whole] == '0' && i > whole + 1) {
        p->at = whole + 1;
        return fail_expected(p, "no digit after a leading zero");
    }
    if (i < p->len && p->text[i] == '.') {
        size_t fraction = i + 1;
        p->at = i = skip_digits(p, fraction);
        if (i == fraction) return fail_expected(p, "a digit after the point");
        integer = false;
    }
    if (i < p->len && (p->text[i] == 'e' || p->text[i] == 'E')) {
        i++;
        if (i < p->len && (p->text[i] == '+' || p->text[i] == '-')) i++;
        size_t digits = i;
        p->at = i = skip_digits(p, i);
        if (i == digits) return fail_expected(p, "a digit in the exponent");
        integer = false;
    }
    v->type = TN_JSON_NUMBER;
    v->is_int = integer && tn_parse_int64(p->text + start, i - start, &v->integer);
    if (tn_parse_double(p->text + start, i - start, &v->number)) return 0;
    if (!(p->flags & TN_JSON_PYTHON))
        return tn_fail(p->err, TN_EINPUT, "byte %zu: number out of range of a double", start);
    v->number = p->text[start] == '-' ? -HUGE_VAL : HUGE_VAL;
    return 0;
}

/* Moves over the word if the text goes on with it. */
static bool accept_word(parser *p, const char *word) {
    size_t n = strlen(word);
    if (p->len - p->at < n || memcmp(p->text + p->at, word, n) != 0) return false;
    p->at += n;
    return true;
}

static int parse_word(parser *p, tn_jval *v) {
    if (accept_word(p, "null")) return 0; /* a value is born null */
    if (accept_word(p, "true") || accept_word(p, "false")) {
        v->type = TN_JSON_BOOL;
        v->boolean = p->text[p->at - 2] == 'u';
        return 0;
    }
    if (p->flags & TN_JSON_PYTHON) {
        v->type = TN_JSON_NUMBER;
        if (accept_word(p, "NaN")) return v->number = (double)NAN, 0;
        if (accept_word(p, "Infinity")) return v->number = HUGE_VAL, 0;
        if (accept_word(p, "-Infinity")) return v->number = -HUGE_VAL, 0;
    }
    return fail_expected(p, "a value");
}

/* ---- the document ---- */

static void skip_space(parser *p) {
    while (p->at < p->len) {
        char c = p->text[p->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
        p->at++;
    }
}

static bool accept_char(parser *p, char c) {
    skip_space(p);
    if (p->at >= p->len || p->text[p->at] != c) return false;
    p->at++;
    return true;
}

static int parse_scalar(parser *p, tn_jval *v) {
    char c = p->at < p->len ? p->text[p->at] : '\0';
    if (c == '"') {
        v->type = TN_JSON_STRING;
        return parse_string(p, &v->string, &v->length);
    }
    bool minus_word = c == '-' && p->at + 1 < p->len && p->text[p->at + 1] == 'I';
    if ((c >= '0' && c <= '9') || (c == '-' && !minus_word)) return parse_number(p, v);
    return parse_word(p, v);
}

static int open_container(parser *p, tn_jval *v) {
    if (p->depth == MAX_DEPTH)
        return tn_fail(p->err, TN_EINPUT, "byte %zu: nested deeper than %d levels", p->at, MAX_DEPTH);
    v->type = p->text[p->at] == '{' ? TN_JSON_OBJECT : TN_JSON_ARRAY;
    p->at++;
    p->stack[p->depth].container = v, p->stack[p->depth].last = NULL;
    p->depth++;
    return 0;
}

/* After a value: closes what closes here. *more says that a further member of the innermost container follows. */
static int close_containers(parser *p, bool *more) {
    for (*more = false; p->depth > 0; p->depth--) {
        tn_jval *container = p->stack[p->depth - 1].container;
        bool object = container->type == TN_JSON_OBJECT;
        if (container->length && accept_char(p, ',')) {
            *more = true;
            return 0;
        }
        if (!accept_char(p, object ? '}' : ']')) {
            if (!container->length) return *more = true, 0; /* just opened: its first member follows */
            return fail_expected(p, object ? "',' or '}'" : "',' or ']'");
        }
        if (object && close_object(p, container)) return -1;
    }
    return 0;
}

static int parse_document(parser *p) {
    for (bool more = true; more;) {
        const char *key = NULL;
        size_t key_length;
        skip_space(p);
        if (p->depth > 0 && p->stack[p->depth - 1].container->type == TN_JSON_OBJECT) {
            if (parse_string(p, &key, &key_length)) return -1;
            if (!accept_char(p, ':')) return fail_expected(p, "':' after the key");
            skip_space(p);
        }
        tn_jval *v = new_value(p, key);
        if (!v) return -1;
        if (!p->doc->root) p->doc->root = v;
        bool opens = p->at < p->len && (p->text[p->at] == '{' || p->text[p->at] == '[');
        if (opens ? open_container(p, v) : parse_scalar(p, v)) return -1;
        if (close_containers(p, &more)) return -1;
    }
    skip_space(p);
    return p->at < p->len ? fail_expected(p, "nothing after the value") : 0;
}

int tn_json_parse(const char *text, size_t len, int flags, tn_json **doc, tn_err *err) {
    parser p = {0};
    p.text = text, p.len = len, p.flags = flags, p.err = err;
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 && (flags & TN_JSON_PYTHON)) p.at = 3;
    if (len >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        return tn_fail(err, TN_EINPUT, "byte 0: UTF-16 text (JSON must be UTF-8)");
    p.doc = calloc(1, sizeof *p.doc);
    if (!p.doc) return fail_no_memory(&p);
    p.doc->strings = p.string_end = malloc(len + 1);
    if (!p.doc->strings || parse_document(&p)) {
        if (!p.doc->strings) fail_no_memory(&p);
        tn_json_free(p.doc);
        return -1;
    }
    *doc = p.doc;
    return 0;
}

int tn_json_load(const char *path, int flags, tn_json **doc, tn_err *err) {
    char *text;
    size_t len;
    if (tn_read_file(path, MAX_FILE, &text, &len, err)) return -1;
    int status = tn_json_parse(text, len, flags, doc, err);
    free(text);
    return status ? tn_fail_in(err, "%s", path) : 0;
}

const tn_jval *tn_json_root(const tn_json *doc) { return doc->root; }

void tn_json_free(tn_json *doc) {
    if (!doc) return;
    for (block *b = doc->blocks, *next; b; b = next) {
        next = b->next;
        for (size_t i = 0; i < b->used; i++) {
            if (b->node[i].index) tn_strmap_free(b->node[i].index);
            free(b->node[i].index);
        }
        free(b);
    }
    free(doc->strings);
    free(doc);
}

const tn_jval *tn_json_get(const tn_jval *v, const char *key) {
    if (!v || v->type != TN_JSON_OBJECT) return NULL;
    const tn_strmap *index = node_of(v)->index;
    return index ? tn_strmap_get(index, key) : find_linear(v, key, v->length);
}
