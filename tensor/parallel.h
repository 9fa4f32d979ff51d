/* The only place that knows OpenMP. */
#ifndef TN_PARALLEL_H
#define TN_PARALLEL_H

#include <stdint.h>

/* Calls task(arg, i, worker) once for every i in 0..n, on at most `threads` threads (worker in 0..threads), in any
 * order. Owner computes: task i alone writes its outputs, so the result does not depend on the threads. Without OpenMP,
 * or called from inside another parallel loop, it is a plain loop with worker 0. */
void tn_parallel_for(int threads, int64_t n, void (*task)(void *arg, int64_t i, int worker), void *arg);

/* How many of `threads` are worth calling for work that takes one of them about that long: 1 or all. A thread that still spins
 * since the last loop (tools/main.c sees to it) answers within two microseconds, so what is done in five is done alone. */
int tn_threads_for(int threads, double nanoseconds);

/* Number of threads the machine offers (OpenMP's answer, which honours OMP_NUM_THREADS); 1 without OpenMP. */
int tn_max_threads(void);

#endif
