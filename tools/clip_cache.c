#include "tools/clip_cache.h"

#include "tensor/io/bytes.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"
#include "tensor/io/sys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool ends_with(const char *name, const char *ending) {
    size_t n = strlen(name), e = strlen(ending);
    return n >= e && strcmp(name + n - e, ending) == 0;
}

static int hash_file(tn_sha256 *h, const char *dir, const char *name, tn_err *err) {
    char path[4096];
    unsigned char size[8];
    tn_map map;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return tn_fail(err, TN_EUSAGE, "%s: the path is too long", dir);
    if (tn_is_dir(path)) return 0;
    if (tn_map_open(path, 0, &map, err)) return -1;
    tn_put_le64(size, map.len);
    tn_sha256_update(h, name, strlen(name) + 1), tn_sha256_update(h, size, sizeof size),
        tn_sha256_update(h, map.data, map.len);
    tn_map_close(&map);
    return 0;
}

int clip_fingerprint(const char *dir, char hex[65], tn_err *err) {
    tn_list list;
    tn_sha256 h;
    tn_sha256_init(&h);
    if (tn_list_dir(dir, &list, err)) return -1;
    int r = 0;
    for (size_t i = 0; !r && i < list.n; i++) {
        const char *name = list.name[i];
        if (ends_with(name, ".safetensors") || ends_with(name, ".json") || ends_with(name, ".txt"))
            r = hash_file(&h, dir, name, err);
    }
    tn_list_free(&list);
    if (!r) tn_sha256_hex(&h, hex);
    return r;
}

int clip_keep(clip_judge *j, const char *dir, const char *cache, tn_err *err) {
    if (clip_fingerprint(dir, j->fingerprint, err) || tn_make_dirs(cache, err)) return -1;
    j->cache = cache;
    return 0;
}

static int path_of(const clip_judge *j, const nn_image *image, char *path, size_t cap, tn_err *err) {
    tn_sha256 h;
    unsigned char size[16];
    char hex[65];
    tn_put_le64(size, (uint64_t)image->width), tn_put_le64(size + 8, (uint64_t)image->height);
    tn_sha256_init(&h);
    tn_sha256_update(&h, j->fingerprint, 64), tn_sha256_update(&h, size, sizeof size);
    tn_sha256_update(&h, image->rgb, (size_t)(3 * image->width * image->height));
    tn_sha256_hex(&h, hex);
    if (snprintf(path, cap, "%s/%s.safetensors", j->cache, hex) < (int)cap) return 0;
    return tn_fail(err, TN_EUSAGE, "--cache: the path is too long");
}

int clip_recall(const clip_judge *j, const nn_image *image, float *features, bool *found, tn_err *err) {
    char path[4096];
    tn_st *st;
    if (path_of(j, image, path, sizeof path, err)) return -1;
    if (!(*found = tn_exists(path))) return 0;
    if (tn_st_open(path, TN_MAP_COPY, &st, err)) return -1;
    const tn_st_tensor *x = tn_st_find(st, "image_embeds");
    int r = x && x->dtype == TN_ST_F32 && x->ndim == 1 && x->shape[0] == j->width
                ? tn_st_read_f32(x, features, err)
                : tn_fail(err, TN_EINPUT, "%s: expected image_embeds of %lld numbers (remove the file)", path,
                          (long long)j->width);
    tn_st_close(st);
    return r;
}

int clip_remember(const clip_judge *j, const nn_image *image, const float *features, tn_err *err) {
    char path[4096];
    if (path_of(j, image, path, sizeof path, err)) return -1;
    tn_st_writer *w = tn_st_writer_new();
    if (!w) return tn_fail(err, TN_ENOMEM, "%s: out of memory", path);
    tn_st_add(w, "image_embeds", TN_ST_F32, 1, &j->width, features);
    int r = tn_st_write(w, path, err);
    tn_st_writer_free(w);
    return r;
}
