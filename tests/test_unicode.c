/* What comes before the tokens: Unicode tables against Python's, UTF-8, and a text split into words. */
#include "nn/text/clean.h"
#include "nn/text/unicode.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Unicode ---- */

/* Reads hexadecimal code points up to ';', the end of the line or the end of the text. */
static size_t read_points(const char **p, uint32_t *out, size_t cap) {
    size_t n = 0;
    for (;;) {
        while (**p == ' ') (*p)++;
        if (**p == ';' || **p == '\n' || **p == '\0' || n == cap) return n;
        char *end;
        out[n++] = (uint32_t)strtoul(*p, &end, 16);
        *p = end;
    }
}

static size_t apply(const char *op, uint32_t *s, size_t n, uint32_t *out) {
    uint32_t work[512];
    if (!strncmp(op, "nfc", 3)) return nn_uni_nfc(s, n, out, work);
    if (!strncmp(op, "lower", 5)) return nn_uni_lower(s, n, out);
    n = nn_html_unescape(s, n);
    memcpy(out, s, n * sizeof *s);
    return n;
}

static uint64_t hash_of(const char *what) {
    uint64_t h = 0xcbf29ce484222325u;
    for (uint32_t c = 0; c < 0x110000; c++) {
        uint32_t out[4] = {nn_uni_flags(c)}, work[4];
        size_t n = 1;
        if (!strncmp(what, "lower", 5)) n = nn_uni_lower(&c, 1, out);
        if (!strncmp(what, "nfc", 3)) n = nn_uni_nfc(&c, 1, out, work);
        for (size_t i = 0; i < n; i++) h = (h ^ out[i]) * 0x100000001b3u;
    }
    return h;
}

/* testdata/unicode/cases.txt, which tests/gen_unicode.py wrote from Python's answers. */
static void unicode_cases(test_state *t) {
    size_t len;
    unsigned char *file = test_read(test_data("unicode/cases.txt"), &len);
    if (!CHECK(t, file != NULL)) return;
    file[len] = '\0';
    int cases = 0;
    for (const char *line = (char *)file; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (*line == '#') continue;
        uint32_t in[128], want[128], got[512];
        const char *p = line + strcspn(line, " ");
        size_t n = read_points(&p, in, 128);
        p += *p == ';';
        size_t n_want = read_points(&p, want, 128);
        cases++;
        if (!strncmp(line, "hash-", 5)) {
            CHECKF(t, hash_of(line + 5) == ((uint64_t)want[0] << 32 | want[1]), "%.12s over all code points", line);
            continue;
        }
        size_t n_got = apply(line, in, n, got);
        CHECKF(t, n_got == n_want && !memcmp(got, want, n_got * sizeof *got), "%.*s", (int)strcspn(line, "\n"), line);
    }
    CHECKF(t, cases > 700, "%d cases", cases);
    free(file);
}

static void utf8(test_state *t) {
    /* input, count, code points as bytes.decode("utf-8", "replace") gives them */
    static const struct {
        const char *s;
        size_t n;
        uint32_t c[5];
    } cases[] = {
        {"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 4, {'a', 0xe9, 0x20ac, 0x1f600}},
        {"\x80", 1, {0xfffd}},
        {"\xc0\x80", 2, {0xfffd, 0xfffd}},
        {"\xe2\x82", 1, {0xfffd}},
        {"\xe2\x82(", 2, {0xfffd, '('}},
        {"\xed\xa0\x80", 3, {0xfffd, 0xfffd, 0xfffd}},
        {"\xf0\x80\x80\x80", 4, {0xfffd, 0xfffd, 0xfffd, 0xfffd}},
        {"\xf4\x90\x80", 3, {0xfffd, 0xfffd, 0xfffd}},
        {"\xf0\x9f\x98x", 2, {0xfffd, 'x'}},
        {"\xff\xf4\x8f\xbf\xbf", 2, {0xfffd, 0x10ffff}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[32];
        size_t n = nn_utf8_decode(cases[i].s, strlen(cases[i].s), out);
        CHECKF(t, n == cases[i].n && !memcmp(out, cases[i].c, n * sizeof *out), "utf-8 case %zu", i);
        CHECKF(t, nn_utf8_valid(cases[i].s, strlen(cases[i].s)) == (i == 0), "utf-8 case %zu is %s", i,
               i ? "invalid" : "valid");
    }
    for (uint32_t c = 0; c < 0x110000; c += 7) {
        char s[4];
        uint32_t back[4] = {0};
        size_t n = nn_utf8_encode(c, s);
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        if (!surrogate && (nn_utf8_decode(s, n, back) != 1 || back[0] != c))
            CHECKF(t, false, "U+%04X comes back", (unsigned)c);
    }
}

/* ---- words ---- */

/* Cleaned words of a text, each followed by a slash. */
static void words(test_state *t, nn_tokenizer_rules rules, const char *text, const char *want) {
    uint32_t *s;
    size_t n, pos = 0, start, len = 0;
    char got[600];
    if (!CHECK(t, !nn_clean(text, strlen(text), rules, &s, &n, NULL))) return;
    while (nn_next_word(s, n, &pos, &start)) {
        for (size_t i = start; i < pos; i++) len += nn_utf8_encode(s[i], got + len);
        got[len++] = '/';
    }
    got[len] = '\0';
    free(s);
    CHECKF(t, !strcmp(got, want), "words of '%s': expected '%s', got '%s'", text, want, got);
}

static void splitting(test_state *t) {
    words(t, NN_RULES_HF, "IT'S we'LL 'sup don't", "it/'s/we/'ll/'s/up/don/'t/");
    words(t, NN_RULES_HF, "!'s x12\xc2\xbd", "!'/s/x/1/2/\xc2\xbd/");
    words(t, NN_RULES_HF, "!<|ENDOFTEXT|> <|endoftext|>!", "!<|/endoftext/|>/<|endoftext|>/!/");
    /* The long s is an s to the regular expression; U+0345 is nothing to it. */
    words(t, NN_RULES_HF,
          "it'\xc5\xbf '\xc5\xbf"
          "at",
          "it/'\xc5\xbf/'\xc5\xbf/at/");
    words(t, NN_RULES_HF,
          "b\xcd\x85"
          "c!\xcd\x85!",
          "b/c/!/!/");
    /* The information separators are white space to strip() and to BERT, but not to \s. */
    words(t, NN_RULES_OPENAI, " \x1c a\x1c b\x1d ", "a/\x1c/b/");
    words(t, NN_RULES_HF,
          "a\x1c"
          "b\x0b"
          "c",
          "abc/");
    words(t, NN_RULES_OPENAI,
          "a\x0b"
          "b\xc2\x85"
          "c\x01",
          "a/b/c/\x01/");
    words(t, NN_RULES_HF,
          "\xe7\x8c\xab"
          "cat\xe7\x8c\xab",
          "\xe7\x8c\xab/cat/\xe7\x8c\xab/");
    words(t, NN_RULES_OPENAI,
          "\xe7\x8c\xab"
          "cat &amp;lt;",
          "\xe7\x8c\xab"
          "cat/</");
}

void test_main(test_state *t) {
    if (test_section(t, "unicode")) unicode_cases(t);
    if (test_section(t, "utf8")) utf8(t);
    if (test_section(t, "splitting")) splitting(t);
}
