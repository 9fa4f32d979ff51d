#include "nn/image/resize.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/dmath.h"

#define PI 3.14159265358979323846
#define WEIGHT_BITS                                                                                                    \
    22 /* an int32 holds 8 bits of sample, 22 of weight, and 2 for sums of weights above 1 and the sign */

/* ---- filters ---- */

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

static double bilinear(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Hamming's window on the first lobe of sinc; Pillow has the window's constants as floats. */
static double hamming(double x) {
    x = fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x *= PI;
    return tn_sin(x) / x * ((double)0.54f + (double)0.46f * tn_cos(x));
}

static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static double sinc(double x) {
    if (x == 0.0) return 1.0;
    x *= PI;
    return tn_sin(x) / x;
}

static double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0; }

static const struct filter {
    const char *name;
    double (*weight)(double);
    double support; /* the weight is 0 from this distance on */
} filters[] = {
    [NN_NEAREST] = {"nearest", NULL, 0.0},       [NN_BOX] = {"box", box, 0.5},
    [NN_BILINEAR] = {"bilinear", bilinear, 1.0}, [NN_HAMMING] = {"hamming", hamming, 1.0},
    [NN_BICUBIC] = {"bicubic", bicubic, 2.0},    [NN_LANCZOS] = {"lanczos", lanczos, 3.0},
};

int nn_filter_parse(const char *name, enum nn_filter *out, tn_err *err) {
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        if (strcmp(name, filters[i].name) == 0) {
            *out = (enum nn_filter)i;
            return 0;
        }
    }
    return tn_fail(err, TN_EUSAGE, "resize filter \"%s\", expected nearest, box, bilinear, hamming, bicubic or lanczos",
                   name);
}

/* ---- weights of one axis ---- */

/* For each output position the input positions first..first + count and their weights at weight + position * stride. */
typedef struct axis {
    int64_t out, stride;
    int64_t *first, *count;
    double *weight;
    int32_t *fixed; /* the weights rounded to WEIGHT_BITS */
} axis;

static void axis_free(axis *a) { free(a->first), free(a->count), free(a->weight), free(a->fixed); }

/* An array of count * size bytes, or NULL where that overflows or memory is out. */
static void *array(int64_t count, size_t size) {
    return (uint64_t)count > SIZE_MAX / size ? NULL : malloc((size_t)count * size);
}

static void axis_position(axis *a, int64_t in, const struct filter *f, int64_t i) {
    double scale = (double)in / (double)a->out, stretch = scale < 1.0 ? 1.0 : scale;
    double support = f->support * stretch, inverse = 1.0 / stretch, centre = ((double)i + 0.5) * scale, sum = 0.0;
    int64_t first = (int64_t)(centre - support + 0.5), end = (int64_t)(centre + support + 0.5);
    if (first < 0) first = 0;
    if (end > in) end = in;
    double *w = a->weight + i * a->stride;
    int32_t *fixed = a->fixed + i * a->stride;
    a->first[i] = first, a->count[i] = end - first;
    for (int64_t k = 0; k < end - first; k++) {
        w[k] = f->weight(((double)(k + first) - centre + 0.5) * inverse);
        sum += w[k];
    }
    for (int64_t k = 0; k < end - first; k++) {
        if (sum != 0.0) w[k] /= sum;
        double r = w[k] * (1 << WEIGHT_BITS);
        fixed[k] = (int32_t)(r < 0.0 ? r - 0.5 : r + 0.5);
    }
}

static int axis_make(axis *a, int64_t in, int64_t out, const struct filter *f, tn_err *err) {
    double scale = (double)in / (double)out;
    a->out = out;
    a->stride = (int64_t)ceil(f->support * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
    if (a->stride > in) a->stride = in;
    bool fits = out <= INT64_MAX / a->stride;
    a->first = array(out, sizeof *a->first);
    a->count = array(out, sizeof *a->count);
    a->weight = fits ? array(out * a->stride, sizeof *a->weight) : NULL;
    a->fixed = fits ? array(out * a->stride, sizeof *a->fixed) : NULL;
    if (!a->first || !a->count || !a->weight || !a->fixed) {
        axis_free(a);
        return tn_fail(err, TN_ENOMEM, "out of memory for resizing %lld to %lld", (long long)in, (long long)out);
    }
    for (int64_t i = 0; i < out; i++) axis_position(a, in, f, i);
    return 0;
}

/* ---- passes ---- */

static unsigned char to_byte(int32_t sum) {
    if (sum < 0) return 0;
    return sum >> WEIGHT_BITS > 255 ? 255 : (unsigned char)(sum >> WEIGHT_BITS);
}

/* [rows, in_width, 3] -> [rows, a->out, 3]. */
static void horizontal_u8(const unsigned char *in, int64_t in_width, int64_t rows, const axis *a, unsigned char *out) {
    for (int64_t y = 0; y < rows; y++, in += in_width * 3) {
        for (int64_t x = 0; x < a->out; x++, out += 3) {
            const unsigned char *p = in + a->first[x] * 3;
            const int32_t *w = a->fixed + x * a->stride;
            int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;
            for (int64_t k = 0; k < a->count[x]; k++, p += 3) r += p[0] * w[k], g += p[1] * w[k], b += p[2] * w[k];
            out[0] = to_byte(r), out[1] = to_byte(g), out[2] = to_byte(b);
        }
    }
}

/* [in_height, n] -> [a->out, n], n bytes a row; sums has room for n. Whole rows are added up, so that memory is read
 * in order. */
static void vertical_u8(const unsigned char *in, int64_t n, const axis *a, int32_t *sums, unsigned char *out) {
    for (int64_t y = 0; y < a->out; y++, out += n) {
        const int32_t *w = a->fixed + y * a->stride;
        const unsigned char *p = in + a->first[y] * n;
        for (int64_t i = 0; i < n; i++) sums[i] = 1 << (WEIGHT_BITS - 1);
        for (int64_t k = 0; k < a->count[y]; k++, p += n) {
            int32_t weight = w[k];
            for (int64_t i = 0; i < n; i++) sums[i] += p[i] * weight;
        }
        for (int64_t i = 0; i < n; i++) out[i] = to_byte(sums[i]);
    }
}

static void horizontal_f32(const float *in, int64_t in_width, int64_t rows, const axis *a, float *out) {
    for (int64_t y = 0; y < rows; y++, in += in_width) {
        for (int64_t x = 0; x < a->out; x++) {
            double sum = 0.0;
            for (int64_t k = 0; k < a->count[x]; k++) sum += (double)in[a->first[x] + k] * a->weight[x * a->stride + k];
            *out++ = (float)sum;
        }
    }
}

static void vertical_f32(const float *in, int64_t n, const axis *a, float *out) {
    for (int64_t y = 0; y < a->out; y++) {
        for (int64_t x = 0; x < n; x++) {
            double sum = 0.0;
            for (int64_t k = 0; k < a->count[y]; k++)
                sum += (double)in[(a->first[y] + k) * n + x] * a->weight[y * a->stride + k];
            *out++ = (float)sum;
        }
    }
}

/* ---- nearest ---- */

/* index[i] = the input position under the centre of output position i. The centres are added up step by step, not
 * multiplied out: Pillow does so, and where a centre falls on the edge between two pixels the rounding of the sum
 * decides. */
static void nearest_positions(int64_t in, int64_t out, int64_t *index) {
    double step = (double)in / (double)out, centre = step * 0.5;
    for (int64_t i = 0; i < out; i++, centre += step) {
        int64_t k = (int64_t)centre;
        index[i] = k < in ? k : in - 1;
    }
}

/* Copies pixels of `size` bytes, [in_height, in_width] -> [height, width]. */
static int nearest(const void *in, int64_t in_width, int64_t in_height, int64_t width, int64_t height, size_t size,
                   void *out, tn_err *err) {
    int64_t *column = array(width + height, sizeof *column);
    if (!column)
        return tn_fail(err, TN_ENOMEM, "out of memory for resizing to %lld x %lld", (long long)width,
                       (long long)height);
    int64_t *row = column + width;
    nearest_positions(in_width, width, column);
    nearest_positions(in_height, height, row);
    unsigned char *to = out;
    for (int64_t y = 0; y < height; y++) {
        const unsigned char *from = (const unsigned char *)in + (size_t)(row[y] * in_width) * size;
        for (int64_t x = 0; x < width; x++, to += size) memcpy(to, from + (size_t)column[x] * size, size);
    }
    free(column);
    return 0;
}

/* ---- public ---- */

/* The horizontal pass alone, into a picture of its own. */
static int resize_width(const nn_image *in, int64_t width, const struct filter *f, nn_image *out, tn_err *err) {
    axis a;
    if (axis_make(&a, in->width, width, f, err)) return -1;
    int rc = nn_image_alloc(width, in->height, out, err);
    if (rc == 0) horizontal_u8(in->rgb, in->width, in->height, &a, out->rgb);
    axis_free(&a);
    return rc;
}

static int resize_height(const nn_image *in, int64_t height, const struct filter *f, nn_image *out, tn_err *err) {
    axis a;
    if (axis_make(&a, in->height, height, f, err)) return -1;
    int32_t *sums = array(in->width * 3, sizeof *sums);
    int rc = sums ? nn_image_alloc(in->width, height, out, err)
                  : tn_fail(err, TN_ENOMEM, "out of memory for resizing a row");
    if (rc == 0) vertical_u8(in->rgb, in->width * 3, &a, sums, out->rgb);
    free(sums);
    axis_free(&a);
    return rc;
}

int nn_resize(const nn_image *in, int64_t width, int64_t height, enum nn_filter filter, nn_image *out, tn_err *err) {
    const struct filter *f = filters + filter;
    bool same_width = width == in->width, same_height = height == in->height;
    nn_image result;
    if (filter == NN_NEAREST || (same_width && same_height)) {
        if (nn_image_alloc(width, height, &result, err)) return -1;
        if (nearest(in->rgb, in->width, in->height, width, height, 3, result.rgb, err)) {
            nn_image_free(&result);
            return -1;
        }
        *out = result;
        return 0;
    }
    if (width < 1 || height < 1 || width > NN_IMAGE_MAX_PIXELS || height > NN_IMAGE_MAX_PIXELS / width)
        return tn_fail(err, TN_ENOMEM, "cannot resize to %lld x %lld pixels: expected 1 to %d million",
                       (long long)width, (long long)height, NN_IMAGE_MAX_PIXELS / 1000000);
    if (same_width) return resize_height(in, height, f, out, err);
    if (same_height) return resize_width(in, width, f, out, err);
    nn_image half;
    if (resize_width(in, width, f, &half, err)) return -1;
    int rc = resize_height(&half, height, f, out, err);
    nn_image_free(&half);
    return rc;
}

int nn_resize_f32(const float *in, int64_t in_width, int64_t in_height, int64_t width, int64_t height,
                  enum nn_filter filter, float *out, tn_err *err) {
    TN_REQUIRE(in_width > 0 && in_height > 0 && width > 0 && height > 0);
    if (filter == NN_NEAREST || (width == in_width && height == in_height))
        return nearest(in, in_width, in_height, width, height, sizeof *in, out, err);
    axis ax, ay;
    if (axis_make(&ax, in_width, width, filters + filter, err)) return -1;
    if (axis_make(&ay, in_height, height, filters + filter, err)) {
        axis_free(&ax);
        return -1;
    }
    float *half = array(width * in_height, sizeof *half);
    if (half && width != in_width && height != in_height) {
        horizontal_f32(in, in_width, in_height, &ax, half);
        vertical_f32(half, width, &ay, out);
    } else if (half && width != in_width) {
        horizontal_f32(in, in_width, in_height, &ax, out);
    } else if (half) {
        vertical_f32(in, width, &ay, out);
    }
    axis_free(&ax), axis_free(&ay);
    if (!half)
        return tn_fail(err, TN_ENOMEM, "out of memory for resizing to %lld x %lld", (long long)width,
                       (long long)height);
    free(half);
    return 0;
}
