#include "tools/memory.h"

#include "tensor/io/json.h"
#include "tensor/io/sys.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

const char *mem_text(char *out, size_t bytes) {
    double mib = (double)bytes / (1024.0 * 1024.0);
    if (mib < 100.0) snprintf(out, 16, "%.1f MiB", mib);
    else snprintf(out, 16, "%.2f GiB", mib / 1024.0);
    return out;
}

size_t mem_base(void) {
    enum { LATER = 6 << 20 }; /* measured */
    return tn_rss_now() + LATER;
}

/* What may be taken now: what is free, and what the process has already. */
static mem_limit whatever_is_free(void) {
    size_t spare = tn_memory_free();
    return (mem_limit){MEM_FREE, spare ? spare + tn_rss_now() : 0};
}

/* "", "K", "MB", "GiB", ... as a factor; 0 for anything else. */
static double unit(const char *s) {
    static const char letters[] = "KMGT";
    if (!*s) return 1024.0 * 1024.0 * 1024.0;
    const char *at = strchr(letters, *s >= 'a' && *s <= 'z' ? *s - 'a' + 'A' : *s);
    if (!at || (s[1] && strcmp(s + 1, "B") != 0 && strcmp(s + 1, "iB") != 0)) return 0.0;
    return ldexp(1.0, 10 * (int)(at - letters + 1));
}

int mem_parse(const char *text, mem_limit *out, tn_err *err) {
    static const char *const names[] = {"low", "mid", "fast"};
    if (!text) {
        *out = whatever_is_free();
        return 0;
    }
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *out = (mem_limit){(mem_kind)(MEM_LOW + i), 0};
        return 0;
    }
    size_t digits = strspn(text, "0123456789.");
    double number = 0.0, factor = unit(text + digits);
    if (digits == 0 || !tn_parse_double(text, digits, &number) || factor == 0.0 || !(number > 0.0) ||
        number * factor >= 9e18 || number * factor > (double)SIZE_MAX) {
        return tn_fail(err, TN_EUSAGE, "--memory \"%s\": expected low, mid, fast, or a size as 3, 4.5G or 900M", text);
    }
    *out = (mem_limit){MEM_BYTES, (size_t)(number * factor)};
    return 0;
}

int mem_choose(const mem_limit *limit, int n, int mid, int (*bytes)(void *arg, int way, size_t *out, tn_err *err),
               void *arg, const char *advice, int *way, size_t *taken, tn_err *err) {
    bool any = limit->kind == MEM_FAST || (limit->kind == MEM_FREE && limit->bytes == 0);
    int named = any ? 0 : limit->kind == MEM_MID ? mid : limit->kind == MEM_LOW ? n - 1 : -1;
    if (named >= 0) {
        *way = named;
        return bytes(arg, named, taken, err);
    }
    size_t least = SIZE_MAX, now = 0;
    for (int i = 0; i < n; i++) {
        if (bytes(arg, i, &now, err)) return -1;
        if (now >= least) continue; /* slower and no smaller */
        *way = i, *taken = least = now;
        if (least <= limit->bytes) return 0;
    }
    if (limit->kind == MEM_FREE) return 0;
    char allowed[16], needed[16];
    return tn_fail(err, TN_ENOMEM, "--memory %s: this run needs at least %s%s", mem_text(allowed, limit->bytes),
                   mem_text(needed, least), advice);
}
