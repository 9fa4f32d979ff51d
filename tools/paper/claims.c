/* What the paper claims, and whether it holds here: decided by intervals of the data, never by hand.
 *
 * A claim of an order holds where the 95 % interval of the paired difference lies on its side of zero, fails where it
 * lies on the other, and is undecided in between. A claim that two things are alike has a margin: a quarter of what
 * learning gains over the coarse word that it starts from. */
#include "tools/paper/sections.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const verdict_names[3] = {"holds", "does not hold", "undecided"};

/* ---- single decisions ---- */

static verdict above(estimate difference, double level) {
    return difference.lo > level ? CLAIM_HOLDS : difference.hi < level ? CLAIM_FAILS : CLAIM_UNDECIDED;
}
static verdict below(estimate difference, double level) {
    return difference.hi < level ? CLAIM_HOLDS : difference.lo > level ? CLAIM_FAILS : CLAIM_UNDECIDED;
}
static verdict alike(estimate difference, double margin) {
    if (difference.lo > -margin && difference.hi < margin) return CLAIM_HOLDS;
    return difference.hi < -margin || difference.lo > margin ? CLAIM_FAILS : CLAIM_UNDECIDED;
}
static verdict both(verdict a, verdict b) {
    if (a == CLAIM_FAILS || b == CLAIM_FAILS) return CLAIM_FAILS;
    return a == CLAIM_HOLDS && b == CLAIM_HOLDS ? CLAIM_HOLDS : CLAIM_UNDECIDED;
}

/* Appends "WHAT 0.012 [0.001, 0.023]; " */
static void say(char *out, size_t cap, const char *what, estimate e) {
    size_t n = strlen(out);
    if (isfinite(e.lo)) snprintf(out + n, cap - n, "%s%s %.3f [%.3f, %.3f]", n ? "; " : "", what, e.value, e.lo, e.hi);
    else snprintf(out + n, cap - n, "%s%s %.3f (one observation: no interval)", n ? "; " : "", what, e.value);
}

static series of(paper *p, int setup) {
    series s;
    measure_setup(p, &paper_setups[setup], &s);
    return s;
}

static double margin(paper *p) {
    series one = of(p, SETUP_ONE), start = of(p, SETUP_INITIALIZER);
    return 0.25 * fabs(stat_difference(one.reconstruction, start.reconstruction, one.n).value);
}

static estimate likeness(const series *a, const series *b) {
    return stat_difference(a->reconstruction, b->reconstruction, a->n);
}
static estimate obedience(const series *a, const series *b) { return stat_difference(a->by_code, b->by_code, a->n); }

/* ---- claims of section 5.3 ---- */

static verdict learns(paper *p, char *t, size_t cap) {
    series one = of(p, SETUP_ONE), start = of(p, SETUP_INITIALIZER);
    say(t, cap, "reconstruction, learned - initialiser word:", likeness(&one, &start));
    return above(likeness(&one, &start), 0.0);
}

static verdict single_word_reconstructs(paper *p, char *t, size_t cap) {
    series one = of(p, SETUP_ONE), two = of(p, SETUP_TWO), three = of(p, SETUP_THREE);
    double m = margin(p);
    say(t, cap, "reconstruction, two - one:", likeness(&two, &one)),
        say(t, cap, "three - one:", likeness(&three, &one));
    size_t n = strlen(t);
    snprintf(t + n, cap - n, "; margin %.3f", m);
    return both(alike(likeness(&two, &one), m), alike(likeness(&three, &one), m));
}

static verdict single_word_edits(paper *p, char *t, size_t cap) {
    series one = of(p, SETUP_ONE), two = of(p, SETUP_TWO), three = of(p, SETUP_THREE);
    say(t, cap, "editability, one - two:", obedience(&one, &two)), say(t, cap, "one - three:", obedience(&one, &three));
    return both(above(obedience(&one, &two), 0.0), above(obedience(&one, &three), 0.0));
}

/* Kendall's tau of each object's scores over the rates: 1 where each step up raises them. */
static verdict rate_trades(paper *p, char *t, size_t cap) {
    series s[RATES];
    double rate[RATES], up[PAPER_CONCEPTS], down[PAPER_CONCEPTS];
    for (int k = 0; k < RATES; k++) s[k] = of(p, paper_rates[k]), rate[k] = k;
    for (int i = 0; i < s[0].n; i++) {
        double y[RATES], z[RATES];
        for (int k = 0; k < RATES; k++) y[k] = s[k].reconstruction[i], z[k] = s[k].by_code[i];
        up[i] = stat_kendall(rate, y, RATES), down[i] = stat_kendall(rate, z, RATES);
    }
    estimate a = stat_mean(up, s[0].n), b = stat_mean(down, s[0].n);
    say(t, cap, "Kendall's tau with the rate, of reconstruction:", a), say(t, cap, "of editability:", b);
    return both(above(a, 0.0), below(b, 0.0));
}

static verdict captions_fall_behind(paper *p, char *t, size_t cap) {
    series one = of(p, SETUP_ONE), brief = of(p, SETUP_BRIEF), caption = of(p, SETUP_CAPTION);
    say(t, cap, "reconstruction, learned - short caption:", likeness(&one, &brief));
    say(t, cap, "learned - long caption:", likeness(&one, &caption));
    return both(above(likeness(&one, &brief), 0.0), above(likeness(&one, &caption), 0.0));
}

static verdict long_captions_disobey(paper *p, char *t, size_t cap) {
    series one = of(p, SETUP_ONE), brief = of(p, SETUP_BRIEF), caption = of(p, SETUP_CAPTION);
    say(t, cap, "editability, learned - long caption:", obedience(&one, &caption));
    say(t, cap, "short - long caption:", obedience(&brief, &caption));
    return both(above(obedience(&one, &caption), 0.0), above(obedience(&brief, &caption), 0.0));
}

/* The pictures have the best likeness, the bare prompt the best editability; of the others the nearest is what decides.
 */
static verdict references_bracket(paper *p, char *t, size_t cap) {
    series images, none = of(p, SETUP_NONE);
    estimate nearest[2] = {{.value = INFINITY}, {.value = INFINITY}};
    const char *name[2] = {"", ""};
    char what[120];
    verdict v = CLAIM_HOLDS;
    measure_pictures(p, &images);
    for (int i = 0; i < SETUPS; i++) {
        if (paper_setups[i].source != WORD_LEARNED) continue;
        series s = of(p, i);
        estimate d[2] = {likeness(&images, &s), obedience(&none, &s)};
        for (int k = 0; k < 2; k++) {
            v = both(v, above(d[k], 0.0));
            if (d[k].value < nearest[k].value) nearest[k] = d[k], name[k] = paper_setups[i].label;
        }
    }
    snprintf(what, sizeof what, "reconstruction, pictures - best setup (%s):", name[0]), say(t, cap, what, nearest[0]);
    snprintf(what, sizeof what, "editability, bare prompt - best setup (%s):", name[1]), say(t, cap, what, nearest[1]);
    return v;
}

/* ---- claims of the other sections ---- */

static verdict few_pictures_suffice(paper *p, char *t, size_t cap) {
    series s[SIZES];
    double m = margin(p);
    sizes_measure(p, s);
    if (!s[0].n) {
        snprintf(t, cap, "no pictures to spare in this run");
        return CLAIM_UNDECIDED;
    }
    estimate more = likeness(&s[SIZES - 1], &s[3]), fewer = likeness(&s[3], &s[0]);
    say(t, cap, "likeness, 20 - 5 pictures:", more), say(t, cap, "5 - 1 pictures:", fewer);
    size_t n = strlen(t);
    snprintf(t + n, cap - n, "; margin %.3f", m);
    return below(more, m);
}

static verdict bias_is_there(paper *p, char *t, size_t cap) {
    estimate before, after;
    bias_measure(p, &before, &after);
    say(t, cap, "share of red chefs:", before);
    return above(before, 0.5);
}

static verdict word_is_fairer(paper *p, char *t, size_t cap) {
    estimate before, after;
    bias_measure(p, &before, &after);
    estimate d = stat_share_difference(before, after);
    say(t, cap, "share of red chefs, before:", before), say(t, cap, "after:", after), say(t, cap, "difference:", d);
    return above(d, 0.0);
}

static verdict object_in_style_works(paper *p, char *t, size_t cap) {
    compositions c;
    compositions_measure(p, &c);
    say(t, cap, "share with the right object and the right style:", c.in_style);
    return above(c.in_style, 0.5);
}

static verdict two_objects_fail(paper *p, char *t, size_t cap) {
    compositions c;
    compositions_measure(p, &c);
    estimate d = stat_share_difference(c.in_style, c.apart);
    say(t, cap, "share that shows both, object in style:", c.in_style), say(t, cap, "two objects:", c.apart);
    say(t, cap, "difference:", d), say(t, cap, "two words learned together:", c.together);
    say(t, cap, "two long captions:", c.described);
    return above(d, 0.0);
}

/* What begins with a picture of the object can have its likeness for nothing, or the sentence, but hardly both: it
 * falls behind where the word is better in one of the two, and not where it is worse in both. */
static verdict behind(const series *word, const series *other, char *t, size_t cap) {
    estimate a = likeness(word, other), b = obedience(word, other);
    say(t, cap, "learned word - baseline, likeness:", a), say(t, cap, "obedience:", b);
    if (a.lo > 0.0 || b.lo > 0.0) return CLAIM_HOLDS;
    return a.hi < 0.0 && b.hi < 0.0 ? CLAIM_FAILS : CLAIM_UNDECIDED;
}

static verdict guided_falls_behind(paper *p, char *t, size_t cap) {
    baselines b;
    baselines_measure(p, &b);
    return behind(&b.word, &b.guided, t, cap);
}

static verdict latent_falls_behind(paper *p, char *t, size_t cap) {
    baselines b;
    baselines_measure(p, &b);
    return behind(&b.word, &b.latent, t, cap);
}

static verdict palavra_falls_behind(paper *p, char *t, size_t cap) {
    series one = of(p, SETUP_ONE), clip = of(p, SETUP_PALAVRA);
    return behind(&one, &clip, t, cap);
}

static verdict guidance_breaks_inversion(paper *p, char *t, size_t cap) {
    series plain, guided;
    inversion_measure(p, &plain, &guided);
    estimate d = likeness(&plain, &guided);
    say(t, cap, "PSNR of the round trip in dB, guidance 1:", stat_mean(plain.reconstruction, plain.n));
    say(t, cap, "guidance 4 and 7.5:", stat_mean(guided.reconstruction, guided.n)), say(t, cap, "difference:", d);
    return above(d, 0.0);
}

const paper_claim paper_claims[] = {
    {"5.3", "A learned word is nearer to the pictures than the word it started from", learns,
     "The word was not learned: too few steps."},
    {"5.3", "One vector reconstructs about as well as two or three", single_word_reconstructs,
     "More vectors have more room, and the objects of this world differ in few ways: what a second vector adds is "
     "seen."},
    {"5.3", "One vector is more editable than two or three", single_word_edits,
     "The text encoder of this world is trained together with the denoiser, on sentences with many adjectives: a "
     "second vector reads like one more adjective, and leaves the rest of the sentence as legible as before."},
    {"5.3", "The learning rate trades editability for reconstruction, monotonically", rate_trades,
     "The highest rate overshoots: steps so large no longer settle where the loss is least, so the vector moves away "
     "from the words without coming nearer to the pictures."},
    {"5.3", "Human captions fall behind a learned word in likeness", captions_fall_behind,
     "The model was trained on captions that name every attribute a person would name, so a sentence says nearly all "
     "there is to say of an object here; only two parameters of its shape, and colours without a name, have no word."},
    {"5.3", "Long captions are the least editable", long_captions_disobey,
     "Captions of up to 25 words are what this text encoder was trained on; the model does not lose the rest of the "
     "sentence behind them."},
    {"5.3", "The references bracket all setups: pictures in likeness, the bare prompt in editability",
     references_bracket,
     "The bare prompt lets the model draw any object, some of which hide the scene or lie outside what the judge "
     "knows; and a word that is overfitted to its pictures can be nearer to their mean than they are to each other."},
    {"5.3", "A word tuned in CLIP's space alone (PALAVRA) falls behind, in likeness or in obedience",
     palavra_falls_behind,
     "The judge's space is the one that the word was tuned in, and it hardly sees shapes (5.1): the pictures show "
     "other things than the object, in its colours."},
    {"4.2b", "CLIP-guided diffusion falls behind, in likeness or in obedience", guided_falls_behind,
     "CLIP judges what it has itself guided."},
    {"4.2b", "A latent optimised by CLIP (VQGAN-CLIP) falls behind, in likeness or in obedience", latent_falls_behind,
     "CLIP judges what it has itself optimised: the cosine to the sentence is high, the pictures are full of what only "
     "CLIP sees."},
    {"A", "Guidance breaks DDIM inversion", guidance_breaks_inversion,
     "The prediction of a small model on small pictures changes slowly enough along the way."},
    {"B", "More than about five pictures buy little", few_pictures_suffice,
     "Further pictures show the object on further backgrounds, so that less of the background is learned as part of "
     "the word."},
    {"4.4", "A learned object in a learned style works", object_in_style_works,
     "The judge tells objects apart poorly even on true pictures (5.1), and a style hides the colours by which it does: "
     "the sheet of the section shows more than the share."},
    {"4.4", "Two learned objects side by side fail more often than an object in a style", two_objects_fail,
     "The model was trained on pairs of objects in a fifth of its pictures, so that it places two words side by side "
     "that it never saw together; the paper's model had far fewer such captions. And a style hides the colours by which an "
     "object is told from others, which two objects side by side keep."},
    {"4.5", "\"A photo of a chef\" is biased", bias_is_there, "The judge calls other colours red."},
    {"4.5", "The word learned from a small varied set is less so", word_is_fairer,
     "The word stayed near the one it started from."},
};
const int paper_nclaims = sizeof paper_claims / sizeof *paper_claims;
