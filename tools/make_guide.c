#include "tensor/io/bytes.h"
#include "tensor/io/sha256.h"
#include "tools/make_job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- settings ---- */

int make_settle_guide(make_job *j, tn_err *err) {
    const make_options *o = &j->o;
    bool guided = o->clip_guidance >= 0.0;
    if (!guided && (o->clip_prompt || o->clip_image || o->cutouts))
        return tn_fail(err, TN_EUSAGE, "--clip-prompt, --clip-image and --cutouts need --clip-guidance X");
    if (guided && !o->clip)
        return tn_fail(err, TN_EUSAGE, "--clip-guidance: --clip DIR is needed, the CLIP that guides");
    if (o->clip_prompt && o->clip_image)
        return tn_fail(err, TN_EUSAGE, "--clip-prompt and --clip-image: give one of them");
    j->ranked = o->clip && (!guided || o->candidates || o->keep || o->like || o->rank || o->rank_text);
    return o->clip_prompt ? prompt_check("--clip-prompt", o->clip_prompt, err) : 0;
}

/* What cannot be had from the recipe is asked for. */
void make_take_guide(make_job *j) {
    make_options *o = &j->o;
    meta_guide *g = &j->made.guide;
    if (j->made.latent_sha256[0] && !o->latent)
        opt_warn("%s was made from given noise: give its file with --latent, or it will not be the same",
                 o->from_image);
    if (!j->made.guided || make_given(j, MAKE_FIELD(clip_guidance))) return;
    if (!o->clip || (!g->sentence && !o->clip_image)) {
        opt_warn("%s was guided by CLIP: give %s, or it will not be the same", o->from_image,
                 o->clip ? "its picture with --clip-image" : "its directory with --clip");
        return;
    }
    o->clip_guidance = g->scale;
    if (!make_given(j, MAKE_FIELD(cutouts))) o->cutouts = g->cutouts;
    if (!o->clip_prompt && !o->clip_image) o->clip_prompt = g->sentence;
}

void make_compare_guide(const make_job *j) {
    const meta_recipe *a = &j->made;
    if (!j->guide.clip || !a->guided) return;
    if (strcmp(a->guide.clip_sha256, j->clip_sha256) != 0)
        opt_warn("%s was guided by another CLIP than %s: it will differ", j->o.from_image, j->o.clip);
    if (a->guide.picture_sha256[0] && strcmp(a->guide.picture_sha256, j->aim_sha256) != 0)
        opt_warn("%s was guided to another picture than %s: it will differ", j->o.from_image, j->o.clip_image);
}

/* ---- noise ---- */

int make_open_latent(make_job *j, tn_err *err) {
    make_options *o = &j->o;
    int64_t f = nn_vae_factor(j->model->vae);
    if (latents_read(o->latent, NULL, j->model->vae, &j->noise, err)) return -1;
    int64_t width = j->noise.w * f, height = j->noise.h * f;
    if (make_given(j, MAKE_FIELD(width)) && o->width != width)
        return tn_fail(err, TN_EUSAGE, "--width %" PRId64 ": %s is noise for %" PRId64 " x %" PRId64, o->width,
                       o->latent, width, height);
    if (make_given(j, MAKE_FIELD(height)) && o->height != height)
        return tn_fail(err, TN_EUSAGE, "--height %" PRId64 ": %s is noise for %" PRId64 " x %" PRId64, o->height,
                       o->latent, width, height);
    if (j->count > j->noise.count)
        return tn_fail(err, TN_EUSAGE, "%s holds noise for %" PRId64 " pictures, %" PRId64 " are wanted", o->latent,
                       j->noise.count, j->count);
    o->width = width, o->height = height;
    return 0;
}

/* Words of 32 bits, little-endian whatever the machine. */
static void hash_numbers(const float *x, int64_t n, char hex[65]) {
    tn_sha256 h;
    tn_sha256_init(&h);
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        unsigned char bytes[4];
        memcpy(&u, x + i, sizeof u);
        tn_put_le32(bytes, u);
        tn_sha256_update(&h, bytes, sizeof bytes);
    }
    tn_sha256_hex(&h, hex);
}

/* ---- guidance ---- */

static int see_aim(make_job *j, tn_err *err) {
    nn_image image;
    if (nn_image_load(j->o.clip_image, &image, err)) return -1;
    make_hash_pixels(&image, j->aim_sha256);
    int bad = clip_see(&j->c, &j->judge, &image, 1, j->aim, err);
    nn_image_free(&image);
    return bad;
}

int make_open_guide(make_job *j, tn_err *err) {
    if (j->o.clip_guidance < 0.0) return 0;
    j->aim = malloc((size_t)j->judge.width * sizeof *j->aim);
    if (!j->aim) return tn_fail(err, TN_ENOMEM, "out of memory for guidance by CLIP");
    j->guide = (nn_clip_guidance){
        .clip = j->judge.clip, .target = j->aim, .scale = j->o.clip_guidance, .cutouts = j->o.cutouts};
    return j->o.clip_image ? see_aim(j, err) : 0;
}

int make_aim(make_job *j, const char *prompt, tn_err *err) {
    const char *given = j->o.clip_prompt;
    bool strange = false;
    if (!j->guide.clip || j->o.clip_image || (given && j->aim_sentence)) return 0;
    free(j->aim_sentence), j->aim_sentence = NULL;
    if (given ? meta_set(&j->aim_sentence, given, strlen(given), err)
              : rank_sentence(prompt, &j->words, &j->aim_sentence, err))
        return -1;
    if (clip_read(&j->c, &j->judge, j->aim_sentence, j->aim, &strange, err)) return -1;
    if (strange) opt_warn("\"%s\": the CLIP has never seen a word of it", j->aim_sentence);
    return 0;
}

int make_note_guide(make_job *j, int64_t i, tn_err *err) {
    meta_guide *g = &j->now.guide;
    if (j->noise.z) hash_numbers(j->noise.z + i * j->noise.n, j->noise.n, j->now.latent_sha256);
    j->now.guided = j->guide.clip != NULL;
    if (!j->now.guided) return 0;
    g->scale = j->guide.scale, g->cutouts = j->guide.cutouts;
    memcpy(g->picture_sha256, j->aim_sha256, sizeof g->picture_sha256);
    memcpy(g->clip_sha256, j->clip_sha256, sizeof g->clip_sha256);
    return j->aim_sentence ? meta_set(&g->sentence, j->aim_sentence, strlen(j->aim_sentence), err) : 0;
}
