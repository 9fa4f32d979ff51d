#include "nn/text/clean.h"

#include "nn/text/tables.h"
#include "nn/text/unicode.h"
#include <stdlib.h>
#include <string.h>

/* ---- HTML character references (html.unescape of Python 3, after section 13.2.5.72 of the HTML standard) ---- */

/* What &#num; stands for: 0 = nothing at all. */
static uint32_t numeric_reference(uint32_t num) {
    if (num == 0 || num > 0x10ffff || (num >= 0xd800 && num <= 0xdfff)) return 0xfffd;
    if (num >= 0x80 && num <= 0x9f) return nn_html_c1[num - 0x80];
    if (num == '\t' || num == '\n' || num == '\f' || num == '\r') return num;
    bool noncharacter = (num & 0xfffe) == 0xfffe || (num >= 0xfdd0 && num <= 0xfdef);
    return num < 0x20 || num == 0x7f || noncharacter ? 0 : num;
}

static int digit(uint32_t c, unsigned base) {
    if (c >= '0' && c <= '9') return (int)(c - '0');
    if (base == 16 && c >= 'a' && c <= 'f') return (int)(c - 'a' + 10);
    if (base == 16 && c >= 'A' && c <= 'F') return (int)(c - 'A' + 10);
    return -1;
}

/* s follows "&#". Returns the length of the reference from s on, 0 where there is none; *k of *to are written. */
static size_t numeric(const uint32_t *s, size_t n, uint32_t *to, size_t *k) {
    unsigned base = n && (s[0] == 'x' || s[0] == 'X') ? 16 : 10;
    size_t first = base == 16, i = first;
    uint32_t num = 0;
    for (; i < n && digit(s[i], base) >= 0; i++) {
        num = num * base + (uint32_t)digit(s[i], base);
        if (num > 0x110000) num = 0x110000; /* too large stays too large */
    }
    if (i == first) return 0;
    uint32_t c = numeric_reference(num);
    *k = c != 0;
    to[0] = c;
    return i < n && s[i] == ';' ? i + 1 : i;
}

/* The entity called name[0..len), NULL where there is none. */
static const nn_html_entity *entity(const char *name, size_t len) {
    size_t lo = 0, hi = nn_html_entities_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const char *other = nn_html_entities[mid].name;
        int order = strncmp(name, other, len);
        if (order == 0 && other[len]) order = -1;
        if (order == 0) return &nn_html_entities[mid];
        if (order > 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

/* s follows "&". As numeric(); the candidate is at most 32 characters, and of a longer word a leading name that needs
 * no semicolon counts: "&notit" is a negation sign and "it". */
static size_t named(const uint32_t *s, size_t n, uint32_t *to, size_t *k) {
    char name[33];
    size_t ascii = 0, m = 0;
    for (; m < n && m < 32 && s[m] != '\t' && s[m] != '\n' && s[m] != '\f' && s[m] != ' ' && s[m] != '<' &&
           s[m] != '&' && s[m] != '#' && s[m] != ';';
         m++) {
        if (ascii == m && s[m] && s[m] < 0x80) name[ascii++] = (char)s[m];
    }
    bool semicolon = m && m < n && s[m] == ';';
    for (size_t len = ascii; len >= 2; len--) {
        const nn_html_entity *e = entity(name, len);
        bool closed = semicolon && len == m;
        if (!e || !(e->bare || closed)) continue;
        to[0] = e->first, to[1] = e->second;
        *k = e->second ? 2 : 1;
        return closed ? len + 1 : len;
    }
    return 0;
}

size_t nn_html_unescape(uint32_t *s, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        uint32_t to[2];
        size_t made = 0, used = 0;
        if (s[i] == '&' && i + 1 < n) {
            used = s[i + 1] == '#' ? numeric(s + i + 2, n - i - 2, to, &made) : named(s + i + 1, n - i - 1, to, &made);
            if (used && s[i + 1] == '#') used++;
        }
        if (!used) {
            s[k++] = s[i++];
            continue;
        }
        i += used + 1;
        for (size_t j = 0; j < made; j++) s[k++] = to[j];
    }
    return k;
}

/* ---- the two rule sets ---- */

/* BasicTokenizer._clean_text and _tokenize_chinese_chars: control characters go, white space becomes a space,
 * ideographs get spaces around them. out holds 3n. */
static size_t bert_clean(const uint32_t *s, size_t n, uint32_t *out) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = s[i];
        unsigned flags = nn_uni_flags(c);
        bool kept_control = c == '\t' || c == '\n' || c == '\r';
        if (c == 0xfffd || ((flags & NN_UNI_CONTROL) && !kept_control)) continue;
        bool cjk = nn_uni_is_cjk(c);
        if (cjk) out[k++] = ' ';
        out[k++] = flags & NN_UNI_SPACE ? ' ' : c;
        if (cjk) out[k++] = ' ';
    }
    return k;
}

/* str.strip() */
static size_t strip(uint32_t *s, size_t n) {
    size_t from = 0;
    while (n > 0 && nn_uni_isspace(s[n - 1])) n--;
    while (from < n && nn_uni_isspace(s[from])) from++;
    memmove(s, s + from, (n - from) * sizeof *s);
    return n - from;
}

static uint32_t *points(size_t n) { return n > SIZE_MAX / sizeof(uint32_t) ? NULL : malloc(n * sizeof(uint32_t)); }

/* Cleaned, then NFC; the result replaces *s. */
static int hf(uint32_t **s, size_t *n) {
    uint32_t *clean = points(3 * *n + 1);
    if (!clean) return -1;
    size_t k = bert_clean(*s, *n, clean);
    uint32_t *out = points(4 * k + 1), *work = points(4 * k + 1);
    if (out && work) {
        *n = nn_uni_nfc(clean, k, out, work);
        free(*s);
        *s = out;
    } else {
        free(out);
    }
    bool ok = out && work;
    free(work);
    free(clean);
    return ok ? 0 : -1;
}

int nn_clean(const char *text, size_t len, nn_tokenizer_rules rules, uint32_t **out, size_t *n, tn_err *err) {
    uint32_t *s = points(len + 1), *low = NULL;
    if (!s) goto fail;
    size_t k = nn_utf8_decode(text, len, s);
    if (rules == NN_RULES_HF) {
        if (hf(&s, &k)) goto fail;
    } else {
        k = nn_html_unescape(s, k);
        k = nn_html_unescape(s, k);
        k = strip(s, k);
    }
    low = points(2 * k + 1);
    if (!low) goto fail;
    *n = nn_uni_lower(s, k, low);
    *out = low;
    free(s);
    return 0;
fail:
    free(s);
    return tn_fail(err, TN_ENOMEM, "tokenizer: no memory for a text of %zu bytes", len);
}

/* ---- splitting ---- */

/* The length of the literal at s, compared as the regular expression does: the text is lower case already, but without
 * regard to case the long s (U+017F) equals s too. 0 where it does not match. */
static size_t literal(const uint32_t *s, size_t n, const char *want) {
    size_t i = 0;
    for (; want[i]; i++) {
        if (i == n || (s[i] == 0x17f ? 's' : s[i]) != (unsigned char)want[i]) return 0;
    }
    return i;
}

static size_t any_literal(const uint32_t *s, size_t n) {
    static const char *const wanted[] = {
        "<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    if (s[0] != '<' && s[0] != '\'') return 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        size_t k = literal(s, n, wanted[i]);
        if (k) return k;
    }
    return 0;
}

enum { SKIP, LETTER, NUMBER, SYMBOL };

static int kind(uint32_t c) {
    unsigned flags = nn_uni_flags(c);
    /* U+0345 is a mark whose other case is the letter iota: without regard to case no alternative matches it. */
    if ((flags & NN_UNI_SPACE) || c == 0x345) return SKIP;
    return flags & NN_UNI_LETTER ? LETTER : flags & NN_UNI_NUMBER ? NUMBER : SYMBOL;
}

bool nn_next_word(const uint32_t *s, size_t n, size_t *pos, size_t *start) {
    size_t i = *pos;
    while (i < n && kind(s[i]) == SKIP) i++;
    *start = *pos = i;
    if (i == n) return false;
    size_t k = any_literal(s + i, n - i);
    int first = kind(s[i]);
    if (!k) {
        k = 1;
        while (first != NUMBER && i + k < n && kind(s[i + k]) == first) k++;
    }
    *pos = i + k;
    return true;
}
