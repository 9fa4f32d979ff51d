#include "nn/text/bpe.h"

#include "nn/text/unicode.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 1 << 20 };

int nn_ids_push(nn_ids *ids, int32_t id) {
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? 2 * ids->cap : 128;
        int32_t *v = cap > SIZE_MAX / sizeof *v ? NULL : realloc(ids->v, cap * sizeof *v);
        if (!v) return -1;
        ids->v = v, ids->cap = cap;
    }
    ids->v[ids->n++] = id;
    return 0;
}

/* ---- the vocabulary ---- */

int nn_bpe_init(nn_bpe *b, size_t max_merges) {
    memset(b, 0, sizeof *b);
    b->unk = -1;
    size_t slots = 16;
    while (slots < 2 * max_merges) slots *= 2;
    b->merge = malloc(slots * sizeof *b->merge);
    if (!b->merge) return -1;
    for (size_t i = 0; i < slots; i++) b->merge[i].left = -1;
    b->merge_mask = slots - 1;
    return 0;
}

void nn_bpe_free(nn_bpe *b) {
    for (int i = 0; i < b->n_tokens; i++) free(b->token[i].text);
    free(b->token);
    free(b->merge);
    tn_strmap_free(&b->by_text);
    memset(b, 0, sizeof *b);
}

/* Doubles the room. The map holds pointers into the array and is therefore built anew. */
static int grow(nn_bpe *b) {
    int cap = b->cap ? 2 * b->cap : 1024;
    nn_token *token = malloc((size_t)cap * sizeof *token);
    tn_strmap map = {0};
    bool overrun = false;
    if (!token || tn_strmap_init(&map, (size_t)cap)) {
        free(token);
        return -1;
    }
    for (int i = 0; i < b->n_tokens; i++) {
        token[i] = b->token[i];
        tn_strmap_put(&map, token[i].text, &token[i], &overrun);
    }
    if (overrun) {
        tn_strmap_free(&map);
        free(token);
        return -1;
    }
    tn_strmap_free(&b->by_text);
    free(b->token);
    b->token = token, b->cap = cap, b->by_text = map;
    return 0;
}

int nn_bpe_add_token(nn_bpe *b, const char *text, tn_err *err) {
    if (b->n_tokens >= MAX_TOKENS) return tn_fail(err, TN_EINPUT, "more than %d tokens", MAX_TOKENS);
    size_t len = strlen(text) + 1;
    char *own = malloc(len);
    if (!own || (b->n_tokens == b->cap && grow(b))) {
        free(own);
        return tn_fail(err, TN_ENOMEM, "no memory for %d tokens", b->n_tokens + 1);
    }
    memcpy(own, text, len);
    nn_token *t = &b->token[b->n_tokens];
    *t = (nn_token){own, b->n_tokens};
    bool overrun = false;
    if (tn_strmap_put(&b->by_text, own, t, &overrun) || overrun) {
        tn_fail(err, TN_EINPUT, overrun ? "too many tokens like '%s'" : "token '%s' appears twice", own);
        free(own);
        return -1;
    }
    b->n_tokens++;
    return 0;
}

void nn_bpe_truncate(nn_bpe *b, int n) {
    bool overrun = false;
    while (b->n_tokens > n) free(b->token[--b->n_tokens].text);
    tn_strmap_clear(&b->by_text);
    for (int i = 0; i < n && !overrun; i++) tn_strmap_put(&b->by_text, b->token[i].text, &b->token[i], &overrun);
    TN_REQUIRE(!overrun); /* they were all there before, and more */
}

int32_t nn_bpe_find(const nn_bpe *b, const char *text) {
    const nn_token *t = b->n_tokens ? tn_strmap_get(&b->by_text, text) : NULL;
    return t ? t->id : -1;
}

void nn_bpe_link_bytes(nn_bpe *b) {
    uint32_t next = 0x100;
    for (uint32_t c = 0; c < 256; c++) {
        bool printable = (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c != 0xad);
        char text[4 + sizeof "</w>"];
        size_t n = nn_utf8_encode(printable ? c : next++, text);
        text[n] = '\0';
        b->byte[c] = nn_bpe_find(b, text);
        memcpy(text + n, "</w>", sizeof "</w>");
        b->last_byte[c] = nn_bpe_find(b, text);
    }
}

bool nn_bpe_is_byte(const nn_bpe *b, int32_t id) {
    for (int c = 0; c < 256; c++) {
        if (b->byte[c] == id || b->last_byte[c] == id) return true;
    }
    return false;
}

/* ---- merges ---- */

/* The slot of a pair: where it is, or where it would be. */
static nn_merge *slot(const nn_bpe *b, int32_t left, int32_t right) {
    uint64_t h = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
    for (size_t i = (size_t)(h ^ h >> 33);; i++) {
        nn_merge *m = &b->merge[i & b->merge_mask];
        if (m->left < 0 || (m->left == left && m->right == right)) return m;
    }
}

/* The merge of a pair, or NULL. Symbols are -1 for a byte that has no token: no merge knows those. */
static const nn_merge *find_merge(const nn_bpe *b, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return NULL;
    const nn_merge *m = slot(b, left, right);
    return m->left < 0 ? NULL : m;
}

int nn_bpe_add_merge(nn_bpe *b, const char *left, const char *right, tn_err *err) {
    size_t a = strlen(left), c = strlen(right);
    char *joined = malloc(a + c + 1);
    if (!joined) return tn_fail(err, TN_ENOMEM, "no memory for a merge");
    memcpy(joined, left, a);
    memcpy(joined + a, right, c + 1);
    int32_t l = nn_bpe_find(b, left), r = nn_bpe_find(b, right), result = nn_bpe_find(b, joined);
    const char *missing = l < 0 ? left : r < 0 ? right : result < 0 ? joined : NULL;
    if (missing) tn_fail(err, TN_EINPUT, "'%s' is not in the vocabulary (do the files belong together?)", missing);
    free(joined);
    if (missing) return -1;
    nn_merge *m = slot(b, l, r);
    if (m->left >= 0) return tn_fail(err, TN_EINPUT, "the merge '%s %s' appears twice", left, right);
    TN_REQUIRE((size_t)b->n_merges < b->merge_mask / 2 + 1);
    *m = (nn_merge){l, r, b->n_merges++, result};
    return 0;
}

/* ---- merging a word ---- */

/* A word in the making: a linked list of symbols and a heap of candidate pairs, (rank << 32 | position of the left). */
typedef struct word {
    int32_t *symbol;
    uint32_t *next, *prev; /* n is the end, also of prev */
    uint32_t n;
    uint64_t *heap;
    size_t n_heap;
    uint32_t *fresh; /* positions of the symbols made in this round */
    size_t n_fresh;
} word;

static void heap_push(word *w, uint64_t x) {
    size_t i = w->n_heap++;
    for (; i && w->heap[(i - 1) / 2] > x; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = x;
}

static uint64_t heap_pop(word *w) {
    uint64_t top = w->heap[0], x = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < w->n_heap; i = c) {
        if (c + 1 < w->n_heap && w->heap[c + 1] < w->heap[c]) c++;
        if (w->heap[c] >= x) break;
        w->heap[i] = w->heap[c];
    }
    w->heap[i] = x;
    return top;
}

static void offer(const nn_bpe *b, word *w, uint32_t left) {
    if (left == w->n || w->next[left] == w->n) return;
    const nn_merge *m = find_merge(b, w->symbol[left], w->symbol[w->next[left]]);
    if (m) heap_push(w, (uint64_t)(uint32_t)m->rank << 32 | left);
}

/* One round of the reference: every occurrence of the best pair, from left to right, before any new pair is considered.
 * A candidate whose symbols have changed since, or are gone, no longer has the rank it was offered with. */
static void merge_round(const nn_bpe *b, word *w) {
    uint64_t rank = w->heap[0] >> 32;
    w->n_fresh = 0;
    while (w->n_heap && w->heap[0] >> 32 == rank) {
        uint32_t at = (uint32_t)(heap_pop(w) & 0xffffffffu), right = w->next[at];
        const nn_merge *m = right == w->n ? NULL : find_merge(b, w->symbol[at], w->symbol[right]);
        if (!m || (uint64_t)m->rank != rank) continue;
        w->symbol[at] = m->result;
        w->symbol[right] = -1;
        w->next[at] = w->next[right];
        if (w->next[at] != w->n) w->prev[w->next[at]] = at;
        w->fresh[w->n_fresh++] = at;
    }
    for (size_t i = 0; i < w->n_fresh; i++) {
        offer(b, w, w->prev[w->fresh[i]]);
        offer(b, w, w->fresh[i]);
    }
}

/* Room for a word of n symbols: at most n - 1 merges, each offering two pairs, after n - 1 pairs at the start. */
static int reserve(nn_bpe_work *work, size_t n, word *w) {
    size_t each = 3 * sizeof *w->heap + sizeof *w->symbol + 3 * sizeof *w->next;
    if (n > work->cap) {
        size_t cap = n < 256 ? 256 : n;
        void *mem = cap > SIZE_MAX / each ? NULL : realloc(work->mem, cap * each);
        if (!mem) return -1;
        work->mem = mem, work->cap = cap;
    }
    w->heap = work->mem; /* the widest type first: the rest is aligned by itself */
    w->next = (uint32_t *)(w->heap + 3 * work->cap);
    w->prev = w->next + work->cap;
    w->fresh = w->prev + work->cap;
    w->symbol = (int32_t *)(w->fresh + work->cap);
    w->n = (uint32_t)n;
    w->n_heap = 0;
    return 0;
}

int nn_bpe_word(const nn_bpe *b, const char *bytes, size_t n, nn_bpe_work *work, nn_ids *ids) {
    word w;
    if (n >= UINT32_MAX || reserve(work, n, &w)) return -1;
    for (uint32_t i = 0; i < w.n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        w.symbol[i] = i + 1 == w.n ? b->last_byte[c] : b->byte[c];
        w.next[i] = i + 1;
        w.prev[i] = i ? i - 1 : w.n;
    }
    for (uint32_t i = 0; i < w.n; i++) offer(b, &w, i);
    while (w.n_heap) merge_round(b, &w);
    for (uint32_t i = 0; i != w.n; i = w.next[i]) {
        if (nn_ids_push(ids, w.symbol[i] < 0 ? b->unk : w.symbol[i])) return -1;
    }
    return 0;
}
