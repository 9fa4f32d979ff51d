/* oneword COMMAND: dispatch, help and version. */
#include "tensor/io/json.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"
#include "tools/opt.h"
#include "tools/version.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <unistd.h>
#endif

static const opt_command *const commands[] = {
#define CMD(name) &cmd_##name,
#include "tools/commands.def"
#undef CMD
};
enum { NCOMMANDS = sizeof commands / sizeof *commands };

static const opt_command *find(const char *name) {
    if (strcmp(name, "txt2img") == 0) name = "generate";
    for (int i = 0; i < NCOMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    }
    return NULL;
}

static int unknown(const char *name) {
    const char *names[NCOMMANDS];
    tn_err err;
    for (int i = 0; i < NCOMMANDS; i++) names[i] = commands[i]->name;
    const char *near = opt_nearest(name, names, NCOMMANDS);
    if (near) tn_fail(&err, TN_EUSAGE, "unknown command \"%s\" (did you mean %s?)", name, near);
    else tn_fail(&err, TN_EUSAGE, "unknown command \"%s\" (see oneword help)", name);
    return opt_error(&err);
}

static void usage(FILE *to) {
    fprintf(to, "oneword: textual inversion in pure C: from a few photographs to a word that a text-to-image model understands\n\n"
                "usage: oneword COMMAND [options]\n\n");
    for (int i = 0; i < NCOMMANDS; i++) fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "\noneword COMMAND --help lists the options of one command.\n");
}

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

static int version(bool json) {
    static const char *const sets[] = {"scalar", "neon", "avx2", "avx512"};
    const char *best = tn_kernels_best()->name;
    uint32_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    const char *endian = first ? "little" : "big";
#ifdef _OPENMP
    bool openmp = true;
#else
    bool openmp = false;
#endif
    if (!json) {
        printf("oneword %s (kernels %s, %d threads%s, %s-endian, %s)\n", ONEWORD_VERSION, best, tn_max_threads(), openmp ? "" : " as built without OpenMP",
               endian, COMPILER);
        return 0;
    }
    tn_jw w;
    tn_jw_init(&w, 0);
    tn_jw_open(&w, NULL, '{');
    tn_jw_string(&w, "version", ONEWORD_VERSION), tn_jw_string(&w, "compiler", COMPILER), tn_jw_bool(&w, "openmp", openmp);
    tn_jw_int(&w, "threads", tn_max_threads()), tn_jw_string(&w, "endianness", endian), tn_jw_string(&w, "kernels", best);
    tn_jw_open(&w, "kernels_available", '[');
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        int known;
        if (tn_kernels_named(sets[i], &known)) tn_jw_string(&w, NULL, sets[i]);
    }
    tn_jw_close(&w, ']');
    tn_jw_close(&w, '}');
    char *text = tn_jw_take(&w);
    if (text) puts(text);
    free(text);
    return 0;
}

/* How threads wait for the next loop is told to OpenMP's run times before the program starts, or not at all; so, unless the
 * user has chosen, choose and start again (where that fails, go on). A step on the bundled model has some 700 loops of
 * 5 to 500 microseconds with short gaps between them. Measured on two cores, milliseconds a step, with the cores free and
 * with one other program running on each (19 with one thread):
 *                                             free   taken
 *     sleep at once (passive)                   18      47    waking takes as long as many of the loops
 *     spin for 50,000 turns, 0.85 ms, then      13      25    <- this
 *     spin for 3 ms, then (libgomp's own)       13      38
 *     spin (active)                             13     109    who waits keeps what it waits for off its core
 * LLVM's run time counts whole milliseconds. */
static void choose_waiting(char **argv) {
#ifdef _OPENMP
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 0)) return;
    if (setenv("GOMP_SPINCOUNT", "50000", 0) || setenv("KMP_BLOCKTIME", "1", 0)) return;
    execv("/proc/self/exe", argv);
#else
    (void)argv;
#endif
}

int main(int argc, char **argv) {
#ifdef SIGXFSZ
    signal(SIGXFSZ, SIG_IGN); /* a file over the size limit is then a failed write: an error like a full disk */
#endif
    choose_waiting(argv);
    if (argc < 2) {
        usage(stderr);
        return TN_EUSAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0) return version(argc > 2 && strcmp(argv[2], "--json") == 0);
    if (strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        const opt_command *cmd = argc > 2 ? find(argv[2]) : NULL;
        if (argc > 2 && !cmd) return unknown(argv[2]);
        if (cmd) opt_help(cmd);
        else usage(stdout);
        return 0;
    }
    const opt_command *cmd = find(word);
    int status = cmd ? cmd->run(argc - 1, argv + 1) : unknown(word);
    if (status == 0 && (fflush(stdout) || ferror(stdout))) { /* a full disk behind a redirection must not look like success */
        tn_err err;
        tn_fail(&err, TN_EIO, "cannot write to standard output");
        return opt_error(&err);
    }
    return status;
}
