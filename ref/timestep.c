/* Sinusoidal embedding of the timestep.
 *
 *   f_i = max_period^(-i / (half - freq_shift)),   i < half = floor(dim / 2)
 *   y[b] = [ sin(t f_0) .. sin(t f_{half-1}) | cos(t f_0) .. cos(t f_{half-1}) ]        t [B], y [B,dim]
 *
 * flip_sin_to_cos puts the cosines first. An odd dim ends with one zero. The UNets of Stable Diffusion and LDM use the
 * flip, freq_shift 0 and max_period 10000; the DDPM code has no flip and freq_shift 1, which makes the last frequency
 * exactly 1 / max_period.
 *
 * PyTorch code computes angle, sine and cosine in float32; at t = 999 the angle's rounding alone moves the result by up
 * to 6e-5. This is the exact value.
 *
 * Sources: Vaswani et al., 1706.03762, section 3.5 (there sines and cosines alternate); Ho et al., 2006.11239, appendix
 * B; get_timestep_embedding in hojonathanho/diffusion and diffusers. */
#include "ref/ref.h"

#include <math.h>

void ref_timestep_embedding(const double *t, double *y, int64_t B, int64_t dim, int flip_sin_to_cos, double freq_shift,
                            double max_period) {
    int64_t half = dim / 2, sines = flip_sin_to_cos ? half : 0, cosines = flip_sin_to_cos ? 0 : half;
    for (int64_t b = 0; b < B; b++) {
        for (int64_t i = 0; i < half; i++) {
            double f = exp(-log(max_period) * (double)i / ((double)half - freq_shift));
            y[b * dim + sines + i] = sin(t[b] * f);
            y[b * dim + cosines + i] = cos(t[b] * f);
        }
        if (dim % 2) y[b * dim + dim - 1] = 0;
    }
}
