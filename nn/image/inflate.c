#include "nn/image/inflate.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nn/image/checksum.h"
#include "tensor/io/bytes.h"

enum {
    MAX_BITS = 15,  /* longest Huffman code, RFC 1951 3.2.7 */
    FAST_BITS = 10, /* codes up to this length are one table look-up */
    LITLEN_CODES = 288,
    DIST_CODES = 32, /* 30 and 31 never occur in valid data but take part in the fixed code */
    LENLEN_CODES = 19,
    END_OF_BLOCK = 256
};

/* A canonical Huffman code. `fast` is indexed by the next FAST_BITS bits of the stream: length << 9 | symbol, or 0
 * where the code is longer or does not exist. Longer codes are found by comparing with the first code of each
 * length. */
typedef struct huffman {
    uint16_t fast[1 << FAST_BITS];
    uint16_t count[MAX_BITS + 1];  /* codes of each length */
    uint16_t symbol[LITLEN_CODES]; /* in order of their codes */
} huffman;

/* Where the output goes; with `grow` it is reallocated up to cap. */
typedef struct sink {
    unsigned char *p;
    size_t n, room, cap;
    bool grow;
} sink;

/* Bits come from the low end of `bits`. Past the end of the input the reader supplies zeros and counts them in
 * `padding`: once more bits are used than there were, count falls below padding. */
typedef struct inflater {
    const unsigned char *in;
    size_t len, pos;
    uint64_t bits;
    unsigned count, padding;
    sink out;
    huffman litlen, dist;
    tn_err *err;
} inflater;

/* RFC 1951 3.2.5: lengths 3..258 by symbol - 257, distances 1..32768 by symbol. */
static const uint16_t length_base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                         31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
static const uint8_t length_extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                         2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
static const uint16_t dist_base[30] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                       33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                       1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
static const uint8_t dist_extra[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                       6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};

static size_t offset(const inflater *s) { return s->pos - (s->count - s->padding) / 8; }

static int bad(const inflater *s, const char *what) {
    return tn_fail(s->err, TN_EINPUT, "compressed data: %s at byte %zu", what, offset(s));
}

static int truncated(const inflater *s) {
    return tn_fail(s->err, TN_EINPUT, "compressed data ends too early, after %zu bytes", s->len);
}

/* Fills the buffer to at least 57 bits: enough for a length and a distance with their extra bits (15 + 5 + 15 + 13). */
static inline void refill(inflater *s) {
    if (s->len - s->pos >= 8) {
        s->bits |= tn_le64(s->in + s->pos) << s->count;
        s->pos += (63 - s->count) >> 3;
        s->count |= 56;
        return;
    }
    while (s->count <= 56) {
        if (s->pos < s->len)
            s->bits |= (uint64_t)s->in[s->pos++] << s->count;
        else
            s->padding += 8;
        s->count += 8;
    }
}

static inline bool overrun(const inflater *s) { return s->count < s->padding; }

static inline unsigned take(inflater *s, unsigned n) {
    unsigned v = (unsigned)(s->bits & ((UINT64_C(1) << n) - 1));
    s->bits >>= n;
    s->count -= n;
    return v;
}

static unsigned reverse(unsigned code, unsigned n) {
    unsigned r = 0;
    for (; n; n--, code >>= 1) r = r << 1 | (code & 1);
    return r;
}

/* Builds the canonical code of RFC 1951 3.2.2 from code lengths. Over-subscribed sets are refused, and incomplete ones
 * except the two the format needs: no code at all, and (not for the code lengths' own code) a single code of one
 * bit. */
static int build(inflater *s, huffman *h, const uint8_t *lengths, unsigned n, const char *name) {
    unsigned first[MAX_BITS + 1], next[MAX_BITS + 1], at[MAX_BITS + 1], code = 0, used = 0;
    memset(h->count, 0, sizeof h->count);
    memset(h->fast, 0, sizeof h->fast);
    for (unsigned i = 0; i < n; i++) h->count[lengths[i]]++;
    h->count[0] = 0;
    int left = 1;
    for (unsigned b = 1; b <= MAX_BITS; b++) {
        left = left * 2 - h->count[b];
        if (left < 0) break;
        code = (code + h->count[b - 1]) << 1;
        first[b] = next[b] = code;
        at[b] = used;
        used += h->count[b];
    }
    bool single = used == 1 && h->count[1] == 1 && n != LENLEN_CODES;
    if (left < 0 || (left > 0 && used > 0 && !single))
        return tn_fail(s->err, TN_EINPUT, "compressed data: %s set of %s code lengths before byte %zu",
                       left < 0 ? "over-subscribed" : "incomplete", name, offset(s));
    for (unsigned i = 0; i < n; i++) {
        unsigned b = lengths[i];
        if (!b) continue;
        h->symbol[at[b] + next[b] - first[b]] = (uint16_t)i;
        if (b <= FAST_BITS) {
            for (unsigned k = reverse(next[b], b); k < 1u << FAST_BITS; k += 1u << b)
                h->fast[k] = (uint16_t)(b << 9 | i);
        }
        next[b]++;
    }
    return 0;
}

/* A code longer than FAST_BITS, or none: -1. Codes of a length are consecutive numbers, read from their high bit. */
static int decode_slow(inflater *s, const huffman *h) {
    int code = 0, first = 0, index = 0;
    for (unsigned b = 1; b <= MAX_BITS; b++) {
        code |= (int)(s->bits >> (b - 1) & 1);
        int count = h->count[b];
        if (code - first < count) {
            take(s, b);
            return h->symbol[index + code - first];
        }
        index += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    return -1;
}

static inline int decode(inflater *s, const huffman *h) {
    unsigned e = h->fast[s->bits & ((1 << FAST_BITS) - 1)];
    if (!e) return decode_slow(s, h);
    take(s, e >> 9);
    return (int)(e & 511);
}

static int more_room(inflater *s, size_t need) {
    sink *o = &s->out;
    if (need > o->cap - o->n)
        return tn_fail(s->err, o->grow ? TN_ENOMEM : TN_EINPUT, "compressed data: holds more than the %zu bytes %s",
                       o->cap, o->grow ? "allowed" : "expected");
    if (!o->grow) return 0;
    size_t room = o->room > o->cap / 2 ? o->cap : o->room * 2;
    if (room < o->n + need) room = o->n + need;
    unsigned char *p = realloc(o->p, room + 1);
    if (!p) return tn_fail(s->err, TN_ENOMEM, "out of memory for %zu bytes of decompressed data", room);
    o->p = p, o->room = room;
    return 0;
}

/* Copies `length` bytes from `distance` back. The two may overlap: distance 1 repeats one byte. */
static void copy_match(unsigned char *to, size_t distance, size_t length) {
    const unsigned char *from = to - distance;
    if (distance >= length) {
        memcpy(to, from, length);
    } else if (distance == 1) {
        memset(to, from[0], length);
    } else {
        for (size_t i = 0; i < length; i++) to[i] = from[i];
    }
}

/* One back reference, its length symbol already read. */
static int match(inflater *s, int symbol) {
    if (symbol - 257 >= 29) return bad(s, "length symbol 286 or 287");
    size_t length = (size_t)length_base[symbol - 257] + take(s, length_extra[symbol - 257]);
    int d = decode(s, &s->dist);
    if (d < 0 || d >= 30) return overrun(s) ? truncated(s) : bad(s, "invalid distance code");
    size_t distance = (size_t)dist_base[d] + take(s, dist_extra[d]);
    if (overrun(s)) return truncated(s);
    if (distance > s->out.n) return bad(s, "distance reaches before the start of the data");
    if (length > s->out.room - s->out.n && more_room(s, length)) return -1;
    copy_match(s->out.p + s->out.n, distance, length);
    s->out.n += length;
    return 0;
}

static int coded_block(inflater *s) {
    for (;;) {
        refill(s);
        int symbol = decode(s, &s->litlen);
        if (overrun(s)) return truncated(s);
        if (symbol < 0) return bad(s, "invalid literal or length code");
        if (symbol < END_OF_BLOCK) {
            if (s->out.n == s->out.room && more_room(s, 1)) return -1;
            s->out.p[s->out.n++] = (unsigned char)symbol;
        } else if (symbol == END_OF_BLOCK) {
            return 0;
        } else if (match(s, symbol)) {
            return -1;
        }
    }
}

static int stored_block(inflater *s) {
    take(s, s->count & 7); /* to the next byte; the buffered bytes are handed back below */
    if (overrun(s)) return truncated(s);
    s->pos = offset(s);
    s->bits = 0, s->count = 0, s->padding = 0;
    if (s->len - s->pos < 4) return truncated(s);
    unsigned n = tn_le16(s->in + s->pos), check = tn_le16(s->in + s->pos + 2);
    if (n != (check ^ 0xffff)) return bad(s, "stored length does not match its complement");
    s->pos += 4;
    if (n > s->len - s->pos) return truncated(s);
    if (n > s->out.room - s->out.n && more_room(s, n)) return -1;
    if (n) memcpy(s->out.p + s->out.n, s->in + s->pos, n);
    s->out.n += n;
    s->pos += n;
    return 0;
}

static int fixed_codes(inflater *s) { /* RFC 1951 3.2.6 */
    uint8_t lengths[LITLEN_CODES];
    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    memset(lengths + 280, 8, 8);
    if (build(s, &s->litlen, lengths, LITLEN_CODES, "fixed")) return -1;
    memset(lengths, 5, DIST_CODES);
    return build(s, &s->dist, lengths, DIST_CODES, "fixed");
}

/* The code lengths of both codes, themselves run-length and Huffman coded (RFC 1951 3.2.7); runs may cross from one
 * code into the other. The code for the lengths borrows s->litlen, which is built afterwards. */
static int read_lengths(inflater *s, uint8_t *lengths, unsigned total) {
    for (unsigned i = 0; i < total;) {
        refill(s);
        int symbol = decode(s, &s->litlen);
        if (symbol < 0) return overrun(s) ? truncated(s) : bad(s, "invalid code for a code length");
        uint8_t value = 0;
        unsigned repeat = 1;
        if (symbol < 16) {
            value = (uint8_t)symbol;
        } else if (symbol == 16) {
            if (i == 0) return bad(s, "code length repeats nothing");
            value = lengths[i - 1];
            repeat = 3 + take(s, 2);
        } else {
            repeat = symbol == 17 ? 3 + take(s, 3) : 11 + take(s, 7);
        }
        if (overrun(s)) return truncated(s);
        if (repeat > total - i) return bad(s, "too many code lengths");
        memset(lengths + i, value, repeat);
        i += repeat;
    }
    return 0;
}

static int dynamic_codes(inflater *s) {
    static const uint8_t order[LENLEN_CODES] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[286 + 32] = {0}, lenlen[LENLEN_CODES] = {0};
    unsigned n_litlen = 257 + take(s, 5), n_dist = 1 + take(s, 5), n_lenlen = 4 + take(s, 4);
    if (n_litlen > 286 || n_dist > 30) return overrun(s) ? truncated(s) : bad(s, "too many length or distance codes");
    for (unsigned i = 0; i < n_lenlen; i++) {
        refill(s);
        lenlen[order[i]] = (uint8_t)take(s, 3);
    }
    if (overrun(s)) return truncated(s);
    if (build(s, &s->litlen, lenlen, LENLEN_CODES, "code length")) return -1;
    if (read_lengths(s, lengths, n_litlen + n_dist)) return -1;
    if (!lengths[END_OF_BLOCK]) return bad(s, "block without an end code");
    if (build(s, &s->litlen, lengths, n_litlen, "literal")) return -1;
    return build(s, &s->dist, lengths + n_litlen, n_dist, "distance");
}

/* All blocks; afterwards s->pos is the first byte behind the stream. */
static int inflate_blocks(inflater *s) {
    unsigned last;
    do {
        refill(s);
        last = take(s, 1);
        unsigned type = take(s, 2);
        if (overrun(s)) return truncated(s);
        if (type == 0) {
            if (stored_block(s)) return -1;
        } else if (type == 3) {
            return bad(s, "block of the reserved type 3");
        } else if ((type == 1 ? fixed_codes(s) : dynamic_codes(s)) || coded_block(s)) {
            return -1;
        }
    } while (!last);
    s->pos = offset(s);
    return 0;
}

static int inflate_zlib(inflater *s) {
    if (s->len < 2) return truncated(s);
    unsigned cmf = s->in[0], flags = s->in[1];
    if ((cmf & 15) != 8 || cmf >> 4 > 7 || (cmf << 8 | flags) % 31 != 0)
        return tn_fail(s->err, TN_EINPUT, "compressed data: not a zlib stream, it starts with %02x %02x", cmf, flags);
    if (flags & 0x20) return tn_fail(s->err, TN_EUNSUPPORTED, "compressed data: needs a preset dictionary");
    s->pos = 2;
    if (inflate_blocks(s)) return -1;
    if (s->len - s->pos < 4) return truncated(s);
    uint32_t want = tn_be32(s->in + s->pos), got = nn_adler32(NN_ADLER32_INIT, s->out.p, s->out.n);
    s->pos += 4;
    if (want != got)
        return tn_fail(s->err, TN_EINPUT, "compressed data: Adler-32 checksum is %08lx, the stream says %08lx",
                       (unsigned long)got, (unsigned long)want);
    return 0;
}

static void start(inflater *s, const unsigned char *in, size_t len, sink out, tn_err *err) {
    s->in = in, s->len = len, s->pos = 0;
    s->bits = 0, s->count = 0, s->padding = 0;
    s->out = out;
    s->err = err;
}

int nn_inflate(const unsigned char *in, size_t len, unsigned char *out, size_t cap, size_t *used, size_t *out_len,
               tn_err *err) {
    inflater s;
    start(&s, in, len, (sink){out, 0, cap, cap, false}, err);
    if (inflate_blocks(&s)) return -1;
    *used = s.pos, *out_len = s.out.n;
    return 0;
}

int nn_zlib_inflate(const unsigned char *in, size_t len, unsigned char *out, size_t cap, size_t *used, size_t *out_len,
                    tn_err *err) {
    inflater s;
    start(&s, in, len, (sink){out, 0, cap, cap, false}, err);
    if (inflate_zlib(&s)) return -1;
    *used = s.pos, *out_len = s.out.n;
    return 0;
}

int nn_zlib_inflate_alloc(const unsigned char *in, size_t len, size_t limit, unsigned char **out, size_t *out_len,
                          tn_err *err) {
    size_t room = limit < 1024 ? limit : 1024;
    unsigned char *p = malloc(room + 1);
    if (!p) return tn_fail(err, TN_ENOMEM, "out of memory for %zu bytes of decompressed data", room);
    inflater s;
    start(&s, in, len, (sink){p, 0, room, limit, true}, err);
    int rc = inflate_zlib(&s);
    if (rc == 0 && s.pos != len)
        rc = tn_fail(err, TN_EINPUT, "compressed data: %zu bytes follow the end of the stream", len - s.pos);
    if (rc) {
        free(s.out.p);
        return -1;
    }
    s.out.p[s.out.n] = 0;
    *out = s.out.p, *out_len = s.out.n;
    return 0;
}
