/* The little of Unicode 14 that a CLIP tokenizer needs: UTF-8, four classes of characters, lower case, NFC.
 *
 * Strings are arrays of code points. Every function writes to an array of the caller's, whose size is stated, so
 * nothing here allocates and nothing fails. All agree with Python 3.11, on which the reference tokenizers run, for
 * every code point. */
#ifndef NN_TEXT_UNICODE_H
#define NN_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NN_UNI_LETTER = 1,    /* general category L* */
    NN_UNI_NUMBER = 2,    /* N* */
    NN_UNI_SPACE = 4,     /* White_Space: what \s of the reference's regular expressions matches */
    NN_UNI_CONTROL = 8,   /* C*: control, format, surrogate, private use, unassigned */
    NN_UNI_CASED = 16,    /* Cased and not Case_Ignorable: makes a following capital sigma final */
    NN_UNI_IGNORABLE = 32 /* Case_Ignorable: looked through by the rule of the final sigma */
};

/* Decodes UTF-8 into out, which holds len; returns the count. Invalid bytes become U+FFFD as in bytes.decode("utf-8",
 * "replace"): one for each maximal prefix of a well-formed sequence (Unicode 14, section 3.9, table 3-7). */
size_t nn_utf8_decode(const char *s, size_t len, uint32_t *out);
/* Writes one code point (<= 0x10FFFF) as 1 to 4 bytes; returns how many. */
size_t nn_utf8_encode(uint32_t c, char out[4]);
bool nn_utf8_valid(const char *s, size_t len);

unsigned nn_uni_flags(uint32_t c);
/* str.isspace(): White_Space and the four information separators 1C..1F. */
bool nn_uni_isspace(uint32_t c);
/* The blocks that BERT's BasicTokenizer surrounds with spaces (google-research/bert, tokenization.py). */
bool nn_uni_is_cjk(uint32_t c);

/* str.lower(): full mapping, final sigma included. out holds 2n and is not s; returns the count. */
size_t nn_uni_lower(const uint32_t *s, size_t n, uint32_t *out);

/* Normalisation form C (Unicode Standard Annex 15). out and work hold 4n each (the longest canonical decomposition has
 * four code points); none of the three overlap. Returns the count. */
size_t nn_uni_nfc(const uint32_t *s, size_t n, uint32_t *out, uint32_t *work);

#endif
