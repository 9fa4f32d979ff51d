#include "nn/model/unet.h"

#include "nn/model/blocks.h"
#include "nn/model/unet_config.h"
#include "tensor/op/ops.h"
#include <stdlib.h>

enum { MAX_LAYERS = NN_UNET_MAX_LAYERS };

/* One level of the way down, of the way up (a layer more), or the middle (two residual blocks around one transformer).
 */
typedef struct level {
    nn_resnet resnets[MAX_LAYERS + 1];
    nn_transformer attentions[MAX_LAYERS + 1];
    nn_conv sampler;
} level;

struct nn_unet {
    nn_unet_config cfg;
    nn_conv conv_in, conv_out;
    nn_norm norm_out;
    tn_tensor time1_w, time1_b, time2_w, time2_b;
    level down[NN_UNET_MAX_BLOCKS], mid, up[NN_UNET_MAX_BLOCKS];
    nn_weights weights;
};

const nn_unet_config *nn_unet_cfg(const nn_unet *m) { return &m->cfg; }
nn_params *nn_unet_params(nn_unet *m) { return &m->weights.params; }
const nn_weights *nn_unet_weights(const nn_unet *m) { return &m->weights; }

/* Width of the time embedding between its two linear layers and after them. */
static int64_t time_width(const nn_unet_config *cfg) { return 4 * cfg->block_out[0]; }

/* ---- weights ---- */

/* What the way down leaves for the way up: the output of conv_in, of each layer and of each downsampler. */
enum { MAX_SKIPS = NN_UNET_MAX_BLOCKS * (MAX_LAYERS + 1) + 1 };
typedef struct widths {
    int64_t v[MAX_SKIPS];
    int n;
} widths;

/* A resnet at `prefix`resnets.j and, at a level with attention, the transformer behind it. */
static int bind_layer(nn_binder *b, const nn_unet_config *cfg, level *l, const char *prefix, int64_t j, int64_t in,
                      int64_t out, int at, bool attention, tn_err *err) {
    char name[NN_NAME_SIZE];
    nn_name(name, prefix, "resnets", j, ".");
    if (nn_resnet_bind(b, name, &l->resnets[j], in, out, time_width(cfg), cfg->groups, cfg->norm_eps, err)) return -1;
    nn_name(name, prefix, "attentions", j, ".");
    return attention ? nn_transformer_bind(b, name, &l->attentions[j], out, cfg->cross_dim[at], cfg->heads[at],
                                           cfg->groups, cfg->linear_projection, err)
                     : 0;
}

static int bind_down(nn_binder *b, nn_unet *m, widths *skips, tn_err *err) {
    const nn_unet_config *cfg = &m->cfg;
    char prefix[NN_NAME_SIZE], name[NN_NAME_SIZE];
    int64_t in = cfg->block_out[0];
    skips->v[skips->n++] = in;
    for (int i = 0; i < cfg->nblocks; i++) {
        int64_t out = cfg->block_out[i];
        nn_name(prefix, "", "down_blocks", i, ".");
        for (int64_t j = 0; j < cfg->layers[i]; j++) {
            if (bind_layer(b, cfg, &m->down[i], prefix, j, in, out, i, cfg->down_attention[i], err)) return -1;
            skips->v[skips->n++] = in = out;
        }
        if (i + 1 == cfg->nblocks) break;
        nn_name(name, prefix, "downsamplers", 0, ".conv");
        if (nn_conv_bind(b, name, &m->down[i].sampler, out, out, 3, err)) return -1;
        skips->v[skips->n++] = out;
    }
    return 0;
}

static int bind_up(nn_binder *b, nn_unet *m, widths *skips, tn_err *err) {
    const nn_unet_config *cfg = &m->cfg;
    char prefix[NN_NAME_SIZE], name[NN_NAME_SIZE];
    int64_t in = cfg->block_out[cfg->nblocks - 1];
    for (int i = 0; i < cfg->nblocks; i++) {
        int at = cfg->nblocks - 1 - i; /* the level of the way down that it mirrors */
        int64_t out = cfg->block_out[at];
        nn_name(prefix, "", "up_blocks", i, ".");
        for (int64_t j = 0; j <= cfg->layers[at]; j++) {
            int64_t joined = in + skips->v[--skips->n];
            if (bind_layer(b, cfg, &m->up[i], prefix, j, joined, out, at, cfg->up_attention[i], err)) return -1;
            in = out;
        }
        nn_name(name, prefix, "upsamplers", 0, ".conv");
        if (i + 1 < cfg->nblocks && nn_conv_bind(b, name, &m->up[i].sampler, out, out, 3, err)) return -1;
    }
    return 0;
}

static int bind_all(nn_binder *b, nn_unet *m, tn_err *err) {
    static const nn_bind_row time_rows[] = {
        NN_ROWS(nn_unet, time1, "time_embedding.linear_1", "TC", "T"),
        NN_ROWS(nn_unet, time2, "time_embedding.linear_2", "TT", "T"),
    };
    const nn_unet_config *cfg = &m->cfg;
    int64_t width = cfg->block_out[0], deep = cfg->block_out[cfg->nblocks - 1];
    widths skips = {{0}, 0};
    if (nn_conv_bind(b, "conv_in", &m->conv_in, cfg->in_channels, width, 3, err)) return -1;
    if (nn_bind(b, "", time_rows, 4, m, "CT", (int64_t[]){width, time_width(cfg)}, err)) return -1;
    if (bind_down(b, m, &skips, err)) return -1;
    for (int j = 0; j < 2; j++) {
        if (bind_layer(b, cfg, &m->mid, "mid_block.", j, deep, deep, cfg->nblocks - 1, j == 0, err)) return -1;
    }
    if (bind_up(b, m, &skips, err)) return -1;
    if (nn_norm_bind(b, "conv_norm_out", &m->norm_out, width, err)) return -1;
    return nn_conv_bind(b, "conv_out", &m->conv_out, width, cfg->out_channels, 3, err);
}

/* stem: of the files of weights, NULL for an outline */
static int load(const char *dir, const char *stem, nn_unet **out, tn_err *err) {
    static const char *const ignored[] = {NULL};
    nn_notes notes = {""};
    nn_binder *b;
    nn_unet *m = calloc(1, sizeof *m);
    if (!m) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    if (nn_unet_config_load(dir, &m->cfg, &notes, err) ||
        nn_binder_open(dir, stem, ignored, NULL, &notes, &b, err) ||
        nn_binder_close(b, bind_all(b, m, err), &m->weights, err)) {
        free(m);
        return -1;
    }
    m->weights.notes = notes;
    *out = m;
    return 0;
}

int nn_unet_load(const char *dir, nn_unet **out, tn_err *err) { return load(dir, "diffusion_pytorch_model", out, err); }
int nn_unet_outline(const char *dir, nn_unet **out, tn_err *err) { return load(dir, NULL, out, err); }

void nn_unet_free(nn_unet *m) {
    if (!m) return;
    nn_weights_free(&m->weights);
    free(m);
}

/* ---- forward ---- */

/* What every layer sees besides the image, and the skips. */
typedef struct pass {
    const nn_unet_config *cfg;
    tn_tensor *time; /* embedding after SiLU, which every residual block would apply first */
    const nn_unet_text *text;
    int transformers; /* that have run */
    struct skip {
        tn_tensor *x;
        tn_scope scope; /* x is the first that was made in it */
    } skip[MAX_SKIPS];
    int n;
} pass;

/* [B] -> [B,T]: sinusoid, linear, SiLU, linear */
static tn_tensor *embed_time(tn_ctx *c, const nn_unet *m, tn_tensor *timestep) {
    const nn_unet_config *cfg = &m->cfg;
    tn_tensor *t =
        tn_timestep_embedding(c, timestep, cfg->block_out[0], cfg->flip_sin_to_cos, cfg->freq_shift, 10000.0f);
    tn_trace(c, "", "time_proj", t);
    t = tn_silu(c, tn_linear(c, t, nn_w(&m->time1_w), nn_w(&m->time1_b)));
    t = tn_linear(c, t, nn_w(&m->time2_w), nn_w(&m->time2_b));
    tn_trace(c, "", "time_embedding", t);
    return t;
}

static tn_tensor *run_layer(tn_ctx *c, pass *p, const level *l, int64_t j, bool attention, tn_tensor *x,
                            tn_tensor *skip) {
    tn_scope s = tn_scope_open(c);
    x = tn_scope_keep(c, s, nn_resnet_forward(c, &l->resnets[j], x, p->time, skip));
    return attention ? nn_transformer_forward(c, &l->attentions[j], x, &p->text->kv[p->transformers++]) : x;
}

/* Skips are a stack, and so is the memory of a run without a tape: on the way down each layer leaves its output on top,
 * on the way up its output takes the place of the skip that it used. */
static tn_tensor *push(tn_ctx *c, pass *p, tn_scope scope, tn_tensor *x) {
    p->skip[p->n++] = (struct skip){x = tn_scope_keep(c, scope, x), scope};
    return x;
}

static tn_tensor *go_down(tn_ctx *c, const nn_unet *m, pass *p, tn_tensor *x) {
    for (int i = 0; i < p->cfg->nblocks; i++) {
        for (int64_t j = 0; j < p->cfg->layers[i]; j++) {
            tn_scope s = tn_scope_open(c);
            x = push(c, p, s, run_layer(c, p, &m->down[i], j, p->cfg->down_attention[i], x, NULL));
        }
        if (i + 1 < p->cfg->nblocks) {
            tn_scope s = tn_scope_open(c);
            x = push(c, p, s, nn_downsample(c, &m->down[i].sampler, x, p->cfg->downsample_padding));
        }
        nn_trace_at(c, "", "down_blocks", i, x);
    }
    return x;
}

static tn_tensor *go_up(tn_ctx *c, const nn_unet *m, pass *p, tn_tensor *x) {
    for (int i = 0; i < p->cfg->nblocks; i++) {
        int at = p->cfg->nblocks - 1 - i;
        struct skip last = {NULL, {{0}, {0}}};
        for (int64_t j = 0; j <= p->cfg->layers[at]; j++) {
            last = p->skip[--p->n];
            x = run_layer(c, p, &m->up[i], j, p->cfg->up_attention[i], x, last.x);
            x = tn_scope_keep(c, last.scope, x);
        }
        if (i + 1 < p->cfg->nblocks) {
            const tn_tensor *next = p->skip[p->n - 1].x; /* twice as large, or one less where a size was odd */
            x = nn_upsample(c, &m->up[i].sampler, x, next->shape[2], next->shape[3]);
            x = tn_scope_keep(c, last.scope, x);
        }
        nn_trace_at(c, "", "up_blocks", i, x);
    }
    return x;
}

/* 2x - 1: of models trained on samples in [0,1] */
static tn_tensor *centre(tn_ctx *c, tn_tensor *x) {
    int64_t width = x->shape[3];
    tn_tensor *minus_one = tn_new(c, TN_F32, 1, &width);
    for (int64_t i = 0; tn_live(c) && i < width; i++) tn_f32(minus_one)[i] = -1.0f;
    return tn_add(c, tn_scale(c, x, 2.0f), minus_one);
}

static void read_level(tn_ctx *c, const level *l, int64_t layers, tn_tensor *context, nn_unet_text *out) {
    for (int64_t j = 0; j < layers; j++) out->kv[out->n++] = nn_transformer_text(c, &l->attentions[j], context);
}

void nn_unet_read(tn_ctx *c, const nn_unet *m, tn_tensor *context, nn_unet_text *out) {
    const nn_unet_config *cfg = &m->cfg;
    out->n = 0;
    for (int i = 0; i < cfg->nblocks; i++) {
        if (cfg->down_attention[i]) read_level(c, &m->down[i], cfg->layers[i], context, out);
    }
    read_level(c, &m->mid, 1, context, out);
    for (int i = 0; i < cfg->nblocks; i++) {
        if (cfg->up_attention[i]) read_level(c, &m->up[i], cfg->layers[cfg->nblocks - 1 - i] + 1, context, out);
    }
}

tn_tensor *nn_unet_denoise(tn_ctx *c, const nn_unet *m, tn_tensor *sample, tn_tensor *timestep, const nn_unet_text *text) {
    pass p = {.cfg = &m->cfg, .text = text};
    p.time = tn_silu(c, embed_time(c, m, timestep));
    tn_tensor *x = m->cfg.center_input_sample ? centre(c, sample) : sample;
    tn_scope s = tn_scope_open(c);
    x = push(c, &p, s, nn_conv_forward(c, &m->conv_in, x));
    tn_trace(c, "", "conv_in", x);
    x = go_down(c, m, &p, x);
    s = tn_scope_open(c);
    x = run_layer(c, &p, &m->mid, 0, true, x, NULL);
    x = tn_scope_keep(c, s, run_layer(c, &p, &m->mid, 1, false, x, NULL));
    tn_trace(c, "", "mid_block", x);
    x = go_up(c, m, &p, x);
    x = tn_group_norm(c, x, nn_w(&m->norm_out.w), nn_w(&m->norm_out.b), (int)m->cfg.groups, m->cfg.norm_eps, true);
    return nn_conv_forward(c, &m->conv_out, x);
}

tn_tensor *nn_unet_forward(tn_ctx *c, const nn_unet *m, tn_tensor *sample, tn_tensor *timestep, tn_tensor *context) {
    nn_unet_text text;
    nn_unet_read(c, m, context, &text);
    return nn_unet_denoise(c, m, sample, timestep, &text);
}
