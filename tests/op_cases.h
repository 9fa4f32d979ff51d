/* Runs the cases that each operator carries: shared by the tests of operators, instruction sets and threads. */
#ifndef OP_CASES_H
#define OP_CASES_H

#include "tensor/op/ops.h"

/* Output and input gradients of one application, in memory of the caller's context. */
typedef struct op_result {
    tn_tensor *out;
    tn_tensor *in[TN_MAX_IN];
} op_result;

/* Inputs are the same numbers for every context (seeded by operator and case). With backward the cotangent is random
 * too. */
op_result op_case_run(tn_ctx *c, const tn_op *op, const tn_case *k, bool backward);
/* sum (a-b)^2 / sum b^2, in double; sum a^2 where b is all zero. */
double op_nmse(const float *a, const float *b, int64_t n);

#endif
