/* A byte-level BPE vocabulary: tokens by id and by text, merges by pair, and the merging of one word.
 *
 * A word is bytes. Each byte is first a token of its own (printable bytes as themselves, the others as U+0100 and up,
 * so that a vocabulary file is readable text); the last one carries "</w>". Merges then join neighbours, lowest rank
 * first. */
#ifndef NN_TEXT_BPE_H
#define NN_TEXT_BPE_H

#include "tensor/err.h"
#include "tensor/io/strmap.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nn_token {
    char *text;
    int32_t id;
} nn_token;

typedef struct nn_merge {
    int32_t left, right; /* left -1 = free slot */
    int32_t rank, result;
} nn_merge;

typedef struct nn_bpe {
    nn_token *token; /* [n_tokens], token[i].id == i */
    int n_tokens, cap;
    tn_strmap by_text;
    nn_merge *merge; /* open addressing, 2^k slots, at most half full */
    size_t merge_mask;
    int n_merges;
    int32_t byte[256], last_byte[256]; /* the token of a byte within and at the end of a word; -1 where there is none */
    int32_t unk;                       /* what such bytes become */
} nn_bpe;

typedef struct nn_ids {
    int32_t *v;
    size_t n, cap;
} nn_ids;
int nn_ids_push(nn_ids *ids, int32_t id); /* -1 where memory is out */

/* Scratch of nn_bpe_word, kept between words; zeroed at first, free(mem) at last. */
typedef struct nn_bpe_work {
    void *mem;
    size_t cap; /* symbols there is room for */
} nn_bpe_work;

/* Empty, with room for merges. -1 where memory is out. */
int nn_bpe_init(nn_bpe *b, size_t max_merges);
void nn_bpe_free(nn_bpe *b);
/* Gives the next id to text, which must be new. -1: TN_ENOMEM, or TN_EINPUT where the text is there. */
int nn_bpe_add_token(nn_bpe *b, const char *text, tn_err *err);
void nn_bpe_truncate(nn_bpe *b, int n); /* forgets all tokens but the first n; none of a merge */
int32_t nn_bpe_find(const nn_bpe *b, const char *text); /* -1 where absent */
/* The next merge in rank. -1 with what is wrong with it (unknown token, repeated). */
int nn_bpe_add_merge(nn_bpe *b, const char *left, const char *right, tn_err *err);
/* To be called once after the last token of the files: looks up the tokens of the bytes. */
void nn_bpe_link_bytes(nn_bpe *b);
bool nn_bpe_is_byte(const nn_bpe *b, int32_t id);

/* Appends the tokens of one word of n >= 1 bytes to ids. O(n log n). -1 where memory is out. */
int nn_bpe_word(const nn_bpe *b, const char *bytes, size_t n, nn_bpe_work *work, nn_ids *ids);

#endif
