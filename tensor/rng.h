/* Random numbers: PyTorch's CPU generator, bit for bit, so that a seed gives the noise that diffusers users know.
 *
 * The engine is the 32-bit Mersenne Twister (Matsumoto and Nishimura 1998). Arrays of 16 and more normals follow
 * PyTorch's vector path for x86 (Box-Muller over blocks of 16, logarithm and sine of the Cephes library in float32 with
 * fused multiply-adds); fewer than 16 follow its serial path in double. No libm function that differs between systems
 * is called, so a seed is the same noise on every CPU. Two draws of one generator are never the same stream as one
 * longer draw. */
#ifndef TN_RNG_H
#define TN_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/err.h"

typedef struct tn_rng {
    uint32_t state[624];
    int next;        /* word of `state` to hand out next; 624: make new ones first */
    bool has_normal; /* a second normal of the serial path waits in `normal` */
    double normal;
} tn_rng;

/* torch.manual_seed: only the low 32 bits of the seed count (as in PyTorch); forgets a waiting normal. */
void tn_rng_seed(tn_rng *g, uint64_t seed);
uint32_t tn_rng_u32(tn_rng *g);
uint64_t tn_rng_u64(tn_rng *g); /* two words, the first one on top */

/* torch.rand(n), float32: uniform in [0, 1), multiples of 2^-24. */
void tn_rng_rand(tn_rng *g, float *x, size_t n);
/* torch.randn(n), float32. The stream depends on n: below 16 serial, else in blocks of 16 (see rng.c). |x| < 5.8. */
void tn_rng_randn(tn_rng *g, float *x, size_t n);
/* torch.randn(n, dtype=torch.float64). PyTorch takes the C library's functions here, so about three numbers in a
 * thousand differ from it, in the last bit. */
void tn_rng_randn_f64(tn_rng *g, double *x, size_t n);
/* torch.randint(0, n, (1,)): uniform in 0..n-1 up to the bias of a modulus; n > 0. One call per number of a longer
 * draw. */
int64_t tn_rng_randint(tn_rng *g, int64_t n);
/* torch.randperm(n) into p[0..n); 0 <= n < 2^32 / 20 (beyond it versions of PyTorch differ). */
void tn_rng_randperm(tn_rng *g, int64_t *p, int64_t n);

/* The whole state as bytes, the same on every machine, for checkpoints. */
#define TN_RNG_BYTES (624 * 4 + 4 + 4 + 8)
void tn_rng_save(const tn_rng *g, unsigned char out[TN_RNG_BYTES]);
/* TN_EINPUT where the bytes are no state; *g is then untouched. */
int tn_rng_load(tn_rng *g, const unsigned char in[TN_RNG_BYTES], tn_err *err);

#endif
