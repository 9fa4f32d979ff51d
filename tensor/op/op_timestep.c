/* timestep_embedding and the AdamW step. Definitions: ref/timestep.c, ref/adamw.c. */
#include "tensor/dmath.h"
#include "tensor/op/ops.h"

#include <math.h>

static int shape_rule(const tn_node *n, int64_t *shape) {
    TN_FIT(n, n->in[0]->ndim == 1 && n->a.dim >= 2);
    shape[0] = n->in[0]->shape[0], shape[1] = n->a.dim;
    return 2;
}

/* Frequencies and angles are rounded to float32 as in the public code, whose sinusoid the models were trained with: for
 * large t that is up to 6e-5 off the exact value. The sine and cosine of the rounded angle are exact to float
 * rounding. */
static void forward(tn_ctx *c, tn_node *n) {
    int64_t B = n->in[0]->shape[0], dim = n->a.dim, half = dim / 2;
    const float *t = n->in[0]->data;
    float *y = n->out->data, log_period = (float)tn_log((double)n->a.period);
    for (int64_t i = 0; i < half && tn_live(c); i++) {
        float exponent = -log_period * (float)i / ((float)half - n->a.shift);
        float f = (float)tn_exp((double)exponent);
        for (int64_t b = 0; b < B; b++) {
            float angle = t[b] * f;
            float s = (float)tn_sin((double)angle), co = (float)tn_cos((double)angle);
            y[b * dim + i] = n->a.flip ? co : s;
            y[b * dim + half + i] = n->a.flip ? s : co;
        }
    }
    for (int64_t b = 0; dim % 2 && b < B && tn_live(c); b++) y[b * dim + dim - 1] = 0.0f; /* an odd width ends with a zero */
}

static const tn_case cases[] = {
    {"UNet", {.dim = 320, .flip = true, .shift = 0.0f, .period = 10000.0f}, 1, {{'p', 1, {7}}}},
    {"odd, sin first", {.dim = 11, .flip = false, .shift = 1.0f, .period = 10000.0f}, 1, {{'p', 1, {3}}}},
};
const tn_op tn_op_timestep_embedding = {"timestep_embedding", shape_rule, NULL, forward, NULL, cases, 2};

tn_tensor *tn_timestep_embedding(tn_ctx *c, tn_tensor *t, int64_t dim, bool flip_sin_to_cos, float freq_shift, float max_period) {
    tn_attr a = {.dim = dim, .flip = flip_sin_to_cos, .shift = freq_shift, .period = max_period};
    return tn_apply(c, &tn_op_timestep_embedding, &a, 1, &t);
}

/* Everything that one step of AdamW shares among its elements. */
typedef struct adamw {
    const tn_kernels *k;
    const tn_adamw_config *cfg;
    double lr, step_size, sqrt_bc2;
    float *p, *m, *v;
    const float *g;
} adamw;

static void adamw_range(void *arg, int64_t i, int64_t n) {
    const adamw *s = arg;
    const tn_adamw_config *cfg = s->cfg;
    s->k->adamw(n, s->p + i, s->g + i, s->m + i, s->v + i, s->lr, cfg->beta1, cfg->beta2, cfg->eps, cfg->weight_decay,
                s->step_size, s->sqrt_bc2);
}

void tn_adamw(tn_ctx *c, const tn_adamw_config *cfg, double lr, int64_t t, int64_t n, float *p, const float *g, float *m, float *v) {
    double bc1 = 1.0 - tn_pow(cfg->beta1, (double)t), bc2 = 1.0 - tn_pow(cfg->beta2, (double)t);
    adamw s = {c->k, cfg, lr, lr / bc1, sqrt(bc2), p, m, v, g};
    tn_elementwise(c, n, adamw_range, &s);
}
