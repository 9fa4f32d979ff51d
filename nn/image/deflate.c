#include "nn/image/deflate.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nn/image/checksum.h"
#include "tensor/io/bytes.h"

enum {
    WINDOW = 32768,
    HASH_BITS = 15,
    MIN_MATCH = 3,
    MAX_MATCH = 258,
    MAX_CHAIN = 128,   /* candidates tried per position */
    NICE_MATCH = 128,  /* long enough to stop searching */
    WORTH_A_MATCH = 6, /* shorter ones cost more than the short codes of filtered pixels, mostly small numbers */
    BLOCK_TOKENS = 32768,
    STORED_MAX = 65535,
    MAX_BITS = 15,
    LITLEN_CODES = 286,
    DIST_CODES = 30,
    LENLEN_CODES = 19,
    END_OF_BLOCK = 256
};

/* A Huffman code ready to write: bits are reversed, since DEFLATE puts codes in from their high bit. Both arrays are of one type: with
 * bytes for lengths, gcc 12 for AArch64 finds bits[i] by way of length[i], forgets on the way that a code is written to, and leaves
 * out calls of assign_codes. */
typedef struct code {
    uint16_t bits[LITLEN_CODES + 2];
    uint16_t length[LITLEN_CODES + 2];
} code;

/* Bits enter at the low end; whole bytes leave. The buffer is as long as the worst case, so writing cannot fail. */
typedef struct bit_writer {
    unsigned char *p;
    size_t n;
    uint64_t bits;
    unsigned count;
} bit_writer;

/* A token is a literal (distance 0, the byte in `length`) or a match. */
typedef struct token {
    uint16_t length, distance;
} token;

typedef struct deflater {
    const unsigned char *in;
    size_t len;
    uint32_t head[1 << HASH_BITS]; /* newest position with that hash, plus 1; 0 = none */
    uint32_t prev[WINDOW];         /* the position before it in its chain, plus 1 */
    token tokens[BLOCK_TOKENS];
    unsigned n_tokens;
    size_t block_start, covered; /* the tokens stand for in[block_start..covered) */
    uint32_t litlen_freq[LITLEN_CODES], dist_freq[DIST_CODES];
    bit_writer out;
} deflater;

static void put(bit_writer *w, uint32_t value, unsigned n) {
    w->bits |= (uint64_t)value << w->count;
    w->count += n;
    for (; w->count >= 8; w->count -= 8, w->bits >>= 8) w->p[w->n++] = (unsigned char)w->bits;
}

static void align(bit_writer *w) {
    if (w->count) put(w, 0, 8 - w->count);
}

/* ---- lengths and distances, RFC 1951 3.2.5 ---- */

/* A symbol and the extra bits that follow it. */
typedef struct slot {
    unsigned symbol, extra_bits, extra;
} slot;

static unsigned floor_log2(unsigned v) {
    unsigned n = 0;
    while (v >>= 1) n++;
    return n;
}

/* Lengths come in groups of four symbols per power of two, distances in groups of two. */
static slot length_slot(unsigned length) {
    if (length == MAX_MATCH) return (slot){285, 0, 0};
    unsigned v = length - MIN_MATCH;
    if (v < 8) return (slot){257 + v, 0, 0};
    unsigned e = floor_log2(v) - 2;
    return (slot){257 + 4 * e + (v >> e), e, v & ((1u << e) - 1)};
}

static slot dist_slot(unsigned distance) {
    unsigned v = distance - 1;
    if (v < 4) return (slot){v, 0, 0};
    unsigned e = floor_log2(v) - 1;
    return (slot){2 * e + (v >> e), e, v & ((1u << e) - 1)};
}

/* ---- Huffman codes ---- */

typedef struct leaf {
    uint32_t freq;
    uint16_t symbol;
} leaf;

static int by_freq(const void *a, const void *b) {
    const leaf *x = a, *y = b;
    if (x->freq != y->freq) return x->freq < y->freq ? -1 : 1;
    return x->symbol < y->symbol ? -1 : 1;
}

/* Depths of the leaves of a Huffman tree, by the two-queue method: leaves sorted by frequency, and inner nodes, which
 * come into being in order of theirs. count[d] = leaves at depth d, deeper ones counted at `limit`. */
static void tree_depths(const leaf *leaves, unsigned n, unsigned limit, unsigned *count) {
    uint32_t weight[LITLEN_CODES];
    uint16_t parent_of_leaf[LITLEN_CODES], parent[LITLEN_CODES];
    uint16_t depth[LITLEN_CODES];
    unsigned next_leaf = 0, next_inner = 0;
    for (unsigned k = 0; k + 1 < n; k++) {
        weight[k] = 0;
        for (int child = 0; child < 2; child++) {
            bool take_leaf = next_leaf < n && (next_inner >= k || leaves[next_leaf].freq <= weight[next_inner]);
            weight[k] += take_leaf ? leaves[next_leaf].freq : weight[next_inner];
            if (take_leaf)
                parent_of_leaf[next_leaf++] = (uint16_t)k;
            else
                parent[next_inner++] = (uint16_t)k;
        }
    }
    depth[n - 2] = 0; /* the root is the inner node made last */
    for (unsigned k = n - 2; k-- > 0;) depth[k] = (uint16_t)(depth[parent[k]] + 1);
    memset(count, 0, (MAX_BITS + 1) * sizeof *count);
    for (unsigned i = 0; i < n; i++) {
        unsigned d = depth[parent_of_leaf[i]] + 1u;
        count[d < limit ? d : limit]++;
    }
}

/* Clamping depths to `limit` overfills the code. Each step moves one leaf of the deepest level that has room below it
 * one down and gives it a leaf of the last level as a sibling, which frees one code of the last level. */
static void fit_to_limit(unsigned limit, unsigned *count) {
    uint32_t used = 0;
    for (unsigned b = 1; b <= limit; b++) used += (uint32_t)count[b] << (limit - b);
    for (; used > 1u << limit; used--) {
        unsigned b = limit - 1;
        while (!count[b]) b--;
        count[limit]--, count[b]--;
        count[b + 1] += 2;
    }
}

/* Code lengths for n symbols, at most `limit` bits. At least two symbols get a code, so that it is always complete:
 * strict decoders refuse others. */
static void code_lengths(const uint32_t *freq, unsigned n, unsigned limit, uint16_t *length) {
    leaf leaves[LITLEN_CODES];
    unsigned used = 0, count[MAX_BITS + 1];
    for (unsigned i = 0; i < n; i++) used += freq[i] != 0;
    unsigned missing = used < 2 ? 2 - used : 0;
    used = 0;
    for (unsigned i = 0; i < n; i++) {
        if (freq[i]) {
            leaves[used++] = (leaf){freq[i], (uint16_t)i};
        } else if (missing) {
            leaves[used++] = (leaf){1, (uint16_t)i};
            missing--;
        }
    }
    qsort(leaves, used, sizeof *leaves, by_freq);
    tree_depths(leaves, used, limit, count);
    fit_to_limit(limit, count);
    memset(length, 0, n * sizeof *length);
    unsigned i = 0;
    for (unsigned b = limit; b > 0; b--) { /* the rarest get the longest codes */
        for (unsigned k = 0; k < count[b]; k++) length[leaves[i++].symbol] = (uint16_t)b;
    }
}

/* Canonical codes from lengths, RFC 1951 3.2.2. */
static void assign_codes(code *c, unsigned n) {
    unsigned count[MAX_BITS + 1] = {0}, next[MAX_BITS + 1] = {0};
    for (unsigned i = 0; i < n; i++) count[c->length[i]]++;
    count[0] = 0;
    for (unsigned b = 1; b <= MAX_BITS; b++) next[b] = (next[b - 1] + count[b - 1]) << 1;
    for (unsigned i = 0; i < n; i++) {
        unsigned bits = 0, v = c->length[i] ? next[c->length[i]]++ : 0;
        for (unsigned k = 0; k < c->length[i]; k++, v >>= 1) bits = bits << 1 | (v & 1);
        c->bits[i] = (uint16_t)bits;
    }
}

static void fixed_codes(code *litlen, code *dist) { /* RFC 1951 3.2.6 */
    for (unsigned i = 0; i < LITLEN_CODES + 2; i++) litlen->length[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    assign_codes(litlen, LITLEN_CODES + 2);
    for (unsigned i = 0; i < DIST_CODES; i++) dist->length[i] = 5;
    assign_codes(dist, DIST_CODES);
}

/* ---- blocks ---- */

/* The header of a dynamic block: both sets of code lengths, run-length coded (3.2.7). */
typedef struct block_header {
    uint8_t symbol[LITLEN_CODES + DIST_CODES], extra[LITLEN_CODES + DIST_CODES];
    unsigned n, n_litlen, n_dist, n_lenlen;
    code lenlen;
    uint64_t cost; /* bits, without the three of the block type */
} block_header;

static const uint8_t lenlen_order[LENLEN_CODES] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
static unsigned run_extra_bits(unsigned symbol) { return symbol < 16 ? 0 : symbol == 16 ? 2 : symbol == 17 ? 3 : 7; }

static void add_run(block_header *h, unsigned symbol, unsigned extra) {
    h->symbol[h->n] = (uint8_t)symbol;
    h->extra[h->n++] = (uint8_t)extra;
}

/* Runs of zeros as 17 (3..10) and 18 (11..138), repeats of another length as 16 (3..6). */
static void run_lengths(block_header *h, const uint16_t *lengths, unsigned n) {
    h->n = 0;
    for (unsigned i = 0; i < n;) {
        unsigned value = lengths[i], run = 1;
        while (i + run < n && lengths[i + run] == value) run++;
        i += run;
        if (value) add_run(h, value, 0), run--;
        while (run >= 3) {
            unsigned most = value ? 6 : 138, part = run < most ? run : most;
            if (value)
                add_run(h, 16, part - 3);
            else if (part <= 10)
                add_run(h, 17, part - 3);
            else
                add_run(h, 18, part - 11);
            run -= part;
        }
        for (; run; run--) add_run(h, value, 0);
    }
}

static void make_header(block_header *h, const code *litlen, const code *dist) {
    uint16_t lengths[LITLEN_CODES + DIST_CODES];
    uint32_t freq[LENLEN_CODES] = {0};
    h->n_litlen = LITLEN_CODES, h->n_dist = DIST_CODES, h->n_lenlen = LENLEN_CODES;
    while (h->n_litlen > 257 && !litlen->length[h->n_litlen - 1]) h->n_litlen--;
    while (h->n_dist > 1 && !dist->length[h->n_dist - 1]) h->n_dist--;
    memcpy(lengths, litlen->length, h->n_litlen * sizeof *lengths);
    memcpy(lengths + h->n_litlen, dist->length, h->n_dist * sizeof *lengths);
    run_lengths(h, lengths, h->n_litlen + h->n_dist);
    for (unsigned i = 0; i < h->n; i++) freq[h->symbol[i]]++;
    code_lengths(freq, LENLEN_CODES, 7, h->lenlen.length);
    assign_codes(&h->lenlen, LENLEN_CODES);
    while (h->n_lenlen > 4 && !h->lenlen.length[lenlen_order[h->n_lenlen - 1]]) h->n_lenlen--;
    h->cost = 14 + 3u * h->n_lenlen;
    for (unsigned i = 0; i < h->n; i++) h->cost += h->lenlen.length[h->symbol[i]] + run_extra_bits(h->symbol[i]);
}

static void write_header(bit_writer *w, const block_header *h) {
    put(w, h->n_litlen - 257, 5);
    put(w, h->n_dist - 1, 5);
    put(w, h->n_lenlen - 4, 4);
    for (unsigned i = 0; i < h->n_lenlen; i++) put(w, h->lenlen.length[lenlen_order[i]], 3);
    for (unsigned i = 0; i < h->n; i++) {
        put(w, h->lenlen.bits[h->symbol[i]], h->lenlen.length[h->symbol[i]]);
        put(w, h->extra[i], run_extra_bits(h->symbol[i]));
    }
}

/* Bits of the symbols under the two codes, without extra bits, which are the same under all codes. */
static uint64_t symbols_cost(const deflater *d, const code *litlen, const code *dist) {
    uint64_t bits = 0;
    for (unsigned i = 0; i < LITLEN_CODES; i++) bits += (uint64_t)d->litlen_freq[i] * litlen->length[i];
    for (unsigned i = 0; i < DIST_CODES; i++) bits += (uint64_t)d->dist_freq[i] * dist->length[i];
    return bits;
}

static void write_tokens(deflater *d, const code *litlen, const code *dist) {
    bit_writer *w = &d->out;
    for (unsigned i = 0; i < d->n_tokens; i++) {
        token t = d->tokens[i];
        if (!t.distance) {
            put(w, litlen->bits[t.length], litlen->length[t.length]);
            continue;
        }
        slot l = length_slot(t.length), s = dist_slot(t.distance);
        put(w, litlen->bits[l.symbol], litlen->length[l.symbol]);
        put(w, l.extra, l.extra_bits);
        put(w, dist->bits[s.symbol], dist->length[s.symbol]);
        put(w, s.extra, s.extra_bits);
    }
    put(w, litlen->bits[END_OF_BLOCK], litlen->length[END_OF_BLOCK]);
}

static void write_stored(deflater *d, bool last) {
    const unsigned char *p = d->in + d->block_start;
    size_t left = d->covered - d->block_start;
    do {
        unsigned n = left < STORED_MAX ? (unsigned)left : STORED_MAX;
        left -= n;
        put(&d->out, last && !left, 3);
        align(&d->out);
        put(&d->out, n, 16);
        put(&d->out, n ^ 0xffff, 16);
        if (n) memcpy(d->out.p + d->out.n, p, n);
        d->out.n += n, p += n;
    } while (left);
}

/* Writes the pending tokens in the shortest of the three forms. */
static void write_block(deflater *d, bool last) {
    code litlen, dist, fixed_litlen, fixed_dist;
    block_header header;
    uint64_t extra = 0, bytes = d->covered - d->block_start;
    for (unsigned i = 265; i < 285; i++) extra += (uint64_t)d->litlen_freq[i] * ((i - 261) / 4);
    for (unsigned i = 4; i < DIST_CODES; i++) extra += (uint64_t)d->dist_freq[i] * (i / 2 - 1);
    d->litlen_freq[END_OF_BLOCK] = 1;
    code_lengths(d->litlen_freq, LITLEN_CODES, MAX_BITS, litlen.length);
    code_lengths(d->dist_freq, DIST_CODES, MAX_BITS, dist.length);
    assign_codes(&litlen, LITLEN_CODES);
    assign_codes(&dist, DIST_CODES);
    fixed_codes(&fixed_litlen, &fixed_dist);
    make_header(&header, &litlen, &dist);
    uint64_t dynamic_cost = header.cost + symbols_cost(d, &litlen, &dist) + extra;
    uint64_t fixed_cost = symbols_cost(d, &fixed_litlen, &fixed_dist) + extra;
    uint64_t stored_cost = 8 * bytes + (bytes / STORED_MAX + 1) * 40;
    if (stored_cost < dynamic_cost && stored_cost < fixed_cost) {
        write_stored(d, last);
    } else if (fixed_cost <= dynamic_cost) {
        put(&d->out, (last ? 1u : 0u) | 1u << 1, 3);
        write_tokens(d, &fixed_litlen, &fixed_dist);
    } else {
        put(&d->out, (last ? 1u : 0u) | 2u << 1, 3);
        write_header(&d->out, &header);
        write_tokens(d, &litlen, &dist);
    }
    d->n_tokens = 0;
    d->block_start = d->covered;
    memset(d->litlen_freq, 0, sizeof d->litlen_freq);
    memset(d->dist_freq, 0, sizeof d->dist_freq);
}

/* ---- LZ77 ---- */

typedef struct match {
    unsigned length, distance;
} match;

static unsigned hash3(const unsigned char *p) {
    return (uint32_t)((p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16) * 2654435761u) >> (32 - HASH_BITS);
}

static void insert(deflater *d, size_t at) {
    if (d->len - at < MIN_MATCH) return;
    unsigned h = hash3(d->in + at);
    d->prev[at % WINDOW] = d->head[h];
    d->head[h] = (uint32_t)at + 1;
}

/* The longest earlier string equal to the one at `at` (the nearest of several); length 0 if none is worth a match.
 * `at` must not be inserted yet: until then no entry within the window has been overwritten. */
static match longest_match(const deflater *d, size_t at) {
    match best = {0, 0};
    size_t most = d->len - at < MAX_MATCH ? d->len - at : MAX_MATCH;
    if (most < WORTH_A_MATCH) return best;
    const unsigned char *here = d->in + at;
    size_t best_length = WORTH_A_MATCH - 1;
    uint32_t link = d->head[hash3(here)];
    for (int tries = MAX_CHAIN; tries && link; tries--, link = d->prev[(link - 1) % WINDOW]) {
        size_t distance = at - (link - 1);
        if (distance > WINDOW) break;
        const unsigned char *there = here - distance;
        if (there[best_length] != here[best_length]) continue;
        size_t n = 0;
        while (n < most && there[n] == here[n]) n++;
        if (n <= best_length) continue;
        best_length = n;
        best = (match){(unsigned)n, (unsigned)distance};
        if (n == most || n >= NICE_MATCH) break;
    }
    return best;
}

static void emit(deflater *d, unsigned length, unsigned distance) {
    d->tokens[d->n_tokens++] = (token){(uint16_t)length, (uint16_t)distance};
    if (distance) {
        d->litlen_freq[length_slot(length).symbol]++;
        d->dist_freq[dist_slot(distance).symbol]++;
        d->covered += length;
    } else {
        d->litlen_freq[length]++;
        d->covered++;
    }
    if (d->n_tokens == BLOCK_TOKENS) write_block(d, false);
}

/* Lazy matching: a match is taken only if the next position does not have a longer one; otherwise its first byte
 * becomes a literal. `held` is the match at at - 1, if `pending`. */
static void compress(deflater *d) {
    match held = {0, 0};
    bool pending = false;
    for (size_t at = 0; at < d->len;) {
        match m = {0, 0};
        if (held.length < NICE_MATCH) m = longest_match(d, at);
        insert(d, at);
        if (held.length && m.length <= held.length) {
            emit(d, held.length, held.distance);
            size_t end = at - 1 + held.length;
            while (++at < end) insert(d, at);
            held.length = 0;
            pending = false;
        } else {
            if (pending) emit(d, d->in[at - 1], 0);
            held = m;
            pending = true;
            at++;
        }
    }
    if (pending) emit(d, d->in[d->len - 1], 0);
    write_block(d, true);
}

int nn_zlib_deflate(const unsigned char *in, size_t len, unsigned char **out, size_t *out_len, tn_err *err) {
    if (len >= 0x80000000u) return tn_fail(err, TN_ENOMEM, "cannot compress %zu bytes: over the limit of 2 GiB", len);
    /* No block is longer than its stored form: 5 bytes and some bits for every 65535 bytes begun, and blocks hold at
     * least BLOCK_TOKENS bytes each but for the last. */
    size_t bound = len + len / 2048 + 64;
    deflater *d = calloc(1, sizeof *d);
    unsigned char *p = malloc(bound);
    if (!d || !p) {
        free(d), free(p);
        return tn_fail(err, TN_ENOMEM, "out of memory for compressing %zu bytes", len);
    }
    d->in = in, d->len = len;
    d->out.p = p;
    put(&d->out, 0x78, 8); /* DEFLATE, 32 KiB window */
    put(&d->out, 0x9c, 8); /* default level; makes the two bytes a multiple of 31 */
    compress(d);
    align(&d->out);
    tn_put_be32(p + d->out.n, nn_adler32(NN_ADLER32_INIT, in, len));
    *out = p, *out_len = d->out.n + 4;
    TN_REQUIRE(*out_len <= bound);
    free(d);
    return 0;
}
