#include "nn/model.h"

#include "nn/config.h"
#include "tensor/io/bytes.h"
#include "tensor/io/sha256.h"
#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds whole lines while there is room. */
static void add_notes(nn_model *m, const char *lines) {
    size_t used = strlen(m->notes), n = strlen(lines);
    if (used + n < sizeof m->notes) memcpy(m->notes + used, lines, n + 1);
}

/* ---- where the model lies ---- */

/* A folder of the Hugging Face cache (models--owner--name): refs/main holds the name of the folder below snapshots/.
 * *out stays NULL where dir is not one. */
static int cached_snapshot(const char *dir, char **out, tn_err *err) {
    char *ref = nn_join(dir, "refs/main"), *snapshots = nn_join(dir, "snapshots"), *name = NULL;
    size_t len = 0;
    int failed = 0;
    if (!ref || !snapshots) failed = tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    else if (tn_exists(ref) && tn_is_dir(snapshots)) {
        failed = tn_read_file(ref, 200, &name, &len, err);
        size_t n = failed ? 0 : strspn(name, "0123456789abcdefABCDEF");
        if (!failed && (n == 0 || strspn(name + n, " \r\n") != len - n))
            failed = tn_fail(err, TN_EINPUT, "%s: expected the name of a snapshot", ref);
        if (!failed) {
            name[n] = '\0';
            if (!(*out = nn_join(snapshots, name))) failed = tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
        }
    }
    free(ref), free(snapshots), free(name);
    return failed;
}

static int find_dir(const char *dir, char **out, tn_err *err) {
    *out = NULL;
    if (tn_exists(dir) && !tn_is_dir(dir))
        return tn_fail(err, TN_EUNSUPPORTED,
                       "%s: a model in a single file is not read (expected the folder that diffusers saves)", dir);
    if (cached_snapshot(dir, out, err)) return -1;
    if (*out) return 0;
    size_t size = strlen(dir) + 1;
    if (!(*out = malloc(size))) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    memcpy(*out, dir, size);
    return 0;
}

/* ---- loading ---- */

/* The kind of pipeline; the components' own configurations say the rest. */
static int read_index(nn_model *m, tn_err *err) {
    static const nn_key keys[] = {
        {"_class_name", NN_KEY_ONLY, 0, "StableDiffusionPipeline StableDiffusionImg2ImgPipeline", 0, 0},
        {"scheduler", NN_KEY_ANY, 0, "", 0, 0},
        {"text_encoder", NN_KEY_ANY, 0, "", 0, 0},
        {"tokenizer", NN_KEY_ANY, 0, "", 0, 0},
        {"unet", NN_KEY_ANY, 0, "", 0, 0},
        {"vae", NN_KEY_ANY, 0, "", 0, 0},
        {"safety_checker", NN_KEY_ANY, 0, "", 0, 0}, /* these serve the pictures that come out, not the model */
        {"feature_extractor", NN_KEY_ANY, 0, "", 0, 0},
        {"requires_safety_checker", NN_KEY_ANY, 0, "", 0, 0},
        {"image_encoder", NN_KEY_ONLY, 0, "null", 0, 0},
    };
    nn_notes notes = {""};
    if (nn_config_load(m->dir, "model_index.json", keys, sizeof keys / sizeof *keys, m, &notes, err)) return -1;
    add_notes(m, notes.text);
    return 0;
}

/* A scheduler that is not built in is read as DDIM: the noise schedule is stated in the same words. */
static int load_scheduler(nn_model *m, const char *dir, tn_err *err) {
    tn_json *doc;
    if (nn_config_open(dir, "scheduler_config.json", &doc, err)) return -1;
    const tn_jval *root = tn_json_root(doc), *named = tn_json_get(root, "_class_name");
    bool other = named && named->type == TN_JSON_STRING && nn_scheduler_class_of(named->string) == NN_SCHEDULER_OTHER;
    int failed = nn_schedule_config_parse(root, other ? "DDIMScheduler" : NULL, &m->schedule, err);
    if (failed) tn_fail_in(err, "%s/scheduler_config.json", dir);
    nn_notes notes = {""};
    if (!failed && other)
        nn_note(&notes, "%s: %s is not built in: its settings are read as DDIMScheduler's", dir, named->string);
    if (!failed && m->schedule.warning[0]) nn_note(&notes, "%s: %s", dir, m->schedule.warning);
    add_notes(m, notes.text);
    tn_json_free(doc);
    return failed;
}

static int load_one(nn_model *m, int component, const char *dir, tn_err *err) {
    switch (component) {
    case NN_LOAD_TEXT:
        if (nn_text_load(dir, &m->text, err)) return -1;
        add_notes(m, m->text->weights.notes.text);
        return 0;
    case NN_LOAD_UNET:
        if (nn_unet_load(dir, &m->unet, err)) return -1;
        add_notes(m, nn_unet_weights(m->unet)->notes.text);
        return 0;
    case NN_LOAD_VAE:
        if (nn_vae_load(dir, &m->vae, err)) return -1;
        add_notes(m, nn_vae_weights(m->vae)->notes.text);
        return 0;
    case NN_LOAD_TOKENIZER: return nn_tokenizer_load(dir, &m->tokenizer, err);
    default: return load_scheduler(m, dir, err);
    }
}

/* Whether the parts belong together. */
static int check_together(const nn_model *m, tn_err *err) {
    if (m->text && m->unet && m->text->cfg.t.width != nn_unet_cfg(m->unet)->cross_dim[0])
        return tn_fail(err, TN_EINPUT,
                       "%s: unet: cross_attention_dim: expected %lld as hidden_size of the text encoder, got %lld",
                       m->dir, (long long)m->text->cfg.t.width, (long long)nn_unet_cfg(m->unet)->cross_dim[0]);
    if (m->unet) {
        const nn_unet_config *u = nn_unet_cfg(m->unet);
        int64_t z = m->vae ? nn_vae_cfg(m->vae)->latent_channels : u->out_channels;
        if (u->in_channels != z || u->out_channels != z)
            return tn_fail(err, TN_EUNSUPPORTED,
                           "%s: unet: in_channels %lld, out_channels %lld: only UNets from latents of %lld channels to "
                           "the same are supported (no inpainting, depth or pix2pix)",
                           m->dir, (long long)u->in_channels, (long long)u->out_channels, (long long)z);
    }
    if (m->text && m->tokenizer && nn_tokenizer_get_facts(m->tokenizer).size > m->text->cfg.vocab)
        return tn_fail(err, TN_EINPUT, "%s: tokenizer: %d tokens, but the text encoder's vocab_size is %lld", m->dir,
                       nn_tokenizer_get_facts(m->tokenizer).size, (long long)m->text->cfg.vocab);
    return 0;
}

static const struct component {
    int flag;
    const char *folder;
    const char *files[6]; /* what the fingerprint reads besides the weights */
} components_of_a_model[] = {
    {NN_LOAD_TEXT, "text_encoder", {"config.json"}},
    {NN_LOAD_UNET, "unet", {"config.json"}},
    {NN_LOAD_VAE, "vae", {"config.json"}},
    {NN_LOAD_TOKENIZER,
     "tokenizer",
     {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
      "added_tokens.json"}},
    {NN_LOAD_SCHEDULER, "scheduler", {"scheduler_config.json"}},
};
enum { COMPONENTS = sizeof components_of_a_model / sizeof *components_of_a_model };

static int load_all(nn_model *m, int components, tn_err *err) {
    if (read_index(m, err)) return -1;
    for (int i = 0; i < COMPONENTS; i++) {
        if (!(components & components_of_a_model[i].flag)) continue;
        char *dir = nn_join(m->dir, components_of_a_model[i].folder);
        int failed = dir ? load_one(m, components_of_a_model[i].flag, dir, err)
                         : tn_fail(err, TN_ENOMEM, "%s: out of memory", m->dir);
        free(dir);
        if (failed) return -1;
    }
    return check_together(m, err);
}

int nn_model_load(const char *dir, int components, nn_model **out, tn_err *err) {
    nn_model *m = calloc(1, sizeof *m);
    if (!m) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    m->components = components;
    if (find_dir(dir, &m->dir, err) || load_all(m, components, err)) {
        nn_model_free(m);
        return -1;
    }
    *out = m;
    return 0;
}

void nn_model_free(nn_model *m) {
    if (!m) return;
    nn_text_free(m->text);
    nn_unet_free(m->unet);
    nn_vae_free(m->vae);
    nn_tokenizer_free(m->tokenizer);
    nn_schedule_config_free(&m->schedule);
    free(m->dir);
    free(m);
}

void nn_model_rest(const nn_model *m) {
    if (m->text) nn_weights_rest(&m->text->weights);
    if (m->unet) nn_weights_rest(nn_unet_weights(m->unet));
    if (m->vae) nn_weights_rest(nn_vae_weights(m->vae));
}

/* ---- fingerprint ---- */

static void hash_int(tn_sha256 *sha, uint64_t v) {
    unsigned char bytes[8];
    tn_put_le64(bytes, v);
    tn_sha256_update(sha, bytes, sizeof bytes);
}

static void hash_text(tn_sha256 *sha, const char *text, size_t len) {
    hash_int(sha, len);
    tn_sha256_update(sha, text, len);
}

/* The numbers in the file's byte order, whatever the machine's. */
static void hash_numbers(tn_sha256 *sha, const tn_tensor *t) {
    enum { CHUNK = 1024 };
    unsigned char bytes[4 * CHUNK];
    size_t size = tn_dtype_size(t->dtype);
    for (int64_t i = 0, n = tn_numel(t); i < n; i += CHUNK) {
        size_t count = (size_t)(n - i < CHUNK ? n - i : CHUNK);
        const char *from = (const char *)t->data + (size_t)i * size;
        for (size_t j = 0; j < count; j++) {
            uint32_t wide;
            uint16_t half;
            if (size == 4) {
                memcpy(&wide, from + 4 * j, 4);
                tn_put_le32(bytes + 4 * j, wide);
            } else {
                memcpy(&half, from + 2 * j, 2);
                bytes[2 * j] = (unsigned char)half, bytes[2 * j + 1] = (unsigned char)(half >> 8);
            }
        }
        tn_sha256_update(sha, bytes, count * size);
    }
}

/* Each tensor is read once: the memory goes back as it goes, or the whole model would be in it at once. */
static void hash_weights(tn_sha256 *sha, const nn_weights *w) {
    const nn_params *params = &w->params;
    for (int i = 0; i < params->n; i++) {
        const tn_tensor *t = params->p[i].t;
        hash_text(sha, params->p[i].name, strlen(params->p[i].name));
        hash_int(sha, (uint64_t)t->dtype);
        hash_int(sha, (uint64_t)t->ndim);
        for (int d = 0; d < t->ndim; d++) hash_int(sha, (uint64_t)t->shape[d]);
        hash_numbers(sha, t);
        nn_weights_rest(w);
    }
}

static int hash_file(tn_sha256 *sha, const char *dir, const char *name, tn_err *err) {
    char *path = nn_join(dir, name), *data = NULL;
    size_t len = 0;
    if (!path) return tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    int failed = tn_exists(path) ? tn_read_file(path, (size_t)64 << 20, &data, &len, err) : 0;
    if (data) {
        hash_text(sha, name, strlen(name));
        hash_text(sha, data, len);
    }
    free(path), free(data);
    return failed;
}

int nn_model_fingerprint(const nn_model *m, char hex[65], tn_err *err) {
    tn_sha256 sha;
    tn_sha256_init(&sha);
    for (int i = 0; i < COMPONENTS; i++) {
        const struct component *part = &components_of_a_model[i];
        if (!(m->components & part->flag)) continue;
        char *dir = nn_join(m->dir, part->folder);
        int failed = dir ? 0 : tn_fail(err, TN_ENOMEM, "%s: out of memory", m->dir);
        hash_text(&sha, part->folder, strlen(part->folder));
        for (int f = 0; !failed && f < 6 && part->files[f]; f++) failed = hash_file(&sha, dir, part->files[f], err);
        free(dir);
        if (failed) return -1;
    }
    if (m->text) hash_weights(&sha, &m->text->weights);
    if (m->unet) hash_weights(&sha, nn_unet_weights(m->unet));
    if (m->vae) hash_weights(&sha, nn_vae_weights(m->vae));
    tn_sha256_hex(&sha, hex);
    return 0;
}
