#include "tools/invert.h"

#include "tools/generate.h"
#include <stdlib.h>
#include <string.h>

typedef struct inversion {
    const inv_request *r;
    nn_schedule schedule;
    nn_sampling like;
    float *context; /* [2,L,D]: prompt, negative prompt */
    int64_t done;
} inversion;

static int after(void *arg, int step, const float *model_output, const float *latent) {
    inversion *v = arg;
    (void)step, (void)model_output, (void)latent;
    v->done++;
    if (v->r->progress) v->r->progress(v->r->arg, v->done);
    return 0;
}

static int encode_prompts(tn_ctx *c, const nn_model *m, const inv_request *r, inversion *v, tn_err *err) {
    int64_t L = nn_prompt_length(m), D = m->text->cfg.t.width;
    bool guided = (float)r->guidance != 1.0f;
    int64_t *ids = malloc(2 * (size_t)L * sizeof *ids);
    v->context = malloc(2 * (size_t)(L * D) * sizeof *v->context);
    int bad = ids && v->context ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a prompt");
    if (!bad) bad = nn_prompt_ids(m, r->prompt ? r->prompt : "", r->rules, ids, err);
    if (!bad && guided) bad = nn_prompt_ids(m, r->negative ? r->negative : "", r->rules, ids + L, err);
    if (!bad) bad = nn_encode_text(c, m->text, ids, guided ? 2 : 1, L, r->learned, r->rows, v->context, err);
    free(ids);
    v->like.cond = v->context, v->like.uncond = guided ? v->context + L * D : NULL, v->like.L = L, v->like.D = D;
    return bad;
}

static int open_inversion(tn_ctx *c, const nn_model *m, const inv_request *r, const latents *of, inversion *v,
                          tn_err *err) {
    nn_schedule_config config;
    *v = (inversion){.r = r};
    v->like = (nn_sampling){
        .unet = m->unet, .B = 1, .h = of->h, .w = of->w, .guidance = (float)r->guidance, .after = after, .arg = v};
    if (gen_schedule(m, "ddim", &config, NULL, err)) return -1;
    int bad = nn_schedule_init(&v->schedule, &config, err);
    nn_schedule_config_free(&config);
    return bad || encode_prompts(c, m, r, v, err) ? -1 : 0;
}

static void close_inversion(inversion *v) {
    nn_schedule_free(&v->schedule);
    free(v->context);
}

int64_t inv_work(const inv_request *r, bool round_trip) {
    return r->steps - (r->rule == NN_INVERT_OFFICIAL) + (round_trip ? r->steps : 0);
}

int inv_noise(tn_ctx *c, const nn_model *m, const inv_request *r, const latents *of, latents *noise, tn_err *err) {
    inversion v;
    float *z = malloc((size_t)of->n * sizeof *z);
    if (!z) return tn_fail(err, TN_ENOMEM, "out of memory for a latent");
    int bad = open_inversion(c, m, r, of, &v, err);
    if (!bad) {
        memcpy(z, of->z, (size_t)of->n * sizeof *z);
        bad = nn_ddim_invert(c, &v.like, &v.schedule, r->rule, (int)r->steps, z, err);
    }
    close_inversion(&v);
    if (bad)
        free(z);
    else
        *noise = (latents){1, of->h, of->w, of->n, z};
    return bad;
}

int inv_round_trip(tn_ctx *c, const nn_model *m, const inv_request *r, const latents *of, double *mse, nn_image *back,
                   tn_err *err) {
    inversion v;
    float *z = malloc(2 * (size_t)of->n * sizeof *z);
    if (!z) return tn_fail(err, TN_ENOMEM, "out of memory for a latent");
    int bad = open_inversion(c, m, r, of, &v, err);
    if (!bad) bad = nn_ddim_round_trip(c, &v.like, &v.schedule, r->rule, (int)r->steps, of->z, z, z + of->n, mse, err);
    latents made = {1, of->h, of->w, of->n, z + of->n};
    if (!bad) bad = latents_decode(c, m->vae, &made, 0, back, err);
    close_inversion(&v);
    free(z);
    return bad;
}
