#include "tools/paper/unit.h"

#include "tensor/io/sha256.h"
#include "tensor/io/sys.h"
#include "tools/paper/paper.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Part of every recipe: to be raised when the meaning of a recipe changes. */
enum { RECIPES = 1 };

void unit_recipe(const paper *p, tn_jw *w, const unit_kind *kind) {
    tn_jw_init(w, 0);
    tn_jw_open(w, NULL, '{');
    tn_jw_int(w, "v", RECIPES), tn_jw_string(w, "kind", kind->name), tn_jw_string(w, "arithmetic", p->arithmetic);
    tn_jw_int(w, "conv", (int)p->c.conv), tn_jw_string(w, "model", p->model_sha);
}

/* Where a key is, or would go. */
static int *slot_of(const unit_plan *plan, const char *key) {
    unsigned long h = 0;
    for (int i = 0; i < 8; i++) h = h * 31 + (unsigned char)key[i];
    for (h %= (unsigned long)plan->nslots;; h = (h + 1) % (unsigned long)plan->nslots) {
        int *slot = &plan->slot[h];
        if (!*slot || strcmp(plan->unit[*slot - 1].key, key) == 0) return slot;
    }
}

/* Room for one more unit, in a table at most half full. */
static int grow(unit_plan *plan) {
    if (plan->n < plan->cap) return 0;
    int cap = plan->cap ? 2 * plan->cap : 256;
    unit *u = realloc(plan->unit, (size_t)cap * sizeof *u);
    if (u) plan->unit = u, plan->cap = cap;
    int *slot = u ? calloc(2 * (size_t)cap, sizeof *slot) : NULL;
    if (!slot) return -1;
    free(plan->slot);
    plan->slot = slot, plan->nslots = 2 * cap;
    for (int i = 0; i < plan->n; i++) *slot_of(plan, plan->unit[i].key) = i + 1;
    return 0;
}

static uint32_t share_of(const char *key) {
    uint32_t share = 0;
    for (int i = 0; i < 8; i++) share = share * 16 + (uint32_t)(key[i] <= '9' ? key[i] - '0' : key[i] - 'a' + 10);
    return share;
}

static int add(paper *p, const char *recipe, unit *u, const void *spec, size_t size) {
    unit_plan *plan = &p->plan;
    tn_sha256 h;
    tn_sha256_init(&h);
    tn_sha256_update(&h, recipe, strlen(recipe));
    tn_sha256_hex(&h, u->key);
    if (grow(plan)) return -1;
    int *slot = slot_of(plan, u->key);
    if (*slot) return *slot - 1;
    u->recipe = paper_text(p, "%s", recipe), u->spec = paper_keep(p, spec, size);
    if (!u->recipe || !u->spec) return -1;
    u->share = u->ninputs ? plan->unit[u->input[0]].share : share_of(u->key);
    plan->unit[plan->n] = *u;
    return (*slot = ++plan->n) - 1;
}

int unit_add(paper *p, tn_jw *recipe, const unit_kind *kind, const void *spec, size_t size, const int *input,
             int ninputs, int64_t training, int64_t sampling) {
    unit u = {.kind = kind, .ninputs = ninputs, .training = training, .sampling = sampling, .section = p->section};
    TN_REQUIRE(ninputs <= UNIT_INPUTS);
    if (ninputs) {
        tn_jw_open(recipe, "inputs", '[');
        for (int i = 0; i < ninputs; i++) tn_jw_string(recipe, NULL, p->plan.unit[u.input[i] = input[i]].key);
        tn_jw_close(recipe, ']');
    }
    tn_jw_close(recipe, '}');
    char *text = tn_jw_take(recipe);
    int number = text && !p->failed ? add(p, text, &u, spec, size) : -1;
    free(text);
    if (number >= 0) return number;
    if (!p->failed) tn_fail(&p->err, TN_ENOMEM, "out of memory for the plan");
    p->failed = true;
    return 0;
}

const char *unit_path(const paper *p, const unit *u, char path[4096]) {
    snprintf(path, 4096, "%.3900s/units/%s%s", p->output, u->key, u->kind->ending);
    return path;
}

bool unit_done(const paper *p, const unit *u) {
    char path[4096];
    return tn_exists(unit_path(p, u, path));
}

bool unit_in_shard(const unit *u, int64_t index, int64_t count) {
    return u->share % (uint64_t)count == (uint64_t)index;
}

void unit_free(unit_plan *plan) {
    for (int i = 0; i < plan->n; i++) free(plan->unit[i].result);
    free(plan->unit), free(plan->slot);
    *plan = (unit_plan){0};
}
