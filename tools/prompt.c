#include "tools/prompt.h"

#include "tensor/io/sys.h"
#include "tools/opt.h"
#include <stdlib.h>
#include <string.h>

/* CLIP's vocabulary has 49408 tokens: its pieces of words occur in the training of any model that uses it. A vocabulary
 * much smaller than that is a list of the words of a small world, each one token, and what is not in the list was never
 * trained. */
enum { SMALL_VOCABULARY = 20000 };

int prompt_check(const char *what, const char *prompt, tn_err *err) {
    size_t len = strlen(prompt);
    for (size_t i = 0; i < len;) {
        size_t n = tn_utf8_length((const unsigned char *)prompt + i, len - i);
        if (!n) return tn_fail(err, TN_EUSAGE, "%s: not UTF-8 at byte %zu", what, i);
        i += n;
    }
    return 0;
}

char *prompt_text(const nn_model *m, const int32_t *ids, int from, int to) {
    static const char end[] = "</w>";
    size_t cap = 1, len = 0, tail = sizeof end - 1;
    for (int i = from; i < to; i++) cap += strlen(nn_tokenizer_text(m->tokenizer, ids[i])) + 1;
    char *s = malloc(cap);
    for (int i = from; s && i < to; i++) {
        const char *t = nn_tokenizer_text(m->tokenizer, ids[i]);
        size_t n = strlen(t);
        bool last = n > tail && strcmp(t + n - tail, end) == 0,
             added = ids[i] >= nn_tokenizer_get_facts(m->tokenizer).file_size;
        if (last) n -= tail;
        memcpy(s + len, t, n), len += n;
        if ((last || added) && i + 1 < to) s[len++] = ' ';
    }
    if (s) s[len] = '\0';
    return s;
}

/* Encodes again without the limit, to say what was lost. */
static int warn_truncated(const nn_model *m, const char *what, const char *prompt, nn_tokenizer_rules rules,
                          const nn_tokens *kept, tn_err *err) {
    nn_tokens all;
    if (nn_tokenizer_encode(m->tokenizer, prompt, strlen(prompt), rules, kept->n_total, &all, err)) return -1;
    char *lost = prompt_text(m, all.ids, kept->n_real - 1, all.n_real - 1);
    nn_tokens_free(&all);
    if (!lost) return tn_fail(err, TN_ENOMEM, "out of memory for a prompt");
    opt_warn("%s: the model reads %d tokens, so this part has no effect: \"%.200s%s\"", what, kept->length - 2, lost,
             strlen(lost) > 200 ? "..." : "");
    free(lost);
    return 0;
}

static void warn_pieces(const nn_model *m, const char *what, const nn_tokens *t) {
    int vocabulary = nn_tokenizer_get_facts(m->tokenizer).file_size;
    char words[240] = "";
    size_t used = 0;
    if (vocabulary >= SMALL_VOCABULARY) return;
    for (int i = 0; i < t->n_split; i++) {
        size_t n = strlen(t->split[i].text);
        if (used + n + 4 >= sizeof words) continue;
        if (used) memcpy(words + used, ", ", 2), used += 2;
        memcpy(words + used, t->split[i].text, n + 1), used += n;
    }
    if (used) {
        opt_warn("%s: not in the small vocabulary of this model (%d tokens): %s; such a word falls apart into pieces "
                 "that it was never "
                 "trained with, and means nothing to it",
                 what, vocabulary, words);
    }
}

int prompt_remarks(const nn_model *m, const char *what, const char *prompt, nn_tokenizer_rules rules, int length,
                   tn_err *err) {
    nn_tokens t;
    if (nn_tokenizer_encode(m->tokenizer, prompt, strlen(prompt), rules, length, &t, err))
        return tn_fail_in(err, "%s", what);
    int bad = t.n_total > t.n_real ? warn_truncated(m, what, prompt, rules, &t, err) : 0;
    if (t.near_miss)
        opt_warn("%s: \"%s\" is not the word %s: upper and lower case differ", what, t.near_miss, t.near_miss_of);
    warn_pieces(m, what, &t);
    nn_tokens_free(&t);
    return bad;
}

int prompt_unused(const nn_model *m, const emb_words *words, const char *prompt, const char *negative,
                  nn_tokenizer_rules rules, tn_err *err) {
    nn_tokens t[2] = {{0}, {0}};
    int bad = gen_tokenize(m, prompt, rules, &t[0], err) || gen_tokenize(m, negative, rules, &t[1], err) ? -1 : 0;
    int64_t first = nn_tokenizer_get_facts(m->tokenizer).file_size;
    for (int i = 0; !bad && i < words->n; first += words->w[i].n, i++) {
        bool found = false;
        for (int j = 0; j < 2; j++) {
            for (int k = 0; k < t[j].n_real; k++)
                found = found || (t[j].ids[k] >= first && t[j].ids[k] < first + words->w[i].n);
        }
        if (!found) opt_warn("the prompt does not contain the learned word %s", words->w[i].token);
    }
    nn_tokens_free(&t[0]), nn_tokens_free(&t[1]);
    return bad;
}

/* ---- lists ---- */

enum { MAX_PROMPTS = 4096, MAX_FILE = 1 << 20 };

nn_tokenizer_rules prompt_rules(const char *mode) { return strcmp(mode, "openai") == 0 ? NN_RULES_OPENAI : NN_RULES_HF; }

void prompt_list_free(prompt_list *p) {
    for (int i = 0; i < p->n; i++) free(p->line[i]);
    free(p->line);
    *p = (prompt_list){0};
}

/* `frame` with n bytes of text in the place of every "{}", or the text alone. */
static int add_line(prompt_list *p, const char *frame, const char *text, size_t n, tn_err *err) {
    size_t places = 0;
    for (const char *at = frame; (at = strstr(at, "{}")); at += 2) places++;
    char **line = realloc(p->line, ((size_t)p->n + 1) * sizeof *line), *to = malloc(strlen(frame) + places * n + 1);
    if (line) p->line = line;
    if (!line || !to) {
        free(to);
        return tn_fail(err, TN_ENOMEM, "out of memory for the prompts");
    }
    p->line[p->n++] = to;
    for (const char *from = frame; *from;) {
        if (from[0] == '{' && from[1] == '}') memcpy(to, text, n), to += n, from += 2;
        else *to++ = *from++;
    }
    *to = '\0';
    return 0;
}

static int read_lines(const char *frame, const char *path, const char *text, size_t size, prompt_list *out, tn_err *err) {
    if (memchr(text, '\0', size)) return tn_fail(err, TN_EINPUT, "%s: not a text file (NUL byte)", path);
    for (const char *p = text; *p;) {
        size_t line = strcspn(p, "\n"), n = line;
        while (n > 0 && strchr("\r \t", p[n - 1])) n--;
        if (n > 0 && *p != '#') {
            if (out->n == MAX_PROMPTS) return tn_fail(err, TN_EINPUT, "%s: more than %d prompts", path, MAX_PROMPTS);
            if (add_line(out, frame, p, n, err)) return -1;
            if (prompt_check(path, out->line[out->n - 1], err)) return -1;
        }
        p += line + (p[line] == '\n');
    }
    return out->n ? 0 : tn_fail(err, TN_EINPUT, "%s: no prompt in it", path);
}

int prompt_list_make(const char *prompt, const char *path, prompt_list *out, tn_err *err) {
    char *text;
    size_t size;
    *out = (prompt_list){0};
    if (prompt && prompt_check("--prompt", prompt, err)) return -1;
    if (!path) return add_line(out, prompt, "{}", 2, err);
    if (prompt && !strstr(prompt, "{}"))
        return tn_fail(err, TN_EUSAGE, "--prompt \"%s\": no {} for the lines of --prompts %s", prompt, path);
    if (tn_read_file(path, MAX_FILE, &text, &size, err)) return -1;
    int bad = read_lines(prompt ? prompt : "{}", path, text, size, out, err);
    free(text);
    if (bad) prompt_list_free(out);
    return bad;
}
