/* Memory of a run: what is planned is what is taken, pictures are the same however weights are treated, and --memory chooses
 * the fastest way that fits. */
#include "tensor/io/sys.h"
#include "tests/test.h"
#include "tools/generate.h"
#include "tools/memory.h"

#include <stdio.h>
#include <string.h>

enum { COUNT = 3, WIDTH = 64, HEIGHT = 48 };

static gen_request request(nn_residency r) {
    return (gen_request){.prompt = "a photo of a cat", .negative = "a dog", .width = WIDTH, .height = HEIGHT, .steps = 2, .guidance = 3.0,
                         .seed = 5, .count = COUNT, .residency = r};
}

static size_t weight_bytes(const nn_params *p) {
    size_t sum = 0;
    for (int i = 0; i < p->n; i++) sum += (size_t)tn_numel(p->p[i].t) * tn_dtype_size(p->p[i].t->dtype);
    return sum;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Of what the pictures took, the arenas are known exactly, and so are the weights that were read. */
static void test_plan(test_state *t, const tn_ctx *c, nn_model *m) {
    gen_needs n;
    tn_err err = {0};
    gen_request r = request(NN_STAY);
    if (!CHECKF(t, gen_measure(c, m, &r, &n, &err) == 0, "%s", err.msg)) return;
    size_t most = larger(n.text.step, larger(n.unet.step, n.vae.step));
    CHECKF(t, c->step.data.peak == most, "planned %zu bytes, took %zu", most, c->step.data.peak);
    CHECK(t, c->block.data.peak == 0 && n.unet.block == 0);
    CHECK(t, n.unet.weights == weight_bytes(&nn_unet_weights(m->unet)->params));
    CHECK(t, n.text.weights < weight_bytes(&m->text->weights.params)); /* without the table of words */
    CHECK(t, n.vae.weights < weight_bytes(&nn_vae_weights(m->vae)->params)); /* the decoder alone */
    CHECK(t, n.unet.part > 0 && n.unet.part < n.unet.weights / 2);
    CHECK(t, gen_bytes(&n, NN_STAY) > gen_bytes(&n, NN_LEAVE) && gen_bytes(&n, NN_LEAVE) > gen_bytes(&n, NN_STREAM));
}

static void test_residency(test_state *t) {
    nn_model *m;
    tn_err err = {0};
    nn_image kept[COUNT], now[COUNT];
    if (!CHECKF(t, nn_model_load("testdata/world/model", NN_LOAD_ALL, &m, &err) == 0, "%s", err.msg)) return;
    for (int way = NN_STAY; way <= NN_STREAM; way++) {
        tn_ctx c;
        tn_ctx_init(&c, NULL, 2);
        gen_request r = request((nn_residency)way);
        bool made = gen_pictures(&c, m, &r, way ? now : kept, &err) == 0;
        if (!CHECKF(t, made, "%s", err.msg)) return;
        if (way == NN_STAY) test_plan(t, &c, m);
        else CHECK(t, c.step.data.peak == 0 && !c.after_block); /* given back */
        for (int i = 0; way && i < COUNT; i++) {
            CHECKF(t, memcmp(now[i].rgb, kept[i].rgb, 3 * WIDTH * HEIGHT) == 0, "picture %d changes with the way %d", i, way);
            nn_image_free(&now[i]);
        }
        tn_ctx_free(&c);
    }
    for (int i = 0; i < COUNT; i++) nn_image_free(&kept[i]);
    nn_model_free(m);
}

/* Where the system can be asked: given back, weights are not in memory; read, they are. */
static void test_rest(test_state *t) {
    nn_model *m;
    tn_err err = {0};
    if (!CHECKF(t, nn_model_load("testdata/world/model", NN_LOAD_UNET | NN_LOAD_TEXT, &m, &err) == 0, "%s", err.msg)) return;
    const nn_params *p = &nn_unet_weights(m->unet)->params;
    size_t bytes = weight_bytes(p), sum = 0, before, full, after;
    nn_model_rest(m);
    before = tn_rss_now();
    for (int i = 0; i < p->n; i++) {
        const unsigned char *data = p->p[i].t->data;
        for (size_t k = 0, n = (size_t)tn_numel(p->p[i].t) * tn_dtype_size(p->p[i].t->dtype); k < n; k += 512) sum += data[k];
    }
    full = tn_rss_now();
    nn_model_rest(m);
    after = tn_rss_now();
    bool mapped = nn_weights_are_mapped(nn_unet_weights(m->unet), p->p[0].t->data);
    CHECKF(t, sum > 0 && (!before || !mapped || (full > before + bytes / 2 && after < before + bytes / 4)),
           "%zu bytes of weights: %zu in use, %zu when read, %zu when given back", bytes, before, full, after);
    CHECK(t, !nn_weights_are_mapped(nn_unet_weights(m->unet), &m) && !nn_weights_are_mapped(&m->text->weights, p->p[0].t->data));
    nn_model_free(m);
}

/* ---- the option ---- */

static void test_parse(test_state *t) {
    static const struct {
        const char *text;
        double bytes;
    } good[] = {{"1", 1073741824.0}, {"4.5G", 4831838208.0}, {"900M", 943718400.0}, {"64k", 65536.0}, {"2GiB", 2147483648.0}, {".5gB", 536870912.0}};
    static const char *const bad[] = {"", "G", "0", "-1", "1e3", "3X", "3Gi", "3 G", "lowest", "nan", "99999999999T", "1.2.3"};
    mem_limit l;
    tn_err err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        bool taken = mem_parse(good[i].text, &l, &err) == 0 && l.kind == MEM_BYTES && (double)l.bytes == good[i].bytes;
        CHECKF(t, taken, "--memory %s is %zu bytes", good[i].text, l.bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECKF(t, mem_parse(bad[i], &l, &err) == -1 && err.code == TN_EUSAGE, "--memory \"%s\" was taken", bad[i]);
    CHECK(t, mem_parse("low", &l, &err) == 0 && l.kind == MEM_LOW && mem_parse("mid", &l, &err) == 0 && l.kind == MEM_MID);
    CHECK(t, mem_parse("fast", &l, &err) == 0 && l.kind == MEM_FAST && mem_parse(NULL, &l, &err) == 0 && l.kind == MEM_FREE);
}

/* Way 2 is slower than 1 and takes more. */
static int bytes_of(void *arg, int way, size_t *out, tn_err *err) {
    static const size_t bytes[] = {4000, 3000, 3500, 1000};
    (void)arg, (void)err;
    *out = bytes[way];
    return 0;
}

static void test_choice(test_state *t) {
    static const struct {
        mem_limit limit;
        int way;
    } cases[] = {{{MEM_FAST, 0}, 0}, {{MEM_MID, 0}, 1}, {{MEM_LOW, 0}, 3}, {{MEM_FREE, 0}, 0}, {{MEM_FREE, 3999}, 1}, {{MEM_FREE, 10}, 3},
                 {{MEM_BYTES, 4000}, 0}, {{MEM_BYTES, 3999}, 1}, {{MEM_BYTES, 2999}, 3}, {{MEM_BYTES, 1000}, 3}, {{MEM_BYTES, 999}, -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int way = -1;
        size_t bytes, expected;
        tn_err err = {0};
        int r = mem_choose(&cases[i].limit, 4, 1, bytes_of, NULL, " (advice)", &way, &bytes, &err);
        if (cases[i].way < 0) CHECKF(t, r == -1 && err.code == TN_ENOMEM && strstr(err.msg, "(advice)"), "%d: %s", r, err.msg);
        else CHECKF(t, r == 0 && way == cases[i].way && bytes_of(NULL, way, &expected, &err) == 0 && bytes == expected, "limit %d, %zu: way %d", (int)cases[i].limit.kind, cases[i].limit.bytes, way);
    }
}

void test_main(test_state *t) {
    if (test_section(t, "parse")) test_parse(t);
    if (test_section(t, "choice")) test_choice(t);
    if (test_section(t, "residency")) test_residency(t);
    if (test_section(t, "given back")) test_rest(t);
}
