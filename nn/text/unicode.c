#include "nn/text/unicode.h"

#include "nn/text/tables.h"

/* Length of the well-formed sequence at s, or 0 with *bad = the bytes that one U+FFFD stands for. */
static size_t sequence(const unsigned char *s, size_t len, size_t *bad) {
    unsigned char c = s[0];
    size_t need = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    *bad = 1;
    if (need < 2) return need;
    /* The second byte excludes overlong forms, surrogates and what lies beyond 10FFFF. */
    unsigned lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    for (size_t i = 1; i < need; i++) {
        if (i >= len || s[i] < lo || s[i] > hi) {
            *bad = i;
            return 0;
        }
        lo = 0x80, hi = 0xbf;
    }
    return need;
}

size_t nn_utf8_decode(const char *text, size_t len, uint32_t *out) {
    const unsigned char *s = (const unsigned char *)text;
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        size_t bad, k = sequence(s + i, len - i, &bad);
        if (!k) {
            out[n++] = 0xfffd;
            i += bad;
            continue;
        }
        uint32_t c = k == 1 ? s[i] : s[i] & (0x7fu >> k);
        for (size_t j = 1; j < k; j++) c = c << 6 | (s[i + j] & 0x3fu);
        out[n++] = c;
        i += k;
    }
    return n;
}

size_t nn_utf8_encode(uint32_t c, char out[4]) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80u | (c & 0x3fu));
    out[0] = (char)((0xf00u >> n & 0xffu) | c);
    return n;
}

bool nn_utf8_valid(const char *text, size_t len) {
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0, k, bad; i < len; i += k) {
        if (!(k = sequence(s + i, len - i, &bad))) return false;
    }
    return true;
}

/* The value of the run that holds c: the last whose start is not beyond it. The first run starts at 0. */
static unsigned run_value(const uint32_t *runs, size_t count, uint32_t c) {
    size_t lo = 0, hi = count;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (runs[mid] >> 8 <= c) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return runs[lo] & 0xff;
}

unsigned nn_uni_flags(uint32_t c) { return run_value(nn_uni_flag_runs, nn_uni_flag_runs_count, c); }

static unsigned combining_class(uint32_t c) { return run_value(nn_uni_ccc_runs, nn_uni_ccc_runs_count, c); }

bool nn_uni_isspace(uint32_t c) { return (c >= 0x1c && c <= 0x1f) || (nn_uni_flags(c) & NN_UNI_SPACE); }

bool nn_uni_is_cjk(uint32_t c) {
    static const uint32_t blocks[][2] = {{0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},
                                         {0x20000, 0x2a6df}, {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f},
                                         {0x2b820, 0x2ceaf}, {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (c >= blocks[i][0] && c <= blocks[i][1]) return true;
    }
    return false;
}

/* ---- lower case ---- */

static uint32_t lower_one(uint32_t c) {
    size_t lo = 0, hi = nn_uni_lower_ranges_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const nn_uni_lower_range *r = &nn_uni_lower_ranges[mid];
        if (c > r->last) {
            lo = mid + 1;
        } else if (c < r->first) {
            hi = mid;
        } else {
            return (c - r->first) % (uint32_t)r->step ? c : (uint32_t)((int32_t)c + r->delta);
        }
    }
    return c;
}

/* Condition Final_Sigma of SpecialCasing.txt: a cased letter before, none after, ignorable characters not counted. */
static bool final_sigma(const uint32_t *s, size_t n, size_t at) {
    size_t i = at;
    while (i > 0 && (nn_uni_flags(s[i - 1]) & NN_UNI_IGNORABLE)) i--;
    if (i == 0 || !(nn_uni_flags(s[i - 1]) & NN_UNI_CASED)) return false;
    for (i = at + 1; i < n && (nn_uni_flags(s[i]) & NN_UNI_IGNORABLE);) i++;
    return i == n || !(nn_uni_flags(s[i]) & NN_UNI_CASED);
}

size_t nn_uni_lower(const uint32_t *s, size_t n, uint32_t *out) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == 0x130) { /* I with dot above: the one character whose lower case is two */
            out[k++] = 'i';
            out[k++] = 0x307;
        } else if (s[i] == 0x3a3) {
            out[k++] = final_sigma(s, n, i) ? 0x3c2 : 0x3c3;
        } else {
            out[k++] = lower_one(s[i]);
        }
    }
    return k;
}

/* ---- normalisation form C ---- */

/* Hangul syllables are computed (Unicode 14, section 3.12): S = SBase + (L * 21 + V) * 28 + T. */
enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28 };
enum { S_COUNT = L_COUNT * V_COUNT * T_COUNT };

static const nn_uni_decomposition *decomposition(uint32_t c) {
    size_t lo = 0, hi = nn_uni_decompositions_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (nn_uni_decompositions[mid].c < c) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < nn_uni_decompositions_count && nn_uni_decompositions[lo].c == c ? &nn_uni_decompositions[lo] : NULL;
}

/* Appends the full canonical decomposition of c, one to four code points; returns how many. */
static size_t decompose(uint32_t c, uint32_t *out) {
    if (c - S_BASE < S_COUNT) {
        uint32_t s = c - S_BASE, t = s % T_COUNT;
        out[0] = L_BASE + s / (V_COUNT * T_COUNT);
        out[1] = V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT;
        if (t) out[2] = T_BASE + t;
        return t ? 3 : 2;
    }
    /* Only the first of a pair decomposes further: the second ones come out last to first. */
    uint32_t tail[4];
    size_t n = 0, k = 0;
    for (const nn_uni_decomposition *d; (d = decomposition(c)) != NULL; c = d->first) {
        if (d->second) tail[n++] = d->second;
    }
    out[k++] = c;
    while (n) out[k++] = tail[--n];
    return k;
}

/* Sorts each run of combining marks by class, stably. Counting keeps it linear for a text of nothing but marks. */
static void canonical_order(uint32_t *s, size_t n, uint32_t *work) {
    for (size_t i = 0, end; i < n; i = end) {
        end = i + 1;
        if (!combining_class(s[i])) continue;
        size_t place[257] = {0};
        for (end = i; end < n && combining_class(s[end]); end++) place[combining_class(s[end]) + 1]++;
        if (end - i < 2) continue;
        for (size_t k = 1; k < 257; k++) place[k] += place[k - 1];
        for (size_t j = i; j < end; j++) work[place[combining_class(s[j])]++] = s[j];
        for (size_t j = i; j < end; j++) s[j] = work[j - i];
    }
}

/* The primary composite of a pair, or 0. */
static uint32_t compose_pair(uint32_t a, uint32_t b) {
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT) return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b - T_BASE - 1 < T_COUNT - 1) return a + (b - T_BASE);
    size_t lo = 0, hi = nn_uni_compositions_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const nn_uni_decomposition *d = &nn_uni_decompositions[nn_uni_compositions[mid]];
        if (d->first == a && d->second == b) return d->c;
        if (d->first < a || (d->first == a && d->second < b)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return 0;
}

/* Joins each mark with the last starter unless something of its own or a higher class, or a starter, stands between. */
static size_t compose(uint32_t *s, size_t n) {
    size_t k = 0, starter = n;
    unsigned last = 0; /* class of the character written last, if it follows the starter */
    for (size_t i = 0; i < n; i++) {
        unsigned class = combining_class(s[i]);
        bool adjacent = starter < n && k == starter + 1;
        uint32_t c = starter < n && (adjacent || (last && last < class)) ? compose_pair(s[starter], s[i]) : 0;
        if (c) {
            s[starter] = c;
            continue;
        }
        if (!class) starter = k;
        last = class;
        s[k++] = s[i];
    }
    return k;
}

size_t nn_uni_nfc(const uint32_t *s, size_t n, uint32_t *out, uint32_t *work) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += decompose(s[i], out + k);
    canonical_order(out, k, work);
    return compose(out, k);
}
