#include "nn/pipeline.h"

#include "tensor/op/ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool nn_all_finite(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return false;
    }
    return true;
}

int nn_prompt_length(const nn_model *m) {
    int64_t length = m->text->cfg.positions;
    int stated = nn_tokenizer_get_facts(m->tokenizer).max_length;
    return (int)(stated >= 2 && stated < length ? stated : length);
}

int nn_prompt_ids(const nn_model *m, const char *prompt, nn_tokenizer_rules rules, int64_t *ids, tn_err *err) {
    nn_tokens t;
    int64_t known = nn_tokenizer_get_facts(m->tokenizer).file_size, rows = m->text->cfg.vocab;
    if (nn_tokenizer_encode(m->tokenizer, prompt, strlen(prompt), rules, nn_prompt_length(m), &t, err)) return -1;
    for (int i = 0; i < t.length; i++) ids[i] = t.ids[i] < known ? t.ids[i] : t.ids[i] - known + rows;
    nn_tokens_free(&t);
    return 0;
}

/* A leaf around constant input data. */
static tn_tensor *constant(tn_ctx *c, tn_dtype type, int ndim, const int64_t *shape, const void *data) {
    return tn_leaf(c, type, ndim, shape, (void *)(uintptr_t)data, false);
}

static int copy_out(tn_ctx *c, const tn_tensor *t, float *out, tn_err *err) {
    if (tn_ctx_status(c, err)) return -1;
    if (tn_live(c)) memcpy(out, t->data, (size_t)tn_numel(t) * sizeof *out);
    return 0;
}

int nn_encode_text(tn_ctx *c, const nn_text_model *m, const int64_t *ids, int64_t B, int64_t L, const float *learned,
                   int64_t rows, float *out, tn_err *err) {
    if (tn_ctx_begin(c, false, err)) return -1;
    tn_tensor *x = constant(c, TN_I64, 2, (int64_t[]){B, L}, ids);
    tn_tensor *v = learned ? constant(c, TN_F32, 2, (int64_t[]){rows, m->cfg.t.width}, learned) : NULL;
    return copy_out(c, nn_text_encode(c, m, nn_text_embed(c, m, x, v), ""), out, err);
}

int nn_encode_image(tn_ctx *c, const nn_vae *m, const float *image, int64_t B, int64_t H, int64_t W, float *moments,
                    tn_err *err) {
    if (tn_ctx_begin(c, false, err)) return -1;
    tn_tensor *x = constant(c, TN_F32, 4, (int64_t[]){B, nn_vae_cfg(m)->in_channels, H, W}, image);
    tn_tensor *raw = nn_vae_encode(c, m, x);
    return copy_out(c, tn_concat(c, nn_vae_mean(c, raw), nn_vae_logvar(c, raw)), moments, err);
}

void nn_sample_posterior(const nn_vae *m, const tn_kernels *k, const float *moments, const float *noise, float *latent,
                         int64_t n) {
    const float *mean = moments, *logvar = moments + n;
    float scale = nn_vae_cfg(m)->scaling_factor;
    if (noise) {
        k->axpby(n, 0.5f, logvar, 0.0f, NULL, latent);
        k->unary(K_EXP, n, latent, latent);
    }
    for (int64_t i = 0; i < n; i++) latent[i] = (noise ? mean[i] + latent[i] * noise[i] : mean[i]) * scale;
}

int nn_decode_latent(tn_ctx *c, const nn_vae *m, const float *latent, int64_t B, int64_t h, int64_t w, float *image,
                     tn_err *err) {
    if (tn_ctx_begin(c, false, err)) return -1;
    tn_tensor *z = constant(c, TN_F32, 4, (int64_t[]){B, nn_vae_cfg(m)->latent_channels, h, w}, latent);
    z = tn_scale(c, z, 1.0f / nn_vae_cfg(m)->scaling_factor);
    return copy_out(c, nn_vae_decode(c, m, z), image, err);
}

/* One evaluation of the UNet, guided: unconditional and conditional halves go through it as one batch, so that each
 * weight is read once. text: of both halves. */
static int predict(tn_ctx *c, const nn_sampling *s, const float *latent, double t, const nn_unet_text *text, float *out,
                   tn_err *err) {
    bool guided = s->uncond && s->guidance != 1.0f;
    int64_t B = guided ? 2 * s->B : s->B, C = nn_unet_cfg(s->unet)->in_channels, n = s->B * C * s->h * s->w;
    tn_scope scope = tn_scope_open(c);
    tn_tensor *x = tn_new(c, TN_F32, 4, (int64_t[]){B, C, s->h, s->w});
    tn_tensor *ts = tn_new(c, TN_F32, 1, &B);
    for (int64_t i = 0; i < B && tn_live(c); i++) ((float *)ts->data)[i] = (float)t;
    for (int half = 0; half <= guided && tn_live(c); half++)
        memcpy((float *)x->data + half * n, latent, (size_t)n * sizeof *latent);
    tn_tensor *y = nn_unet_denoise(c, s->unet, x, ts, text);
    if (tn_ctx_status(c, err)) return -1;
    const float *e = y->data;
    if (tn_live(c) && guided) nn_guidance(e, e + n, s->guidance, out, (size_t)n);
    else if (tn_live(c)) memcpy(out, e, (size_t)n * sizeof *out);
    tn_scope_close(c, scope);
    return 0;
}

/* Keys and values of the text, unconditional half first, made once for all steps: they lie below what a step takes. */
static int read_text(tn_ctx *c, const nn_sampling *s, bool guided, nn_unet_text *out, tn_err *err) {
    int64_t half = s->B * s->L * s->D, shape[] = {guided ? 2 * s->B : s->B, s->L, s->D};
    if (tn_ctx_begin(c, false, err)) return -1;
    tn_tensor *context = tn_new(c, TN_F32, 3, shape);
    if (tn_live(c)) {
        float *to = context->data;
        if (guided) memcpy(to, s->uncond, (size_t)half * sizeof *to);
        memcpy(to + (guided ? half : 0), s->cond, (size_t)half * sizeof *to);
    }
    nn_unet_read(c, s->unet, context, out);
    return tn_ctx_status(c, err);
}

/* Step i, from latent to latent; noise has room for what it may need. */
static int step(tn_ctx *c, const nn_sampling *s, int i, const nn_unet_text *text, float *output, float *noise,
                float *latent, size_t n, tn_err *err) {
    if (tn_live(c) && s->before && s->before(s->arg, i, latent, err)) return -1;
    if (predict(c, s, latent, s->sampler->timesteps[i], text, output, err)) return -1;
    if (!tn_live(c)) return 0;
    if (s->guide && s->guide(s->arg, i, latent, output, err)) return -1;
    bool noisy = nn_sampler_needs_noise(s->sampler, i);
    if (noisy) s->noise(s->arg, i, noise, n);
    nn_sampler_step(s->sampler, i, output, latent, noisy ? noise : NULL, latent, NULL);
    if (!nn_all_finite(latent, (int64_t)n)) {
        return tn_fail(err, TN_ENUMERIC, "the latent is not finite after step %d of %d", i + 1, s->sampler->n_steps);
    }
    return s->after && s->after(s->arg, i, output, latent) ? 1 : 0;
}

int nn_sample(tn_ctx *c, const nn_sampling *s, float *latent, tn_err *err) {
    bool guided = s->uncond && s->guidance != 1.0f;
    size_t n = (size_t)(s->B * nn_unet_cfg(s->unet)->in_channels * s->h * s->w);
    int end = s->sampler->n_steps;
    nn_unet_text text;
    TN_REQUIRE(s->first >= 0 && s->first <= end);
    float *output = malloc(2 * n * sizeof *output);
    int result = output ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the sampling loop");
    if (!result) result = read_text(c, s, guided, &text, err);
    if (!tn_live(c) && s->first < end) end = s->first + 1; /* one step tells a dry run all */
    for (size_t i = 0; !result && tn_live(c) && !s->first && i < n; i++)
        latent[i] *= (float)s->sampler->init_noise_sigma;
    for (int i = s->first; !result && i < end; i++)
        result = step(c, s, i, &text, output, output + n, latent, n, err);
    if (!result && tn_live(c) && s->before && s->before(s->arg, end, latent, err)) result = -1;
    free(output);
    return result;
}
