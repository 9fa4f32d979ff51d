/* Interpolation along the great circle. */
#ifndef NN_SLERP_H
#define NN_SLERP_H

#include <stddef.h>

/* out = sin((1-t) W) / sin W * a + sin(t W) / sin W * b, W the angle between a and b (Shoemake 1985, "Animating
 * rotation with quaternion curves"); n elements, 0 <= t <= 1. Two samples of a normal distribution keep the length of
 * such a sample on the way, which a straight line through them does not. t = 0 and t = 1 give a and b bit for bit.
 * Where the angle is undefined or the arc is (a vector of zeros, equal or opposite directions): the straight line. out
 * may be a or b. */
void nn_slerp(const float *a, const float *b, double t, float *out, size_t n);

/* The angle between a and b in radians, 0 to pi; 0 where one of them is zero. Sums in double, in order. */
double nn_angle(const float *a, const float *b, size_t n);

#endif
