#include "tools/paper/run.h"

#include "tensor/io/sys.h"
#include <stdio.h>
#include <string.h>

int paper_plan(paper *p, tn_err *err) {
    for (int i = 0; i < paper_nsections; i++) {
        p->section = paper_sections[i].id;
        if (p->selected[i]) paper_sections[i].plan(p);
    }
    if (p->failed) *err = p->err;
    return p->failed ? -1 : 0;
}

/* Marks the units of this shard that are missing and, backwards, the missing ones that they are made from. */
static int want(paper *p) {
    int n = 0;
    for (int i = p->plan.n - 1; i >= 0; i--) {
        unit *u = &p->plan.unit[i];
        if (unit_done(p, u)) u->wanted = false;
        else u->wanted = u->wanted || unit_in_shard(u, p->shard, p->shards);
        for (int k = 0; u->wanted && k < u->ninputs; k++) p->plan.unit[u->input[k]].wanted = true;
        n += u->wanted;
    }
    return n;
}

int paper_missing(const paper *p) {
    int n = 0;
    for (int i = 0; i < p->plan.n; i++) n += !unit_done(p, &p->plan.unit[i]);
    return n;
}

/* ---- the plan ---- */

static int probe_step(paper *p, tn_err *err) {
    nn_train_config cfg = {.placeholder = {"<probe>"},
                           .nplaceholders = 1,
                           .num_vectors = 1,
                           .resolution = gen_native_size(p->model),
                           .batch = 1,
                           .accumulate = 1,
                           .steps = 8,
                           .lr = {.base = 1e-2},
                           .adam = {0.9, 0.999, 1e-8, 1e-2}};
    nn_train *t;
    nn_train_step step;
    if (nn_train_open(&p->c, p->model, &cfg, &p->object_templates, paper_picture(p, 0, 0), 1, NULL, NULL, &t, err))
        return -1;
    int r = nn_train_advance(t, &p->c, &step, err);
    double start = tn_clock();
    for (int i = 0; !r && i < 4; i++) r = nn_train_advance(t, &p->c, &step, err);
    p->step_seconds = (tn_clock() - start) / 4.0;
    nn_train_free(t);
    nn_tokenizer_take_back(p->model->tokenizer, p->vocabulary);
    return r;
}

static int probe_sample(paper *p, tn_err *err) {
    enum { N = 2, STEPS = 5 };
    nn_image image[N];
    gen_request q = {.prompt = "a photo", .steps = STEPS, .guidance = 4.0, .count = N};
    double start = tn_clock();
    if (gen_pictures(&p->c, p->model, &q, image, err)) return -1;
    p->sample_seconds = (tn_clock() - start) / (N * STEPS);
    for (int i = 0; i < N; i++) nn_image_free(&image[i]);
    return 0;
}

int paper_probe(paper *p, tn_err *err) {
    if (want(p) == 0) return 0;
    return probe_step(p, err) || probe_sample(p, err) ? -1 : 0;
}

static double seconds_of(const paper *p, const unit *u) {
    return (double)u->training * p->step_seconds + (double)u->sampling * p->sample_seconds + 0.01;
}

static void tell_time(const paper *p, double seconds) {
    if (seconds < 100.0) opt_note(&p->common, "about %.0f s on this machine with %d threads", seconds, p->c.threads);
    else if (seconds < 6000.0)
        opt_note(&p->common, "about %.0f minutes on this machine with %d threads", seconds / 60.0, p->c.threads);
    else opt_note(&p->common, "about %.1f hours on this machine with %d threads", seconds / 3600.0, p->c.threads);
}

void paper_tell(const paper *p) {
    double seconds = 0.0;
    opt_note(&p->common, "section   units  to make   seconds");
    for (int i = 0; i < paper_nsections; i++) {
        int n = 0, wanted = 0;
        double s = 0.0;
        for (int k = 0; k < p->plan.n && p->selected[i]; k++) {
            const unit *u = &p->plan.unit[k];
            if (strcmp(u->section, paper_sections[i].id)) continue;
            n++, wanted += u->wanted, s += u->wanted ? seconds_of(p, u) : 0.0;
        }
        if (p->selected[i])
            opt_note(&p->common, "%-7s %7d %8d %9.0f  %s", paper_sections[i].id, n, wanted, s, paper_sections[i].title);
        seconds += s;
    }
    if (p->shards > 1) opt_note(&p->common, "shard %lld of %lld", (long long)p->shard + 1, (long long)p->shards);
    tell_time(p, seconds);
}

/* ---- making ---- */

int paper_make(paper *p, tn_err *err) {
    char path[4096];
    opt_progress bar;
    double total = 0.0, done = 0.0;
    int n = want(p);
    for (int i = 0; i < p->plan.n; i++) total += p->plan.unit[i].wanted ? seconds_of(p, &p->plan.unit[i]) : 0.0;
    snprintf(path, sizeof path, "%.3900s/units", p->output);
    if (tn_make_dirs(path, err) || paper_store_settings(p, err)) return -1;
    if (n == 0) return 0;
    opt_progress_start(&bar, &p->common, "Seconds of the plan", (int64_t)total + 1, 0);
    for (int i = 0; i < p->plan.n; i++) {
        const unit *u = &p->plan.unit[i];
        if (!u->wanted) continue;
        /* another process may have made it meanwhile */
        if (!unit_done(p, u) && u->kind->make(p, u, unit_path(p, u, path), err)) {
            return tn_fail_in(err, "section %s, %s %.8s", u->section, u->kind->name, u->key);
        }
        opt_progress_step(&bar, (int64_t)(done += seconds_of(p, u)), u->section);
    }
    opt_progress_end(&bar);
    return 0;
}
