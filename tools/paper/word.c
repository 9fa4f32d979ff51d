/* A word learned from a concept's pictures, or two learned together: one unit, a file as `oneword train` writes it. */
#include "tools/paper/word.h"

#include "tensor/io/safetensors.h"
#include "tensor/io/sys.h"
#include "tools/embedding.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The settings of `train --preset quick`, which found all words of the bundled world (tests/README.md). */
static const double RATE = 1e-2;
static const tn_adamw_config adamw = {0.9, 0.999, 1e-8, 1e-2};

/* Two words learned together: the defaults of `train --compose`. */
enum { COMPOSE_PICTURES = 64 };
static const double COMPOSE_SHARE = 0.1;

/* DVAR: the threshold of its paper; the window, 310 steps of 6100 there, as a share of the steps of a word here. */
static const double STOP_WINDOW = 0.2, STOP_THRESHOLD = 0.15;

typedef struct word_spec {
    paper_range range, second; /* second: of the other word, n 0: there is none */
    paper_setup setup;         /* defaults filled in */
} word_spec;

static nn_train_config settings(const paper *p, const word_spec *s) {
    const paper_concept *c = &p->concept[s->range.concept];
    const paper_setup *u = &s->setup;
    bool constant = u->dvar || u->untimely;
    int64_t all = p->size.train_steps, steps = constant ? 2 * all : u->few ? (all + 7) / 8 : all;
    nn_train_config cfg = {.placeholder = {c->token},
                           .initializer = {c->initializer},
                           .nplaceholders = 1,
                           .num_vectors = u->vectors,
                           .resolution = gen_native_size(p->model),
                           .rules = NN_RULES_HF,
                           .batch = 1,
                           .accumulate = 1,
                           .steps = steps,
                           .lr = {.kind = constant ? NN_LR_CONSTANT : NN_LR_COSINE, .base = u->rate, .total = steps},
                           .adam = adamw,
                           .reg_weight = u->reg_weight,
                           .reg_kind = u->official ? NN_REG_OFFICIAL : NN_REG_L2,
                           .seed = (uint64_t)p->size.seed,
                           .per_image_share = u->per_image ? 1.0 : 0.0};
    for (int i = 1; u->progressive && i < u->vectors; i++) { /* the paper: after 2000 and 4000 of 5000 steps */
        cfg.switch_at[cfg.nswitches++] = 2 * i * steps / 5 > i ? 2 * i * steps / 5 : i;
    }
    if (s->second.n) { /* as many steps for each */
        c = &p->concept[s->second.concept];
        cfg.placeholder[1] = c->token, cfg.initializer[1] = c->initializer, cfg.nplaceholders = 2;
        cfg.compose_from = s->range.n, cfg.compose_pictures = COMPOSE_PICTURES, cfg.compose_share = COMPOSE_SHARE;
        cfg.steps = cfg.lr.total = 2 * steps;
    }
    if (u->dvar) {
        int64_t window = (int64_t)(STOP_WINDOW * (double)p->size.train_steps);
        cfg.stop_window = window > 2 ? window : 2, cfg.stop_threshold = STOP_THRESHOLD;
    }
    return cfg;
}

static int write_words(const char *path, const char *const *token, const float *const *v, int words, int64_t n,
                       int64_t dim, int64_t steps, tn_err *err) {
    char number[24];
    int64_t shape[] = {n, dim};
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    snprintf(number, sizeof number, "%lld", (long long)steps);
    tn_st_add_meta(w, "format", "pt"), tn_st_add_meta(w, "steps", number);
    for (int i = 0; i < words; i++) tn_st_add(w, token[i], TN_ST_F32, 2, shape, v[i]);
    int r = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    return r;
}

int word_write(const char *path, const char *token, const float *v, int64_t n, int64_t dim, int64_t steps,
               tn_err *err) {
    return write_words(path, &token, &v, 1, n, dim, steps, err);
}

static int learn(paper *p, const nn_train_config *cfg, const nn_templates *t, const nn_image *images, int n,
                 const char *path, tn_err *err) {
    nn_train *run;
    nn_train_step step;
    if (nn_train_open(&p->c, p->model, cfg, t, images, n, NULL, NULL, &run, err)) return -1;
    int r = 0;
    while (!r && !nn_train_finished(run)) r = nn_train_advance(run, &p->c, &step, err);
    if (!r) {
        const float *v[2] = {nn_train_vectors(run, 0), cfg->nplaceholders > 1 ? nn_train_vectors(run, 1) : NULL};
        r = write_words(path, cfg->placeholder, v, cfg->nplaceholders, cfg->num_vectors, nn_train_word(run)->dim,
                        nn_train_steps_done(run), err);
    }
    nn_train_free(run);
    nn_tokenizer_take_back(p->model->tokenizer, p->vocabulary);
    return r;
}

static int make(paper *p, const unit *u, const char *path, tn_err *err) {
    const word_spec *s = u->spec;
    nn_train_config cfg = settings(p, s);
    emb_words start = {0};
    char from[4096];
    if (u->ninputs && emb_read(unit_path(p, &p->plan.unit[u->input[0]], from), NULL, &start, err)) return -1;
    if (u->ninputs) cfg.initial[0] = start.w[0].v;
    int n = s->range.n + s->second.n;
    nn_image *images = malloc((size_t)n * sizeof *images); /* the structs alone */
    int r = images ? 0 : tn_fail(err, TN_ENOMEM, "out of memory");
    for (int i = 0; !r && i < n; i++) {
        const paper_range *of = i < s->range.n ? &s->range : &s->second;
        images[i] = *paper_picture(p, of->concept, of->first + (i < s->range.n ? i : i - s->range.n));
    }
    const nn_templates *t = p->concept[s->range.concept].style ? &p->style_templates : &p->object_templates;
    if (!r) r = learn(p, &cfg, t, images, n, path, err);
    free(images);
    emb_free(&start);
    return r;
}

static const unit_kind word_kind = {"word", ".safetensors", make, NULL};

/* A word's pictures and names, as its recipe has them. */
static void describe(paper *p, tn_jw *w, paper_range range) {
    const paper_concept *c = &p->concept[range.concept];
    char hash[65];
    paper_hash(p, range, hash);
    tn_jw_string(w, "concept", c->name), tn_jw_int(w, "pictures", range.n), tn_jw_string(w, "pictures_sha256", hash);
    tn_jw_string(w, "placeholder", c->token), tn_jw_string(w, "initializer", c->initializer);
}

/* The unit of a word, or of two: the other's concept is `second` (-1: none). */
static int learned(paper *p, const paper_setup *setup, int concept, int second) {
    const paper_concept *c = &p->concept[concept];
    word_spec s = {.range = {concept, 0, setup->pictures ? setup->pictures : c->pics.n}, .setup = *setup};
    if (second >= 0) s.second = paper_all(p, second);
    if (!setup->vectors) s.setup.vectors = 1;
    if (!(setup->rate > 0.0)) s.setup.rate = RATE;
    nn_train_config cfg = settings(p, &s);
    const nn_templates *t = c->style ? &p->style_templates : &p->object_templates;
    tn_jw w;
    unit_recipe(p, &w, &word_kind);
    describe(p, &w, s.range);
    if (s.second.n) {
        tn_jw_open(&w, "second", '{');
        describe(p, &w, s.second);
        tn_jw_int(&w, "compose_pictures", COMPOSE_PICTURES), tn_jw_number(&w, "compose_share", COMPOSE_SHARE);
        tn_jw_close(&w, '}');
    }
    tn_jw_int(&w, "num_vectors", cfg.num_vectors);
    tn_jw_int(&w, "steps", cfg.steps), tn_jw_int(&w, "batch", cfg.batch),
        tn_jw_number(&w, "learning_rate", cfg.lr.base);
    tn_jw_string(&w, "lr_scheduler", cfg.lr.kind == NN_LR_COSINE ? "cosine" : "constant"),
        tn_jw_number(&w, "weight_decay", cfg.adam.weight_decay);
    tn_jw_number(&w, "reg_weight", cfg.reg_weight), tn_jw_bool(&w, "reg_official", cfg.reg_kind == NN_REG_OFFICIAL);
    tn_jw_bool(&w, "progressive", s.setup.progressive), tn_jw_number(&w, "per_image_share", cfg.per_image_share);
    tn_jw_int(&w, "stop_window", cfg.stop_window), tn_jw_number(&w, "stop_threshold", cfg.stop_threshold),
        tn_jw_int(&w, "seed", p->size.seed);
    tn_jw_open(&w, "templates", '[');
    for (int i = 0; i < t->n; i++) tn_jw_string(&w, NULL, t->line[i]);
    tn_jw_close(&w, ']');
    int start = setup->encoded ? encoded_word_unit(p, concept) : -1;
    return unit_add(p, &w, &word_kind, &s, sizeof s, &start, setup->encoded, cfg.steps, 0);
}

int paper_steps_taken(const paper *p, paper_word word, int64_t *steps, tn_err *err) {
    char path[4096];
    tn_st *st;
    if (tn_st_open(unit_path(p, &p->plan.unit[word.unit], path), TN_MAP_COPY, &st, err)) return -1;
    const char *meta = tn_st_meta(st, "steps");
    int r = meta && tn_parse_int64(meta, strlen(meta), steps)
                ? 0
                : tn_fail(err, TN_EINPUT, "%s: no number of steps (remove it)", path);
    tn_st_close(st);
    return r;
}

paper_word paper_learn(paper *p, const paper_setup *s, int concept) {
    const paper_concept *c = &p->concept[concept];
    switch (s->source) {
    case WORD_LEARNED: return (paper_word){learned(p, s, concept, -1), c->token};
    case WORD_INITIALIZER: return (paper_word){-1, c->initializer};
    case WORD_BRIEF: return (paper_word){-1, c->brief};
    case WORD_CAPTION: return (paper_word){-1, c->caption};
    case WORD_CLIP: return (paper_word){clip_word_unit(p, concept), c->token};
    case WORD_ENCODED: return (paper_word){encoded_word_unit(p, concept), c->token};
    case WORD_NONE: break;
    }
    return (paper_word){-1, ""};
}

void paper_learn_together(paper *p, const paper_setup *s, int first, int second, paper_word out[2]) {
    int number = learned(p, s, first, second);
    out[0] = (paper_word){number, p->concept[first].token}, out[1] = (paper_word){number, p->concept[second].token};
}
