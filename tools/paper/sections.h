/* The list of experiments: the ways to a word, the sections of the report, the claims. */
#ifndef TOOLS_PAPER_SECTIONS_H
#define TOOLS_PAPER_SECTIONS_H

#include "tools/paper/doc.h"
#include "tools/paper/measure.h"

/* ---- section 5.2: ways to a word ---- */

enum {
    SETUP_ONE,
    SETUP_TWO,
    SETUP_THREE,
    SETUP_PROGRESSIVE,
    SETUP_PER_IMAGE,
    SETUP_REGULARISED,
    SETUP_OFFICIAL,
    SETUP_SLOWEST, /* four rates, SETUP_ONE between the last two */
    SETUP_SLOW,
    SETUP_FAST,
    SETUP_PALAVRA,
    SETUP_INITIALIZER,
    SETUP_BRIEF,
    SETUP_CAPTION,
    SETUP_NONE,
    SETUPS
};
extern const paper_setup paper_setups[SETUPS];
/* The rates of the sweep, rising. */
enum { RATES = 4 };
extern const int paper_rates[RATES];

/* ---- sections ---- */

typedef struct paper_section {
    const char *id, *title;
    const char *says; /* what the paper reports */
    void (*plan)(paper *p);
    void (*show)(paper *p, doc *d);
} paper_section;
extern const paper_section paper_sections[];
extern const int paper_nsections;

/* Of sections that lie in files of their own. */
void plan_variations(paper *p), show_variations(paper *p, doc *d);
void plan_synthesis(paper *p), show_synthesis(paper *p, doc *d);
void plan_curation(paper *p), show_curation(paper *p, doc *d);
void plan_styles(paper *p), show_styles(paper *p, doc *d);
void plan_compositions(paper *p), show_compositions(paper *p, doc *d);
void plan_bias(paper *p), show_bias(paper *p, doc *d);
void plan_judge(paper *p), show_judge(paper *p, doc *d);
void plan_setups(paper *p), show_setups(paper *p, doc *d);
void show_tradeoff(paper *p, doc *d);
void plan_sizes(paper *p), show_sizes(paper *p, doc *d);
void plan_blending(paper *p), show_blending(paper *p, doc *d);
void plan_related(paper *p), show_related(paper *p, doc *d);
void plan_baselines(paper *p), show_baselines(paper *p, doc *d);
void plan_appendix(paper *p), show_appendix(paper *p, doc *d);
void plan_speed(paper *p), show_speed(paper *p, doc *d);

/* What claims ask of them. Shares are over all samples of all pairs. */
typedef struct compositions {
    estimate in_style, apart, together, described; /* side by side: words learned apart, in one run, or captions */
} compositions;
void compositions_measure(paper *p, compositions *out);
void bias_measure(paper *p, estimate *before, estimate *after);
/* Guided by CLIP from the pictures, against a learned word, on the same sentences: likeness and obedience, object by
 * object. */
typedef struct baselines {
    series word, guided, latent;
} baselines;
void baselines_measure(paper *p, baselines *out);
/* PSNR of pictures inverted and made again at guidance 1 and at 4 or more, object by object. */
void inversion_measure(paper *p, series *plain, series *guided);
enum { SIZES = 6 };
/* Reconstruction of held-out pictures and editability of words from sizes[k] pictures; *n objects have enough of them.
 */
extern const int paper_sizes[SIZES];
void sizes_measure(paper *p, series out[SIZES]);

/* ---- claims ---- */

typedef enum { CLAIM_HOLDS, CLAIM_FAILS, CLAIM_UNDECIDED } verdict;
typedef struct paper_claim {
    const char *section, *text;
    verdict (*judge)(paper *p, char *figures, size_t cap); /* figures: the numbers behind the verdict, in words */
    const char *why;                                       /* why one may think it does not hold, where it does not */
} paper_claim;
extern const paper_claim paper_claims[];
extern const int paper_nclaims;
extern const char *const verdict_names[3];

#endif
