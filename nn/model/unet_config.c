/* unet/config.json. Keys, their meaning and their defaults: UNet2DConditionModel of diffusers 0.31. */
#include "nn/model/unet_config.h"

#include "nn/config.h"

typedef struct reading {
    nn_unet_config cfg;
    nn_list block_out, layers, heads, cross_dim, down, up; /* one entry a level, or one for all */
} reading;

enum { PLAIN, CROSS_ATTENTION }; /* block types, in the order of their names below */

#define CFG(field) offsetof(reading, cfg.field)
#define LIST(field) offsetof(reading, field)
#define ONLY(name, values) {name, NN_KEY_ONLY, 0, values, 0, 0}
#define ANY(name) {name, NN_KEY_ANY, 0, "", 0, 0}
static const nn_key keys[] = {
    ONLY("_class_name", "UNet2DConditionModel"),
    {"in_channels", NN_KEY_INT, CFG(in_channels), "", 1, 64},
    {"out_channels", NN_KEY_INT, CFG(out_channels), "", 1, 64},
    {"sample_size", NN_KEY_INT, CFG(sample_size), "", 1, 65536},
    {"block_out_channels", NN_KEY_INTS, LIST(block_out), "", 2, 65536},
    {"layers_per_block", NN_KEY_INTS, LIST(layers), "", 1, NN_UNET_MAX_LAYERS},
    {"down_block_types", NN_KEY_CHOICES, LIST(down), "DownBlock2D CrossAttnDownBlock2D", 0, 0},
    {"up_block_types", NN_KEY_CHOICES, LIST(up), "UpBlock2D CrossAttnUpBlock2D", 0, 0},
    {"attention_head_dim", NN_KEY_INTS, LIST(heads), "", 1, 65536},
    {"cross_attention_dim", NN_KEY_INTS, LIST(cross_dim), "", 1, 65536},
    {"use_linear_projection", NN_KEY_BOOL, CFG(linear_projection), "", 0, 0},
    {"center_input_sample", NN_KEY_BOOL, CFG(center_input_sample), "", 0, 0},
    {"flip_sin_to_cos", NN_KEY_BOOL, CFG(flip_sin_to_cos), "", 0, 0},
    {"freq_shift", NN_KEY_NUMBER, CFG(freq_shift), "", 0, 1},
    {"norm_eps", NN_KEY_NUMBER, CFG(norm_eps), "", 0, 1},
    {"norm_num_groups", NN_KEY_INT, CFG(groups), "", 1, 65536},
    {"downsample_padding", NN_KEY_INT, CFG(downsample_padding), "", 0, 1},
    ONLY("mid_block_type", "UNetMidBlock2DCrossAttn"),
    ONLY("num_attention_heads", "null"), /* diffusers refuses it too: attention_head_dim is the number of heads */
    ONLY("act_fn", "silu swish"),
    ONLY("mid_block_scale_factor", "1"),
    ONLY("only_cross_attention", "false"),
    ONLY("mid_block_only_cross_attention", "null false"),
    ONLY("dual_cross_attention", "false"),
    ONLY("transformer_layers_per_block", "1"),
    ONLY("reverse_transformer_layers_per_block", "null"),
    ONLY("resnet_time_scale_shift", "default"),
    ONLY("resnet_skip_time_act", "false"),
    ONLY("resnet_out_scale_factor", "1"),
    ONLY("time_embedding_type", "positional"),
    ONLY("time_embedding_dim", "null"),
    ONLY("time_embedding_act_fn", "null"),
    ONLY("timestep_post_act", "null"),
    ONLY("time_cond_proj_dim", "null"),
    ONLY("conv_in_kernel", "3"),
    ONLY("conv_out_kernel", "3"),
    ONLY("class_embed_type", "null"),
    ONLY("class_embeddings_concat", "false"),
    ONLY("num_class_embeds", "null"),
    ONLY("addition_embed_type", "null"),
    ONLY("encoder_hid_dim", "null"),
    ONLY("encoder_hid_dim_type", "null"),
    ONLY("attention_type", "default"),
    ONLY("cross_attention_norm", "null"),
    ANY("upcast_attention"), /* all arithmetic is float32 */
    ANY("dropout"),          /* trained with; none of it runs here */
    ANY("addition_embed_type_num_heads"), /* these three act only with types refused above */
    ANY("addition_time_embed_dim"),
    ANY("projection_class_embeddings_input_dim"),
};
#undef CFG
#undef LIST

/* One number stands for every level; else there is one a level. */
static int spread(const char *dir, const char *key, const nn_list *list, int n, int64_t *out, tn_err *err) {
    if (!list->scalar && list->n != n)
        return tn_fail(err, TN_EINPUT, "%s/config.json: %s: expected %d members, as block_out_channels has, got %d",
                       dir, key, n, list->n);
    for (int i = 0; i < n; i++) out[i] = list->v[list->scalar ? 0 : i];
    return 0;
}

static int spread_types(const char *dir, const char *key, const nn_list *list, int n, bool *out, tn_err *err) {
    int64_t type[NN_LIST_MAX];
    if (spread(dir, key, list, n, type, err)) return -1;
    for (int i = 0; i < n; i++) out[i] = type[i] == CROSS_ATTENTION;
    return 0;
}

/* What can be judged only when all keys are read. The middle has attention as wide as the last level. */
static int check_levels(const char *dir, const nn_unet_config *cfg, tn_err *err) {
    for (int i = 0; i < cfg->nblocks; i++) {
        bool attention = cfg->down_attention[i] || cfg->up_attention[cfg->nblocks - 1 - i] || i == cfg->nblocks - 1;
        if (cfg->block_out[i] % cfg->groups)
            return tn_fail(err, TN_EINPUT,
                           "%s/config.json: block_out_channels: expected multiples of norm_num_groups %lld, got %lld",
                           dir, (long long)cfg->groups, (long long)cfg->block_out[i]);
        if (attention && cfg->block_out[i] % cfg->heads[i])
            return tn_fail(
                err, TN_EINPUT,
                "%s/config.json: attention_head_dim (the number of heads): expected a divisor of %lld channels, "
                "got %lld",
                dir, (long long)cfg->block_out[i], (long long)cfg->heads[i]);
    }
    for (int i = 1; i < cfg->nblocks; i++) {
        if (cfg->cross_dim[i] != cfg->cross_dim[0])
            return tn_fail(err, TN_EUNSUPPORTED,
                           "%s/config.json: cross_attention_dim: different widths (%lld and %lld) are not supported",
                           dir, (long long)cfg->cross_dim[0], (long long)cfg->cross_dim[i]);
    }
    return 0;
}

int nn_unet_config_load(const char *dir, nn_unet_config *out, nn_notes *notes, tn_err *err) {
    reading r = {.cfg = {.in_channels = 4,
                         .out_channels = 4,
                         .sample_size = 64,
                         .flip_sin_to_cos = true,
                         .norm_eps = 1e-5f,
                         .groups = 32,
                         .downsample_padding = 1},
                 .block_out = {.n = 4, .v = {320, 640, 1280, 1280}},
                 .layers = {.n = 1, .v = {2}, .scalar = true},
                 .heads = {.n = 1, .v = {8}, .scalar = true},
                 .cross_dim = {.n = 1, .v = {1280}, .scalar = true},
                 .down = {.n = 4, .v = {CROSS_ATTENTION, CROSS_ATTENTION, CROSS_ATTENTION, PLAIN}},
                 .up = {.n = 4, .v = {PLAIN, CROSS_ATTENTION, CROSS_ATTENTION, CROSS_ATTENTION}}};
    if (nn_config_load(dir, "config.json", keys, sizeof keys / sizeof *keys, &r, notes, err)) return -1;
    nn_unet_config *cfg = &r.cfg;
    int n = cfg->nblocks = r.block_out.n;
    for (int i = 0; i < n; i++) cfg->block_out[i] = r.block_out.v[i];
    if (spread(dir, "layers_per_block", &r.layers, n, cfg->layers, err) ||
        spread(dir, "attention_head_dim", &r.heads, n, cfg->heads, err) ||
        spread(dir, "cross_attention_dim", &r.cross_dim, n, cfg->cross_dim, err) ||
        spread_types(dir, "down_block_types", &r.down, n, cfg->down_attention, err) ||
        spread_types(dir, "up_block_types", &r.up, n, cfg->up_attention, err) || check_levels(dir, cfg, err)) return -1;
    *out = r.cfg;
    return 0;
}
