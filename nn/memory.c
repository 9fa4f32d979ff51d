#include "nn/memory.h"

#include "tensor/op/ops.h"

/* ---- counting ---- */

typedef struct counter {
    const nn_model *m;
    const tn_ctx *c;
    size_t all, since, most; /* bytes of weights: in all, since the last end of a block, and the most of the latter */
} counter;

static bool is_mapped(const nn_model *m, const void *data) {
    return (m->text && nn_weights_are_mapped(&m->text->weights, data)) ||
           (m->unet && nn_weights_are_mapped(nn_unet_weights(m->unet), data)) ||
           (m->vae && nn_weights_are_mapped(nn_vae_weights(m->vae), data));
}

/* Forward meets each weight once; backward meets the same ones. Of the table of words only a few rows are read. */
static void count_weights(void *arg, const tn_node *n, bool backward, double seconds) {
    counter *k = arg;
    (void)seconds;
    if (backward || k->c->replay || n->op == tn_op_get(TN_OP_embedding)) return;
    for (int i = 0; i < n->nin; i++) {
        const tn_tensor *t = n->in[i];
        if (t && is_mapped(k->m, t->data)) k->since += (size_t)tn_numel(t) * tn_dtype_size(t->dtype);
    }
}

static void end_part(void *arg) {
    counter *k = arg;
    if (k->since > k->most) k->most = k->since;
    k->all += k->since, k->since = 0;
}

int nn_measure(const tn_ctx *like, const nn_model *m, int (*run)(tn_ctx *c, void *arg, tn_err *err), void *arg,
               nn_need *out, tn_err *err) {
    tn_ctx c;
    tn_ctx_init(&c, like->k, like->threads);
    tn_ctx_set_dry(&c);
    counter k = {m, &c, 0, 0, 0};
    c.checkpoint = like->checkpoint, c.use_ref = like->use_ref, c.conv = like->conv;
    c.profile = count_weights, c.profile_arg = &k;
    c.after_block = end_part, c.after_block_arg = &k;
    int failed = run(&c, arg, err);
    end_part(&k);
    *out = (nn_need){c.step.data.peak, c.block.data.peak, k.all, k.most};
    tn_ctx_free(&c);
    return failed;
}

size_t nn_need_bytes(const nn_need *n, nn_residency r) {
    return n->step + n->block + (r == NN_STREAM ? n->part : n->weights);
}

/* ---- giving back ---- */

static void rest(void *model) { nn_model_rest(model); }

void nn_memory_part(tn_ctx *c, const nn_model *m, nn_residency r, const nn_need *n) {
    c->after_block = n && r == NN_STREAM ? rest : NULL, c->after_block_arg = (void *)(uintptr_t)m;
    if (r != NN_STAY) {
        nn_model_rest(m);
        tn_ctx_free(c);
    }
    if (n) tn_ctx_reserve(c, n->step, n->block);
}
