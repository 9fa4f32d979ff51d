/* Tables of betas and alphas_cumprod, and the forward process. Public implementation: diffusers 0.31,
 * scheduling_ddpm.py. */
#include "nn/schedule.h"
#include "tensor/dmath.h"
#include "tensor/fma.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* torch.linspace in float32 as PyTorch computes it on a CPU with AVX2, where the published float32 tables come from:
 * lanes of eight, two at a time, the first lane by a fused multiply-add from the nearer end, the others added to it;
 * the rest that does not fill sixteen by fused multiply-adds alone. */
static void linspace(float *out, int n, float start, float end) {
    enum { LANES = 8, BLOCK = 16 };
    if (n == 1) {
        out[0] = start;
        return;
    }
    float step = (end - start) / (float)(n - 1);
    int whole = n - n % BLOCK;
    for (int i = 0; i < n; i++) {
        int lane = i < whole ? i % LANES : 0;
        int first = i - lane;
        float base = first < n / 2 ? tn_fmaf(step, (float)first, start) : tn_fmaf(-step, (float)(n - first - 1), end);
        out[i] = base + (float)lane * step;
    }
}

static double cosine_alpha_bar(double t) {
    const double pi = 3.14159265358979323846;
    double c = tn_cos((t + 0.008) / 1.008 * pi / 2);
    return c * c;
}

/* beta_i = 1 - abar(i + 1) / abar(i), at most 0.999: in double, rounded once. */
static void squaredcos_betas(float *betas, int n) {
    for (int i = 0; i < n; i++) {
        double beta = 1 - cosine_alpha_bar((double)(i + 1) / n) / cosine_alpha_bar((double)i / n);
        betas[i] = (float)(beta < 0.999 ? beta : 0.999);
    }
}

static void sigmoid_betas(float *betas, int n, double beta_start, double beta_end) {
    float range = (float)(beta_end - beta_start), start = (float)beta_start;
    linspace(betas, n, -6.0f, 6.0f);
    for (int i = 0; i < n; i++) {
        float sigmoid = (float)(1 / (1 + tn_exp(-(double)betas[i])));
        betas[i] = sigmoid * range + start;
    }
}

static void fill_betas(float *betas, const nn_schedule_config *config) {
    int n = config->num_train_timesteps;
    if (config->trained_betas) {
        memcpy(betas, config->trained_betas, (size_t)n * sizeof *betas);
        return;
    }
    switch (config->beta_schedule) {
    case NN_BETA_LINEAR: linspace(betas, n, (float)config->beta_start, (float)config->beta_end); return;
    case NN_BETA_SCALED_LINEAR:
        linspace(betas, n, (float)sqrt(config->beta_start), (float)sqrt(config->beta_end));
        for (int i = 0; i < n; i++) betas[i] *= betas[i];
        return;
    case NN_BETA_SQUAREDCOS: squaredcos_betas(betas, n); return;
    case NN_BETA_SIGMOID: sigmoid_betas(betas, n, config->beta_start, config->beta_end); return;
    default: TN_BUG("beta_schedule %d", config->beta_schedule);
    }
}

/* The product is kept in double and every entry rounded once, as torch.cumprod does for float32. */
static void cumprod_alphas(float *out, const float *betas, int n) {
    double product = 1;
    for (int i = 0; i < n; i++) {
        float alpha = 1.0f - betas[i];
        product *= (double)alpha;
        out[i] = (float)product;
    }
}

/* Lin et al. 2023, algorithm 1: shift and scale sqrt(abar) so that its first entry stays and its last is zero, then
 * take the betas back out. Every operation rounds to float. On entry alphas_cumprod belongs to betas; on return it is
 * scratch. */
static void rescale_zero_snr(float *betas, float *alphas_cumprod, int n) {
    float first = sqrtf(alphas_cumprod[0]), last = sqrtf(alphas_cumprod[n - 1]);
    float scale = first / (first - last);
    float previous = 1.0f;
    for (int i = 0; i < n; i++) {
        float root = (sqrtf(alphas_cumprod[i]) - last) * scale;
        float alpha_bar = root * root;
        betas[i] = 1.0f - alpha_bar / previous;
        previous = alpha_bar;
    }
}

/* Extreme but well-typed settings (all betas zero and a zero terminal SNR, say) divide zero by zero. */
static int check_table(const float *alphas_cumprod, int n, tn_err *err) {
    for (int i = 0; i < n; i++) {
        if (!(alphas_cumprod[i] >= 0.0f && alphas_cumprod[i] <= 1.0f)) {
            return tn_fail(err, TN_EINPUT, "noise schedule: alphas_cumprod[%d] is %g, expected 0 to 1 (extreme betas)",
                           i, (double)alphas_cumprod[i]);
        }
    }
    return 0;
}

int nn_schedule_init(nn_schedule *schedule, const nn_schedule_config *config, tn_err *err) {
    int n = config->num_train_timesteps;
    TN_REQUIRE(n >= 1);
    float *betas = malloc((size_t)n * sizeof *betas);
    float *alphas_cumprod = malloc((size_t)n * sizeof *alphas_cumprod);
    if (!betas || !alphas_cumprod) {
        free(betas);
        free(alphas_cumprod);
        return tn_fail(err, TN_ENOMEM, "noise schedule: no memory for %d timesteps", n);
    }
    fill_betas(betas, config);
    cumprod_alphas(alphas_cumprod, betas, n);
    if (config->rescale_betas_zero_snr) {
        rescale_zero_snr(betas, alphas_cumprod, n);
        cumprod_alphas(alphas_cumprod, betas, n);
    }
    if (check_table(alphas_cumprod, n, err)) {
        free(betas);
        free(alphas_cumprod);
        return -1;
    }
    schedule->config = *config;
    schedule->config.trained_betas = NULL;
    schedule->betas = betas;
    schedule->alphas_cumprod = alphas_cumprod;
    return 0;
}

void nn_schedule_free(nn_schedule *schedule) {
    free(schedule->betas);
    free(schedule->alphas_cumprod);
    schedule->betas = schedule->alphas_cumprod = NULL;
}

/* Per element: two products and one sum or difference, each rounded to float. */
void nn_add_noise(const nn_schedule *schedule, const float *x0, const float *noise, int t, float *out, size_t n) {
    TN_REQUIRE(t >= 0 && t < schedule->config.num_train_timesteps);
    float signal = sqrtf(schedule->alphas_cumprod[t]), sigma = sqrtf(1.0f - schedule->alphas_cumprod[t]);
    for (size_t i = 0; i < n; i++) out[i] = signal * x0[i] + sigma * noise[i];
}

void nn_velocity(const nn_schedule *schedule, const float *x0, const float *noise, int t, float *out, size_t n) {
    TN_REQUIRE(t >= 0 && t < schedule->config.num_train_timesteps);
    float signal = sqrtf(schedule->alphas_cumprod[t]), sigma = sqrtf(1.0f - schedule->alphas_cumprod[t]);
    for (size_t i = 0; i < n; i++) out[i] = signal * noise[i] - sigma * x0[i];
}

void nn_training_target(const nn_schedule *schedule, const float *x0, const float *noise, int t, float *out, size_t n) {
    switch (schedule->config.prediction_type) {
    case NN_PREDICT_EPSILON: memmove(out, noise, n * sizeof *out); return;
    case NN_PREDICT_V: nn_velocity(schedule, x0, noise, t, out, n); return;
    case NN_PREDICT_SAMPLE: memmove(out, x0, n * sizeof *out); return;
    default: TN_BUG("prediction_type %d", schedule->config.prediction_type);
    }
}

void nn_predict_x0(const nn_schedule *schedule, const float *sample, const float *model_output, int t, float *out,
                   size_t n) {
    TN_REQUIRE(t >= 0 && t < schedule->config.num_train_timesteps);
    float signal = sqrtf(schedule->alphas_cumprod[t]), sigma = sqrtf(1.0f - schedule->alphas_cumprod[t]);
    switch (schedule->config.prediction_type) {
    case NN_PREDICT_EPSILON:
        for (size_t i = 0; i < n; i++) out[i] = (sample[i] - sigma * model_output[i]) / signal;
        return;
    case NN_PREDICT_V:
        for (size_t i = 0; i < n; i++) out[i] = signal * sample[i] - sigma * model_output[i];
        return;
    case NN_PREDICT_SAMPLE: memmove(out, model_output, n * sizeof *out); return;
    default: TN_BUG("prediction_type %d", schedule->config.prediction_type);
    }
}

double nn_snr(const nn_schedule *schedule, int t) {
    TN_REQUIRE(t >= 0 && t < schedule->config.num_train_timesteps);
    double alpha_bar = (double)schedule->alphas_cumprod[t];
    return alpha_bar / (1 - alpha_bar);
}
