/* The text encoder behind the first learned row: see clip.h. What is kept of the rows before it is, for each layer, queries,
 * keys and values, and last the hidden states after the final norm: arrays [n,C], 3 layers + 1 of them. */
#include "nn/model/clip_tower.h"

#include "tensor/op/ops.h"
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 64, MAX_ARRAYS = 3 * NN_CLIP_MAX_LAYERS + 1 };

typedef struct entry {
    int64_t n;    /* rows */
    int64_t *ids; /* [n] */
    float *rows;  /* [arrays][n,C] */
} entry;

struct nn_text_cache {
    entry e[ENTRIES];
    int next; /* the entry to be overwritten */
};

nn_text_cache *nn_text_cache_new(void) { return calloc(1, sizeof(nn_text_cache)); }

static void forget(entry *e) {
    free(e->ids), free(e->rows);
    *e = (entry){0};
}

void nn_text_cache_free(nn_text_cache *cache) {
    for (int i = 0; cache && i < ENTRIES; i++) forget(&cache->e[i]);
    free(cache);
}

static int64_t arrays_of(const nn_text_model *m) { return 3 * m->cfg.t.layers + 1; }

/* Token and position rows of ids [B,L] from row `from` on: [B,L-from,C]. */
static tn_tensor *embed_from(tn_ctx *c, const nn_text_model *m, const int64_t *ids, int64_t B, int64_t L, int64_t from,
                             tn_tensor *learned) {
    int64_t n = L - from;
    tn_tensor *tokens = tn_new(c, TN_I64, 2, (int64_t[]){B, n}), *positions = tn_new(c, TN_I64, 1, &n);
    for (int64_t b = 0; tn_live(c) && b < B; b++)
        memcpy((int64_t *)tokens->data + b * n, ids + b * L + from, (size_t)n * sizeof *ids);
    for (int64_t i = 0; tn_live(c) && i < n; i++) ((int64_t *)positions->data)[i] = from + i;
    return tn_add(c, nn_text_embed(c, m, tokens, learned), tn_embedding(c, positions, nn_w(&m->position), NULL));
}

static tn_tensor *final_norm(tn_ctx *c, const nn_text_model *m, tn_tensor *x) {
    return tn_layer_norm(c, x, nn_w(&m->final_w), nn_w(&m->final_b), m->cfg.t.eps);
}

/* Computes what ids [n] leave, with the kernels of `like`. -1 where memory is short. */
static int fill(entry *e, const nn_text_model *m, const tn_ctx *like, const int64_t *ids, int64_t n) {
    int64_t arrays = arrays_of(m), size = n * m->cfg.t.width;
    tn_tensor *made[MAX_ARRAYS];
    tn_ctx c;
    tn_err err;
    e->n = n;
    e->ids = malloc((size_t)n * sizeof *e->ids), e->rows = malloc((size_t)(arrays * size) * sizeof *e->rows);
    if (!e->ids || !e->rows) return -1;
    memcpy(e->ids, ids, (size_t)n * sizeof *ids);
    tn_ctx_init(&c, like->k, like->threads);
    c.use_ref = like->use_ref;
    int failed = tn_ctx_begin(&c, false, &err);
    if (!failed) {
        tn_tensor *x = nn_tower_first_rows(&c, m->layers, embed_from(&c, m, ids, 1, n, 0, NULL), made);
        made[arrays - 1] = final_norm(&c, m, x);
        failed = tn_ctx_status(&c, &err);
    }
    for (int64_t i = 0; !failed && i < arrays; i++)
        memcpy(e->rows + i * size, made[i]->data, (size_t)size * sizeof *e->rows);
    tn_ctx_free(&c);
    return failed;
}

static const float *look_up(nn_text_cache *cache, const nn_text_model *m, const tn_ctx *c, const int64_t *ids, int64_t n) {
    for (int i = 0; i < ENTRIES; i++) {
        const entry *e = &cache->e[i];
        if (e->n == n && memcmp(e->ids, ids, (size_t)n * sizeof *ids) == 0) return e->rows;
    }
    entry *e = &cache->e[cache->next];
    forget(e);
    if (fill(e, m, c, ids, n)) {
        forget(e);
        return NULL;
    }
    cache->next = (cache->next + 1) % ENTRIES;
    return e->rows;
}

/* The row of the first learned token in any of the texts; L where there is none. */
static int64_t first_learned(const nn_text_model *m, const int64_t *ids, int64_t B, int64_t L) {
    int64_t first = L, V = m->token.shape[0];
    for (int64_t b = 0; b < B; b++) {
        for (int64_t i = 0; i < first; i++) {
            if (ids[b * L + i] >= V) first = i;
        }
    }
    return first;
}

size_t nn_text_cache_bytes(const nn_text_model *m, const int64_t *ids, int64_t n, int64_t L) {
    size_t row = (size_t)(arrays_of(m) * m->cfg.t.width) * sizeof(float) + sizeof *ids, all = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        size_t bytes = (size_t)first_learned(m, ids + i * L, 1, L) * row;
        all += bytes;
        if (bytes > most) most = bytes;
    }
    return n <= ENTRIES ? all : ENTRIES * most;
}

tn_tensor *nn_text_encode_cached(tn_ctx *c, const nn_text_model *m, nn_text_cache *cache, const int64_t *ids, int64_t B,
                                 int64_t L, tn_tensor *learned) {
    int64_t n = first_learned(m, ids, B, L), arrays = arrays_of(m), size = n * m->cfg.t.width;
    bool known = cache && n > 0 && n < L;
    tn_tensor *before[MAX_ARRAYS];
    for (int64_t i = 0; known && i < arrays; i++) before[i] = tn_new(c, TN_F32, 3, (int64_t[]){B, n, m->cfg.t.width});
    for (int64_t b = 0; known && tn_live(c) && b < B; b++) {
        const float *rows = look_up(cache, m, c, ids + b * L, n);
        known = rows != NULL;
        for (int64_t i = 0; known && i < arrays; i++)
            memcpy(tn_f32(before[i]) + b * size, rows + i * size, (size_t)size * sizeof *rows);
    }
    if (!known) {
        tn_tensor *all = tn_leaf(c, TN_I64, 2, (int64_t[]){B, L}, (void *)(uintptr_t)ids, false);
        return nn_text_encode(c, m, nn_text_embed(c, m, all, learned), "");
    }
    tn_tensor *x = nn_tower_later_rows(c, m->layers, embed_from(c, m, ids, B, L, n, learned), before);
    return tn_concat(c, before[arrays - 1], final_norm(c, m, x));
}
