/* Ids against the reference tokenizers, and files and prompts that are not as they should be. */
#include "nn/text/tokenizer.h"
#include "tensor/io/json.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reference ids ---- */

static nn_tokenizer *open_tokenizer(test_state *t, const char *dir) {
    tn_err err = {0};
    nn_tokenizer *tok = NULL;
    if (nn_tokenizer_load(dir, &tok, &err)) {
        printf("%s\n", err.msg); /* nothing below can run without it */
        abort();
    }
    CHECK(t, tok != NULL);
    return tok;
}

/* Whether text encodes, at most 77 long, to the n wanted ids followed by padding. */
static bool encodes_to(const nn_tokenizer *tok, const char *text, size_t len, nn_tokenizer_rules rules,
                       const int32_t *want, size_t n) {
    nn_tokens got;
    if (nn_tokenizer_encode(tok, text, len, rules, 77, &got, NULL)) return false;
    bool ok = (size_t)got.n_real == n && !memcmp(got.ids, want, n * sizeof *want);
    for (int i = got.n_real; i < 77; i++) ok = ok && got.ids[i] == nn_tokenizer_get_facts(tok).pad;
    nn_tokens_free(&got);
    return ok;
}

static void check_ids(test_state *t, const nn_tokenizer *tok, const char *text, size_t len, nn_tokenizer_rules rules,
                      const tn_jval *list) {
    int32_t want[77];
    size_t n = 0;
    for (const tn_jval *v = list->child; v && n < 77; v = v->next) want[n++] = (int32_t)v->integer;
    CHECKF(t, encodes_to(tok, text, len, rules, want, n), "%s ids of '%s'", rules == NN_RULES_HF ? "hf" : "openai",
           text);
}

/* Our JSON refuses NUL in strings and one golden text holds one: it is read as U+E000 and put back. */
static size_t restore_nul(char *s) {
    size_t k = 0;
    for (size_t i = 0; s[i]; i++) {
        bool nul = !strncmp(s + i, "\xee\x80\x80", 3);
        s[k++] = nul ? '\0' : s[i];
        i += nul ? 2 : 0;
    }
    return k;
}

static int golden_file(test_state *t, const char *path, const nn_tokenizer *tok) {
    size_t len;
    unsigned char *file = test_read(path, &len);
    if (!CHECKF(t, file != NULL, "%s is missing", path)) return 0;
    file[len] = '\0';
    int lines = 0;
    for (char *line = strtok((char *)file, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        for (char *z; (z = strstr(line, "\\u0000")) != NULL;) memcpy(z, "\\ue000", 6);
        tn_json *doc;
        tn_err err;
        if (!CHECKF(t, !tn_json_parse(line, strlen(line), 0, &doc, &err), "line %d: %s", lines + 1, err.msg)) continue;
        const tn_jval *root = tn_json_root(doc), *ids = tn_json_get(root, "ids");
        const tn_jval *text = tn_json_get(root, "text");
        char *copy = malloc(text->length + 1);
        if (!copy) abort();
        memcpy(copy, text->string, text->length + 1);
        size_t n = restore_nul(copy);
        if (ids) check_ids(t, tok, copy, n, NN_RULES_OPENAI, ids);
        check_ids(t, tok, copy, n, NN_RULES_HF, tn_json_get(root, "ids_hf"));
        free(copy);
        tn_json_free(doc);
    }
    free(file);
    return lines;
}

static void goldens(test_state *t) {
    nn_tokenizer *tiny = open_tokenizer(t, test_data("golden/tokenizer/tiny"));
    CHECK(t, golden_file(t, test_data("golden/tokenizer/tiny.jsonl"), tiny) == 280);
    nn_tokenizer *clip = open_tokenizer(t, test_data("clip-vocab"));
    CHECK(t, golden_file(t, test_data("golden/tokenizer/clip.jsonl"), clip) == 280);
    nn_tokenizer_facts f = nn_tokenizer_get_facts(clip);
    CHECK(t, f.bos == 49406 && f.eos == 49407 && f.pad == 49407 && f.unk == 49407 && f.size == 49408 &&
                 f.max_length == 77);
    CHECK(t, nn_tokenizer_word(clip, "cat") == 2368 && nn_tokenizer_word(clip, "Cat") == 2368);
    CHECK(t, nn_tokenizer_word(clip, "cat dog") == -1 && nn_tokenizer_word(clip, "") == -1);
    CHECK(t, !strcmp(nn_tokenizer_text(clip, 2368), "cat</w>") && !nn_tokenizer_text(clip, 49408) &&
                 !nn_tokenizer_text(clip, -1));
    nn_tokenizer_free(clip);
    nn_tokenizer_free(tiny);
}

/* ---- a folder of files that a test may change ---- */

static char *slurp(const char *path) {
    size_t len;
    unsigned char *data = test_read(path, &len);
    if (!data) abort();
    data[len] = '\0';
    return (char *)data;
}

static void put(const char *dir, const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    test_write(path, text, strlen(text));
}

/* The tiny tokenizer in a fresh folder. */
static const char *copy_tiny(void) {
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"};
    const char *dir = test_tmp("tokenizer");
    for (size_t i = 0; i < 4; i++) {
        char from[200];
        snprintf(from, sizeof from, "golden/tokenizer/tiny/%s", names[i]);
        char *text = slurp(test_data(from));
        put(dir, names[i], text);
        free(text);
    }
    return dir;
}

/* text with the first `from` replaced by `to`; the caller frees. */
static char *edited(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    if (!at) abort();
    size_t n = strlen(text) + strlen(to) + 1;
    char *out = malloc(n);
    if (!out) abort();
    snprintf(out, n, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void expect_refused(test_state *t, const char *dir, const char *why, const char *part) {
    tn_err err = {0};
    nn_tokenizer *tok = NULL;
    bool refused = nn_tokenizer_load(dir, &tok, &err) != 0;
    CHECKF(t, refused && !tok, "%s: must be refused", why);
    CHECKF(t, !refused || strstr(err.msg, part), "%s: expected '%s' in '%s'", why, part, err.msg);
    nn_tokenizer_free(tok);
}

/* One edit of one file of the tiny tokenizer, which must be refused with a message that has `part`. */
static void refuse_edit(test_state *t, const char *name, const char *from, const char *to, const char *part) {
    const char *dir = copy_tiny();
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    char *text = slurp(path), *bad = edited(text, from, to);
    put(dir, name, bad);
    expect_refused(t, dir, to, part);
    free(bad);
    free(text);
}

static void bad_files(test_state *t) {
    refuse_edit(t, "merges.txt", "in g</w>\n", "ing</w>\n", "merges.txt:3: expected two symbols");
    refuse_edit(t, "merges.txt", "in g</w>\n", "i n g</w>\n", "merges.txt:3: expected two symbols");
    refuse_edit(t, "merges.txt", "in g</w>\n", "in  g</w>\n", "merges.txt:3: expected two symbols");
    refuse_edit(t, "merges.txt", "in g</w>\n", "\n", "merges.txt:3: expected two symbols");
    refuse_edit(t, "merges.txt", "in g</w>\n", "i n\n", "merges.txt:3: the merge 'i n' appears twice");
    refuse_edit(t, "merges.txt", "in g</w>\n", "in gggg\n", "merges.txt:3: 'gggg' is not in the vocabulary");
    refuse_edit(t, "merges.txt", "in g</w>\n", "in g</w>\nQ Q\n", "merges.txt:4: 'QQ' is not in the vocabulary");
    refuse_edit(t, "merges.txt", "#version: 0.2\n", "", "merges.txt:1: expected the header");
    refuse_edit(t, "merges.txt", "in g</w>\n", "", "never make token 513 'ing</w>'");
    refuse_edit(t, "vocab.json", "\"#\": 2", "\"#\": 1", "have the same id 1");
    refuse_edit(t, "vocab.json", "\"#\": 2", "\"#\": -2", "the id of token '#'");
    refuse_edit(t, "vocab.json", "\"#\": 2", "\"#\": 1000", "the id of token '#'");
    refuse_edit(t, "vocab.json", "\"#\": 2", "\"#\": 2.5", "the id of token '#'");
    refuse_edit(t, "vocab.json", "\"#\": 2", "\"#\": \"2\"", "the id of token '#'");
    refuse_edit(t, "vocab.json", "\"#\": 2", "\"!\": 2", "vocab.json");
    refuse_edit(t, "special_tokens_map.json", "\"pad_token\": \"<|endoftext|>\"", "\"pad_token\": \"[PAD]\"",
                "pad_token '[PAD]'");
    refuse_edit(t, "tokenizer_config.json", "CLIPTokenizer", "GPT2Tokenizer", "GPT2Tokenizer");
    refuse_edit(t, "tokenizer_config.json", "77", "1", "model_max_length");
    static const char *const empty[] = {"", "{}", "[]", "null", "{\"a\":"};
    for (size_t i = 0; i < 5; i++) {
        const char *dir = copy_tiny();
        put(dir, "vocab.json", empty[i]);
        expect_refused(t, dir, "vocab.json of nothing", "vocab.json");
        dir = copy_tiny();
        put(dir, "merges.txt", empty[i]);
        expect_refused(t, dir, "merges.txt of nothing", "merges.txt:1");
    }
    const char *dir = copy_tiny();
    char path[600];
    snprintf(path, sizeof path, "%s/merges.txt", dir);
    test_write(path, "#version: 0.2\ni n\0in g", 20);
    expect_refused(t, dir, "NUL in merges", "NUL byte");
    expect_refused(t, test_tmp("tokenizer"), "an empty folder", "expected a tokenizer");
    dir = copy_tiny();
    put(dir, "added_tokens.json", "{\"<a>\": 1000, \"<b>\": 1002}");
    expect_refused(t, dir, "a gap in added ids", "'<b>': expected id 1001");
    put(dir, "added_tokens.json", "{\"cat\": 1000, \"in\": 1001}");
    expect_refused(t, dir, "an added token of the vocabulary", "'in': expected id");
    put(dir, "added_tokens.json", "{\"<a>\": \"x\"}");
    expect_refused(t, dir, "an added token without id", "expected a text and an id");
}

/* Layouts that differ but say the same. */
static void layouts(test_state *t) {
    const char *dir = copy_tiny();
    char path[600];
    snprintf(path, sizeof path, "%s/merges.txt", dir);
    char *merges = slurp(path);
    size_t n = strlen(merges);
    char *other = malloc(40 * n + 100);
    if (!other) abort();
    size_t k = 0; /* with CR LF and blank lines at the end */
    for (size_t i = 0; i < n; i++) {
        if (merges[i] == '\n') other[k++] = '\r';
        other[k++] = merges[i];
    }
    snprintf(other + k, 100, "\r\n\r\n");
    put(dir, "merges.txt", other);
    nn_tokenizer *tok = open_tokenizer(t, dir);
    CHECK(t, golden_file(t, test_data("golden/tokenizer/tiny.jsonl"), tok) == 280);
    nn_tokenizer_free(tok);

    /* The same vocabulary as tokenizer.json, merges as strings and pairs by turns. */
    dir = copy_tiny();
    snprintf(path, sizeof path, "%s/vocab.json", dir);
    char *vocab = slurp(path);
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '[');
    int row = 0;
    strtok(merges, "\n");
    for (char *line; (line = strtok(NULL, "\n")) != NULL; row++) {
        if (row & 1) {
            tn_jw_string(&w, NULL, line);
            continue;
        }
        char *space = strchr(line, ' ');
        *space = '\0';
        tn_jw_open(&w, NULL, '[');
        tn_jw_string(&w, NULL, line);
        tn_jw_string(&w, NULL, space + 1);
        tn_jw_close(&w, ']');
    }
    tn_jw_close(&w, ']');
    char *list = tn_jw_take(&w);
    size_t cap = strlen(vocab) + strlen(list) + 400;
    char *single = malloc(cap);
    if (!single || !list) abort();
    snprintf(single, cap,
             "{\"added_tokens\": [{\"id\": 998, \"content\": \"<|startoftext|>\"}, {\"id\": 1000, \"content\": "
             "\"<dog-toy>\"}], "
             "\"model\": {\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\", \"vocab\": %s, \"merges\": %s}}",
             vocab, list);
    dir = test_tmp("tokenizer");
    put(dir, "tokenizer.json", single);
    tok = open_tokenizer(t, dir);
    CHECK(t, golden_file(t, test_data("golden/tokenizer/tiny.jsonl"), tok) == 280);
    CHECK(t, nn_tokenizer_word(tok, "<dog-toy>") == 1000 && nn_tokenizer_get_facts(tok).max_length == 0);
    nn_tokenizer_free(tok);
    free(single);
    free(list);
    free(vocab);
    free(other);
    free(merges);
}

static void special_tokens(test_state *t) {
    const char *dir = copy_tiny();
    put(dir, "special_tokens_map.json", "{\"pad_token\": \"!\"}");
    put(dir, "tokenizer_config.json",
        "{\"pad_token\": \"<|endoftext|>\", \"model_max_length\": 1000000000000000019884624838656}");
    nn_tokenizer *tok = open_tokenizer(t, dir);
    nn_tokenizer_facts f = nn_tokenizer_get_facts(tok);
    CHECKF(t, f.pad == 0 && f.max_length == 0, "padding %d, max length %d", (int)f.pad, f.max_length);
    /* The padding token is cut out like every special token, so it is not "!</w>" (256); openai's rules know none of
     * that. */
    static const int32_t hf[] = {998, 320, 0, 999}, openai[] = {998, 320, 256, 999};
    CHECK(t, encodes_to(tok, "a!", 2, NN_RULES_HF, hf, 4));
    CHECK(t, encodes_to(tok, "a!", 2, NN_RULES_OPENAI, openai, 4));
    nn_tokenizer_free(tok);

    dir = copy_tiny();
    put(dir, "added_tokens.json",
        "{\"<cat-toy>_1\": 1001, \"<cat-toy>\": 1000, \"sks2\": 1003, \"<cat-toy>_2\": 1002}");
    tok = open_tokenizer(t, dir);
    CHECK(t, golden_file(t, test_data("golden/tokenizer/tiny_added_tokens.jsonl"), tok) == 16);
    nn_tokenizer_free(tok);
}

/* ---- placeholders ---- */

static void expect_no_add(test_state *t, nn_tokenizer *tok, const char *name, int n, const char *part) {
    tn_err err = {0};
    int32_t id = -7;
    int size = nn_tokenizer_get_facts(tok).size;
    bool refused = nn_tokenizer_add(tok, name, n, &id, &err) != 0;
    CHECKF(t, refused && id == -7 && err.code == TN_EUSAGE, "'%s' must be refused", name);
    CHECKF(t, !refused || strstr(err.msg, part), "'%s': expected '%s' in '%s'", name, part, err.msg);
    CHECKF(t, nn_tokenizer_get_facts(tok).size == size, "'%s' left something behind", name);
}

static void placeholders(test_state *t) {
    nn_tokenizer *tok = open_tokenizer(t, test_data("golden/tokenizer/tiny"));
    static const char *const one[] = {"<cat-toy>", "<cat-toy>_1", "<cat-toy>_2", "sks2"};
    for (int i = 0; i < 4; i++) {
        int32_t id;
        CHECK(t, !nn_tokenizer_add(tok, one[i], 1, &id, NULL) && id == 1000 + i);
    }
    static const int32_t glued[] = {998, 320, 1000, 1003, 999};
    CHECK(t, encodes_to(tok, "a<cat-toy>sks2", 14, NN_RULES_HF, glued, 5));
    CHECK(t, encodes_to(tok, "a<cat-toy>sks2", 14, NN_RULES_OPENAI, glued, 5));
    nn_tokenizer_free(tok);

    tok = open_tokenizer(t, test_data("golden/tokenizer/tiny"));
    int32_t toy = 0, cat = 0;
    CHECK(t, !nn_tokenizer_add(tok, "<cat-toy>", 3, &toy, NULL) && toy == 1000);
    /* A prefix of the other: the longest wins. */
    CHECK(t, !nn_tokenizer_add(tok, "<cat", 2, &cat, NULL) && cat == 1003);
    static const struct {
        const char *text;
        size_t n;
        int32_t ids[12];
    } cases[] = {
        {"a <cat-toy>", 6, {998, 320, 1000, 1001, 1002, 999}},
        {"<cat-toy> <cat-toy>_1 <cat-toy>_2", 5, {998, 1000, 1001, 1002, 999}},
        {"<cat-toy>\n<cat-toy>_1", 4, {998, 1000, 1001, 999}},
        {"<cat-toy>_2", 3, {998, 1002, 999}},
        {"<cat-toy><cat-toy>", 8, {998, 1000, 1001, 1002, 1000, 1001, 1002, 999}},
        {"<cat <cat-toy>", 7, {998, 1003, 1004, 1000, 1001, 1002, 999}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECKF(t, encodes_to(tok, cases[i].text, strlen(cases[i].text), NN_RULES_HF, cases[i].ids, cases[i].n), "%s",
               cases[i].text);
    }
    CHECK(t, !strcmp(nn_tokenizer_text(tok, 1002), "<cat-toy>_2"));
    nn_tokenizer_facts f = nn_tokenizer_get_facts(tok);
    CHECK(t, f.size == 1005 && f.file_size == 1000);

    expect_no_add(t, tok, "<cat-toy>", 1, "in use");
    expect_no_add(t, tok, "<cat-toy>_2", 1, "in use");
    expect_no_add(t, tok, "photo", 1, "a word that the vocabulary has");
    expect_no_add(t, tok, "Photo", 1, "a word that the vocabulary has");
    expect_no_add(t, tok, "*", 1, "in use");
    expect_no_add(t, tok, "", 1, "empty");
    expect_no_add(t, tok, "<a b>", 1, "white space");
    expect_no_add(t, tok, "<a\xc2\xa0z>", 1, "white space");
    expect_no_add(t, tok, "<a\x01>", 1, "white space or control");
    expect_no_add(t, tok, "<a\xff>", 1, "not UTF-8");
    expect_no_add(t, tok, "<x>", 0, "expected 1 to");
    expect_no_add(t, tok, "<x>", 1 << 30, "expected 1 to");
    int32_t id;
    CHECK(t, !nn_tokenizer_add(tok, "<y>_3", 1, &id, NULL));
    expect_no_add(t, tok, "<y>", 5, "'<y>_3'");
    CHECK(t, !nn_tokenizer_add(tok, "<z>", 200, &id, NULL));
    expect_no_add(t, tok, "<z>_199", 1, "in use");
    nn_tokenizer_free(tok);
}

/* ---- what encode tells besides ids ---- */

static void truncation(test_state *t) {
    nn_tokenizer *tok = open_tokenizer(t, test_data("golden/tokenizer/tiny"));
    int32_t id;
    tn_err err = {0};
    nn_tokens got = {0};
    CHECK(t, !nn_tokenizer_add(tok, "<x>", 3, &id, NULL));
    const char *fits = "a a a a a <x>", *cut = "a a a a a a <x>", *after = "a <x> a a a a a a a";
    CHECK(t, !nn_tokenizer_encode(tok, fits, strlen(fits), NN_RULES_HF, 10, &got, &err));
    CHECK(t, got.length == 10 && got.n_real == 10 && got.n_total == 10 && got.ids[8] == id + 2 && got.ids[9] == 999);
    nn_tokens_free(&got);
    CHECK(t,
          nn_tokenizer_encode(tok, cut, strlen(cut), NN_RULES_HF, 10, &got, &err) && err.code == TN_EUSAGE && !got.ids);
    CHECKF(t, strstr(err.msg, "'<x>_2' would be cut off") && strstr(err.msg, "11 tokens"), "%s", err.msg);
    CHECK(t, !nn_tokenizer_encode(tok, after, strlen(after), NN_RULES_HF, 10, &got, &err));
    CHECK(t, got.n_real == 10 && got.n_total == 13 && got.ids[9] == 999 && !got.cut);
    nn_tokens_free(&got);
    CHECK(t, !nn_tokenizer_encode(tok, "a", 1, NN_RULES_HF, 2, &got, &err) && got.ids[0] == 998 && got.ids[1] == 999);
    nn_tokens_free(&got);
    nn_tokenizer_free(tok);

    const char *dir = copy_tiny();
    put(dir, "added_tokens.json", "{\"<x>\": 1000}");
    tok = open_tokenizer(t, dir);
    CHECK(t, !nn_tokenizer_encode(tok, "a a <x>", 7, NN_RULES_HF, 4, &got, &err) && got.cut && !strcmp(got.cut, "<x>"));
    nn_tokens_free(&got);
    nn_tokenizer_free(tok);
}

static void remarks(test_state *t) {
    nn_tokenizer *tok = open_tokenizer(t, test_data("golden/tokenizer/tiny"));
    int32_t id;
    nn_tokens got;
    CHECK(t, !nn_tokenizer_add(tok, "<cat-toy>", 2, &id, NULL));
    const char *text = "a photo of <Cat-Toy> qux";
    if (!CHECK(t, !nn_tokenizer_encode(tok, text, strlen(text), NN_RULES_HF, 77, &got, NULL))) return;
    CHECK(t, got.near_miss && !strcmp(got.near_miss, "<Cat-Toy>") && !strcmp(got.near_miss_of, "<cat-toy>"));
    bool qux = false, photo = false;
    for (int i = 0; i < got.n_split; i++) {
        qux |= !strcmp(got.split[i].text, "qux") && got.split[i].n_tokens >= 2 && got.split[i].bare_byte;
        photo |= !strcmp(got.split[i].text, "a");
    }
    CHECK(t, qux && !photo);
    nn_tokens_free(&got);
    CHECK(t,
          !nn_tokenizer_encode(tok, "a <cat-toy>", 11, NN_RULES_HF, 77, &got, NULL) && !got.near_miss && !got.n_split);
    nn_tokens_free(&got);
    nn_tokenizer_free(tok);
}

/* ---- any bytes ---- */

/* Encodes, or is refused because a learned vector would be cut off. */
static bool survives(const nn_tokenizer *tok, const char *text, size_t len) {
    int size = nn_tokenizer_get_facts(tok).size;
    bool ok = true;
    for (int rules = 0; rules < 2; rules++) {
        nn_tokens got;
        tn_err err = {0};
        if (nn_tokenizer_encode(tok, text, len, rules ? NN_RULES_OPENAI : NN_RULES_HF, 77, &got, &err)) {
            ok = ok && err.code == TN_EUSAGE;
            continue;
        }
        for (int i = 0; i < 77; i++) ok = ok && got.ids[i] >= 0 && got.ids[i] < size;
        ok = ok && got.ids[0] == 998 && got.ids[got.n_real - 1] == 999;
        nn_tokens_free(&got);
    }
    return ok;
}

static void any_bytes(test_state *t) {
    nn_tokenizer *tok = open_tokenizer(t, test_data("golden/tokenizer/tiny"));
    int32_t id;
    CHECK(t, !nn_tokenizer_add(tok, "<\xce\xa3>", 2, &id, NULL));
    static const char *const bits[] = {"<\xce\xa3>",
                                       "&amp",
                                       "&#x",
                                       "\xcc\x81",
                                       "\xcd\x85",
                                       "\xc4\xb0",
                                       "\xce\xa3",
                                       "'s",
                                       "\xe1\x84\x80\xe1\x85\xa1",
                                       "<|endoftext|>",
                                       "\xe4\xb8\xad",
                                       "\xf0\x9f",
                                       "\xff",
                                       " ",
                                       "a",
                                       "7",
                                       "\xe2\x80\x8d",
                                       "&notit"};
    uint64_t seed = 11;
    bool ok = true;
    for (int round = 0; round < 3000; round++) {
        char text[400];
        size_t n = 0, pieces = (size_t)(20.0f * (test_rand(&seed) + 1.0f));
        for (size_t i = 0; i < pieces && n < 360; i++) {
            float r = test_rand(&seed);
            if (r < 0) {
                text[n++] = (char)(int)(127.0f * test_rand(&seed));
            } else {
                const char *b = bits[(size_t)(r * 17.99f)];
                memcpy(text + n, b, strlen(b));
                n += strlen(b);
            }
        }
        ok = ok && survives(tok, text, n);
    }
    CHECK(t, ok);
    /* A megabyte of one kind each: nothing may take longer than it takes to read it a few times. */
    static const char *const kinds[] = {
        "a", "in", "!", "\xcc\x81\xcc\xa3", "&", "&#", "<", "\xce\xa3'", "\xe4\xb8\xad", " ", "\xff", "&notit"};
    size_t len = 1 << 20;
    char *big = malloc(len);
    if (!big) abort();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t unit = strlen(kinds[k]);
        for (size_t i = 0; i < len; i++) big[i] = kinds[k][i % unit];
        CHECKF(t, survives(tok, big, len), "a megabyte of '%s'", kinds[k]);
    }
    for (size_t i = 0; i < len; i++) big[i] = (char)('a' + (int)(13.0f * (test_rand(&seed) + 1.0f)) % 26);
    CHECK(t, survives(tok, big, len));
    free(big);
    nn_tokenizer_free(tok);
}

void test_main(test_state *t) {
    if (test_section(t, "goldens")) goldens(t);
    if (test_section(t, "layouts")) layouts(t);
    if (test_section(t, "special")) special_tokens(t);
    if (test_section(t, "bad_files")) bad_files(t);
    if (test_section(t, "placeholders")) placeholders(t);
    if (test_section(t, "truncation")) truncation(t);
    if (test_section(t, "remarks")) remarks(t);
    if (test_section(t, "any_bytes")) any_bytes(t);
}
