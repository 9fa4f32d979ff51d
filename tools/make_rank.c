#include "tools/make_job.h"
#include "tools/pictures.h"

#include <stdlib.h>
#include <string.h>

int make_settle_rank(make_job *j, tn_err *err) {
    make_options *o = &j->o;
    const char *kind = o->rank ? o->rank : o->like ? "both" : "text";
    if (o->candidates && make_given(j, MAKE_FIELD(batch)))
        return tn_fail(err, TN_EUSAGE, "--candidates and --batch are the same number: give one of them");
    j->count = o->candidates ? o->candidates : o->batch, j->keep = o->keep ? o->keep : j->count;
    if (!o->clip && (o->candidates || o->keep || o->like || o->rank || o->rank_text))
        return tn_fail(err, TN_EUSAGE, "--clip DIR is needed to choose among candidates");
    if (j->keep > j->count)
        return tn_fail(err, TN_EUSAGE, "--keep %lld: there are %lld candidates", (long long)j->keep, (long long)j->count);
    if (strcmp(kind, "text") != 0 && !o->like)
        return tn_fail(err, TN_EUSAGE, "--rank %s: --like DIR is needed, the pictures to compare with", kind);
    if (strcmp(kind, "text") == 0 && o->like)
        return tn_fail(err, TN_EUSAGE, "--like has no meaning with --rank text");
    if (strcmp(kind, "image") == 0 && o->rank_text)
        return tn_fail(err, TN_EUSAGE, "--rank-text has no meaning with --rank image");
    o->rank = kind;
    return o->rank_text ? prompt_check("--rank-text", o->rank_text, err) : 0;
}

static int see_like(make_job *j, tn_err *err) {
    pictures p;
    if (pictures_load(j->o.like, &p, err)) return -1;
    j->goal.like = malloc((size_t)(p.n * j->judge.width) * sizeof *j->goal.like), j->goal.nlike = p.n;
    int bad = j->goal.like ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for the pictures of %s", j->o.like);
    if (!bad) bad = clip_see(&j->c, &j->judge, p.image, p.n, j->goal.like, err);
    pictures_free(&p);
    return bad;
}

int make_open_rank(make_job *j, tn_err *err) {
    if (!j->o.clip) return 0;
    if (clip_open(j->o.clip, &j->judge, err) || clip_fingerprint(j->o.clip, j->clip_sha256, err)) return -1;
    if (!j->ranked) return 0;
    j->goal.mask = j->edit.mask;
    if (j->o.like && see_like(j, err)) return -1;
    if (strcmp(j->o.rank, "image") == 0) return 0;
    j->goal.text = malloc((size_t)j->judge.width * sizeof *j->goal.text);
    return j->goal.text ? 0 : tn_fail(err, TN_ENOMEM, "out of memory for a sentence");
}

/* The sentence of this prompt, as the judge reads it. */
static int read_sentence(make_job *j, const char *prompt, tn_err *err) {
    bool strange = false;
    free(j->sentence), j->sentence = NULL;
    if (j->o.rank_text ? meta_set(&j->sentence, j->o.rank_text, strlen(j->o.rank_text), err)
                       : rank_sentence(prompt, &j->words, &j->sentence, err))
        return -1;
    if (clip_read(&j->c, &j->judge, j->sentence, j->goal.text, &strange, err)) return -1;
    if (strange) opt_warn("\"%s\": the CLIP has never seen a word of it", j->sentence);
    return 0;
}

int make_rank(make_job *j, const char *prompt, const nn_image *images, int64_t n, rank_place *place, tn_err *err) {
    for (int i = 0; i < n; i++) place[i] = (rank_place){.index = i};
    if (!j->ranked) return 0;
    if (j->goal.text && read_sentence(j, prompt, err)) return -1;
    return rank_pictures(&j->c, &j->judge, &j->goal, images, (int)n, place, err);
}

int make_note_rank(make_job *j, const rank_place *place, int64_t rank, int64_t n, tn_err *err) {
    meta_rank *k = &j->now.rank;
    if (!j->ranked) return 0;
    k->place = rank + 1, k->of = n, k->by_image = j->goal.like, k->text = place->text, k->image = place->image;
    memcpy(k->clip_sha256, j->clip_sha256, sizeof k->clip_sha256);
    return j->sentence ? meta_set(&k->sentence, j->sentence, strlen(j->sentence), err) : 0;
}
