/* Every float there is, through the elementwise kernels, on every instruction set: `make sweep`, or build/tests/sweep
 * [STRIDE]. Prints the largest error of each function against double, where it lies, and whether all instruction sets
 * agree in every bit. Exits 1 where an error is over its bar or the sets disagree. Not part of `make test`: it takes
 * minutes.
 *
 * Two passes: the vector sets over every float (derivatives, which are slow in double, over every 5th), then all sets
 * over every 67th, because scalar code without a fused multiply-add instruction takes fifty times as long. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tensor/parallel.h"
#include "tests/unary_cases.h"

enum { BLOCK = 4096, TASKS = 4096, MAX_SETS = 4 };

/* The largest error of one task, or of all. */
typedef struct tally {
    double ulp;
    float at;
    uint64_t differing; /* numbers on which some instruction set gives other bits than the first */
} tally;

typedef struct sweep {
    const unary_case *c;
    const tn_kernels *set[MAX_SETS]; /* fastest first */
    int n_sets;
    uint64_t stride;
    tally out[TASKS];
} sweep;

static void block(const sweep *s, const float *x, int n, tally *t) {
    float y[BLOCK], other[BLOCK], ones[BLOCK];
    for (int i = 0; i < n; i++) ones[i] = 1;
    unary_run(s->set[0], s->c, n, x, ones, y);
    for (int k = 1; k < s->n_sets; k++) {
        unary_run(s->set[k], s->c, n, x, ones, other);
        if (!memcmp(y, other, (size_t)n * sizeof *y)) continue;
        for (int i = 0; i < n; i++) t->differing += !same_float(y[i], other[i]);
    }
    for (int i = 0; i < n; i++) {
        double scale, want = s->c->ref((double)x[i], &scale), e = ulp_error(y[i], want, scale);
        if (e > t->ulp) t->ulp = e, t->at = x[i];
    }
}

/* Task i takes the bit patterns of one 4096th of the range. */
static void task(void *arg, int64_t i, int worker) {
    sweep *s = arg;
    float x[BLOCK];
    uint64_t span = (UINT64_C(1) << 32) / TASKS, u = (uint64_t)i * span, end = u + span;
    tally t = {0};
    (void)worker;
    u += (s->stride - u % s->stride) % s->stride;
    while (u < end) {
        int n = 0;
        for (; n < BLOCK && u < end; u += s->stride) {
            uint32_t bits = (uint32_t)u;
            memcpy(&x[n++], &bits, sizeof bits);
        }
        block(s, x, n, &t);
    }
    s->out[i] = t;
}

/* Returns how many functions failed. */
static int pass(sweep *s, uint64_t stride, uint64_t grad_stride) {
    int failed = 0;
    printf("instruction sets:");
    for (int i = 0; i < s->n_sets; i++) printf(" %s", s->set[i]->name);
    printf("\n%-12s %8s %12s %6s %16s %10s %8s\n", "function", "every", "largest ulp", "bar", "at", "differing",
           "seconds");
    for (int i = 0; i < N_UNARY_CASES; i++) {
        tally all = {0};
        time_t start = time(NULL);
        s->c = &unary_cases[i];
        s->stride = s->c->grad ? grad_stride : stride;
        tn_parallel_for(tn_max_threads(), TASKS, task, s);
        for (int j = 0; j < TASKS; j++) {
            if (s->out[j].ulp > all.ulp) all.ulp = s->out[j].ulp, all.at = s->out[j].at;
            all.differing += s->out[j].differing;
        }
        printf("%-12s %8lu %12.4f %6.2f %16.8g %10lu %8.0f\n", s->c->name, (unsigned long)s->stride, all.ulp, s->c->bar,
               (double)all.at, (unsigned long)all.differing, difftime(time(NULL), start));
        fflush(stdout);
        failed += all.ulp > s->c->bar || all.differing;
    }
    return failed;
}

int main(int argc, char **argv) {
    static const char *names[] = {"avx512", "avx2", "neon", "scalar"};
    static sweep s;
    int known, failed = 0;
    uint64_t stride = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    if (stride == 0) return 2;
    for (int i = 0; i < 3; i++)
        if ((s.set[s.n_sets] = tn_kernels_named(names[i], &known))) s.n_sets++;
    if (s.n_sets) failed += pass(&s, stride, 5 * stride);
    s.set[s.n_sets++] = tn_kernels_named("scalar", &known);
    failed += pass(&s, 67 * stride, 67 * stride);
    printf(failed ? "%d rows FAILED\n" : "all within their bars, all instruction sets agree\n", failed);
    return failed != 0;
}
