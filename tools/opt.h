/* The command line: every subcommand is a table of options; parsing, --help, suggestions and errors come from the
 * table.
 *
 * Names are diffusers' for training, A1111's and stable-diffusion.cpp's for generation; '_' and '-' are alike in long
 * names, --name=value and --name value are alike, prefixes are not accepted. Data goes to stdout, everything else to
 * stderr. */
#ifndef TOOLS_OPT_H
#define TOOLS_OPT_H

#include "tensor/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    OPT_FLAG,   /* bool; no argument */
    OPT_INT,    /* int64_t, within lo..hi */
    OPT_NUMBER, /* double, finite, within lo..hi */
    OPT_TEXT,   /* const char * */
    OPT_LIST,   /* opt_list: may be repeated */
    OPT_IGNORED /* accepted with a note: a flag of another tool that has no meaning here (help says why) */
} opt_type;

typedef struct opt_list {
    const char *item[1024];
    int n;
} opt_list;

typedef struct opt_row {
    const char *names;  /* "steps" or "p,prompt" or "cfg-scale,guidance-scale,g": one letter is -x, longer is --name; the first long one is shown first */
    opt_type type;
    size_t field;       /* offsetof(the command's settings, field) */
    double lo, hi;      /* OPT_INT, OPT_NUMBER: allowed range; lo == hi: any */
    const char *meta;   /* "N", "FILE", "DIR", "a|b|c": with bars an OPT_TEXT must be one of them */
    const char *help;   /* one line; the default is named in it */
} opt_row;

typedef struct opt_command {
    const char *name, *summary; /* summary: one line for `oneword help` */
    const char *usage;          /* "train --model DIR --train-data-dir DIR --placeholder-token TOKEN [options]" */
    const char *notes;          /* after the options in --help: examples; may be NULL */
    const opt_row *rows;
    int nrows;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name, argv[-1] the program as it was called; returns the exit status */
} opt_command;

/* Fills *settings (already holding the defaults) from argv[1..argc). `given`, if not NULL, gets one bool a row.
 * Positional arguments are collected in *rest (may be NULL: then they are errors). Returns 0; 1 where --help was
 * printed (exit 0); -1 with TN_EUSAGE. */
int opt_parse(const opt_command *cmd, int argc, char **argv, void *settings, bool *given, opt_list *rest, tn_err *err);
void opt_help(const opt_command *cmd);
/* The nearest of n names by edit distance, NULL where none is near. */
const char *opt_nearest(const char *word, const char *const *names, int n);

/* Options that every command has: --threads N (-t), --isa NAME, --conv FORM, --json, --quiet (-q), --verbose (-v), --help. */
typedef struct opt_common {
    int64_t threads; /* 0: all (OMP_NUM_THREADS is respected by the OpenMP run time) */
    const char *isa;  /* NULL: best */
    const char *conv; /* NULL: auto */
    bool json, quiet, verbose;
} opt_common;
#define OPT_COMMON(S, field)                                                                                                   \
    {"t,threads", OPT_INT, offsetof(S, field) + offsetof(opt_common, threads), 0, 4096, "N", "threads (default: all; the result does not depend on it)"}, \
    {"isa", OPT_TEXT, offsetof(S, field) + offsetof(opt_common, isa), 0, 0, "scalar|avx2|avx512|neon", "instruction set (default: the best; the result does not depend on it)"}, \
    {"conv", OPT_TEXT, offsetof(S, field) + offsetof(opt_common, conv), 0, 0, "auto|direct|winograd", "form of 3x3 convolutions (default: auto, by shape; winograd rounds otherwise)"}, \
    {"json", OPT_FLAG, offsetof(S, field) + offsetof(opt_common, json), 0, 0, NULL, "machine-readable output on stdout"}, \
    {"q,quiet", OPT_FLAG, offsetof(S, field) + offsetof(opt_common, quiet), 0, 0, NULL, "only errors and results"}, \
    {"v,verbose", OPT_FLAG, offsetof(S, field) + offsetof(opt_common, verbose), 0, 0, NULL, "more on stderr"}

struct tn_ctx;
/* A context for the common options; TN_EUNSUPPORTED where the machine lacks the instruction set. */
int opt_context(const opt_common *o, struct tn_ctx *c, tn_err *err);

/* Prints "oneword: error: MESSAGE" to stderr and returns the exit status for it. */
int opt_error(const tn_err *err);
/* "oneword: warning: ..." and plain notes to stderr; notes are silent with quiet. */
void opt_warn(const char *fmt, ...) TN_PRINTF(1, 2);
void opt_note(const opt_common *o, const char *fmt, ...) TN_PRINTF(2, 3);
/* A text out of a file to stdout, its control characters as \xNN. */
void opt_put(const char *text);
/* Closes the object that is being written and prints it as a line. TN_ENOMEM. */
struct tn_jw;
int opt_put_json(struct tn_jw *w, tn_err *err);

/* Progress on stderr: a bar where it is a terminal (at most 5 a second), a line every 30 s or 10 % elsewhere; ETA from
 * the recent pace. `extra` is shown behind it ("loss 0.0931"). */
typedef struct opt_progress {
    const char *what;
    int64_t total;
    bool off;
    double started, last_shown; /* seconds */
    int64_t first, last_line;
} opt_progress;
void opt_progress_start(opt_progress *p, const opt_common *o, const char *what, int64_t total, int64_t from);
void opt_progress_step(opt_progress *p, int64_t done, const char *extra);
void opt_progress_end(opt_progress *p);

/* The commands; tools/main.c dispatches on these. */
#define CMD(name) extern const opt_command cmd_##name;
#include "tools/commands.def"
#undef CMD

#endif
