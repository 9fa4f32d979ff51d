/* Learned words in files: reading, adding them to a model, writing.
 *
 * The format is that of diffusers' training script, learned_embeds.safetensors: one tensor for each placeholder token,
 * its name the token, [n,dim] or [dim], F32, F16 or BF16. The other formats in use are told apart and refused by name.
 */
#ifndef TOOLS_EMBEDDING_H
#define TOOLS_EMBEDDING_H

#include "nn/model.h"

typedef struct emb_word {
    char *token; /* the placeholder, "<cat-toy>" */
    int64_t n, dim;
    float *v;        /* [n,dim], finite */
    char sha256[65]; /* of the file it came from; "" where it came from none */
} emb_word;

typedef struct emb_words {
    emb_word *w;
    int n;
} emb_words;

/* Appends the words of a file to *words, which starts as zeros. `name`, where not NULL, takes the place of the token in
 * the file, which must then hold one word. TN_EINPUT: not a file of words, or numbers that are not finite;
 * TN_EUNSUPPORTED: another format, by name; TN_EIO. *words is untouched on failure. */
int emb_read(const char *path, const char *name, emb_words *words, tn_err *err);
/* The same for an argument of --embedding: [NAME=]FILE. A path that exists as written is a FILE, whatever it contains.
 */
int emb_read_argument(const char *argument, emb_words *words, tn_err *err);
/* Appends a copy of one word. */
int emb_append(emb_words *words, const char *token, int64_t n, int64_t dim, const float *v, tn_err *err);
void emb_free(emb_words *words); /* leaves it zeroed */

/* Teaches all words to a model that has none yet: adds the placeholders to its tokenizer and gathers their vectors in
 * that order as *learned [*rows, width], which the caller frees (NULL and 0 for no words). TN_EINPUT: vectors of
 * another width than the text encoder's; TN_EUSAGE: a token that is a word of the model already, or is no possible
 * token. */
int emb_register(nn_model *m, const emb_words *words, float **learned, int64_t *rows, tn_err *err);

/* Writes a learned_embeds.safetensors as diffusers does: F32 [n,dim] under each token, metadata {"format": "pt"}. */
int emb_write(const char *path, const emb_words *words, tn_err *err);

#endif
