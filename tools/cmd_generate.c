/* oneword generate: prompts in, pictures out, each with the recipe to make it again. */
#include "tools/make.h"

static const opt_row rows[] = {
    {"latent", OPT_TEXT, MAKE_FIELD(latent), 0, 0, "FILE", "begin with the noise in a safetensors file, as invert writes it, instead of the seed's"},
    MAKE_OPTIONS,
    {"W,width", OPT_INT, MAKE_FIELD(width), 8, 16384, "N", "in pixels (default: the model's size)"},
    {"H,height", OPT_INT, MAKE_FIELD(height), 8, 16384, "N", "in pixels (default: the model's size)"},
};

static int run(int argc, char **argv);
const opt_command cmd_generate = {
    "generate",
    "pictures from a prompt",
    "generate --model DIR --prompt TEXT [options]",
    "examples:\n"
    "  oneword generate --model testdata/world/model --embedding testdata/world/learned/mango.safetensors \\\n"
    "    -p 'a photo of a <mango> on the beach' --steps 25 --cfg-scale 4 --seed 1 -o mango.png\n"
    "  ... --candidates 16 --keep 4 --clip testdata/world/clip    the best 4 of 16 by the prompt; with --like DIR also\n"
    "                                                             by likeness to the pictures of a folder\n"
    "  ... --clip testdata/world/clip --clip-guidance 100 --clip-prompt 'a photo of a red car'\n"
    "                                                             each step moved along the gradient of CLIP\n"
    "  ... --latent noise.safetensors                             from the noise of a picture: see invert\n"
    "  ... -p 'a photo of {} on the beach' --prompts captions.txt sentences of people in the place of the word\n\n"
    "Prints the path of each picture, the best first, or with --json a line {\"file\", \"seed\", \"seconds\"}, with\n"
    "\"prompt\" for --prompts, with \"place\", \"of\", \"score\", \"text\", \"image\" for --clip.",
    rows,
    sizeof rows / sizeof *rows,
    run};

static int run(int argc, char **argv) {
    static const make_options defaults = {MAKE_DEFAULTS};
    return make_main(&cmd_generate, argc, argv, &defaults);
}
