#include "tools/evaluate.h"

#include <stdlib.h>
#include <string.h>

const eval_prompt eval_prompts[EVAL_PROMPTS] = {
    {"a photo of a {} on the beach", "on the beach"},
    {"a photo of a {} in the snow", "in the snow"},
    {"a photo of a {} at night", "at night"},
    {"a photo of a {} in front of a brick wall", "a brick wall"},
    {"a photo of a {} under water", "under water"},
    {"a photo of a {} in the city", "in the city"},
    {"a pencil sketch of a {}", "pencil sketch"},
    {"a watercolor of a {}", "watercolor"},
    {"a neon sign of a {}", "neon sign"},
    {"pixel art of a {}", "pixel art"},
    {"a cartoon of a {}", "cartoon"},
    {"a blueprint of a {}", "blueprint"},
};

int eval_fill(const char *text, const char *word, char **out, tn_err *err) {
    size_t n = strlen(text), w = strlen(word), places = 0, at = 0;
    for (const char *p = text; (p = strstr(p, "{}")); p += 2) places++;
    if (!(*out = malloc(n + places * w + 1))) return tn_fail(err, TN_ENOMEM, "out of memory for a prompt");
    for (const char *p = text; *p;) {
        bool place = p[0] == '{' && p[1] == '}';
        memcpy(*out + at, place ? word : p, place ? w : 1);
        at += place ? w : 1, p += place ? 2 : 1;
    }
    (*out)[at] = '\0';
    return 0;
}

/* ---- one prompt ---- */

void eval_set_free(eval_set *set) {
    for (int i = 0; set->image && i < set->n; i++) nn_image_free(&set->image[i]);
    free(set->prompt), free(set->image), free(set->features), free(set->cosine), free(set->without);
    *set = (eval_set){0};
}

/* Of all samples but number `left_out`; -1: of all. */
static double of_mean_without(const clip_judge *judge, const eval_set *set, int left_out, const float *sentence,
                              float *rest) {
    int n = 0;
    for (int i = 0; i < set->n; i++) {
        if (i != left_out)
            memcpy(rest + n++ * judge->width, set->features + i * judge->width, (size_t)judge->width * sizeof *rest);
    }
    return n ? clip_of_mean(judge, rest, n, sentence) : 0.0;
}

static int compare(const clip_judge *judge, const float *sentence, eval_set *set, tn_err *err) {
    size_t n = (size_t)set->n;
    float *rest = malloc(n * (size_t)judge->width * sizeof *rest);
    set->cosine = malloc(n * sizeof *set->cosine), set->without = malloc(n * sizeof *set->without);
    int r = rest && set->cosine && set->without ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for %d pictures", set->n);
    for (int i = 0; !r && i < set->n; i++) {
        set->cosine[i] = clip_pairs(judge, set->features + i * judge->width, 1, sentence, 1);
        set->without[i] = of_mean_without(judge, set, i, sentence, rest);
    }
    if (!r) {
        set->mean_of_cosines = stat_mean(set->cosine, set->n);
        set->cosine_of_mean = stat_jackknife(of_mean_without(judge, set, -1, sentence, rest), set->without, set->n);
    }
    free(rest);
    return r;
}

int eval_editability(tn_ctx *c, const clip_judge *judge, const char *text, eval_set *set, tn_err *err) {
    char *without = NULL;
    float *sentence = malloc((size_t)judge->width * sizeof *sentence);
    int r = sentence ? eval_fill(text, "", &without, err) : tn_fail(err, TN_ENOMEM, "out of memory");
    if (!r)
        r = clip_read(c, judge, without, sentence, &set->strange, err) || compare(judge, sentence, set, err) ? -1 : 0;
    free(without), free(sentence);
    return r;
}

int eval_reconstruction(const clip_judge *judge, const float *samples, int n, const float *pictures, int npictures,
                        estimate *out, tn_err *err) {
    double *each = malloc((size_t)n * sizeof *each);
    if (!each) return tn_fail(err, TN_ENOMEM, "out of memory for %d pictures", n);
    for (int i = 0; i < n; i++) each[i] = clip_pairs(judge, samples + i * judge->width, 1, pictures, npictures);
    *out = stat_mean(each, n);
    free(each);
    return 0;
}

typedef struct steps_seen {
    const eval_job *job;
    int64_t pictures;
} steps_seen;

static void on_step(void *arg, int64_t done, int64_t total) {
    const steps_seen *s = arg;
    if (s->job->bar) opt_progress_step(s->job->bar, s->job->done + done * s->pictures * s->job->steps / total, NULL);
}

static int generate(eval_job *job, eval_set *set, tn_err *err) {
    steps_seen seen = {job, set->n};
    gen_request r = {.prompt = set->prompt,
                     .learned = job->learned,
                     .rows = job->rows,
                     .steps = job->steps,
                     .guidance = job->guidance,
                     .seed = job->seed,
                     .count = set->n,
                     .progress = on_step,
                     .arg = &seen};
    if (gen_pictures(job->c, job->model, &r, set->image, err)) return -1;
    job->done += set->n * job->steps;
    return clip_see(job->c, job->judge, set->image, set->n, set->features, err);
}

int eval_make(eval_job *job, const char *text, const char *word, int n, eval_set *out, tn_err *err) {
    *out = (eval_set){.n = n,
                      .image = calloc((size_t)n, sizeof *out->image),
                      .features = malloc((size_t)(n * job->judge->width) * sizeof *out->features)};
    int r = out->image && out->features ? eval_fill(text, word, &out->prompt, err)
                                        : tn_fail(err, TN_ENOMEM, "out of memory for pictures");
    if (!r) r = generate(job, out, err);
    if (!r) r = eval_editability(job->c, job->judge, text, out, err);
    if (r) eval_set_free(out);
    return r;
}

/* ---- one word ---- */

void eval_word_free(eval_word *w) {
    eval_set_free(&w->plain);
    for (int i = 0; i < w->nedit; i++) eval_set_free(&w->edit[i]);
    free(w->edit);
    *w = (eval_word){0};
}

int64_t eval_work(const eval_job *job, int samples, int n, int edit_samples) {
    return (samples + (int64_t)n * edit_samples) * job->steps;
}

/* Sample by sample, each the mean over all prompts. */
static int over_prompts(eval_word *w, int samples, tn_err *err) {
    double *mean = calloc(2 * (size_t)samples, sizeof *mean), *without = mean + samples, whole = 0.0;
    if (!mean) return tn_fail(err, TN_ENOMEM, "out of memory for %d pictures", samples);
    for (int k = 0; k < w->nedit; k++) {
        for (int i = 0; i < samples; i++)
            mean[i] += w->edit[k].cosine[i] / w->nedit, without[i] += w->edit[k].without[i] / w->nedit;
        whole += w->edit[k].cosine_of_mean.value / w->nedit;
    }
    w->mean_of_cosines = stat_mean(mean, samples);
    w->cosine_of_mean = stat_jackknife(whole, without, samples);
    free(mean);
    return 0;
}

static int edit(eval_job *job, const char *word, const char *const *prompts, int n, int samples, eval_word *out,
                tn_err *err) {
    if (!(out->edit = calloc((size_t)n, sizeof *out->edit))) return tn_fail(err, TN_ENOMEM, "out of memory");
    for (; out->nedit < n; out->nedit++) {
        if (eval_make(job, prompts[out->nedit], word, samples, &out->edit[out->nedit], err)) return -1;
    }
    return over_prompts(out, samples, err);
}

int eval_run(eval_job *job, const char *word, const float *pictures, int npictures, int samples,
             const char *const *prompts, int n, int edit_samples, eval_word *out, tn_err *err) {
    *out = (eval_word){0};
    int r = eval_make(job, EVAL_PLAIN, word, samples, &out->plain, err);
    if (!r)
        r = eval_reconstruction(job->judge, out->plain.features, samples, pictures, npictures, &out->reconstruction,
                                err);
    if (!r && n > 0 && edit_samples > 0) r = edit(job, word, prompts, n, edit_samples, out, err);
    if (r) eval_word_free(out);
    return r;
}
