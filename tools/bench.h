/* oneword bench: measuring and printing, shared by its parts. Every time is wall-clock and a median; a machine that
 * does other work meanwhile shows in all of them alike, so shares of the peak, measured in the same run, are steadier
 * than seconds. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include "tensor/io/json.h"
#include "tensor/op/ops.h"

typedef struct bench {
    tn_ctx *c;           /* kernels and threads to measure with */
    double budget;       /* seconds that one row may take */
    bool json;           /* rows go to w in place of stdout */
    tn_jw w;
    double flops, bytes; /* what the machine reaches in a second; 0 until bench_machine */
} bench;

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
/* Whether to run once more: at least 3 times, at most 256, until the budget is spent. */
bool bench_again(const bench *b, bench_times *t);
double bench_median(bench_times *t);

/* Of one operator: multiplications and additions of matmul, linear, conv2d and attention by the textbook (a causal
 * attention counts half), 0 for others; and bytes that any implementation moves: every input and output once. */
double bench_flops(const tn_node *n, bool backward);
double bench_bytes(const tn_node *n, bool backward);

/* The parts: float32 multiply-adds and memory bandwidth of the machine; operators at the shapes of Stable Diffusion 1.5
 * at 512x512; the networks of a model directory, and with `profile` the time by operator. */
int bench_machine(bench *b, tn_err *err);
int bench_kernels(bench *b, tn_err *err);
int bench_models(bench *b, const char *dir, bool profile, tn_err *err);

#endif
