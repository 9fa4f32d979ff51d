#include "nn/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *nn_join(const char *dir, const char *name) {
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s", dir, name);
    return path;
}

/* Notes go to terminals: bytes other than printable ASCII become '?'. What does not fit is dropped as a whole line. */
void nn_note(nn_notes *notes, const char *fmt, ...) {
    char line[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    for (char *c = line; *c; c++) {
        if (*c < 0x20 || *c > 0x7e) *c = '?';
    }
    strcat(line, "\n");
    size_t used = strlen(notes->text);
    if (used + strlen(line) < sizeof notes->text) strcpy(notes->text + used, line);
}

/* A value as it may appear in a message. */
static const char *describe(const tn_jval *v, char *buffer, size_t size) {
    switch (v->type) {
    case TN_JSON_NULL: return "null";
    case TN_JSON_BOOL: return v->boolean ? "true" : "false";
    case TN_JSON_STRING: snprintf(buffer, size, "\"%s\"", v->string); return buffer;
    case TN_JSON_ARRAY: snprintf(buffer, size, "a list of %zu", v->length); return buffer;
    case TN_JSON_OBJECT: return "an object";
    case TN_JSON_NUMBER: break;
    }
    if (v->is_int) snprintf(buffer, size, "%lld", (long long)v->integer);
    else snprintf(buffer, size, "%.9g", v->number);
    return buffer;
}

/* A key being read: what messages need. */
typedef struct reading {
    const char *file;
    const nn_key *key;
    tn_err *err;
} reading;

static int bad(const reading *r, const tn_jval *v, const char *expected) {
    char text[100];
    return tn_fail(r->err, TN_EINPUT, "%s: %s: expected %s, got %s", r->file, r->key->name, expected,
                   describe(v, text, sizeof text));
}

static int unsupported(const reading *r, const tn_jval *v) {
    char text[100];
    return tn_fail(r->err, TN_EUNSUPPORTED, "%s: %s %s is not supported (supported: %s)", r->file, r->key->name,
                   describe(v, text, sizeof text), r->key->names);
}

static int bad_range(const reading *r, const tn_jval *v, const char *what) {
    char expected[80];
    snprintf(expected, sizeof expected, "%s from %.9g to %.9g", what, r->key->min, r->key->max);
    return bad(r, v, expected);
}

static int read_int(const reading *r, const tn_jval *v, int64_t *out) {
    if (v->type != TN_JSON_NUMBER || !v->is_int || (double)v->integer < r->key->min || (double)v->integer > r->key->max)
        return bad_range(r, v, "a whole number");
    *out = v->integer;
    return 0;
}

static int read_number(const reading *r, const tn_jval *v, float *out) {
    /* the negated comparison refuses NaN, which Python's JSON can hold */
    if (v->type != TN_JSON_NUMBER || !(v->number >= r->key->min && v->number <= r->key->max))
        return bad_range(r, v, "a number");
    *out = (float)v->number;
    return 0;
}

/* The index-th of the space-separated names, and its length; NULL past the last. */
static const char *nth_name(const char *names, int index, size_t *len) {
    for (; *names; index--) {
        *len = strcspn(names, " ");
        if (index == 0) return names;
        names += *len + (names[*len] == ' ');
    }
    return NULL;
}

static int read_choice(const reading *r, const tn_jval *v, int64_t *out) {
    if (v->type != TN_JSON_STRING) return bad(r, v, "a name");
    size_t len;
    const char *name;
    for (int i = 0; (name = nth_name(r->key->names, i, &len)); i++) {
        if (strlen(v->string) == len && memcmp(v->string, name, len) == 0) {
            *out = i;
            return 0;
        }
    }
    return unsupported(r, v);
}

static int read_list(const reading *r, const tn_jval *v, nn_list *out,
                     int (*read_member)(const reading *, const tn_jval *, int64_t *)) {
    nn_list list = {.scalar = v->type != TN_JSON_ARRAY};
    if (list.scalar) {
        if (read_member(r, v, &list.v[list.n++])) return -1;
    } else {
        if (v->length < 1 || v->length > NN_LIST_MAX) return bad(r, v, "a list of 1 to 8 members");
        for (const tn_jval *m = v->child; m; m = m->next) {
            if (read_member(r, m, &list.v[list.n++])) return -1;
        }
    }
    *out = list;
    return 0;
}

static int read_numbers(const reading *r, const tn_jval *v, float *out) {
    if (v->type != TN_JSON_ARRAY || v->length != 3) return bad(r, v, "a list of 3 numbers");
    for (const tn_jval *m = v->child; m; m = m->next) {
        if (read_number(r, m, out++)) return -1;
    }
    return 0;
}

static bool same(const tn_jval *v, const char *text, size_t len) {
    double number;
    const char *own = v->boolean ? "true" : "false";
    if (v->type == TN_JSON_NUMBER) return tn_parse_double(text, len, &number) && number == v->number;
    if (v->type == TN_JSON_STRING) own = v->string;
    if (v->type == TN_JSON_NULL) own = "null";
    return strlen(own) == len && memcmp(own, text, len) == 0;
}

static int check_only(const reading *r, const tn_jval *v) {
    if (v->type == TN_JSON_OBJECT) return unsupported(r, v);
    for (const tn_jval *m = v->type == TN_JSON_ARRAY ? v->child : v; m; m = v->type == TN_JSON_ARRAY ? m->next : NULL) {
        size_t len;
        const char *name;
        bool found = false;
        for (int i = 0; m->type < TN_JSON_ARRAY && (name = nth_name(r->key->names, i, &len)); i++)
            found = found || same(m, name, len);
        if (!found) return unsupported(r, m);
    }
    return 0;
}

static int read_value(const reading *r, const tn_jval *v, void *field) {
    int64_t choice;
    switch (r->key->type) {
    case NN_KEY_INT: return read_int(r, v, field);
    case NN_KEY_NUMBER: return read_number(r, v, field);
    case NN_KEY_NUMBERS: return read_numbers(r, v, field);
    case NN_KEY_BOOL:
        if (v->type != TN_JSON_BOOL) return bad(r, v, "true or false");
        *(bool *)field = v->boolean;
        return 0;
    case NN_KEY_INTS: return read_list(r, v, field, read_int);
    case NN_KEY_CHOICE:
        if (read_choice(r, v, &choice)) return -1;
        *(int *)field = (int)choice;
        return 0;
    case NN_KEY_CHOICES:
        if (v->type != TN_JSON_ARRAY) return bad(r, v, "a list of names");
        return read_list(r, v, field, read_choice);
    case NN_KEY_ONLY: return check_only(r, v);
    case NN_KEY_ANY: return 0;
    }
    return 0;
}

int nn_config_read(const char *file, const tn_jval *object, const nn_key *keys, size_t nkeys, void *fields,
                   nn_notes *notes, tn_err *err) {
    char unknown[200] = "";
    int more = 0;
    for (const tn_jval *v = object->child; v; v = v->next) {
        size_t i = 0;
        while (i < nkeys && strcmp(keys[i].name, v->key) != 0) i++;
        if (i < nkeys) {
            reading r = {file, &keys[i], err};
            if (read_value(&r, v, (char *)fields + keys[i].field)) return -1;
        } else if (v->key[0] != '_') {
            size_t used = strlen(unknown);
            if (used + strlen(v->key) + 3 > sizeof unknown) more++;
            else sprintf(unknown + used, "%s%s", used ? ", " : "", v->key);
        }
    }
    if (more) nn_note(notes, "%s: unknown keys ignored: %s and %d more", file, unknown, more);
    else if (unknown[0]) nn_note(notes, "%s: unknown keys ignored: %s", file, unknown);
    return 0;
}

int nn_config_open(const char *dir, const char *name, tn_json **doc, tn_err *err) {
    char *path = nn_join(dir, name);
    if (!path) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    int failed = tn_json_load(path, TN_JSON_PYTHON | TN_JSON_LAST_WINS, doc, err);
    if (!failed && tn_json_root(*doc)->type != TN_JSON_OBJECT) {
        tn_json_free(*doc);
        failed = tn_fail(err, TN_EINPUT, "%s: expected a JSON object", path);
    }
    free(path);
    return failed;
}

int nn_config_load(const char *dir, const char *name, const nn_key *keys, size_t nkeys, void *fields, nn_notes *notes,
                   tn_err *err) {
    tn_json *doc;
    if (nn_config_open(dir, name, &doc, err)) return -1;
    char *path = nn_join(dir, name);
    int failed = path ? nn_config_read(path, tn_json_root(doc), keys, nkeys, fields, notes, err)
                      : tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    free(path);
    tn_json_free(doc);
    return failed;
}
