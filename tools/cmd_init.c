/* oneword init: a model of random weights, of any configuration. For measuring at sizes whose trained weights are not at
 * hand, and as the start of a training from nothing. */
#include "nn/init.h"
#include "nn/model.h"
#include "tensor/io/sys.h"
#include "tools/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct init_options {
    opt_common common;
    const char *like, *out, *dtype;
    int64_t seed;
} init_options;

#define FIELD(name) offsetof(init_options, name)
static const opt_row rows[] = {
    {"like", OPT_TEXT, FIELD(like), 0, 0, "DIR", "folder of configurations: a model's own, with or without weights"},
    {"o,output", OPT_TEXT, FIELD(out), 0, 0, "DIR", "where the model goes; must not hold one yet"},
    {"dtype", OPT_TEXT, FIELD(dtype), 0, 0, "f16|bf16|f32", "type of the weights (default: f16)"},
    {"seed", OPT_INT, FIELD(seed), 0, 9007199254740992.0, "N", "of the random numbers (default: 0)"},
    OPT_COMMON(init_options, common),
};

static int run(int argc, char **argv);
const opt_command cmd_init = {
    "init", "a model of random weights, of any configuration", "init --like DIR -o DIR [--dtype f16] [--seed N]",
    "Reads model_index.json and the config.json of each component, writes the same folder with weights; tokenizer and\n"
    "scheduler are copied. The bytes depend on configuration, dtype and seed alone. A component that is not built in is\n"
    "left out: the rest is written, and the exit status is 4.",
    rows, sizeof rows / sizeof *rows, run};

/* ---- components ---- */

/* One folder on its way from configuration to model. */
typedef struct job {
    const init_options *o;
    const char *folder;
    char *from, *to;
} job;

static int copy_file(const char *from, const char *to, const char *name, tn_err *err) {
    char *source = nn_join(from, name), *target = nn_join(to, name), *data = NULL;
    size_t len;
    int failed = source && target ? 0 : tn_fail(err, TN_ENOMEM, "%s: out of memory", from);
    if (!failed) failed = tn_read_file(source, (size_t)64 << 20, &data, &len, err) || tn_write_atomic(target, data, len, err);
    free(source), free(target), free(data);
    return failed ? -1 : 0;
}

/* Everything in the folder: it holds files only. */
static int copy_folder(const job *j, tn_err *err) {
    tn_list list;
    if (tn_list_dir(j->from, &list, err)) return -1;
    int failed = 0;
    for (size_t i = 0; !failed && i < list.n; i++) failed = copy_file(j->from, j->to, list.name[i], err);
    tn_list_free(&list);
    return failed;
}

static int write_weights(const job *j, const nn_params *params, const char *stem, tn_err *err) {
    static const struct {
        const char *name;
        tn_st_dtype dtype;
    } types[] = {{"f16", TN_ST_F16}, {"bf16", TN_ST_BF16}, {"f32", TN_ST_F32}};
    size_t type = 0;
    while (strcmp(types[type].name, j->o->dtype) != 0) type++; /* the table of options lets no other through */
    char file[64];
    snprintf(file, sizeof file, "%s.safetensors", stem);
    char *path = nn_join(j->to, file);
    int64_t count = 0;
    for (int i = 0; i < params->n; i++) count += tn_numel(params->p[i].t);
    opt_note(&j->o->common, "%s: %d tensors, %.1f million parameters", j->folder, params->n, (double)count * 1e-6);
    int failed = path ? nn_init_write(params, types[type].dtype, (uint64_t)j->o->seed, path, err)
                      : tn_fail(err, TN_ENOMEM, "%s: out of memory", j->to);
    free(path);
    return failed ? failed : copy_file(j->from, j->to, "config.json", err);
}

static int make_text(const job *j, tn_err *err) {
    nn_text_model *m;
    if (nn_text_outline(j->from, &m, err)) return -1;
    int failed = write_weights(j, &m->weights.params, "model", err);
    nn_text_free(m);
    return failed;
}

static int make_unet(const job *j, tn_err *err) {
    nn_unet *m;
    if (nn_unet_outline(j->from, &m, err)) return -1;
    int failed = write_weights(j, nn_unet_params(m), "diffusion_pytorch_model", err);
    nn_unet_free(m);
    return failed;
}

static int make_vae(const job *j, tn_err *err) {
    nn_vae *m;
    if (nn_vae_outline(j->from, &m, err)) return -1;
    int failed = write_weights(j, nn_vae_params(m), "diffusion_pytorch_model", err);
    nn_vae_free(m);
    return failed;
}

/* What to do for a component, by the class that model_index.json names; NULL where it is not built in. */
static int (*maker_of(const char *class_name))(const job *, tn_err *) {
    static const struct {
        const char *class_name;
        int (*make)(const job *, tn_err *);
    } makers[] = {{"CLIPTextModel", make_text}, {"UNet2DConditionModel", make_unet}, {"AutoencoderKL", make_vae}};
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
        if (strcmp(class_name, makers[i].class_name) == 0) return makers[i].make;
    }
    size_t n = strlen(class_name);
    bool files_only = strstr(class_name, "Tokenizer") || (n > 9 && strcmp(class_name + n - 9, "Scheduler") == 0);
    return files_only ? copy_folder : NULL;
}

/* ---- the folder ---- */

/* The class of a component: a member [library, class] of model_index.json; NULL for anything else. */
static const char *class_of(const tn_jval *v) {
    if (v->type != TN_JSON_ARRAY || v->length != 2 || v->child->next->type != TN_JSON_STRING) return NULL;
    return v->child->next->string;
}

static int make_component(const init_options *o, const tn_jval *v, char *left_out, size_t size, tn_err *err) {
    const char *class_name = class_of(v);
    if (!class_name) return 0;
    if (!*v->key || *v->key == '.' || strchr(v->key, '/') || strchr(v->key, '\\'))
        return tn_fail(err, TN_EINPUT, "%s/model_index.json: expected the name of a folder, got \"%s\"", o->like, v->key);
    int (*make)(const job *, tn_err *) = maker_of(class_name);
    if (!make) {
        size_t used = strlen(left_out);
        snprintf(left_out + used, size - used, "%s%s (%s)", used ? ", " : "", v->key, class_name);
        return 0;
    }
    job j = {o, v->key, nn_join(o->like, v->key), nn_join(o->out, v->key)};
    int failed = j.from && j.to ? 0 : tn_fail(err, TN_ENOMEM, "%s: out of memory", o->out);
    if (!failed) failed = tn_make_dirs(j.to, err) || make(&j, err);
    free(j.from), free(j.to);
    return failed ? -1 : 0;
}

/* model_index.json comes last: a folder that was left unfinished is no model. */
static int make_model(const init_options *o, tn_err *err) {
    tn_json *doc;
    char left_out[200] = "";
    char *index = nn_join(o->out, "model_index.json");
    bool there = index && tn_exists(index);
    free(index);
    if (!index) return tn_fail(err, TN_ENOMEM, "%s: out of memory", o->out);
    if (there) return tn_fail(err, TN_EUSAGE, "%s: there is a model already", o->out);
    if (nn_config_open(o->like, "model_index.json", &doc, err)) return -1;
    int failed = 0;
    for (const tn_jval *v = tn_json_root(doc)->child; !failed && v; v = v->next)
        failed = make_component(o, v, left_out, sizeof left_out, err);
    tn_json_free(doc);
    if (!failed) failed = tn_make_dirs(o->out, err) || copy_file(o->like, o->out, "model_index.json", err);
    if (!failed && *left_out)
        failed = tn_fail(err, TN_EUNSUPPORTED, "%s: written without %s, which is not built in", o->out, left_out);
    return failed ? -1 : 0;
}

static int run(int argc, char **argv) {
    init_options o = {.dtype = "f16"};
    tn_err err;
    int r = opt_parse(&cmd_init, argc, argv, &o, NULL, NULL, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    if (!o.like || !o.out) {
        tn_fail(&err, TN_EUSAGE, "%s is needed", o.like ? "-o DIR" : "--like DIR");
        return opt_error(&err);
    }
    return make_model(&o, &err) ? opt_error(&err) : 0;
}
