/* oneword trace: every named tensor of a run as safetensors, to lay beside another's with `oneword diff`. A run is a
 * golden case, or pictures from a prompt. */
#include "tools/generate.h"
#include "tools/opt.h"
#include "tools/prompt.h"
#include "tools/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *output, *model, *prompt, *negative, *sampler;
    int64_t steps, seed;
    double guidance, eta;
    bool ref;
    opt_common common;
} settings;

static const opt_row rows[] = {
    {"o,output", OPT_TEXT, offsetof(settings, output), 0, 0, "FILE", "the safetensors file to write"},
    {"model,m", OPT_TEXT, offsetof(settings, model), 0, 0, "DIR", "trace a picture from this model in place of a case"},
    {"p,prompt", OPT_TEXT, offsetof(settings, prompt), 0, 0, "TEXT", "its prompt (default: empty)"},
    {"n,negative-prompt", OPT_TEXT, offsetof(settings, negative), 0, 0, "TEXT", "its negative prompt (default: empty)"},
    {"steps", OPT_INT, offsetof(settings, steps), 1, 100000, "N", "sampling steps, all of which are kept (default 2)"},
    {"cfg-scale,guidance-scale,g", OPT_NUMBER, offsetof(settings, guidance), 0, 1000, "X", "guidance (default 7.5)"},
    {"sampler", OPT_TEXT, offsetof(settings, sampler), 0, 0, "ddim|ddpm", "sampler (default ddim)"},
    {"eta", OPT_NUMBER, offsetof(settings, eta), 0, 1, "X", "noise of DDIM's steps (default 0)"},
    {"seed,s", OPT_INT, offsetof(settings, seed), 0, 9007199254740992.0, "N", "seed of the noise (default 0)"},
    {"ref", OPT_FLAG, offsetof(settings, ref), 0, 0, NULL,
     "compute every operator by its definition, in double (slow)"},
    OPT_COMMON(settings, common),
};

/* ---- a golden case ---- */

/* The inputs as they lie in the case. */
static void record_inputs(const verify_case *c) {
    for (size_t i = 0; c->st && i < c->st->n; i++) {
        const tn_st_tensor *t = &c->st->tensor[i];
        if (!strncmp(t->name, "in.", 3)) tn_st_add_raw(c->recorder, t->name, t->dtype, t->ndim, t->shape, t->data);
    }
}

/* ---- a picture from a prompt ---- */

/* A network runs once a step: its tensors keep their names the first time and get @2, @3, ... behind them afterwards.
 */
typedef struct run_names {
    verify_case *c;
    char *name[512];
    int count[512], n;
} run_names;

static void record(void *arg, const char *name, const tn_tensor *t) {
    run_names *r = arg;
    int i = 0;
    char times[16];
    while (i < r->n && strcmp(r->name[i], name)) i++;
    if (i == (int)(sizeof r->name / sizeof r->name[0])) return;
    if (i == r->n) r->name[r->n++] = verify_join(r->c, name, NULL, NULL);
    if (!r->name[i]) { /* out of memory, which c->err says */
        r->n--;
        return;
    }
    snprintf(times, sizeof times, "@%d", ++r->count[i]);
    char *full = verify_join(r->c, "trace.", name, r->count[i] > 1 ? times : NULL);
    if (full) verify_put(r->c, full, t);
}

static void trace_picture(const settings *set, verify_case *c) {
    nn_model *m = NULL;
    nn_image image = {0};
    if (nn_model_load(set->model, NN_LOAD_ALL, &m, &c->err)) return;
    int64_t size = gen_native_size(m), f = nn_vae_factor(m->vae), h = size / f, C = nn_unet_cfg(m->unet)->in_channels;
    float *latent = verify_alloc(c, (size_t)(C * h * h) * sizeof *latent);
    gen_request r = {
        .prompt = set->prompt, .negative = set->negative, .width = size, .height = size, .steps = set->steps};
    r.guidance = set->guidance, r.eta = set->eta, r.sampler = set->sampler, r.seed = (uint64_t)set->seed, r.count = 1;
    r.latents = latent;
    run_names names = {.c = c};
    c->ctx->trace = record, c->ctx->trace_arg = &names;
    if (latent && !gen_pictures(c->ctx, m, &r, &image, &c->err)) {
        verify_put_data(c, "out.latent", TN_F32, 4, (int64_t[]){1, C, h, h}, latent);
        verify_put_data(c, "out.image_u8", TN_U8, 3, (int64_t[]){image.height, image.width, 3}, image.rgb);
    }
    c->ctx->trace = NULL;
    nn_image_free(&image);
    nn_model_free(m);
}

/* ---- both ---- */

static int write_trace(const settings *set, verify_case *c, tn_err *err) {
    tn_jw_close(c->order, ']');
    char *names = tn_jw_take(c->order);
    int rc = 0;
    if (c->err.code)
        *err = c->err, rc = -1;
    else if (!names)
        rc = tn_fail(err, TN_ENOMEM, "out of memory");
    if (!rc) {
        tn_st_add_meta(c->recorder, "kind", c->kind);
        tn_st_add_meta(c->recorder, "order", names);
        rc = tn_st_write(c->recorder, set->output, err);
    }
    free(names);
    return rc;
}

static int trace(const settings *set, const char *path, tn_ctx *ctx, tn_err *err) {
    verify_case c = {.path = path, .kind = "generate", .ctx = ctx};
    tn_jw order;
    if (path && verify_open(&c, path, ctx, NULL, err)) return -1;
    c.recorder = tn_st_writer_new(), c.order = &order;
    tn_jw_init(&order, 0);
    tn_jw_open(&order, NULL, '[');
    if (!c.recorder)
        tn_fail(&c.err, TN_ENOMEM, "out of memory");
    else if (!path)
        trace_picture(set, &c);
    else
        record_inputs(&c), verify_run(&c);
    int rc = write_trace(set, &c, err);
    tn_st_writer_free(c.recorder);
    verify_close(&c);
    return rc;
}

static int run(int argc, char **argv) {
    settings set = {.prompt = "", .negative = "", .steps = 2, .guidance = 7.5};
    opt_list paths = {.n = 0};
    tn_err err = {0};
    tn_ctx ctx;
    int rc = opt_parse(&cmd_trace, argc, argv, &set, NULL, &paths, &err);
    if (rc > 0) return 0;
    if (!rc && (paths.n != !set.model || !set.output)) {
        rc = tn_fail(&err, TN_EUSAGE, "expected one case, or --model DIR, and -o FILE (see oneword trace --help)");
    }
    if (!rc && set.model) rc = prompt_check("--prompt", set.prompt, &err);
    if (rc || opt_context(&set.common, &ctx, &err)) return opt_error(&err);
    ctx.use_ref = set.ref;
    rc = trace(&set, set.model ? NULL : paths.item[0], &ctx, &err);
    tn_ctx_free(&ctx);
    return rc ? opt_error(&err) : 0;
}

const opt_command cmd_trace = {
    .name = "trace",
    .summary = "write every named tensor of a run to a file",
    .usage = "trace CASE -o FILE | trace --model DIR -p PROMPT -o FILE",
    .notes =
        "Inputs are in.*, results out.*, gradients grad.*, what lies between trace.*, as in golden cases; where a\n"
        "network runs several times, @2, @3, ... follow the name. The metadata's `order` lists them as they were\n"
        "computed; `oneword diff A B` names the first difference of two such files.\n",
    .rows = rows,
    .nrows = (int)(sizeof rows / sizeof rows[0]),
    .run = run,
};
