#include "tools/report.h"

#include "tools/opt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void report_start(report *r, bool json) {
    *r = (report){.json = json};
    tn_jw_init(&r->w, 0);
    if (json) tn_jw_open(&r->w, NULL, '{');
}

static void line(const report *r, const char *key) {
    printf("%*s", 2 * r->depth, "");
    opt_put(key);
    putchar(':');
}

void report_open(report *r, const char *key, char bracket) {
    if (r->json) {
        tn_jw_open(&r->w, key, bracket);
    } else {
        line(r, key);
        putchar('\n');
    }
    r->depth++;
}

void report_close(report *r, char bracket) {
    r->depth--;
    if (r->json) tn_jw_close(&r->w, bracket);
}

void report_text(report *r, const char *key, const char *value) {
    if (r->json) {
        tn_jw_string(&r->w, key, value);
        return;
    }
    line(r, key);
    putchar(' ');
    for (const char *s = value; *s; s++) {
        char one[2] = {*s, '\0'};
        if (*s != '\n')
            opt_put(one);
        else if (s[1])
            printf("\n%*s", 2 * r->depth + 4, "");
    }
    putchar('\n');
}

void report_int(report *r, const char *key, int64_t value) {
    if (r->json)
        tn_jw_int(&r->w, key, value);
    else
        line(r, key), printf(" %lld\n", (long long)value);
}

void report_number(report *r, const char *key, double value) {
    if (r->json)
        tn_jw_number(&r->w, key, value);
    else
        line(r, key), printf(" %.9g\n", value);
}

void report_bool(report *r, const char *key, bool value) {
    if (r->json)
        tn_jw_bool(&r->w, key, value);
    else
        line(r, key), printf(" %s\n", value ? "true" : "false");
}

void report_null(report *r, const char *key) {
    if (r->json)
        tn_jw_null(&r->w, key);
    else
        line(r, key), printf(" null\n");
}

int report_end(report *r, bool failed, tn_err *err) {
    while (r->json && r->depth > 0) report_close(r, '}'); /* a failure inside */
    if (r->json) tn_jw_close(&r->w, '}');
    char *text = tn_jw_take(&r->w);
    if (r->json && text && !failed) puts(text);
    bool lost = r->json && !text;
    free(text);
    return lost && !failed ? tn_fail(err, TN_ENOMEM, "out of memory for the report") : 0;
}
