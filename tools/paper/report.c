#include "tools/paper/run.h"

#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct outcome {
    verdict v;
    char figures[700];
} outcome;

static bool asked(const paper *p, const paper_claim *c) {
    for (int i = 0; i < paper_nsections; i++) {
        if (strcmp(paper_sections[i].id, c->section) == 0) return p->selected[i];
    }
    return false;
}

static int load_results(paper *p, tn_err *err) {
    char path[4096];
    for (int i = 0; i < p->plan.n; i++) {
        unit *u = &p->plan.unit[i];
        if (u->kind->load && !u->result && u->kind->load(p, u, unit_path(p, u, path), err)) return -1;
    }
    return 0;
}

/* ---- claims ---- */

static void put_claims(const paper *p, const outcome *o, text *t) {
    static const char *const css[3] = {"holds", "fails", "open"};
    text_add(t, "<h2>Claims</h2>\n<p>Decided by the data of this run. Intervals are of 95 %, over objects or over "
                "samples as the sections say.</p>\n"
                "<table><tr><th></th><th>the paper's claim</th><th>here</th><th>figures</th></tr>\n");
    for (int i = 0; i < paper_nclaims; i++) {
        const paper_claim *c = &paper_claims[i];
        if (!asked(p, c)) continue;
        text_format(t, "<tr><td><a href=\"#s%s\">%s</a></td><td>", c->section, c->section);
        text_escape(t, c->text);
        text_format(t, "</td><td class=\"%s\"><b>%s</b></td><td class=\"soft\">", css[o[i].v], verdict_names[o[i].v]);
        text_escape(t, o[i].figures);
        if (o[i].v == CLAIM_FAILS) page_element(t, "<br>Perhaps because: ", c->why, "");
        if (o[i].v == CLAIM_UNDECIDED) page_element(t, "<br>What may stand against it: ", c->why, "");
        text_add(t, "</td></tr>\n");
    }
    text_add(t, "</table>\n");
}

static void tell_claims(const paper *p, const outcome *o) {
    for (int i = 0; i < paper_nclaims; i++) {
        if (asked(p, &paper_claims[i]))
            printf("%-13s  %s  (%s)\n", verdict_names[o[i].v], paper_claims[i].text, o[i].figures);
    }
}

static void claims_json(const paper *p, const outcome *o, tn_jw *w) {
    tn_jw_open(w, "claims", '[');
    for (int i = 0; i < paper_nclaims; i++) {
        if (!asked(p, &paper_claims[i])) continue;
        tn_jw_open(w, NULL, '{');
        tn_jw_string(w, "section", paper_claims[i].section), tn_jw_string(w, "claim", paper_claims[i].text);
        tn_jw_string(w, "here", verdict_names[o[i].v]), tn_jw_string(w, "figures", o[i].figures);
        tn_jw_close(w, '}');
    }
    tn_jw_close(w, ']');
}

/* ---- results.json ---- */

/* Every unit: its recipe, and for scores the numbers. Both are JSON already. */
static int put_units(const paper *p, text *t, tn_err *err) {
    char path[4096], *content;
    size_t n;
    text_add(t, "\"units\":{");
    for (int i = 0; i < p->plan.n; i++) {
        const unit *u = &p->plan.unit[i];
        text_format(t, "%s\n\"%s\":{\"recipe\":", i ? "," : "", u->key);
        text_add(t, u->recipe);
        if (u->kind->load) {
            if (tn_read_file(unit_path(p, u, path), 1 << 24, &content, &n, err)) return -1;
            text_add(t, ",\"result\":"), text_add(t, content);
            free(content);
        }
        text_add(t, "}");
    }
    text_add(t, "}");
    return 0;
}

static int write_results(const paper *p, const outcome *o, doc *d, tn_err *err) {
    char path[4096];
    text t = {0};
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_int(&w, "v", 1), tn_jw_string(&w, "arithmetic", p->arithmetic),
        tn_jw_string(&w, "model_sha256", p->model_sha);
    tn_jw_string(&w, "clip_sha256", p->clip_sha), tn_jw_int(&w, "objects", p->nobjects),
        tn_jw_int(&w, "styles", p->nstyles);
    tn_jw_int(&w, "train_steps", p->size.train_steps), tn_jw_int(&w, "samples", p->size.samples);
    tn_jw_int(&w, "sentences", p->size.sentences), tn_jw_int(&w, "edit_samples", p->size.edit_samples),
        tn_jw_int(&w, "steps", p->size.steps), tn_jw_int(&w, "seed", p->size.seed);
    claims_json(p, o, &w);
    tn_jw_close(&w, '}');
    tn_jw_close(&d->json, ']');
    char *head = tn_jw_take(&w), *measures = tn_jw_take(&d->json);
    if (head && measures) {
        head[strlen(head) - 1] = '\0'; /* goes on below */
        text_add(&t, head), text_add(&t, ",\n\"measures\":"), text_add(&t, measures), text_add(&t, ",\n");
    }
    int r = head && measures ? put_units(p, &t, err) : tn_fail(err, TN_ENOMEM, "out of memory for the results");
    text_add(&t, "}\n");
    if (!r && t.failed) r = tn_fail(err, TN_ENOMEM, "out of memory for the results");
    snprintf(path, sizeof path, "%.3900s/results.json", p->output);
    if (!r) r = tn_write_atomic(path, t.p, t.n, err);
    free(head), free(measures);
    text_free(&t);
    return r;
}

/* ---- the report ---- */

static void put_settings(const paper *p, doc *d) {
    doc_say(d,
            "Run of %d objects and %d styles; words of %lld steps; %lld samples of \"a photo of a WORD\" and %lld of "
            "each of %lld sentences, DDIM of %lld steps with guidance 4; seed %lld. Model %.16s, arithmetic %.16s.",
            p->nobjects, p->nstyles, (long long)p->size.train_steps, (long long)p->size.samples,
            (long long)p->size.edit_samples, (long long)p->size.sentences, (long long)p->size.steps,
            (long long)p->size.seed, p->model_sha, p->arithmetic);
    doc_say(d, "All numbers, and the settings behind each: results.json beside this file.");
}

static int write_report(paper *p, const outcome *o, doc *d, tn_err *err) {
    char path[4096];
    page_begin(
        &d->html, "Textual inversion, experiment by experiment",
        "The experiments of \"An Image is Worth One Word\" (Gal et al. 2022, arXiv:2208.01618) on a small world of "
        "drawn things, whose models were trained for this project: pictures of 64 x 64, a latent diffusion model, a "
        "CLIP that judges.");
    put_claims(p, o, &d->html);
    for (int i = 0; i < paper_nsections; i++) {
        if (!p->selected[i]) continue;
        doc_section(d, paper_sections[i].id, paper_sections[i].title, paper_sections[i].says);
        paper_sections[i].show(p, d);
        doc_section_end(d);
    }
    put_settings(p, d);
    page_end(&d->html);
    if (p->failed) return *err = p->err, -1;
    if (d->failed) return *err = d->err, -1;
    if (d->html.failed) return tn_fail(err, TN_ENOMEM, "out of memory for the report");
    snprintf(path, sizeof path, "%.3900s/report.html", p->output);
    return tn_write_atomic(path, d->html.p, d->html.n, err);
}

int paper_report(paper *p, tn_err *err) {
    doc *d = calloc(1, sizeof *d);
    outcome *o = calloc((size_t)paper_nclaims, sizeof *o);
    int r = d && o ? load_results(p, err) : tn_fail(err, TN_ENOMEM, "out of memory for the report");
    for (int i = 0; !r && i < paper_nclaims; i++) {
        if (asked(p, &paper_claims[i])) o[i].v = paper_claims[i].judge(p, o[i].figures, sizeof o[i].figures);
    }
    if (!r) {
        d->p = p;
        tn_jw_init(&d->json, 0);
        tn_jw_open(&d->json, NULL, '[');
        r = write_report(p, o, d, err) || write_results(p, o, d, err) ? -1 : 0;
        text_free(&d->html);
    }
    if (!r) tell_claims(p, o);
    free(d), free(o);
    return r;
}
