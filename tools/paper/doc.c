#include "tools/paper/doc.h"

#include "nn/image/png.h"
#include "tensor/io/sys.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void keep(doc *d, int failed) { d->failed = d->failed || failed; }

void doc_section(doc *d, const char *id, const char *title, const char *says) {
    d->section = id;
    text_format(&d->html, "<hr id=\"s%s\">\n<h1>", id);
    text_escape(&d->html, id), text_add(&d->html, " &middot; "), text_escape(&d->html, title);
    text_add(&d->html, "</h1>\n");
    page_element(&d->html, "<p class=\"soft\" style=\"font-size:15px\">The paper: ", says, "</p>\n");
}

void doc_section_end(doc *d) {
    char path[4096], title[200];
    nn_image sheet;
    if (!d->failed && d->nstrips) {
        snprintf(title, sizeof title, "Section %s", d->section);
        snprintf(path, sizeof path, "%.3900s/sheet-%.20s.png", d->p->output, d->section);
        keep(d, sheet_draw(title, d->strip, d->nstrips, 2, &sheet, &d->err));
        if (!d->failed) {
            keep(d, nn_png_write(path, &sheet, NULL, 0, &d->err));
            nn_image_free(&sheet);
        }
    }
    for (int i = 0; i < d->nimages; i++) nn_image_free(&d->image[i]);
    d->nimages = d->nstrips = 0;
}

void doc_say(doc *d, const char *fmt, ...) {
    char line[2000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    page_element(&d->html, "<p>", line, "</p>\n");
}

/* ---- tables ---- */

void doc_table(doc *d, const char *name, const char *const *columns, int n) {
    TN_REQUIRE(n <= DOC_COLUMNS);
    d->table = name, d->ncolumns = n;
    page_element(&d->html, "<table><tr><th>", name, "</th>");
    for (int i = 0; i < n; i++) page_element(&d->html, "<th>", d->column[i] = columns[i], "</th>");
    text_add(&d->html, "</tr>\n");
}

void doc_row(doc *d, const char *label, const estimate *e) {
    page_element(&d->html, "<tr><td>", label, "</td>");
    for (int i = 0; i < d->ncolumns; i++) {
        if (isnan(e[i].value)) {
            text_add(&d->html, "<td class=\"n\">&ndash;</td>");
            continue;
        }
        text_format(&d->html, "<td class=\"n\">%.3f", e[i].value);
        if (isfinite(e[i].lo)) text_format(&d->html, " <span class=\"soft\">[%.3f, %.3f]</span>", e[i].lo, e[i].hi);
        text_add(&d->html, "</td>");
        tn_jw_open(&d->json, NULL, '{');
        tn_jw_string(&d->json, "section", d->section), tn_jw_string(&d->json, "table", d->table);
        tn_jw_string(&d->json, "row", label), tn_jw_string(&d->json, "column", d->column[i]);
        tn_jw_number(&d->json, "value", e[i].value), tn_jw_number(&d->json, "lo", e[i].lo),
            tn_jw_number(&d->json, "hi", e[i].hi);
        tn_jw_int(&d->json, "n", e[i].n);
        tn_jw_close(&d->json, '}');
    }
    text_add(&d->html, "</tr>\n");
}

void doc_table_end(doc *d) { text_add(&d->html, "</table>\n"); }

void doc_figure(doc *d, size_t from) {
    static const char open[] = "<svg ";
    char path[4096];
    text file = {0};
    if (d->failed || d->html.failed) return;
    const char *chart = d->html.p + from, *content = strchr(chart, '\n');
    TN_REQUIRE(strncmp(chart, open, sizeof open - 1) == 0 && content);
    text_add(&file, "<svg xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" ");
    text_format(&file, "%.*s\n", (int)(content - chart) - (int)sizeof open + 1, chart + sizeof open - 1);
    text_add(&file, page_style), text_add(&file, content + 1);
    snprintf(path, sizeof path, "%.3900s/figure-%.20s.svg", d->p->output, d->section);
    keep(d, file.failed ? tn_fail(&d->err, TN_ENOMEM, "%s: out of memory", path)
                        : tn_write_atomic(path, file.p, file.n, &d->err));
    text_free(&file);
}

/* ---- pictures ---- */

void doc_strip(doc *d, const char *title, const char *note, int columns) {
    TN_REQUIRE(d->nstrips < DOC_STRIPS);
    strip *s = &d->strip[d->nstrips++];
    *s = (strip){.title = title,
                 .note = note,
                 .image = d->image + d->nimages,
                 .caption = d->caption + d->nimages,
                 .columns = columns};
}

/* Takes the picture over. */
static void put(doc *d, nn_image image, const char *caption) {
    TN_REQUIRE(d->nimages < DOC_PICTURES);
    d->image[d->nimages] = image, d->caption[d->nimages++] = caption;
    d->strip[d->nstrips - 1].n++;
}

void doc_samples(doc *d, int number, int from, int n, const char *caption) {
    nn_image *image;
    int all;
    if (!d->failed) keep(d, paper_load_samples(d->p, number, &image, &all, &d->err));
    if (d->failed) return;
    for (int i = 0; i < all; i++) {
        if (i >= from && i < from + n) put(d, image[i], i == from ? caption : NULL);
        else nn_image_free(&image[i]);
    }
    free(image);
}

void doc_pictures(doc *d, paper_range r, const char *caption) {
    for (int i = 0; i < r.n && !d->failed; i++) {
        const nn_image *from = paper_picture(d->p, r.concept, r.first + i);
        nn_image copy;
        keep(d, nn_image_alloc(from->width, from->height, &copy, &d->err));
        if (d->failed) return;
        memcpy(copy.rgb, from->rgb, (size_t)(3 * from->width * from->height));
        put(d, copy, i ? NULL : caption);
    }
}

void doc_strip_end(doc *d) {
    strip *s = &d->strip[d->nstrips - 1];
    if (d->failed) return;
    if (!s->n) d->nstrips--;
    else keep(d, page_strips(&d->html, s, 1, &d->err));
}
