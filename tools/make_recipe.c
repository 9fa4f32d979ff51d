#include "tensor/io/json.h"
#include "tools/make_job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- from a picture ---- */

/* What the recipe says of the picture to begin with; the picture itself is not in it. */
static int take_edit(make_job *j, tn_err *err) {
    make_options *o = &j->o;
    meta_edit *e = &j->made.edit;
    if (!e->picture_sha256[0]) return 0;
    if (!o->picture) {
        opt_warn("%s was made from a picture, which edit does: it will not be the same", o->from_image);
        return 0;
    }
    if (e->mask_sha256[0] && !o->mask)
        return tn_fail(err, TN_EUSAGE, "%s was made with a mask: give it with --mask", o->from_image);
    if (o->strength < 0.0 && !make_given(j, MAKE_FIELD(first_step))) o->first_step = e->first_step;
    if (!make_given(j, MAKE_FIELD(invert_mask))) o->invert_mask = e->invert_mask;
    if (!make_given(j, MAKE_FIELD(mask_shrink))) o->mask_shrink = e->mask_shrink;
    if (!make_given(j, MAKE_FIELD(background)) && e->background[0]) o->background = e->background;
    if (!make_given(j, MAKE_FIELD(decoder_steps))) o->decoder_steps = e->decoder_steps;
    if (!make_given(j, MAKE_FIELD(low_pass))) o->low_pass = e->low_pass;
    if (!make_given(j, MAKE_FIELD(low_pass_space)) && e->low_pass_space[0]) o->low_pass_space = e->low_pass_space;
    if (!make_given(j, MAKE_FIELD(low_pass_until))) o->low_pass_until = e->low_pass_until;
    return 0;
}

int make_take_recipe(make_job *j, tn_err *err) {
    meta_recipe *r = &j->made;
    make_options *o = &j->o;
    *r = (meta_recipe){.steps = o->steps,
                       .seed = o->seed,
                       .width = o->width,
                       .height = o->height,
                       .guidance = o->guidance,
                       .eta = o->eta};
    strcpy(r->sampler, "ddim");
    if (meta_read(o->from_image, r, err)) return -1;
    if (!make_given(j, MAKE_FIELD(prompt)) && !o->prompts) o->prompt = r->prompt;
    if (!make_given(j, MAKE_FIELD(negative))) o->negative = r->negative;
    if (!make_given(j, MAKE_FIELD(steps))) o->steps = r->steps;
    if (!make_given(j, MAKE_FIELD(seed))) o->seed = r->seed;
    if (!make_given(j, MAKE_FIELD(width))) o->width = r->width;
    if (!make_given(j, MAKE_FIELD(height))) o->height = r->height;
    if (!make_given(j, MAKE_FIELD(guidance))) o->guidance = r->guidance;
    if (!make_given(j, MAKE_FIELD(eta))) o->eta = r->eta;
    if (!make_given(j, MAKE_FIELD(sampler))) o->sampler = r->sampler;
    if (!make_given(j, MAKE_FIELD(common.conv)) && r->conv[0]) o->common.conv = r->conv;
    if (!make_given(j, MAKE_FIELD(tokenizer_mode))) o->tokenizer_mode = r->rules == NN_RULES_OPENAI ? "openai" : "hf";
    if (strcmp(o->sampler, "ddim") != 0 && strcmp(o->sampler, "ddpm") != 0) {
        return tn_fail(err, TN_EUNSUPPORTED,
                       "%s: made with the sampler \"%s\", which is not built in (choose one with --sampler)",
                       o->from_image, o->sampler);
    }
    if (o->steps < 1 || o->width < 0 || o->height < 0 || !(o->guidance >= 0.0 && o->guidance <= 1000.0) ||
        !(o->eta >= 0.0 && o->eta <= 1.0)) {
        return tn_fail(err, TN_EINPUT, "%s: the settings in it are out of range", o->from_image);
    }
    make_take_guide(j);
    return take_edit(j, err);
}

/* ---- to pictures ---- */

static int model_name(const char *dir, char **name, tn_err *err) {
    size_t end = strlen(dir), start;
    while (end > 1 && dir[end - 1] == '/') end--;
    for (start = end; start && dir[start - 1] != '/'; start--) continue;
    if (meta_set(name, dir + start, end - start, err)) return -1;
    for (char *c = *name; *c; c++) { /* a text chunk must be UTF-8, a path need not be */
        size_t n = tn_utf8_length((const unsigned char *)c, strlen(c));
        if (!n)
            *c = '?';
        else
            c += n - 1;
    }
    return 0;
}

static meta_edit edit_recipe(const make_job *j) {
    const make_options *o = &j->o;
    meta_edit e = {.first_step = o->first_step,
                   .mask_shrink = o->mask_shrink,
                   .decoder_steps = o->decoder_steps,
                   .low_pass = o->low_pass,
                   .low_pass_until = o->low_pass_until,
                   .invert_mask = o->invert_mask};
    memcpy(e.picture_sha256, j->picture_sha256, sizeof e.picture_sha256);
    memcpy(e.mask_sha256, j->mask_sha256, sizeof e.mask_sha256);
    snprintf(e.background, sizeof e.background, "%s", o->background);
    snprintf(e.low_pass_space, sizeof e.low_pass_space, "%s", o->low_pass_space);
    return e;
}

int make_write_recipe(make_job *j, tn_err *err) {
    const make_options *o = &j->o;
    meta_recipe *r = &j->now;
    *r = (meta_recipe){.steps = o->steps,
                       .seed = o->seed,
                       .width = o->width,
                       .height = o->height,
                       .guidance = o->guidance,
                       .eta = o->eta,
                       .rules = prompt_rules(j->o.tokenizer_mode)};
    snprintf(r->sampler, sizeof r->sampler, "%s", o->sampler);
    if (o->common.conv && strcmp(o->common.conv, "auto") != 0) snprintf(r->conv, sizeof r->conv, "%s", o->common.conv);
    if (o->picture) r->edit = edit_recipe(j);
    if (meta_set(&r->negative, o->negative, strlen(o->negative), err)) return -1;
    if (model_name(o->model, &r->model, err) || nn_model_fingerprint(j->model, r->model_sha256, err)) return -1;
    for (int i = 0; i < j->words.n; i++) {
        if (meta_add_word(r, j->words.w[i].token, j->words.w[i].sha256, err)) return -1;
    }
    return 0;
}

/* ---- one beside the other ---- */

/* Whether one of two hashes, either of which may be cut short, begins the other. */
static bool same_hash(const char *a, const char *b) {
    size_t n = strlen(a) < strlen(b) ? strlen(a) : strlen(b);
    return strncmp(a, b, n) == 0;
}

static void compare_words(const make_job *j) {
    const meta_recipe *a = &j->made, *b = &j->now;
    for (int i = 0; i < a->nwords; i++) {
        int k = 0;
        while (k < b->nwords && strcmp(a->word[i].token, b->word[k].token) != 0) k++;
        if (k == b->nwords) {
            opt_warn("%s was made with the learned word %s: give its file with --embedding", j->o.from_image,
                     a->word[i].token);
        } else if (!same_hash(a->word[i].sha256, b->word[k].sha256)) {
            opt_warn("%s was made with another file of the word %s: the picture will differ", j->o.from_image,
                     a->word[i].token);
        }
    }
}

void make_compare_recipes(const make_job *j) {
    const meta_recipe *a = &j->made, *b = &j->now;
    if (a->model_sha256[0] && !same_hash(a->model_sha256, b->model_sha256)) {
        opt_warn("%s was made with another model (%s %.10s, this is %s %.10s): the picture will differ",
                 j->o.from_image, a->model ? a->model : "?", a->model_sha256, b->model, b->model_sha256);
    }
    compare_words(j);
    make_compare_guide(j);
    if (a->edit.picture_sha256[0] && j->o.picture && strcmp(a->edit.picture_sha256, b->edit.picture_sha256) != 0)
        opt_warn("%s was made from another picture than %s: it will differ", j->o.from_image, j->o.picture);
    if (a->edit.mask_sha256[0] && j->o.mask && strcmp(a->edit.mask_sha256, b->edit.mask_sha256) != 0)
        opt_warn("%s was made with another mask than %s: the picture will differ", j->o.from_image, j->o.mask);
}
