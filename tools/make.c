#include "tools/make.h"

#include "tensor/io/json.h"
#include "tensor/io/sys.h"
#include "tools/make_job.h"
#include "tools/picture_out.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool make_given(const make_job *j, size_t field) {
    for (int i = 0; i < j->cmd->nrows; i++) {
        if (j->cmd->rows[i].field == field) return j->given[i];
    }
    return false;
}

/* ---- settings ---- */

static int settle_seed(make_options *o, int64_t count, tn_err *err) {
    if (o->seed == -1) {
        o->seed = (int64_t)(tn_entropy() & 0x7fffffff);
        opt_note(&o->common, "seed %" PRId64, o->seed);
    }
    if (o->seed <= INT64_MAX - count) return 0;
    return tn_fail(err, TN_EUSAGE, "--seed %" PRId64 ": too large for %" PRId64 " pictures", o->seed, count);
}

static int settle(make_job *j, tn_err *err) {
    make_options *o = &j->o;
    if (!o->model) return tn_fail(err, TN_EUSAGE, "--model is needed (a directory as diffusers saves it)");
    if (j->cmd == &cmd_edit && !o->picture) return tn_fail(err, TN_EUSAGE, "--picture is needed, the one to edit");
    if (o->from_image && make_take_recipe(j, err)) return -1;
    if (!o->prompt && !o->prompts) return tn_fail(err, TN_EUSAGE, "--prompt is needed (or --prompts, --from-image)");
    if (!o->negative) o->negative = "";
    if (mem_parse(o->memory, &j->limit, err)) return -1;
    if (prompt_list_make(o->prompt, o->prompts, &j->prompts, err)) return -1;
    if (prompt_check("--negative-prompt", o->negative, err)) return -1;
    if (make_settle_edit(j, err) || make_settle_guide(j, err) || make_settle_rank(j, err) || settle_seed(o, j->count, err)) return -1;
    if (out_try_pictures(o->output, j->prompts.n * j->keep, err)) return -1;
    return o->save_latents ? out_try(o->save_latents, err) : 0;
}

static int load(make_job *j, tn_err *err) {
    make_options *o = &j->o;
    for (int i = 0; i < o->embedding.n; i++) {
        if (emb_read_argument(o->embedding.item[i], &j->words, err)) return -1;
    }
    if (opt_context(&o->common, &j->c, err) || nn_model_load(o->model, NN_LOAD_ALL, &j->model, err)) return -1;
    for (const char *line = j->model->notes; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        opt_warn("%.*s", (int)strcspn(line, "\n"), line);
    }
    if (emb_register(j->model, &j->words, &j->learned, &j->nrows, err)) return -1;
    if (o->picture) return make_open_edit(j, err);
    if (o->latent && make_open_latent(j, err)) return -1;
    if (!o->width) o->width = gen_native_size(j->model);
    if (!o->height) o->height = gen_native_size(j->model);
    return gen_check_size(j->model, o->width, o->height, err);
}

static int remark_prompts(const make_job *j, bool guided, tn_err *err) {
    const make_options *o = &j->o;
    int length = nn_prompt_length(j->model);
    for (int i = 0; i < j->prompts.n; i++) {
        const char *what = o->prompts ? o->prompts : "--prompt";
        if (prompt_remarks(j->model, what, j->prompts.line[i], prompt_rules(j->o.tokenizer_mode), length, err)) return -1;
    }
    if (guided && prompt_remarks(j->model, "--negative-prompt", o->negative, prompt_rules(j->o.tokenizer_mode), length, err)) return -1;
    if (j->prompts.n > 1) return 0; /* a word need not be in each of them */
    return prompt_unused(j->model, &j->words, j->prompts.line[0], guided ? o->negative : "", prompt_rules(j->o.tokenizer_mode), err);
}

static int remark(const make_job *j, tn_err *err) {
    const make_options *o = &j->o;
    nn_schedule_config config;
    char named[64];
    if (gen_schedule(j->model, o->sampler, &config, named, err)) return -1;
    nn_schedule_config_free(&config);
    nn_scheduler_class class = nn_scheduler_class_of(named);
    if (class == NN_SCHEDULER_DDPM && strcmp(o->sampler, "ddim") == 0 && !make_given(j, MAKE_FIELD(sampler))) {
        opt_note(&o->common, "the model names DDPMScheduler; DDIM is used (--sampler ddpm for the other)");
    }
    if (o->eta != 0.0 && strcmp(o->sampler, "ddpm") == 0) opt_warn("--eta has no meaning with --sampler ddpm");
    if (o->picture && o->first_step == o->steps)
        opt_warn("no step is left to do: the picture goes through the autoencoder alone (more --strength or --steps)");
    bool guided = o->guidance != 1.0;
    if (!guided && o->negative[0]) opt_warn("--negative-prompt has no effect with --cfg-scale 1");
    return remark_prompts(j, guided, err);
}

/* ---- the run ---- */

static int64_t steps_of(const make_job *j) { return j->o.steps - (j->o.picture ? j->edit.cfg.first : 0); }

static void step_done(void *arg, int64_t done, int64_t total) {
    make_job *j = arg;
    (void)total;
    opt_progress_step(&j->progress, j->groups_done * steps_of(j) + done, NULL);
}

/* What n pictures of a prompt are made with, from number `first` on, which is where `latents` begin. */
static gen_request request(const make_job *j, const char *prompt, int64_t first, int64_t n) {
    const make_options *o = &j->o;
    gen_request r = {.prompt = prompt,
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
                     .edit = o->picture ? &j->edit : NULL,
                     .noise = j->noise.z ? j->noise.z + first * j->noise.n : NULL,
                     .clip = j->guide.clip ? &j->guide : NULL,
                     .rules = prompt_rules(j->o.tokenizer_mode),
                     .residency = j->residency};
    return r;
}

static int save(make_job *j, const nn_image *image, const char *path, int64_t seed, tn_err *err) {
    nn_text texts[2];
    if (j->o.no_metadata) return out_picture(path, image, NULL, 0, err);
    j->now.seed = seed;
    if (meta_texts(&j->now, texts, err)) return -1;
    int bad = out_picture(path, image, texts, 2, err);
    free(texts[0].value), free(texts[1].value);
    return bad;
}

static int announce(const make_job *j, const char *path, const char *prompt, int64_t seed, double seconds,
                    const rank_place *place, tn_err *err) {
    if (!j->o.common.json) {
        puts(path);
        return 0;
    }
    const meta_rank *k = &j->now.rank;
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "file", path), tn_jw_int(&w, "seed", seed), tn_jw_number(&w, "seconds", seconds);
    if (j->o.prompts) tn_jw_string(&w, "prompt", prompt);
    if (j->ranked) {
        tn_jw_int(&w, "place", k->place), tn_jw_int(&w, "of", k->of), tn_jw_number(&w, "score", place->score);
        if (j->goal.text) tn_jw_number(&w, "text", place->text);
        if (j->goal.like) tn_jw_number(&w, "image", place->image);
    }
    return opt_put_json(&w, err);
}

/* Pictures [first, first + n) of prompt p, into images and j->latents. */
static int make_group(make_job *j, int p, int64_t first, int64_t n, int64_t group, nn_image *images, tn_err *err) {
    for (int64_t i = 0; i < n; i += group, j->groups_done++) {
        gen_request r = request(j, j->prompts.line[p], first + i, n - i < group ? n - i : group);
        r.latents = j->latents ? j->latents + i * j->size : NULL;
        r.progress = step_done, r.arg = j;
        if (gen_pictures(&j->c, j->model, &r, images + i, err)) return -1;
    }
    return 0;
}

/* One picture of prompt p, number `to` among those of the prompt that are kept, to its file. */
static int keep(make_job *j, int p, int64_t to, int64_t seed, double seconds, const rank_place *place, nn_image *image,
                tn_err *err) {
    char path[4096];
    const float *latent = j->latents ? j->latents + place->index * j->size : NULL;
    int64_t number = p * j->keep + to;
    if (make_fit(j, latent, image, err)) return -1;
    if (j->kept) memcpy(j->kept + j->nkept++ * j->size, latent, (size_t)j->size * sizeof *latent);
    if (out_picture_path(j->o.output, number, j->prompts.n * j->keep, path, sizeof path, err) ||
        save(j, image, path, seed, err))
        return -1;
    return announce(j, path, j->prompts.line[p], seed, seconds, place, err);
}

/* What is ranked together: made, ranked, the best of it written. */
static int make_batch(make_job *j, int p, int64_t first, int64_t n, int64_t group, nn_image *images, rank_place *place,
                      tn_err *err) {
    const char *prompt = j->prompts.line[p];
    double start = tn_clock();
    if (make_aim(j, prompt, err)) return -1;
    if (make_group(j, p, first, n, group, images, err)) return -1;
    double seconds = (tn_clock() - start) / (double)n;
    if (meta_set(&j->now.prompt, prompt, strlen(prompt), err) || make_rank(j, prompt, images, n, place, err)) return -1;
    int64_t kept = j->ranked ? j->keep : n;
    for (int64_t i = 0; i < kept; i++) {
        int64_t number = j->ranked ? i : first + i, seed = j->o.seed + first + place[i].index;
        if (make_note_rank(j, &place[i], i, n, err) || make_note_guide(j, first + place[i].index, err) ||
            keep(j, p, number, seed, seconds, &place[i], &images[place[i].index], err))
            return -1;
    }
    fflush(stdout);
    return 0;
}

/* ---- memory ---- */

static int bytes_of(void *arg, int way, size_t *out, tn_err *err) {
    const make_job *j = arg;
    (void)err;
    *out = j->base + gen_bytes(&j->needs, (nn_residency)way);
    return 0;
}

/* Chooses where weights are while they are not used, and says so. */
static int plan(make_job *j, int64_t group, tn_err *err) {
    static const char *const ways[] = {"all networks stay in memory", "one network in memory at a time", "weights given back after each block"};
    gen_request r = request(j, j->prompts.line[0], 0, j->count < group ? j->count : group);
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

static int save_latents(const make_job *j, tn_err *err) {
    int64_t f = nn_vae_factor(j->model->vae);
    int64_t shape[] = {j->nkept, nn_unet_cfg(j->model->unet)->in_channels, j->o.height / f, j->o.width / f};
    char factor[32];
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "out of memory for --save-latents");
    snprintf(factor, sizeof factor, "%.9g", (double)nn_vae_cfg(j->model->vae)->scaling_factor);
    tn_st_add(w, "latent", TN_ST_F32, 4, shape, j->kept);
    tn_st_add_meta(w, "scaling_factor", factor);
    int bad = tn_st_write(w, j->o.save_latents, err);
    tn_st_writer_free(w);
    return bad;
}

/* ---- all of it ---- */

/* Room for latents, where somebody wants them: of a batch, and of all pictures for --save-latents. */
static int make_room(make_job *j, int64_t batch, tn_err *err) {
    int64_t f = nn_vae_factor(j->model->vae);
    j->size = nn_unet_cfg(j->model->unet)->in_channels * (j->o.height / f) * (j->o.width / f);
    bool fits = j->o.picture && j->edit.cfg.background == NN_BACKGROUND_DECODER;
    size_t one = (size_t)j->size * sizeof *j->latents;
    if (fits || j->o.save_latents) j->latents = malloc((size_t)batch * one);
    if (j->o.save_latents) j->kept = malloc((size_t)(j->prompts.n * j->keep) * one);
    if ((j->latents || !(fits || j->o.save_latents)) && (j->kept || !j->o.save_latents)) return 0;
    return tn_fail(err, TN_ENOMEM, "out of memory for the pictures");
}

static int make_prompts(make_job *j, int64_t group, int64_t batch, tn_err *err) {
    nn_image *images = calloc((size_t)batch, sizeof *images);
    rank_place *place = malloc((size_t)batch * sizeof *place);
    int bad = images && place ? make_room(j, batch, err) : tn_fail(err, TN_ENOMEM, "out of memory for the pictures");
    for (int p = 0; p < j->prompts.n && !bad; p++) {
        for (int64_t i = 0; i < j->count && !bad; i += batch) {
            bad = make_batch(j, p, i, j->count - i < batch ? j->count - i : batch, group, images, place, err);
            for (int64_t k = 0; k < batch; k++) nn_image_free(&images[k]);
        }
    }
    free(images), free(place);
    return bad;
}

static int encode_picture(make_job *j, tn_err *err) {
    nn_memory_part(&j->c, j->model, j->residency, &j->needs.encoder);
    int bad = nn_edit_encode(&j->c, j->model, &j->edit, err);
    nn_memory_part(&j->c, j->model, j->residency, NULL);
    return bad;
}

static int make_all(make_job *j, tn_err *err) {
    const make_options *o = &j->o;
    int64_t group = gen_batch(j->model, o->width, o->height), batch = j->ranked || j->count < group ? j->count : group;
    int64_t groups = (j->count + group - 1) / group * j->prompts.n;
    char text[16];
    if (plan(j, group, err) || (o->picture && encode_picture(j, err))) return -1;
    opt_progress_start(&j->progress, &o->common, o->picture ? "edit" : "generate", groups * steps_of(j), 0);
    if (make_prompts(j, group, batch, err)) return -1;
    opt_progress_end(&j->progress);
    if (o->common.verbose) opt_note(&o->common, "memory taken: %s", mem_text(text, tn_rss_peak()));
    return o->save_latents ? save_latents(j, err) : 0;
}

static int make(make_job *j, tn_err *err) {
    if (settle(j, err) || load(j, err) || remark(j, err) || make_open_rank(j, err) || make_open_guide(j, err)) return -1;
    if ((!j->o.no_metadata || j->o.from_image) && make_write_recipe(j, err)) return -1;
    if (j->o.from_image) make_compare_recipes(j);
    return make_all(j, err);
}

int make_main(const opt_command *cmd, int argc, char **argv, const make_options *defaults) {
    make_job j = {.o = *defaults, .cmd = cmd, .given = calloc((size_t)cmd->nrows, sizeof *j.given)};
    tn_err err;
    int r = j.given ? opt_parse(cmd, argc, argv, &j.o, j.given, NULL, &err) : tn_fail(&err, TN_ENOMEM, "out of memory");
    if (!r) {
        r = make(&j, &err);
        tn_ctx_free(&j.c);
        nn_edit_free(&j.edit);
        nn_model_free(j.model);
        clip_close(&j.judge);
        emb_free(&j.words);
        prompt_list_free(&j.prompts);
        meta_free(&j.made), meta_free(&j.now);
        free(j.learned), free(j.latents), free(j.kept), free(j.goal.text), free(j.goal.like), free(j.sentence);
        latents_free(&j.noise);
        free(j.aim), free(j.aim_sentence);
    }
    free(j.given);
    return r < 0 ? opt_error(&err) : 0;
}
