/* oneword bench: measuring and printing, shared by its parts and by the comparison with other libraries
 * (tests/peers/). Every time is wall-clock and a median; a machine that does other work meanwhile shows in all of them
 * alike, so shares of the peak, measured in the same run, are steadier than seconds. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include "tensor/io/json.h"
#include "tensor/op/ops.h"

typedef struct bench {
    tn_ctx *c;           /* kernels and threads to measure with */
    double budget;       /* seconds that one row may take, */
    int64_t least;       /* but so many runs in any case */
    const char *only;    /* names of sections and rows, separated by commas; NULL: all that need no asking */
    bool json;           /* rows go to w in place of stdout */
    tn_jw w;
    double flops, bytes; /* what the machine reaches in a second; 0 until bench_machine */
} bench;

/* Whether a name is in `only`, or nothing is. */
bool bench_wanted(const bench *b, const char *name);
/* TN_EUSAGE where `only` has a name that is neither of a section nor of a row. */
int bench_check_names(const bench *b, tn_err *err);

/* What one run takes and does; 0 where it is not counted or does not apply. */
typedef struct bench_work {
    double seconds, flops, bytes;
    size_t memory; /* activations and workspaces */
} bench_work;

/* A section of the table with its columns (key: its name in JSON), and one row of it. */
void bench_section(bench *b, const char *key, const char *title);
void bench_section_end(bench *b);
void bench_row(bench *b, const char *name, const bench_work *work);

/* Durations of repeated runs. */
typedef struct bench_times {
    double t[256], began;
    int n;
} bench_times;
/* Whether to run once more: as the budget says, at most 256 times. */
bool bench_again(const bench *b, bench_times *t);
double bench_median(bench_times *t);

/* Of one operator: multiplications and additions of matmul, linear, conv2d and attention by the textbook (a causal
 * attention counts half), 0 for others; and bytes that any implementation moves: every input and output once. */
double bench_flops(const tn_node *n, bool backward);
double bench_bytes(const tn_node *n, bool backward);

/* ---- kernels ---- */

/* What is computed at a shape. d of BENCH_MATMUL: M, N, K, batch; of BENCH_CONV: batch, channels in, out, height, width,
 * kernel, stride; of BENCH_ATTENTION: queries, keys, heads, width of a head; of the others: batch, channels, side. */
typedef enum { BENCH_MATMUL, BENCH_CONV, BENCH_ATTENTION, BENCH_GROUP_NORM, BENCH_LAYER_NORM, BENCH_SILU, BENCH_GEGLU, BENCH_ADD } bench_kind;
typedef struct bench_shape {
    const char *name;
    bench_kind kind;
    int64_t d[7];
} bench_shape;
/* Shapes of Stable Diffusion 1.5 at 512x512 and of a toy model; the last one has a NULL name. */
extern const bench_shape bench_shapes[];

/* What is run at a shape. Products C [M,N] are A B, A B^T and A^T B, as the gradient to the input of a linear layer, its
 * forward and the gradient to its weights come to; F16: its forward with weights in half precision. */
typedef enum { BENCH_NN, BENCH_NT, BENCH_TN, BENCH_NT_F16, BENCH_FORWARD, BENCH_DX, BENCH_DW, BENCH_BACKWARD, BENCH_WAYS } bench_way;
extern const char *const bench_way_names[BENCH_WAYS];
/* Whether it is measured for shapes of that kind. */
bool bench_way_applies(const bench_shape *s, bench_way way);

/* One shape and way, with inputs of its own; the operator runs on the tape as in a model. */
typedef struct bench_kernel {
    tn_ctx *c;
    const bench_shape *shape;
    bench_way way;
    void *buffer[4]; /* inputs, filled at the first run; the last one for the gradient that backward begins with */
    int used;
    bench_work last; /* of the latest run, the operator alone */
} bench_kernel;
void bench_kernel_open(bench_kernel *k, tn_ctx *c, const bench_shape *s, bench_way way);
int bench_kernel_run(bench_kernel *k, tn_err *err);
void bench_kernel_close(bench_kernel *k);

/* ---- the parts ---- */

/* Which networks, at what size; 0: what the model was made for. */
typedef struct bench_setting {
    const char *dir;
    int64_t pixels, batch, tokens;
    bool profile;
} bench_setting;

/* Float32 multiply-adds and memory bandwidth of the machine; kernels; the networks of a model directory, and with
 * `profile` their time by operator. */
int bench_machine(bench *b, tn_err *err);
int bench_kernels(bench *b, tn_err *err);
int bench_models(bench *b, const bench_setting *s, tn_err *err);
/* Prints where the time of `run` goes, which is called as often as the budget allows. */
int bench_profile(bench *b, const char *name, int (*run)(tn_ctx *c, void *arg, tn_err *err), void *arg, tn_err *err);

/* The rows of bench_models, for bench_check_names; NULL after the last. */
const char *bench_network_name(int i);

#endif
