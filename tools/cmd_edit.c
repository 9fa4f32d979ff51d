/* oneword edit: a picture in, pictures made from it out. */
#include "tools/make.h"

static const opt_row rows[] = {
    {"i,picture,init-image", OPT_TEXT, MAKE_FIELD(picture), 0, 0, "FILE", "the picture to begin with, PNG or PPM (required)"},
    {"strength", OPT_NUMBER, MAKE_FIELD(strength), 0, 1, "X",
     "share of the steps that are done: 1 from noise, 0 the picture (default: 0.75; with --mask or --low-pass 1)"},
    {"first-step", OPT_INT, MAKE_FIELD(first_step), 0, 1000000, "N", "the step to begin with, instead of --strength"},
    {"mask", OPT_TEXT, MAKE_FIELD(mask), 0, 0, "FILE", "change only what is white in it; of the picture's size"},
    {"invert-mask", OPT_FLAG, MAKE_FIELD(invert_mask), 0, 0, NULL, "change what is black"},
    {"mask-shrink", OPT_INT, MAKE_FIELD(mask_shrink), 0, 100, "N",
     "the mask begins wider and shrinks N times to its shape: for thin ones (default: 0)"},
    {"background", OPT_TEXT, MAKE_FIELD(background), 0, 0, "latent|paste|decoder",
     "what is kept: latents; pixels (default); pixels by a decoder fitted to them, without a seam, slow"},
    {"decoder-steps", OPT_INT, MAKE_FIELD(decoder_steps), 1, 100000, "N", "of --background decoder (default: 75)"},
    {"low-pass", OPT_INT, MAKE_FIELD(low_pass), 1, 4096, "N",
     "keep what is left of the picture made N times smaller: colours and layout"},
    {"low-pass-space", OPT_TEXT, MAKE_FIELD(low_pass_space), 0, 0, "latent|pixel",
     "N in latent pixels (default), or in the picture's, which decodes and encodes in each step"},
    {"low-pass-until", OPT_INT, MAKE_FIELD(low_pass_until), 0, 1000000, "STEP", "only after the first steps (default: all)"},
    MAKE_OPTIONS,
    {"W,width", OPT_INT, MAKE_FIELD(width), 8, 16384, "N", "in pixels (default: the picture's)"},
    {"H,height", OPT_INT, MAKE_FIELD(height), 8, 16384, "N", "in pixels (default: the picture's)"},
};

static int run(int argc, char **argv);
const opt_command cmd_edit = {
    "edit",
    "pictures from a picture: by strength, within a mask, with its colours",
    "edit --model DIR --picture FILE --prompt TEXT [options]",
    "examples, after oneword generate --model testdata/world/model -p 'a photo of a cat on the beach' -o cat.png:\n"
    "  oneword edit --model testdata/world/model -i cat.png -p 'a photo of a dog on the beach' --strength 0.6\n"
    "  oneword edit --model testdata/world/model -i cat.png --mask mask.png -p 'a photo of a <mango>' \\\n"
    "    --embedding testdata/world/learned/mango.safetensors --candidates 8 --keep 2 --clip testdata/world/clip\n"
    "  oneword edit --model testdata/world/model -i cat.png -p 'a photo of a house' --low-pass 4\n\n"
    "Candidates are ranked by what is inside the mask. Prints the path of each picture, the best first, or with --json a\n"
    "line as generate does.",
    rows,
    sizeof rows / sizeof *rows,
    run};

static int run(int argc, char **argv) {
    static const make_options defaults = {MAKE_DEFAULTS};
    return make_main(&cmd_edit, argc, argv, &defaults);
}
