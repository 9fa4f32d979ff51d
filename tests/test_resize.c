/* Resizing and preprocessing against Pillow's results: 8 bits to the byte. testdata/golden/preprocess says in its
 * attributes what each case does. */
#include "nn/image/preprocess.h"
#include "nn/image/resize.h"
#include "tensor/io/bytes.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const filter_names[] = {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"};

/* A [height, width, 3] tensor as a picture that shares its bytes; false where it is absent. */
static bool picture(const tn_st *st, const char *name, nn_image *out) {
    const tn_st_tensor *x = tn_st_find(st, name);
    if (!x || x->dtype != TN_ST_U8 || x->ndim != 3 || x->shape[2] != 3) return false;
    union {
        const void *from;
        unsigned char *to;
    } share = {x->data}; /* only read through */
    *out = (nn_image){x->shape[1], x->shape[0], share.to};
    return true;
}

/* The number of bytes that differ; frees `got`. */
static int64_t differ(nn_image *got, const nn_image *want) {
    int64_t n = -1;
    if (got->width == want->width && got->height == want->height) {
        n = 0;
        for (int64_t i = 0; i < got->width * got->height * 3; i++) n += got->rgb[i] != want->rgb[i];
    }
    nn_image_free(got);
    return n;
}

static double worst(const tn_st_tensor *want, const float *got) {
    double top = 0.0;
    for (int64_t i = 0; i < want->count; i++) {
        double d = fabs((double)got[i] - (double)tn_le_f32((const unsigned char *)want->data + 4 * i));
        if (!(d <= top)) top = d;
    }
    return top;
}

/* One result named `name`, if the case has it; counts those it has. */
static void check_u8(test_state *t, const tn_st *st, const char *file, const char *name, int rc, nn_image *got,
                     tn_err *err, int *seen) {
    nn_image want;
    if (!picture(st, name, &want)) {
        if (rc == 0) nn_image_free(got);
        return;
    }
    ++*seen;
    if (!CHECKF(t, rc == 0, "%s: %s: %s", file, name, err->msg)) return;
    int64_t n = differ(got, &want);
    CHECKF(t, n == 0, "%s: %s: %lld bytes differ", file, name, (long long)n);
}

static int resize_case(test_state *t, const tn_st *st, const char *file) {
    nn_image in, want, got = {0, 0, NULL};
    tn_err err = {0, ""};
    int seen = 0;
    for (int f = 0; f < 6 && picture(st, "in.image_u8", &in); f++) {
        char name[64];
        snprintf(name, sizeof name, "out.%s_u8", filter_names[f]);
        if (!picture(st, name, &want)) continue;
        enum nn_filter filter = NN_NEAREST;
        CHECK(t, nn_filter_parse(filter_names[f], &filter, &err) == 0 && (int)filter == f);
        int rc = nn_resize(&in, want.width, want.height, filter, &got, &err);
        check_u8(t, st, file, name, rc, &got, &err, &seen);
    }
    const tn_st_tensor *x = tn_st_find(st, "in.image_f32");
    for (int f = 0; f < 6 && x; f++) {
        char name[64];
        snprintf(name, sizeof name, "out.%s_f32", filter_names[f]);
        const tn_st_tensor *y = tn_st_find(st, name);
        if (!y) continue;
        float *a = malloc((size_t)x->count * sizeof *a), *b = malloc((size_t)y->count * sizeof *b);
        if (!a || !b) abort();
        for (int64_t i = 0; i < x->count; i++) a[i] = tn_le_f32((const unsigned char *)x->data + 4 * i);
        int rc = nn_resize_f32(a, x->shape[1], x->shape[0], y->shape[1], y->shape[0], (enum nn_filter)f, b, &err);
        CHECKF(t, rc == 0 && worst(y, b) == 0.0, "%s: %s: off by %g", file, name, worst(y, b));
        seen++;
        free(a), free(b);
    }
    return seen;
}

static int training_case(test_state *t, const tn_st *st, const char *file, int64_t size) {
    nn_image in, got = {0, 0, NULL};
    tn_err err = {0, ""};
    int seen = 0;
    if (!CHECK(t, picture(st, "in.image_u8", &in))) return 0;
    for (int f = 0; f < 6; f++) {
        for (int crop = 0; crop < 2; crop++) {
            char name[64];
            snprintf(name, sizeof name, "out.%s%s_u8", filter_names[f], crop ? "" : "_nocrop");
            int rc = nn_training_picture(&in, size, (enum nn_filter)f, crop, false, &got, &err);
            check_u8(t, st, file, name, rc, &got, &err, &seen);
        }
    }
    const tn_st_tensor *y = tn_st_find(st, "out.bicubic_pixel_values");
    if (!y) return seen;
    float *x = malloc((size_t)y->count * sizeof *x);
    if (!x || nn_training_picture(&in, size, NN_BICUBIC, true, false, &got, &err)) abort();
    nn_image_to_signed(&got, x);
    CHECKF(t, worst(y, x) == 0.0, "%s: pixel values off by %g", file, worst(y, x));
    nn_image_free(&got);
    free(x);
    return seen + 1;
}

static int clip_case(test_state *t, const tn_st *st, const char *file, const tn_jval *attrs) {
    nn_image in, got = {0, 0, NULL};
    tn_err err = {0, ""};
    int seen = 0;
    int64_t size = tn_json_get(attrs, "size")->integer;
    float mean[3], std[3];
    const tn_jval *m = tn_json_get(attrs, "mean")->child, *s = tn_json_get(attrs, "std")->child;
    for (int c = 0; c < 3; c++, m = m->next, s = s->next) mean[c] = (float)m->number, std[c] = (float)s->number;
    if (!CHECK(t, picture(st, "in.image_u8", &in))) return 0;
    int rc = nn_clip_resize(&in, size, &got, &err);
    check_u8(t, st, file, "trace.resized_u8", rc, &got, &err, &seen);
    float *x = malloc((size_t)(3 * size * size) * sizeof *x);
    if (!x) abort();
    for (int rule = 0; rule < 2; rule++) {
        const tn_st_tensor *y = tn_st_find(st, "out.pixel_values"), *other = tn_st_find(st, "out.pixel_values_openai");
        if (rule == NN_CROP_HALF_EVEN && other) y = other; /* stored only where the rules differ */
        rc = nn_clip_preprocess(&in, size, rule == 0 ? NN_CROP_FLOOR : NN_CROP_HALF_EVEN, mean, std, x, &err);
        CHECKF(t, rc == 0 && y && worst(y, x) <= 1e-6, "%s: rule %d: off by %g %s", file, rule, y ? worst(y, x) : -1.0,
               err.msg);
        seen++;
    }
    free(x);
    return seen;
}

static void goldens(test_state *t) {
    const char *folder = "testdata/golden/preprocess/cases";
    tn_list list;
    tn_err err = {0, ""};
    int seen = 0;
    if (!CHECKF(t, tn_list_dir(folder, &list, &err) == 0, "%s", err.msg)) return;
    CHECKF(t, list.n == 18, "18 cases, got %zu", list.n);
    for (size_t i = 0; i < list.n; i++) {
        char path[300];
        tn_st *st = NULL;
        tn_json *doc = NULL;
        snprintf(path, sizeof path, "%s/%s", folder, list.name[i]);
        if (!CHECKF(t, tn_st_open(path, 0, &st, &err) == 0, "%s", err.msg)) continue;
        const char *kind = tn_st_meta(st, "case"), *attrs = tn_st_meta(st, "attrs");
        if (CHECK(t, kind && attrs && tn_json_parse(attrs, strlen(attrs), 0, &doc, &err) == 0)) {
            const tn_jval *root = tn_json_root(doc);
            if (strcmp(kind, "resize") == 0) seen += resize_case(t, st, path);
            if (strcmp(kind, "ti_preprocess") == 0)
                seen += training_case(t, st, path, tn_json_get(root, "size")->integer);
            if (strcmp(kind, "clip_preprocess") == 0) seen += clip_case(t, st, path, root);
        }
        tn_json_free(doc);
        tn_st_close(st);
    }
    tn_list_free(&list);
    CHECKF(t, seen == 63, "63 results compared, got %d", seen);
}

/* Flip, crop, and the two ways between bytes and floats. */
static void small_things(test_state *t) {
    nn_image a, b;
    tn_err err = {0, ""};
    if (nn_image_alloc(5, 2, &a, &err)) abort();
    for (int i = 0; i < 30; i++) a.rgb[i] = (unsigned char)(i * 8);
    if (CHECK(t, nn_crop(&a, 1, 1, 3, 1, &b, &err) == 0)) {
        CHECK(t, b.width == 3 && b.height == 1 && memcmp(b.rgb, a.rgb + 18, 9) == 0);
        nn_flip(&b);
        CHECK(t, memcmp(b.rgb, a.rgb + 24, 3) == 0 && memcmp(b.rgb + 3, a.rgb + 21, 3) == 0 &&
                     memcmp(b.rgb + 6, a.rgb + 18, 3) == 0);
        nn_image_free(&b);
    }
    static const int64_t outside[][4] = {{-1, 0, 2, 1}, {0, -1, 2, 1}, {4, 0, 2, 1},        {0, 2, 1, 1},
                                         {0, 0, 0, 1},  {0, 0, 6, 1},  {1, 0, INT64_MAX, 1}};
    for (size_t i = 0; i < 7; i++)
        CHECK(t, nn_crop(&a, outside[i][0], outside[i][1], outside[i][2], outside[i][3], &b, &err) == -1 &&
                     err.code == TN_EINPUT);
    if (CHECK(t, nn_training_picture(&a, 4, NN_BICUBIC, true, true, &b, &err) == 0)) {
        nn_image c;
        if (nn_training_picture(&a, 4, NN_BICUBIC, true, false, &c, &err)) abort();
        nn_flip(&c);
        CHECK(t, differ(&c, &b) == 0);
        nn_image_free(&b);
    }
    CHECK(t, nn_resize(&a, 0, 5, NN_BICUBIC, &b, &err) == -1);
    CHECK(t, nn_resize(&a, 100000, 100000, NN_BICUBIC, &b, &err) == -1 && err.code == TN_ENOMEM);
    CHECK(t, nn_resize(&a, 100000, 100000, NN_NEAREST, &b, &err) == -1 && err.code == TN_ENOMEM);
    enum nn_filter f;
    CHECK(t, nn_filter_parse("cubic", &f, &err) == -1 && err.code == TN_EUSAGE);
    nn_image_free(&a);
}

static void signed_range(test_state *t) {
    nn_image a, b;
    tn_err err = {0, ""};
    float x[3 * 256];
    if (nn_image_alloc(256, 1, &a, &err)) abort();
    for (int i = 0; i < 256; i++) memset(a.rgb + 3 * i, i, 3), a.rgb[3 * i + 1] = (unsigned char)(255 - i);
    nn_image_to_signed(&a, x);
    CHECK(t, x[0] == -1.0f && x[255] == 1.0f && x[256] == 1.0f && x[512] == -1.0f);
    if (CHECK(t, nn_image_from_signed(x, 256, 1, &b, &err) == 0))
        CHECKF(t, differ(&b, &a) == 0, "bytes to floats and back");
    nn_image_free(&a);
    /* 127.5 goes to the even 128 and 0.5 to 0; what lies outside [-1, 1] is clamped. */
    const float y[9] = {0.0f, -7.0f, 7.0f, -INFINITY, INFINITY, -1.0f + 1.0f / 255.0f, 1.0f, -1.0f, 0.5f};
    static const unsigned char want[9] = {128, 0, 255, 0, 255, 0, 255, 0, 191};
    if (CHECK(t, nn_image_from_signed(y, 3, 1, &b, &err) == 0)) {
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < 3; i++)
                CHECKF(t, b.rgb[3 * i + c] == want[3 * c + i], "value %d: %d", 3 * c + i, b.rgb[3 * i + c]);
        }
        nn_image_free(&b);
    }
    const float bad[3] = {0.0f, NAN, 0.0f};
    CHECK(t, nn_image_from_signed(bad, 1, 1, &b, &err) == -1 && err.code == TN_ENUMERIC);
}

void test_main(test_state *t) {
    if (test_section(t, "goldens")) goldens(t);
    if (test_section(t, "small things")) small_things(t);
    if (test_section(t, "signed range")) signed_range(t);
}
