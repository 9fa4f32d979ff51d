/* The test harness: every tests/test_NAME.c is one executable that defines test_main. A check is one passed or failed
 * count; only failures are printed. `build/tests/test_NAME [FILTER]`. */
#ifndef TEST_H
#define TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct test_state {
    int passed, failed;
    const char *filter; /* only sections whose name contains it; NULL = all */
} test_state;

/* true if the section is to be run; the name is printed with its first failure. */
bool test_section(test_state *t, const char *name);
/* One check; the message is printf-like and says what was expected. Returns ok. */
bool test_check(test_state *t, bool ok, const char *file, int line, const char *fmt, ...);
#define CHECK(t, cond) test_check((t), (cond), __FILE__, __LINE__, "%s", #cond)
#define CHECKF(t, cond, ...) test_check((t), (cond), __FILE__, __LINE__, __VA_ARGS__)

/* Path of a file in testdata/, static buffer; the tests run from the top of the tree. */
const char *test_data(const char *name);
/* A fresh folder below build/ for what a test writes; emptied first. */
const char *test_tmp(const char *name);
/* Deterministic numbers for inputs: xorshift64*, uniform in [-1, 1). */
float test_rand(uint64_t *state);
/* Reads a whole file; NULL where that fails. Caller frees. */
unsigned char *test_read(const char *path, size_t *len);
/* Writes a whole file; aborts the test program where that fails. */
void test_write(const char *path, const void *data, size_t len);

void test_main(test_state *t); /* defined by each test file */

#endif
