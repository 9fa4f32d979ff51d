/* Two systems: POSIX, and plain C99 for everything else, which reads and writes but neither maps nor lists folders. */
#define _FILE_OFFSET_BITS 64 /* before any header: files beyond 2 GiB on 32-bit machines */
#define _DEFAULT_SOURCE      /* madvise, which POSIX lacks; under its other name on macOS */
#define _DARWIN_C_SOURCE

#include "tensor/io/sys.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__unix__) || defined(__APPLE__)
#define HAVE_POSIX 1
#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define HAVE_POSIX 0
#endif

/* "PATH: cannot VERB: No such file or directory", from errno. */
static int fail_system(tn_err *err, const char *path, const char *verb) {
    const char *reason = strerror(errno);
    return tn_fail(err, TN_EIO, "%s: cannot %s: %s", path, verb, reason);
}

static int fail_no_memory(tn_err *err, const char *path) { return tn_fail(err, TN_ENOMEM, "%s: out of memory", path); }

static int fail_too_large(tn_err *err, const char *path, unsigned long long size, size_t cap) {
    return tn_fail(err, TN_EINPUT, "%s: the file has %llu bytes, expected at most %zu", path, size, cap);
}

#if HAVE_POSIX

/* ---- input, POSIX ---- */

/* Opens a regular file for reading. O_NONBLOCK: opening a pipe that nobody writes to returns, to be refused. */
static int open_regular(const char *path, int *fd, uint64_t *size, tn_err *err) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0) return fail_system(err, path, "open");
    if (fstat(*fd, &st) != 0) {
        fail_system(err, path, "examine");
        close(*fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return tn_fail(err, TN_EIO, "%s: expected a file, got a %s", path,
                       S_ISDIR(st.st_mode) ? "folder" : "pipe or device");
    }
    *size = (uint64_t)st.st_size;
    return 0;
}

/* Reads exactly n bytes; a file that has grown shorter meanwhile is an error. */
static int read_all(int fd, const char *path, unsigned char *dst, size_t n, tn_err *err) {
    while (n > 0) {
        ssize_t got = read(fd, dst, n < (1u << 30) ? n : 1u << 30); /* macOS refuses more than INT_MAX at once */
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_system(err, path, "read");
        if (got == 0) return tn_fail(err, TN_EIO, "%s: the file became shorter while it was read", path);
        dst += got, n -= (size_t)got;
    }
    return 0;
}

/* The whole of an open file in a fresh block, with one NUL after it. */
static int copy_file(int fd, const char *path, uint64_t size, unsigned char **data, tn_err *err) {
    *data = size < SIZE_MAX ? malloc((size_t)size + 1) : NULL;
    if (!*data) return fail_no_memory(err, path);
    if (read_all(fd, path, *data, (size_t)size, err)) {
        free(*data);
        return -1;
    }
    (*data)[size] = 0;
    return 0;
}

int tn_map_open(const char *path, int flags, tn_map *map, tn_err *err) {
    int fd;
    uint64_t size;
    if (open_regular(path, &fd, &size, err)) return -1;
    tn_map m = {NULL, (size_t)size, false};
    int status = 0;
    if (size > SIZE_MAX / 2) {
        status = tn_fail(err, TN_EUNSUPPORTED, "%s: a file of this size needs a 64-bit machine", path);
    } else if (size > 0) {
        void *p = flags & TN_MAP_COPY ? MAP_FAILED : mmap(NULL, m.len, PROT_READ, MAP_PRIVATE, fd, 0);
        m.mapped = p != MAP_FAILED;
        unsigned char *copy = NULL;
        if (!m.mapped) status = copy_file(fd, path, size, &copy, err); /* asked for, or a file system that cannot map */
        m.data = m.mapped ? p : copy;
    }
    close(fd);
    if (!status) *map = m;
    return status;
}

void tn_map_close(tn_map *map) {
    if (map->mapped)
        munmap((void *)(uintptr_t)map->data, map->len);
    else
        free((void *)(uintptr_t)map->data);
    memset(map, 0, sizeof *map);
}

void tn_map_rest(const tn_map *map) {
#ifdef MADV_DONTNEED
    if (map->mapped) madvise((void *)(uintptr_t)map->data, map->len, MADV_DONTNEED);
#else
    (void)map;
#endif
}

int tn_read_file(const char *path, size_t cap, char **data, size_t *len, tn_err *err) {
    int fd;
    uint64_t size;
    unsigned char *bytes = NULL;
    if (open_regular(path, &fd, &size, err)) return -1;
    int status = size > cap ? fail_too_large(err, path, size, cap) : copy_file(fd, path, size, &bytes, err);
    close(fd);
    if (status) return -1;
    *data = (char *)bytes, *len = (size_t)size;
    return 0;
}

/* ---- output, POSIX ---- */

static int write_all(int fd, const void *data, size_t n) {
    const unsigned char *p = data;
    while (n > 0) {
        ssize_t put = write(fd, p, n < (1u << 30) ? n : 1u << 30);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return -1;
        p += put, n -= (size_t)put;
    }
    return 0;
}

/* Length of the folder part of a path, with its slash; 0 where it has none. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* The rename itself must reach the disk too. Some file systems cannot flush a folder; the data is safe by then. */
static void flush_folder(const char *path) {
    size_t n = folder_length(path);
    char *folder = malloc(n + 2);
    if (!folder) return;
    memcpy(folder, n ? path : ".", n ? n : 1);
    folder[n ? n : 1] = '\0';
    int fd = open(folder, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

struct tn_out {
    int fd;
    char *path, *temp; /* both in the block that path starts */
};

int tn_out_open(const char *path, tn_out **out, tn_err *err) {
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return tn_fail(err, TN_EIO, "%s: cannot write: there is a %s of that name", path,
                       S_ISDIR(st.st_mode) ? "folder" : "pipe or device");
    size_t folder = folder_length(path), size = strlen(path) + 1;
    tn_out *o = calloc(1, sizeof *o);
    if (o) o->path = malloc(2 * size + 40);
    if (!o || !o->path) {
        free(o);
        return fail_no_memory(err, path);
    }
    o->temp = o->path + size;
    memcpy(o->path, path, size);
    memcpy(o->temp, path, folder);
    snprintf(o->temp + folder, size - folder + 40, ".%s.tmp.%ld", path + folder, tn_pid());
    o->fd = open(o->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (o->fd < 0) {
        fail_system(err, path, "write");
        free(o->path);
        free(o);
        return -1;
    }
    *out = o;
    return 0;
}

int tn_out_write(tn_out *o, const void *data, size_t len, tn_err *err) {
    return write_all(o->fd, data, len) ? fail_system(err, o->path, "write") : 0;
}

void tn_out_discard(tn_out *o) {
    if (!o) return;
    if (o->fd >= 0) close(o->fd);
    if (o->temp) unlink(o->temp);
    free(o->path);
    free(o);
}

int tn_out_commit(tn_out *o, tn_err *err) {
    int status = 0;
    /* EINVAL: a file system that cannot flush; there is nothing more to be done on it. */
    if (fsync(o->fd) != 0 && errno != EINVAL) status = fail_system(err, o->path, "write");
    if (close(o->fd) != 0 && !status) status = fail_system(err, o->path, "write");
    o->fd = -1;
    if (!status && rename(o->temp, o->path) != 0) status = fail_system(err, o->path, "put the new file in place");
    if (!status) flush_folder(o->path), o->temp = NULL;
    tn_out_discard(o);
    return status;
}

int tn_append_file(const char *path, const void *data, size_t len, tn_err *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return fail_system(err, path, "open for writing");
    int status = write_all(fd, data, len) ? fail_system(err, path, "write") : 0;
    if (close(fd) != 0 && !status) status = fail_system(err, path, "write");
    return status;
}

/* ---- folders, POSIX ---- */

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Appends a copy of the name; *cap is the room in list->name. */
static int list_add(tn_list *list, size_t *cap, const char *name) {
    if (list->n == *cap) {
        size_t wider = *cap ? 2 * *cap : 64;
        char **grown = realloc(list->name, wider * sizeof *grown);
        if (!grown) return -1;
        list->name = grown, *cap = wider;
    }
    size_t size = strlen(name) + 1;
    char *copy = malloc(size);
    if (!copy) return -1;
    memcpy(copy, name, size);
    list->name[list->n++] = copy;
    return 0;
}

int tn_list_dir(const char *path, tn_list *out, tn_err *err) {
    tn_list list = {NULL, 0};
    size_t cap = 0;
    int status = 0;
    DIR *dir = opendir(path);
    if (!dir) return fail_system(err, path, "list the folder");
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e && errno) status = fail_system(err, path, "list the folder");
        if (!e || status) break;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (list_add(&list, &cap, e->d_name)) status = fail_no_memory(err, path);
    }
    closedir(dir);
    if (status) {
        tn_list_free(&list);
        return -1;
    }
    if (list.n) qsort(list.name, list.n, sizeof *list.name, compare_names);
    *out = list;
    return 0;
}

int tn_make_dirs(const char *path, tn_err *err) {
    size_t n = strlen(path);
    char *part = malloc(n + 1);
    if (!part) return fail_no_memory(err, path);
    int status = 0;
    for (size_t i = 1; i <= n && !status; i++) { /* from 1: the root exists */
        if (path[i] != '/' && i < n) continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) != 0 && !tn_is_dir(part)) status = fail_system(err, part, "make the folder");
    }
    free(part);
    return status;
}

bool tn_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool tn_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- clock, memory, terminal, POSIX ---- */

double tn_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A line "NAME:   1234 kB" of one of Linux's files on memory, in bytes; 0 where there is none. */
static size_t proc_bytes(const char *path, const char *name) {
    FILE *f = fopen(path, "r");
    char line[256];
    unsigned long kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0) kib = strtoul(line + strlen(name), NULL, 10);
    if (f) fclose(f);
    return (size_t)kib * 1024;
}

size_t tn_rss_now(void) { return proc_bytes("/proc/self/status", "VmRSS:"); }

size_t tn_memory_free(void) { return proc_bytes("/proc/meminfo", "MemAvailable:"); }

/* On Linux getrusage also counts what the parent had before exec; the status file does not. */
size_t tn_rss_peak(void) {
    size_t peak = proc_bytes("/proc/self/status", "VmHWM:");
    struct rusage usage;
    if (peak || getrusage(RUSAGE_SELF, &usage) != 0) return peak;
#ifdef __APPLE__
    return (size_t)usage.ru_maxrss; /* bytes there, KiB elsewhere */
#else
    return (size_t)usage.ru_maxrss * 1024;
#endif
}

/* Linux maps pages of TN_HUGE_PAGE bytes where a program asks for them ("madvise", the usual setting). A refusal changes nothing. */
void tn_prefer_huge_pages(void *p, size_t n) {
#ifdef MADV_HUGEPAGE
    if (madvise(p, n, MADV_HUGEPAGE) != 0) errno = 0;
#else
    (void)p, (void)n;
#endif
}

uint64_t tn_entropy(void) {
    uint64_t seed = 0;
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && read(fd, &seed, sizeof seed) == (ssize_t)sizeof seed;
    if (fd >= 0) close(fd);
    if (ok) return seed;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return ((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec) ^ (uint64_t)getpid() << 40;
}

long tn_pid(void) { return (long)getpid(); }

bool tn_is_tty(int fd) { return isatty(fd) == 1; }

int tn_term_width(int fd) {
#ifdef TIOCGWINSZ
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
#endif
    (void)fd;
    return 80;
}

#else

/* ---- plain C99 ---- */

int tn_read_file(const char *path, size_t cap, char **data, size_t *len, tn_err *err) {
    FILE *f = fopen(path, "rb");
    if (!f) return fail_system(err, path, "open");
    size_t used = 0, room = 0;
    char *bytes = NULL;
    int status = 0;
    do { /* the size is not known: read until the end, doubling */
        if (room - used < 2) {
            size_t wider = room ? 2 * room : 65536;
            char *grown = wider > room ? realloc(bytes, wider) : NULL;
            if (!grown)
                status = fail_no_memory(err, path);
            else
                bytes = grown, room = wider;
        }
        if (!status) used += fread(bytes + used, 1, room - used - 1, f);
        if (!status && ferror(f)) status = fail_system(err, path, "read");
        if (!status && used > cap) status = fail_too_large(err, path, used, cap);
    } while (!status && !feof(f));
    fclose(f);
    if (status) {
        free(bytes);
        return -1;
    }
    bytes[used] = '\0';
    *data = bytes, *len = used;
    return 0;
}

int tn_map_open(const char *path, int flags, tn_map *map, tn_err *err) {
    char *data;
    (void)flags;
    map->mapped = false;
    if (tn_read_file(path, SIZE_MAX - 1, &data, &map->len, err)) return -1;
    map->data = (const unsigned char *)data;
    return 0;
}

void tn_map_rest(const tn_map *map) { (void)map; }

void tn_map_close(tn_map *map) {
    free((void *)(uintptr_t)map->data);
    memset(map, 0, sizeof *map);
}

struct tn_out {
    FILE *file;
    char *path, *temp;
};

int tn_out_open(const char *path, tn_out **out, tn_err *err) {
    size_t size = strlen(path) + 1;
    tn_out *o = calloc(1, sizeof *o);
    if (o) o->path = malloc(2 * size + 4);
    if (!o || !o->path) {
        free(o);
        return fail_no_memory(err, path);
    }
    o->temp = o->path + size;
    memcpy(o->path, path, size);
    snprintf(o->temp, size + 4, "%s.tmp", path);
    o->file = fopen(o->temp, "wb");
    if (!o->file) {
        fail_system(err, path, "write");
        free(o->path);
        free(o);
        return -1;
    }
    *out = o;
    return 0;
}

int tn_out_write(tn_out *o, const void *data, size_t len, tn_err *err) {
    return fwrite(data, 1, len, o->file) == len ? 0 : fail_system(err, o->path, "write");
}

void tn_out_discard(tn_out *o) {
    if (!o) return;
    if (o->file) fclose(o->file);
    if (o->temp) remove(o->temp);
    free(o->path);
    free(o);
}

/* C's rename need not replace: the old file is removed first, which leaves a moment with the temporary file alone. */
int tn_out_commit(tn_out *o, tn_err *err) {
    int status = fclose(o->file) != 0 ? fail_system(err, o->path, "write") : 0;
    o->file = NULL;
    if (!status && rename(o->temp, o->path) != 0) {
        remove(o->path);
        if (rename(o->temp, o->path) != 0) status = fail_system(err, o->path, "put the new file in place");
    }
    if (!status) o->temp = NULL;
    tn_out_discard(o);
    return status;
}

int tn_append_file(const char *path, const void *data, size_t len, tn_err *err) {
    FILE *f = fopen(path, "ab");
    if (!f) return fail_system(err, path, "open for writing");
    bool ok = fwrite(data, 1, len, f) == len;
    if (fclose(f) != 0) ok = false;
    return ok ? 0 : fail_system(err, path, "write");
}

int tn_list_dir(const char *path, tn_list *list, tn_err *err) {
    (void)list;
    return tn_fail(err, TN_EUNSUPPORTED, "%s: cannot list folders on this system", path);
}

int tn_make_dirs(const char *path, tn_err *err) {
    return tn_fail(err, TN_EUNSUPPORTED, "%s: cannot make folders on this system", path);
}

bool tn_exists(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

bool tn_is_dir(const char *path) { return (void)path, false; }
double tn_clock(void) { return (double)clock() / CLOCKS_PER_SEC; }
size_t tn_rss_now(void) { return 0; }
size_t tn_memory_free(void) { return 0; }
size_t tn_rss_peak(void) { return 0; }
void tn_prefer_huge_pages(void *p, size_t n) { (void)p, (void)n; }
uint64_t tn_entropy(void) { return (uint64_t)time(NULL) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)clock(); }
long tn_pid(void) { return 0; }
bool tn_is_tty(int fd) { return (void)fd, false; }
int tn_term_width(int fd) { return (void)fd, 80; }

#endif

/* ---- both ---- */

int tn_write_atomic(const char *path, const void *data, size_t len, tn_err *err) {
    tn_out *out;
    if (tn_out_open(path, &out, err)) return -1;
    if (!tn_out_write(out, data, len, err)) return tn_out_commit(out, err);
    tn_out_discard(out);
    return -1;
}

int tn_remove_file(const char *path, tn_err *err) {
    if (tn_is_dir(path)) return tn_fail(err, TN_EIO, "%s: cannot remove: it is a folder", path); /* remove() would */
    if (remove(path) == 0 || errno == ENOENT) return 0;
    return fail_system(err, path, "remove");
}

void tn_list_free(tn_list *list) {
    for (size_t i = 0; i < list->n; i++) free(list->name[i]);
    free(list->name);
    list->name = NULL, list->n = 0;
}
