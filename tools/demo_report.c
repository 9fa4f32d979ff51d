/* What `oneword demo` shows. */
#include "tools/demo.h"

#include "nn/image/png.h"
#include "tools/page.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Margins of the verdict: reconstruction to be gained on both baselines, editability that may be lost on the initialiser's. */
static const double GAIN = 0.03, LOSS = 0.15;

bool demo_verdict(const demo *d, char *out, size_t cap) {
    const eval_word *w = d->word;
    double known = w[DEMO_INITIALISER].reconstruction.value, other = w[DEMO_OTHER].reconstruction.value, ours = w[DEMO_LEARNED].reconstruction.value;
    bool near = ours >= known + GAIN && ours >= other + GAIN;
    bool editable = w[DEMO_LEARNED].mean_of_cosines.value >= w[DEMO_INITIALISER].mean_of_cosines.value - LOSS;
    if (near && editable) {
        snprintf(out, cap, "It worked. Pictures of %s resemble the %d pictures it was learned from (%.2f) more than pictures of \"%s\" do "
                 "(%.2f) or those of %s, a word learned for something else (%.2f). And the word still goes where sentences send it: %.2f "
                 "in new scenes and styles, \"%s\" has %.2f.",
                 d->token, d->pics.n, ours, d->initialiser, known, d->called[DEMO_OTHER], other, w[DEMO_LEARNED].mean_of_cosines.value, d->initialiser,
                 w[DEMO_INITIALISER].mean_of_cosines.value);
    } else {
        snprintf(out, cap, "It did not work: pictures of %s %s.", d->token,
                 near ? "no longer follow the rest of the sentence" : "are not clearly nearer to the pictures than those of other words");
    }
    return near && editable;
}

/* ---- series of pictures ---- */

/* Room for the pictures (not copies) and captions of all strips. */
enum { PICTURES = 400, STRIPS = 16 };
typedef struct album {
    nn_image image[PICTURES];
    const char *caption[PICTURES];
    char text[DEMO_SNAPSHOTS][64]; /* captions that had to be written */
    strip strip[STRIPS];
    char title[STRIPS][160];
    int nstrips, n;
} album;

static void begin(album *a, int columns, const char *note) {
    TN_REQUIRE(a->nstrips < STRIPS);
    strip *s = &a->strip[a->nstrips];
    *s = (strip){.title = a->title[a->nstrips], .note = note, .image = a->image + a->n, .caption = a->caption + a->n, .columns = columns};
    a->nstrips++;
}

static void put(album *a, const nn_image *image, const char *caption) {
    TN_REQUIRE(a->n < PICTURES);
    a->image[a->n] = *image, a->caption[a->n] = caption;
    a->n++, a->strip[a->nstrips - 1].n++;
}

static void put_pictures(album *a, const nn_image *images, int n) {
    for (int i = 0; i < n; i++) put(a, &images[i], NULL);
    a->strip[a->nstrips - 1].caption = NULL;
}

/* A column for each snapshot, a row for each of the same few noises. */
static void put_snapshots(const demo *d, album *a, int views) {
    begin(a, DEMO_SNAPSHOTS, "A row for each noise. Before the first step the word means what it starts from; the numbers are the similarity to the pictures.");
    snprintf(a->title[a->nstrips - 1], sizeof *a->title, "\"a photo of a %s\" while the word is learned", d->token);
    for (int i = 0; i < DEMO_SNAPSHOTS; i++) {
        const char *stage = i == 0 ? "before" : i == DEMO_SNAPSHOTS - 1 ? "after " : "step ";
        char step[24] = "";
        if (i > 0) snprintf(step, sizeof step, "%" PRId64, d->at[i]);
        snprintf(a->text[i], sizeof *a->text, "%s%s: %.2f", stage, step, d->similarity[i]);
    }
    for (int v = 0; v < views; v++) {
        for (int i = 0; i < DEMO_SNAPSHOTS; i++) put(a, &d->snapshot[i].image[v], v == views - 1 ? a->text[i] : NULL);
    }
}

/* A column for each prompt from..from+n of a word. */
static void put_edits(const demo *d, album *a, const char *what, const char *note, int word, int from, int n, int views) {
    begin(a, n, note);
    snprintf(a->title[a->nstrips - 1], sizeof *a->title, "%s%s", what, d->called[word]);
    for (int v = 0; v < views; v++) {
        for (int i = 0; i < n; i++) put(a, &d->word[word].edit[from + i].image[v], v == views - 1 ? eval_prompts[from + i].label : NULL);
    }
}

static void put_composed(const demo *d, album *a, int i, const char *note) {
    begin(a, DEMO_VIEWS, note);
    snprintf(a->title[a->nstrips - 1], sizeof *a->title, "\"%s\"", d->composed[i].prompt);
    put_pictures(a, d->composed[i].image, DEMO_VIEWS);
}

/* At most n samples of "a photo of a WORD". */
static void put_plain(const demo *d, album *a, int word, int n, int columns, const char *note) {
    begin(a, columns, note);
    if (n > d->word[word].plain.n) n = d->word[word].plain.n;
    snprintf(a->title[a->nstrips - 1], sizeof *a->title, "\"%s\"", d->word[word].plain.prompt);
    put_pictures(a, d->word[word].plain.image, n);
}

static void put_learned_from(album *a, const pictures *p, const char *word, const char *note) {
    begin(a, p->n < 8 ? p->n : 8, note);
    snprintf(a->title[a->nstrips - 1], sizeof *a->title, "The pictures that %s was learned from", word);
    put_pictures(a, p->image, p->n);
}

/* ---- the two files ---- */

static int output_path(const demo *d, const char *name, char *path, size_t cap, tn_err *err) {
    if (snprintf(path, cap, "%s/%s", d->output, name) < (int)cap) return 0;
    return tn_fail(err, TN_EUSAGE, "--output: the path is too long");
}

static int write_sheet(const demo *d, album *a, tn_err *err) {
    char path[1200], title[160];
    nn_image sheet;
    int few = d->edit_samples < 2 ? d->edit_samples : 2;
    put_learned_from(a, &d->pics, d->token, NULL);
    put_snapshots(d, a, 2);
    put_edits(d, a, "New scenes for ", NULL, DEMO_LEARNED, 0, EVAL_SCENES, few);
    put_edits(d, a, "New styles for ", NULL, DEMO_LEARNED, EVAL_SCENES, EVAL_STYLES, few);
    put_learned_from(a, &d->style, "<" DEMO_STYLE ">, a style,", NULL);
    for (int i = 0; i < DEMO_COMPOSED; i++) put_composed(d, a, i, NULL);
    for (int i = DEMO_INITIALISER; i < DEMO_WORDS; i++) put_plain(d, a, i, 6, 6, NULL);
    snprintf(title, sizeof title, "oneword demo: the word %s", d->token);
    if (output_path(d, "sheet.png", path, sizeof path, err) || sheet_draw(title, a->strip, a->nstrips, 2, &sheet, err)) return -1;
    int r = nn_png_write(path, &sheet, NULL, 0, err);
    nn_image_free(&sheet);
    return r;
}

enum { SETTINGS = 9 };
static void list_settings(const demo *d, page_setting *s) {
    const nn_train_config *c = &d->cfg;
    static const char *const name[SETTINGS] = {"pictures", "model", "placeholder token", "initialiser", "steps", "learning rate", "seed", "time",
                                               "samples"};
    for (int i = 0; i < SETTINGS; i++) s[i].name = name[i];
    snprintf(s[0].value, sizeof s->value, "%d of %" PRId64 "x%" PRId64 ", %.100s", d->pics.n, c->resolution, c->resolution, d->concept_dir);
    snprintf(s[1].value, sizeof s->value, "%.150s", d->model_dir);
    snprintf(s[2].value, sizeof s->value, "%s, %" PRId64 " vector of %" PRId64 " numbers: all that is learned", d->token, c->num_vectors, d->words.w[0].dim);
    snprintf(s[3].value, sizeof s->value, "\"%s\"", d->initialiser);
    snprintf(s[4].value, sizeof s->value, "%" PRId64 " of batch %" PRId64 " x %" PRId64, c->steps, c->batch, c->accumulate);
    snprintf(s[5].value, sizeof s->value, "%s, AdamW (%g, %g), weight decay %g", d->options.learning_rate, c->adam.beta1, c->adam.beta2,
             c->adam.weight_decay);
    snprintf(s[6].value, sizeof s->value, "%" PRId64, d->seed);
    snprintf(s[7].value, sizeof s->value, "%.1f s for the steps", d->seconds);
    snprintf(s[8].value, sizeof s->value, "DDIM, %" PRId64 " steps, guidance 4; picture i of every sentence has the noise of seed + i", d->steps);
}

static void list_scores(const demo *d, page_score *s, char (*name)[96]) {
    static const char *const note[DEMO_WORDS + 1] = {"learned", "the word it started from: a model that was told the kind of thing only",
                                                     "a word learned for something else", "the training pictures among themselves"};
    for (int i = 0; i < DEMO_WORDS; i++) {
        const eval_word *w = &d->word[i];
        snprintf(name[i], sizeof *name, i == DEMO_INITIALISER ? "\"%s\"" : "%s", d->called[i]);
        s[i] = (page_score){name[i], note[i], w->reconstruction.value, w->mean_of_cosines.value, w->cosine_of_mean.value};
    }
    s[DEMO_WORDS] = (page_score){"the pictures", note[DEMO_WORDS], clip_within(&d->judge, d->features, d->pics.n), -1.0, -1.0};
}

static int write_report(const demo *d, album *a, tn_err *err) {
    char path[1200], title[160], lead[400], verdict[600], name[DEMO_WORDS][96];
    page_setting settings[SETTINGS];
    page_score scores[DEMO_WORDS + 1];
    list_settings(d, settings), list_scores(d, scores, name);
    put_learned_from(a, &d->pics, d->token, "The model has never seen this object. No caption tells what it is.");
    put_snapshots(d, a, DEMO_VIEWS);
    int before = a->nstrips, views = d->edit_samples < 4 ? d->edit_samples : 4;
    put_plain(d, a, DEMO_LEARNED, 16, 8, "The samples that reconstruction is measured on.");
    put_edits(d, a, "New scenes for ", "None of the training pictures shows these: the word combines with what the model knows.", DEMO_LEARNED, 0,
              EVAL_SCENES, views);
    put_edits(d, a, "New styles for ", NULL, DEMO_LEARNED, EVAL_SCENES, EVAL_STYLES, views);
    put_learned_from(a, &d->style, "<" DEMO_STYLE ">", "A second word, which stands for a style. It was learned before and lies in testdata/.");
    put_composed(d, a, 0, "Two learned words in one sentence.");
    put_composed(d, a, 1, "A learned word beside a known thing.");
    put_plain(d, a, DEMO_INITIALISER, 8, 8, "For comparison: the word that learning started from.");
    put_edits(d, a, "The same scenes for ", NULL, DEMO_INITIALISER, 0, EVAL_SCENES, 1);
    put_plain(d, a, DEMO_OTHER, 8, 8, "For comparison: a word that was learned for something else.");
    snprintf(title, sizeof title, "oneword: the word %s", d->token);
    snprintf(lead, sizeof lead, "One new vector in the vocabulary of a text-to-image model, found from %d pictures in %" PRId64
             " steps (%.0f s), while the model itself did not change: textual inversion (Gal et al. 2022, arXiv:2208.01618).",
             d->pics.n, d->cfg.steps, d->seconds);
    page r = {.title = title, .lead = lead, .good = demo_verdict(d, verdict, sizeof verdict), .verdict = verdict, .command = d->command,
                .before = a->strip, .nbefore = before, .after = a->strip + before, .nafter = a->nstrips - before, .loss = d->loss,
                .nloss = d->cfg.steps, .at = d->at, .similarity = d->similarity, .npoints = DEMO_SNAPSHOTS, .score = scores,
                .nscores = DEMO_WORDS + 1, .setting = settings, .nsettings = SETTINGS};
    return output_path(d, "report.html", path, sizeof path, err) ? -1 : page_write(path, &r, err);
}

int demo_write(const demo *d, tn_err *err) {
    album few = {0}, all = {0};
    return write_sheet(d, &few, err) || write_report(d, &all, err) ? -1 : 0;
}
