/* Ways to pictures that the paper compares with, or builds on. In all of them picture i begins with source picture i
 * modulo their number, where there is a source. */
#ifndef TOOLS_PAPER_METHODS_H
#define TOOLS_PAPER_METHODS_H

#include "tools/paper/samples.h"

/* Blended latent diffusion (nn/edit): the middle of the source becomes the sentence. margin: the share of each side
 * that stays. */
extern const paper_method method_blend; /* margin, shrink */
/* ILVR (nn/edit): the low band of the source, in latents. */
extern const paper_method method_ilvr; /* factor */
/* The source through the autoencoder, and with its latent optimised for it (nn/fit/latent_fit.h): no sentence is read.
 */
extern const paper_method method_encoder;
extern const paper_method method_latent_fit; /* steps */

/* Guidance by CLIP towards the goal, of a model that is told the sentence; begins with a noisy source (strength 1: with
 * noise). */
extern const paper_method method_clip_guided; /* scale, cutouts, strength */
/* VQGAN-CLIP with this decoder: the source's latent moved towards the goal in CLIP's space. */
extern const paper_method method_latent_clip; /* steps, cutouts */
/* DDIM inversion of the source with the sentence, and back with the goal and the request's guidance. */
extern const paper_method method_inverted; /* guidance of the inversion */
/* Frames on the great circle between the first two words, one sentence, one noise. */
extern const paper_method method_between;
/* Pivotal tuning: text encoder and UNet learn around the first word from the source, for as many steps; then from
 * noise. */
extern const paper_method method_tuned; /* steps, rate */

#endif
