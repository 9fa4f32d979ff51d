#include "tensor/parallel.h"

#ifdef _OPENMP
#include <omp.h>
#endif

static void run_serial(int64_t n, void (*task)(void *arg, int64_t i, int worker), void *arg) {
    for (int64_t i = 0; i < n; i++) task(arg, i, 0);
}

int tn_threads_for(int threads, double nanoseconds) { return nanoseconds < 5e3 ? 1 : threads; }

#ifdef _OPENMP
/* Tasks are handed out as threads ask for them, since cores of one machine may differ in speed or be taken by others: one by
 * one while they are few and coarse, else in sixteen portions a thread. Fetching a portion costs some 50 ns when all want
 * one, and neighbours share cache lines (group norm of 1024 small groups on two cores: 0.33 -> 0.13 ms). The team always
 * has the same size, also for fewer tasks, because the run time ends and starts threads whenever the size changes. */
enum { PORTIONS = 16 };

void tn_parallel_for(int threads, int64_t n, void (*task)(void *arg, int64_t i, int worker), void *arg) {
    if (threads <= 1 || n <= 1 || omp_in_parallel()) {
        run_serial(n, task, arg);
        return;
    }
    int64_t portion = n / PORTIONS / threads;
    if (portion < 1) portion = 1;
#pragma omp parallel for schedule(dynamic, portion) num_threads(threads)
    for (int64_t i = 0; i < n; i++) task(arg, i, omp_get_thread_num());
}

int tn_max_threads(void) { return omp_get_max_threads(); }
#else
void tn_parallel_for(int threads, int64_t n, void (*task)(void *arg, int64_t i, int worker), void *arg) {
    (void)threads;
    run_serial(n, task, arg);
}

int tn_max_threads(void) { return 1; }
#endif
