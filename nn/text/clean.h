/* From the text of a prompt to words: the cleaning that the two reference tokenizers do, and their common splitting. */
#ifndef NN_TEXT_CLEAN_H
#define NN_TEXT_CLEAN_H

#include "nn/text/tokenizer.h"
#include <stddef.h>
#include <stdint.h>

/* Cleans text[0..len) (UTF-8, any bytes) into *out, *n code points in lower case; the caller frees *out. Runs of white
 * space are left as they are: splitting skips them. 0, or -1 with TN_ENOMEM.
 *
 * - hf: transformers CLIPTokenizer without ftfy, BasicTokenizer(strip_accents=False, do_split_on_punc=False)
 * - openai: openai/CLIP simple_tokenizer.py without ftfy, html.unescape twice, strip, lower */
int nn_clean(const char *text, size_t len, nn_tokenizer_rules rules, uint32_t **out, size_t *n, tn_err *err);

/* The next word of s[0..n) from *pos on: s[*start] .. s[*pos - 1] afterwards; false at the end. Words match
 *
 *   <|startoftext|> | <|endoftext|> | 's | 't | 're | 've | 'm | 'll | 'd | \p{L}+ | \p{N} | [^\s\p{L}\p{N}]+
 * without regard to case (openai/CLIP, simple_tokenizer.py, `self.pat`), at each place the first that fits. */
bool nn_next_word(const uint32_t *s, size_t n, size_t *pos, size_t *start);

/* html.unescape() of Python, in place; returns the new count, never more than n. */
size_t nn_html_unescape(uint32_t *s, size_t n);

#endif
