/* Cases of one network, forward and backward. */
#include "tools/verify_model.h"

#include "nn/image/preprocess.h"
#include "tensor/io/sys.h"
#include "tensor/op/ops.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- opening the model that a case belongs to ---- */

/* Whether a folder holds a weight file by one of the usual endings. */
static bool holds_weights(const char *dir) {
    tn_list list;
    tn_err ignored;
    bool found = false;
    if (!tn_is_dir(dir) || tn_list_dir(dir, &list, &ignored)) return false;
    for (size_t i = 0; i < list.n && !found; i++) {
        const char *dot = strrchr(list.name[i], '.');
        found = dot && (!strcmp(dot, ".safetensors") || !strcmp(dot, ".bin") || !strcmp(dot, ".ckpt"));
    }
    tn_list_free(&list);
    return found;
}

nn_model *verify_model(verify_case *c, int components) {
    static const struct {
        int component;
        const char *folder;
    } folders[] = {{NN_LOAD_TEXT, "/text_encoder"}, {NN_LOAD_UNET, "/unet"}, {NN_LOAD_VAE, "/vae"}};
    nn_model *m = NULL;
    for (size_t i = 0; i < 3 && !c->err.code; i++) {
        char *dir = components & folders[i].component ? verify_join(c, c->model, folders[i].folder, NULL) : NULL;
        char *yaml = verify_join(c, c->model, "/config.yaml", NULL);
        if (dir && yaml && !holds_weights(dir) && (tn_exists(yaml) || holds_weights(c->model))) {
            verify_unsupported(c, "%s: weights in one file under the names of CompVis are not built in", c->model);
        }
    }
    if (c->err.code || nn_model_load(c->model, components, &m, &c->err)) return NULL;
    return m;
}

/* ---- gradients of parameters ---- */

/* All of them are wanted if the file holds one. */
static void want_params(verify_case *c, nn_params *p) {
    if (!c->err.code && verify_has_any(c, "grad.param.")) nn_params_need(p, true, &c->err);
}

/* Those that the file names, in its order. Where a weight is stored under another rank (1x1 convolutions) the numbers
 * count. */
static void put_params(verify_case *c, const nn_params *p) {
    static const char prefix[] = "grad.param.";
    for (size_t i = 0; i < c->st->n && !c->err.code; i++) {
        const tn_st_tensor *golden = &c->st->tensor[i];
        if (strncmp(golden->name, prefix, sizeof prefix - 1)) continue;
        const nn_param *q = nn_param_find(p, golden->name + sizeof prefix - 1);
        if (!q || !q->t->need || tn_numel(q->t) != golden->count)
            continue; /* then nothing compared it, which is said */
        float *zeros = q->t->grad_set ? NULL : verify_alloc(c, (size_t)golden->count * sizeof *zeros);
        verify_put_data(c, golden->name, TN_F32, golden->ndim, golden->shape, q->t->grad_set ? q->t->grad : zeros);
    }
}

/* ---- text encoder ---- */

/* The gradient of the token table: that of the rows, sent once more through the look-up. */
static void through_table(verify_case *c, const nn_text_model *m, tn_tensor *ids, tn_tensor *rows) {
    if (!m->token.need || !rows->grad_set) return;
    tn_tensor *looked_up = nn_text_embed(c->ctx, m, ids, NULL);
    tn_seed(c->ctx, looked_up, rows->grad);
    tn_backward(c->ctx);
}

static void text_encoder(verify_case *c, nn_text_model *m) {
    tn_tensor *ids = verify_leaf(c, "in.input_ids", "BL");
    if (!c->err.code && ids->dtype != TN_I64) verify_bad(c, "in.input_ids: expected I64");
    if (!c->err.code && verify_dim(c, 'L') > m->cfg.positions)
        verify_bad(c, "in.input_ids: the model has %lld positions", (long long)m->cfg.positions);
    if (!c->err.code) verify_range(c, "in.input_ids", ids->data, tn_numel(ids), m->cfg.vocab);
    if (c->err.code) return;
    c->ctx->record = false;
    tn_tensor *looked_up = nn_text_embed(c->ctx, m, ids, NULL);
    c->ctx->record = true;
    /* The rows are a leaf of their own, so that their gradient can be seen. */
    bool need = verify_has(c, "grad.inputs_embeds") || m->token.need;
    tn_tensor *rows = tn_leaf(c->ctx, TN_F32, looked_up->ndim, looked_up->shape, looked_up->data, need);
    tn_tensor *y = nn_text_encode(c->ctx, m, rows, "");
    verify_put(c, "out.last_hidden_state", y);
    verify_put(c, "out.pooled", nn_text_pool(c->ctx, m, y, ids));
    if (!verify_seed(c, y, "in.cotangent")) return;
    tn_backward(c->ctx);
    if (tn_live(c->ctx) && rows->grad_set)
        verify_put_data(c, "grad.inputs_embeds", TN_F32, rows->ndim, rows->shape, rows->grad);
    through_table(c, m, ids, rows);
    put_params(c, &m->weights.params);
}

void verify_text_encoder(verify_case *c) {
    nn_model *m = verify_model(c, NN_LOAD_TEXT);
    if (!m) return;
    want_params(c, &m->text->weights.params);
    text_encoder(c, m->text);
    nn_model_free(m);
}

/* ---- UNet ---- */

static void unet(verify_case *c, nn_unet *m) {
    const nn_unet_config *cfg = nn_unet_cfg(m);
    c->dim['C' - 'A'] = cfg->in_channels, c->dim['D' - 'A'] = cfg->cross_dim[0];
    tn_tensor *x = verify_leaf(c, "in.sample", "BCHW"), *t = verify_leaf_f32(c, "in.timestep", "B");
    tn_tensor *context = verify_leaf(c, "in.encoder_hidden_states", "BLD");
    if (c->err.code) return;
    tn_tensor *y = nn_unet_forward(c->ctx, m, x, t, context);
    verify_put(c, "out.sample", y);
    if (!verify_seed(c, y, "in.cotangent")) return;
    tn_backward(c->ctx);
    verify_put_grads(c);
    put_params(c, nn_unet_params(m));
}

void verify_unet(verify_case *c) {
    nn_model *m = verify_model(c, NN_LOAD_UNET);
    if (!m) return;
    want_params(c, nn_unet_params(m->unet));
    unet(c, m->unet);
    nn_model_free(m);
}

/* ---- autoencoder ---- */

/* The golden was made with a factor of its own; another one in the model would be another model. */
static void check_scaling(verify_case *c, const nn_vae *m) {
    double ours = (double)nn_vae_cfg(m)->scaling_factor, theirs = verify_number(c, "scaling_factor", ours);
    if (fabs(ours - theirs) > 1e-6 * fabs(theirs))
        verify_bad(c, "attrs.scaling_factor is %g, the model's is %g", theirs, ours);
}

/* out.std and out.latent follow from what has been compared; noise may be absent. */
static void put_posterior(verify_case *c, const nn_vae *m, tn_tensor *mean, tn_tensor *logvar) {
    int64_t n = tn_numel(mean);
    tn_tensor *none = tn_new(c->ctx, TN_F32, mean->ndim, mean->shape),
              *ones = tn_new(c->ctx, TN_F32, mean->ndim, mean->shape);
    for (int64_t i = 0; i < n && tn_live(c->ctx); i++) tn_f32(none)[i] = 0, tn_f32(ones)[i] = 1;
    c->ctx->record = false;
    verify_put(c, "out.std", tn_gaussian_sample(c->ctx, none, logvar, ones));
    if (verify_has(c, "in.noise")) {
        tn_tensor *noise = verify_leaf(c, "in.noise", "*");
        if (noise && tn_numel(noise) != n) verify_bad(c, "in.noise: another shape than the latent");
        if (c->err.code) return;
        noise = tn_reshape(c->ctx, noise, mean->ndim, mean->shape);
        verify_put(c, "out.latent",
                   tn_scale(c->ctx, tn_gaussian_sample(c->ctx, mean, logvar, noise), nn_vae_cfg(m)->scaling_factor));
    }
    c->ctx->record = true;
}

static void vae_encode(verify_case *c, nn_vae *m) {
    c->dim['C' - 'A'] = nn_vae_cfg(m)->in_channels;
    tn_tensor *image = verify_leaf(c, "in.image", "BCHW");
    if (verify_dim(c, 'H') < nn_vae_factor(m) || verify_dim(c, 'W') < nn_vae_factor(m))
        verify_bad(c, "in.image: too small to encode");
    check_scaling(c, m);
    if (c->err.code) return;
    tn_tensor *moments = nn_vae_encode(c->ctx, m, image);
    tn_tensor *mean = nn_vae_mean(c->ctx, moments), *logvar = nn_vae_logvar(c->ctx, moments);
    verify_put(c, "out.mean", mean);
    verify_put(c, "out.logvar", logvar);
    put_posterior(c, m, mean, logvar);
    bool seeded = verify_seed(c, mean, "in.cotangent_mean");
    seeded |= verify_seed(c, logvar, "in.cotangent_logvar");
    if (!seeded) return;
    tn_backward(c->ctx);
    verify_put_grads(c);
    put_params(c, nn_vae_params(m));
}

static void vae_decode(verify_case *c, nn_vae *m) {
    c->dim['C' - 'A'] = nn_vae_cfg(m)->latent_channels;
    tn_tensor *latent = verify_leaf(c, "in.latent", "BCHW");
    check_scaling(c, m);
    if (c->err.code) return;
    tn_tensor *y = nn_vae_decode(c->ctx, m, latent);
    verify_put(c, "out.image", y);
    if (!verify_seed(c, y, "in.cotangent")) return;
    tn_backward(c->ctx);
    verify_put_grads(c);
    put_params(c, nn_vae_params(m));
}

static void with_vae(verify_case *c, void (*run)(verify_case *, nn_vae *)) {
    nn_model *m = verify_model(c, NN_LOAD_VAE);
    if (!m) return;
    want_params(c, nn_vae_params(m->vae));
    run(c, m->vae);
    nn_model_free(m);
}

void verify_vae_encode(verify_case *c) { with_vae(c, vae_encode); }
void verify_vae_decode(verify_case *c) { with_vae(c, vae_decode); }

/* ---- CLIP ---- */

/* The pixels follow from in.image_u8 [B,H,W,3], where that is there, by the model's preprocessing. */
static void check_pixels(verify_case *c, const nn_clip *m) {
    int64_t size = m->crop, shape[] = {verify_dim(c, 'B'), 3, size, size};
    unsigned char *image = verify_u8(c, "in.image_u8", "BPQ3");
    float *pixels = c->err.code ? NULL : verify_alloc(c, (size_t)(shape[0] * 3 * size * size) * sizeof *pixels);
    for (int64_t i = 0; i < shape[0] && pixels && !c->err.code; i++) {
        int64_t h = verify_dim(c, 'P'), w = verify_dim(c, 'Q');
        nn_image in = {w, h, image + i * h * w * 3};
        nn_clip_preprocess(&in, size, NN_CROP_FLOOR, m->mean, m->std, pixels + i * 3 * size * size, &c->err);
    }
    verify_put_data(c, "in.pixel_values", TN_F32, 4, shape, pixels);
}

/* logits_per_image = exp(logit_scale) * image . text^T */
static tn_tensor *logits(verify_case *c, const nn_clip *m, tn_tensor *a, tn_tensor *b) {
    tn_tensor *scale = tn_new(c->ctx, TN_F32, 0, NULL);
    if (tn_live(c->ctx)) {
        c->ctx->k->widen(1, m->logit_scale.data, m->logit_scale.dtype, tn_f32(scale));
        c->ctx->k->unary(K_EXP, 1, tn_f32(scale), tn_f32(scale));
    }
    return tn_scale(c->ctx, tn_linear(c->ctx, a, b, NULL), tn_live(c->ctx) ? *tn_f32(scale) : 1.0f);
}

static void clip_similarity(verify_case *c, nn_clip *m) {
    c->dim['C' - 'A'] = m->vision.channels, c->dim['H' - 'A'] = c->dim['W' - 'A'] = m->vision.image;
    tn_tensor *pixels = verify_leaf(c, "in.pixel_values", "BCHW"), *ids = verify_leaf(c, "in.input_ids", "TL");
    if (!c->err.code && (ids->dtype != TN_I64 || verify_dim(c, 'L') > m->text.cfg.positions)) {
        verify_bad(c, "in.input_ids: expected I64, at most %lld long", (long long)m->text.cfg.positions);
    }
    if (!c->err.code) verify_range(c, "in.input_ids", ids->data, tn_numel(ids), m->text.cfg.vocab);
    if (!c->err.code && verify_has(c, "in.image_u8")) check_pixels(c, m);
    if (c->err.code) return;
    tn_tensor *image = nn_clip_image_features(c->ctx, m, pixels), *text = nn_clip_text_features(c->ctx, m, ids, NULL);
    tn_tensor *u = tn_l2_normalize(c->ctx, image), *v = tn_l2_normalize(c->ctx, text);
    verify_put(c, "out.image_features", image);
    verify_put(c, "out.text_features", text);
    verify_put(c, "out.image_embeds", u);
    verify_put(c, "out.text_embeds", v);
    c->ctx->record = false;
    tn_tensor *per_image = logits(c, m, u, v);
    verify_put(c, "out.logits", per_image);
    verify_put(c, "out.logits_per_image", per_image);
    verify_put(c, "out.logits_per_text", logits(c, m, v, u));
    c->ctx->record = true;
    if (!verify_seed(c, u, "in.cotangent")) return;
    tn_backward(c->ctx);
    verify_put_grads(c);
    put_params(c, &m->weights.params);
}

void verify_clip_similarity(verify_case *c) {
    nn_clip *m = NULL;
    if (nn_clip_load(c->model, &m, &c->err)) return;
    want_params(c, &m->weights.params);
    clip_similarity(c, m);
    nn_clip_free(m);
}
