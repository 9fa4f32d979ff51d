#include "tools/rank.h"

#include "nn/edit/mask.h"
#include "nn/image/preprocess.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the order ---- */

static int compare(const void *a, const void *b) {
    const rank_place *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static double cosine(const rank_place *p, bool image) { return image ? p->image : p->text; }

/* Adds one of the two cosines less its mean, in units of its standard deviation. */
static void add_standardised(rank_place *place, int n, bool image) {
    double sum = 0.0, square = 0.0;
    for (int i = 0; i < n; i++) sum += cosine(&place[i], image);
    for (int i = 0; i < n; i++) {
        double d = cosine(&place[i], image) - sum / n;
        square += d * d;
    }
    double spread = sqrt(square / n);
    for (int i = 0; i < n && spread > 0.0; i++) place[i].score += (cosine(&place[i], image) - sum / n) / spread;
}

void rank_sort(rank_place *place, int n, bool by_text, bool by_image) {
    for (int i = 0; i < n; i++) place[i].score = by_text && by_image ? 0.0 : cosine(&place[i], by_image);
    if (by_text && by_image) {
        add_standardised(place, n, false);
        add_standardised(place, n, true);
    }
    qsort(place, (size_t)n, sizeof *place, compare);
}

/* ---- the cosines ---- */

/* The masked part of a candidate, as large as the judge looks at it. */
static int cut_out(const clip_judge *j, const nn_image *image, const unsigned char *mask, nn_image *out, tn_err *err) {
    nn_image copy;
    if (nn_resize(image, image->width, image->height, NN_NEAREST, &copy, err)) return -1;
    nn_mask_blacken(mask, &copy);
    int bad = nn_training_picture(&copy, j->clip->crop, NN_BICUBIC, false, false, out, err);
    nn_image_free(&copy);
    return bad;
}

static int see_masked(tn_ctx *c, const clip_judge *j, const unsigned char *mask, const nn_image *image, int n,
                      float *features, tn_err *err) {
    nn_image *cut = calloc((size_t)n, sizeof *cut);
    int bad = cut ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the candidates");
    for (int i = 0; !bad && i < n; i++) bad = cut_out(j, &image[i], mask, &cut[i], err);
    if (!bad) bad = clip_see(c, j, cut, n, features, err);
    for (int i = 0; cut && i < n; i++) nn_image_free(&cut[i]);
    free(cut);
    return bad;
}

int rank_pictures(tn_ctx *c, const clip_judge *j, const rank_goal *goal, const nn_image *image, int n, rank_place *place,
                  tn_err *err) {
    float *features = malloc((size_t)(n * j->width) * sizeof *features);
    if (!features) return tn_fail(err, TN_ENOMEM, "out of memory for the candidates");
    int bad = goal->mask ? see_masked(c, j, goal->mask, image, n, features, err) : clip_see(c, j, image, n, features, err);
    for (int i = 0; !bad && i < n; i++) {
        const float *own = features + i * j->width;
        place[i] = (rank_place){.index = i};
        if (goal->text) place[i].text = clip_pairs(j, own, 1, goal->text, 1);
        if (goal->like) place[i].image = clip_pairs(j, own, 1, goal->like, goal->nlike);
    }
    if (!bad) rank_sort(place, n, goal->text, goal->like);
    free(features);
    return bad;
}

int rank_sentence(const char *prompt, const emb_words *words, char **out, tn_err *err) {
    char *s = malloc(strlen(prompt) + 1);
    if (!s) return tn_fail(err, TN_ENOMEM, "out of memory for a prompt");
    strcpy(s, prompt);
    for (int i = 0; i < words->n; i++) {
        size_t len = strlen(words->w[i].token);
        for (char *at = s; (at = strstr(at, words->w[i].token));) memmove(at, at + len, strlen(at + len) + 1);
    }
    if (s[strspn(s, " ")]) {
        *out = s;
        return 0;
    }
    free(s);
    return tn_fail(err, TN_EUSAGE, "\"%s\" is nothing but a learned word, which no CLIP knows: give --rank-text", prompt);
}
