/* Operators at the shapes they have in Stable Diffusion 1.5 at 512x512, batch 1, and in a toy model, batch 32. Each is run
 * on the tape as in a model; the profile hook of the context times the operator alone, without the making of its inputs. */
#include "tools/bench.h"

#include "tensor/io/half.h"
#include "tensor/rng.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MATMUL(name, m, n, k, batch) {name, BENCH_MATMUL, {m, n, k, batch}}
#define CONV(name, batch, in, out, side, kernel) {name, BENCH_CONV, {batch, in, out, side, side, kernel, 1}}
const bench_shape bench_shapes[] = {
    MATMUL("64x64 q/k/v/out/proj", 4096, 320, 320, 1),   MATMUL("64x64 GEGLU in", 4096, 2560, 320, 1),
    MATMUL("64x64 FF out", 4096, 320, 1280, 1),          MATMUL("32x32 q/k/v/out/proj", 1024, 640, 640, 1),
    MATMUL("32x32 GEGLU in", 1024, 5120, 640, 1),        MATMUL("32x32 FF out", 1024, 640, 2560, 1),
    MATMUL("16x16 q/k/v/out/proj", 256, 1280, 1280, 1),  MATMUL("16x16 GEGLU in", 256, 10240, 1280, 1),
    MATMUL("16x16 FF out", 256, 1280, 5120, 1),          MATMUL("8x8 q/k/v/out/proj", 64, 1280, 1280, 1),
    MATMUL("8x8 GEGLU in", 64, 10240, 1280, 1),          MATMUL("CLIP q/k/v/out", 77, 768, 768, 1),
    MATMUL("CLIP fc1", 77, 3072, 768, 1),                MATMUL("CLIP fc2", 77, 768, 3072, 1),
    MATMUL("context K/V 320", 77, 320, 768, 1),          MATMUL("context K/V 1280", 77, 1280, 768, 1),
    MATMUL("time embedding", 1, 1280, 1280, 1),          MATMUL("QK^T 64x64, 8 heads", 4096, 4096, 40, 8),
    MATMUL("PV 64x64, 8 heads", 4096, 40, 4096, 8),      MATMUL("QK^T 32x32, 8 heads", 1024, 1024, 80, 8),
    MATMUL("PV 32x32, 8 heads", 1024, 80, 1024, 8),      MATMUL("QK^T 16x16, 8 heads", 256, 256, 160, 8),
    MATMUL("cross QK^T 64x64, 8 heads", 4096, 77, 40, 8), MATMUL("cross PV 64x64, 8 heads", 4096, 40, 77, 8),
    MATMUL("VAE QK^T 64x64", 4096, 4096, 512, 1),        MATMUL("square", 2048, 2048, 2048, 1),
    CONV("UNet 320@64x64", 1, 320, 320, 64, 3),          CONV("UNet 640@32x32", 1, 640, 640, 32, 3),
    CONV("UNet 1280@16x16", 1, 1280, 1280, 16, 3),       CONV("UNet 1280@8x8", 1, 1280, 1280, 8, 3),
    CONV("UNet 960>320@64x64", 1, 960, 320, 64, 3),      CONV("UNet 1920>640@32x32", 1, 1920, 640, 32, 3),
    CONV("UNet out 320>4@64x64", 1, 320, 4, 64, 3),      CONV("UNet 1x1 960>320@64x64", 1, 960, 320, 64, 1),
    CONV("VAE 512@64x64", 1, 512, 512, 64, 3),           CONV("VAE 512@128x128", 1, 512, 512, 128, 3),
    CONV("VAE 256@256x256", 1, 256, 256, 256, 3),        CONV("VAE 128@512x512", 1, 128, 128, 512, 3),
    CONV("VAE out 128>3@512x512", 1, 128, 3, 512, 3),    CONV("toy 64@16x16 b32", 32, 64, 64, 16, 3),
    CONV("toy 128@8x8 b32", 32, 128, 128, 8, 3),
    {"4096 tokens, 8 heads of 40", BENCH_ATTENTION, {4096, 4096, 8, 40}},
    {"1024 tokens, 8 heads of 80", BENCH_ATTENTION, {1024, 1024, 8, 80}},
    {"256 tokens, 8 heads of 160", BENCH_ATTENTION, {256, 256, 8, 160}},
    {"4096 to 77 tokens, 8 heads of 40", BENCH_ATTENTION, {4096, 77, 8, 40}},
    {"4096 tokens, 1 head of 512", BENCH_ATTENTION, {4096, 4096, 1, 512}},
    {"+ SiLU, 320@64x64", BENCH_GROUP_NORM, {1, 320, 64}}, {"+ SiLU, 128@512x512", BENCH_GROUP_NORM, {1, 128, 512}},
    {"4096 x 320", BENCH_LAYER_NORM, {1, 320, 64}},        {"4096 x 320", BENCH_SILU, {1, 320, 64}},
    {"4096 x 2560", BENCH_GEGLU, {1, 2560, 64}},           {"4096 x 320", BENCH_ADD, {1, 320, 64}},
    {NULL, BENCH_MATMUL, {0}}};
#undef MATMUL
#undef CONV

const char *const bench_way_names[BENCH_WAYS] = {"NN", "NT", "TN", "NT f16", "forward", "dx", "dw", "backward"};

bool bench_way_applies(const bench_shape *s, bench_way way) {
    switch (s->kind) {
    case BENCH_MATMUL: return way <= BENCH_TN || (way == BENCH_NT_F16 && s->d[3] == 1);
    case BENCH_CONV: return way == BENCH_FORWARD || way == BENCH_DX || way == BENCH_DW;
    case BENCH_ATTENTION: return way == BENCH_FORWARD || way == BENCH_BACKWARD;
    default: return way == BENCH_FORWARD || way == BENCH_DX;
    }
}

/* ---- one run ---- */

/* Small random numbers, the same few over and over: no kernel looks at them. */
static void fill(void *data, int64_t n, tn_dtype type) {
    enum { TABLE = 1 << 16 };
    static const float scale = 0.1f;
    float *table = malloc(TABLE * sizeof *table);
    tn_rng g;
    tn_rng_seed(&g, 1);
    if (table) tn_rng_randn(&g, table, TABLE);
    for (int64_t i = 0; i < n; i++) {
        float x = table ? scale * table[i % TABLE] : 0.0f;
        if (type == TN_F32) ((float *)data)[i] = x;
        else ((uint16_t *)data)[i] = tn_f32_to_f16(x);
    }
    free(table);
}

/* The next input, which is the same memory in every run; NULL data, of which the context takes care, where memory is
 * out. */
static tn_tensor *input(bench_kernel *k, tn_dtype type, int ndim, const int64_t *shape, bool need) {
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    void **buffer = &k->buffer[k->used++];
    if (!*buffer && (*buffer = malloc((size_t)n * tn_dtype_size(type)))) fill(*buffer, n, type);
    return tn_leaf(k->c, type, ndim, shape, *buffer, need);
}

/* Products as the models compute them: a linear layer and its gradients; per head, batched matrices. */
static tn_tensor *run_matmul(bench_kernel *k) {
    int64_t M = k->shape->d[0], N = k->shape->d[1], K = k->shape->d[2], B = k->shape->d[3];
    bool ta = k->way == BENCH_TN, tb = k->way == BENCH_NT, half = k->way == BENCH_NT_F16, forward = tb || half;
    if (B > 1) {
        tn_tensor *a = input(k, TN_F32, 3, (int64_t[]){B, ta ? K : M, ta ? M : K}, false);
        return tn_matmul(k->c, a, input(k, TN_F32, 3, (int64_t[]){B, tb ? N : K, tb ? K : N}, false), ta, tb);
    }
    int64_t rows = ta ? K : M, in = forward ? K : N, out = ta ? M : forward ? N : K;
    tn_tensor *x = input(k, TN_F32, 2, (int64_t[]){rows, in}, k->way == BENCH_NN);
    return tn_linear(k->c, x, input(k, half ? TN_F16 : TN_F32, 2, (int64_t[]){out, in}, ta), NULL);
}

static tn_tensor *run_conv(bench_kernel *k) {
    const int64_t *d = k->shape->d;
    tn_tensor *x = input(k, TN_F32, 4, (int64_t[]){d[0], d[1], d[3], d[4]}, k->way == BENCH_DX);
    tn_tensor *w = input(k, TN_F32, 4, (int64_t[]){d[2], d[1], d[5], d[5]}, k->way == BENCH_DW);
    return tn_conv2d(k->c, x, w, NULL, (int)d[6], (int)(d[5] / 2));
}

static tn_tensor *run_attention(bench_kernel *k) {
    const int64_t *d = k->shape->d;
    int64_t C = d[2] * d[3];
    bool need = k->way == BENCH_BACKWARD;
    tn_tensor *q = input(k, TN_F32, 3, (int64_t[]){1, d[0], C}, need), *key = input(k, TN_F32, 3, (int64_t[]){1, d[1], C}, need);
    return tn_attention(k->c, q, key, input(k, TN_F32, 3, (int64_t[]){1, d[1], C}, need), (int)d[2], 0.0f, false);
}

/* One pass over an image [batch, channels, side, side], or the same as tokens. */
static tn_tensor *run_pass(bench_kernel *k) {
    const int64_t *d = k->shape->d, C = d[1];
    bool image = k->shape->kind == BENCH_GROUP_NORM, need = k->way == BENCH_DX;
    const int64_t nchw[] = {d[0], C, d[2], d[2]}, tokens[] = {d[0] * d[2] * d[2], C};
    tn_tensor *x = image ? input(k, TN_F32, 4, nchw, need) : input(k, TN_F32, 2, tokens, need);
    switch (k->shape->kind) {
    case BENCH_SILU: return tn_silu(k->c, x);
    case BENCH_GEGLU: return tn_geglu(k->c, x);
    case BENCH_ADD: return tn_add(k->c, x, input(k, TN_F32, 2, tokens, false));
    default: break;
    }
    tn_tensor *gamma = input(k, TN_F32, 1, &C, false), *beta = input(k, TN_F32, 1, &C, false);
    return image ? tn_group_norm(k->c, x, gamma, beta, 32, 1e-5f, true) : tn_layer_norm(k->c, x, gamma, beta, 1e-5f);
}

static bool is_backward(bench_way way) { return way == BENCH_NN || way == BENCH_TN || way >= BENCH_DX; }

static void observe(void *arg, const tn_node *n, bool backward, double seconds) {
    bench_kernel *k = arg;
    bool batched = k->shape->kind == BENCH_MATMUL && k->shape->d[3] > 1;
    if (backward != (is_backward(k->way) && !batched)) return;
    k->last = (bench_work){seconds, bench_flops(n, backward), bench_bytes(n, backward), 0};
}

void bench_kernel_open(bench_kernel *k, tn_ctx *c, const bench_shape *s, bench_way way) {
    *k = (bench_kernel){.c = c, .shape = s, .way = way};
}

void bench_kernel_close(bench_kernel *k) {
    for (int i = 0; i < 4; i++) free(k->buffer[i]);
}

int bench_kernel_run(bench_kernel *k, tn_err *err) {
    tn_ctx *c = k->c;
    tn_ctx_reset(c);
    c->profile = observe, c->profile_arg = k, c->record = is_backward(k->way), k->used = 0;
    tn_tensor *y = k->shape->kind == BENCH_MATMUL      ? run_matmul(k)
                   : k->shape->kind == BENCH_CONV      ? run_conv(k)
                   : k->shape->kind == BENCH_ATTENTION ? run_attention(k)
                                                       : run_pass(k);
    if (c->record && y->need) {
        void **dy = &k->buffer[3];
        if (!*dy && (*dy = malloc((size_t)tn_numel(y) * sizeof(float)))) fill(*dy, tn_numel(y), TN_F32);
        tn_seed(c, y, *dy);
        tn_backward(c);
    }
    c->profile = NULL, c->record = false;
    return tn_ctx_status(c, err);
}

/* ---- the table ---- */

/* form: of a convolution, named in the row where there is a choice. */
static int measure(bench *b, const bench_shape *s, bench_way way, tn_conv_form form, tn_err *err) {
    tn_conv_form usual = b->c->conv;
    b->c->conv = form;
    bench_kernel k;
    bench_times t = {.n = 0};
    bench_kernel_open(&k, b->c, s, way);
    int r = bench_kernel_run(&k, err); /* makes the inputs */
    while (!r && bench_again(b, &t)) {
        r = bench_kernel_run(&k, err);
        t.t[t.n++] = k.last.seconds;
    }
    bench_kernel_close(&k);
    b->c->conv = usual;
    if (r) return r;
    char name[100];
    const char *form_name = form == TN_CONV_DIRECT ? " direct" : form == TN_CONV_WINOGRAD ? " winograd" : "";
    snprintf(name, sizeof name, "%-8s%s %s", bench_way_names[way], form_name, s->name);
    k.last.seconds = bench_median(&t);
    if (k.last.flops > 0.0) k.last.bytes = 0.0;
    bench_row(b, name, &k.last);
    return 0;
}

/* All ways of one shape; convolutions that have two forms in both. */
static int measure_shape(bench *b, const bench_shape *s, tn_err *err) {
    for (int way = 0; way < BENCH_WAYS; way++) {
        if (!bench_way_applies(s, (bench_way)way)) continue;
        bool both = s->kind == BENCH_CONV && s->d[5] == 3 && s->d[6] == 1 && b->c->conv == TN_CONV_AUTO;
        if (measure(b, s, (bench_way)way, both ? TN_CONV_DIRECT : b->c->conv, err)) return -1;
        if (both && measure(b, s, (bench_way)way, TN_CONV_WINOGRAD, err)) return -1;
    }
    return 0;
}

int bench_kernels(bench *b, tn_err *err) {
    static const struct {
        const char *key, *title;
    } sections[] = {{"matmul", "matrix products"}, {"conv", "convolutions"},   {"attention", "attention"}, {"group_norm", "group norm"},
                    {"layer_norm", "layer norm"},  {"silu", "SiLU"},           {"geglu", "GEGLU"},         {"add", "add"}};
    const bench_shape *s = bench_shapes;
    while (s->name) {
        bench_kind kind = s->kind;
        bool wanted = bench_wanted(b, "kernels") || (b->only && bench_wanted(b, sections[kind].key));
        if (wanted) bench_section(b, sections[kind].key, sections[kind].title);
        for (; s->name && s->kind == kind; s++) {
            if (wanted && measure_shape(b, s, err)) return -1;
        }
        if (wanted) bench_section_end(b);
    }
    return 0;
}
