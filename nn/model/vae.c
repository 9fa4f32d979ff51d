#include "nn/model/vae.h"

#include "nn/config.h"
#include "nn/model/blocks.h"
#include "tensor/op/ops.h"
#include <stdlib.h>

enum { MAX_BLOCKS = NN_LIST_MAX, MAX_LAYERS = 16 };

/* One level, of the encoder or of the decoder, which has a layer more. */
typedef struct level {
    nn_resnet resnets[MAX_LAYERS + 1];
    nn_conv sampler; /* none at the last level */
} level;

/* Encoder and decoder are the same but for the direction of the levels. */
typedef struct tower {
    nn_conv conv_in, conv_out;
    nn_norm norm_out;
    nn_resnet mid[2];
    nn_image_attention attention;
    level levels[MAX_BLOCKS];
} tower;

struct nn_vae {
    nn_vae_config cfg;
    tower encoder, decoder;
    nn_conv quant, post_quant;
    nn_weights weights;
};

const nn_vae_config *nn_vae_cfg(const nn_vae *m) { return &m->cfg; }
nn_params *nn_vae_params(nn_vae *m) { return &m->weights.params; }
const nn_weights *nn_vae_weights(const nn_vae *m) { return &m->weights; }
int64_t nn_vae_factor(const nn_vae *m) { return (int64_t)1 << (m->cfg.nblocks - 1); }

static const float vae_eps = 1e-6f; /* every norm of the autoencoder; not in the configuration */

/* ---- configuration ---- */

typedef struct reading {
    nn_vae_config cfg;
    nn_list block_out, down, up;
} reading;

#define CFG(field) offsetof(reading, cfg.field)
static const nn_key keys[] = {
    {"_class_name", NN_KEY_ONLY, 0, "AutoencoderKL", 0, 0},
    {"in_channels", NN_KEY_INT, CFG(in_channels), "", 1, 64},
    {"out_channels", NN_KEY_INT, CFG(out_channels), "", 1, 64},
    {"latent_channels", NN_KEY_INT, CFG(latent_channels), "", 1, 256},
    {"block_out_channels", NN_KEY_INTS, offsetof(reading, block_out), "", 1, 65536},
    {"layers_per_block", NN_KEY_INT, CFG(layers_per_block), "", 1, MAX_LAYERS},
    {"norm_num_groups", NN_KEY_INT, CFG(groups), "", 1, 65536},
    {"down_block_types", NN_KEY_CHOICES, offsetof(reading, down), "DownEncoderBlock2D", 0, 0},
    {"up_block_types", NN_KEY_CHOICES, offsetof(reading, up), "UpDecoderBlock2D", 0, 0},
    {"scaling_factor", NN_KEY_NUMBER, CFG(scaling_factor), "", 1e-6, 1e6},
    {"sample_size", NN_KEY_INT, CFG(sample_size), "", 1, 65536},
    {"use_quant_conv", NN_KEY_BOOL, CFG(quant_conv), "", 0, 0},
    {"use_post_quant_conv", NN_KEY_BOOL, CFG(post_quant_conv), "", 0, 0},
    {"mid_block_add_attention", NN_KEY_BOOL, CFG(mid_attention), "", 0, 0},
    {"act_fn", NN_KEY_ONLY, 0, "silu swish", 0, 0},
    {"shift_factor", NN_KEY_ONLY, 0, "null", 0, 0},
    {"latents_mean", NN_KEY_ONLY, 0, "null", 0, 0},
    {"latents_std", NN_KEY_ONLY, 0, "null", 0, 0},
    {"force_upcast", NN_KEY_ANY, 0, "", 0, 0}, /* all arithmetic is float32 */
};
#undef CFG

/* Defaults of AutoencoderKL in diffusers 0.31; early files have no scaling_factor and mean this one. */
static int read_config(const char *dir, nn_vae_config *out, nn_notes *notes, tn_err *err) {
    reading r = {.cfg = {.in_channels = 3, .out_channels = 3, .latent_channels = 4, .layers_per_block = 1, .groups = 32,
                         .scaling_factor = 0.18215f, .quant_conv = true, .post_quant_conv = true, .mid_attention = true,
                         .sample_size = 32},
                 .block_out = {.n = 1, .v = {64}}, .down = {.n = 1}, .up = {.n = 1}};
    if (nn_config_load(dir, "config.json", keys, sizeof keys / sizeof *keys, &r, notes, err)) return -1;
    if (r.down.n != r.block_out.n || r.up.n != r.block_out.n)
        return tn_fail(err, TN_EINPUT,
                       "%s/config.json: down_block_types and up_block_types: expected %d names, as block_out_channels "
                       "has, got %d and %d",
                       dir, r.block_out.n, r.down.n, r.up.n);
    r.cfg.nblocks = r.block_out.n;
    for (int i = 0; i < r.cfg.nblocks; i++) {
        r.cfg.block_out[i] = r.block_out.v[i];
        if (r.cfg.block_out[i] % r.cfg.groups)
            return tn_fail(err, TN_EINPUT,
                           "%s/config.json: block_out_channels: expected multiples of norm_num_groups %lld, got %lld",
                           dir, (long long)r.cfg.groups, (long long)r.cfg.block_out[i]);
    }
    *out = r.cfg;
    return 0;
}

/* ---- weights ---- */

/* Everything of one tower. Channels run through `widths` in its own direction, `layers` residual blocks a level. */
static int bind_tower(nn_binder *b, tower *t, const nn_vae_config *cfg, bool decoder, tn_err *err) {
    const char *prefix = decoder ? "decoder." : "encoder.", *blocks = decoder ? "up_blocks" : "down_blocks";
    const char *sampler = decoder ? ".upsamplers.0.conv" : ".downsamplers.0.conv";
    int64_t layers = cfg->layers_per_block + decoder, deep = cfg->block_out[cfg->nblocks - 1];
    int64_t first = decoder ? deep : cfg->block_out[0], last = decoder ? cfg->block_out[0] : deep;
    int64_t in = decoder ? cfg->latent_channels : cfg->in_channels,
            out = decoder ? cfg->out_channels : 2 * cfg->latent_channels;
    char block[NN_NAME_SIZE], name[NN_NAME_SIZE];
    if (nn_conv_bind(b, decoder ? "decoder.conv_in" : "encoder.conv_in", &t->conv_in, in, first, 3, err)) return -1;
    for (int i = 0; i < cfg->nblocks; i++) {
        int64_t width = cfg->block_out[decoder ? cfg->nblocks - 1 - i : i];
        for (int64_t j = 0; j < layers; j++) {
            nn_name(name, nn_name(block, prefix, blocks, i, "."), "resnets", j, ".");
            if (nn_resnet_bind(b, name, &t->levels[i].resnets[j], j ? width : first, width, 0, cfg->groups, vae_eps,
                               err))
                return -1;
        }
        first = width;
        nn_name(name, prefix, blocks, i, sampler);
        if (i + 1 < cfg->nblocks && nn_conv_bind(b, name, &t->levels[i].sampler, width, width, 3, err)) return -1;
    }
    nn_name(block, prefix, "mid_block.attentions", 0, ".");
    if (cfg->mid_attention && nn_image_attention_bind(b, block, &t->attention, deep, cfg->groups, err)) return -1;
    for (int j = 0; j < 2; j++) {
        nn_name(name, prefix, "mid_block.resnets", j, ".");
        if (nn_resnet_bind(b, name, &t->mid[j], deep, deep, 0, cfg->groups, vae_eps, err)) return -1;
    }
    if (nn_norm_bind(b, decoder ? "decoder.conv_norm_out" : "encoder.conv_norm_out", &t->norm_out, last, err))
        return -1;
    return nn_conv_bind(b, decoder ? "decoder.conv_out" : "encoder.conv_out", &t->conv_out, last, out, 3, err);
}

static int bind_all(nn_binder *b, nn_vae *m, tn_err *err) {
    int64_t z = m->cfg.latent_channels;
    if (bind_tower(b, &m->encoder, &m->cfg, false, err) || bind_tower(b, &m->decoder, &m->cfg, true, err)) return -1;
    if (m->cfg.quant_conv && nn_conv_bind(b, "quant_conv", &m->quant, 2 * z, 2 * z, 1, err)) return -1;
    return m->cfg.post_quant_conv ? nn_conv_bind(b, "post_quant_conv", &m->post_quant, z, z, 1, err) : 0;
}

/* stem: of the files of weights, NULL for an outline */
static int load(const char *dir, const char *stem, nn_vae **out, tn_err *err) {
    static const char *const ignored[] = {NULL};
    nn_notes notes = {""};
    nn_binder *b;
    nn_vae *m = calloc(1, sizeof *m);
    if (!m) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    if (read_config(dir, &m->cfg, &notes, err) ||
        nn_binder_open(dir, stem, ignored, NULL, &notes, &b, err) ||
        nn_binder_close(b, bind_all(b, m, err), &m->weights, err)) {
        free(m);
        return -1;
    }
    m->weights.notes = notes;
    *out = m;
    return 0;
}

int nn_vae_load(const char *dir, nn_vae **out, tn_err *err) { return load(dir, "diffusion_pytorch_model", out, err); }
int nn_vae_outline(const char *dir, nn_vae **out, tn_err *err) { return load(dir, NULL, out, err); }

void nn_vae_free(nn_vae *m) {
    if (!m) return;
    nn_weights_free(&m->weights);
    free(m);
}

/* ---- forward ---- */

/* Each layer's output takes the place of its input, the first since `s`: at 512 x 512 one of them is 134 MB. */
static tn_tensor *mid_block(tn_ctx *c, const tower *t, const nn_vae_config *cfg, tn_scope s, tn_tensor *x) {
    x = tn_scope_keep(c, s, nn_resnet_forward(c, &t->mid[0], x, NULL, NULL));
    if (cfg->mid_attention) x = tn_scope_keep(c, s, nn_image_attention_forward(c, &t->attention, x));
    return tn_scope_keep(c, s, nn_resnet_forward(c, &t->mid[1], x, NULL, NULL));
}

/* The layers of one level, without its sampler. */
static tn_tensor *run_level(tn_ctx *c, const level *l, int64_t layers, tn_scope s, tn_tensor *x) {
    for (int64_t j = 0; j < layers; j++)
        x = tn_scope_keep(c, s, nn_resnet_forward(c, &l->resnets[j], x, NULL, NULL));
    return x;
}

static tn_tensor *output(tn_ctx *c, const tower *t, const nn_vae_config *cfg, tn_tensor *x) {
    x = tn_group_norm(c, x, nn_w(&t->norm_out.w), nn_w(&t->norm_out.b), (int)cfg->groups, vae_eps, true);
    return nn_conv_forward(c, &t->conv_out, x);
}

tn_tensor *nn_vae_encode(tn_ctx *c, const nn_vae *m, tn_tensor *image) {
    const tower *t = &m->encoder;
    tn_scope s = tn_scope_open(c);
    tn_tensor *x = nn_conv_forward(c, &t->conv_in, image);
    tn_trace(c, "encoder.", "conv_in", x);
    for (int i = 0; i < m->cfg.nblocks; i++) {
        x = run_level(c, &t->levels[i], m->cfg.layers_per_block, s, x);
        if (i + 1 < m->cfg.nblocks) x = tn_scope_keep(c, s, nn_downsample(c, &t->levels[i].sampler, x, 0));
        nn_trace_at(c, "encoder.", "down_blocks", i, x);
    }
    x = mid_block(c, t, &m->cfg, s, x);
    tn_trace(c, "encoder.", "mid_block", x);
    x = output(c, t, &m->cfg, x);
    if (m->cfg.quant_conv) x = nn_conv_forward(c, &m->quant, x);
    tn_trace(c, "", "moments", x);
    return x;
}

tn_tensor *nn_vae_mean(tn_ctx *c, tn_tensor *moments) { return tn_slice(c, moments, 0, moments->shape[1] / 2); }

tn_tensor *nn_vae_logvar(tn_ctx *c, tn_tensor *moments) {
    int64_t z = moments->shape[1] / 2;
    return tn_clamp(c, tn_slice(c, moments, z, z), -30.0f, 20.0f);
}

tn_tensor *nn_vae_decode(tn_ctx *c, const nn_vae *m, tn_tensor *latent) {
    const tower *t = &m->decoder;
    tn_scope s = tn_scope_open(c);
    tn_tensor *x = latent;
    if (m->cfg.post_quant_conv) x = nn_conv_forward(c, &m->post_quant, x);
    tn_trace(c, "", "post_quant_conv", x);
    x = nn_conv_forward(c, &t->conv_in, x);
    tn_trace(c, "decoder.", "conv_in", x);
    x = mid_block(c, t, &m->cfg, s, x);
    tn_trace(c, "decoder.", "mid_block", x);
    for (int i = 0; i < m->cfg.nblocks; i++) {
        x = run_level(c, &t->levels[i], m->cfg.layers_per_block + 1, s, x);
        if (i + 1 < m->cfg.nblocks) {
            x = nn_upsample(c, &t->levels[i].sampler, x, 2 * x->shape[2], 2 * x->shape[3]);
            x = tn_scope_keep(c, s, x);
        }
        nn_trace_at(c, "decoder.", "up_blocks", i, x);
    }
    return output(c, t, &m->cfg, x);
}
