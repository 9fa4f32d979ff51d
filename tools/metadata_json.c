/* The recipe as JSON: the text "oneword" of a picture. */
#include "tensor/io/json.h"
#include "tools/metadata.h"
#include "tools/version.h"
#include <math.h>
#include <string.h>

/* ---- writing ---- */

static const char *or_empty(const char *s) { return s ? s : ""; }

/* The picture that was edited. What is as it would be without being asked for is not mentioned. */
static void put_edit(tn_jw *w, const meta_edit *e) {
    tn_jw_open(w, "edit", '{');
    tn_jw_string(w, "picture_sha256", e->picture_sha256), tn_jw_int(w, "first_step", e->first_step);
    if (e->mask_sha256[0]) {
        tn_jw_string(w, "mask_sha256", e->mask_sha256), tn_jw_bool(w, "invert_mask", e->invert_mask);
        tn_jw_int(w, "mask_shrink", e->mask_shrink), tn_jw_string(w, "background", e->background);
        if (strcmp(e->background, "decoder") == 0) tn_jw_int(w, "decoder_steps", e->decoder_steps);
    }
    if (e->low_pass) {
        tn_jw_int(w, "low_pass", e->low_pass), tn_jw_string(w, "low_pass_space", e->low_pass_space);
        if (e->low_pass_until >= 0) tn_jw_int(w, "low_pass_until", e->low_pass_until);
    }
    tn_jw_close(w, '}');
}

static void put_rank(tn_jw *w, const meta_rank *k) {
    tn_jw_open(w, "rank", '{');
    tn_jw_int(w, "place", k->place), tn_jw_int(w, "of", k->of);
    if (k->sentence) tn_jw_string(w, "sentence", k->sentence), tn_jw_number(w, "text", k->text);
    if (k->by_image) tn_jw_number(w, "image", k->image);
    tn_jw_string(w, "clip_sha256", k->clip_sha256);
    tn_jw_close(w, '}');
}

static void put_guide(tn_jw *w, const meta_guide *g) {
    tn_jw_open(w, "clip_guidance", '{');
    tn_jw_number(w, "scale", g->scale), tn_jw_int(w, "cutouts", g->cutouts);
    if (g->sentence) tn_jw_string(w, "sentence", g->sentence);
    else tn_jw_string(w, "picture_sha256", g->picture_sha256);
    tn_jw_string(w, "clip_sha256", g->clip_sha256);
    tn_jw_close(w, '}');
}

char *meta_json(const meta_recipe *r) {
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_int(&w, "v", 1), tn_jw_string(&w, "version", ONEWORD_VERSION);
    tn_jw_string(&w, "prompt", or_empty(r->prompt)), tn_jw_string(&w, "negative_prompt", or_empty(r->negative));
    tn_jw_int(&w, "steps", r->steps), tn_jw_string(&w, "sampler", r->sampler),
        tn_jw_number(&w, "cfg_scale", r->guidance);
    tn_jw_number(&w, "eta", r->eta), tn_jw_int(&w, "seed", r->seed);
    tn_jw_int(&w, "width", r->width), tn_jw_int(&w, "height", r->height);
    tn_jw_string(&w, "tokenizer_mode", r->rules == NN_RULES_OPENAI ? "openai" : "hf");
    if (r->conv[0]) tn_jw_string(&w, "conv", r->conv);
    tn_jw_string(&w, "model", or_empty(r->model)), tn_jw_string(&w, "model_sha256", r->model_sha256);
    tn_jw_open(&w, "embeddings", '[');
    for (int i = 0; i < r->nwords; i++) {
        tn_jw_open(&w, NULL, '{');
        tn_jw_string(&w, "token", r->word[i].token), tn_jw_string(&w, "sha256", r->word[i].sha256);
        tn_jw_close(&w, '}');
    }
    tn_jw_close(&w, ']');
    if (r->edit.picture_sha256[0]) put_edit(&w, &r->edit);
    if (r->latent_sha256[0]) tn_jw_string(&w, "latent_sha256", r->latent_sha256);
    if (r->guided) put_guide(&w, &r->guide);
    if (r->rank.of) put_rank(&w, &r->rank);
    tn_jw_close(&w, '}');
    return tn_jw_take(&w);
}

/* ---- reading ---- */

static int misfit(const char *name, const char *key, const char *wanted, tn_err *err) {
    return tn_fail(err, TN_EINPUT, "%s: the recipe in it: %s: expected %s", name, key, wanted);
}

static int get_text(const tn_jval *v, const char *key, const char *name, char **field, tn_err *err) {
    const tn_jval *s = tn_json_get(v, key);
    if (!s) return 0;
    if (s->type != TN_JSON_STRING) return misfit(name, key, "a text", err);
    return meta_set(field, s->string, s->length, err);
}

static int get_chars(const tn_jval *v, const char *key, const char *name, char *field, size_t cap, tn_err *err) {
    const tn_jval *s = tn_json_get(v, key);
    if (!s) return 0;
    if (s->type != TN_JSON_STRING || s->length >= cap) return misfit(name, key, "a short text", err);
    memcpy(field, s->string, s->length + 1);
    return 0;
}

static int get_int(const tn_jval *v, const char *key, const char *name, int64_t *field, tn_err *err) {
    const tn_jval *n = tn_json_get(v, key);
    if (!n) return 0;
    if (!n->is_int || n->integer < 0) return misfit(name, key, "a whole number, not negative", err);
    *field = n->integer;
    return 0;
}

static int get_number(const tn_jval *v, const char *key, const char *name, double *field, tn_err *err) {
    const tn_jval *n = tn_json_get(v, key);
    if (!n) return 0;
    if (n->type != TN_JSON_NUMBER || !isfinite(n->number)) return misfit(name, key, "a number", err);
    *field = n->number;
    return 0;
}

static int get_bool(const tn_jval *v, const char *key, const char *name, bool *field, tn_err *err) {
    const tn_jval *b = tn_json_get(v, key);
    if (!b) return 0;
    if (b->type != TN_JSON_BOOL) return misfit(name, key, "true or false", err);
    *field = b->boolean;
    return 0;
}

static int get_rules(const tn_jval *v, const char *name, nn_tokenizer_rules *rules, tn_err *err) {
    const tn_jval *s = tn_json_get(v, "tokenizer_mode");
    if (!s) return 0;
    bool openai = s->type == TN_JSON_STRING && strcmp(s->string, "openai") == 0;
    if (!openai && (s->type != TN_JSON_STRING || strcmp(s->string, "hf") != 0))
        return misfit(name, "tokenizer_mode", "\"hf\" or \"openai\"", err);
    *rules = openai ? NN_RULES_OPENAI : NN_RULES_HF;
    return 0;
}

/* The hashes first: a picture's is what says that there was one. */
static int get_edit(const tn_jval *v, const char *name, meta_edit *e, tn_err *err) {
    const tn_jval *o = tn_json_get(v, "edit");
    if (!o) return 0;
    if (o->type != TN_JSON_OBJECT) return misfit(name, "edit", "an object", err);
    e->low_pass_until = -1;
    return get_chars(o, "picture_sha256", name, e->picture_sha256, sizeof e->picture_sha256, err) ||
                   get_chars(o, "mask_sha256", name, e->mask_sha256, sizeof e->mask_sha256, err) ||
                   get_int(o, "first_step", name, &e->first_step, err) ||
                   get_bool(o, "invert_mask", name, &e->invert_mask, err) ||
                   get_int(o, "mask_shrink", name, &e->mask_shrink, err) ||
                   get_chars(o, "background", name, e->background, sizeof e->background, err) ||
                   get_int(o, "decoder_steps", name, &e->decoder_steps, err) ||
                   get_int(o, "low_pass", name, &e->low_pass, err) ||
                   get_chars(o, "low_pass_space", name, e->low_pass_space, sizeof e->low_pass_space, err) ||
                   get_int(o, "low_pass_until", name, &e->low_pass_until, err)
               ? -1
               : 0;
}

static int get_guide(const tn_jval *v, const char *name, meta_recipe *r, tn_err *err) {
    const tn_jval *o = tn_json_get(v, "clip_guidance");
    meta_guide *g = &r->guide;
    if (!o) return 0;
    if (o->type != TN_JSON_OBJECT) return misfit(name, "clip_guidance", "an object", err);
    r->guided = true;
    return get_number(o, "scale", name, &g->scale, err) || get_int(o, "cutouts", name, &g->cutouts, err) ||
                   get_text(o, "sentence", name, &g->sentence, err) ||
                   get_chars(o, "picture_sha256", name, g->picture_sha256, sizeof g->picture_sha256, err) ||
                   get_chars(o, "clip_sha256", name, g->clip_sha256, sizeof g->clip_sha256, err)
               ? -1
               : 0;
}

int meta_parse_json(const char *s, const char *name, meta_recipe *r, tn_err *err) {
    tn_json *doc;
    if (tn_json_parse(s, strlen(s), 0, &doc, err)) return tn_fail_in(err, "%s: the recipe in it", name);
    const tn_jval *v = tn_json_root(doc);
    int bad = get_text(v, "prompt", name, &r->prompt, err) || get_text(v, "negative_prompt", name, &r->negative, err) ||
                      get_text(v, "model", name, &r->model, err) ||
                      get_chars(v, "model_sha256", name, r->model_sha256, sizeof r->model_sha256, err) ||
                      get_chars(v, "sampler", name, r->sampler, sizeof r->sampler, err) ||
                      get_rules(v, name, &r->rules, err) ||
                      get_chars(v, "conv", name, r->conv, sizeof r->conv, err) ||
                      get_int(v, "steps", name, &r->steps, err) || get_int(v, "seed", name, &r->seed, err) ||
                      get_int(v, "width", name, &r->width, err) || get_int(v, "height", name, &r->height, err) ||
                      get_number(v, "cfg_scale", name, &r->guidance, err) || get_number(v, "eta", name, &r->eta, err)
                  ? -1
                  : 0;
    if (!bad) bad = get_edit(v, name, &r->edit, err);
    if (!bad) bad = get_guide(v, name, r, err) || get_chars(v, "latent_sha256", name, r->latent_sha256, sizeof r->latent_sha256, err) ? -1 : 0;
    const tn_jval *list = tn_json_get(v, "embeddings");
    for (const tn_jval *e = list && list->type == TN_JSON_ARRAY ? list->child : NULL; e && !bad; e = e->next) {
        const tn_jval *token = tn_json_get(e, "token"), *sha = tn_json_get(e, "sha256");
        if (!token || token->type != TN_JSON_STRING || !sha || sha->type != TN_JSON_STRING)
            bad = misfit(name, "embeddings", "tokens with hashes", err);
        else
            bad = meta_add_word(r, token->string, sha->string, err);
    }
    tn_json_free(doc);
    return bad;
}
