/* Latents in files, and pictures as latents: what `encode`, `decode`, `generate`, `invert`, `interpolate` and `project`
 * share.
 *
 * A file holds "latent" [pictures, channels, h, w] or [channels, h, w], F32, multiplied by the autoencoder's
 * scaling_factor, which is in its metadata: what the UNet sees. Noise (x_T) is kept the same way. */
#ifndef TOOLS_LATENTS_H
#define TOOLS_LATENTS_H

#include "nn/image/image.h"
#include "nn/model/vae.h"
#include "tensor/tensor.h"

typedef struct latents {
    int64_t count, h, w, n; /* n: numbers of one */
    float *z;               /* [count, channels, h, w] */
} latents;
void latents_free(latents *l); /* leaves it zeroed */

/* The tensor of that name; NULL: "latent", else the only one. Warns of another autoencoder's scale. TN_EINPUT: no
 * latent of this model, or not finite. */
int latents_read(const char *path, const char *tensor, const nn_vae *vae, latents *out, tn_err *err);

/* What a file says of itself besides. */
typedef struct latents_note {
    const char *key, *value;
} latents_note;
int latents_write(const char *path, const nn_vae *vae, const latents *l, const latents_note *notes, int n, tn_err *err);

/* A picture file for the autoencoder: squeezed to resolution x resolution as training does, or, with 0, at its own
 * size, whose sides must then be multiples of the autoencoder's factor (TN_EINPUT). */
int latents_picture(const char *path, const nn_vae *vae, int64_t resolution, nn_image *out, tn_err *err);
/* The mean of the posterior of one such picture. TN_ENUMERIC, TN_ENOMEM. */
int latents_encode(tn_ctx *c, const nn_vae *vae, const nn_image *image, latents *out, tn_err *err);
/* Latent i as a picture. */
int latents_decode(tn_ctx *c, const nn_vae *vae, const latents *l, int64_t i, nn_image *out, tn_err *err);

#endif
