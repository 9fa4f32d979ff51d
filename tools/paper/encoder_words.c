/* Words by an encoder (section 6 of the paper; nn/encoder.h): one unit is the encoder, learned from the names that the
 * model knows; one more each word that it gives for a concept's pictures. */
#include "tools/paper/word.h"

#include "nn/encoder.h"
#include "tensor/io/sys.h"
#include "tools/entities.h"
#include <stdio.h>
#include <stdlib.h>

/* The settings of `oneword encoder train`; names and steps shrink with the run. */
enum { PICTURES = 4, HIDDEN = 256, NAMES_A_SAMPLE = 15, FEWEST_NAMES = 8 };
static const nn_encoder_config config = {.batch = 16, .closeness = 0.01, .adam = {0.9, 0.999, 1e-8, 0.1}};
static const double RATE = 1e-3;

typedef struct encoder_spec {
    int64_t names, study, sampling;
} encoder_spec;

/* ---- the encoder ---- */

static int row_of(paper *p, const char *word, float *out, tn_err *err) {
    const tn_tensor *table = &p->model->text->token;
    int32_t id = nn_tokenizer_word(p->model->tokenizer, word);
    if (id < 0 || id >= table->shape[0]) return tn_fail(err, TN_EINPUT, "\"%s\" is not one token of the model", word);
    nn_text_row(table, p->c.k, id, out);
    return 0;
}

static int study(paper *p, const encoder_spec *s, const nn_lessons *l, const char *path, tn_err *err) {
    nn_encoder e = {0};
    nn_lr lr = {.kind = NN_LR_COSINE, .base = RATE, .total = s->study};
    nn_encoder_config cfg = config;
    double loss;
    cfg.seed = (uint64_t)p->size.seed;
    int r = nn_encoder_new(p->judge.width, p->model->text->cfg.t.width, HIDDEN, cfg.seed, &e, err);
    for (int64_t i = 0; !r && i < s->study; i++) r = nn_encoder_study(&p->c, &e, l, &cfg, nn_lr_at(&lr, i), &loss, err);
    if (!r) r = nn_encoder_save(&e, "oneword paper", path, err);
    nn_encoder_free(&e);
    return r;
}

static int learn_rows(paper *p, const entities *names, float *kind, float *word, tn_err *err) {
    int64_t width = p->model->text->cfg.t.width;
    for (int i = 0; i < names->n; i++) {
        if (row_of(p, names->kind[i], kind + i * width, err) || row_of(p, names->name[i], word + i * width, err))
            return -1;
    }
    return 0;
}

/* The names' pictures are kept beside the units while they are made, so that a run that is killed does not begin again.
 */
static int make_encoder(paper *p, const unit *u, const char *path, tn_err *err) {
    const encoder_spec *s = u->spec;
    char examples[4096], clip[1200], list[1200];
    int64_t width = p->model->text->cfg.t.width;
    opt_common silent = p->common;
    entities all, names;
    silent.quiet = true;
    snprintf(examples, sizeof examples, "%.3900s/encoder-%.8s-%ld.examples", p->output, u->key, (long)p->shard);
    snprintf(clip, sizeof clip, "%s/clip", p->world), snprintf(list, sizeof list, "%s/entities.txt", p->world);
    if (entities_load(list, &all, err)) return -1;
    names = all, names.n = all.n < s->names ? all.n : (int)s->names;
    sightings seen = {
        .path = examples, .each = PICTURES, .steps = s->sampling, .guidance = 4.0, .seed = (uint64_t)p->size.seed};
    float *kind = malloc((size_t)(2 * names.n * width) * sizeof *kind), *word = kind + names.n * width;
    int r = kind ? learn_rows(p, &names, kind, word, err) : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r) r = entities_see(&names, &p->c, p->model, &p->judge, clip, &seen, &silent, err);
    nn_lessons l = {names.n, seen.each, seen.features, kind, word, seen.latents, seen.channels, seen.side};
    if (!r) r = study(p, s, &l, path, err);
    if (!r) r = tn_remove_file(examples, err);
    free(kind), free(seen.features), free(seen.latents);
    entities_free(&all);
    return r;
}

static const unit_kind encoder_kind = {"encoder", ".safetensors", make_encoder, NULL};

static int encoder_unit(paper *p) {
    int64_t names = NAMES_A_SAMPLE * p->size.samples;
    encoder_spec s = {.names = names < FEWEST_NAMES ? FEWEST_NAMES : names,
                      .study = p->size.train_steps < 300 ? p->size.train_steps : 300,
                      .sampling = (p->size.steps * 3 + 4) / 5};
    tn_jw w;
    if (s.names > 240) s.names = 240;
    unit_recipe(p, &w, &encoder_kind);
    tn_jw_string(&w, "clip", p->clip_sha), tn_jw_string(&w, "names_sha256", p->names_sha),
        tn_jw_int(&w, "names", s.names);
    tn_jw_int(&w, "pictures", PICTURES), tn_jw_int(&w, "sampling_steps", s.sampling), tn_jw_int(&w, "hidden", HIDDEN);
    tn_jw_int(&w, "batch", config.batch), tn_jw_number(&w, "closeness", config.closeness),
        tn_jw_int(&w, "steps", s.study);
    tn_jw_number(&w, "rate", RATE), tn_jw_number(&w, "weight_decay", config.adam.weight_decay),
        tn_jw_int(&w, "seed", p->size.seed);
    return unit_add(p, &w, &encoder_kind, &s, sizeof s, NULL, 0, 0, s.names * PICTURES * s.sampling);
}

/* ---- its words ---- */

static int make_word(paper *p, const unit *u, const char *path, tn_err *err) {
    const int *concept = u->spec;
    const paper_concept *c = &p->concept[*concept];
    char encoder[4096], *about = NULL;
    int64_t width = p->model->text->cfg.t.width;
    nn_encoder e;
    if (nn_encoder_load(unit_path(p, &p->plan.unit[u->input[0]], encoder), &e, &about, err)) return -1;
    free(about);
    float *features = malloc((size_t)(c->pics.n * p->judge.width) * sizeof *features),
          *v = malloc((size_t)(2 * width) * sizeof *v);
    int r = features && v ? clip_see(&p->c, &p->judge, c->pics.image, c->pics.n, features, err)
                          : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r)
        r = row_of(p, c->initializer, v, err) || nn_encoder_apply(&p->c, &e, features, c->pics.n, v, v + width, err)
                ? -1
                : 0;
    if (!r) r = word_write(path, c->token, v + width, 1, width, 0, err);
    free(features), free(v);
    nn_encoder_free(&e);
    return r;
}

static const unit_kind encoded_kind = {"encoded-word", ".safetensors", make_word, NULL};

int encoded_word_unit(paper *p, int concept) {
    int encoder = encoder_unit(p);
    tn_jw w;
    char hash[65];
    unit_recipe(p, &w, &encoded_kind);
    paper_hash(p, paper_all(p, concept), hash);
    tn_jw_string(&w, "clip", p->clip_sha), tn_jw_string(&w, "pictures_sha256", hash);
    tn_jw_string(&w, "placeholder", p->concept[concept].token),
        tn_jw_string(&w, "initializer", p->concept[concept].initializer);
    return unit_add(p, &w, &encoded_kind, &concept, sizeof concept, &encoder, 1, 0, 0);
}
