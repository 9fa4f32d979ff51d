/* Errors that come from outside: bad files, bad options, a full disk.
 *
 * A function that can meet bad input returns 0, or -1 after filling the caller's tn_err; it prints nothing, frees what
 * it allocated and leaves its outputs untouched. The code is also the exit status of the program. A bug of ours (shapes
 * that do not fit between operators) is not an error of this kind: TN_BUG prints where and aborts. */
#ifndef TN_ERR_H
#define TN_ERR_H

#include <stddef.h>

enum tn_code {
    TN_OK = 0,
    TN_EINTERNAL = 1,    /* a bug of ours that was caught */
    TN_EUSAGE = 2,       /* wrong options or arguments */
    TN_EINPUT = 3,       /* a file is corrupt, truncated or not what it claims to be */
    TN_EUNSUPPORTED = 4, /* understood, but not something this program does */
    TN_ENOMEM = 5,       /* out of memory, or over a stated limit */
    TN_EIO = 6,          /* the system refused: permission, disk full, not found */
    TN_EMISMATCH = 7,    /* verify found a difference */
    TN_ENUMERIC = 8      /* NaN or infinity where a number must be */
};

typedef struct tn_err {
    int code;      /* enum tn_code */
    char msg[600]; /* one line, UTF-8, untrusted bytes escaped: "FILE: what, expected X, got Y (hint)" */
} tn_err;

#if defined(__GNUC__)
#define TN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define TN_PRINTF(fmt, args)
#endif

/* Fills *e (which may be NULL) and returns -1, so that `return tn_fail(e, TN_EINPUT, "...")` reads as one thing.
 * Control characters that arrive through %s (names out of untrusted files) are replaced by \xNN. */
int tn_fail(tn_err *e, int code, const char *fmt, ...) TN_PRINTF(3, 4);

/* Puts "text: " in front of an existing message, for adding the file or the component to an inner error. Returns -1. */
int tn_fail_in(tn_err *e, const char *fmt, ...) TN_PRINTF(2, 3);

/* A violated invariant of our own: prints the message with file and line to stderr and aborts. */
void tn_bug(const char *file, int line, const char *fmt, ...) TN_PRINTF(3, 4);
#define TN_BUG(...) tn_bug(__FILE__, __LINE__, __VA_ARGS__)
#define TN_REQUIRE(cond) ((cond) ? (void)0 : TN_BUG("violated: %s", #cond))

#endif
