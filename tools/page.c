#include "tools/page.h"

#include "nn/image/png.h"
#include "tensor/io/sys.h"
#include "tools/chart.h"
#include <stdlib.h>

const char page_style[] =
    "<style>\n"
    ":root{color-scheme:light dark;--paper:#fafaf8;--ink:#1e1e22;--soft:#67676f;--line:#dcdcd8;--mark:#c2570c;--good:#1b7f3b;--bad:#b3261e}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#17181a;--ink:#ececea;--soft:#a3a3aa;--line:#37383c;--mark:#f59e52;--good:#5cc97d;--bad:#ff8a80}}\n"
    "body{background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;max-width:1120px;margin:2rem auto;padding:0 1rem}\n"
    "h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2.2rem 0 .2rem}p{margin:.3rem 0 .7rem;max-width:76ch}\n"
    ".soft,figcaption,svg text{color:var(--soft);fill:var(--soft);font-size:12px}\n"
    ".verdict{border-left:5px solid var(--good);padding:.5rem 1rem;font-size:1.05rem}.verdict.bad{border-color:var(--bad)}\n"
    ".strip{display:grid;gap:8px;justify-content:start;overflow-x:auto}figure{margin:0;width:128px}\n"
    "figure img{width:128px;height:auto;display:block;image-rendering:pixelated;border-radius:3px}figcaption{line-height:1.3;margin:3px 0 6px}\n"
    ".charts{display:flex;flex-wrap:wrap;gap:1.5rem}svg{max-width:100%;height:auto}svg path{fill:none}\n"
    ".k0{fill:var(--mark);stroke:var(--mark)}.k1{fill:var(--good);stroke:var(--good)}.k2{fill:#3f6fd1;stroke:#3f6fd1}.k3{fill:var(--soft);stroke:var(--soft)}\n"
    ".holds{color:var(--good)}.fails{color:var(--bad)}.open{color:var(--soft)}\n"
    ".axis{stroke:var(--line)}.level{stroke:var(--soft);stroke-dasharray:5 4}.raw{stroke:var(--soft);opacity:.45;stroke-width:.8}\n"
    ".mean{stroke:var(--mark);stroke-width:2.2}.dot{fill:var(--mark)}\n"
    "table{border-collapse:collapse;margin:.6rem 0}th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}\n"
    "td.n{font-variant-numeric:tabular-nums}pre{background:color-mix(in srgb,var(--ink) 7%,transparent);padding:.7rem 1rem;overflow-x:auto;border-radius:4px}\n"
    "</style>\n";

void page_element(text *t, const char *open, const char *content, const char *close) {
    text_add(t, open);
    text_escape(t, content);
    text_add(t, close);
}

static int put_picture(text *t, const nn_image *image, const char *caption, tn_err *err) {
    unsigned char *png;
    size_t n;
    if (nn_png_encode(image, NULL, 0, &png, &n, err)) return -1;
    text_add(t, "<figure><img alt=\"");
    text_escape(t, caption ? caption : "");
    text_add(t, "\" src=\"data:image/png;base64,");
    text_base64(t, png, n);
    text_add(t, "\">");
    if (caption) page_element(t, "<figcaption>", caption, "</figcaption>");
    text_add(t, "</figure>\n");
    free(png);
    return 0;
}

int page_strips(text *t, const strip *strips, int n, tn_err *err) {
    for (int k = 0; k < n; k++) {
        const strip *s = &strips[k];
        page_element(t, "<h2>", s->title, "</h2>\n");
        if (s->note) page_element(t, "<p>", s->note, "</p>\n");
        text_format(t, "<div class=\"strip\" style=\"grid-template-columns:repeat(%d,128px)\">\n", s->columns);
        for (int i = 0; i < s->n; i++) {
            if (put_picture(t, &s->image[i], s->caption ? s->caption[i] : NULL, err)) return -1;
        }
        text_add(t, "</div>\n");
    }
    return 0;
}

static void put_number(text *t, double x) {
    if (x < 0.0) text_add(t, "<td class=\"n\">&ndash;</td>");
    else text_format(t, "<td class=\"n\">%.3f</td>", x);
}

static void put_scores(text *t, const page *r) {
    text_add(t, "<h2>The numbers</h2>\n<p>Cosines between CLIP's vectors of pictures and sentences; higher is better. Reconstruction: samples of "
                "&ldquo;a photo of a &hellip;&rdquo; against the training pictures, all pairs. Editability: samples of the scenes and styles above "
                "against their sentences with the word left out, as the mean of the cosines (the paper's published code) and as the cosine of the "
                "mean picture (the paper's text).</p>\n"
                "<table><tr><th>word</th><th>reconstruction</th><th>editability (code)</th><th>editability (paper)</th><th></th></tr>\n");
    for (int i = 0; i < r->nscores; i++) {
        const page_score *s = &r->score[i];
        page_element(t, i ? "<tr><td>" : "<tr><td><b>", s->name, i ? "</td>" : "</b></td>");
        put_number(t, s->reconstruction), put_number(t, s->mean_of_cosines), put_number(t, s->cosine_of_mean);
        page_element(t, "<td class=\"soft\">", s->note, "</td></tr>\n");
    }
    text_add(t, "</table>\n");
}

/* The word itself is score[0], where it started score[1], the pictures among themselves the last one. */
static void put_curves(text *t, const page *r) {
    int64_t window = r->nloss / 10 > 0 ? r->nloss / 10 : 1;
    text_add(t, "<h2>Learning</h2>\n<div class=\"charts\"><div><p>How near the samples are to the training pictures (CLIP)</p>\n");
    chart_points(t, r->at, r->similarity, r->npoints, r->score[1].reconstruction, r->score[1].name, r->score[r->nscores - 1].reconstruction,
                 r->score[r->nscores - 1].name);
    text_format(t, "</div><div><p>Loss of every step, and its running mean over %lld</p>\n", (long long)window);
    chart_loss(t, r->loss, r->nloss, window);
    text_add(t, "</div></div>\n<p class=\"soft\">The loss jumps with the amount of noise that a step happens to draw, and falls by a few percent "
                "only: one vector cannot do more. The samples tell what it says little about.</p>\n");
}

void page_begin(text *t, const char *title, const char *lead) {
    text_add(t, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n");
    page_element(t, "<title>", title, "</title>\n");
    text_add(t, page_style);
    page_element(t, "</head><body>\n<h1>", title, "</h1>\n");
    page_element(t, "<p>", lead, "</p>\n");
}

void page_end(text *t) { text_add(t, "</body></html>\n"); }

static int put_page(text *t, const page *r, tn_err *err) {
    page_begin(t, r->title, r->lead);
    page_element(t, r->good ? "<p class=\"verdict\">" : "<p class=\"verdict bad\">", r->verdict, "</p>\n");
    if (page_strips(t, r->before, r->nbefore, err)) return -1;
    put_curves(t, r);
    if (page_strips(t, r->after, r->nafter, err)) return -1;
    put_scores(t, r);
    text_add(t, "<h2>Settings</h2>\n<table>\n");
    for (int i = 0; i < r->nsettings; i++) {
        page_element(t, "<tr><td>", r->setting[i].name, "</td>");
        page_element(t, "<td>", r->setting[i].value, "</td></tr>\n");
    }
    text_add(t, "</table>\n");
    page_element(t, "<p>The same word again:</p>\n<pre>", r->command, "</pre>\n");
    page_end(t);
    return 0;
}

int page_write(const char *path, const page *r, tn_err *err) {
    text t = {0};
    int bad = put_page(&t, r, err);
    if (!bad && t.failed) bad = tn_fail(err, TN_ENOMEM, "out of memory for the report");
    if (!bad) bad = tn_write_atomic(path, t.p, t.n, err);
    text_free(&t);
    return bad;
}
