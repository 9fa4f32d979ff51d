/* Elementary functions in double with the same bits on every CPU and C library.
 *
 * The libm of glibc, musl, msvcrt and newlib differ in the last place, so schedules, sinusoids and the noise of a seed
 * would differ from machine to machine. These are computed with additions, multiplications, divisions and exact
 * functions (rint, ldexp, frexp) alone, in double-double where it matters: exact argument reduction, Taylor series with
 * a double-double head, one rounding at the end. They are for tables and for single numbers (about 0.1 us a call);
 * vectors use tensor/kernel/vmath.h.
 *
 * Largest error found over 12 million arguments each against 113-bit references, in units in the last place (0.5 is
 * perfect):
 *
 *     tn_exp    0.551   results below the normal range: 0.764
 *     tn_log    0.501   normal and subnormal arguments
 *     tn_log1p  0.501
 *     tn_sin    0.550   |x| <= 2^40
 *     tn_cos    0.550   |x| <= 2^40
 *     tn_pow    0.794
 *     tn_asin   2.2     plain double, for angles (over 200 thousand arguments)
 *
 * NaN gives NaN. Needs IEEE doubles evaluated as such (no x87 excess precision) and no contraction to fused
 * multiply-adds. */
#ifndef TN_DMATH_H
#define TN_DMATH_H

double tn_exp(double x);   /* e^x; 0 and infinity outside [-745.14, 709.79], subnormal results included */
double tn_log(double x);   /* natural logarithm; -infinity at 0, NaN below */
double tn_log1p(double x); /* log(1 + x), accurate near 0; -infinity at -1, NaN below */
double tn_sin(double x);   /* x in radians, |x| <= 2^40; NaN beyond (the argument reduction would run out of digits) */
double tn_cos(double x);   /* like tn_sin */
double tn_asin(double x);  /* in [-pi/2, pi/2]; NaN beyond |x| = 1 */
double tn_pow(double x, double y); /* x^y for x >= 0; x^0 = 1 for any x; NaN for x < 0 */

#endif
