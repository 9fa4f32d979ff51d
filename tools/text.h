/* A growing text, for writing HTML. A failed allocation is remembered and told at the end. */
#ifndef TOOLS_TEXT_H
#define TOOLS_TEXT_H

#include "tensor/err.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct text {
    char *p; /* NUL-terminated once something was added */
    size_t n, cap;
    bool failed;
} text;

void text_add(text *t, const char *s);
void text_format(text *t, const char *fmt, ...) TN_PRINTF(2, 3); /* up to 1000 bytes */
void text_escape(text *t, const char *s);                        /* for HTML: & < > " */
void text_base64(text *t, const unsigned char *bytes, size_t n); /* RFC 4648, with padding */
void text_free(text *t);

#endif
