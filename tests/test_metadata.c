/* The recipe in a picture: what was written is what is read, in both texts; what cannot be meant is refused by name. */
#include "tests/test.h"
#include "tools/metadata.h"

#include <stdlib.h>
#include <string.h>

static void fill(meta_recipe *r) {
    static const char prompt[] = "a \"photo\" of <my, cat>\nin \xc3\xa9t\xc3\xa9", negative[] = "blurry: yes",
                      model[] = "a:b, c";
    *r = (meta_recipe){.steps = 25,
                       .seed = 7,
                       .width = 64,
                       .height = 128,
                       .sampler = "ddpm",
                       .guidance = 7.5,
                       .eta = 0.25,
                       .conv = "direct",
                       .rules = NN_RULES_OPENAI,
                       .model_sha256 = "0123456789ab",
                       .latent_sha256 = "fe"};
    meta_set(&r->prompt, prompt, sizeof prompt - 1, NULL), meta_set(&r->negative, negative, sizeof negative - 1, NULL);
    meta_set(&r->model, model, sizeof model - 1, NULL);
    meta_add_word(r, "<my, cat>", "00ff00ff00ff00", NULL), meta_add_word(r, "*", "ab", NULL);
}

/* What both texts hold. */
static void check_common(test_state *t, const meta_recipe *a, const meta_recipe *b) {
    CHECK(t, strcmp(a->prompt, b->prompt) == 0 && strcmp(a->negative, b->negative) == 0 &&
                 strcmp(a->model, b->model) == 0);
    CHECK(t, a->steps == b->steps && a->seed == b->seed && a->width == b->width && a->height == b->height);
    CHECK(t, strcmp(a->sampler, b->sampler) == 0 && a->guidance == b->guidance && a->eta == b->eta);
    CHECK(t, strncmp(a->model_sha256, b->model_sha256, 10) == 0 && a->nwords == b->nwords);
}

static void round_trip(test_state *t) {
    meta_recipe made, json = {0}, text = {0};
    nn_text texts[2];
    fill(&made);
    CHECK(t, meta_texts(&made, texts, NULL) == 0);
    CHECK(t, meta_parse_json(texts[1].value, "x.png", &json, NULL) == 0);
    check_common(t, &made, &json);
    CHECK(t,
          json.rules == NN_RULES_OPENAI && strcmp(json.conv, "direct") == 0 && strcmp(json.latent_sha256, "fe") == 0);
    for (int i = 0; i < 2 && json.nwords == 2; i++)
        CHECK(t, strcmp(json.word[i].token, made.word[i].token) == 0 &&
                     strcmp(json.word[i].sha256, made.word[i].sha256) == 0);
    made.word[0].token[3] = '-'; /* a comma in a token is more than `parameters` can say */
    nn_text again[2];
    CHECK(t, meta_texts(&made, again, NULL) == 0);
    CHECK(t, meta_parse_parameters(again[0].value, "x.png", &text, NULL) == 0);
    check_common(t, &made, &text);
    for (int i = 0; i < 2; i++) free(texts[i].value), free(again[i].value);
    meta_free(&made), meta_free(&json), meta_free(&text);
}

static void refused(test_state *t) {
    static const struct {
        const char *json, *message;
    } c[] = {
        {"{\"tokenizer_mode\": \"laion\"}", "tokenizer_mode: expected \"hf\" or \"openai\""},
        {"{\"tokenizer_mode\": \"\"}", "tokenizer_mode"},
        {"{\"tokenizer_mode\": 1}", "tokenizer_mode"},
        {"{\"steps\": -1}", "steps: expected a whole number"},
        {"{\"seed\": 1.5}", "seed"},
        {"{\"cfg_scale\": \"7\"}", "cfg_scale: expected a number"},
        {"{\"sampler\": \"a name that is longer than any sampler has\"}", "sampler"},
        {"{\"prompt\": [\"cat\"]}", "prompt: expected a text"},
        {"{\"embeddings\": [{\"token\": \"<cat>\"}]}", "embeddings"},
        {"{\"edit\": 3}", "edit: expected an object"},
        {"{\"edit\": {\"picture_sha256\": \"ab\", \"invert_mask\": 1}}", "invert_mask: expected true or false"},
        {"{\"clip_guidance\": {\"scale\": null}}", "scale"},
        {"{\"steps\": 3", "the recipe in it"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        meta_recipe r = {0};
        tn_err err = {0};
        CHECKF(t, meta_parse_json(c[i].json, "x.png", &r, &err) < 0, "%s: expected an error", c[i].json);
        CHECKF(t, strstr(err.msg, "x.png") && strstr(err.msg, c[i].message), "%s: expected \"%s\", got \"%s\"",
               c[i].json, c[i].message, err.msg);
        meta_free(&r);
    }
}

/* As the web UI and other programs write it. */
static void foreign(test_state *t) {
    meta_recipe r = {0};
    tn_err err = {0};
    const char *text =
        "cat, sitting\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x768, "
        "Model: \"a, b\", Clip skip: 1";
    CHECK(t, meta_parse_parameters(text, "x.png", &r, &err) == 0);
    CHECK(t,
          strcmp(r.prompt, "cat, sitting") == 0 && strcmp(r.negative, "dog") == 0 && strcmp(r.sampler, "Euler a") == 0);
    CHECK(t, r.steps == 20 && r.seed == 42 && r.width == 512 && r.height == 768 && strcmp(r.model, "a, b") == 0);
    CHECK(t, meta_parse_parameters("cat", "x.png", &r, &err) < 0 && strstr(err.msg, "Steps:"));
    CHECK(t, meta_parse_parameters("cat\nSteps: many", "x.png", &r, &err) < 0 &&
                 strstr(err.msg, "Steps: expected a number"));
    CHECK(t, meta_parse_parameters("cat\nSteps: 2, Size: 8", "x.png", &r, &err) < 0 && strstr(err.msg, "WIDTHxHEIGHT"));
    meta_free(&r);
}

void test_main(test_state *t) {
    if (test_section(t, "round trip")) round_trip(t);
    if (test_section(t, "refused")) refused(t);
    if (test_section(t, "foreign")) foreign(t);
}
