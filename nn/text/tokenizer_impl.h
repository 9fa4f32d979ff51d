/* Inside of nn_tokenizer, shared by tokenizer_load.c and tokenizer.c. */
#ifndef NN_TEXT_TOKENIZER_IMPL_H
#define NN_TEXT_TOKENIZER_IMPL_H

#include "nn/text/bpe.h"
#include "nn/text/tokenizer.h"

/* A token that is cut out of the raw text before anything else happens to it. */
typedef struct nn_added {
    const char *text; /* of the vocabulary */
    size_t len;
    int32_t id;
    int n_vectors; /* how many consecutive ids an occurrence stands for; 0 marks NAME_i, which stands for itself */
    bool special;  /* start, end, padding or unknown: cut out by the rules of Hugging Face alone */
} nn_added;

/* Every place of a text is compared with every added token, so their number is bounded. */
enum { NN_MAX_ADDED = 4096 };

struct nn_tokenizer {
    nn_bpe bpe;
    nn_added *added; /* longest text first */
    int n_added;
    bool starts[256]; /* first bytes of added tokens */
    int32_t bos, eos, pad, unk;
    int file_size, max_length;
};

/* Registers token id for cutting out, once. -1 where memory is out or there are too many. */
int nn_tokenizer_register(nn_tokenizer *tok, int32_t id, int n_vectors, bool special, tn_err *err);

#endif
