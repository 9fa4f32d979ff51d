/* What both towers of CLIP are built of. */
#ifndef NN_CLIP_TOWER_H
#define NN_CLIP_TOWER_H

#include "nn/model/blocks.h"
#include "nn/model/clip.h"

enum { NN_CLIP_MAX_LAYERS = 256 };

/* A configuration being read, and the rows that both towers' tables begin with. */
typedef struct nn_tower_reading {
    nn_clip_tower_config t;
    int act; /* of NN_TOWER_KEYS: 1 is quick_gelu */
} nn_tower_reading;
#define NN_TOWER_KEYS(type, field) \
    {"hidden_size", NN_KEY_INT, offsetof(type, field.t.width), "", 1, 65536}, \
    {"intermediate_size", NN_KEY_INT, offsetof(type, field.t.mlp), "", 1, 262144}, \
    {"num_hidden_layers", NN_KEY_INT, offsetof(type, field.t.layers), "", 1, NN_CLIP_MAX_LAYERS}, \
    {"num_attention_heads", NN_KEY_INT, offsetof(type, field.t.heads), "", 1, 65536}, \
    {"hidden_act", NN_KEY_CHOICE, offsetof(type, field.act), "gelu quick_gelu", 0, 0}, \
    {"layer_norm_eps", NN_KEY_NUMBER, offsetof(type, field.t.eps), "", 0, 1}

/* Takes over what was read; heads must divide the width. */
int nn_tower_check(const char *file, const nn_tower_reading *r, nn_clip_tower_config *out, tn_err *err);
/* Allocates *layers and binds them below `prefix` ("text_model.encoder."). *t outlives them. */
int nn_tower_bind(nn_binder *b, const char *prefix, const nn_clip_tower_config *t, bool causal, nn_clip_layer **layers,
                  tn_err *err);
/* x [B,L,C] through all layers -> [B,L,C]; traces PREFIX hidden_states.i, 0 before the first layer */
tn_tensor *nn_tower_forward(tn_ctx *c, const nn_clip_layer *layers, tn_tensor *x, const char *trace_prefix);
/* The same of a causal tower in two parts, for texts of which the first n rows are known before:
 * x [B,n,C] -> [B,n,C]; queries, keys and values of each layer, [B,n,C], into made[3 * layers]; not to be recorded */
tn_tensor *nn_tower_first_rows(tn_ctx *c, const nn_clip_layer *layers, tn_tensor *x, tn_tensor **made);
/* x [B,L-n,C] -> [B,L-n,C], given those; the bits are nn_tower_forward's */
tn_tensor *nn_tower_later_rows(tn_ctx *c, const nn_clip_layer *layers, tn_tensor *x, tn_tensor *const *before);
/* I64 tensor of the shape, filled with 0, step, 2 step, ... */
tn_tensor *nn_counting_ids(tn_ctx *c, int ndim, const int64_t *shape, int64_t step);

/* text_config: of a text encoder's own config.json (object its root), or of the dual encoder's. */
int nn_text_config_read(const char *file, const tn_jval *object, nn_text_config *out, nn_notes *notes, tn_err *err);
int nn_text_bind(nn_binder *b, nn_text_model *m, tn_err *err);

#endif
