/* A tree of named values on stdout: indented lines for people, or one JSON object. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include "tensor/io/json.h"

typedef struct report {
    bool json;
    int depth;
    tn_jw w; /* the JSON so far */
} report;

void report_start(report *r, bool json);
void report_open(report *r, const char *key, char bracket); /* '{', or '[', whose members have no key: in JSON only */
void report_close(report *r, char bracket);
void report_text(report *r, const char *key,
                 const char *value); /* several lines are shown as such, control characters as \xNN */
void report_int(report *r, const char *key, int64_t value);
void report_number(report *r, const char *key, double value);
void report_bool(report *r, const char *key, bool value);
void report_null(report *r, const char *key);
/* Prints the JSON, but not after a failure. -1 with TN_ENOMEM where it did not fit into memory. */
int report_end(report *r, bool failed, tn_err *err);

#endif
