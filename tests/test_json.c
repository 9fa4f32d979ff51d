/* JSON reader and writer, and the number parser (strtod is the oracle, here only). */
#include "tensor/io/json.h"
#include "tests/test.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tn_json *parse(const char *text, size_t len, int flags, tn_err *err) {
    tn_json *doc = NULL;
    err->code = TN_OK, err->msg[0] = '\0';
    /* An exact copy on the heap, so that a sanitizer sees a read past the end. */
    char *copy = malloc(len ? len : 1);
    if (!copy) abort();
    memcpy(copy, text, len);
    int status = tn_json_parse(copy, len, flags, &doc, err);
    free(copy);
    return status ? NULL : doc;
}

static void accepts(test_state *t, const char *text, int flags) {
    tn_err err;
    tn_json *doc = parse(text, strlen(text), flags, &err);
    CHECKF(t, doc != NULL, "refused: %.60s (%s)", text, err.msg);
    tn_json_free(doc);
}

static void refuses_bytes(test_state *t, const char *text, size_t len, int flags, const char *reason) {
    tn_err err;
    tn_json *doc = parse(text, len, flags, &err);
    CHECKF(t, !doc && err.code == TN_EINPUT, "accepted: %.60s", text);
    CHECKF(t, strstr(err.msg, reason) != NULL, "%.60s: message \"%s\" does not say \"%s\"", text, err.msg, reason);
    CHECKF(t, !strchr(err.msg, '\n'), "message of several lines: %s", err.msg);
    tn_json_free(doc);
}

static void refuses(test_state *t, const char *text, int flags, const char *reason) {
    refuses_bytes(t, text, strlen(text), flags, reason);
}

static void test_tree(test_state *t) {
    if (!test_section(t, "tree")) return;
    const char *text =
        " {\"a\": [1, -2.5e1, true, false, null, \"x\\u00e9\\ud83d\\ude00\\n\"], \"b\": {}, \"c\": []}\r\n";
    tn_err err;
    tn_json *doc = parse(text, strlen(text), 0, &err);
    if (!CHECKF(t, doc != NULL, "%s", err.msg)) return;
    const tn_jval *root = tn_json_root(doc), *a = tn_json_get(root, "a");
    CHECK(t, root->type == TN_JSON_OBJECT && root->length == 3 && !root->key);
    CHECK(t, a && a->type == TN_JSON_ARRAY && a->length == 6 && strcmp(a->key, "a") == 0);
    const tn_jval *v = a->child;
    CHECK(t, v->type == TN_JSON_NUMBER && v->is_int && v->integer == 1 && v->number == 1.0 && !v->key);
    v = v->next;
    CHECK(t, v->type == TN_JSON_NUMBER && !v->is_int && v->number == -25.0);
    v = v->next;
    CHECK(t, v->type == TN_JSON_BOOL && v->boolean);
    v = v->next;
    CHECK(t, v->type == TN_JSON_BOOL && !v->boolean);
    v = v->next;
    CHECK(t, v->type == TN_JSON_NULL);
    v = v->next;
    CHECK(t, v->type == TN_JSON_STRING && strcmp(v->string, "x\xc3\xa9\xf0\x9f\x98\x80\n") == 0 && v->length == 8 &&
                 !v->next);
    v = tn_json_get(root, "b");
    CHECK(t, v && v->type == TN_JSON_OBJECT && v->length == 0 && !v->child);
    v = tn_json_get(root, "c");
    CHECK(t, v && v->type == TN_JSON_ARRAY && v->length == 0 && !v->next);
    CHECK(t, !tn_json_get(root, "d") && !tn_json_get(NULL, "a") && !tn_json_get(a, "a"));
    tn_json_free(doc);
    tn_json_free(NULL);
}

static void test_grammar(test_state *t) {
    if (!test_section(t, "grammar")) return;
    static const char *const good[] = {"0",
                                       "-0",
                                       "1e5",
                                       "1E+5",
                                       "1.5e-3",
                                       "\"\"",
                                       "[]",
                                       "{}",
                                       " [ ] ",
                                       "null",
                                       "[[],[]]",
                                       "{\"\":0}",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u001F\"",
                                       "\t\r\n 1 \t\r\n",
                                       "\"\x7f\"",
                                       "1e-400",
                                       "0e999999999999999999999"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) accepts(t, good[i], 0);
    static const char *const bad[] = {
        "",        " ",         "+1",          ".5",         "1.",       "00",        "01",         "-",
        "-a",      "1e",        "1e+",         "1.e5",       "0x10",     "1 2",       "tru",        "True",
        "nul",     "[",         "]",           "[1",         "[1,",      "[1,]",      "[,1]",       "[1 2]",
        "{",       "}",         "{\"a\"",      "{\"a\":",    "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}",
        "{a:1}",   "{1:1}",     "{\"a\" 1}",   "{\"a\"::1}", "[1}",      "{\"a\":1]", "\"",         "\"\\",
        "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"a\nb\"",   "'a'",      "// x\n1",   "/**/1",      "[1]]",
        "1,",      "--1",       "- 1",         "\"a\"b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refuses(t, bad[i], 0, "byte");
    refuses(t, "{\"a\":1,\n \"b\" 2}", 0, "line 2, byte 13: expected ':' after the key, got '2'");
    refuses(t, "[1", 0, "byte 2: expected ',' or ']', got the end of the text");
    refuses_bytes(t, "[1]\0", 4, 0, "byte 0x00");
    refuses_bytes(t, "\"a\0b\"", 5, 0, "control character");
    for (size_t n = 0; n < 21; n++) refuses_bytes(t, "{\"a\":[\"\\u00e9\",1e+5]}", n, 0, "byte"); /* every truncation */
}

static void test_strings(test_state *t) {
    if (!test_section(t, "strings")) return;
    refuses(t, "\"\\ud800\"", 0, "surrogate");
    refuses(t, "\"\\udc00\"", 0, "surrogate");
    refuses(t, "\"\\ud800\\ud800\"", 0, "surrogate");
    refuses(t, "\"\\ud800x\"", 0, "surrogate");
    refuses(t, "\"\\u0000\"", 0, "u0000");
    static const char *const invalid[] = {"\"\x80\"",
                                          "\"\xc0\xaf\"",
                                          "\"\xc1\x81\"",
                                          "\"\xe0\x9f\xbf\"",
                                          "\"\xed\xa0\x80\"",
                                          "\"\xf0\x8f\xbf\xbf\"",
                                          "\"\xf4\x90\x80\x80\"",
                                          "\"\xf5\x80\x80\x80\"",
                                          "\"\xff\"",
                                          "\"\xc3\"",
                                          "\"\xe2\x82\"",
                                          "\"\xf0\x9f\x98\""};
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) refuses(t, invalid[i], 0, "UTF-8");
    accepts(t, "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"", 0);
    refuses(t, "\xef\xbb\xbf{}", 0, "0xef");
    accepts(t, "\xef\xbb\xbf{}", TN_JSON_PYTHON);
    refuses_bytes(t, "\xff\xfe{\0}\0", 6, TN_JSON_PYTHON, "UTF-16");
    refuses_bytes(t, "\xfe\xff\0{\0}", 6, 0, "UTF-16");
}

static void test_python(test_state *t) {
    if (!test_section(t, "python")) return;
    static const char *const words[] = {"NaN", "Infinity", "-Infinity", "[-Infinity]", "1e400", "-1e400"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        refuses(t, words[i], 0, "byte");
        accepts(t, words[i], TN_JSON_PYTHON);
    }
    refuses(t, "-NaN", TN_JSON_PYTHON, "digit");
    refuses(t, "Inf", TN_JSON_PYTHON, "value");
    tn_err err;
    tn_json *doc = parse("[NaN,Infinity,-Infinity,-1e999]", 31, TN_JSON_PYTHON, &err);
    if (!CHECK(t, doc != NULL)) return;
    const tn_jval *v = tn_json_root(doc)->child;
    CHECK(t, isnan(v->number));
    CHECK(t, v->next->number == HUGE_VAL && v->next->next->number == -HUGE_VAL &&
                 v->next->next->next->number == -HUGE_VAL);
    tn_json_free(doc);
}

static void test_duplicates(test_state *t) {
    if (!test_section(t, "duplicates")) return;
    refuses(t, "{\"a\":1,\"b\":2,\"a\":3}", 0, "duplicate key \"a\"");
    refuses(t, "{\"a\":1,\"\\u0061\":3}", 0, "duplicate key \"a\"");
    accepts(t, "[{\"a\":1},{\"a\":1}]", 0);
    const char *text = "{\"a\":1,\"b\":2,\"a\":[3,4],\"c\":5,\"c\":6}";
    tn_err err;
    tn_json *doc = parse(text, strlen(text), TN_JSON_LAST_WINS, &err);
    if (!CHECK(t, doc != NULL)) return;
    const tn_jval *root = tn_json_root(doc), *m = root->child;
    CHECK(t, root->length == 3 && strcmp(m->key, "a") == 0 && m->type == TN_JSON_ARRAY && m->child->next->integer == 4);
    CHECK(t, strcmp(m->next->key, "b") == 0 && strcmp(m->next->next->key, "c") == 0 && !m->next->next->next);
    CHECK(t, tn_json_get(root, "c")->integer == 6);
    tn_json_free(doc);
}

/* A vocabulary as large as CLIP's: every key found, duplicates found, order kept. Also objects replaced by large
 * objects. */
static void test_large(test_state *t) {
    if (!test_section(t, "large objects")) return;
    enum { N = 49408 };
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    char key[32];
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "tok\"%d</w>", i * 7);
        tn_jw_int(&w, key, i);
    }
    size_t before_last = w.len;
    tn_jw_int(&w, "tok\"0</w>", 1);
    tn_jw_close(&w, '}');
    char *text = tn_jw_take(&w);
    if (!CHECK(t, text != NULL)) return;
    tn_err err;
    refuses(t, text, 0, "duplicate key");
    tn_json *doc = parse(text, strlen(text), TN_JSON_LAST_WINS, &err);
    CHECK(t, doc && tn_json_root(doc)->length == N && tn_json_root(doc)->child->integer == 1);
    tn_json_free(doc);
    text[before_last] = '}', text[before_last + 1] = '\0';
    doc = parse(text, strlen(text), 0, &err);
    free(text);
    if (!CHECKF(t, doc != NULL, "%s", err.msg)) return;
    const tn_jval *root = tn_json_root(doc), *m = root->child;
    int wrong = 0;
    for (int i = 0; i < N; i++, m = m->next) {
        snprintf(key, sizeof key, "tok\"%d</w>", i * 7);
        const tn_jval *v = tn_json_get(root, key);
        wrong += v != m || v->integer != i;
        snprintf(key, sizeof key, "tok\"%d</w>", i * 7 + 1);
        wrong += tn_json_get(root, key) != NULL;
    }
    CHECKF(t, wrong == 0 && !m, "%d of %d keys wrong", wrong, N);
    tn_json_free(doc);
}

static void test_limits(test_state *t) {
    if (!test_section(t, "limits")) return;
    enum { DEEP = 100000, MANY = (1 << 22) + 1 };
    char *text = malloc(2 * MANY + 2);
    if (!text) abort();
    memset(text, '[', DEEP);
    refuses_bytes(t, text, DEEP, 0, "nested deeper than 64");
    memset(text, '[', 64), memset(text + 64, ']', 64);
    tn_err err;
    tn_json *doc = parse(text, 128, 0, &err);
    CHECK(t, doc != NULL);
    tn_json_free(doc);
    memset(text + 64, '[', 1), memset(text + 65, ']', 65);
    refuses_bytes(t, text, 130, 0, "nested deeper");
    for (size_t i = 0; i < MANY; i++) memcpy(text + 2 * i, ",0", 2);
    text[0] = '[', text[2 * (size_t)MANY] = ']';
    refuses_bytes(t, text, 2 * (size_t)MANY + 1, 0, "more than 4194304 values");
    free(text);
}

/* The same double as strtod, and refused exactly where strtod overflows. */
static void same_as_strtod(test_state *t, const char *text) {
    double want = strtod(text, NULL), got = 0.5;
    bool ok = tn_parse_double(text, strlen(text), &got);
    if (isinf(want))
        CHECKF(t, !ok, "%.40s: accepted", text);
    else
        CHECKF(t, ok && memcmp(&want, &got, sizeof got) == 0, "%.40s: expected %.17g, got %.17g", text, want, got);
}

static void test_doubles(test_state *t) {
    if (!test_section(t, "doubles")) return;
    static const char *const hard[] = {"0",
                                       "-0",
                                       "1",
                                       "-1",
                                       ".5",
                                       "1.",
                                       "+7",
                                       "0.1",
                                       "1e22",
                                       "1e23",
                                       "9007199254740993",
                                       "9007199254740992.5",
                                       "9007199254740993.00000000000000001",
                                       "2.2250738585072011e-308",
                                       "2.2250738585072014e-308",
                                       "4.9e-324",
                                       "2.4703282292062327e-324",
                                       "2.4703282292062328e-324",
                                       "2.5e-324",
                                       "1.7976931348623157e308",
                                       "1.7976931348623158e308",
                                       "1.7976931348623159e308",
                                       "1e308",
                                       "1e309",
                                       "1e400",
                                       "-1e400",
                                       "1e-400",
                                       "1e-325",
                                       "123456789012345678901234567890",
                                       "0.000000000000000000000000000000000000000000012345678901234567890",
                                       "7.2057594037927933e16",
                                       "6.0221409e+23",
                                       "3.4028235677973366e38",
                                       "1e99999999999999999999999",
                                       "1e-99999999999999999999999",
                                       "0e99999999999999999999999",
                                       "0.00000000000000000000e5",
                                       "00012.5",
                                       "5e-324",
                                       "1.00000000000000011102230246251565404236316680908203125",
                                       "1.00000000000000011102230246251565404236316680908203124",
                                       "1.00000000000000011102230246251565404236316680908203126"};
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) same_as_strtod(t, hard[i]);
    /* A midpoint between two doubles, exact to its last digit, and the same with one more digit far behind it. */
    char text[1400];
    for (int e = 1074; e >= 900; e -= 58) {
        int n = snprintf(text, sizeof text, "%.1100f", ldexp(3.0, -e - 1 + 1)); /* 1.5 * 2^(1-e) */
        same_as_strtod(t, text);
        snprintf(text + n, sizeof text - (size_t)n, "0000000001");
        same_as_strtod(t, text);
    }
    memset(text, '1', 1000), text[1000] = '\0';
    same_as_strtod(t, text); /* overflows */
    text[300] = '\0';
    same_as_strtod(t, text);
    /* 768 digits that end in a tie, then zeros, then a one: only the last digit says which way. */
    int n = snprintf(text, sizeof text, "9007199254740993.");
    memset(text + n, '0', 1200), text[n + 1200] = '\0';
    same_as_strtod(t, text);
    text[n + 1199] = '1';
    same_as_strtod(t, text);
    n = snprintf(text, sizeof text, "9007199254740993");
    memset(text + n, '0', 1000), snprintf(text + n + 1000, 20, "1e-1000");
    same_as_strtod(t, text);
    static const char *const bad[] = {"",   "+",  "-",   ".",   "e5",   "1e",  "1e+", "1.2.3", "1x",
                                      " 1", "1 ", "nan", "inf", "0x10", "1,5", "--1", "+-1",   "1e5.0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double v = 0.25;
        CHECKF(t, !tn_parse_double(bad[i], strlen(bad[i]), &v) && v == 0.25, "accepted: %s", bad[i]);
    }
}

static uint64_t random_bits(uint64_t *s) {
    *s ^= *s >> 12, *s ^= *s << 25, *s ^= *s >> 27;
    return *s * UINT64_C(2685821657736338717);
}

static void test_random_doubles(test_state *t) {
    if (!test_section(t, "random doubles")) return;
    uint64_t seed = 42;
    for (int i = 0; i < 60000; i++) {
        uint64_t bits = random_bits(&seed);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (isnan(v) || isinf(v)) continue;
        char text[1200];
        snprintf(text, sizeof text, "%.*g", i % 20 + 1, v);
        same_as_strtod(t, text);
        snprintf(text, sizeof text, "%llue%d", (unsigned long long)random_bits(&seed), (int)(bits % 700) - 350);
        same_as_strtod(t, text);
        if (i % 100) continue;
        /* The exact midpoint to the next double, all digits. */
        double next = nextafter(v, HUGE_VAL);
        if (fabs(v) < 1e-10 || fabs(v) > 1e15) continue;
        snprintf(text, sizeof text, "%.1100Lf", ((long double)v + (long double)next) / 2);
        same_as_strtod(t, text);
    }
}

static void test_integers(test_state *t) {
    if (!test_section(t, "integers")) return;
    int64_t v = 7;
    CHECK(t, tn_parse_int64("9223372036854775807", 19, &v) && v == INT64_MAX);
    CHECK(t, tn_parse_int64("-9223372036854775808", 20, &v) && v == INT64_MIN);
    CHECK(t, tn_parse_int64("+12", 3, &v) && v == 12 && tn_parse_int64("-0", 2, &v) && v == 0);
    static const char *const bad[] = {
        "",   "-",   "+", "9223372036854775808", "-9223372036854775809", "99999999999999999999", "1.0", "1e3",
        " 1", "0x1", "5x"};
    v = 3;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECKF(t, !tn_parse_int64(bad[i], strlen(bad[i]), &v) && v == 3, "accepted: %s", bad[i]);
    tn_err err;
    tn_json *doc = parse("[9223372036854775808,9007199254740993]", 38, 0, &err);
    if (!CHECK(t, doc != NULL)) return;
    const tn_jval *a = tn_json_root(doc)->child;
    CHECK(t, !a->is_int && a->number == 9223372036854775808.0);
    CHECK(t, a->next->is_int && a->next->integer == INT64_C(9007199254740993) && a->next->number == 9007199254740992.0);
    tn_json_free(doc);
}

static void writes_number(test_state *t, double v, const char *want) {
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_number(&w, NULL, v);
    char *text = tn_jw_take(&w);
    CHECKF(t, text && strcmp(text, want) == 0, "expected %s, got %s", want, text ? text : "nothing");
    free(text);
}

static void test_writer(test_state *t) {
    if (!test_section(t, "writer")) return;
    tn_jw w;
    tn_jw_init(&w, 2);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "s", "a\"\\\n\x1b\xc3\xa9\xff");
    tn_jw_int(&w, "i", INT64_MIN);
    tn_jw_open(&w, "l", '[');
    tn_jw_bool(&w, NULL, true);
    tn_jw_null(&w, NULL);
    tn_jw_float(&w, NULL, 0.1f);
    tn_jw_close(&w, ']');
    tn_jw_open(&w, "e", '{');
    tn_jw_close(&w, '}');
    tn_jw_close(&w, '}');
    char *text = tn_jw_take(&w);
    const char *want = "{\n  \"s\": \"a\\\"\\\\\\n\\u001b\xc3\xa9\xef\xbf\xbd\",\n  \"i\": -9223372036854775808,\n  "
                       "\"l\": [\n    true,\n    null,\n"
                       "    0.100000001\n  ],\n  \"e\": {}\n}";
    CHECKF(t, text && strcmp(text, want) == 0, "got %s", text ? text : "nothing");
    if (text) accepts(t, text, 0);
    free(text);
    writes_number(t, 0.0005, "0.0005");
    writes_number(t, 0.1 + 0.2, "0.30000000000000004");
    writes_number(t, 1.0 / 3.0, "0.3333333333333333");
    writes_number(t, (double)0.1f, "0.10000000149011612");
    writes_number(t, 1e300, "1e+300");
    writes_number(t, -0.0, "-0.0");
    writes_number(t, HUGE_VAL, "null");
    writes_number(t, (double)NAN, "null");
    uint64_t seed = 9;
    int wrong = 0;
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = random_bits(&seed);
        double v, back = 0;
        memcpy(&v, &bits, sizeof v);
        if (isnan(v) || isinf(v)) continue;
        tn_jw_init(&w, 0);
        tn_jw_number(&w, NULL, v);
        text = tn_jw_take(&w);
        wrong += !text || !tn_parse_double(text, strlen(text), &back) || memcmp(&back, &v, sizeof v) != 0;
        free(text);
    }
    CHECKF(t, wrong == 0, "%d doubles did not read back", wrong);
}

static void test_files(test_state *t) {
    if (!test_section(t, "files")) return;
    const char *dir = test_tmp("json");
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", dir);
    tn_json *doc = NULL;
    tn_err err;
    CHECK(t, tn_json_load(path, 0, &doc, &err) == -1 && err.code == TN_EIO && strstr(err.msg, path) && !doc);
    test_write(path, "{\"x\": [1,\r\n2}", 13);
    CHECK(t, tn_json_load(path, 0, &doc, &err) == -1 && err.code == TN_EINPUT &&
                 strncmp(err.msg, path, strlen(path)) == 0 && !doc);
    test_write(path, "{\"x\": 1}\r\n", 10);
    CHECK(t, tn_json_load(path, 0, &doc, &err) == 0 && doc && tn_json_get(tn_json_root(doc), "x")->integer == 1);
    tn_json_free(doc);
    CHECK(t, tn_json_load(dir, 0, &doc, &err) == -1 && err.code == TN_EIO && strstr(err.msg, "folder"));
}

void test_main(test_state *t) {
    test_tree(t);
    test_grammar(t);
    test_strings(t);
    test_python(t);
    test_duplicates(t);
    test_large(t);
    test_limits(t);
    test_doubles(t);
    test_random_doubles(t);
    test_integers(t);
    test_writer(t);
    test_files(t);
}
