/* Training sentences and learning rate schedules: the small settings of nn/train.h. */
#include "nn/train.h"
#include "tensor/dmath.h"
#include "tensor/io/json.h"
#include "tensor/io/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Gal et al. 2208.01618, appendix D. */
static const char *const object_templates[] = {
    "a photo of a {}",           "a rendering of a {}",       "a cropped photo of the {}", "the photo of a {}",
    "a photo of a clean {}",     "a photo of a dirty {}",     "a dark photo of the {}",    "a photo of my {}",
    "a photo of the cool {}",    "a close-up photo of a {}",  "a bright photo of the {}",  "a cropped photo of a {}",
    "a photo of the {}",         "a good photo of the {}",    "a photo of one {}",         "a close-up photo of the {}",
    "a rendition of the {}",     "a photo of the clean {}",   "a rendition of a {}",       "a photo of a nice {}",
    "a good photo of a {}",      "a photo of the nice {}",    "a photo of the small {}",   "a photo of the weird {}",
    "a photo of the large {}",   "a photo of a cool {}",      "a photo of a small {}",
};

/* The style list of the official code (personalized_style.py); two entries stand twice in it, which is part of the
 * weights. */
static const char *const style_templates[] = {
    "a painting in the style of {}",         "a rendering in the style of {}",
    "a cropped painting in the style of {}", "the painting in the style of {}",
    "a clean painting in the style of {}",   "a dirty painting in the style of {}",
    "a dark painting in the style of {}",    "a picture in the style of {}",
    "a cool painting in the style of {}",    "a close-up painting in the style of {}",
    "a bright painting in the style of {}",  "a cropped painting in the style of {}",
    "a good painting in the style of {}",    "a close-up painting in the style of {}",
    "a rendition in the style of {}",        "a nice painting in the style of {}",
    "a small painting in the style of {}",   "a weird painting in the style of {}",
    "a large painting in the style of {}",
};

static int push(nn_templates *t, const char *text, size_t len, tn_err *err) {
    char **grown = realloc(t->line, ((size_t)t->n + 1) * sizeof *grown);
    if (grown) t->line = grown;
    char *copy = grown ? malloc(len + 1) : NULL;
    if (!copy) return tn_fail(err, TN_ENOMEM, "out of memory for the templates");
    memcpy(copy, text, len);
    copy[len] = '\0';
    t->line[t->n++] = copy;
    return 0;
}

void nn_templates_free(nn_templates *t) {
    for (int i = 0; i < t->n; i++) free(t->line[i]);
    free(t->line);
    *t = (nn_templates){0};
}

/* One built-in sentence, its plain "a photo of" as `instead` where that is not NULL, and with what stands at its end. */
static int push_built_in(nn_templates *t, const char *line, const char *instead, const char *end, tn_err *err) {
    static const char photo[] = "a photo of";
    char text[100];
    bool plain = instead && strncmp(line, photo, sizeof photo - 1) == 0;
    int n = snprintf(text, sizeof text, "%s%s%s", plain ? instead : "", line + (plain ? sizeof photo - 1 : 0), end);
    return push(t, text, (size_t)n, err);
}

int nn_templates_builtin(nn_template_list which, nn_templates *t, tn_err *err) {
    static const char *const instead[] = {NULL, "an illustration of", "a depiction of"};
    bool style = which == NN_TEMPLATES_STYLE;
    const char *const *list = style ? style_templates : object_templates;
    size_t n =
        style ? sizeof style_templates / sizeof *style_templates : sizeof object_templates / sizeof *object_templates;
    *t = (nn_templates){0};
    for (int block = 0; block < (which == NN_TEMPLATES_OFFICIAL ? 3 : 1); block++) {
        for (size_t i = 0; i < n; i++) {
            if (!push_built_in(t, list[i], instead[block], which == NN_TEMPLATES_PAPER ? "." : "", err)) continue;
            nn_templates_free(t);
            return -1;
        }
    }
    return 0;
}

/* Adds one line of a file, "[name]" written as "{}". */
static int push_line(nn_templates *t, const char *line, size_t len, tn_err *err) {
    const char *name = len >= 6 ? strstr(line, "[name]") : NULL;
    if (!name || name + 6 > line + len) return push(t, line, len, err);
    size_t before = (size_t)(name - line), after = len - before - 6;
    char *joined = malloc(len);
    if (!joined) return tn_fail(err, TN_ENOMEM, "out of memory for the templates");
    memcpy(joined, line, before);
    memcpy(joined + before, "{}", 2);
    memcpy(joined + before + 2, name + 6, after);
    int r = push(t, joined, before + 2 + after, err);
    free(joined);
    return r;
}

static int parse(const char *path, const char *text, size_t size, nn_templates *t, tn_err *err) {
    bool any = false;
    if (memchr(text, '\0', size)) return tn_fail(err, TN_EINPUT, "%s: not a text file (NUL byte)", path);
    for (const char *p = text; *p;) {
        size_t line = strcspn(p, "\n"), len = line;
        while (len > 0 && strchr("\r \t", p[len - 1])) len--;
        if (len > 0 && *p != '#') {
            if (t->n == 4096) return tn_fail(err, TN_EINPUT, "%s: more than 4096 templates", path);
            if (push_line(t, p, len, err)) return -1;
            any = any || strstr(t->line[t->n - 1], "{}");
        }
        p += line + (p[line] == '\n');
    }
    if (!any) return tn_fail(err, TN_EINPUT, "%s: no template with {} for the placeholder", path);
    return 0;
}

int nn_templates_load(const char *path, nn_templates *t, tn_err *err) {
    char *text; /* NUL-terminated by tn_read_file, for strstr */
    size_t size;
    if (tn_read_file(path, 1 << 20, &text, &size, err)) return -1;
    *t = (nn_templates){0};
    int r = parse(path, text, size, t, err);
    if (r) nn_templates_free(t);
    free(text);
    return r;
}

/* ---- learning rate ---- */

/* One "rate" or "rate:until" of a schedule. */
static int parse_piece(const char *piece, size_t len, nn_lr *lr) {
    const char *colon = memchr(piece, ':', len);
    size_t rate_len = colon ? (size_t)(colon - piece) : len;
    double *rate = &lr->rate[lr->pieces];
    int64_t *until = &lr->until[lr->pieces];
    if (!tn_parse_double(piece, rate_len, rate) || !(*rate >= 0.0) || *rate > 1e6) return -1;
    *until = INT64_MAX;
    if (colon && !tn_parse_int64(colon + 1, len - rate_len - 1, until)) return -1;
    if (*until == -1) *until = INT64_MAX; /* A1111's way to write "to the end" */
    if (*until <= (lr->pieces ? lr->until[lr->pieces - 1] : 0)) return -1;
    lr->pieces++;
    return 0;
}

int nn_lr_parse(const char *text, nn_lr *lr, tn_err *err) {
    nn_lr out = {.kind = NN_LR_CONSTANT};
    const char *p = text;
    for (;;) {
        while (*p == ' ') p++;
        size_t len = strcspn(p, ",");
        size_t used = len;
        while (used > 0 && p[used - 1] == ' ') used--;
        if (out.pieces == NN_LR_MAX_PIECES || parse_piece(p, used, &out)) {
            return tn_fail(err, TN_EUSAGE,
                           "learning rate \"%s\": expected a number or RATE:STEP,RATE:STEP,... with rising steps",
                           text);
        }
        if (!p[len]) break;
        p += len + 1;
    }
    if (out.pieces > 1 || out.until[0] != INT64_MAX) out.kind = NN_LR_PIECEWISE;
    out.base = out.rate[0];
    *lr = out;
    return 0;
}

/* diffusers src/diffusers/optimization.py: warm-up from 0 in all of them; linear and cosine go to 0 at the last
 * step. */
double nn_lr_at(const nn_lr *lr, int64_t step) {
    if (lr->kind == NN_LR_PIECEWISE) {
        int i = 0;
        while (i < lr->pieces - 1 && step >= lr->until[i]) i++;
        return lr->rate[i];
    }
    if (step < lr->warmup) return lr->base * (double)step / (double)lr->warmup;
    double span = (double)(lr->total > lr->warmup ? lr->total - lr->warmup : 1);
    double done = (double)(step - lr->warmup) / span;
    if (done > 1.0) done = 1.0;
    if (lr->kind == NN_LR_LINEAR) return lr->base * (1.0 - done);
    if (lr->kind == NN_LR_COSINE) return lr->base * 0.5 * (1.0 + tn_cos(3.14159265358979323846 * done));
    return lr->base;
}
