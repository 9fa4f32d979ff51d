#include "tools/sheet.h"

#include "tools/font.h"
#include <string.h>

enum { MARGIN = 16, GAP = 6, CAPTION = FONT_HEIGHT + 8, TITLE = 2 * FONT_HEIGHT + 8 };

static const unsigned char paper[3] = {250, 250, 248}, ink[3] = {30, 30, 34}, soft[3] = {105, 105, 112};

static int64_t rows_of(const strip *s) { return (s->n + s->columns - 1) / s->columns; }
static int64_t cell_height(const strip *s, int zoom) { return s->image[0].height * zoom + GAP + (s->caption ? CAPTION : 0); }
static int64_t strip_height(const strip *s, int zoom) { return TITLE + rows_of(s) * cell_height(s, zoom) + MARGIN; }

static int64_t strip_width(const strip *s, int zoom) {
    int64_t title = (int64_t)strlen(s->title) * FONT_ADVANCE * 2, pictures = s->columns * (s->image[0].width * zoom + GAP);
    return title > pictures ? title : pictures;
}

static void put_picture(nn_image *out, const nn_image *in, int64_t x, int64_t y, int zoom) {
    for (int64_t j = 0; j < in->height * zoom; j++) {
        unsigned char *to = out->rgb + ((y + j) * out->width + x) * 3;
        const unsigned char *from = in->rgb + j / zoom * in->width * 3;
        for (int64_t i = 0; i < in->width * zoom; i++) memcpy(to + 3 * i, from + i / zoom * 3, 3);
    }
}

static void put_strip(nn_image *out, const strip *s, int64_t y, int zoom) {
    font_draw(out, MARGIN, y, 2, ink, s->title);
    for (int i = 0; i < s->n; i++) {
        int64_t x = MARGIN + i % s->columns * (s->image[0].width * zoom + GAP), top = y + TITLE + i / s->columns * cell_height(s, zoom);
        put_picture(out, &s->image[i], x, top, zoom);
        if (s->caption && s->caption[i]) font_draw(out, x, top + s->image[i].height * zoom + 4, 1, soft, s->caption[i]);
    }
}

int sheet_draw(const char *title, const strip *strips, int n, int zoom, nn_image *out, tn_err *err) {
    int64_t width = (int64_t)strlen(title) * FONT_ADVANCE * 3, height = 2 * MARGIN + 3 * FONT_HEIGHT + MARGIN, y = MARGIN;
    for (int i = 0; i < n; i++) {
        int64_t w = strip_width(&strips[i], zoom);
        width = w > width ? w : width, height += strip_height(&strips[i], zoom);
    }
    if (nn_image_alloc(width + 2 * MARGIN, height, out, err)) return -1;
    for (int64_t i = 0; i < out->width * out->height; i++) memcpy(out->rgb + 3 * i, paper, 3);
    font_draw(out, MARGIN, y, 3, ink, title);
    y += 3 * FONT_HEIGHT + MARGIN;
    for (int i = 0; i < n; i++) {
        put_strip(out, &strips[i], y, zoom);
        y += strip_height(&strips[i], zoom);
    }
    return 0;
}
