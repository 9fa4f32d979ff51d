/* A word learned from a concept's pictures: one unit, a file as `oneword train` writes it. */
#include "tools/paper/paper.h"

#include "tools/embedding.h"
#include <stdlib.h>

/* The settings of `train --preset quick`, which found all words of the bundled world (tests/README.md). */
static const double RATE = 1e-2;
static const tn_adamw_config adamw = {0.9, 0.999, 1e-8, 1e-2};

typedef struct word_spec {
    paper_range range;
    int64_t vectors;
    double rate, reg_weight;
} word_spec;

static nn_train_config settings(const paper *p, const word_spec *s) {
    const paper_concept *c = &p->concept[s->range.concept];
    return (nn_train_config){.placeholder = {c->token}, .initializer = {c->initializer}, .nplaceholders = 1, .num_vectors = s->vectors,
                             .resolution = gen_native_size(p->model), .rules = NN_RULES_HF, .batch = 1, .accumulate = 1,
                             .steps = p->size.train_steps,
                             .lr = {.kind = NN_LR_COSINE, .base = s->rate, .total = p->size.train_steps}, .adam = adamw,
                             .reg_weight = s->reg_weight, .reg_kind = NN_REG_L2, .seed = (uint64_t)p->size.seed};
}

static int learn(paper *p, const nn_train_config *cfg, const nn_templates *t, const nn_image *images, int n, const char *path,
                 tn_err *err) {
    nn_train *run;
    nn_train_step step;
    emb_words words = {0};
    if (nn_train_open(&p->c, p->model, cfg, t, images, n, NULL, NULL, &run, err)) return -1;
    int r = 0;
    while (!r && nn_train_steps_done(run) < cfg->steps) r = nn_train_advance(run, &p->c, &step, err);
    if (!r) r = emb_append(&words, cfg->placeholder[0], cfg->num_vectors, nn_train_word(run)->dim, nn_train_vectors(run, 0), err);
    if (!r) r = emb_write(path, &words, err);
    emb_free(&words);
    nn_train_free(run);
    nn_tokenizer_take_back(p->model->tokenizer, p->vocabulary);
    return r;
}

static int make(paper *p, const unit *u, const char *path, tn_err *err) {
    const word_spec *s = u->spec;
    nn_train_config cfg = settings(p, s);
    nn_image *images = malloc((size_t)s->range.n * sizeof *images); /* the structs alone */
    if (!images) return tn_fail(err, TN_ENOMEM, "out of memory");
    for (int i = 0; i < s->range.n; i++) images[i] = *paper_picture(p, s->range.concept, s->range.first + i);
    const nn_templates *t = p->concept[s->range.concept].style ? &p->style_templates : &p->object_templates;
    int r = learn(p, &cfg, t, images, s->range.n, path, err);
    free(images);
    return r;
}

static const unit_kind word_kind = {"word", ".safetensors", make, NULL};

static int learned(paper *p, const paper_setup *setup, int concept) {
    const paper_concept *c = &p->concept[concept];
    int n = setup->pictures ? setup->pictures : c->pics.n;
    word_spec s = {.range = {concept, 0, n}, .vectors = setup->vectors ? setup->vectors : 1, .rate = setup->rate > 0.0 ? setup->rate : RATE,
                   .reg_weight = setup->reg_weight};
    nn_train_config cfg = settings(p, &s);
    const nn_templates *t = c->style ? &p->style_templates : &p->object_templates;
    tn_jw w;
    char hash[65];
    unit_recipe(p, &w, &word_kind);
    paper_hash(p, s.range, hash);
    tn_jw_string(&w, "concept", c->name), tn_jw_int(&w, "pictures", n), tn_jw_string(&w, "pictures_sha256", hash);
    tn_jw_string(&w, "placeholder", c->token), tn_jw_string(&w, "initializer", c->initializer), tn_jw_int(&w, "num_vectors", s.vectors);
    tn_jw_int(&w, "steps", cfg.steps), tn_jw_int(&w, "batch", cfg.batch), tn_jw_number(&w, "learning_rate", s.rate);
    tn_jw_string(&w, "lr_scheduler", "cosine"), tn_jw_number(&w, "weight_decay", cfg.adam.weight_decay);
    tn_jw_number(&w, "reg_weight", s.reg_weight), tn_jw_int(&w, "seed", p->size.seed);
    tn_jw_open(&w, "templates", '[');
    for (int i = 0; i < t->n; i++) tn_jw_string(&w, NULL, t->line[i]);
    tn_jw_close(&w, ']');
    return unit_add(p, &w, &word_kind, &s, sizeof s, NULL, 0, cfg.steps, 0);
}

paper_word paper_learn(paper *p, const paper_setup *s, int concept) {
    const paper_concept *c = &p->concept[concept];
    switch (s->source) {
    case WORD_LEARNED: return (paper_word){learned(p, s, concept), c->token};
    case WORD_INITIALIZER: return (paper_word){-1, c->initializer};
    case WORD_BRIEF: return (paper_word){-1, c->brief};
    case WORD_CAPTION: return (paper_word){-1, c->caption};
    case WORD_NONE: break;
    }
    return (paper_word){-1, ""};
}
