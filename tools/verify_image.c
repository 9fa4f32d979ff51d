/* Cases of resizing and of what happens to a picture before a network sees it. */
#include "tools/verify.h"

#include "nn/image/preprocess.h"
#include <stdio.h>
#include <string.h>

/* in.image_u8 [H,W,3] as a picture that borrows the case's memory. */
static nn_image picture(verify_case *c) {
    unsigned char *rgb = verify_u8(c, "in.image_u8", "HW3");
    return (nn_image){verify_dim(c, 'W'), verify_dim(c, 'H'), rgb};
}

static void put_picture(verify_case *c, const char *name, const nn_image *image) {
    verify_put_data(c, name, TN_U8, 3, (int64_t[]){image->height, image->width, 3}, image->rgb);
}

/* ---- resize: out.FILTER_u8, out.FILTER_f32 for every filter that the file holds ---- */

/* The filter in "out.bicubic_u8", given what surrounds it; false where the name is of another form. */
static bool filter_of(const char *name, const char *end, enum nn_filter *out) {
    char filter[32];
    size_t n = strlen(name), k = strlen(end);
    if (strncmp(name, "out.", 4) || n <= 4 + k || strcmp(name + n - k, end) || n - 4 - k >= sizeof filter) return false;
    memcpy(filter, name + 4, n - 4 - k);
    filter[n - 4 - k] = '\0';
    return !nn_filter_parse(filter, out, NULL);
}

static void target(verify_case *c, int64_t *h, int64_t *w) {
    const tn_jval *hw = verify_attr(c, "target_hw");
    bool ok = hw && hw->type == TN_JSON_ARRAY && hw->length == 2 && hw->child->is_int && hw->child->next->is_int;
    if (!ok || hw->child->integer < 1 || hw->child->next->integer < 1 || hw->child->integer > 1 << 16 ||
        hw->child->next->integer > 1 << 16) {
        verify_bad(c, "attrs.target_hw: expected a height and a width");
        return;
    }
    *h = hw->child->integer, *w = hw->child->next->integer;
}

static void resize_u8(verify_case *c, const char *name, enum nn_filter filter, int64_t h, int64_t w) {
    nn_image in = picture(c), out;
    if (c->err.code || nn_resize(&in, w, h, filter, &out, &c->err)) return;
    put_picture(c, name, &out);
    nn_image_free(&out);
}

static void resize_f32(verify_case *c, const char *name, enum nn_filter filter, int64_t h, int64_t w) {
    float *in = verify_f32(c, "in.image_f32", "YX"), *out = verify_alloc(c, (size_t)(h * w) * sizeof *out);
    if (!in || !out) return;
    if (nn_resize_f32(in, verify_dim(c, 'X'), verify_dim(c, 'Y'), w, h, filter, out, &c->err)) return;
    verify_put_data(c, name, TN_F32, 2, (int64_t[]){h, w}, out);
}

void verify_resize(verify_case *c) {
    int64_t h = 0, w = 0;
    target(c, &h, &w);
    for (size_t i = 0; i < c->st->n && !c->err.code; i++) {
        const char *name = c->st->tensor[i].name;
        enum nn_filter filter;
        if (filter_of(name, "_u8", &filter))
            resize_u8(c, name, filter, h, w);
        else if (filter_of(name, "_f32", &filter))
            resize_f32(c, name, filter, h, w);
    }
}

/* ---- CLIP ---- */

/* Three numbers of an array in attrs. */
static void triple(verify_case *c, const char *key, float out[3]) {
    const tn_jval *v = verify_attr(c, key);
    bool ok = v && v->type == TN_JSON_ARRAY && v->length == 3;
    v = ok ? v->child : NULL;
    for (int i = 0; i < 3; i++, v = v ? v->next : NULL) {
        ok = ok && v->type == TN_JSON_NUMBER;
        out[i] = ok ? (float)v->number : 1;
    }
    if (!ok) verify_bad(c, "attrs.%s: expected three numbers", key);
}

void verify_clip_preprocess(verify_case *c) {
    static const struct {
        const char *name;
        enum nn_crop_rule rule;
    } outputs[] = {{"out.pixel_values", NN_CROP_FLOOR}, {"out.pixel_values_openai", NN_CROP_HALF_EVEN}};
    nn_image in = picture(c), resized;
    int64_t size = verify_int(c, "size", 1, 4096);
    float mean[3], std[3], *pixels = verify_alloc(c, (size_t)(3 * size * size) * sizeof *pixels);
    triple(c, "mean", mean);
    triple(c, "std", std);
    if (c->err.code || nn_clip_resize(&in, size, &resized, &c->err)) return;
    put_picture(c, "trace.resized_u8", &resized);
    nn_image_free(&resized);
    for (int i = 0; i < 2 && !c->err.code; i++) {
        if (nn_clip_preprocess(&in, size, outputs[i].rule, mean, std, pixels, &c->err)) return;
        verify_put_data(c, outputs[i].name, TN_F32, 3, (int64_t[]){3, size, size}, pixels);
    }
}

/* ---- training pictures: out.FILTER_u8 is cropped, out.FILTER_nocrop_u8 squeezed; _pixel_values are the numbers of
 * either ---- */

static void training_picture(verify_case *c, const char *name, enum nn_filter filter, bool crop, bool numbers) {
    nn_image in = picture(c), out;
    int64_t size = verify_int(c, "size", 1, 4096);
    if (c->err.code || nn_training_picture(&in, size, filter, crop, false, &out, &c->err)) return;
    float *x = verify_alloc(c, (size_t)(3 * size * size) * sizeof *x);
    if (x && numbers) {
        nn_image_to_signed(&out, x);
        verify_put_data(c, name, TN_F32, 3, (int64_t[]){3, size, size}, x);
    } else if (x) {
        put_picture(c, name, &out);
    }
    nn_image_free(&out);
}

void verify_ti_preprocess(verify_case *c) {
    for (size_t i = 0; i < c->st->n && !c->err.code; i++) {
        const char *name = c->st->tensor[i].name;
        enum nn_filter filter;
        if (filter_of(name, "_nocrop_u8", &filter))
            training_picture(c, name, filter, false, false);
        else if (filter_of(name, "_u8", &filter))
            training_picture(c, name, filter, true, false);
        else if (filter_of(name, "_nocrop_pixel_values", &filter))
            training_picture(c, name, filter, false, true);
        else if (filter_of(name, "_pixel_values", &filter))
            training_picture(c, name, filter, true, true);
    }
}
