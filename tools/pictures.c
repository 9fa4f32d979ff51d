#include "tools/pictures.h"

#include "tensor/io/sys.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_picture(const char *name) {
    static const char *const endings[] = {".png", ".ppm", ".pgm", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif"};
    const char *dot = strrchr(name, '.');
    if (!dot || name[0] == '.') return false;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t j = 0;
        while (dot[j] && endings[i][j] && (dot[j] | ('A' <= dot[j] && dot[j] <= 'Z' ? 32 : 0)) == endings[i][j]) j++;
        if (!dot[j] && !endings[i][j]) return true;
    }
    return false;
}

void pictures_free(pictures *p) {
    for (int i = 0; i < p->n; i++) nn_image_free(&p->image[i]), free(p->name[i]);
    free(p->image), free(p->name);
    *p = (pictures){0};
}

void pictures_cut(pictures *p, int n) {
    while (p->n > n) p->n--, nn_image_free(&p->image[p->n]), free(p->name[p->n]);
}

int pictures_join(pictures *p, pictures *more, tn_err *err) {
    size_t n = (size_t)p->n + (size_t)more->n;
    nn_image *image = realloc(p->image, n * sizeof *image);
    if (image) p->image = image;
    char **name = realloc(p->name, n * sizeof *name);
    if (name) p->name = name;
    if (!image || !name) return tn_fail(err, TN_ENOMEM, "out of memory for the pictures");
    memcpy(p->image + p->n, more->image, (size_t)more->n * sizeof *image);
    memcpy(p->name + p->n, more->name, (size_t)more->n * sizeof *name);
    p->n = (int)n, p->skipped += more->skipped, more->n = 0;
    return 0;
}

static int load_one(const char *dir, const char *name, pictures *p, tn_err *err) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) return tn_fail(err, TN_EUSAGE, "%s: the path is too long", dir);
    if (tn_is_dir(path)) return 0;
    if (!is_picture(name)) {
        p->skipped += name[0] != '.';
        return 0;
    }
    size_t n = strlen(name) + 1;
    if (!(p->name[p->n] = malloc(n))) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    memcpy(p->name[p->n], name, n);
    if (nn_image_load(path, &p->image[p->n], err)) {
        free(p->name[p->n]);
        return -1;
    }
    p->n++;
    return 0;
}

int pictures_load(const char *dir, pictures *p, tn_err *err) {
    tn_list list;
    *p = (pictures){0};
    if (tn_list_dir(dir, &list, err)) return -1;
    p->image = calloc(list.n + 1, sizeof *p->image), p->name = calloc(list.n + 1, sizeof *p->name);
    int r = p->image && p->name ? 0 : tn_fail(err, TN_ENOMEM, "%s: out of memory", dir);
    for (size_t i = 0; !r && i < list.n; i++) r = load_one(dir, list.name[i], p, err);
    if (!r && p->n == 0) r = tn_fail(err, TN_EINPUT, "%s: no pictures in this folder (expected PNG or PPM files)", dir);
    tn_list_free(&list);
    if (r) pictures_free(p);
    return r;
}
