/* The report while it is written: report.html, the numbers of results.json, the contact sheet of each section.
 *
 * What fails is remembered in d->failed with d->err, and all that follows does nothing: the experiments need not ask
 * each time. */
#ifndef TOOLS_PAPER_DOC_H
#define TOOLS_PAPER_DOC_H

#include "tools/chart.h"
#include "tools/paper/paper.h"
#include "tools/page.h"

enum { DOC_PICTURES = 800, DOC_STRIPS = 24, DOC_COLUMNS = 8 };

typedef struct doc {
    const paper *p;
    text html;
    tn_jw json; /* the array "measures" of results.json */
    const char *section, *table;
    const char *column[DOC_COLUMNS];
    int ncolumns;
    /* the strips of the section, for its sheet */
    nn_image image[DOC_PICTURES];
    const char *caption[DOC_PICTURES];
    strip strip[DOC_STRIPS];
    int nimages, nstrips;
    tn_err err;
    bool failed;
} doc;

void doc_section(doc *d, const char *id, const char *title, const char *says);
/* Writes OUTPUT/sheet-ID.png where the section showed pictures, and forgets them. */
void doc_section_end(doc *d);

void doc_say(doc *d, const char *fmt, ...) TN_PRINTF(2, 3);
/* A table of estimates; each number goes to results.json too, under section, table, row and column. */
void doc_table(doc *d, const char *name, const char *const *columns, int n);
void doc_row(doc *d, const char *label, const estimate *e);
void doc_table_end(doc *d);

/* The chart that has been added to d->html since it had `from` bytes, as a file that stands alone: OUTPUT/figure-ID.svg. */
void doc_figure(doc *d, size_t from);

/* A titled strip of pictures; captions are kept by reference and may be NULL. */
void doc_strip(doc *d, const char *title, const char *note, int columns);
void doc_samples(doc *d, int number, int from, int n, const char *caption); /* the caption is the first picture's */
void doc_pictures(doc *d, paper_range r, const char *caption);
void doc_strip_end(doc *d);

#endif
