/* What the experiments are made of: the bundled model, its judge, and the concepts. */
#include "tensor/io/bytes.h"
#include "tensor/io/sha256.h"
#include "tensor/io/sys.h"
#include "tools/bundle.h"
#include "tools/paper/paper.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory of a run ---- */

struct pool {
    struct pool *next;
    double data[]; /* aligned for any spec */
};

void *paper_keep(paper *p, const void *data, size_t n) {
    struct pool *b = malloc(sizeof *b + n);
    if (!b) {
        p->failed = true;
        tn_fail(&p->err, TN_ENOMEM, "out of memory for the plan");
        return NULL;
    }
    b->next = p->pool, p->pool = b;
    return memcpy(b->data, data, n);
}

const char *paper_text(paper *p, const char *fmt, ...) {
    char text[4000];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    TN_REQUIRE(n >= 0 && n < (int)sizeof text);
    return paper_keep(p, text, (size_t)n + 1);
}

/* ---- concepts ---- */

static const char *string_of(paper *p, const tn_jval *v, const char *key) {
    const tn_jval *s = tn_json_get(v, key);
    return s && s->type == TN_JSON_STRING ? paper_text(p, "%.200s", s->string) : NULL;
}

const nn_image *paper_picture(const paper *p, int concept, int i) {
    const paper_concept *c = &p->concept[concept];
    TN_REQUIRE(i >= 0 && i < c->pics.n + c->more.n);
    return i < c->pics.n ? &c->pics.image[i] : &c->more.image[i - c->pics.n];
}

static void hash_range(const paper *p, paper_range r, char hex[65]) {
    tn_sha256 h;
    tn_sha256_init(&h);
    for (int i = 0; i < r.n; i++) {
        const nn_image *image = paper_picture(p, r.concept, r.first + i);
        unsigned char size[16];
        tn_put_le64(size, (uint64_t)image->width), tn_put_le64(size + 8, (uint64_t)image->height);
        tn_sha256_update(&h, size, sizeof size);
        tn_sha256_update(&h, image->rgb, (size_t)(3 * image->width * image->height));
    }
    tn_sha256_hex(&h, hex);
}

void paper_hash(const paper *p, paper_range r, char hex[65]) {
    const paper_concept *c = &p->concept[r.concept];
    if (r.first == 0 && r.n == c->pics.n) memcpy(hex, c->sha256, 65);
    else hash_range(p, r, hex);
}

static int read_concept(paper *p, const tn_jval *v, tn_err *err) {
    char path[1200];
    const char *kind = string_of(p, v, "kind");
    if (p->nconcepts == PAPER_CONCEPTS)
        return tn_fail(err, TN_EINPUT, "index.json: more than %d concepts", PAPER_CONCEPTS);
    paper_concept *c = &p->concept[p->nconcepts++];
    *c = (paper_concept){.name = paper_text(p, "%.60s", v->key),
                         .initializer = string_of(p, v, "initializer"),
                         .caption = string_of(p, v, "caption"),
                         .brief = string_of(p, v, "brief")};
    if (!c->name || !c->initializer || !kind)
        return tn_fail(err, TN_EINPUT, "index.json: \"%s\" lacks kind or initializer", v->key);
    c->style = strcmp(kind, "style") == 0;
    snprintf(c->token, sizeof c->token, "<%s>", c->name);
    snprintf(path, sizeof path, "%s/concepts/%s", p->world, c->name);
    if (pictures_load(path, &c->pics, err)) return -1;
    hash_range(p, paper_all(p, p->nconcepts - 1), c->sha256);
    snprintf(path, sizeof path, "%s/more/%s", p->world, c->name);
    return tn_is_dir(path) ? pictures_load(path, &c->more, err) : 0;
}

/* The objects of a run are the first with a description, those with more pictures before the others. */
static void choose(paper *p) {
    for (int more = 1; more >= 0; more--) {
        for (int i = 0; i < p->nconcepts && p->nobjects < p->size.objects; i++) {
            const paper_concept *c = &p->concept[i];
            if (c->caption && (c->more.n > 0) == more) p->object[p->nobjects++] = i;
        }
    }
    for (int i = 0; i < p->nconcepts && p->nstyles < p->size.styles; i++) {
        if (p->concept[i].style) p->style[p->nstyles++] = i;
    }
}

static int read_concepts(paper *p, tn_err *err) {
    char path[1200];
    tn_json *index;
    snprintf(path, sizeof path, "%s/concepts/index.json", p->world);
    if (tn_json_load(path, 0, &index, err)) return -1;
    int r = 0;
    for (const tn_jval *v = tn_json_root(index)->child; v && !r; v = v->next) r = read_concept(p, v, err);
    tn_json_free(index);
    if (!r) choose(p);
    if (!r && p->failed) *err = p->err;
    return r || p->failed ? -1 : 0;
}

int paper_concept_named(const paper *p, const char *name) {
    for (int i = 0; i < p->nconcepts; i++) {
        if (strcmp(p->concept[i].name, name) == 0) return i;
    }
    return -1;
}

paper_range paper_all(const paper *p, int concept) { return (paper_range){concept, 0, p->concept[concept].pics.n}; }

paper_range paper_held_out(const paper *p, int concept) {
    const paper_concept *c = &p->concept[concept];
    int n = c->more.n > PAPER_HELD_OUT ? PAPER_HELD_OUT : 0;
    return (paper_range){concept, c->pics.n + c->more.n - n, n};
}

/* ---- all of it ---- */

static int read_arithmetic(paper *p, tn_err *err) {
    char path[1200], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/selftest.sha256", p->world);
    if (tn_read_file(path, 4096, &text, &n, err)) return -1;
    int r = n >= 64 ? 0 : tn_fail(err, TN_EINPUT, "%s: no hash in it", path);
    if (!r) snprintf(p->arithmetic, sizeof p->arithmetic, "%.64s", text);
    free(text);
    return r;
}

static int hash_names(paper *p, tn_err *err) {
    char path[1200], *data;
    size_t n;
    tn_sha256 h;
    snprintf(path, sizeof path, "%s/entities.txt", p->world);
    if (tn_read_file(path, 1 << 20, &data, &n, err)) return -1;
    tn_sha256_init(&h);
    tn_sha256_update(&h, data, n);
    tn_sha256_hex(&h, p->names_sha);
    free(data);
    return 0;
}

static int read_templates(paper *p, const char *kind, nn_templates *t, tn_err *err) {
    char path[1200];
    snprintf(path, sizeof path, "%s/templates-%s.txt", p->world, kind);
    return nn_templates_load(path, t, err);
}

int paper_open(paper *p, tn_err *err) {
    char path[1200];
    if (opt_context(&p->common, &p->c, err) || bundle_find(p->program, "world", p->world, sizeof p->world, err))
        return -1;
    snprintf(path, sizeof path, "%s/model", p->world);
    if (nn_model_load(path, NN_LOAD_ALL, &p->model, err) || nn_model_fingerprint(p->model, p->model_sha, err))
        return -1;
    p->vocabulary = nn_tokenizer_get_facts(p->model->tokenizer).size;
    snprintf(path, sizeof path, "%s/clip", p->world);
    if (clip_open(path, &p->judge, err) || clip_fingerprint(path, p->clip_sha, err)) return -1;
    return read_arithmetic(p, err) || hash_names(p, err) || read_templates(p, "object", &p->object_templates, err) ||
                   read_templates(p, "style", &p->style_templates, err) || read_concepts(p, err)
               ? -1
               : 0;
}

void paper_close(paper *p) {
    unit_free(&p->plan);
    for (int i = 0; i < p->nconcepts; i++) pictures_free(&p->concept[i].pics), pictures_free(&p->concept[i].more);
    nn_templates_free(&p->object_templates), nn_templates_free(&p->style_templates);
    clip_close(&p->judge);
    nn_model_free(p->model);
    tn_ctx_free(&p->c);
    while (p->pool) {
        struct pool *b = p->pool;
        p->pool = b->next;
        free(b);
    }
}
