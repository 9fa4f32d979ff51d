/* What several machines made apart, put together; and the settings that they were given. */
#include "tools/paper/run.h"

#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- settings ---- */

typedef struct size_row {
    const char *name;
    size_t field;
} size_row;
#define ROW(f)                                                                                                         \
    { #f, offsetof(paper_size, f) }
static const size_row size_rows[] = {ROW(objects),   ROW(styles),       ROW(train_steps), ROW(samples),
                                     ROW(sentences), ROW(edit_samples), ROW(steps),       ROW(seed)};
enum { SIZE_ROWS = sizeof size_rows / sizeof *size_rows };

static char *settings_text(const paper *p) {
    tn_jw w;
    tn_jw_init(&w, 2);
    tn_jw_open(&w, NULL, '{');
    tn_jw_int(&w, "v", 1), tn_jw_bool(&w, "quick", p->size.quick);
    for (int i = 0; i < SIZE_ROWS; i++)
        tn_jw_int(&w, size_rows[i].name, *(const int64_t *)((const char *)&p->size + size_rows[i].field));
    tn_jw_open(&w, "sections", '[');
    for (int i = 0; i < paper_nsections; i++) {
        if (p->selected[i]) tn_jw_string(&w, NULL, paper_sections[i].id);
    }
    tn_jw_close(&w, ']');
    tn_jw_close(&w, '}');
    return tn_jw_take(&w);
}

int paper_store_settings(const paper *p, tn_err *err) {
    char path[4096], *json = settings_text(p);
    snprintf(path, sizeof path, "%.3900s/plan.json", p->output);
    int r = json ? tn_write_atomic(path, json, strlen(json), err) : tn_fail(err, TN_ENOMEM, "out of memory");
    free(json);
    return r;
}

static int take_settings(paper *p, const char *path, const tn_jval *root, tn_err *err) {
    const tn_jval *quick = tn_json_get(root, "quick"), *sections = tn_json_get(root, "sections");
    bool good = quick && quick->type == TN_JSON_BOOL && sections && sections->type == TN_JSON_ARRAY;
    for (int i = 0; good && i < SIZE_ROWS; i++) {
        const tn_jval *v = tn_json_get(root, size_rows[i].name);
        good = v && v->is_int && v->integer >= 0 && v->integer <= 1000000000;
        if (good) *(int64_t *)((char *)&p->size + size_rows[i].field) = v->integer;
    }
    if (!good) return tn_fail(err, TN_EINPUT, "%s: not the settings of a run of oneword paper", path);
    p->size.quick = quick->boolean;
    for (int i = 0; i < paper_nsections; i++) p->selected[i] = false;
    for (const tn_jval *v = sections->child; v; v = v->next) {
        for (int i = 0; i < paper_nsections; i++) {
            if (v->type == TN_JSON_STRING && strcmp(v->string, paper_sections[i].id) == 0) p->selected[i] = true;
        }
    }
    return 0;
}

/* The first folder's settings become the run's; the others' must be the same. */
static int settings_of(paper *p, const char *dir, bool first, tn_err *err) {
    char path[4096];
    tn_json *json;
    snprintf(path, sizeof path, "%.3900s/plan.json", dir);
    if (tn_json_load(path, 0, &json, err)) return -1;
    char *before = first ? NULL : settings_text(p);
    int r = take_settings(p, path, tn_json_root(json), err);
    char *after = first || r ? NULL : settings_text(p);
    if (!r && !first && (!before || !after)) r = tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r && !first && strcmp(before, after))
        r = tn_fail(err, TN_EUSAGE, "%s: other sizes or sections than those of the folders before", path);
    free(before), free(after);
    tn_json_free(json);
    return r;
}

/* ---- units ---- */

/* One file: copied where it is new, compared where it is not. */
static int take_unit(const paper *p, const char *dir, const char *name, int *compared, tn_err *err) {
    char from[4096], to[4096];
    tn_map a, b;
    if (name[0] == '.') return 0; /* left half-written by a run that was killed */
    if (snprintf(from, sizeof from, "%.3800s/units/%s", dir, name) >= (int)sizeof from)
        return tn_fail(err, TN_EINPUT, "%s: a name too long", dir);
    snprintf(to, sizeof to, "%.3800s/units/%.200s", p->output, name);
    if (tn_map_open(from, TN_MAP_COPY, &a, err)) return -1;
    int r = 0;
    if (!tn_exists(to)) {
        r = tn_write_atomic(to, a.data, a.len, err);
    } else if (!(r = tn_map_open(to, TN_MAP_COPY, &b, err))) {
        bool same = a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
        *compared += 1;
        if (!same)
            r = tn_fail(err, TN_EMISMATCH, "%s and %s differ: two machines made the same unit with different results",
                        from, to);
        tn_map_close(&b);
    }
    tn_map_close(&a);
    return r;
}

int paper_merge(paper *p, const char *const *dirs, int n, tn_err *err) {
    char path[4096];
    int compared = 0, files = 0;
    snprintf(path, sizeof path, "%.3900s/units", p->output);
    if (tn_make_dirs(path, err)) return -1;
    for (int i = 0; i < n; i++) {
        tn_list list;
        if (settings_of(p, dirs[i], i == 0, err)) return -1;
        snprintf(path, sizeof path, "%.3900s/units", dirs[i]);
        if (tn_list_dir(path, &list, err)) return -1;
        int r = 0;
        for (size_t k = 0; !r && k < list.n; k++) r = take_unit(p, dirs[i], list.name[k], &compared, err), files++;
        tn_list_free(&list);
        if (r) return -1;
    }
    opt_note(&p->common, "%d files of %d folders; %d were there already, and are the same bit for bit", files, n,
             compared);
    return 0;
}
