/* The configuration of a UNet out of its config.json. */
#ifndef NN_UNET_CONFIG_H
#define NN_UNET_CONFIG_H

#include "nn/model/unet.h"

int nn_unet_config_load(const char *dir, nn_unet_config *out, nn_notes *notes, tn_err *err);

#endif
