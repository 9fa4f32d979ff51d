/* What a user should know about a prompt before minutes go into it: warnings, none of which is an error. */
#ifndef TOOLS_PROMPT_H
#define TOOLS_PROMPT_H

#include "tools/embedding.h"
#include "tools/generate.h"

/* TN_EUSAGE where a prompt is not UTF-8; `what` ("--prompt") is for the message. */
int prompt_check(const char *what, const char *prompt, tn_err *err);

/* Warns (opt_warn) where the prompt is longer than the text encoder reads, with the lost part; where a placeholder is
 * spelt with other upper and lower case; where words fall apart and the vocabulary is so small that their pieces were
 * never trained. `length` is nn_prompt_length. */
int prompt_remarks(const nn_model *m, const char *what, const char *prompt, nn_tokenizer_rules rules, int length,
                   tn_err *err);
/* Warns of each word, registered in this order, that neither prompt uses. */
int prompt_unused(const nn_model *m, const emb_words *words, const char *prompt, const char *negative,
                  nn_tokenizer_rules rules, tn_err *err);

/* The rules that a value of --tokenizer-mode names; the options' table lets no other through. */
nn_tokenizer_rules prompt_rules(const char *mode);

/* Prompts, at least one. */
typedef struct prompt_list {
    char **line;
    int n;
} prompt_list;
/* `prompt` alone where `path` is NULL. Else the lines of a file, empty ones and ones that begin with '#' left out: as they
 * are with `prompt` NULL, or in the place of its "{}". TN_EUSAGE: a prompt without "{}", or not UTF-8; TN_EINPUT: a file
 * without lines. */
int prompt_list_make(const char *prompt, const char *path, prompt_list *out, tn_err *err);
void prompt_list_free(prompt_list *p);

/* Tokens [from, to) as text again: "a photo of a cat". The caller frees it; NULL where memory is out. */
char *prompt_text(const nn_model *m, const int32_t *ids, int from, int to);

#endif
