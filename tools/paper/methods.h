/* Ways to pictures that the paper compares with, or builds on. In all of them picture i begins with source picture i modulo their
 * number, where there is a source. */
#ifndef TOOLS_PAPER_METHODS_H
#define TOOLS_PAPER_METHODS_H

#include "tools/paper/samples.h"

/* Blended latent diffusion (nn/edit): the middle of the source becomes the sentence. margin: the share of each side that stays. */
extern const paper_method method_blend; /* margin, shrink */
/* ILVR (nn/edit): the low band of the source, in latents. */
extern const paper_method method_ilvr; /* factor */
/* The source through the autoencoder, and with its latent optimised for it (nn/fit/latent_fit.h): no sentence is read. */
extern const paper_method method_encoder;
extern const paper_method method_latent_fit; /* steps */

#endif
