/* A stored trajectory of textual inversion: every loss, the first gradients, the vectors after every step. */
#include "tools/verify_model.h"

#include "nn/inversion.h"
#include "nn/pipeline.h"
#include <string.h>

typedef struct settings {
    int64_t steps, accumulation, B, L, V, h, w;
    bool paper;
    double lr, reg_weight; /* of the paper code's "coarse" regulariser */
    tn_adamw_config adamw;
} settings;

/* Ids as the file has them -> rows behind the vocabulary: the vectors are no part of the table here. */
static void use_learned_rows(verify_case *c, const nn_model *m, const settings *s, int64_t *ids, int64_t n) {
    int64_t vocab = m->text->cfg.vocab;
    if (s->paper) { /* one placeholder, an ordinary token, stands for all vectors */
        int64_t placeholder = verify_int(c, "placeholder_token_id", 0, INT32_MAX);
        for (int64_t i = 0; i < n && !c->err.code; i += s->L)
            nn_expand_placeholder(ids + i, s->L, placeholder, vocab, s->V);
    } else { /* V added tokens, written out in the prompts */
        const tn_jval *list = verify_attr(c, "placeholder_token_ids");
        if (!list || list->type != TN_JSON_ARRAY || (int64_t)list->length != s->V) {
            verify_bad(c, "attrs.placeholder_token_ids: expected %lld ids", (long long)s->V);
            return;
        }
        for (int64_t i = 0; i < n; i++) {
            int64_t row = 0, id = ids[i];
            for (const tn_jval *v = list->child; v; v = v->next, row++) {
                if (v->is_int && v->integer == id) ids[i] = vocab + row;
            }
        }
    }
    verify_range(c, "in.input_ids", ids, n, vocab + s->V);
}

/* What the text encoder of the paper's code is given: every vector still under the placeholder's id. */
static void put_effective_ids(verify_case *c, const nn_model *m, const settings *s, const int64_t *ids) {
    int64_t S = verify_dim(c, 'S'), n = S * s->B * s->L, *shown = verify_alloc(c, (size_t)n * sizeof *shown);
    int64_t placeholder = s->paper ? verify_int(c, "placeholder_token_id", 0, INT32_MAX) : -1;
    for (int64_t i = 0; i < n && shown; i++) {
        bool learned = ids[i] >= m->text->cfg.vocab;
        shown[i] = !learned ? ids[i] : s->paper ? placeholder : ids[i];
    }
    verify_put_data(c, "trace.effective_input_ids", TN_I64, 3, (int64_t[]){S, s->B, s->L}, shown);
}

/* in.latents again, from the pictures: (mean + std * in.vae_noise) * scaling_factor of in.image[in.image_index]. */
static float *encode_images(verify_case *c, const nn_model *m, const settings *s) {
    c->dim['I' - 'A'] = nn_vae_cfg(m->vae)->in_channels;
    float *images = verify_f32(c, "in.image", "NIPQ"), *noise = verify_f32(c, "in.vae_noise", "SBCHW");
    int64_t *index = verify_i64(c, "in.image_index", "SB"), N = verify_dim(c, 'N'), P = verify_dim(c, 'P'),
            Q = verify_dim(c, 'Q');
    int64_t n = verify_dim(c, 'C') * s->h * s->w, count = verify_dim(c, 'S') * s->B, f = nn_vae_factor(m->vae);
    if (index) verify_range(c, "in.image_index", index, count, N);
    if (P / f != s->h || Q / f != s->w) verify_bad(c, "in.image: its latent has another size than in.latents");
    float *moments = verify_alloc(c, (size_t)(N * 2 * n) * sizeof *moments),
          *out = verify_alloc(c, (size_t)(count * n) * sizeof *out);
    if (c->err.code || nn_encode_image(c->ctx, m->vae, images, N, P, Q, moments, &c->err)) return NULL;
    for (int64_t i = 0; i < count; i++) {
        nn_sample_posterior(m->vae, c->ctx->k, moments + index[i] * 2 * n, noise + i * n, out + i * n, n);
    }
    int64_t shape[] = {verify_dim(c, 'S'), s->B, verify_dim(c, 'C'), s->h, s->w};
    verify_put_data(c, "in.latents", TN_F32, 5, shape, out);
    return out;
}

typedef struct results {
    float *loss, *micro, *reg, *embedding;
} results;

/* One optimiser step: the mean gradient of its micro-steps, the regulariser's, AdamW. */
static void optimise(verify_case *c, const nn_model *m, const nn_schedule *schedule, const settings *s, nn_word *w,
                     nn_inversion_batch b, int64_t t, results *out) {
    int64_t n = s->V * w->dim, each = s->B * verify_dim(c, 'C') * s->h * s->w;
    double total = 0;
    for (int64_t i = 0; i < s->accumulation && !c->err.code; i++) {
        int64_t k = t * s->accumulation + i;
        nn_inversion_batch micro = b;
        double loss = 0;
        micro.ids += k * s->B * s->L, micro.latents += k * each, micro.noise += k * each, micro.timesteps += k * s->B;
        nn_inversion_gradient(c->ctx, m, schedule, w, &micro, 1.0f / (float)s->accumulation, i == 0, &loss, &c->err);
        out->micro[k] = (float)loss;
        total += loss;
    }
    if (c->err.code) return;
    double R = s->reg_weight != 0 ? nn_inversion_regularise(w, 0, w->rows, NN_REG_OFFICIAL, s->reg_weight) : 0;
    out->loss[t] = (float)(total / (double)s->accumulation + s->reg_weight * R);
    out->reg[t] = (float)R;
    if (t < 2) verify_put_step(c, "out.grad", (int)t, TN_F32, 2, (int64_t[]){s->V, w->dim}, w->grad);
    nn_inversion_update(c->ctx, w, &s->adamw, s->lr);
    memcpy(out->embedding + t * n, w->v, (size_t)n * sizeof *w->v);
}

static void train(verify_case *c, const nn_model *m, const nn_schedule *schedule, const settings *s,
                  const nn_inversion_batch *b) {
    int64_t width = m->text->cfg.t.width, n = s->V * width, micro = s->steps * s->accumulation;
    float *initial = verify_f32(c, "in.initial_embedding", "VE");
    results out = {verify_alloc(c, (size_t)s->steps * sizeof(float)), verify_alloc(c, (size_t)micro * sizeof(float)),
                   verify_alloc(c, (size_t)s->steps * sizeof(float)),
                   verify_alloc(c, (size_t)(s->steps * n) * sizeof(float))};
    nn_word w;
    if (c->err.code || nn_word_init(&w, s->V, width, &c->err)) return;
    memcpy(w.v, initial, (size_t)n * sizeof *w.v);
    memcpy(w.initial, initial, (size_t)n * sizeof *w.v);
    for (int64_t t = 0; t < s->steps && !c->err.code; t++) optimise(c, m, schedule, s, &w, *b, t, &out);
    verify_put_data(c, "trace.micro_loss", TN_F32, 1, &micro, out.micro);
    verify_put_data(c, "out.loss", TN_F32, 1, &s->steps, out.loss);
    verify_put_data(c, "out.reg_loss", TN_F32, 1, &s->steps, out.reg);
    verify_put_data(c, "out.embedding", TN_F32, 3, (int64_t[]){s->steps, s->V, width}, out.embedding);
    nn_word_free(&w);
}

static settings read_settings(verify_case *c) {
    settings s = {.steps = verify_int(c, "steps", 1, 1000000),
                  .accumulation = verify_int(c, "gradient_accumulation_steps", 1, 1000000)};
    s.paper = !strcmp(verify_text(c, "mode"), "paper");
    if (!s.paper && strcmp(verify_text(c, "mode"), "diffusers"))
        verify_bad(c, "attrs.mode: expected diffusers or paper");
    s.lr = verify_number(c, "lr", 0), s.reg_weight = verify_number(c, "embedding_reg_weight", 0);
    s.V = c->dim['V' - 'A'] = verify_int(c, "num_vectors", 1, 4096);
    const tn_jval *betas = verify_attr(c, "betas");
    if (!betas || betas->type != TN_JSON_ARRAY || betas->length != 2)
        verify_bad(c, "attrs.betas: expected two numbers");
    else
        s.adamw.beta1 = betas->child->number, s.adamw.beta2 = betas->child->next->number;
    s.adamw.eps = verify_number(c, "eps", 1e-8), s.adamw.weight_decay = verify_number(c, "weight_decay", 0.01);
    return s;
}

static void inversion(verify_case *c, const nn_model *m, const nn_schedule *schedule) {
    settings s = read_settings(c);
    c->dim['S' - 'A'] = s.steps * s.accumulation, c->dim['C' - 'A'] = nn_unet_cfg(m->unet)->in_channels;
    c->dim['E' - 'A'] = m->text->cfg.t.width;
    c->ctx->trace = NULL; /* the networks run many times over */
    int64_t *ids = verify_i64(c, "in.input_ids", "SBL"), *t = verify_i64(c, "in.timesteps", "SB");
    float *noise = verify_f32(c, "in.noise", "SBCHW");
    s.B = verify_dim(c, 'B'), s.L = verify_dim(c, 'L'), s.h = verify_dim(c, 'H'), s.w = verify_dim(c, 'W');
    if (s.L > m->text->cfg.positions)
        verify_bad(c, "in.input_ids: the model has %lld positions", (long long)m->text->cfg.positions);
    if (c->err.code) return;
    verify_range(c, "in.timesteps", t, s.steps * s.accumulation * s.B, schedule->config.num_train_timesteps);
    use_learned_rows(c, m, &s, ids, s.steps * s.accumulation * s.B * s.L);
    put_effective_ids(c, m, &s, ids);
    /* Stored latents are taken where there are some, so that one difference is one difference. */
    float *encoded = verify_has(c, "in.image") ? encode_images(c, m, &s) : NULL;
    float *latents = encoded && !verify_has(c, "in.latents") ? encoded : verify_f32(c, "in.latents", "SBCHW");
    nn_inversion_batch batch = {s.B, s.L, s.h, s.w, ids, latents, noise, t, NULL};
    if (!c->err.code) train(c, m, schedule, &s, &batch);
}

void verify_inversion(verify_case *c) {
    nn_schedule schedule;
    if (!verify_schedule(c, "noise_scheduler", NULL, &schedule)) return;
    nn_model *m = verify_model(c, NN_LOAD_TEXT | NN_LOAD_UNET | NN_LOAD_VAE);
    if (m) inversion(c, m, &schedule);
    nn_model_free(m);
    nn_schedule_free(&schedule);
}
