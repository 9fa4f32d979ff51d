/* From a list of sections to results on disk, and to the report. */
#ifndef TOOLS_PAPER_RUN_H
#define TOOLS_PAPER_RUN_H

#include "tools/paper/sections.h"

/* Asks the selected sections for their units. */
int paper_plan(paper *p, tn_err *err);
/* Times a step of learning and a step of sampling, unless every unit is there. */
int paper_probe(paper *p, tn_err *err);
/* Prints the plan to stderr: units by kind, what is missing, how long it will take. */
void paper_tell(const paper *p);
/* Makes the missing units of this run's shard, and those they are made from. */
int paper_make(paper *p, tn_err *err);
/* Units that are not there. */
int paper_missing(const paper *p);

/* OUTPUT/plan.json: sizes and sections, so that --merge knows what the shards were about. */
int paper_store_settings(const paper *p, tn_err *err);
/* Takes the settings of the folders, which must be the same in all, and copies their units to OUTPUT. A unit that is in
 * several must be the same in all, byte for byte: TN_EMISMATCH. */
int paper_merge(paper *p, const char *const *dirs, int n, tn_err *err);

/* OUTPUT/report.html, results.json and the sheets; every unit must be there. Prints the claims to stdout. */
int paper_report(paper *p, tn_err *err);

#endif
