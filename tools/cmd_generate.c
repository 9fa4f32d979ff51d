/* oneword generate: a prompt in, pictures out, each with the recipe to make it again. */
#include "tensor/io/sys.h"
#include "tools/generate.h"
#include "tools/memory.h"
#include "tools/metadata.h"
#include "tools/opt.h"
#include "tools/picture_out.h"
#include "tools/prompt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct generate_options {
    opt_common common;
    const char *model, *prompt, *negative, *output, *sampler, *tokenizer_mode, *from_image, *save_latents, *memory;
    opt_list embedding;
    int64_t steps, seed, width, height, batch;
    double guidance, eta;
    bool no_metadata;
} generate_options;

#define FIELD(name) offsetof(generate_options, name)
static const opt_row rows[] = {
    {"m,model,d,pretrained-model-name-or-path", OPT_TEXT, FIELD(model), 0, 0, "DIR",
     "model directory as diffusers saves it"},
    {"p,prompt", OPT_TEXT, FIELD(prompt), 0, 0, "TEXT", "what to draw; learned words as their files spell them"},
    {"n,negative-prompt", OPT_TEXT, FIELD(negative), 0, 0, "TEXT", "what not to draw (default: nothing)"},
    {"embedding", OPT_LIST, FIELD(embedding), 0, 0, "[NAME=]FILE",
     "a learned word, learned_embeds.safetensors; may be repeated"},
    {"o,output", OPT_TEXT, FIELD(output), 0, 0, "FILE",
     "PNG or PPM; %d or %03d is the picture's number (default: output.png)"},
    {"steps", OPT_INT, FIELD(steps), 1, 1000000, "N", "denoising steps (default: 20)"},
    {"cfg-scale,guidance-scale,scale,g", OPT_NUMBER, FIELD(guidance), 0, 1000, "X",
     "classifier-free guidance; 1 is none (default: 7.5)"},
    {"sampler", OPT_TEXT, FIELD(sampler), 0, 0, "ddim|ddpm", "how noise becomes a picture (default: ddim)"},
    {"eta", OPT_NUMBER, FIELD(eta), 0, 1, "X", "noise in the steps of DDIM (default: 0)"},
    {"S,seed", OPT_INT, FIELD(seed), -1, 9.2e18, "N",
     "picture i has seed N + i, as a torch generator; -1 is random (default)"},
    {"W,width", OPT_INT, FIELD(width), 8, 16384, "N", "in pixels (default: the model's size)"},
    {"H,height", OPT_INT, FIELD(height), 8, 16384, "N", "in pixels (default: the model's size)"},
    {"b,batch,num-images-per-prompt", OPT_INT, FIELD(batch), 1, 100000, "N", "pictures (default: 1)"},
    {"from-image", OPT_TEXT, FIELD(from_image), 0, 0, "PNG",
     "take prompts and settings from a picture; options given win"},
    {"tokenizer-mode", OPT_TEXT, FIELD(tokenizer_mode), 0, 0, "hf|openai", "rules of the tokenizer (default: hf)"},
    {"save-latents", OPT_TEXT, FIELD(save_latents), 0, 0, "FILE", "also write what the decoder gets, as safetensors"},
    {"memory,max-ram", OPT_TEXT, FIELD(memory), 0, 0, MEM_META, MEM_HELP},
    {"no-metadata", OPT_FLAG, FIELD(no_metadata), 0, 0, NULL, "do not write the recipe into the PNG"},
    OPT_COMMON(generate_options, common),
};
enum { NROWS = sizeof rows / sizeof *rows };

static int run(int argc, char **argv);
const opt_command cmd_generate = {
    "generate",
    "pictures from a prompt",
    "generate --model DIR --prompt TEXT [options]",
    "example:\n"
    "  oneword generate --model testdata/world/model --embedding testdata/world/learned/mango.safetensors \\\n"
    "    -p 'a photo of a <mango> on the beach' --steps 25 --cfg-scale 4 --seed 1 -o mango.png\n\n"
    "Prints the path of each picture, or with --json a line {\"file\", \"seed\", \"seconds\"}.",
    rows,
    NROWS,
    run};

typedef struct job {
    generate_options o;
    bool given[NROWS];
    tn_ctx c;
    nn_model *model;
    emb_words words;
    float *learned; /* [nrows, width] */
    int64_t nrows;
    meta_recipe made, now; /* of --from-image; of the pictures to be made */
    opt_progress progress;
    int64_t groups_done, steps_done;
    float *latents; /* [batch,C,h,w], for --save-latents */
    mem_limit limit;
    gen_needs needs;
    nn_residency residency;
    size_t base; /* memory that the program has before the first picture */
} job;

static bool was_given(const job *j, size_t field) {
    for (int i = 0; i < NROWS; i++) {
        if (rows[i].field == field) return j->given[i];
    }
    return false;
}

/* ---- settings ---- */

/* Everything that --from-image says and the command line does not. */
static int take_recipe(job *j, tn_err *err) {
    meta_recipe *r = &j->made;
    generate_options *o = &j->o;
    *r = (meta_recipe){.steps = o->steps,
                       .seed = o->seed,
                       .width = o->width,
                       .height = o->height,
                       .guidance = o->guidance,
                       .eta = o->eta};
    strcpy(r->sampler, "ddim");
    if (meta_read(o->from_image, r, err)) return -1;
    if (!was_given(j, FIELD(prompt))) o->prompt = r->prompt;
    if (!was_given(j, FIELD(negative))) o->negative = r->negative;
    if (!was_given(j, FIELD(steps))) o->steps = r->steps;
    if (!was_given(j, FIELD(seed))) o->seed = r->seed;
    if (!was_given(j, FIELD(width))) o->width = r->width;
    if (!was_given(j, FIELD(height))) o->height = r->height;
    if (!was_given(j, FIELD(guidance))) o->guidance = r->guidance;
    if (!was_given(j, FIELD(eta))) o->eta = r->eta;
    if (!was_given(j, FIELD(sampler))) o->sampler = r->sampler;
    if (!was_given(j, FIELD(common.conv)) && r->conv[0]) o->common.conv = r->conv;
    if (!was_given(j, FIELD(tokenizer_mode))) o->tokenizer_mode = r->rules == NN_RULES_OPENAI ? "openai" : "hf";
    if (strcmp(o->sampler, "ddim") != 0 && strcmp(o->sampler, "ddpm") != 0) {
        return tn_fail(err, TN_EUNSUPPORTED,
                       "%s: made with the sampler \"%s\", which is not built in (choose one with --sampler)",
                       o->from_image, o->sampler);
    }
    if (o->steps < 1 || o->width < 0 || o->height < 0 || !(o->guidance >= 0.0 && o->guidance <= 1000.0) ||
        !(o->eta >= 0.0 && o->eta <= 1.0)) {
        return tn_fail(err, TN_EINPUT, "%s: the settings in it are out of range", o->from_image);
    }
    return 0;
}

static int settle(job *j, tn_err *err) {
    generate_options *o = &j->o;
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (o->from_image && take_recipe(j, err)) return -1;
    if (!o->prompt) return tn_fail(err, TN_EUSAGE, "--prompt is needed (or --from-image)");
    if (!o->negative) o->negative = "";
    if (mem_parse(o->memory, &j->limit, err)) return -1;
    if (prompt_check("--prompt", o->prompt, err) || prompt_check("--negative-prompt", o->negative, err)) return -1;
    if (o->seed == -1) {
        o->seed = (int64_t)(tn_entropy() & 0x7fffffff);
        opt_note(&o->common, "seed %" PRId64, o->seed);
    }
    if (o->seed > INT64_MAX - o->batch)
        return tn_fail(err, TN_EUSAGE, "--seed %" PRId64 ": too large for %" PRId64 " pictures", o->seed, o->batch);
    if (out_try_pictures(o->output, o->batch, err)) return -1;
    return o->save_latents ? out_try(o->save_latents, err) : 0;
}

/* ---- the model ---- */

static int load(job *j, tn_err *err) {
    generate_options *o = &j->o;
    for (int i = 0; i < o->embedding.n; i++) {
        if (emb_read_argument(o->embedding.item[i], &j->words, err)) return -1;
    }
    if (opt_context(&o->common, &j->c, err) || nn_model_load(o->model, NN_LOAD_ALL, &j->model, err)) return -1;
    for (const char *line = j->model->notes; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        opt_warn("%.*s", (int)strcspn(line, "\n"), line);
    }
    if (emb_register(j->model, &j->words, &j->learned, &j->nrows, err)) return -1;
    if (!o->width) o->width = gen_native_size(j->model);
    if (!o->height) o->height = gen_native_size(j->model);
    return gen_check_size(j->model, o->width, o->height, err);
}

static nn_tokenizer_rules rules(const job *j) {
    return strcmp(j->o.tokenizer_mode, "openai") == 0 ? NN_RULES_OPENAI : NN_RULES_HF;
}

static int remark(job *j, tn_err *err) {
    const generate_options *o = &j->o;
    nn_schedule_config config;
    char named[64];
    if (gen_schedule(j->model, o->sampler, &config, named, err)) return -1;
    nn_schedule_config_free(&config);
    nn_scheduler_class class = nn_scheduler_class_of(named);
    if (class == NN_SCHEDULER_DDPM && strcmp(o->sampler, "ddim") == 0 && !was_given(j, FIELD(sampler))) {
        opt_note(&o->common, "the model names DDPMScheduler; DDIM is used (--sampler ddpm for the other)");
    }
    if (o->eta != 0.0 && strcmp(o->sampler, "ddpm") == 0) opt_warn("--eta has no meaning with --sampler ddpm");
    bool guided = o->guidance != 1.0;
    if (!guided && o->negative[0]) opt_warn("--negative-prompt has no effect with --cfg-scale 1");
    if (prompt_remarks(j->model, "--prompt", o->prompt, rules(j), nn_prompt_length(j->model), err)) return -1;
    if (guided && prompt_remarks(j->model, "--negative-prompt", o->negative, rules(j), nn_prompt_length(j->model), err))
        return -1;
    return prompt_unused(j->model, &j->words, o->prompt, guided ? o->negative : "", rules(j), err);
}

/* ---- recipes ---- */

static int model_name(const char *dir, char **name, tn_err *err) {
    size_t end = strlen(dir), start;
    while (end > 1 && dir[end - 1] == '/') end--;
    for (start = end; start && dir[start - 1] != '/'; start--) continue;
    if (meta_set(name, dir + start, end - start, err)) return -1;
    for (char *c = *name; *c; c++) { /* a text chunk must be UTF-8, a path need not be */
        size_t n = tn_utf8_length((const unsigned char *)c, strlen(c));
        if (!n)
            *c = '?';
        else
            c += n - 1;
    }
    return 0;
}

static int write_recipe(job *j, tn_err *err) {
    const generate_options *o = &j->o;
    meta_recipe *r = &j->now;
    *r = (meta_recipe){.steps = o->steps,
                       .seed = o->seed,
                       .width = o->width,
                       .height = o->height,
                       .guidance = o->guidance,
                       .eta = o->eta,
                       .rules = rules(j)};
    snprintf(r->sampler, sizeof r->sampler, "%s", o->sampler);
    if (o->common.conv && strcmp(o->common.conv, "auto") != 0) snprintf(r->conv, sizeof r->conv, "%s", o->common.conv);
    if (meta_set(&r->prompt, o->prompt, strlen(o->prompt), err) ||
        meta_set(&r->negative, o->negative, strlen(o->negative), err))
        return -1;
    if (model_name(j->o.model, &r->model, err) || nn_model_fingerprint(j->model, r->model_sha256, err)) return -1;
    for (int i = 0; i < j->words.n; i++) {
        if (meta_add_word(r, j->words.w[i].token, j->words.w[i].sha256, err)) return -1;
    }
    return 0;
}

/* Whether one of two hashes, either of which may be cut short, begins the other. */
static bool same_hash(const char *a, const char *b) {
    size_t n = strlen(a) < strlen(b) ? strlen(a) : strlen(b);
    return strncmp(a, b, n) == 0;
}

/* What --from-image's picture was made with and these will not be. */
static void compare_recipes(const job *j) {
    const meta_recipe *a = &j->made, *b = &j->now;
    if (a->model_sha256[0] && !same_hash(a->model_sha256, b->model_sha256)) {
        opt_warn("%s was made with another model (%s %.10s, this is %s %.10s): the picture will differ",
                 j->o.from_image, a->model ? a->model : "?", a->model_sha256, b->model, b->model_sha256);
    }
    for (int i = 0; i < a->nwords; i++) {
        int k = 0;
        while (k < b->nwords && strcmp(a->word[i].token, b->word[k].token) != 0) k++;
        if (k == b->nwords) {
            opt_warn("%s was made with the learned word %s: give its file with --embedding", j->o.from_image,
                     a->word[i].token);
        } else if (!same_hash(a->word[i].sha256, b->word[k].sha256)) {
            opt_warn("%s was made with another file of the word %s: the picture will differ", j->o.from_image,
                     a->word[i].token);
        }
    }
}

/* ---- the run ---- */

static void step_done(void *arg, int64_t done, int64_t total) {
    job *j = arg;
    (void)total;
    opt_progress_step(&j->progress, j->groups_done * j->o.steps + done, NULL);
}

static int save(job *j, const nn_image *image, const char *path, int64_t seed, tn_err *err) {
    nn_text texts[2];
    if (j->o.no_metadata) return out_picture(path, image, NULL, 0, err);
    j->now.seed = seed;
    if (meta_texts(&j->now, texts, err)) return -1;
    int bad = out_picture(path, image, texts, 2, err);
    free(texts[0].value), free(texts[1].value);
    return bad;
}

static void announce(const job *j, const char *path, int64_t seed, double seconds) {
    if (!j->o.common.json) {
        puts(path);
        return;
    }
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", path), tn_jw_int(&w, "seed", seed), tn_jw_number(&w, "seconds", seconds);
    tn_jw_close(&w, '}');
    char *line = tn_jw_take(&w);
    if (line) puts(line);
    free(line);
}

/* What a group of pictures is made with. */
static gen_request request(const job *j, int64_t first, int64_t n) {
    const generate_options *o = &j->o;
    int64_t f = nn_vae_factor(j->model->vae),
            size = nn_unet_cfg(j->model->unet)->in_channels * (o->width / f) * (o->height / f);
    gen_request r = {.prompt = o->prompt,
                     .negative = o->negative,
                     .learned = j->learned,
                     .rows = j->nrows,
                     .width = o->width,
                     .height = o->height,
                     .steps = o->steps,
                     .guidance = o->guidance,
                     .eta = o->eta,
                     .sampler = o->sampler,
                     .seed = (uint64_t)(o->seed + first),
                     .count = n,
                     .rules = rules(j),
                     .residency = j->residency,
                     .latents = j->latents ? j->latents + first * size : NULL};
    return r;
}

/* Pictures first .. first + n - 1: made, written, named on stdout. */
static int make_group(job *j, int64_t first, int64_t n, nn_image *images, tn_err *err) {
    const generate_options *o = &j->o;
    double start = tn_clock();
    gen_request r = request(j, first, n);
    r.progress = step_done, r.arg = j;
    int bad = gen_pictures(&j->c, j->model, &r, images, err);
    double seconds = (tn_clock() - start) / (double)n;
    for (int64_t i = 0; i < n && !bad; i++) {
        char path[4096];
        bad = out_picture_path(o->output, first + i, o->batch, path, sizeof path, err) ||
                      save(j, &images[i], path, o->seed + first + i, err)
                  ? -1
                  : 0;
        if (!bad) announce(j, path, o->seed + first + i, seconds);
    }
    fflush(stdout);
    for (int64_t i = 0; i < n; i++) nn_image_free(&images[i]);
    return bad;
}

/* ---- memory ---- */

static int bytes_of(void *arg, int way, size_t *out, tn_err *err) {
    const job *j = arg;
    (void)err;
    *out = j->base + gen_bytes(&j->needs, (nn_residency)way);
    return 0;
}

/* Chooses where weights are while they are not used, and says so. */
static int plan(job *j, int64_t group, tn_err *err) {
    static const char *const ways[] = {"all networks stay in memory", "one network in memory at a time", "weights given back after each block"};
    gen_request r = request(j, 0, j->o.batch < group ? j->o.batch : group);
    int way;
    size_t taken;
    char text[16];
    nn_model_rest(j->model); /* what is mapped by now is not the base */
    j->base = mem_base();
    if (gen_measure(&j->c, j->model, &r, &j->needs, err) ||
        mem_choose(&j->limit, NN_STREAM + 1, NN_LEAVE, bytes_of, j, " (lower --width and --height)", &way, &taken, err))
        return -1;
    j->residency = (nn_residency)way;
    opt_note(&j->o.common, "plan: memory %s, %s", mem_text(text, taken), ways[way]);
    return 0;
}

static int save_latents(const job *j, const int64_t shape[4], tn_err *err) {
    char factor[32];
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "out of memory for --save-latents");
    snprintf(factor, sizeof factor, "%.9g", (double)nn_vae_cfg(j->model->vae)->scaling_factor);
    tn_st_add(w, "latent", TN_ST_F32, 4, shape, j->latents);
    tn_st_add_meta(w, "scaling_factor", factor);
    int bad = tn_st_write(w, j->o.save_latents, err);
    tn_st_writer_free(w);
    return bad;
}

static int make_all(job *j, tn_err *err) {
    const generate_options *o = &j->o;
    int64_t f = nn_vae_factor(j->model->vae), group = gen_batch(j->model, o->width, o->height);
    int64_t shape[4] = {o->batch, nn_unet_cfg(j->model->unet)->in_channels, o->height / f, o->width / f};
    size_t numbers = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
    nn_image *images = malloc((size_t)group * sizeof *images);
    if (o->save_latents) j->latents = malloc(numbers * sizeof *j->latents);
    if (!images || (o->save_latents && !j->latents)) {
        free(images);
        return tn_fail(err, TN_ENOMEM, "out of memory for the pictures");
    }
    int bad = plan(j, group, err);
    if (!bad) opt_progress_start(&j->progress, &o->common, "generate", (o->batch + group - 1) / group * o->steps, 0);
    for (int64_t i = 0; i < o->batch && !bad; i += group, j->groups_done++) {
        bad = make_group(j, i, o->batch - i < group ? o->batch - i : group, images, err);
    }
    if (!bad) opt_progress_end(&j->progress);
    char text[16];
    if (!bad && o->common.verbose) opt_note(&o->common, "memory taken: %s", mem_text(text, tn_rss_peak()));
    free(images);
    return bad || !o->save_latents ? bad : save_latents(j, shape, err);
}

static int generate(job *j, tn_err *err) {
    if (settle(j, err) || load(j, err) || remark(j, err)) return -1;
    if ((!j->o.no_metadata || j->o.from_image) && write_recipe(j, err)) return -1;
    if (j->o.from_image) compare_recipes(j);
    return make_all(j, err);
}

static int run(int argc, char **argv) {
    job j = {.o = {.output = "output.png",
                   .sampler = "ddim",
                   .tokenizer_mode = "hf",
                   .steps = 20,
                   .seed = -1,
                   .batch = 1,
                   .guidance = 7.5}};
    tn_err err;
    int r = opt_parse(&cmd_generate, argc, argv, &j.o, j.given, NULL, &err);
    if (!r) {
        r = generate(&j, &err);
        tn_ctx_free(&j.c);
        nn_model_free(j.model);
        emb_free(&j.words);
        meta_free(&j.made), meta_free(&j.now);
        free(j.learned), free(j.latents);
    }
    return r < 0 ? opt_error(&err) : 0;
}
