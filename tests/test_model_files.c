/* Model folders as they come: every way to store the same weights gives the same numbers; every damage is refused by
 * name; every configuration key that would change the mathematics is followed or refused. Works on copies of the tiny
 * models. */
#include "nn/model.h"
#include "tensor/op/ops.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SD15 "testdata/golden/tiny-sd15"
#define SD21 "testdata/golden/tiny-sd21"
#define CLIP "testdata/golden/tiny-clip"
static const char unet_file[] = "diffusion_pytorch_model.safetensors";

/* ---- making folders ---- */

static void copy_file(const char *from_dir, const char *from, const char *to_dir, const char *to) {
    char path[900];
    size_t len;
    snprintf(path, sizeof path, "%s/%s", from_dir, from);
    unsigned char *data = test_read(path, &len);
    if (!data) abort();
    snprintf(path, sizeof path, "%s/%s", to_dir, to);
    test_write(path, data, len);
    free(data);
}

static void write_text(const char *dir, const char *name, const char *text) {
    char path[900];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    test_write(path, text, strlen(text));
}

/* config.json with members added at its end, where they win over the same keys before. */
static void edit_config(const char *from_dir, const char *dir, const char *members) {
    char path[900];
    size_t len;
    snprintf(path, sizeof path, "%s/config.json", from_dir);
    unsigned char *data = test_read(path, &len);
    if (!data) abort();
    while (len && data[len - 1] != '}') len--;
    char *out = malloc(len + strlen(members) + 4);
    if (!out) abort();
    memcpy(out, data, len - 1);
    sprintf(out + len - 1, "%s%s}", *members ? ", " : "", members);
    write_text(dir, "config.json", out);
    free(out), free(data);
}

/* What is done to a weight file on the way into a folder. */
typedef struct edit {
    const char *drop;          /* a tensor to leave out */
    const char *add;           /* a tensor of one element to add */
    const char *reshape;       /* a tensor whose first two dims are exchanged */
    const char *squeeze;       /* weights whose name contains it get two trailing ones: [C,C] -> [C,C,1,1] */
    const char *strip;         /* a start of names to leave out */
    const char *old, *now;     /* a part of names to replace */
    int dtype;                 /* TN_ST_F16, ... for all weights; 0: as they are */
} edit;

static void add_tensor(tn_st_writer *w, const tn_st_tensor *s, const edit *e, void **keep) {
    char name[300];
    int64_t shape[8];
    int ndim = s->ndim;
    const char *from = s->name, *at = e->old ? strstr(from, e->old) : NULL;
    memcpy(shape, s->shape, sizeof shape);
    if (e->strip && strncmp(from, e->strip, strlen(e->strip)) == 0) from += strlen(e->strip);
    if (at) snprintf(name, sizeof name, "%.*s%s%s", (int)(at - from), from, e->now, at + strlen(e->old));
    else snprintf(name, sizeof name, "%s", from);
    if (e->reshape && strcmp(e->reshape, s->name) == 0) shape[0] = s->shape[1], shape[1] = s->shape[0];
    if (e->squeeze && strstr(s->name, e->squeeze) && ndim == 2) shape[2] = shape[3] = 1, ndim = 4;
    *keep = NULL;
    if (!e->dtype || s->dtype == TN_ST_I64) {
        tn_st_add_raw(w, name, s->dtype, ndim, shape, s->data);
        return;
    }
    *keep = malloc((size_t)s->count * 8 + 8);
    if (!*keep || (e->dtype == TN_ST_F64 ? tn_st_read_f64(s, *keep, NULL) : tn_st_read_f32(s, *keep, NULL))) abort();
    tn_st_add(w, name, (tn_st_dtype)e->dtype, ndim, shape, *keep);
}

/* Tensors first..last of a weight file into another, edited. */
static void edit_weights(const char *from_dir, const char *from, const char *dir, const char *to, edit e, size_t first,
                         size_t last) {
    char path[900];
    tn_st *st;
    snprintf(path, sizeof path, "%s/%s", from_dir, from);
    if (tn_st_open(path, 0, &st, NULL)) abort();
    tn_st_writer *w = tn_st_writer_new();
    void **keep = calloc(st->n, sizeof *keep);
    const int64_t one = 1;
    const float zero = 0.0f; /* read when the file is written */
    if (!w || !keep) abort();
    for (size_t i = first; i < st->n && i < last; i++) {
        if (!e.drop || strcmp(st->tensor[i].name, e.drop) != 0) add_tensor(w, &st->tensor[i], &e, &keep[i]);
    }
    if (e.add) tn_st_add(w, e.add, TN_ST_F32, 1, &one, &zero);
    snprintf(path, sizeof path, "%s/%s", dir, to);
    if (tn_st_write(w, path, NULL)) abort();
    for (size_t i = 0; i < st->n; i++) free(keep[i]);
    free(keep);
    tn_st_writer_free(w);
    tn_st_close(st);
}

static const size_t all = SIZE_MAX;

/* ---- loading and comparing ---- */

/* The output for fixed inputs, 4 x 8 x 8 floats; false where the folder does not load. */
static bool unet_output(const char *dir, float *out, nn_notes *notes, tn_err *err) {
    nn_unet *m;
    if (nn_unet_load(dir, &m, err)) return false;
    tn_ctx c;
    tn_ctx_init(&c, NULL, 1);
    uint64_t seed = 7;
    tn_tensor *x = tn_new(&c, TN_F32, 4, (int64_t[]){1, 4, 8, 8}), *t = tn_new(&c, TN_F32, 1, (int64_t[]){1});
    tn_tensor *text = tn_new(&c, TN_F32, 3, (int64_t[]){1, 5, nn_unet_cfg(m)->cross_dim[0]});
    for (int64_t i = 0; i < tn_numel(x); i++) tn_f32(x)[i] = test_rand(&seed);
    for (int64_t i = 0; i < tn_numel(text); i++) tn_f32(text)[i] = test_rand(&seed);
    tn_f32(t)[0] = 321.0f;
    memcpy(out, nn_unet_forward(&c, m, x, t, text)->data, 256 * sizeof *out);
    bool aligned = true;
    for (int i = 0; i < nn_unet_params(m)->n; i++) {
        const tn_tensor *w = nn_unet_params(m)->p[i].t;
        aligned = aligned && (uintptr_t)w->data % tn_dtype_size(w->dtype) == 0;
    }
    if (notes) *notes = nn_unet_weights(m)->notes;
    tn_ctx_free(&c);
    nn_unet_free(m);
    return aligned || tn_fail(err, 0, "%s: unaligned weights", dir) == 0;
}

static void same_unet(test_state *t, const char *dir, const float *want, const char *what, const char *note) {
    float got[256];
    nn_notes notes = {""};
    tn_err err = {0, ""};
    if (!CHECKF(t, unet_output(dir, got, &notes, &err), "%s: %s", what, err.msg)) return;
    CHECKF(t, memcmp(got, want, sizeof got) == 0, "%s: other numbers than the plain file", what);
    CHECKF(t, strstr(notes.text, note) && (*note || !*notes.text), "%s: notes \"%s\", expected \"%s\"", what,
           notes.text, note);
}

/* One byte of padding more in the header puts every tensor at an odd address. */
static void unalign(const char *dir, const char *name) {
    char path[900];
    size_t len;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unsigned char *data = test_read(path, &len), *out = malloc(len + 1);
    if (!data || !out || data[0] == 255) abort();
    size_t header = 8 + (size_t)data[0] + 256 * (size_t)data[1] + 65536 * (size_t)data[2];
    memcpy(out, data, header);
    out[0]++, out[header] = ' ';
    memcpy(out + header + 1, data + header, len - header);
    test_write(path, out, len + 1);
    free(data), free(out);
}

static void write_index(const char *dir, const char *name, const char *first, const char *second, const char *extra) {
    char path[900], *text = calloc(1, 60000);
    const char *files[] = {first, second};
    tn_st *st;
    if (!text) abort();
    strcpy(text, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (int f = 0; f < 2; f++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[f]);
        if (tn_st_open(path, 0, &st, NULL)) abort();
        for (size_t i = 0; i < st->n; i++)
            sprintf(text + strlen(text), "\"%s\": \"%s\",\n", st->tensor[i].name, files[f]);
        tn_st_close(st);
    }
    strcpy(text + strlen(text) - 2, extra);
    strcat(text, "}}");
    write_text(dir, name, text);
    free(text);
}

/* The same UNet in every way it may lie on a disk. */
static void test_layouts(test_state *t) {
    float want[256];
    tn_err err = {0, ""};
    if (!test_section(t, "layouts")) return;
    if (!CHECKF(t, unet_output(SD15 "/unet", want, NULL, &err), "%s", err.msg)) return;

    const char *dir = test_tmp("unet-f64");
    edit_config(SD15 "/unet", dir, "");
    edit_weights(SD15 "/unet", unet_file, dir, unet_file, (edit){.dtype = TN_ST_F64}, 0, all);
    same_unet(t, dir, want, "F64", "");

    dir = test_tmp("unet-unaligned");
    edit_config(SD15 "/unet", dir, "\"a_new_key\": 1");
    copy_file(SD15 "/unet", unet_file, dir, unet_file);
    unalign(dir, unet_file);
    same_unet(t, dir, want, "unaligned", "unknown keys ignored: a_new_key");

    dir = test_tmp("unet-variant");
    edit_config(SD15 "/unet", dir, "");
    copy_file(SD15 "/unet", unet_file, dir, "diffusion_pytorch_model.non_ema.safetensors");
    same_unet(t, dir, want, "variant", "diffusion_pytorch_model.non_ema.safetensors");

    dir = test_tmp("unet-shards");
    edit_config(SD15 "/unet", dir, "");
    edit_weights(SD15 "/unet", unet_file, dir, "part-1.safetensors", (edit){.add = "left_over"}, 0, 100);
    edit_weights(SD15 "/unet", unet_file, dir, "part-2.safetensors", (edit){.drop = NULL}, 100, all);
    write_index(dir, "diffusion_pytorch_model.safetensors.index.json", "part-1.safetensors", "part-2.safetensors", "");
    float got[256];
    CHECK(t, !unet_output(dir, got, NULL, &err));
    CHECKF(t, err.code == TN_EINPUT && strstr(err.msg, "left_over"), "shards: %s", err.msg);
    edit_weights(SD15 "/unet", unet_file, dir, "part-1.safetensors", (edit){.drop = NULL}, 0, 100);
    write_index(dir, "diffusion_pytorch_model.safetensors.index.json", "part-1.safetensors", "part-2.safetensors", "");
    same_unet(t, dir, want, "shards", "");
}

/* Half precision, aligned or not: bit for bit as if the rounded weights had been stored in F32. */
static void test_half(test_state *t) {
    static const int types[] = {TN_ST_F16, TN_ST_BF16};
    tn_err err = {0, ""};
    if (!test_section(t, "half")) return;
    for (int i = 0; i < 2; i++) {
        float half[256], got[256];
        char dir[300];
        snprintf(dir, sizeof dir, "%s", test_tmp("unet-half"));
        edit_config(SD15 "/unet", dir, "");
        edit_weights(SD15 "/unet", unet_file, dir, unet_file, (edit){.dtype = types[i]}, 0, all);
        CHECKF(t, unet_output(dir, half, NULL, &err), "%s", err.msg);
        CHECKF(t, unet_output(SD15 "/unet", got, NULL, &err), "%s", err.msg);
        CHECK(t, memcmp(half, got, sizeof half) != 0);
        const char *wide = test_tmp("unet-wide");
        edit_config(SD15 "/unet", wide, "");
        edit_weights(dir, unet_file, wide, unet_file, (edit){.dtype = TN_ST_F32}, 0, all);
        same_unet(t, wide, half, "widened", "");
        unalign(dir, unet_file);
        same_unet(t, dir, half, "half, unaligned", "");
    }
}

/* Old names of the autoencoder's attention, its projections as convolutions, text weights without their prefix. */
static void test_old_names(test_state *t) {
    tn_err err = {0, ""};
    nn_vae *vae;
    nn_text_model *text;
    if (!test_section(t, "old names")) return;
    const char *dir = test_tmp("vae-conv");
    edit_config(SD15 "/vae", dir, "");
    edit_weights(SD15 "/vae", unet_file, dir, unet_file, (edit){.squeeze = "mid_block.attentions.0."}, 0, all);
    if (CHECKF(t, nn_vae_load(dir, &vae, &err) == 0, "%s", err.msg)) {
        const nn_param *p = nn_param_find(nn_vae_params(vae), "decoder.mid_block.attentions.0.to_q.weight");
        CHECK(t, p && p->t->ndim == 2 &&
                     p == nn_param_find(nn_vae_params(vae), "decoder.mid_block.attentions.0.query.weight"));
        nn_vae_free(vae);
    }
    dir = test_tmp("text-flat");
    edit_config(SD15 "/text_encoder", dir, "");
    edit_weights(SD15 "/text_encoder", "model.safetensors", dir, "model.safetensors", (edit){.strip = "text_model."}, 0,
                 all);
    if (CHECKF(t, nn_text_load(dir, &text, &err) == 0, "%s", err.msg)) {
        const nn_param *p = nn_param_find(&text->weights.params, "text_model.final_layer_norm.bias");
        CHECK(t, p && p->source && strcmp(p->source, "final_layer_norm.bias") == 0);
        nn_text_free(text);
    }
    if (CHECKF(t, nn_text_load(CLIP, &text, &err) == 0, "the text tower of a dual encoder: %s", err.msg)) {
        CHECKF(t, strstr(text->weights.notes.text, "not used here"), "notes: %s", text->weights.notes.text);
        nn_text_free(text);
    }
}

/* ---- damage ---- */

static void refused(test_state *t, const char *dir, int code, const char *what, const char *names[3]) {
    nn_unet *m = NULL;
    tn_err err = {0, ""};
    if (!CHECKF(t, nn_unet_load(dir, &m, &err) == -1, "%s: loaded", what)) {
        nn_unet_free(m);
        return;
    }
    CHECKF(t, err.code == code, "%s: code %d, expected %d: %s", what, err.code, code, err.msg);
    for (int i = 0; i < 3 && names[i]; i++)
        CHECKF(t, strstr(err.msg, names[i]), "%s: \"%s\" does not name %s", what, err.msg, names[i]);
}

static void test_damage(test_state *t) {
    static const struct {
        edit e;
        const char *names[3];
    } damage[] = {
        {{.drop = "mid_block.resnets.1.conv2.bias"}, {"1 tensor missing", "mid_block.resnets.1.conv2.bias"}},
        {{.add = "mid_block.resnets.2.conv2.bias"}, {"1 tensor unknown", "mid_block.resnets.2.conv2.bias"}},
        {{.reshape = "down_blocks.2.resnets.0.conv1.weight"},
         {"down_blocks.2.resnets.0.conv1.weight", "[16,8,3,3]", "[8,16,3,3]"}},
        {{.squeeze = "attn1.to_q"}, {"attn1.to_q.weight", "[8,8]", "[8,8,1,1]"}},
        {{.old = "time_emb_proj", .now = "time_proj"}, {"tensors missing", "time_emb_proj.weight", ", ..."}},
        {{.old = "conv_norm_out", .now = "conv_norm_in"},
         {"2 tensors missing", "conv_norm_out.weight", "conv_norm_out.bias"}},
    };
    if (!test_section(t, "damage")) return;
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        const char *dir = test_tmp("unet-damage");
        edit_config(SD15 "/unet", dir, "");
        edit_weights(SD15 "/unet", unet_file, dir, unet_file, damage[i].e, 0, all);
        refused(t, dir, TN_EINPUT, damage[i].names[0],
                (const char *[3]){damage[i].names[0], damage[i].names[1], damage[i].names[2]});
    }
}

static void test_files(test_state *t) {
    static const char *const map[][2] = {{"\"x\": \"../x.safetensors\"", "../x.safetensors"},
                                         {"\"x\": \"/etc/passwd\"", "/etc/passwd"},
                                         {"\"x\": 3", "x: expected a file name"},
                                         {"\"x\": \"part.safetensors\"", "tensor x is not in"},
                                         {"\"x\": \"none.safetensors\"", "none.safetensors"}};
    if (!test_section(t, "files")) return;
    const char *dir = test_tmp("unet-files");
    edit_config(SD15 "/unet", dir, "");
    refused(t, dir, TN_EIO, "no file", (const char *[3]){unet_file});
    write_text(dir, "diffusion_pytorch_model.bin", "x");
    refused(t, dir, TN_EUNSUPPORTED, "pickle", (const char *[3]){"diffusion_pytorch_model.bin", "safetensors"});
    copy_file(SD15 "/unet", unet_file, dir, "part.safetensors");
    for (size_t i = 0; i < sizeof map / sizeof *map; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"weight_map\": {%s}}", map[i][0]);
        write_text(dir, "diffusion_pytorch_model.safetensors.index.json", text);
        refused(t, dir, i == 4 ? TN_EIO : TN_EINPUT, map[i][1], (const char *[3]){map[i][1]});
    }
    write_text(dir, "diffusion_pytorch_model.safetensors.index.json", "{\"weight_map\": []}");
    refused(t, dir, TN_EINPUT, "weight_map", (const char *[3]){"weight_map"});
    write_text(dir, unet_file, "version https://git-lfs.github.com/spec/v1\n");
    refused(t, dir, TN_EINPUT, "Git LFS", (const char *[3]){unet_file});
    edit_weights(SD15 "/unet", unet_file, dir, unet_file, (edit){.old = "conv_in.bias", .now = "conv_in.Bias"}, 0, all);
    tn_st_writer *w = tn_st_writer_new();
    char path[900];
    int32_t ints[8] = {0};
    tn_st_add(w, "conv_in.bias", TN_ST_I32, 1, (int64_t[]){8}, ints);
    snprintf(path, sizeof path, "%s/part.safetensors", dir);
    if (tn_st_write(w, path, NULL)) abort();
    tn_st_writer_free(w);
    remove("build/test-tmp/unet-files/diffusion_pytorch_model.safetensors");
    write_text(dir, "diffusion_pytorch_model.safetensors.index.json",
               "{\"weight_map\": {\"conv_in.bias\": \"part.safetensors\"}}");
    refused(t, dir, TN_EUNSUPPORTED, "I32", (const char *[3]){"conv_in.bias", "I32"});
    write_text(dir, "config.json", "[1]");
    refused(t, dir, TN_EINPUT, "config", (const char *[3]){"config.json", "object"});
}

/* ---- configurations ---- */

enum { UNET, VAE, TEXT, VISION };
typedef struct bad_key {
    int component;
    const char *members; /* added to config.json */
    int code;
    const char *names; /* must be in the message besides the file */
} bad_key;

#define U TN_EUNSUPPORTED
#define I TN_EINPUT
static const bad_key bad_keys[] = {
    {UNET, "\"_class_name\": \"UNet2DModel\"", U, "\"UNet2DModel\""},
    {UNET, "\"num_attention_heads\": 8", U, "num_attention_heads 8"},
    {UNET, "\"act_fn\": \"gelu\"", U, "act_fn \"gelu\""},
    {UNET, "\"mid_block_type\": null", U, "mid_block_type null"},
    {UNET, "\"mid_block_type\": \"UNetMidBlock2D\"", U, "mid_block_type \"UNetMidBlock2D\""},
    {UNET, "\"mid_block_scale_factor\": 1.4142", U, "mid_block_scale_factor 1.4142"},
    {UNET, "\"only_cross_attention\": true", U, "only_cross_attention true"},
    {UNET, "\"only_cross_attention\": [false, false, true]", U, "only_cross_attention true"},
    {UNET, "\"dual_cross_attention\": true", U, "dual_cross_attention"},
    {UNET, "\"transformer_layers_per_block\": [1, 2, 10]", U, "transformer_layers_per_block 2"},
    {UNET, "\"resnet_time_scale_shift\": \"scale_shift\"", U, "resnet_time_scale_shift"},
    {UNET, "\"resnet_skip_time_act\": true", U, "resnet_skip_time_act"},
    {UNET, "\"resnet_out_scale_factor\": 2.0", U, "resnet_out_scale_factor 2"},
    {UNET, "\"time_embedding_type\": \"fourier\"", U, "\"fourier\""},
    {UNET, "\"time_embedding_dim\": 64", U, "time_embedding_dim 64"},
    {UNET, "\"time_cond_proj_dim\": 256", U, "time_cond_proj_dim 256"},
    {UNET, "\"conv_in_kernel\": 1", U, "conv_in_kernel 1"},
    {UNET, "\"class_embed_type\": \"timestep\"", U, "class_embed_type"},
    {UNET, "\"num_class_embeds\": 1000", U, "num_class_embeds 1000"},
    {UNET, "\"addition_embed_type\": \"text_time\"", U, "\"text_time\""},
    {UNET, "\"encoder_hid_dim\": 768", U, "encoder_hid_dim 768"},
    {UNET, "\"attention_type\": \"gated\"", U, "\"gated\""},
    {UNET, "\"cross_attention_norm\": \"layer_norm\"", U, "cross_attention_norm"},
    {UNET, "\"addition_embed_type\": {}", U, "addition_embed_type"},
    {UNET, "\"down_block_types\": [\"CrossAttnDownBlock2D\", \"AttnDownBlock2D\", \"DownBlock2D\"]", U,
     "\"AttnDownBlock2D\""},
    {UNET, "\"down_block_types\": [\"DownBlock2D\"]", I, "down_block_types"},
    {UNET, "\"up_block_types\": \"UpBlock2D\"", I, "up_block_types"},
    {UNET, "\"cross_attention_dim\": [24, 24, 16]", U, "cross_attention_dim"},
    {UNET, "\"cross_attention_dim\": null", I, "cross_attention_dim"},
    {UNET, "\"attention_head_dim\": 0", I, "attention_head_dim"},
    {UNET, "\"attention_head_dim\": -8", I, "attention_head_dim"},
    {UNET, "\"attention_head_dim\": 1000000000", I, "attention_head_dim"},
    {UNET, "\"attention_head_dim\": 3", I, "divisor of 8 channels, got 3"},
    {UNET, "\"attention_head_dim\": [2, 2]", I, "expected 3 members"},
    {UNET, "\"block_out_channels\": []", I, "block_out_channels"},
    {UNET, "\"block_out_channels\": [8, 0, 16]", I, "block_out_channels"},
    {UNET, "\"block_out_channels\": [8, 10, 16]", I, "norm_num_groups 4, got 10"},
    {UNET, "\"block_out_channels\": [8,8,8,8,8,8,8,8,8]", I, "a list of 9"},
    {UNET, "\"layers_per_block\": 2.0", I, "layers_per_block"},
    {UNET, "\"layers_per_block\": \"2\"", I, "layers_per_block"},
    {UNET, "\"layers_per_block\": 1000", I, "layers_per_block"},
    {UNET, "\"norm_num_groups\": null", I, "norm_num_groups"},
    {UNET, "\"norm_eps\": NaN", I, "norm_eps"},
    {UNET, "\"freq_shift\": \"0\"", I, "freq_shift"},
    {UNET, "\"use_linear_projection\": 1", I, "use_linear_projection"},
    {UNET, "\"use_linear_projection\": true", I, "proj_in.weight"}, /* contradicts the weights */
    {UNET, "\"cross_attention_dim\": 32", I, "attn2.to_k.weight"},
    {UNET, "\"layers_per_block\": 1", I, "norm1"},
    {VAE, "\"_class_name\": \"AsymmetricAutoencoderKL\"", U, "\"AsymmetricAutoencoderKL\""},
    {VAE, "\"act_fn\": \"relu\"", U, "act_fn"},
    {VAE, "\"shift_factor\": 0.1159", U, "shift_factor 0.1159"},
    {VAE, "\"latents_mean\": [0.1]", U, "latents_mean 0.1"},
    {VAE, "\"down_block_types\": [\"AttnDownEncoderBlock2D\"]", U, "AttnDownEncoderBlock2D"},
    {VAE, "\"block_out_channels\": [6, 6]", I, "block_out_channels"},
    {VAE, "\"scaling_factor\": 0", I, "scaling_factor"},
    {VAE, "\"scaling_factor\": Infinity", I, "scaling_factor"},
    {VAE, "\"norm_num_groups\": 4", I, "norm_num_groups 4"},
    {VAE, "\"use_quant_conv\": false", I, "quant_conv.weight"},
    {VAE, "\"mid_block_add_attention\": false", I, "decoder.mid_block.attentions.0"},
    {VAE, "\"latent_channels\": 16", I, "[32,12,3,3]"},
    {TEXT, "\"hidden_act\": \"relu\"", U, "hidden_act \"relu\""},
    {TEXT, "\"model_type\": \"t5\"", U, "model_type \"t5\""},
    {TEXT, "\"num_attention_heads\": 5", I, "num_attention_heads"},
    {TEXT, "\"num_hidden_layers\": 0", I, "num_hidden_layers"},
    {TEXT, "\"num_hidden_layers\": 4", I, "text_model.encoder.layers.3.layer_norm1.weight"},
    {TEXT, "\"num_hidden_layers\": 2", I, "text_model.encoder.layers.2."},
    {TEXT, "\"vocab_size\": 1001", I, "[1001,24]"},
    {TEXT, "\"max_position_embeddings\": 64", I, "position_embedding"},
    {TEXT, "\"layer_norm_eps\": -1", I, "layer_norm_eps"},
    {VISION, "\"projection_dim\": 21", I, "[21,"},
    {VISION, "\"model_type\": \"siglip\"", U, "\"siglip\""},
    {VISION, "\"vision_config\": null", I, "vision_config"},
    {VISION, "\"vision_config\": {\"patch_size\": 999}", I, "patch_size"},
    {VISION, "\"vision_config\": {\"hidden_act\": \"gelu_new\"}", U, "\"gelu_new\""},
};
#undef U
#undef I

static void test_bad_keys(test_state *t) {
    static const char *const from[] = {SD15 "/unet", SD15 "/vae", SD15 "/text_encoder", CLIP};
    if (!test_section(t, "bad keys")) return;
    for (size_t i = 0; i < sizeof bad_keys / sizeof *bad_keys; i++) {
        const bad_key *k = &bad_keys[i];
        const char *dir = test_tmp("bad-key"), *weights = k->component < TEXT ? unet_file : "model.safetensors";
        tn_err err = {0, ""};
        union {
            nn_unet *unet;
            nn_vae *vae;
            nn_text_model *text;
            nn_clip *clip;
        } m = {NULL};
        edit_config(from[k->component], dir, k->members);
        copy_file(from[k->component], weights, dir, weights);
        int r = k->component == UNET   ? nn_unet_load(dir, &m.unet, &err)
                : k->component == VAE  ? nn_vae_load(dir, &m.vae, &err)
                : k->component == TEXT ? nn_text_load(dir, &m.text, &err)
                                       : nn_clip_load(dir, &m.clip, &err);
        CHECKF(t, r == -1, "%s: loaded", k->members);
        CHECKF(t, err.code == k->code, "%s: code %d: %s", k->members, err.code, err.msg);
        CHECKF(t, strstr(err.msg, "build/test-tmp/bad-key") && strstr(err.msg, k->names), "%s: \"%s\" does not name %s",
               k->members, err.msg, k->names);
    }
}

/* ---- whole models ---- */

static void test_model(test_state *t) {
    nn_model *m;
    tn_err err = {0, ""};
    char hex[2][65];
    if (!test_section(t, "model")) return;
    if (CHECKF(t, nn_model_load(SD15, NN_LOAD_ALL, &m, &err) == 0, "%s", err.msg)) {
        CHECKF(t, strstr(m->notes, "PNDMScheduler"), "notes: %s", m->notes);
        CHECK(t, m->schedule.beta_schedule == NN_BETA_SCALED_LINEAR && m->schedule.steps_offset == 1);
        CHECK(t, nn_model_fingerprint(m, hex[0], &err) == 0 && nn_model_fingerprint(m, hex[1], &err) == 0);
        CHECK(t, strcmp(hex[0], hex[1]) == 0);
        nn_model_free(m);
    }
    if (CHECKF(t, nn_model_load(SD21, NN_LOAD_ALL, &m, &err) == 0, "%s", err.msg)) {
        CHECKF(t, !m->notes[0], "notes: %s", m->notes);
        CHECK(t, m->schedule.prediction_type == NN_PREDICT_V);
        CHECK(t, nn_model_fingerprint(m, hex[1], &err) == 0 && strcmp(hex[0], hex[1]) != 0);
        nn_model_free(m);
    }
    if (CHECKF(t, nn_model_load("testdata/world/model", NN_LOAD_TEXT | NN_LOAD_TOKENIZER, &m, &err) == 0, "%s",
               err.msg)) {
        CHECK(t, m->text && m->tokenizer && !m->unet && !m->vae);
        nn_model_free(m);
    }
    CHECK(t, nn_model_load(SD15 "/model_index.json", NN_LOAD_ALL, &m, &err) == -1 && err.code == TN_EUNSUPPORTED);
    CHECK(t, nn_model_load(CLIP, NN_LOAD_ALL, &m, &err) == -1 && err.code == TN_EIO &&
                 strstr(err.msg, "model_index.json"));
}

void test_main(test_state *t) {
    test_layouts(t);
    test_half(t);
    test_old_names(t);
    test_damage(t);
    test_files(t);
    test_bad_keys(t);
    test_model(t);
}
