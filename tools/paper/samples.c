/* Pictures of a sentence: one unit, a PNG that holds them side by side, eight in a row. */
#include "tools/paper/paper.h"

#include "nn/image/png.h"
#include "tools/embedding.h"
#include <stdlib.h>
#include <string.h>

static const double GUIDANCE = 4.0;
enum { COLUMNS = 8, WORDS = UNIT_INPUTS };

typedef struct samples_spec {
    const char *prompt; /* with the words in it */
    const char *token[WORDS];
    int word[WORDS], nwords; /* learned ones: units */
    int64_t n, steps, seed;
    double guidance;
} samples_spec;

/* ---- a strip of pictures ---- */

/* From picture i of a sheet to `cell` or back. */
static void move_cell(nn_image *sheet, int64_t i, nn_image *cell, bool into_sheet) {
    int64_t w = cell->width, h = cell->height;
    for (int64_t y = 0; y < h; y++) {
        unsigned char *a = sheet->rgb + ((i / COLUMNS * h + y) * sheet->width + i % COLUMNS * w) * 3, *b = cell->rgb + y * w * 3;
        memcpy(into_sheet ? a : b, into_sheet ? b : a, (size_t)(3 * w));
    }
}

static int write_strip(const char *path, nn_image *image, int64_t n, tn_err *err) {
    nn_image sheet;
    int64_t columns = n < COLUMNS ? n : COLUMNS, rows = (n + COLUMNS - 1) / COLUMNS;
    if (nn_image_alloc(image[0].width * columns, image[0].height * rows, &sheet, err)) return -1;
    memset(sheet.rgb, 0, (size_t)(3 * sheet.width * sheet.height));
    for (int64_t i = 0; i < n; i++) move_cell(&sheet, i, &image[i], true);
    int r = nn_png_write(path, &sheet, NULL, 0, err);
    nn_image_free(&sheet);
    return r;
}

int paper_load_samples(const paper *p, int number, nn_image **out, int *n, tn_err *err) {
    const unit *u = &p->plan.unit[number];
    const samples_spec *s = u->spec;
    char path[4096];
    nn_image sheet;
    int64_t side = gen_native_size(p->model), columns = s->n < COLUMNS ? s->n : COLUMNS;
    if (nn_image_load(unit_path(p, u, path), &sheet, err)) return -1;
    int r = sheet.width == columns * side && sheet.height == (s->n + COLUMNS - 1) / COLUMNS * side
                ? 0 : tn_fail(err, TN_EINPUT, "%s: not the pictures that it should hold (remove it)", path);
    *n = (int)s->n, *out = r ? NULL : calloc((size_t)s->n, sizeof **out);
    if (!r && !*out) r = tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    for (int64_t i = 0; !r && i < s->n; i++) {
        if (!(r = nn_image_alloc(side, side, &(*out)[i], err))) move_cell(&sheet, i, &(*out)[i], false);
    }
    for (int64_t i = 0; r && *out && i < s->n; i++) nn_image_free(&(*out)[i]);
    if (r) free(*out), *out = NULL;
    nn_image_free(&sheet);
    return r;
}

/* ---- making them ---- */

static int teach(paper *p, const samples_spec *s, float **learned, int64_t *rows, tn_err *err) {
    char path[4096];
    emb_words words = {0};
    int r = 0;
    for (int i = 0; !r && i < s->nwords; i++) r = emb_read(unit_path(p, &p->plan.unit[s->word[i]], path), s->token[i], &words, err);
    if (!r) r = emb_register(p->model, &words, learned, rows, err);
    emb_free(&words);
    return r;
}

static int make(paper *p, const unit *u, const char *path, tn_err *err) {
    const samples_spec *s = u->spec;
    float *learned = NULL;
    int64_t rows = 0;
    nn_image *image = calloc((size_t)s->n, sizeof *image);
    int r = image ? teach(p, s, &learned, &rows, err) : tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    gen_request q = {.prompt = s->prompt, .learned = learned, .rows = rows, .steps = s->steps, .guidance = s->guidance,
                     .seed = (uint64_t)s->seed, .count = s->n, .rules = NN_RULES_HF};
    if (!r) r = gen_pictures(&p->c, p->model, &q, image, err);
    if (!r) r = write_strip(path, image, s->n, err);
    for (int64_t i = 0; image && i < s->n; i++) nn_image_free(&image[i]);
    free(image), free(learned);
    nn_tokenizer_take_back(p->model->tokenizer, p->vocabulary);
    return r;
}

static const unit_kind samples_kind = {"samples", ".png", make, NULL};

/* ---- asking for them ---- */

static const char *fill(paper *p, const char *sentence, const paper_word *words, int nwords) {
    char text[1000];
    size_t n = 0;
    int used = 0;
    for (const char *s = sentence; *s && n < sizeof text - 200;) {
        if (s[0] == '{' && s[1] == '}') {
            TN_REQUIRE(used < nwords && words[used].text && strlen(words[used].text) < 200);
            n += strlen(strcpy(text + n, words[used++].text)), s += 2;
        } else {
            text[n++] = *s++;
        }
    }
    text[n] = '\0';
    return paper_text(p, "%s", text);
}

int paper_samples(paper *p, const char *sentence, const paper_word *words, int nwords, int64_t n) {
    samples_spec s = {.prompt = fill(p, sentence, words, nwords), .n = n, .steps = p->size.steps, .seed = p->size.seed, .guidance = GUIDANCE};
    for (int i = 0; i < nwords; i++) {
        if (words[i].unit >= 0) s.word[s.nwords] = words[i].unit, s.token[s.nwords++] = words[i].text;
    }
    tn_jw w;
    unit_recipe(p, &w, &samples_kind);
    tn_jw_string(&w, "prompt", s.prompt), tn_jw_int(&w, "samples", s.n), tn_jw_int(&w, "seed", s.seed), tn_jw_int(&w, "steps", s.steps);
    tn_jw_string(&w, "sampler", "ddim"), tn_jw_number(&w, "guidance_scale", s.guidance);
    return unit_add(p, &w, &samples_kind, &s, sizeof s, s.word, s.nwords, 0, n * s.steps);
}
