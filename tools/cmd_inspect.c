/* oneword inspect: what is in a file or in a model's folder, without running anything of it. */
#include "nn/config.h"
#include "nn/image/png.h"
#include "nn/model.h"
#include "tools/opt.h"
#include "tools/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct inspect_options {
    opt_common common;
    bool stats;
} inspect_options;

static const opt_row rows[] = {
    {"stats", OPT_FLAG, offsetof(inspect_options, stats), 0, 0, NULL,
     "smallest, largest and mean number, norm and count of NaN of each tensor"},
    OPT_COMMON(inspect_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_inspect = {
    "inspect",
    "what is in a file or a model",
    "inspect [options] FILE|DIR",
    "Reads model folders, safetensors, PNG and PPM pictures with their texts, JSON configurations.",
    rows,
    sizeof rows / sizeof *rows,
    run};

/* ---- safetensors ---- */

static void show_stats(report *r, const tn_st_tensor *t) {
    tn_err err;
    double *v = malloc((size_t)t->count * sizeof *v + 1), lo = INFINITY, hi = -INFINITY, sum = 0.0, squares = 0.0;
    int64_t bad = 0;
    if (!v || tn_st_read_f64(t, v, &err)) { /* a type that is listed only */
        free(v);
        return;
    }
    for (int64_t i = 0; i < t->count; i++) {
        if (!isfinite(v[i])) {
            bad++;
            continue;
        }
        if (v[i] < lo) lo = v[i];
        if (v[i] > hi) hi = v[i];
        sum += v[i], squares += v[i] * v[i];
    }
    if (t->count > bad) {
        report_number(r, "min", lo), report_number(r, "max", hi),
            report_number(r, "mean", sum / (double)(t->count - bad));
        report_number(r, "norm", sqrt(squares));
    }
    if (bad) report_int(r, "nan_or_infinite", bad);
    free(v);
}

/* People get "F32 [4,3,3,3]" behind the name. */
static void show_tensor(report *r, const tn_st_tensor *t, bool stats) {
    char text[TN_ST_MAX_DIMS * 22 + 40];
    int used = snprintf(text, sizeof text, "%s [", tn_st_dtype_name(t->dtype));
    for (int d = 0; d < t->ndim; d++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%lld", d ? "," : "", (long long)t->shape[d]);
    snprintf(text + used, sizeof text - (size_t)used, "]");
    if (!r->json && !stats) {
        report_text(r, t->name, text);
        return;
    }
    report_open(r, t->name, '{');
    if (r->json) {
        report_text(r, "dtype", tn_st_dtype_name(t->dtype));
        report_open(r, "shape", '[');
        for (int d = 0; d < t->ndim; d++) report_int(r, NULL, t->shape[d]);
        report_close(r, ']');
    } else {
        report_text(r, "type", text);
    }
    if (stats) show_stats(r, t);
    report_close(r, '}');
}

static void show_safetensors(report *r, const tn_st *st, bool stats) {
    int64_t numbers = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < st->n; i++) {
        numbers += st->tensor[i].count;
        if (st->tensor[i].end > bytes) bytes = st->tensor[i].end;
    }
    report_text(r, "kind", "safetensors");
    report_int(r, "tensors", (int64_t)st->n), report_int(r, "numbers", numbers),
        report_int(r, "data_bytes", (int64_t)bytes);
    report_open(r, "metadata", '{');
    for (size_t i = 0; i < st->n_meta; i++) report_text(r, st->meta[i].key, st->meta[i].value);
    report_close(r, '}');
    report_open(r, "header", '{');
    for (size_t i = 0; i < st->n; i++) show_tensor(r, &st->tensor[i], stats);
    report_close(r, '}');
}

/* ---- JSON ---- */

/* The members of a configuration that are one value; a list of values on one line; what is nested deeper by its size.
 */
static void show_member(report *r, const tn_jval *v) {
    char line[400];
    switch (v->type) {
    case TN_JSON_NULL:
        report_null(r, v->key);
        return;
    case TN_JSON_BOOL:
        report_bool(r, v->key, v->boolean);
        return;
    case TN_JSON_STRING:
        report_text(r, v->key, v->string);
        return;
    case TN_JSON_NUMBER:
        if (v->is_int)
            report_int(r, v->key, v->integer);
        else
            report_number(r, v->key, v->number);
        return;
    case TN_JSON_ARRAY:
    case TN_JSON_OBJECT:
        break;
    }
    size_t used = 0;
    line[0] = '\0';
    for (const tn_jval *e = v->type == TN_JSON_ARRAY ? v->child : NULL; e && used + 64 < sizeof line; e = e->next) {
        const char *comma = used ? ", " : "";
        int n = e->type == TN_JSON_STRING   ? snprintf(line + used, 64, "%s%.60s", comma, e->string)
                : e->type == TN_JSON_NUMBER ? snprintf(line + used, 64, "%s%.9g", comma, e->number)
                : e->type == TN_JSON_BOOL   ? snprintf(line + used, 64, "%s%s", comma, e->boolean ? "true" : "false")
                : e->type == TN_JSON_NULL   ? snprintf(line + used, 64, "%snull", comma)
                                            : snprintf(line + used, 64, "%s...", comma);
        used += n < 64 ? (size_t)n : 63;
    }
    if (v->type == TN_JSON_OBJECT) snprintf(line, sizeof line, "{%zu members}", v->length);
    report_text(r, v->key, line);
}

static const char *kind_of_json(const tn_jval *v) {
    if (v->type != TN_JSON_OBJECT) return "JSON";
    if (tn_json_get(v, "_class_name")) return "configuration of diffusers";
    if (tn_json_get(v, "model_type") || tn_json_get(v, "architectures")) return "configuration of transformers";
    if (tn_json_get(v, "weight_map")) return "index of sharded weights";
    if (tn_json_get(v, "added_tokens") && tn_json_get(v, "model")) return "tokenizer";
    if (tn_json_get(v, "tokenizer_class")) return "configuration of a tokenizer";
    if (tn_json_get(v, "crop_size") || tn_json_get(v, "image_mean")) return "configuration of a preprocessor";
    return v->length > 100 && v->child->is_int ? "vocabulary" : "JSON";
}

static void show_json(report *r, const tn_jval *v) {
    const char *kind = kind_of_json(v);
    report_text(r, "kind", kind);
    report_int(r, "members", (int64_t)v->length);
    if (v->type != TN_JSON_OBJECT || strcmp(kind, "vocabulary") == 0) return;
    report_open(r, "content", '{');
    for (const tn_jval *m = v->child; m; m = m->next) show_member(r, m);
    report_close(r, '}');
}

/* ---- pictures ---- */

static int show_picture(report *r, const char *path, const unsigned char *bytes, size_t len, tn_err *err) {
    nn_image image;
    nn_texts texts = {0};
    bool png = len > 1 && bytes[0] == 0x89;
    if (nn_image_decode(bytes, len, path, &image, err)) return -1;
    int64_t width = image.width, height = image.height;
    nn_image_free(&image);
    if (png && nn_png_texts(bytes, len, path, &texts, err)) return -1;
    report_text(r, "kind", png ? "PNG" : "PPM");
    report_int(r, "width", width), report_int(r, "height", height);
    report_open(r, "texts", '{');
    for (size_t i = 0; i < texts.n; i++) report_text(r, texts.item[i].key, texts.item[i].value);
    report_close(r, '}');
    nn_texts_free(&texts);
    return 0;
}

/* ---- model folders ---- */

/* The weights in a component's folder: numbers, bytes, and their types. */
static int show_weights(report *r, const char *dir, tn_err *err) {
    tn_list list;
    int64_t count[TN_ST_DTYPES] = {0}, files = 0, total = 0;
    if (tn_list_dir(dir, &list, err)) return -1;
    int bad = 0;
    for (size_t i = 0; i < list.n && !bad; i++) {
        size_t n = strlen(list.name[i]);
        tn_st *st = NULL;
        if (n < 12 || strcmp(list.name[i] + n - 12, ".safetensors") != 0) continue;
        char *path = nn_join(dir, list.name[i]);
        bad = path ? tn_st_open(path, 0, &st, err) : tn_fail(err, TN_ENOMEM, "out of memory");
        for (size_t k = 0; st && k < st->n; k++)
            count[st->tensor[k].dtype] += st->tensor[k].count, total += st->tensor[k].count;
        files++;
        tn_st_close(st);
        free(path);
    }
    tn_list_free(&list);
    if (bad || !files) return bad;
    report_int(r, "parameters", total);
    for (int d = 0; d < TN_ST_DTYPES; d++) {
        char key[40];
        snprintf(key, sizeof key, "parameters_%s", tn_st_dtype_name((tn_st_dtype)d));
        if (count[d] && count[d] != total)
            report_int(r, key, count[d]);
        else if (count[d])
            report_text(r, "dtype", tn_st_dtype_name((tn_st_dtype)d));
    }
    if (files > 1) report_int(r, "files", files);
    return 0;
}

static int show_component(report *r, const char *dir, tn_err *err) {
    static const char *const configs[] = {"config.json", "scheduler_config.json", "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        char *path = nn_join(dir, configs[i]);
        bool there = path && tn_exists(path);
        free(path);
        tn_json *doc;
        if (!there) continue;
        if (nn_config_open(dir, configs[i], &doc, err)) return -1;
        report_open(r, configs[i], '{');
        for (const tn_jval *m = tn_json_root(doc)->child; m; m = m->next) show_member(r, m);
        report_close(r, '}');
        tn_json_free(doc);
    }
    return show_weights(r, dir, err);
}

/* Whether this program can use the model, and its fingerprint then. */
static void show_verdict(report *r, const char *dir) {
    nn_model *m = NULL;
    char hex[65];
    tn_err err;
    if (nn_model_load(dir, NN_LOAD_ALL, &m, &err) || nn_model_fingerprint(m, hex, &err)) {
        report_text(r, "usable", "no");
        report_text(r, "reason", err.msg);
    } else {
        report_text(r, "usable", "yes");
        report_text(r, "sha256", hex);
        if (m->notes[0]) report_text(r, "notes", m->notes);
    }
    nn_model_free(m);
}

static int show_folder(report *r, const char *dir, tn_err *err) {
    tn_json *doc;
    char *index = nn_join(dir, "model_index.json"), *config = nn_join(dir, "config.json");
    bool pipeline = index && tn_exists(index), component = config && tn_exists(config);
    free(index), free(config);
    if (!pipeline && !component)
        return tn_fail(err, TN_EINPUT, "%s: neither a model (model_index.json) nor a part of one (config.json)", dir);
    report_text(r, "kind", pipeline ? "model" : "part of a model");
    if (!pipeline) return show_component(r, dir, err);
    if (nn_config_open(dir, "model_index.json", &doc, err)) return -1;
    const tn_jval *class = tn_json_get(tn_json_root(doc), "_class_name");
    if (class && class->type == TN_JSON_STRING) report_text(r, "class", class->string);
    int bad = 0;
    for (const tn_jval *m = tn_json_root(doc)->child; m && !bad; m = m->next) {
        bool plain =
            strspn(m->key, "abcdefghijklmnopqrstuvwxyz_0123456789") == strlen(m->key); /* no way out of the folder */
        char *path = plain && m->type == TN_JSON_ARRAY && m->length == 2 ? nn_join(dir, m->key) : NULL;
        if (path && tn_is_dir(path)) {
            report_open(r, m->key, '{');
            bad = show_component(r, path, err);
            report_close(r, '}');
        }
        free(path);
    }
    tn_json_free(doc);
    if (!bad) show_verdict(r, dir);
    return bad;
}

/* ---- files ---- */

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* Formats that are known and not read. */
static const char *foreign(const unsigned char *p, size_t n) {
    if (n >= 4 && memcmp(p, "PK\3\4", 4) == 0) return "a zip archive (a PyTorch .pt, .bin or .ckpt file?)";
    if (n >= 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5) return "a Python pickle (an old PyTorch file?)";
    if (n >= 4 && memcmp(p, "GGUF", 4) == 0) return "a GGUF file";
    return NULL;
}

static bool is_picture(const unsigned char *p, size_t n) {
    return (n >= 4 && (memcmp(p, "\211PNG", 4) == 0 || memcmp(p, "GIF8", 4) == 0 || memcmp(p, "RIFF", 4) == 0)) ||
           (n >= 3 && p[0] == 'P' && p[1] >= '1' && p[1] <= '7' && (p[2] == '\n' || p[2] == ' ' || p[2] == '#')) ||
           (n >= 3 && memcmp(p, "\377\330\377", 3) == 0);
}

/* A header length's upper bytes are zero; a text has letters there. */
static bool is_json(const char *path, const unsigned char *p, size_t n) {
    if (ends_with(path, ".json")) return true;
    return n >= 8 && (p[0] == '{' || p[0] == '[') && (p[6] || p[7]) && !ends_with(path, ".safetensors");
}

static int show_file(report *r, const char *path, bool stats, tn_err *err) {
    tn_map map;
    if (tn_map_open(path, 0, &map, err)) return -1;
    const char *other = foreign(map.data, map.len);
    tn_json *doc = NULL;
    tn_st *st = NULL;
    int bad;
    if (other) {
        bad = tn_fail(err, TN_EUNSUPPORTED, "%s: %s, which is not read yet", path, other);
    } else if (is_picture(map.data, map.len)) {
        bad = show_picture(r, path, map.data, map.len, err);
    } else if (is_json(path, map.data, map.len)) {
        bad = tn_json_load(path, TN_JSON_PYTHON | TN_JSON_LAST_WINS, &doc, err);
        if (!bad) show_json(r, tn_json_root(doc));
    } else {
        bad = tn_st_parse(map.data, map.len, path, &st, err);
        if (!bad) show_safetensors(r, st, stats);
    }
    tn_json_free(doc);
    tn_st_close(st);
    tn_map_close(&map);
    return bad;
}

static int run(int argc, char **argv) {
    inspect_options o = {.stats = false};
    opt_list rest = {.n = 0};
    tn_err err;
    int bad = opt_parse(&cmd_inspect, argc, argv, &o, NULL, &rest, &err);
    if (bad > 0) return 0;
    if (!bad && rest.n != 1) bad = tn_fail(&err, TN_EUSAGE, "one file or folder is needed (oneword inspect FILE)");
    if (bad) return opt_error(&err);
    report r;
    report_start(&r, o.common.json);
    if (o.common.json) report_text(&r, "path", rest.item[0]);
    bad = tn_is_dir(rest.item[0]) ? show_folder(&r, rest.item[0], &err) : show_file(&r, rest.item[0], o.stats, &err);
    if (report_end(&r, bad, bad ? NULL : &err)) bad = -1;
    return bad ? opt_error(&err) : 0;
}
