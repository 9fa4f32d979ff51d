/* How near pictures are to sets of pictures and to sentences, as CLIP sees it: one unit, a JSON file with a number for
 * each picture, so that means, intervals and pairings can be made of them later. */
#include "tools/paper/paper.h"

#include "nn/fit/latent_fit.h"
#include "tensor/io/sys.h"
#include <stdlib.h>
#include <string.h>

enum { SETS = 20, TEXTS = 20 };

typedef struct score_spec {
    int samples;      /* the unit whose pictures first .. first + count are judged; -1: those of `of` */
    int first, count; /* count 0: all */
    paper_range of, set[SETS];
    int nsets, ntexts;
    const char *text[TEXTS];
} score_spec;

/* ---- features ---- */

static int see_range(paper *p, paper_range r, float **features, tn_err *err) {
    nn_image *image = malloc((size_t)r.n * sizeof *image); /* the structs alone */
    *features = malloc((size_t)(r.n * p->judge.width) * sizeof **features);
    int bad = image && *features ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    for (int i = 0; !bad && i < r.n; i++) image[i] = *paper_picture(p, r.concept, r.first + i);
    if (!bad) bad = clip_see(&p->c, &p->judge, image, r.n, *features, err);
    free(image);
    return bad;
}

static int see_samples(paper *p, const score_spec *s, float **features, int *n, tn_err *err) {
    nn_image *image;
    int all;
    if (paper_load_samples(p, s->samples, &image, &all, err)) return -1;
    *n = s->count ? s->count : all;
    TN_REQUIRE(s->first + *n <= all);
    *features = malloc((size_t)(*n * p->judge.width) * sizeof **features);
    int bad = *features ? clip_see(&p->c, &p->judge, image + s->first, *n, *features, err)
                        : tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    for (int i = 0; i < all; i++) nn_image_free(&image[i]);
    free(image);
    return bad;
}

/* ---- scores ---- */

static void open_array(tn_jw *w, const char *key) { tn_jw_open(w, key, '['); }

/* The mean cosine of each of n pictures to a set; where they are of the same concept's, to all of the set but itself.
 */
static int score_set(paper *p, const score_spec *s, int set, const float *features, int n, tn_jw *w, tn_err *err) {
    float *other = NULL;
    paper_range r = s->set[set];
    bool own = s->samples < 0 && s->of.concept == r.concept;
    if (see_range(p, r, &other, err)) {
        free(other);
        return -1;
    }
    open_array(w, NULL);
    for (int i = 0; i < n; i++) {
        const float *f = features + i * p->judge.width;
        double sum = clip_pairs(&p->judge, f, 1, other, r.n);
        int self = s->of.first + i - r.first;
        if (own && r.n > 1 && self >= 0 && self < r.n) {
            sum = (sum * r.n - clip_pairs(&p->judge, f, 1, other + self * p->judge.width, 1)) / (r.n - 1);
        }
        tn_jw_number(w, NULL, sum);
    }
    tn_jw_close(w, ']');
    free(other);
    return 0;
}

static int score_text(paper *p, const score_spec *s, int text, const float *features, int n, double *of_mean, tn_jw *w,
                      tn_err *err) {
    char *without = NULL;
    float *sentence = malloc((size_t)p->judge.width * sizeof *sentence);
    int r = sentence ? eval_fill(s->text[text], "", &without, err) : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r) r = clip_read(&p->c, &p->judge, without, sentence, NULL, err);
    open_array(w, NULL);
    for (int i = 0; !r && i < n; i++)
        tn_jw_number(w, NULL, clip_pairs(&p->judge, features + i * p->judge.width, 1, sentence, 1));
    tn_jw_close(w, ']');
    if (!r) *of_mean = clip_of_mean(&p->judge, features, n, sentence);
    free(without), free(sentence);
    return r;
}

static int score_all(paper *p, const score_spec *s, const float *features, int n, tn_jw *w, tn_err *err) {
    double of_mean[TEXTS];
    tn_jw_open(w, NULL, '{');
    open_array(w, "sets");
    for (int i = 0; i < s->nsets; i++) {
        if (score_set(p, s, i, features, n, w, err)) return -1;
    }
    tn_jw_close(w, ']');
    open_array(w, "texts");
    for (int i = 0; i < s->ntexts; i++) {
        if (score_text(p, s, i, features, n, &of_mean[i], w, err)) return -1;
    }
    tn_jw_close(w, ']');
    open_array(w, "texts_of_mean");
    for (int i = 0; i < s->ntexts; i++) tn_jw_number(w, NULL, of_mean[i]);
    tn_jw_close(w, ']');
    tn_jw_close(w, '}');
    return 0;
}

static int make(paper *p, const unit *u, const char *path, tn_err *err) {
    const score_spec *s = u->spec;
    float *features = NULL;
    int n = s->of.n, r = s->samples >= 0 ? see_samples(p, s, &features, &n, err) : see_range(p, s->of, &features, err);
    tn_jw w;
    tn_jw_init(&w, 0);
    if (!r) r = score_all(p, s, features, n, &w, err);
    char *text = tn_jw_take(&w);
    if (!r) r = text ? tn_write_atomic(path, text, strlen(text), err) : tn_fail(err, TN_ENOMEM, "out of memory");
    free(text), free(features);
    return r;
}

/* ---- PSNR ---- */

typedef struct psnr_spec {
    int samples;
    paper_range of;
} psnr_spec;

/* In the form of scores: one set. Equal pictures, infinitely many dB, count as 100. */
static int make_psnr(paper *p, const unit *u, const char *path, tn_err *err) {
    const psnr_spec *s = u->spec;
    nn_image *image;
    int n;
    tn_jw w;
    if (paper_load_samples(p, s->samples, &image, &n, err)) return -1;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{'), open_array(&w, "sets"), open_array(&w, NULL);
    for (int i = 0; i < n; i++) {
        double x = nn_psnr(&image[i], paper_picture(p, s->of.concept, s->of.first + i % s->of.n));
        tn_jw_number(&w, NULL, x < 100.0 ? x : 100.0);
        nn_image_free(&image[i]);
    }
    free(image);
    tn_jw_close(&w, ']'), tn_jw_close(&w, ']'), open_array(&w, "texts"), tn_jw_close(&w, ']');
    open_array(&w, "texts_of_mean"), tn_jw_close(&w, ']'), tn_jw_close(&w, '}');
    char *json = tn_jw_take(&w);
    int r = json ? tn_write_atomic(path, json, strlen(json), err) : tn_fail(err, TN_ENOMEM, "out of memory");
    free(json);
    return r;
}

/* ---- reading them again ---- */

/* rows arrays of n numbers, or one array of rows numbers (n 0). */
static bool read_numbers(const tn_jval *v, int rows, int n, double *out) {
    if (!v || v->type != TN_JSON_ARRAY || v->length != (size_t)rows) return false;
    const tn_jval *row = v->child;
    for (int i = 0; i < rows; i++, row = row->next) {
        if (n == 0 ? row->type != TN_JSON_NUMBER : row->type != TN_JSON_ARRAY || row->length != (size_t)n) return false;
        if (n == 0) out[i] = row->number;
        const tn_jval *x = n ? row->child : NULL;
        for (int k = 0; k < n; k++, x = x->next) {
            if (x->type != TN_JSON_NUMBER) return false;
            out[i * n + k] = x->number;
        }
    }
    return true;
}

/* *u->result: n pictures' scores in nsets sets and for ntexts texts. */
static int load_scores(unit *u, int nsets, int ntexts, const char *path, tn_err *err) {
    tn_json *doc;
    if (tn_json_load(path, 0, &doc, err)) return -1;
    const tn_jval *root = tn_json_root(doc), *sets = tn_json_get(root, "sets"), *texts = tn_json_get(root, "texts");
    const tn_jval *first = sets && sets->child ? sets->child : texts ? texts->child : NULL;
    size_t n = first && first->type == TN_JSON_ARRAY && first->length < 100000 ? first->length : 0;
    size_t total = n * (size_t)(nsets + ntexts) + (size_t)ntexts;
    paper_scores *r = malloc(sizeof *r + total * sizeof(double));
    int bad = r ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for scores");
    if (r) {
        *r = (paper_scores){.n = (int)n, .nsets = nsets, .ntexts = ntexts};
        r->set = r->store, r->text = r->set + n * (size_t)nsets, r->of_mean = r->text + n * (size_t)ntexts;
        if (!n || !read_numbers(sets, nsets, (int)n, r->set) || !read_numbers(texts, ntexts, (int)n, r->text) ||
            !read_numbers(tn_json_get(root, "texts_of_mean"), ntexts, 0, r->of_mean)) {
            bad = tn_fail(err, TN_EINPUT, "%s: not the scores that it should hold (remove it)", path);
        }
    }
    tn_json_free(doc);
    if (bad) free(r);
    else u->result = r;
    return bad;
}

static int load(paper *p, unit *u, const char *path, tn_err *err) {
    const score_spec *s = u->spec;
    (void)p;
    return load_scores(u, s->nsets, s->ntexts, path, err);
}

static int load_psnr(paper *p, unit *u, const char *path, tn_err *err) {
    (void)p;
    return load_scores(u, 1, 0, path, err);
}

static const unit_kind psnr_kind = {"psnr", ".json", make_psnr, load_psnr};
static const unit_kind score_kind = {"score", ".json", make, load};

/* ---- asking for them ---- */

static int ask(paper *p, score_spec *s, const paper_range *sets, int nsets, const char *const *texts, int ntexts) {
    char hash[65];
    tn_jw w;
    TN_REQUIRE(nsets <= SETS && ntexts <= TEXTS && nsets + ntexts > 0);
    s->nsets = nsets, s->ntexts = ntexts;
    unit_recipe(p, &w, &score_kind);
    tn_jw_string(&w, "clip", p->clip_sha);
    if (s->samples < 0) paper_hash(p, s->of, hash), tn_jw_string(&w, "pictures_sha256", hash);
    if (s->count) tn_jw_int(&w, "first", s->first), tn_jw_int(&w, "count", s->count);
    open_array(&w, "sets");
    for (int i = 0; i < nsets; i++) {
        s->set[i] = sets[i];
        paper_hash(p, sets[i], hash);
        tn_jw_string(&w, NULL, hash);
    }
    tn_jw_close(&w, ']');
    open_array(&w, "texts");
    for (int i = 0; i < ntexts; i++) tn_jw_string(&w, NULL, s->text[i] = paper_text(p, "%s", texts[i]));
    tn_jw_close(&w, ']');
    return unit_add(p, &w, &score_kind, s, sizeof *s, &s->samples, s->samples >= 0, 0, 0);
}

int paper_score(paper *p, int samples, const paper_range *sets, int nsets, const char *const *texts, int ntexts) {
    return ask(p, &(score_spec){.samples = samples}, sets, nsets, texts, ntexts);
}

int paper_score_some(paper *p, int samples, int from, int n, const paper_range *sets, int nsets,
                     const char *const *texts, int ntexts) {
    return ask(p, &(score_spec){.samples = samples, .first = from, .count = n}, sets, nsets, texts, ntexts);
}

int paper_score_pictures(paper *p, paper_range of, const paper_range *sets, int nsets, const char *const *texts,
                         int ntexts) {
    return ask(p, &(score_spec){.samples = -1, .of = of}, sets, nsets, texts, ntexts);
}

int paper_psnr(paper *p, int samples, paper_range r) {
    psnr_spec s = {samples, r};
    char hash[65];
    tn_jw w;
    unit_recipe(p, &w, &psnr_kind);
    paper_hash(p, r, hash);
    tn_jw_string(&w, "pictures_sha256", hash);
    return unit_add(p, &w, &psnr_kind, &s, sizeof s, &s.samples, 1, 0, 0);
}

const paper_scores *paper_result(const paper *p, int number) {
    TN_REQUIRE(p->plan.unit[number].result);
    return p->plan.unit[number].result;
}
