#include "tools/captions.h"

#include "tensor/io/sys.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 16 << 20 };

void captions_free(captions *c) {
    for (int i = 0; i < c->n; i++) free(c->line[i]);
    free(c->line);
    *c = (captions){0};
}

/* The picture that a line is about: its name, then ':' or a tab; -1 for none. *skip: where the sentence begins. */
static int picture_of(const char *line, size_t len, const pictures *p, size_t *skip) {
    for (int i = 0; i < p->n; i++) {
        size_t n = strlen(p->name[i]);
        if (n >= len || memcmp(line, p->name[i], n) != 0 || (line[n] != ':' && line[n] != '\t')) continue;
        *skip = n + 1;
        while (*skip < len && (line[*skip] == ' ' || line[*skip] == '\t')) ++*skip;
        return i;
    }
    return -1;
}

/* One line that is not empty into *out, which has a place for every picture of `among`. */
static int take_line(const char *path, int number, const char *line, size_t len, const pictures *p, captions *out,
                     tn_err *err) {
    size_t skip = 0, shown = strcspn(line, ":\t\n");
    int i = picture_of(line, len, p, &skip);
    if (i < 0)
        return tn_fail(err, TN_EINPUT, "%s, line %d: no picture \"%.*s\" in the folder (expected NAME.png: SENTENCE)",
                       path, number, (int)(shown < 80 ? shown : 80), line);
    if (out->line[i]) return tn_fail(err, TN_EINPUT, "%s, line %d: a second caption for %s", path, number, p->name[i]);
    if (skip == len) return tn_fail(err, TN_EINPUT, "%s, line %d: an empty caption", path, number);
    if (!(out->line[i] = malloc(len - skip + 1))) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    memcpy(out->line[i], line + skip, len - skip);
    out->line[i][len - skip] = '\0';
    return 0;
}

static int parse(const char *path, const char *text, const pictures *p, captions *out, tn_err *err) {
    int number = 0;
    for (const char *at = text; *at;) {
        size_t line = strcspn(at, "\n"), len = line;
        while (len > 0 && strchr("\r \t", at[len - 1])) len--;
        number++;
        if (len > 0 && *at != '#' && take_line(path, number, at, len, p, out, err)) return -1;
        at += line + (at[line] == '\n');
    }
    return 0;
}

int captions_load(const char *path, const pictures *p, int needed, captions *out, tn_err *err) {
    char *text;
    size_t size;
    if (tn_read_file(path, MAX_FILE, &text, &size, err)) return -1;
    *out = (captions){calloc((size_t)p->n, sizeof *out->line), p->n};
    int r = out->line ? 0 : tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    if (!r && memchr(text, '\0', size)) r = tn_fail(err, TN_EINPUT, "%s: not a text file (NUL byte)", path);
    if (!r) r = parse(path, text, p, out, err);
    for (int i = 0; !r && i < needed; i++) {
        if (!out->line[i]) r = tn_fail(err, TN_EINPUT, "%s: no caption for %s", path, p->name[i]);
    }
    if (r && !out->line) out->n = 0;
    if (r) captions_free(out);
    free(text);
    return r ? -1 : 0;
}
