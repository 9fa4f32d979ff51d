#include "tests/test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *section = "";
static bool section_shown;

bool test_section(test_state *t, const char *name) {
    section = name;
    section_shown = false;
    return !t->filter || strstr(name, t->filter);
}

bool test_check(test_state *t, bool ok, const char *file, int line, const char *fmt, ...) {
    if (ok) {
        t->passed++;
        return true;
    }
    if (++t->failed > 40) return false; /* counted, no longer printed */
    if (!section_shown) printf("  in %s\n", section);
    section_shown = true;
    va_list ap;
    va_start(ap, fmt);
    printf("    FAIL %s:%d: ", file, line);
    vprintf(fmt, ap);
    printf("\n");
    fflush(stdout);
    va_end(ap);
    return false;
}

const char *test_data(const char *name) {
    static char path[4][512];
    static int turn;
    char *p = path[turn++ & 3];
    snprintf(p, sizeof path[0], "testdata/%s", name);
    return p;
}

const char *test_tmp(const char *name) {
    static char path[512];
    char cmd[1100];
    snprintf(path, sizeof path, "build/test-tmp/%s", name);
    snprintf(cmd, sizeof cmd, "rm -rf '%s' && mkdir -p '%s'", path, path);
    if (system(cmd) != 0) abort();
    return path;
}

float test_rand(uint64_t *s) {
    *s ^= *s >> 12, *s ^= *s << 25, *s ^= *s >> 27;
    return (float)((*s * 2685821657736338717u) >> 40) * (2.0f / 16777216.0f) - 1.0f;
}

unsigned char *test_read(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    unsigned char *p = n < 0 ? NULL : malloc((size_t)n + 1);
    if (p && fread(p, 1, (size_t)n, f) != (size_t)n) free(p), p = NULL;
    if (p) p[n] = 0, *len = (size_t)n;
    fclose(f);
    return p;
}

void test_write(const char *path, const void *data, size_t len) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0) abort();
}

int main(int argc, char **argv) {
    test_state t = {0, 0, argc > 1 ? argv[1] : NULL};
    test_main(&t);
    const char *name = strrchr(argv[0], '/');
    printf("%s: %d passed, %d failed\n", name ? name + 1 : argv[0], t.passed, t.failed);
    return t.failed != 0;
}
