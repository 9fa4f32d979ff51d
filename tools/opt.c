#include "tools/opt.h"

#include "tensor/io/json.h"
#include "tensor/tensor.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

/* '_' and '-' are alike in long names, so that diffusers' command lines paste in. */
static bool same_name(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char x = a[i] == '_' ? '-' : a[i], y = b[i] == '_' ? '-' : b[i];
        if (x != y) return false;
    }
    return true;
}

/* The next of the comma-separated names of a row; NULL at the end. *len is its length. */
static const char *next_name(const char *names, const char *after, size_t *len) {
    const char *p = after ? after + *len : names;
    if (after && *p == ',') p++;
    *len = strcspn(p, ",");
    return *len ? p : NULL;
}

static bool row_has(const opt_row *row, const char *word, size_t n) {
    size_t len = 0;
    for (const char *name = next_name(row->names, NULL, &len); name; name = next_name(row->names, name, &len)) {
        if (len == n && same_name(name, word, n)) return true;
    }
    return false;
}

/* The first long name: what messages call the option. */
static const char *shown_name(const opt_row *row, size_t *n) {
    size_t len = 0;
    const char *name = next_name(row->names, NULL, &len);
    while (name && len == 1) name = next_name(row->names, name, &len);
    *n = name ? len : 1;
    return name ? name : row->names;
}

static int distance(const char *a, const char *b) { /* Levenshtein 1966, words up to 63 bytes */
    int row[64], la = (int)strlen(a), lb = (int)strlen(b);
    if (la > 63 || lb > 63) return 99;
    for (int j = 0; j <= lb; j++) row[j] = j;
    for (int i = 1; i <= la; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= lb; j++) {
            int up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best, diagonal = up;
        }
    }
    return row[lb];
}

const char *opt_nearest(const char *word, const char *const *names, int n) {
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 2;
    for (int i = 0; i < n; i++) {
        int d = distance(word, names[i]);
        if (d < least) least = d, best = names[i];
    }
    return best;
}

static int unknown_option(const opt_command *cmd, const char *arg, tn_err *err) {
    char word[64], copies[128][64];
    const char *names[128];
    int n = 0;
    const char *start = arg + strspn(arg, "-");
    snprintf(word, sizeof word, "%.*s", (int)strcspn(start, "="), start);
    for (char *c = word; *c; c++) *c = *c == '_' ? '-' : *c;
    for (int i = 0; i < cmd->nrows; i++) {
        size_t len = 0;
        for (const char *p = next_name(cmd->rows[i].names, NULL, &len); p && n < 128; p = next_name(cmd->rows[i].names, p, &len)) {
            if (len == 1) continue;
            snprintf(copies[n], sizeof copies[n], "%.*s", (int)len, p);
            names[n] = copies[n], n++;
        }
    }
    const char *near = opt_nearest(word, names, n);
    if (strcmp(arg, "-s") == 0) return tn_fail(err, TN_EUSAGE, "-s is ambiguous: --seed (-S) or --steps?");
    if (near) return tn_fail(err, TN_EUSAGE, "unknown option %s of %s (did you mean --%s?)", arg, cmd->name, near);
    return tn_fail(err, TN_EUSAGE, "unknown option %s (see oneword %s --help)", arg, cmd->name);
}

/* ---- values ---- */

static bool is_choice(const char *meta, const char *value) {
    size_t n = strlen(value);
    for (const char *p = meta; *p; p += strcspn(p, "|"), p += *p == '|') {
        if (strcspn(p, "|") == n && strncmp(p, value, n) == 0) return true;
    }
    return false;
}

static int set_number(const opt_row *row, const char *value, void *field, tn_err *err) {
    size_t n;
    const char *name = shown_name(row, &n);
    double x;
    int64_t i = 0;
    bool whole = row->type == OPT_INT, ok = whole ? tn_parse_int64(value, strlen(value), &i) : tn_parse_double(value, strlen(value), &x);
    if (!ok) return tn_fail(err, TN_EUSAGE, "--%.*s: expected a %s number, got \"%s\"", (int)n, name, whole ? "whole" : "finite", value);
    if (whole) x = (double)i;
    if (row->lo < row->hi && !(x >= row->lo && x <= row->hi)) {
        return tn_fail(err, TN_EUSAGE, "--%.*s: expected %.9g to %.9g, got %s", (int)n, name, row->lo, row->hi, value);
    }
    if (!isfinite(x)) return tn_fail(err, TN_EUSAGE, "--%.*s: %s is out of range", (int)n, name, value);
    if (whole) *(int64_t *)field = i;
    else *(double *)field = x;
    return 0;
}

static int set_value(const opt_row *row, const char *value, void *settings, tn_err *err) {
    void *field = (char *)settings + row->field;
    size_t n;
    const char *name = shown_name(row, &n);
    switch (row->type) {
    case OPT_INT:
    case OPT_NUMBER: return set_number(row, value, field, err);
    case OPT_TEXT:
        if (row->meta && strchr(row->meta, '|') && !is_choice(row->meta, value)) {
            return tn_fail(err, TN_EUSAGE, "--%.*s: expected %s, got \"%s\"", (int)n, name, row->meta, value);
        }
        *(const char **)field = value;
        return 0;
    case OPT_LIST: {
        opt_list *list = field;
        if (list->n == (int)(sizeof list->item / sizeof *list->item)) return tn_fail(err, TN_EUSAGE, "--%.*s: given too often", (int)n, name);
        list->item[list->n++] = value;
        return 0;
    }
    case OPT_FLAG:
    case OPT_IGNORED: break;
    }
    return 0;
}

/* ---- parsing ---- */

static const opt_row *find_row(const opt_command *cmd, const char *word, size_t n, bool is_short) {
    for (int i = 0; i < cmd->nrows; i++) {
        if ((n == 1) == is_short && row_has(&cmd->rows[i], word, n)) return &cmd->rows[i];
    }
    return NULL;
}

/* One option at argv[i]; returns the number of arguments used, -1 on error. */
static int take_option(const opt_command *cmd, int argc, char **argv, int i, void *settings, bool *given, tn_err *err) {
    const char *arg = argv[i];
    bool is_short = arg[1] != '-';
    const char *word = arg + (is_short ? 1 : 2);
    size_t len = is_short ? strlen(word) : strcspn(word, "=");
    const char *value = !is_short && word[len] == '=' ? word + len + 1 : NULL;
    const opt_row *row = find_row(cmd, word, len, is_short);
    if (!row) return unknown_option(cmd, arg, err);
    if (given) given[row - cmd->rows] = true;
    if (row->type == OPT_FLAG || (row->type == OPT_IGNORED && !row->meta)) {
        if (value) return tn_fail(err, TN_EUSAGE, "%.*s takes no value", (int)(word + len - arg), arg);
        if (row->type == OPT_FLAG) *(bool *)((char *)settings + row->field) = true;
        else opt_warn("%s has no meaning here and is ignored (%s)", arg, row->help);
        return 1;
    }
    int used = value ? 1 : 2;
    if (!value && i + 1 >= argc) return tn_fail(err, TN_EUSAGE, "%s needs a value (%s)", arg, row->meta ? row->meta : "VALUE");
    if (!value) value = argv[i + 1];
    if (row->type == OPT_IGNORED) {
        opt_warn("%s has no meaning here and is ignored (%s)", arg, row->help);
        return used;
    }
    return set_value(row, value, settings, err) ? -1 : used;
}

int opt_parse(const opt_command *cmd, int argc, char **argv, void *settings, bool *given, opt_list *rest, tn_err *err) {
    for (int i = 0; given && i < cmd->nrows; i++) given[i] = false;
    bool only_rest = false;
    for (int i = 1; i < argc;) {
        const char *arg = argv[i];
        if (!only_rest && (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)) {
            opt_help(cmd);
            return 1;
        }
        if (!only_rest && strcmp(arg, "--") == 0) {
            only_rest = true, i++;
        } else if (!only_rest && arg[0] == '-' && arg[1]) {
            int used = take_option(cmd, argc, argv, i, settings, given, err);
            if (used < 0) return -1;
            i += used;
        } else if (!rest) {
            return tn_fail(err, TN_EUSAGE, "unexpected argument \"%s\" (see oneword %s --help)", arg, cmd->name);
        } else {
            if (rest->n == (int)(sizeof rest->item / sizeof *rest->item)) return tn_fail(err, TN_EUSAGE, "too many arguments");
            rest->item[rest->n++] = arg, i++;
        }
    }
    return 0;
}

void opt_help(const opt_command *cmd) {
    printf("usage: oneword %s\n\n%s\n\noptions:\n", cmd->usage, cmd->summary);
    for (int i = 0; i < cmd->nrows; i++) {
        const opt_row *row = &cmd->rows[i];
        char left[200];
        size_t used = 0, len = 0;
        if (row->type == OPT_IGNORED) continue;
        for (const char *p = next_name(row->names, NULL, &len); p; p = next_name(row->names, p, &len)) {
            int n = snprintf(left + used, sizeof left - used, "%s%s%.*s", used ? ", " : "", len == 1 ? "-" : "--", (int)len, p);
            if (n < 0 || (size_t)n >= sizeof left - used) break;
            used += (size_t)n;
        }
        if (row->meta && used < sizeof left) snprintf(left + used, sizeof left - used, " %s", row->meta);
        if (strlen(left) < 34) printf("  %-34s %s\n", left, row->help);
        else printf("  %s\n  %-34s %s\n", left, "", row->help);
    }
    if (cmd->notes) printf("\n%s\n", cmd->notes);
}

/* ---- what all commands share ---- */

int opt_context(const opt_common *o, struct tn_ctx *c, tn_err *err) {
    const tn_kernels *k = NULL;
    int known;
    if (o->isa && !(k = tn_kernels_named(o->isa, &known))) {
        return tn_fail(err, TN_EUNSUPPORTED, "--isa %s: this %s", o->isa, known ? "machine or build does not have it" : "name is unknown");
    }
    static const char *const forms[] = {"auto", "direct", "winograd"}; /* in the order of tn_conv_form */
    int form = 0;
    while (o->conv && form < 3 && strcmp(o->conv, forms[form]) != 0) form++;
    if (form == 3) return tn_fail(err, TN_EINPUT, "conv: expected auto, direct or winograd, got \"%s\"", o->conv);
    tn_ctx_init(c, k, (int)o->threads);
    c->conv = (tn_conv_form)form;
    return 0;
}

int opt_error(const tn_err *err) {
    fflush(stdout);
    fprintf(stderr, "oneword: error: %s\n", err->msg);
    return err->code;
}

/* Names out of files may hold what a terminal would obey: tn_fail escapes it. */
static void say(const char *start, const char *fmt, va_list ap) {
    char text[600];
    tn_err line;
    vsnprintf(text, sizeof text, fmt, ap);
    tn_fail(&line, TN_OK, "%s", text);
    fprintf(stderr, "%s%s\n", start, line.msg);
}

void opt_warn(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say("oneword: warning: ", fmt, ap);
    va_end(ap);
}

void opt_note(const opt_common *o, const char *fmt, ...) {
    if (o->quiet) return;
    va_list ap;
    va_start(ap, fmt);
    say("", fmt, ap);
    va_end(ap);
}

void opt_put(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f) printf("\\x%02x", *c);
        else putchar(*c);
    }
}

int opt_put_json(tn_jw *w, tn_err *err) {
    tn_jw_close(w, '}');
    char *line = tn_jw_take(w);
    if (!line) return tn_fail(err, TN_ENOMEM, "out of memory for a line of JSON");
    puts(line);
    free(line);
    return 0;
}
