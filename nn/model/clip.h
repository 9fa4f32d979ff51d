/* CLIP's two towers (Radford et al. 2103.00020): the text transformer that conditions the UNet, and, for measuring, the
 * dual encoder with both projections. Names of weights and configuration keys are transformers'. */
#ifndef NN_CLIP_H
#define NN_CLIP_H

#include "nn/weights.h"
#include "tensor/io/json.h"

typedef struct nn_clip_tower_config { /* one transformer */
    int64_t width, mlp, layers, heads;
    bool quick_gelu; /* hidden_act: quick_gelu or gelu (erf) */
    float eps;
} nn_clip_tower_config;

typedef struct nn_text_config {
    nn_clip_tower_config t;
    int64_t vocab, positions;
    int64_t eos_token_id; /* 2 in old configurations: pooled at the largest id */
    int64_t projection;   /* projection_dim; used by the dual encoder only */
} nn_text_config;

typedef struct nn_vision_config {
    nn_clip_tower_config t;
    int64_t image, patch, channels, projection;
} nn_vision_config;

typedef struct nn_clip_layer {
    tn_tensor ln1_w, ln1_b, q_w, q_b, k_w, k_b, v_w, v_b, o_w, o_b, ln2_w, ln2_b, fc1_w, fc1_b, fc2_w, fc2_b;
    const nn_clip_tower_config *t; /* for the block function */
    bool causal;
} nn_clip_layer;

typedef struct nn_text_model {
    nn_text_config cfg;
    tn_tensor token, position; /* [V,C], [L,C] */
    nn_clip_layer *layers;
    tn_tensor final_w, final_b;
    nn_weights weights; /* empty inside nn_clip, which owns them for both towers */
} nn_text_model;

/* A text_encoder/ directory: config.json + model.safetensors. */
int nn_text_load(const char *dir, nn_text_model **out, tn_err *err);
/* From config.json alone: the parameters' names and shapes, no data. Of use for its parameters only. */
int nn_text_outline(const char *dir, nn_text_model **out, tn_err *err);
void nn_text_free(nn_text_model *m);
/* Row i of one of its tables (token, position) [n,C], widened: out [C]. */
void nn_text_row(const tn_tensor *table, const tn_kernels *k, int64_t i, float *out);
/* ids I64 [B,L] (L <= positions), learned [n,C] or NULL: rows behind the vocabulary -> token rows [B,L,C] */
tn_tensor *nn_text_embed(tn_ctx *c, const nn_text_model *m, tn_tensor *ids, tn_tensor *learned);
/* token rows -> last hidden state after the final layer norm [B,L,C]; traces PREFIX hidden_states.i */
tn_tensor *nn_text_encode(tn_ctx *c, const nn_text_model *m, tn_tensor *rows, const char *trace_prefix);
/* Both for ids [B,L] (outliving the step) in training, where only learned rows change: attention is causal, so what comes before
 * the first of them is the same at every step, and no gradient goes through it. The cache keeps it for the first rows that it
 * meets, up to 64 different ones at a time. The bits are nn_text_encode's. */
typedef struct nn_text_cache nn_text_cache;
nn_text_cache *nn_text_cache_new(void); /* NULL where there is no memory: then nothing is kept */
void nn_text_cache_free(nn_text_cache *cache);
/* Bytes that a cache keeps at most after n texts [n,L]. */
size_t nn_text_cache_bytes(const nn_text_model *m, const int64_t *ids, int64_t n, int64_t L);
tn_tensor *nn_text_encode_cached(tn_ctx *c, const nn_text_model *m, nn_text_cache *cache, const int64_t *ids, int64_t B,
                                 int64_t L, tn_tensor *learned);
/* last hidden state at the end token -> [B,C]; the position follows from the ids as transformers chooses it */
tn_tensor *nn_text_pool(tn_ctx *c, const nn_text_model *m, tn_tensor *hidden, const tn_tensor *ids);

typedef struct nn_clip { /* the dual encoder */
    nn_text_model text;
    nn_vision_config vision;
    tn_tensor class_embedding, patch_w, position, pre_w, pre_b, post_w, post_b;
    nn_clip_layer *layers;
    tn_tensor visual_projection, text_projection, logit_scale;
    /* preprocessor_config.json */
    float mean[3], std[3];
    int64_t crop;
    nn_weights weights;
} nn_clip;

/* A CLIP directory: config.json, model.safetensors, preprocessor_config.json (optional: OpenAI's values). */
int nn_clip_load(const char *dir, nn_clip **out, tn_err *err);
void nn_clip_free(nn_clip *m);
tn_tensor *nn_clip_image_features(tn_ctx *c, const nn_clip *m,
                                  tn_tensor *pixels); /* [B,3,S,S] -> [B,P], not normalised */
/* ids [B,L], learned as in nn_text_embed -> [B,P], not normalised */
tn_tensor *nn_clip_text_features(tn_ctx *c, const nn_clip *m, tn_tensor *ids, tn_tensor *learned);

#endif
