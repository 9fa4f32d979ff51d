/* The sections of the report, in the paper's order. */
#include "tools/paper/sections.h"

const paper_section paper_sections[] = {
    {"4.1", "Image variations", "one pseudo-word captures an object better than a person's caption, short or long.", plan_variations,
     show_variations},
    {"4.2", "Text-guided synthesis", "the word goes where sentences send it.", plan_synthesis, show_synthesis},
    {"4.2b", "Baselines of text-guided synthesis", "baselines by CLIP's gradient corrupt the object or ignore the sentence, and optimise every picture anew.",
     plan_baselines, show_baselines},
    {"4.3", "Styles", "a word can stand for a style, learned from a few pictures of it.", plan_styles, show_styles},
    {"4.4", "Compositions", "several learned words work in one sentence, an object in a style well, two objects side by side often not.",
     plan_compositions, show_compositions},
    {"4.5", "Bias reduction", "a new word for a biased one, learned from a small diverse set, gives a fairer picture.", plan_bias, show_bias},
    {"4.6", "Downstream applications", "a word works in tools that know nothing of it: Blended latent diffusion, the model unchanged.", plan_blending,
     show_blending},
    {"4.7", "Curation", "the best of 16 candidates was chosen by hand; CLIP could do it.", plan_curation, show_curation},
    {"5.2", "Setups", "extended latent spaces, regularisation, learning rates, human captions and two references, in CLIP's space.", plan_setups,
     show_setups},
    {"5.3", "Likeness against editability",
     "setups lie on a curve that the learning rate travels along; one vector lies on the better side of it, captions behind it.", plan_setups,
     show_tradeoff},
    {"A", "Inversion and tuning", "guidance breaks DDIM inversion; pivotal tuning brings shapes nearer and costs editability.", plan_appendix, show_appendix},
    {"B", "Number of pictures", "about five are best; more cost editability for little likeness.", plan_sizes, show_sizes},
    {"2", "Related work", "inversion of generators gives a picture back, low-pass conditioning its layout; neither gives a word.", plan_related, show_related},
    {"6", "Speed", "two hours a concept are a limitation; encoders, and fewer steps, are what to look for.", plan_speed, show_speed},
};
const int paper_nsections = sizeof paper_sections / sizeof *paper_sections;
