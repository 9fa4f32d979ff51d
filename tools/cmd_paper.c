/* oneword paper: every experiment of the paper on the bundled world, as one report (tools/paper/README.md). */
#include "tools/paper/run.h"

#include "tensor/io/json.h"
#include <stdio.h>
#include <string.h>

typedef struct settings {
    paper p; /* its sizes are filled from these where they were given */
    int64_t objects, styles, train_steps, samples, sentences, edit_samples, steps, seed;
    bool quick, dry_run, merge;
    const char *shard;
} settings;

#define AT(f) offsetof(settings, f)
static const opt_row rows[] = {
    {"o,output", OPT_TEXT, AT(p) + offsetof(paper, output), 0, 0, "DIR", "where units, report and sheets go (default build/paper)"},
    {"quick", OPT_FLAG, AT(quick), 0, 0, NULL, "twenty minutes on two cores instead of a night"},
    {"dry-run", OPT_FLAG, AT(dry_run), 0, 0, NULL, "print the plan and stop"},
    {"shard", OPT_TEXT, AT(shard), 0, 0, "I/N", "make only part I (1 to N) of the units, and no report"},
    {"merge", OPT_FLAG, AT(merge), 0, 0, NULL, "the arguments are folders of shards: compare, gather, write the report"},
    {"objects", OPT_INT, AT(objects), 0, 13, "N", "objects to learn (default 13, quick: 5)"},
    {"styles", OPT_INT, AT(styles), 0, 4, "N", "styles to learn (default 4)"},
    {"max-train-steps", OPT_INT, AT(train_steps), 1, 1000000, "N", "steps of each word (default 800, quick: 400)"},
    {"samples,n", OPT_INT, AT(samples), 1, 512, "N", "pictures of a word by which likeness is judged (default 64, quick: 16)"},
    {"sentences", OPT_INT, AT(sentences), 1, EVAL_PROMPTS, "N", "sentences by which editability is judged (default 12)"},
    {"edit-samples", OPT_INT, AT(edit_samples), 1, 512, "N", "pictures of each of them (default 32, quick: 2)"},
    {"steps", OPT_INT, AT(steps), 1, 1000, "N", "steps of sampling (default 25)"},
    {"seed,S", OPT_INT, AT(seed), 0, 4e9, "N", "seed of everything random (default 0)"},
    OPT_COMMON(settings, p.common),
};
enum { NROWS = sizeof rows / sizeof *rows };

static int run(int argc, char **argv);
const opt_command cmd_paper = {
    "paper", "every experiment of the paper on the bundled world, as one report", "paper [SECTION...] [-o DIR] [options]\n       oneword paper --merge DIR... -o DIR",
    "Sections: 4.1 4.2 4.2b 4.3 4.4 4.5 4.6 4.7 5.1 5.2 5.3 A B 2 6 (default: all).\n"
    "Every word learned, set of samples and score is a file of its own in DIR/units: a run that was stopped goes on, a second one\n"
    "finds all done. Shards need no order and may share DIR; the last run, without --shard, makes what is missing and the report.\n\n"
    "example, two processes at once:\n"
    "  oneword paper --quick -o out -t 1 --shard 1/2 & oneword paper --quick -o out -t 1 --shard 2/2; wait; oneword paper --quick -o out",
    rows, NROWS, run};

/* ---- what was asked for ---- */

static int64_t given(int64_t value, int64_t otherwise) { return value >= 0 ? value : otherwise; }

static void choose_sizes(settings *s) {
    bool q = s->quick;
    s->p.size = (paper_size){.objects = given(s->objects, q ? 5 : 13), .styles = given(s->styles, 4), .quick = q,
                             .train_steps = given(s->train_steps, q ? 400 : 800), .samples = given(s->samples, q ? 16 : 64), .sentences = given(s->sentences, EVAL_PROMPTS),
                             .edit_samples = given(s->edit_samples, q ? 2 : 32), .steps = given(s->steps, 25), .seed = given(s->seed, 0)};
}

static int choose_shard(settings *s, tn_err *err) {
    s->p.shard = 0, s->p.shards = 1;
    if (!s->shard) return 0;
    const char *slash = strchr(s->shard, '/');
    int64_t i, n;
    if (!slash || !tn_parse_int64(s->shard, (size_t)(slash - s->shard), &i) || !tn_parse_int64(slash + 1, strlen(slash + 1), &n) || n < 1 ||
        n > 100000 || i < 1 || i > n) {
        return tn_fail(err, TN_EUSAGE, "--shard %s: expected I/N with I from 1 to N, as in 2/5", s->shard);
    }
    s->p.shard = i - 1, s->p.shards = n;
    return 0;
}

static int choose_sections(paper *p, const opt_list *names, tn_err *err) {
    const char *known[PAPER_SECTIONS];
    TN_REQUIRE(paper_nsections <= PAPER_SECTIONS);
    for (int i = 0; i < paper_nsections; i++) known[i] = paper_sections[i].id, p->selected[i] = names->n == 0;
    for (int k = 0; k < names->n; k++) {
        bool found = false;
        for (int i = 0; i < paper_nsections; i++) {
            if (strcmp(known[i], names->item[k]) == 0) found = p->selected[i] = true;
        }
        if (found) continue;
        const char *near = opt_nearest(names->item[k], known, paper_nsections);
        return tn_fail(err, TN_EUSAGE, "no section \"%s\" (did you mean %s? see oneword paper --help)", names->item[k], near ? near : known[0]);
    }
    return 0;
}

static int check(const settings *s, const opt_list *rest, tn_err *err) {
    if (s->merge && (s->shard || s->dry_run)) return tn_fail(err, TN_EUSAGE, "--merge excludes --shard and --dry-run");
    if (s->merge && rest->n == 0) return tn_fail(err, TN_EUSAGE, "--merge: name the folders of the shards");
    if (strlen(s->p.output) > 3800) return tn_fail(err, TN_EUSAGE, "--output: the path is too long");
    return 0;
}

/* ---- what to do ---- */

static int experiments(settings *s, const opt_list *rest, tn_err *err) {
    paper *p = &s->p;
    if (s->merge && paper_merge(p, rest->item, rest->n, err)) return -1;
    if (paper_open(p, err) || paper_plan(p, err)) return -1;
    if (!s->merge) {
        if (paper_probe(p, err)) return -1;
        paper_tell(p);
        if (s->dry_run) return 0;
        if (paper_make(p, err)) return -1;
    }
    int missing = paper_missing(p);
    if (s->shard) {
        opt_note(&p->common, missing ? "shard %s is done; %d units of other shards are not here" : "shard %s is done, and so are all others", s->shard, missing);
        return 0;
    }
    if (missing) return tn_fail(err, TN_EINPUT, "%d of %d units are in none of the folders (a shard that did not finish?)", missing, p->plan.n);
    if (paper_store_settings(p, err) || paper_report(p, err)) return -1;
    printf("%s/report.html\n", p->output);
    return 0;
}

static int run(int argc, char **argv) {
    settings s = {.p = {.program = argv[-1], .output = "build/paper"}, .objects = -1, .styles = -1, .train_steps = -1, .samples = -1, .sentences = -1,
                  .edit_samples = -1, .steps = -1, .seed = -1};
    opt_list rest = {.n = 0};
    tn_err err;
    int r = opt_parse(&cmd_paper, argc, argv, &s, NULL, &rest, &err);
    if (r) return r < 0 ? opt_error(&err) : 0;
    choose_sizes(&s);
    r = check(&s, &rest, &err) || choose_shard(&s, &err) || (!s.merge && choose_sections(&s.p, &rest, &err));
    if (!r) r = experiments(&s, &rest, &err);
    paper_close(&s.p);
    return r ? opt_error(&err) : 0;
}
