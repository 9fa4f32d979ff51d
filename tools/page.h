/* The report of a run: one HTML file that refers to nothing outside itself and reads without scripts. */
#ifndef TOOLS_PAGE_H
#define TOOLS_PAGE_H

#include "tools/sheet.h"
#include "tools/text.h"
#include <stdbool.h>

typedef struct page_score {
    const char *name, *note;
    double reconstruction, mean_of_cosines, cosine_of_mean; /* negative: not measured */
} page_score;

typedef struct page_setting {
    const char *name;
    char value[160];
} page_setting;

typedef struct page {
    const char *title, *lead; /* lead: what was done, in a sentence or two */
    bool good;
    const char *verdict;
    const char *command; /* that repeats the training */
    const strip *before; /* shown before the curves */
    int nbefore;
    const strip *after; /* behind them */
    int nafter;
    const double *loss; /* [nloss], of every step */
    int64_t nloss;
    const int64_t *at;        /* [npoints]: steps at which ... */
    const double *similarity; /* ... this was the similarity of samples to the pictures */
    int npoints;
    const page_score *score;
    int nscores;
    const page_setting *setting;
    int nsettings;
} page;

/* Replaces the file atomically. TN_ENOMEM, TN_EIO. */
int page_write(const char *path, const page *r, tn_err *err);

/* The parts, for a report of another outline. The style element also dresses a chart that stands alone. */
extern const char page_style[];
void page_begin(text *t, const char *title, const char *lead); /* up to the first paragraph */
int page_strips(text *t, const strip *strips, int n, tn_err *err);
void page_element(text *t, const char *open, const char *content, const char *close); /* content is escaped */
void page_end(text *t);

#endif
