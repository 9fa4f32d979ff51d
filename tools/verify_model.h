/* The model that a case lies in, for the runners that need one. */
#ifndef TOOLS_VERIFY_MODEL_H
#define TOOLS_VERIFY_MODEL_H

#include "nn/model.h"
#include "tools/verify.h"

/* Loads components (NN_LOAD_*) of c->model; NULL with c->err, TN_EUNSUPPORTED where its weights are in a form that is
 * not built in. To be freed with nn_model_free. */
nn_model *verify_model(verify_case *c, int components);

/* verify_sampler.c: the schedule of a scheduler_config.json object in attrs, read as `class_override` or as the class
 * that it names; false with c->err. */
bool verify_schedule(verify_case *c, const char *key, const char *class_override, nn_schedule *out);

#endif
