/* The operating system, as far as it is needed: files, folders, clocks, memory in use, the terminal.
 *
 * sys.c is the only file that asks which system it is compiled for. Input must be a regular file (or a link to one): a
 * folder, a pipe or a device is refused, not waited for. Errors name the path and what the system said: TN_EIO, or
 * TN_EINPUT where a file is larger than the caller's cap. Paths are bytes as the system takes them. */
#ifndef TN_SYS_H
#define TN_SYS_H

#include "tensor/err.h"
#include <stdbool.h>
#include <stdint.h>

/* A file's bytes, read-only. Mapped where the system can, else read into memory. Truncating a mapped file under a
 * running program raises SIGBUS: where the file is not trusted, TN_MAP_COPY reads it instead. */
typedef struct tn_map {
    const unsigned char *data; /* NULL where the file is empty */
    size_t len;
    bool mapped; /* false: heap */
} tn_map;
enum { TN_MAP_COPY = 1 };
int tn_map_open(const char *path, int flags, tn_map *map, tn_err *err);
void tn_map_close(tn_map *map); /* a zeroed map is fine */
/* Gives the memory that a mapped file takes back to the system. The bytes stay where they are, to be had from the
 * system's cache of the file, or from the disk, when they are next looked at. */
void tn_map_rest(const tn_map *map);

/* Reads a whole file of at most cap bytes into *data (caller frees; one NUL is added after the end). */
int tn_read_file(const char *path, size_t cap, char **data, size_t *len, tn_err *err);

/* A file on its way: what is written goes to a temporary file .NAME.tmp.PID beside path; tn_out_commit flushes it to
 * the disk and renames it. At every moment, killed or out of space, path holds either all of the old bytes or all of
 * the new. A path that is a folder, a pipe or a device is refused (a rename would replace /dev/null). After a failed
 * write only tn_out_discard remains to be called; commit ends the life of *out either way. */
typedef struct tn_out tn_out;
int tn_out_open(const char *path, tn_out **out, tn_err *err);
int tn_out_write(tn_out *out, const void *data, size_t len, tn_err *err);
int tn_out_commit(tn_out *out, tn_err *err);
void tn_out_discard(tn_out *out); /* removes the temporary file; NULL is fine */
/* The three in one. */
int tn_write_atomic(const char *path, const void *data, size_t len, tn_err *err);
/* Appends to a file (a log), which is made where it does not exist. */
int tn_append_file(const char *path, const void *data, size_t len, tn_err *err);
int tn_remove_file(const char *path, tn_err *err); /* no error where it does not exist */

/* Names in a folder without "." and "..", sorted bytewise. One allocation block per name: free with tn_list_free. */
typedef struct tn_list {
    char **name;
    size_t n;
} tn_list;
int tn_list_dir(const char *path, tn_list *list, tn_err *err);
void tn_list_free(tn_list *list);

int tn_make_dirs(const char *path, tn_err *err); /* like mkdir -p */
bool tn_exists(const char *path);
bool tn_is_dir(const char *path);

double tn_clock(void);    /* seconds since some moment, never backwards where the system offers that */
size_t tn_rss_peak(void); /* bytes of memory: the most this process had, and has; 0 where unknown */
size_t tn_rss_now(void);
size_t tn_memory_free(void); /* bytes that the system could give without swapping; 0 where unknown */
/* Wants memory that nothing was written to yet in large pages, where the system has them: a step that streams through gigabytes
 * misses the cache of addresses less, and the first one faults less. p is a multiple of TN_HUGE_PAGE. */
enum { TN_HUGE_PAGE = 2 << 20 };
void tn_prefer_huge_pages(void *p, size_t n);
uint64_t tn_entropy(void); /* an unpredictable seed; the one function whose result is not to be reproduced */
long tn_pid(void);
bool tn_is_tty(int fd);    /* 0 stdin, 1 stdout, 2 stderr */
int tn_term_width(int fd); /* columns; 80 where unknown */

#endif
