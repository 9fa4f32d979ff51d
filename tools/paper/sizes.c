/* Appendix B: how many pictures a word needs. Likeness is measured against pictures that no word was learned from:
 * those that a word has seen would favour the words that saw few. */
#include "tools/paper/sections.h"

const int paper_sizes[SIZES] = {1, 2, 3, 5, 10, 20};
static const char *const labels[SIZES] = {"1 picture",  "2 pictures",  "3 pictures",
                                          "5 pictures", "10 pictures", "20 pictures"};

static bool enough(const paper *p, int concept) {
    return paper_held_out(p, concept).n > 0 && paper_held_out(p, concept).first >= paper_sizes[SIZES - 1];
}

/* Units of a word from so many pictures, and the score against the held-out ones. */
static setup_units from(paper *p, int count, int concept, int *held_out_score) {
    paper_setup s = {.name = "size", .label = "size", .pictures = count};
    paper_range r = paper_held_out(p, concept);
    setup_units u = measure_units(p, &s, concept);
    *held_out_score = paper_score(p, u.plain, &r, 1, NULL, 0);
    return u;
}

void plan_sizes(paper *p) {
    int score;
    measure_plan(p, &paper_setups[SETUP_ONE]),
        measure_plan(p, &paper_setups[SETUP_INITIALIZER]); /* the claim's margin */
    for (int k = 0; k < SIZES; k++) {
        for (int i = 0; i < p->nobjects; i++) {
            if (enough(p, p->object[i])) from(p, paper_sizes[k], p->object[i], &score);
        }
    }
}

void sizes_measure(paper *p, series out[SIZES]) {
    for (int k = 0; k < SIZES; k++) {
        out[k] = (series){.n = 0};
        for (int i = 0; i < p->nobjects; i++) {
            int score, at = out[k].n;
            if (!enough(p, p->object[i])) continue;
            setup_units u = from(p, paper_sizes[k], p->object[i], &score);
            out[k].reconstruction[at] = measure_set(paper_result(p, score), 0);
            measure_edits(p, &u, &out[k].by_code[at], &out[k].editability[at]);
            out[k].n++;
        }
    }
}

void show_sizes(paper *p, doc *d) {
    static const char *const columns[2] = {"likeness to held-out pictures", "editability (code)"};
    series s[SIZES];
    chart_point point[2 * SIZES];
    sizes_measure(p, s);
    if (!s[0].n) {
        doc_say(d, "None of the objects of this run has pictures to spare.");
        return;
    }
    doc_say(d,
            "Words from 1 to %d pictures of each of %d objects; likeness is the mean cosine of samples to %d further "
            "pictures.",
            paper_sizes[SIZES - 1], s[0].n, PAPER_HELD_OUT);
    doc_table(d, "learned from", columns, 2);
    for (int k = 0; k < SIZES; k++) {
        estimate e[2] = {stat_mean(s[k].reconstruction, s[k].n), stat_mean(s[k].by_code, s[k].n)};
        estimate x = {.value = paper_sizes[k], .lo = paper_sizes[k], .hi = paper_sizes[k]};
        doc_row(d, labels[k], e);
        point[k] = (chart_point){columns[0], x, e[0], 0}, point[SIZES + k] = (chart_point){columns[1], x, e[1], 2};
    }
    doc_table_end(d);
    size_t start = d->html.n;
    chart_lines(&d->html, point, 2 * SIZES, "pictures", "mean CLIP cosine");
    doc_figure(d, start);
    doc_strip(d, "The same noise, words from 1, 2, 3, 5, 10 and 20 pictures",
              "A row an object, first one of its pictures.", SIZES + 1);
    for (int i = 0; i < p->nobjects && i < 4; i++) {
        int score;
        if (!enough(p, p->object[i])) continue;
        doc_pictures(d, (paper_range){p->object[i], 0, 1}, p->concept[p->object[i]].token);
        for (int k = 0; k < SIZES; k++)
            doc_samples(d, from(p, paper_sizes[k], p->object[i], &score).plain, 0, 1, labels[k]);
    }
    doc_strip_end(d);
}
