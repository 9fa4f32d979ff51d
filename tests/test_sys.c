/* The operating system layer: what must hold when files are odd, the disk is full, or a name is taken. */
#include "tensor/io/sys.h"
#include "tests/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char path[4][900]; /* scratch for names */

static const char *at(int i, const char *dir, const char *name) {
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static bool holds(const char *file, const void *want, size_t n) {
    size_t len;
    unsigned char *got = test_read(file, &len);
    bool same = got && len == n && memcmp(got, want, n) == 0;
    free(got);
    return same;
}

/* The number of names in a folder: nothing temporary may be left behind. */
static size_t names_in(const char *dir) {
    tn_list list;
    tn_err err;
    if (tn_list_dir(dir, &list, &err)) return 9999;
    size_t n = list.n;
    tn_list_free(&list);
    return n;
}

static void test_input(test_state *t) {
    if (!test_section(t, "input")) return;
    char dir[512], *data = NULL;
    snprintf(dir, sizeof dir, "%s", test_tmp("sys"));
    size_t len = 0;
    tn_err err;
    tn_map map = {0};
    test_write(at(0, dir, "five"), "12345", 5);
    test_write(at(1, dir, "none"), "", 0);
    CHECK(t, tn_read_file(path[0], 5, &data, &len, &err) == 0 && len == 5 && memcmp(data, "12345", 6) == 0);
    free(data);
    CHECK(t, tn_read_file(path[0], 4, &data, &len, &err) == -1 && err.code == TN_EINPUT && strstr(err.msg, "5 bytes") &&
                 strstr(err.msg, path[0]));
    CHECK(t, tn_read_file(path[1], 4, &data, &len, &err) == 0 && len == 0 && data[0] == '\0');
    free(data);
    for (int flags = 0; flags <= TN_MAP_COPY; flags++) {
        CHECK(t, tn_map_open(path[0], flags, &map, &err) == 0 && map.len == 5 && memcmp(map.data, "12345", 5) == 0 &&
                     map.mapped == !flags);
        tn_map_close(&map);
        CHECK(t, tn_map_open(path[1], flags, &map, &err) == 0 && map.len == 0);
        tn_map_close(&map);
    }
    CHECK(t, symlink("five", at(2, dir, "link")) == 0 && tn_map_open(path[2], 0, &map, &err) == 0 && map.len == 5);
    tn_map_close(&map);
    char command[920];
    snprintf(command, sizeof command, "mkfifo '%s'", at(3, dir, "fifo"));
    if (system(command) != 0) abort();
    const char *const bad[] = {dir, path[3], "/dev/zero", "/dev/null", "build/no/such", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECKF(t, tn_read_file(bad[i], 100, &data, &len, &err) == -1 && err.code == TN_EIO && err.msg[0], "read %s",
               bad[i]);
        CHECKF(t, tn_map_open(bad[i], 0, &map, &err) == -1 && err.code == TN_EIO && strstr(err.msg, bad[i]), "map %s",
               bad[i]);
    }
    CHECK(t, tn_read_file("build/no/such", 100, &data, &len, &err) == -1 && strstr(err.msg, "No such file"));
}

static void test_atomic(test_state *t) {
    if (!test_section(t, "atomic write")) return;
    char dir[512];
    snprintf(dir, sizeof dir, "%s", test_tmp("sys"));
    const char *file = at(0, dir, "out");
    tn_err err;
    CHECK(t, tn_write_atomic(file, "old", 3, &err) == 0 && holds(file, "old", 3));
    CHECK(t, tn_write_atomic(file, "newer", 5, &err) == 0 && holds(file, "newer", 5));
    CHECK(t, tn_write_atomic(file, "", 0, &err) == 0 && holds(file, "", 0));
    CHECK(t, tn_write_atomic(file, "old", 3, &err) == 0 && names_in(dir) == 1);

    /* Until the commit the old bytes stand; discarding leaves no trace. */
    tn_out *out;
    CHECK(t, tn_out_open(file, &out, &err) == 0 && tn_out_write(out, "half", 4, &err) == 0 && holds(file, "old", 3) &&
                 names_in(dir) == 2);
    tn_out_discard(out);
    tn_out_discard(NULL);
    CHECK(t, holds(file, "old", 3) && names_in(dir) == 1);

    /* A full disk, played by the limit on the size of a file: the write fails half way. */
    struct rlimit limit, small;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0) abort();
    small = limit;
    small.rlim_cur = 100000;
    char *large = calloc(1, 300000);
    if (!large || signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &small) != 0) abort();
    int status = tn_write_atomic(file, large, 300000, &err);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) abort();
    signal(SIGXFSZ, SIG_DFL);
    free(large);
    CHECKF(t, status == -1 && err.code == TN_EIO && strstr(err.msg, file), "status %d, %s", status, err.msg);
    CHECK(t, holds(file, "old", 3) && names_in(dir) == 1);

    /* Names that cannot be replaced. */
    CHECK(t, tn_write_atomic(dir, "x", 1, &err) == -1 && err.code == TN_EIO && strstr(err.msg, "folder"));
    /* A pipe of our own stands for devices: with root's rights, broken code would replace the real /dev/null. */
    char command[920];
    snprintf(command, sizeof command, "mkfifo '%s'", at(2, dir, "fifo"));
    if (system(command) != 0) abort();
    CHECK(t, tn_write_atomic(path[2], "x", 1, &err) == -1 && err.code == TN_EIO && strstr(err.msg, "device"));
    CHECK(t, unlink(path[2]) == 0 && names_in(dir) == 1);
    CHECK(t, tn_write_atomic(at(1, dir, "no/out"), "x", 1, &err) == -1 && err.code == TN_EIO &&
                 strstr(err.msg, "No such file"));
    CHECK(t, tn_write_atomic("", "x", 1, &err) == -1 && err.code == TN_EIO);
    char name[300];
    memset(name, 'n', 299), name[299] = '\0';
    CHECK(t, tn_write_atomic(at(1, dir, name), "x", 1, &err) == -1 && err.code == TN_EIO);
    CHECK(t, names_in(dir) == 1);
    /* A name without a folder goes to the current one. */
    CHECK(t, tn_write_atomic(".test_sys.out", "x", 1, &err) == 0 && holds(".test_sys.out", "x", 1));
    CHECK(t, tn_remove_file(".test_sys.out", &err) == 0 && !tn_exists(".test_sys.out"));
}

static void test_append(test_state *t) {
    if (!test_section(t, "append, remove")) return;
    char dir[512];
    snprintf(dir, sizeof dir, "%s", test_tmp("sys"));
    const char *file = at(0, dir, "log");
    tn_err err;
    CHECK(t, tn_append_file(file, "a\n", 2, &err) == 0 && tn_append_file(file, "b\n", 2, &err) == 0 &&
                 holds(file, "a\nb\n", 4));
    CHECK(t, tn_append_file(dir, "a", 1, &err) == -1 && err.code == TN_EIO);
    CHECK(t, tn_append_file("/dev/full", "a", 1, &err) == -1 && strstr(err.msg, "No space"));
    CHECK(t, tn_remove_file(file, &err) == 0 && !tn_exists(file) && tn_remove_file(file, &err) == 0);
    CHECK(t, tn_make_dirs(at(1, dir, "empty"), &err) == 0 && tn_remove_file(path[1], &err) == -1 && tn_is_dir(path[1]));
}

static void test_folders(test_state *t) {
    if (!test_section(t, "folders")) return;
    char dir[512];
    snprintf(dir, sizeof dir, "%s", test_tmp("sys"));
    tn_err err;
    CHECK(t, tn_make_dirs(at(0, dir, "a/b//c/"), &err) == 0 && tn_is_dir(at(1, dir, "a/b/c")));
    CHECK(t, tn_make_dirs(path[0], &err) == 0); /* again */
    CHECK(t, tn_make_dirs("/", &err) == 0 && tn_make_dirs(".", &err) == 0);
    test_write(at(2, dir, "file"), "x", 1);
    CHECK(t, tn_make_dirs(at(3, dir, "file/d"), &err) == -1 && err.code == TN_EIO && strstr(err.msg, "file"));
    CHECK(t, tn_exists(path[2]) && !tn_is_dir(path[2]) && tn_exists(dir) && tn_is_dir(dir) &&
                 !tn_exists(at(3, dir, "none")));
    test_write(at(3, dir, "Z"), "", 0);
    test_write(at(3, dir, "\xc3\xa9"), "", 0);
    test_write(at(3, dir, ".hidden"), "", 0);
    test_write(at(3, dir, "a10"), "", 0);
    test_write(at(3, dir, "a9"), "", 0);
    static const char *const want[] = {".hidden", "Z", "a", "a10", "a9", "file", "\xc3\xa9"}; /* bytewise */
    tn_list list = {NULL, 0};
    if (CHECK(t, tn_list_dir(dir, &list, &err) == 0 && list.n == 7))
        for (int i = 0; i < 7; i++) CHECKF(t, strcmp(list.name[i], want[i]) == 0, "%d: %s", i, list.name[i]);
    tn_list_free(&list);
    CHECK(t, tn_list_dir(path[1], &list, &err) == 0 && list.n == 0);
    tn_list_free(&list);
    CHECK(t, tn_list_dir(path[2], &list, &err) == -1 && err.code == TN_EIO && strstr(err.msg, path[2]));
    CHECK(t, tn_list_dir("build/no/such", &list, &err) == -1 && err.code == TN_EIO);
}

static void test_machine(test_state *t) {
    if (!test_section(t, "machine")) return;
    double start = tn_clock();
    size_t now = tn_rss_now(), size = 64u << 20;
    char *block = malloc(size);
    if (!block) abort();
    for (size_t i = 0; i < size; i += 512) block[i] = (char)i;
    CHECK(t, tn_clock() >= start);
    if (now) { /* a system that tells */
        CHECKF(t, tn_rss_now() >= now + size / 2, "%zu, then %zu", now, tn_rss_now());
    }
    CHECK(t, block[511 * 512] == (char)(511 * 512)); /* keeps the block in use */
    free(block);
    CHECK(t, !now || tn_rss_peak() >= now + size / 2); /* the peak remembers */
    CHECK(t, tn_entropy() != tn_entropy() && tn_pid() == (long)getpid());
    CHECK(t, tn_term_width(-1) == 80 && tn_term_width(1) > 0 && !tn_is_tty(-1));
}

void test_main(test_state *t) {
    test_input(t);
    test_atomic(t);
    test_append(t);
    test_folders(t);
    test_machine(t);
}
