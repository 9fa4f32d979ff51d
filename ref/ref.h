/* The specification: every operator as plain loops in double, forward and backward.
 *
 * Conventions, the same for every function:
 * - Arrays are row-major and do not overlap. Images and feature maps are [B,C,H,W]; S stands for H*W. Tokens are
 *   [B,L,C].
 * - `dy` is the derivative of some scalar loss by y, `dx` the derivative by x. Backward functions ADD into the gradient
 *   arrays, since a value that is used twice receives two gradients; a gradient that is NULL is not wanted and is
 *   skipped.
 * - No state, no memory of their own, no checks: shapes are the caller's to prove. Sizes may be 0 unless a mean is
 *   taken.
 * - Sums run in the order in which the loops are written. exp, log, erfc, sin, cos and pow are libm's, so results may
 *   differ in the last bits between machines; nothing but tests compares with them.
 * - "PyTorch" names the function whose behaviour is matched. README.md is the index; the derivations are in the files.
 */
#ifndef REF_H
#define REF_H

#include <stdint.h>

/* matmul.c --------------------------------------------------------------------------------------------------------- */

/* y[m,n] = sum_k x[m,k] w[n,k] + b[n]. x [M,K], w [N,K], b [N] or NULL, y [M,N]. PyTorch linear: the weight is
 * [out,in]. */
void ref_linear(const double *x, const double *w, const double *b, double *y, int64_t M, int64_t K, int64_t N);
void ref_linear_backward(const double *x, const double *w, const double *dy, double *dx, double *dw, double *db,
                         int64_t M, int64_t K, int64_t N);

/* y[z] = op(a[z]) op(b[z]) for z < batch. a is [batch,M,K], with ta [batch,K,M]; b is [batch,K,N], with tb [batch,N,K];
 * y [batch,M,N]. PyTorch bmm. */
void ref_matmul(const double *a, const double *b, double *y, int64_t batch, int64_t M, int64_t K, int64_t N, int ta,
                int tb);
void ref_matmul_backward(const double *a, const double *b, const double *dy, double *da, double *db, int64_t batch,
                         int64_t M, int64_t K, int64_t N, int ta, int tb);

/* conv.c ----------------------------------------------------------------------------------------------------------- */

/* Input [B,C,H,W], weight [O,C,KH,KW], output [B,O,P,Q]. `top` and `left` zeros are thought in front of the input; what
 * is needed below and to the right follows from P and Q, so that unequal padding (the VAE's 0,1,0,1) needs no further
 * field. */
typedef struct ref_conv_shape {
    int64_t B, C, H, W, O, KH, KW, P, Q;
    int stride, top, left;
} ref_conv_shape;

/* y[b,o,p,q] = bias[o] + sum_{c,i,j} w[o,c,i,j] x[b, c, p stride + i - top, q stride + j - left], x zero outside. b may
 * be NULL. PyTorch conv2d (a cross-correlation: the kernel is not mirrored). Arithmetic: Dumoulin & Visin,
 * 1603.07285. */
void ref_conv2d(const ref_conv_shape *s, const double *x, const double *w, const double *b, double *y);
void ref_conv2d_backward(const ref_conv_shape *s, const double *x, const double *w, const double *dy, double *dx,
                         double *dw, double *db);

/* The same of x [B,C,H/2,W/2] shown at twice the size (ref_upsample_nearest): H and W are even, and the size of that image. */
void ref_upsample_conv2d(const ref_conv_shape *s, const double *x, const double *w, const double *b, double *y);
void ref_upsample_conv2d_backward(const ref_conv_shape *s, const double *x, const double *w, const double *dy, double *dx,
                                  double *dw, double *db);

/* norm.c ----------------------------------------------------------------------------------------------------------- */

/* y = gamma[c] (x - mean) / sqrt(var + eps) + beta[c], mean and biased variance over each group of C/G channels and all
 * S positions of one sample. x, y [B,C,S]; gamma, beta [C]; G divides C. Wu & He, 1803.08494, section 3. */
void ref_group_norm(const double *x, const double *gamma, const double *beta, double *y, int64_t B, int64_t C,
                    int64_t S, int64_t G, double eps);
void ref_group_norm_backward(const double *x, const double *gamma, const double *dy, double *dx, double *dgamma,
                             double *dbeta, int64_t B, int64_t C, int64_t S, int64_t G, double eps);

/* The same over the last axis, one gamma and beta per element: x, y [R,C]; gamma, beta [C]. Ba et al., 1607.06450, eq.
 * 3. */
void ref_layer_norm(const double *x, const double *gamma, const double *beta, double *y, int64_t R, int64_t C,
                    double eps);
void ref_layer_norm_backward(const double *x, const double *gamma, const double *dy, double *dx, double *dgamma,
                             double *dbeta, int64_t R, int64_t C, double eps);

/* attention.c ------------------------------------------------------------------------------------------------------ */

/* Per sample and head: y = softmax(scale q k^T) v. q, y [B,N,H*D]; k, v [B,M,H*D]; head h is the slice [h*D, (h+1)*D)
 * of the last axis. causal != 0: query i sees the keys j <= i only. Vaswani et al., 1706.03762, eq. 1 and section
 * 3.2.2; scale is 1/sqrt(D) there and here an argument. */
void ref_attention(const double *q, const double *k, const double *v, double *y, int64_t B, int64_t N, int64_t M,
                   int64_t H, int64_t D, double scale, int causal);
/* `row` is room for M numbers: the probabilities of one query, made again row by row. */
void ref_attention_backward(const double *q, const double *k, const double *v, const double *dy, double *dq, double *dk,
                            double *dv, int64_t B, int64_t N, int64_t M, int64_t H, int64_t D, double scale, int causal,
                            double *row);

/* softmax.c -------------------------------------------------------------------------------------------------------- */

/* y[r,i] = exp(x[r,i]) / sum_j exp(x[r,j]). x, y [R,N]. In place (y = x) is fine. The backward takes the output y, not
 * x. PyTorch softmax. */
void ref_softmax(const double *x, double *y, int64_t R, int64_t N);
void ref_softmax_backward(const double *y, const double *dy, double *dx, int64_t R, int64_t N);

/* activation.c ----------------------------------------------------------------------------------------------------- */

/* y = 1 / (1 + exp(-x)). */
void ref_sigmoid(const double *x, double *y, int64_t n);
void ref_sigmoid_backward(const double *x, const double *dy, double *dx, int64_t n);

/* y = x sigmoid(x). Elfwing et al., 1702.03118; "swish" in Ramachandran et al., 1710.05941. */
void ref_silu(const double *x, double *y, int64_t n);
void ref_silu_backward(const double *x, const double *dy, double *dx, int64_t n);

/* y = x Phi(x), Phi the normal distribution function, by erf. Hendrycks & Gimpel, 1606.08415, section 2. */
void ref_gelu(const double *x, double *y, int64_t n);
void ref_gelu_backward(const double *x, const double *dy, double *dx, int64_t n);

/* y = x sigmoid(1.702 x): the approximation in 1606.08415, section 2, which openai/CLIP calls QuickGELU. */
void ref_quick_gelu(const double *x, double *y, int64_t n);
void ref_quick_gelu_backward(const double *x, const double *dy, double *dx, int64_t n);

/* y[r,i] = x[r,i] gelu(x[r,n+i]): value first, gate second. x [R,2n], y [R,n]. Shazeer, 2002.05202, section 2; the
 * order of the halves is that of CompVis/latent-diffusion and diffusers. */
void ref_geglu(const double *x, double *y, int64_t R, int64_t n);
void ref_geglu_backward(const double *x, const double *dy, double *dx, int64_t R, int64_t n);

/* add_scale.c ------------------------------------------------------------------------------------------------------ */

/* y[o,m,i] = a[o,m,i] + b[m]. a, y [O,M,I], b [M]. Equal shapes: O = I = 1; a bias over the last axis: I = 1; positions
 * added to tokens: O = B, M = L*C, I = 1; a time embedding [B,C] added to a feature map: O = 1, M = B*C, I = S. */
void ref_add_broadcast(const double *a, const double *b, double *y, int64_t O, int64_t M, int64_t I);
void ref_add_broadcast_backward(const double *dy, double *da, double *db, int64_t O, int64_t M, int64_t I);

/* y = s x. */
void ref_scale(const double *x, double s, double *y, int64_t n);
void ref_scale_backward(const double *dy, double s, double *dx, int64_t n);

/* resample.c ------------------------------------------------------------------------------------------------------- */

/* y[z,p,q] = x[z, floor(p H/P), floor(q W/Q)]. x [BC,H,W], y [BC,P,Q], any P, Q. PyTorch interpolate, mode
 * "nearest". */
void ref_upsample_nearest(const double *x, double *y, int64_t BC, int64_t H, int64_t W, int64_t P, int64_t Q);
void ref_upsample_nearest_backward(const double *dy, double *dx, int64_t BC, int64_t H, int64_t W, int64_t P,
                                   int64_t Q);

/* y[z,p,q] = mean of the k x k window of x[z] at (p stride, q stride). x [BC,H,W], y [BC,P,Q] with P = (H-k)/stride + 1
 * rounded down and Q likewise; no padding. PyTorch avg_pool2d. */
void ref_avg_pool2d(const double *x, double *y, int64_t BC, int64_t H, int64_t W, int64_t k, int64_t stride);
void ref_avg_pool2d_backward(const double *dy, double *dx, int64_t BC, int64_t H, int64_t W, int64_t k, int64_t stride);

/* layout.c --------------------------------------------------------------------------------------------------------- */

/* y = a then b along the middle axis. a [O,A,I], b [O,Bn,I], y [O,A+Bn,I]. */
void ref_concat(const double *a, const double *b, double *y, int64_t O, int64_t A, int64_t Bn, int64_t I);
void ref_concat_backward(const double *dy, double *da, double *db, int64_t O, int64_t A, int64_t Bn, int64_t I);

/* y[o,m,i] = x[o,from+m,i] for m < count. x [O,M,I], y [O,count,I]; from + count <= M. */
void ref_slice(const double *x, double *y, int64_t O, int64_t M, int64_t I, int64_t from, int64_t count);
void ref_slice_backward(const double *dy, double *dx, int64_t O, int64_t M, int64_t I, int64_t from, int64_t count);

/* [B,C,S] -> [B,S,C]: pixels become tokens. */
void ref_nchw_to_tokens(const double *x, double *y, int64_t B, int64_t C, int64_t S);
void ref_nchw_to_tokens_backward(const double *dy, double *dx, int64_t B, int64_t C, int64_t S);

/* [B,S,C] -> [B,C,S], the inverse; the arguments keep the meaning of the letters. */
void ref_tokens_to_nchw(const double *x, double *y, int64_t B, int64_t C, int64_t S);
void ref_tokens_to_nchw_backward(const double *dy, double *dx, int64_t B, int64_t C, int64_t S);

/* embedding.c ------------------------------------------------------------------------------------------------------ */

/* y[i] = table[ids[i]], or learned[ids[i] - V] for ids from V on: the learned vectors are thought behind the
 * vocabulary. ids [n] in [0, V+Vl), table [V,C], learned [Vl,C] (NULL where Vl is 0), y [n,C]. Gal et al., 2208.01618,
 * section 3. */
void ref_embedding(const int64_t *ids, const double *table, const double *learned, double *y, int64_t n, int64_t V,
                   int64_t Vl, int64_t C);
void ref_embedding_backward(const int64_t *ids, const double *dy, double *dtable, double *dlearned, int64_t n,
                            int64_t V, int64_t Vl, int64_t C);

/* y[b] = x[b,idx[b]]: one row of each sample (CLIP's pooled text state). x [B,L,C], idx [B] in [0,L), y [B,C]. */
void ref_gather_rows(const double *x, const int64_t *idx, double *y, int64_t B, int64_t L, int64_t C);
void ref_gather_rows_backward(const int64_t *idx, const double *dy, double *dx, int64_t B, int64_t L, int64_t C);

/* reduce.c --------------------------------------------------------------------------------------------------------- */

/* y[r] = 1/N sum_i x[r,i]. x [R,N], y [R], N > 0. */
void ref_mean(const double *x, double *y, int64_t R, int64_t N);
void ref_mean_backward(const double *dy, double *dx, int64_t R, int64_t N);

/* 1/n sum_i w[i] (a[i] - b[i])^2, w = 1 where NULL; n > 0 counts elements, not weights. The loss of Ho et al.,
 * 2006.11239, eq. 14, and Gal et al., 2208.01618, eq. 2. dy is the derivative by that one number. */
double ref_mse(const double *a, const double *b, const double *w, int64_t n);
void ref_mse_backward(const double *a, const double *b, const double *w, double dy, double *da, double *db, int64_t n);

/* y[r] = x[r] / ||x[r]||, Euclidean norm, no eps: a row of zeros gives NaN. x, y [R,C]. As in openai/CLIP. */
void ref_l2_normalize(const double *x, double *y, int64_t R, int64_t C);
void ref_l2_normalize_backward(const double *x, const double *dy, double *dx, int64_t R, int64_t C);

/* y[n,m] = a[n].b[m] / (||a[n]|| ||b[m]||), no eps. a [N,C], b [M,C], y [N,M]. Radford et al., 2103.00020, figure 3
 * without the temperature; the measure of Gal et al., 2208.01618, section 5. */
void ref_cosine_similarity(const double *a, const double *b, double *y, int64_t N, int64_t M, int64_t C);
void ref_cosine_similarity_backward(const double *a, const double *b, const double *dy, double *da, double *db,
                                    int64_t N, int64_t M, int64_t C);

/* gaussian.c ------------------------------------------------------------------------------------------------------- */

/* y = min(max(x, lo), hi); the gradient passes for lo <= x <= hi and is zero strictly outside. PyTorch clamp. */
void ref_clamp(const double *x, double *y, int64_t n, double lo, double hi);
void ref_clamp_backward(const double *x, const double *dy, double *dx, int64_t n, double lo, double hi);

/* z = mean + exp(logvar/2) noise: a draw from the VAE's posterior, noise from N(0,1). Kingma & Welling, 1312.6114, eq.
 * 10. */
void ref_gaussian_sample(const double *mean, const double *logvar, const double *noise, double *z, int64_t n);
void ref_gaussian_sample_backward(const double *logvar, const double *noise, const double *dz, double *dmean,
                                  double *dlogvar, int64_t n);

/* kl[b] = 1/2 sum_i (mean^2 + exp(logvar) - 1 - logvar): from N(mean, exp(logvar)) to N(0,1). mean, logvar [B,n], kl
 * [B]. 1312.6114, appendix B, with the sign of a distance. */
void ref_gaussian_kl(const double *mean, const double *logvar, double *kl, int64_t B, int64_t n);
void ref_gaussian_kl_backward(const double *mean, const double *logvar, const double *dkl, double *dmean,
                              double *dlogvar, int64_t B, int64_t n);

/* timestep.c ------------------------------------------------------------------------------------------------------- */

/* With half = dim/2 rounded down and f[i] = max_period^(-i / (half - freq_shift)): y[b] = [sin(t[b] f) | cos(t[b] f)],
 * the cosines first with flip_sin_to_cos; an odd dim ends with a zero. t [B] (may be fractional), y [B,dim]; dim >= 2
 * and half != freq_shift. Vaswani et al., 1706.03762, section 3.5; the halves and freq_shift are those of the DDPM code
 * and diffusers. Not differentiated: timesteps are data. */
void ref_timestep_embedding(const double *t, double *y, int64_t B, int64_t dim, int flip_sin_to_cos, double freq_shift,
                            double max_period);

/* adamw.c ---------------------------------------------------------------------------------------------------------- */

/* One step of AdamW, in place on the parameters p and the moments m and v (zeros before the first step), all [n]; g is
 * the gradient; t = 1 for the first step. Loshchilov & Hutter, 1711.05101, algorithm 2, as in PyTorch AdamW: the decay
 * is lr wd p. */
void ref_adamw(double *p, const double *g, double *m, double *v, int64_t n, int64_t t, double lr, double beta1,
               double beta2, double eps, double wd);

#endif
