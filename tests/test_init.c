/* New weights: the tables give the public models' numbers of parameters, and the numbers drawn are what they should be. */
#include "nn/init.h"
#include "nn/model.h"
#include "tensor/io/sys.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t total(const nn_params *params) {
    int64_t n = 0;
    for (int i = 0; i < params->n; i++) n += tn_numel(params->p[i].t);
    return n;
}

/* As published with the models. */
static void counts(test_state *t) {
    if (!test_section(t, "counts")) return;
    static const struct {
        const char *dir;
        int64_t count;
    } unets[] = {{"testdata/configs/sd15/unet", 859520964}, {"testdata/configs/sd21/unet", 865910724},
                 {"testdata/configs/ldm-text2im-large/unet", 872300484}},
        vaes[] = {{"testdata/configs/sd15/vae", 83653863}, {"testdata/configs/ldm-text2im-large/vqvae", 83653863}},
        texts[] = {{"testdata/configs/sd15/text_encoder", 123060480}, {"testdata/configs/sd21/text_encoder", 340387840}};
    tn_err err;
    for (size_t i = 0; i < sizeof unets / sizeof *unets; i++) {
        nn_unet *m = NULL;
        CHECKF(t, nn_unet_outline(unets[i].dir, &m, &err) == 0 && total(nn_unet_params(m)) == unets[i].count, "%s", unets[i].dir);
        nn_unet_free(m);
    }
    for (size_t i = 0; i < sizeof vaes / sizeof *vaes; i++) {
        nn_vae *m = NULL;
        CHECKF(t, nn_vae_outline(vaes[i].dir, &m, &err) == 0 && total(nn_vae_params(m)) == vaes[i].count, "%s", vaes[i].dir);
        nn_vae_free(m);
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        nn_text_model *m = NULL;
        CHECKF(t, nn_text_outline(texts[i].dir, &m, &err) == 0 && total(&m->weights.params) == texts[i].count, "%s", texts[i].dir);
        nn_text_free(m);
    }
}

/* Mean and variance of uniform numbers of variance 1 / fan_in; a norm's scale and a bias; nothing drawn twice. */
static void numbers(test_state *t) {
    if (!test_section(t, "numbers")) return;
    nn_unet *outline = NULL;
    tn_st *st = NULL;
    tn_err err;
    char path[300];
    snprintf(path, sizeof path, "%s/toy.safetensors", test_tmp("init"));
    if (!CHECK(t, nn_unet_outline("testdata/configs/toy/unet", &outline, &err) == 0)) return;
    CHECK(t, nn_init_write(nn_unet_params(outline), TN_ST_F32, 5, path, &err) == 0 && tn_st_open(path, 0, &st, &err) == 0);
    if (st) CHECK(t, (int)st->n == nn_unet_params(outline)->n);
    for (size_t i = 0; st && i < st->n; i++) {
        const tn_st_tensor *w = &st->tensor[i];
        float *v = malloc((size_t)w->count * sizeof *v);
        double sum = 0.0, squares = 0.0, n = (double)w->count;
        if (!v || tn_st_read_f32(w, v, &err)) abort();
        for (int64_t j = 0; j < w->count; j++) sum += v[j], squares += (double)v[j] * v[j];
        if (w->ndim == 1) {
            double all = strstr(w->name, "weight") ? 1.0 : 0.0;
            CHECKF(t, sum == all * n && squares == all * n, "%s: sum %g of %g", w->name, sum, n);
        } else {
            double fan_in = n / (double)w->shape[0], ratio = squares / n * fan_in;
            CHECKF(t, fabs(ratio - 1.0) < 5.0 / sqrt(n), "%s: variance times fan_in %g", w->name, ratio);
            CHECKF(t, fabs(sum) < 5.0 * sqrt(n / fan_in), "%s: mean %g", w->name, sum / n);
        }
        free(v);
    }
    const tn_st_tensor *a = st ? tn_st_find(st, "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight") : NULL;
    const tn_st_tensor *b = st ? tn_st_find(st, "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k.weight") : NULL;
    CHECK(t, a && b && memcmp(a->data, b->data, (size_t)(a->end - a->begin)) != 0);
    tn_st_close(st);
    nn_unet_free(outline);
}

void test_main(test_state *t) {
    counts(t);
    numbers(t);
}
