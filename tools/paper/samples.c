/* Pictures of a sentence: one unit, a PNG that holds them side by side, eight in a row. */
#include "tools/paper/samples.h"

#include "nn/image/png.h"
#include "tools/embedding.h"
#include <stdlib.h>
#include <string.h>

static const double GUIDANCE = 4.0;
enum { COLUMNS = 8 };

static int64_t all_of(const samples_spec *s) { return s->r.n * s->r.nsentences; }

/* ---- a strip of pictures ---- */

/* From picture i of a sheet to `cell` or back. */
static void move_cell(nn_image *sheet, int64_t i, nn_image *cell, bool into_sheet) {
    int64_t w = cell->width, h = cell->height;
    for (int64_t y = 0; y < h; y++) {
        unsigned char *a = sheet->rgb + ((i / COLUMNS * h + y) * sheet->width + i % COLUMNS * w) * 3,
                      *b = cell->rgb + y * w * 3;
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
    int64_t side = gen_native_size(p->model), count = all_of(s), columns = count < COLUMNS ? count : COLUMNS;
    if (nn_image_load(unit_path(p, u, path), &sheet, err)) return -1;
    int r = sheet.width == columns * side && sheet.height == (count + COLUMNS - 1) / COLUMNS * side
                ? 0
                : tn_fail(err, TN_EINPUT, "%s: not the pictures that it should hold (remove it)", path);
    *n = (int)count, *out = r ? NULL : calloc((size_t)count, sizeof **out);
    if (!r && !*out) r = tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    for (int64_t i = 0; !r && i < count; i++) {
        if (!(r = nn_image_alloc(side, side, &(*out)[i], err))) move_cell(&sheet, i, &(*out)[i], false);
    }
    for (int64_t i = 0; r && *out && i < count; i++) nn_image_free(&(*out)[i]);
    if (r) free(*out), *out = NULL;
    nn_image_free(&sheet);
    return r;
}

/* ---- making them ---- */

static int teach(paper *p, const samples_spec *s, float **learned, int64_t *rows, tn_err *err) {
    char path[4096];
    emb_words words = {0};
    int r = 0;
    for (int i = 0; !r && i < s->nwords; i++)
        r = emb_read(unit_path(p, &p->plan.unit[s->word[i]], path), NULL, &words, err);
    if (!r) r = emb_register(p->model, &words, learned, rows, err);
    emb_free(&words);
    return r;
}

gen_request samples_request(const paper *p, const samples_spec *s, int i, const float *learned, int64_t rows) {
    return (gen_request){.prompt = s->prompt[i],
                         .learned = learned,
                         .rows = rows,
                         .steps = s->r.steps,
                         .guidance = s->r.guidance,
                         .seed = (uint64_t)p->size.seed,
                         .count = s->r.n,
                         .rules = NN_RULES_HF};
}

static int from_noise(paper *p, const samples_spec *s, const float *learned, int64_t rows, nn_image *out, tn_err *err) {
    for (int i = 0; i < s->r.nsentences; i++) {
        gen_request q = samples_request(p, s, i, learned, rows);
        if (gen_pictures(&p->c, p->model, &q, out + i * s->r.n, err)) return -1;
    }
    return 0;
}

static int make(paper *p, const unit *u, const char *path, tn_err *err) {
    const samples_spec *s = u->spec;
    float *learned = NULL;
    int64_t rows = 0, n = all_of(s);
    nn_image *image = calloc((size_t)n, sizeof *image);
    int r = image ? teach(p, s, &learned, &rows, err) : tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    if (!r) r = (s->r.method ? s->r.method->make : from_noise)(p, s, learned, rows, image, err);
    if (!r) r = write_strip(path, image, n, err);
    for (int64_t i = 0; image && i < n; i++) nn_image_free(&image[i]);
    free(image), free(learned);
    nn_tokenizer_take_back(p->model->tokenizer, p->vocabulary);
    return r;
}

static const unit_kind samples_kind = {"samples", ".png", make, NULL};

/* ---- asking for them ---- */

static const char *fill(paper *p, const char *sentence, const paper_word *words, int nwords) {
    char filled[1000];
    size_t n = 0;
    int used = 0;
    for (const char *s = sentence; *s && n < sizeof filled - 200;) {
        if (s[0] == '{' && s[1] == '}') {
            TN_REQUIRE(used < nwords && words[used].text && strlen(words[used].text) < 200);
            n += strlen(strcpy(filled + n, words[used++].text)), s += 2;
        } else {
            filled[n++] = *s++;
        }
    }
    filled[n] = '\0';
    return paper_text(p, "%s", filled);
}

static void describe_method(paper *p, tn_jw *w, const samples_spec *s) {
    char hash[65];
    tn_jw_string(w, "method", s->r.method->name);
    for (int i = 0; i < PAPER_PARAMS && s->r.method->param[i]; i++)
        tn_jw_number(w, s->r.method->param[i], s->r.param[i]);
    if (s->goal) tn_jw_string(w, "goal", s->goal);
    if (s->r.source.n) {
        paper_hash(p, s->r.source, hash);
        tn_jw_string(w, "source_sha256", hash);
    }
    tn_jw_string(w, "clip", p->clip_sha); /* some look into it */
}

int paper_make_samples(paper *p, const paper_request *r) {
    samples_spec s = {.r = *r};
    TN_REQUIRE(r->nsentences <= PAPER_SENTENCES && r->nwords <= SAMPLES_WORDS);
    if (!(s.r.guidance > 0.0)) s.r.guidance = GUIDANCE;
    if (!s.r.steps) s.r.steps = p->size.steps;
    for (int i = 0; i < r->nsentences; i++) s.prompt[i] = fill(p, r->sentence[i], r->words, r->nwords);
    if (r->goal) s.goal = fill(p, r->goal, r->words, r->nwords);
    for (int i = 0; i < r->nwords; i++) {
        int number = r->words[i].unit;
        if (number < 0 || (s.nwords && s.word[s.nwords - 1] == number)) continue; /* words learned together */
        s.word[s.nwords] = number, s.token[s.nwords++] = r->words[i].text;
    }
    s.r.sentence = NULL, s.r.words = NULL, s.r.goal = NULL; /* the caller's */
    tn_jw w;
    unit_recipe(p, &w, &samples_kind);
    tn_jw_open(&w, "prompts", '[');
    for (int i = 0; i < r->nsentences; i++) tn_jw_string(&w, NULL, s.prompt[i]);
    tn_jw_close(&w, ']');
    tn_jw_int(&w, "samples", s.r.n), tn_jw_int(&w, "seed", p->size.seed), tn_jw_int(&w, "steps", s.r.steps);
    tn_jw_string(&w, "sampler", "ddim"), tn_jw_number(&w, "guidance_scale", s.r.guidance);
    if (r->method) describe_method(p, &w, &s);
    int64_t work = (int64_t)((r->method ? r->method->cost : 1.0) * (double)(all_of(&s) * s.r.steps));
    return unit_add(p, &w, &samples_kind, &s, sizeof s, s.word, s.nwords, 0, work);
}

int paper_samples(paper *p, const char *sentence, const paper_word *words, int nwords, int64_t n) {
    return paper_make_samples(
        p, &(paper_request){.sentence = &sentence, .nsentences = 1, .words = words, .nwords = nwords, .n = n});
}
