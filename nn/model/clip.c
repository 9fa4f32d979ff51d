/* The image tower and the dual encoder: CLIPModel of transformers. */
#include "nn/model/clip_tower.h"

#include "tensor/op/ops.h"
#include "tensor/io/sys.h"
#include <stdlib.h>

/* ---- configuration ---- */

typedef struct reading {
    nn_tower_reading tower;
    int64_t image, patch, channels;
} reading;

static const nn_key vision_keys[] = {
    NN_TOWER_KEYS(reading, tower),
    {"image_size", NN_KEY_INT, offsetof(reading, image), "", 1, 16384},
    {"patch_size", NN_KEY_INT, offsetof(reading, patch), "", 1, 1024},
    {"num_channels", NN_KEY_INT, offsetof(reading, channels), "", 1, 64},
    {"model_type", NN_KEY_ONLY, 0, "clip_vision_model", 0, 0},
    {"projection_dim", NN_KEY_ANY, 0, "", 0, 0}, /* the root states it again */
    {"attention_dropout", NN_KEY_ANY, 0, "", 0, 0},
    {"dropout", NN_KEY_ANY, 0, "", 0, 0},
    {"initializer_factor", NN_KEY_ANY, 0, "", 0, 0},
    {"initializer_range", NN_KEY_ANY, 0, "", 0, 0},
};

/* Defaults of CLIPVisionConfig. */
static int read_vision(const char *file, const tn_jval *object, nn_vision_config *out, nn_notes *notes, tn_err *err) {
    reading r = {.tower = {{.width = 768, .mlp = 3072, .layers = 12, .heads = 12, .eps = 1e-5f}, .act = 1},
                 .image = 224, .patch = 32, .channels = 3};
    nn_vision_config cfg = {.projection = 0};
    if (nn_config_read(file, object, vision_keys, sizeof vision_keys / sizeof *vision_keys, &r, notes, err) ||
        nn_tower_check(file, &r.tower, &cfg.t, err)) return -1;
    if (r.image < r.patch)
        return tn_fail(err, TN_EINPUT, "%s: patch_size: expected at most image_size %lld, got %lld", file,
                       (long long)r.image, (long long)r.patch);
    cfg.image = r.image, cfg.patch = r.patch, cfg.channels = r.channels;
    *out = cfg;
    return 0;
}

static int read_root(const char *file, const tn_jval *root, nn_clip *m, nn_notes *notes, tn_err *err) {
    static const nn_key keys[] = {
        {"projection_dim", NN_KEY_INT, 0, "", 1, 65536},
        {"model_type", NN_KEY_ONLY, 0, "clip", 0, 0},
        {"text_config", NN_KEY_ANY, 0, "", 0, 0}, /* both read below */
        {"vision_config", NN_KEY_ANY, 0, "", 0, 0},
        {"text_config_dict", NN_KEY_ANY, 0, "", 0, 0},
        {"vision_config_dict", NN_KEY_ANY, 0, "", 0, 0},
        {"architectures", NN_KEY_ANY, 0, "", 0, 0},
        {"initializer_factor", NN_KEY_ANY, 0, "", 0, 0},
        {"logit_scale_init_value", NN_KEY_ANY, 0, "", 0, 0},
        {"torch_dtype", NN_KEY_ANY, 0, "", 0, 0},
        {"dtype", NN_KEY_ANY, 0, "", 0, 0},
        {"transformers_version", NN_KEY_ANY, 0, "", 0, 0},
    };
    int64_t projection = 512;
    const tn_jval *text = tn_json_get(root, "text_config"), *vision = tn_json_get(root, "vision_config");
    if (!text || text->type != TN_JSON_OBJECT || !vision || vision->type != TN_JSON_OBJECT)
        return tn_fail(err, TN_EINPUT, "%s: expected the objects text_config and vision_config of a CLIP model", file);
    if (nn_config_read(file, root, keys, sizeof keys / sizeof *keys, &projection, notes, err) ||
        nn_text_config_read(file, text, &m->text.cfg, notes, err) || read_vision(file, vision, &m->vision, notes, err))
        return -1;
    m->text.cfg.projection = m->vision.projection = projection;
    return 0;
}

/* A size in preprocessor_config.json: a number or {KEY: number, ...}; 0 where it is neither. */
static int64_t size_of(const tn_jval *root, const char *name, const char *key) {
    const tn_jval *v = tn_json_get(root, name);
    if (v && v->type == TN_JSON_OBJECT) v = tn_json_get(v, key);
    return v && v->type == TN_JSON_NUMBER && v->is_int ? v->integer : 0;
}

/* How pictures become pixel_values: short side to the size bicubically, centre crop, mean and deviation per colour. */
static int read_preprocessor(const char *file, const tn_jval *root, nn_clip *m, nn_notes *notes, tn_err *err) {
    static const nn_key keys[] = {
        {"image_mean", NN_KEY_NUMBERS, offsetof(nn_clip, mean), "", -10, 10},
        {"image_std", NN_KEY_NUMBERS, offsetof(nn_clip, std), "", 1e-6, 10},
        {"do_resize", NN_KEY_ONLY, 0, "true", 0, 0},
        {"do_center_crop", NN_KEY_ONLY, 0, "true", 0, 0},
        {"do_normalize", NN_KEY_ONLY, 0, "true", 0, 0},
        {"do_rescale", NN_KEY_ONLY, 0, "true", 0, 0},
        {"resample", NN_KEY_ONLY, 0, "3", 0, 0}, /* bicubic */
        {"size", NN_KEY_ANY, 0, "", 0, 0},       /* both read below */
        {"crop_size", NN_KEY_ANY, 0, "", 0, 0},
        {"rescale_factor", NN_KEY_ANY, 0, "", 0, 0}, /* 1/255, written with more or fewer digits */
        {"do_convert_rgb", NN_KEY_ANY, 0, "", 0, 0},
        {"feature_extractor_type", NN_KEY_ANY, 0, "", 0, 0},
        {"image_processor_type", NN_KEY_ANY, 0, "", 0, 0},
    };
    if (nn_config_read(file, root, keys, sizeof keys / sizeof *keys, m, notes, err)) return -1;
    int64_t crop = size_of(root, "crop_size", "height"), size = size_of(root, "size", "shortest_edge");
    if (crop != m->vision.image || size != crop)
        return tn_fail(err, TN_EUNSUPPORTED,
                       "%s: crop_size %lld and size %lld: expected both to be image_size %lld of config.json", file,
                       (long long)crop, (long long)size, (long long)m->vision.image);
    return 0;
}

/* Opens DIR/NAME and reads it with `read`. */
static int read_file(const char *dir, const char *name,
                     int (*read)(const char *, const tn_jval *, nn_clip *, nn_notes *, tn_err *), nn_clip *m,
                     nn_notes *notes, tn_err *err) {
    tn_json *doc;
    if (nn_config_open(dir, name, &doc, err)) return -1;
    char *file = nn_join(dir, name);
    int failed =
        file ? read(file, tn_json_root(doc), m, notes, err) : tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    free(file);
    tn_json_free(doc);
    return failed;
}

static int read_configs(const char *dir, nn_clip *m, nn_notes *notes, tn_err *err) {
    static const float mean[] = {0.48145466f, 0.4578275f, 0.40821073f}, std[] = {0.26862954f, 0.26130258f, 0.27577711f};
    if (read_file(dir, "config.json", read_root, m, notes, err)) return -1;
    for (int i = 0; i < 3; i++) m->mean[i] = mean[i], m->std[i] = std[i]; /* OpenAI's */
    m->crop = m->vision.image;
    char *path = nn_join(dir, "preprocessor_config.json");
    if (!path) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    bool there = tn_exists(path);
    free(path);
    return there ? read_file(dir, "preprocessor_config.json", read_preprocessor, m, notes, err) : 0;
}

/* ---- weights ---- */

static int bind_all(nn_binder *b, nn_clip *m, tn_err *err) {
    static const nn_bind_row rows[] = {
        NN_ROW(nn_clip, class_embedding, "vision_model.embeddings.class_embedding", "C"),
        NN_ROW(nn_clip, patch_w, "vision_model.embeddings.patch_embedding.weight", "CNKK"),
        NN_ROW(nn_clip, position, "vision_model.embeddings.position_embedding.weight", "LC"),
        NN_ROWS(nn_clip, pre, "vision_model.pre_layrnorm", "C", "C"), /* spelt so upstream */
        NN_ROWS(nn_clip, post, "vision_model.post_layernorm", "C", "C"),
        NN_ROW(nn_clip, visual_projection, "visual_projection.weight", "PC"),
        NN_ROW(nn_clip, text_projection, "text_projection.weight", "PT"),
        {"logit_scale", NULL, offsetof(nn_clip, logit_scale), "", NN_SQUEEZE}, /* [] or [1] */
    };
    const nn_vision_config *v = &m->vision;
    int64_t grid = v->image / v->patch;
    const int64_t sizes[] = {v->t.width, v->channels, v->patch, grid * grid + 1, v->projection, m->text.cfg.t.width};
    if (nn_text_bind(b, &m->text, err) || nn_bind(b, "", rows, sizeof rows / sizeof *rows, m, "CNKLPT", sizes, err))
        return -1;
    return nn_tower_bind(b, "vision_model.encoder.", &v->t, false, &m->layers, err);
}

int nn_clip_load(const char *dir, nn_clip **out, tn_err *err) {
    static const char *const ignored[] = {"position_ids", NULL};
    nn_notes notes = {""};
    nn_binder *b;
    nn_clip *m = calloc(1, sizeof *m);
    if (!m) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    if (read_configs(dir, m, &notes, err) || nn_binder_open(dir, "model", ignored, NULL, &notes, &b, err) ||
        nn_binder_close(b, bind_all(b, m, err), &m->weights, err)) {
        nn_clip_free(m);
        return -1;
    }
    m->weights.notes = notes;
    *out = m;
    return 0;
}

void nn_clip_free(nn_clip *m) {
    if (!m) return;
    nn_weights_free(&m->weights);
    free(m->layers);
    free(m->text.layers);
    free(m);
}

/* ---- forward ---- */

/* [B,3,S,S] -> [B,1+N,C]: the class token, then one token a patch */
static tn_tensor *embed_patches(tn_ctx *c, const nn_clip *m, tn_tensor *pixels) {
    int64_t B = pixels->shape[0];
    tn_tensor *x = tn_nchw_to_tokens(c, tn_conv2d(c, pixels, nn_w(&m->patch_w), NULL, (int)m->vision.patch, 0));
    tn_tensor *table = tn_reshape(c, nn_w(&m->class_embedding), 2, (int64_t[]){1, m->vision.t.width});
    tn_tensor *cls = tn_embedding(c, nn_counting_ids(c, 2, (int64_t[]){B, 1}, 0), table, NULL);
    x = tn_concat(c, cls, x);
    int64_t length = x->shape[1];
    return tn_add(c, x, tn_embedding(c, nn_counting_ids(c, 1, &length, 1), nn_w(&m->position), NULL));
}

tn_tensor *nn_clip_image_features(tn_ctx *c, const nn_clip *m, tn_tensor *pixels) {
    TN_REQUIRE(pixels->shape[2] == m->vision.image && pixels->shape[3] == m->vision.image);
    tn_tensor *x = tn_layer_norm(c, embed_patches(c, m, pixels), nn_w(&m->pre_w), nn_w(&m->pre_b), m->vision.t.eps);
    x = nn_tower_forward(c, m->layers, x, "vision_");
    x = tn_gather_rows(c, x, nn_counting_ids(c, 1, &pixels->shape[0], 0));
    x = tn_layer_norm(c, x, nn_w(&m->post_w), nn_w(&m->post_b), m->vision.t.eps);
    return tn_linear(c, x, nn_w(&m->visual_projection), NULL);
}

tn_tensor *nn_clip_text_features(tn_ctx *c, const nn_clip *m, tn_tensor *ids, tn_tensor *learned) {
    tn_tensor *hidden = nn_text_encode(c, &m->text, nn_text_embed(c, &m->text, ids, learned), "text_");
    return tn_linear(c, nn_text_pool(c, &m->text, hidden, ids), nn_w(&m->text_projection), NULL);
}
