/* The byte-level BPE tokenizer of CLIP, with placeholder tokens.
 *
 * Sennrich et al. 2016 (arXiv:1508.07909) for the merging, openai/CLIP simple_tokenizer.py and the CLIPTokenizer of
 * transformers for everything around it. Only nn_tokenizer_add and nn_tokenizer_take_back change a tokenizer; encoding is thread-safe. */
#ifndef NN_TEXT_TOKENIZER_H
#define NN_TEXT_TOKENIZER_H

#include "tensor/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nn_tokenizer nn_tokenizer;

/* What happens to a text before BPE; nn/text/README.md lays the two side by side. */
typedef enum {
    NN_RULES_HF,    /* transformers' CLIPTokenizer without ftfy: what diffusers users get */
    NN_RULES_OPENAI /* openai's SimpleTokenizer without ftfy */
} nn_tokenizer_rules;

typedef struct nn_tokenizer_facts {
    int32_t bos, eos, pad, unk;
    int size;       /* ids are 0 .. size - 1, added tokens included */
    int file_size;  /* the same without what nn_tokenizer_add added: rows the model's table has for them */
    int max_length; /* model_max_length of the files; 0 where they state none, or one beyond any model (1e30) */
} nn_tokenizer_facts;

/* Reads a tokenizer from a folder: vocab.json and merges.txt, or else tokenizer.json; with them, where present,
 * tokenizer_config.json, special_tokens_map.json (which wins, as in transformers) and added_tokens.json.
 * Refused with file and line or token: merges that are not two symbols, repeated, unknown to the vocabulary or cut
 * short; ids that are not 0 .. n-1 each once. At most 1 << 20 tokens; merges beyond the 48894 of CLIP are ignored, as
 * the reference does. */
int nn_tokenizer_load(const char *dir, nn_tokenizer **tok, tn_err *err);
void nn_tokenizer_free(nn_tokenizer *tok); /* NULL is fine */

nn_tokenizer_facts nn_tokenizer_get_facts(const nn_tokenizer *tok);
/* A token as the vocabulary writes it ("cat</w>", "<|endoftext|>", "<cat-toy>_1"), UTF-8; NULL for an id out of range.
 * Valid until the tokenizer is freed. */
const char *nn_tokenizer_text(const nn_tokenizer *tok, int32_t id);
/* The id of a word that is exactly one token ("cat" is "cat</w>", a placeholder of one vector is itself); else -1. */
int32_t nn_tokenizer_word(const nn_tokenizer *tok, const char *word);

/* Adds a placeholder for n_vectors learned vectors: the ids *first_id .. *first_id + n_vectors - 1, called NAME,
 * NAME_1, NAME_2, ... An occurrence of NAME in a prompt stands for all of them; where NAME is followed by NAME_1, the
 * prompt is taken as written out and each name stands for itself. NAME_i alone is the one vector. Longest name first,
 * case-sensitive. TN_EUSAGE for a name that is empty, not UTF-8, has white space or control characters, or is a token
 * already. */
int nn_tokenizer_add(nn_tokenizer *tok, const char *name, int n_vectors, int32_t *first_id, tn_err *err);

/* Takes back what nn_tokenizer_add added since the tokenizer had `size` tokens (nn_tokenizer_get_facts). */
void nn_tokenizer_take_back(nn_tokenizer *tok, int size);

/* A word of a prompt that is more than one token. */
typedef struct nn_split_word {
    char *text; /* cleaned: lower case, UTF-8 */
    int n_tokens;
    bool bare_byte; /* some piece is a single byte: a model with a vocabulary of words has never seen it */
} nn_split_word;

typedef struct nn_tokens {
    int32_t *ids;    /* [length]: start, text, end, padding */
    int length;      /* the max_length asked for */
    int n_real;      /* tokens before the padding, start and end included */
    int n_total;     /* what n_real would be without a limit; larger than n_real where the text was truncated */
    const char *cut; /* the first added token of the files that truncation removed, or NULL */
    char *near_miss; /* a piece of the text that is an added token but for upper and lower case, or NULL */
    const char *near_miss_of; /* that token */
    nn_split_word *split;     /* words among the kept tokens that fell apart, in order */
    int n_split;
} nn_tokens;

/* Encodes text[0..len), at most 4 MiB of any bytes, to max_length >= 2 ids. Too long a text loses its tail but keeps
 * the end token; if that would lose a vector added by nn_tokenizer_add, TN_EUSAGE names it. 0 and *out filled, to be
 * freed with nn_tokens_free; or -1 and *out untouched. */
int nn_tokenizer_encode(const nn_tokenizer *tok, const char *text, size_t len, nn_tokenizer_rules rules, int max_length,
                        nn_tokens *out, tn_err *err);
void nn_tokens_free(nn_tokens *t); /* leaves it zeroed */

#endif
