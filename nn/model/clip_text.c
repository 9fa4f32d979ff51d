/* The text tower: CLIPTextModel of transformers. */
#include "nn/model/clip_tower.h"

#include "tensor/op/ops.h"
#include <stdlib.h>

typedef struct reading {
    nn_tower_reading tower;
    int64_t vocab, positions, eos;
} reading;

static const nn_key keys[] = {
    NN_TOWER_KEYS(reading, tower),
    {"vocab_size", NN_KEY_INT, offsetof(reading, vocab), "", 1, 1 << 24},
    {"max_position_embeddings", NN_KEY_INT, offsetof(reading, positions), "", 1, 65536},
    {"eos_token_id", NN_KEY_INT, offsetof(reading, eos), "", 0, 1 << 24},
    {"model_type", NN_KEY_ONLY, 0, "clip_text_model", 0, 0},
    /* of training, of the tokenizer, or of the dual encoder, which states it again */
    {"projection_dim", NN_KEY_ANY, 0, "", 0, 0},
    {"architectures", NN_KEY_ANY, 0, "", 0, 0},
    {"attention_dropout", NN_KEY_ANY, 0, "", 0, 0},
    {"dropout", NN_KEY_ANY, 0, "", 0, 0},
    {"bos_token_id", NN_KEY_ANY, 0, "", 0, 0},
    {"pad_token_id", NN_KEY_ANY, 0, "", 0, 0},
    {"initializer_factor", NN_KEY_ANY, 0, "", 0, 0},
    {"initializer_range", NN_KEY_ANY, 0, "", 0, 0},
    {"torch_dtype", NN_KEY_ANY, 0, "", 0, 0},
    {"dtype", NN_KEY_ANY, 0, "", 0, 0},
    {"transformers_version", NN_KEY_ANY, 0, "", 0, 0},
};

/* Defaults of CLIPTextConfig. */
int nn_text_config_read(const char *file, const tn_jval *object, nn_text_config *out, nn_notes *notes, tn_err *err) {
    reading r = {.tower = {{.width = 512, .mlp = 2048, .layers = 12, .heads = 8, .eps = 1e-5f}, .act = 1},
                 .vocab = 49408, .positions = 77, .eos = 49407};
    nn_text_config cfg = {.projection = 0};
    if (nn_config_read(file, object, keys, sizeof keys / sizeof *keys, &r, notes, err) ||
        nn_tower_check(file, &r.tower, &cfg.t, err)) return -1;
    cfg.vocab = r.vocab, cfg.positions = r.positions, cfg.eos_token_id = r.eos;
    *out = cfg;
    return 0;
}

int nn_text_bind(nn_binder *b, nn_text_model *m, tn_err *err) {
    static const nn_bind_row rows[] = {
        NN_ROW(nn_text_model, token, "embeddings.token_embedding.weight", "VC"),
        NN_ROW(nn_text_model, position, "embeddings.position_embedding.weight", "PC"),
        NN_ROWS(nn_text_model, final, "final_layer_norm", "C", "C"),
    };
    const int64_t sizes[] = {m->cfg.vocab, m->cfg.positions, m->cfg.t.width};
    if (nn_bind(b, "text_model.", rows, sizeof rows / sizeof *rows, m, "VPC", sizes, err)) return -1;
    return nn_tower_bind(b, "text_model.encoder.", &m->cfg.t, true, &m->layers, err);
}

/* config.json holds the keys themselves or, from a dual encoder, below text_config. */
static int read_config(const char *dir, nn_text_config *out, nn_notes *notes, tn_err *err) {
    tn_json *doc;
    if (nn_config_open(dir, "config.json", &doc, err)) return -1;
    char *file = nn_join(dir, "config.json");
    const tn_jval *root = tn_json_root(doc), *nested = tn_json_get(root, "text_config");
    if (nested && nested->type == TN_JSON_OBJECT) root = nested;
    int failed =
        file ? nn_text_config_read(file, root, out, notes, err) : tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    free(file);
    tn_json_free(doc);
    return failed;
}

/* stem: of the files of weights, NULL for an outline */
static int load(const char *dir, const char *stem, nn_text_model **out, tn_err *err) {
    /* a buffer of positions, and what a dual encoder or a projecting text encoder has more */
    static const char *const ignored[] = {"position_ids", "logit_scale", "vision_model.", "visual_projection.weight",
                                          "text_projection.weight", NULL};
    nn_notes notes = {""};
    nn_binder *b;
    nn_text_model *m = calloc(1, sizeof *m);
    if (!m) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    if (read_config(dir, &m->cfg, &notes, err) ||
        nn_binder_open(dir, stem, ignored, "text_model.", &notes, &b, err) ||
        nn_binder_close(b, nn_text_bind(b, m, err), &m->weights, err)) {
        nn_text_free(m);
        return -1;
    }
    m->weights.notes = notes;
    *out = m;
    return 0;
}

int nn_text_load(const char *dir, nn_text_model **out, tn_err *err) { return load(dir, "model", out, err); }
int nn_text_outline(const char *dir, nn_text_model **out, tn_err *err) { return load(dir, NULL, out, err); }

void nn_text_free(nn_text_model *m) {
    if (!m) return;
    nn_weights_free(&m->weights);
    free(m->layers);
    free(m);
}

void nn_text_row(const tn_tensor *table, const tn_kernels *k, int64_t i, float *out) {
    int64_t C = table->shape[1];
    k->widen(C, (const char *)table->data + (size_t)(i * C) * tn_dtype_size(table->dtype), table->dtype, out);
}

tn_tensor *nn_text_embed(tn_ctx *c, const nn_text_model *m, tn_tensor *ids, tn_tensor *learned) {
    return tn_embedding(c, ids, nn_w(&m->token), learned);
}

tn_tensor *nn_text_encode(tn_ctx *c, const nn_text_model *m, tn_tensor *rows, const char *trace_prefix) {
    int64_t length = rows->shape[1];
    TN_REQUIRE(length <= m->cfg.positions);
    tn_tensor *x = tn_add(c, rows, tn_embedding(c, nn_counting_ids(c, 1, &length, 1), nn_w(&m->position), NULL));
    x = nn_tower_forward(c, m->layers, x, trace_prefix);
    return tn_layer_norm(c, x, nn_w(&m->final_w), nn_w(&m->final_b), m->cfg.t.eps);
}

/* The first position that holds the end token. Configurations from before it was stated say 2, which is no end token:
 * there it is the first of the largest id, as in OpenAI's code, where the end token has the largest id of all. */
static int64_t end_position(const int64_t *ids, int64_t length, int64_t eos) {
    int64_t at = 0;
    for (int64_t i = 0; i < length; i++) {
        if (eos != 2 && ids[i] == eos) return i;
        if (eos == 2 && ids[i] > ids[at]) at = i;
    }
    return at;
}

tn_tensor *nn_text_pool(tn_ctx *c, const nn_text_model *m, tn_tensor *hidden, const tn_tensor *ids) {
    int64_t B = ids->shape[0], L = ids->shape[1];
    tn_tensor *at = tn_new(c, TN_I64, 1, &B);
    for (int64_t b = 0; tn_live(c) && b < B; b++)
        ((int64_t *)at->data)[b] = end_position((const int64_t *)ids->data + b * L, L, m->cfg.eos_token_id);
    return tn_gather_rows(c, hidden, at);
}
