#include <string.h>

#include "tensor/kernel/kernels.h"

#ifdef TN_HAVE_avx2
#include <cpuid.h>
#endif

/* The compiler's run-time library asks cpuid and, by xgetbv, whether the system saves the wide registers. AVX-512
 * means the subsets that every server core since Skylake has. NEON is part of AArch64. */
#ifdef TN_HAVE_avx2
static int has_avx2(void) {
    unsigned a, b, c, d;
    __builtin_cpu_init();
    int f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C); /* not every compiler has a name for it */
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#ifdef TN_HAVE_avx512
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static const tn_kernels *avx512(void) {
#ifdef TN_HAVE_avx512
    if (has_avx512()) return &tn_kernels_avx512;
#endif
    return NULL;
}

static const tn_kernels *avx2(void) {
#ifdef TN_HAVE_avx2
    if (has_avx2()) return &tn_kernels_avx2;
#endif
    return NULL;
}

static const tn_kernels *neon(void) {
#ifdef TN_HAVE_neon
    return &tn_kernels_neon;
#else
    return NULL;
#endif
}

static const tn_kernels *scalar(void) { return &tn_kernels_scalar; }

/* Fastest first. */
static const struct {
    const char *name;
    const tn_kernels *(*table)(void);
} sets[] = {{"avx512", avx512}, {"avx2", avx2}, {"neon", neon}, {"scalar", scalar}};
enum { N_SETS = sizeof sets / sizeof sets[0] };

const tn_kernels *tn_kernels_named(const char *name, int *known) {
    for (int i = 0; i < N_SETS; i++)
        if (!strcmp(sets[i].name, name)) {
            *known = 1;
            return sets[i].table();
        }
    *known = 0;
    return NULL;
}

const tn_kernels *tn_kernels_best(void) {
    const tn_kernels *t = NULL;
    for (int i = 0; i < N_SETS && !t; i++) t = sets[i].table();
    return t;
}
