/* The loop over threads: each task runs once, whatever their number and that of the threads, and no thread that has nothing left
 * waits for one that is slow. */
#include "tests/test.h"

#include <string.h>

#include "tensor/io/sys.h"
#include "tensor/parallel.h"

enum { MOST = 5000 };

typedef struct tally {
    unsigned char runs[MOST]; /* of task i */
    int threads;
    int stranger; /* a worker that is none of the threads */
} tally;

static void count(void *arg, int64_t i, int worker) {
    tally *t = arg;
    t->runs[i]++;
    if (worker < 0 || worker >= t->threads) t->stranger = 1;
}

static void check_once(test_state *t, int threads, int64_t n) {
    static tally y;
    memset(&y, 0, sizeof y);
    y.threads = threads;
    tn_parallel_for(threads, n, count, &y);
    int64_t wrong = 0;
    for (int64_t i = 0; i < MOST; i++) wrong += y.runs[i] != (i < n);
    CHECKF(t, !wrong, "%d tasks on %d threads: %d did not run once", (int)n, threads, (int)wrong);
    CHECKF(t, !y.stranger, "%d tasks on %d threads: a worker that is none of them", (int)n, threads);
}

#ifdef _OPENMP
enum { TASKS = 16 };
static const double patience = 20; /* seconds */

/* Task 0 ends when all others have: those behind it in its thread's share must have been taken by the other thread. */
static void wait_for_others(void *arg, int64_t i, int worker) {
    int *done = arg, n = 0;
    double began = tn_clock();
    (void)worker;
    while (i == 0 && n < TASKS - 1 && tn_clock() - began < patience) {
#pragma omp atomic read
        n = *done;
    }
    if (i == 0 && n < TASKS - 1) return;
#pragma omp atomic
    ++*done;
}
#endif

void test_main(test_state *t) {
    static const int threads[] = {1, 2, 3, 7, 64, 65, 100};
    static const int64_t tasks[] = {0, 1, 2, 3, 5, 16, 63, 64, 100, 1000, 4099, MOST};
    if (test_section(t, "once")) {
        for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
            for (size_t j = 0; j < sizeof tasks / sizeof *tasks; j++) check_once(t, threads[i], tasks[j]);
    }
#ifdef _OPENMP
    if (test_section(t, "taken over")) {
        int done = 0;
        tn_parallel_for(2, TASKS, wait_for_others, &done);
        CHECKF(t, done == TASKS, "%d of %d tasks had ended when one had waited long enough", done, (int)TASKS);
    }
#endif
}
