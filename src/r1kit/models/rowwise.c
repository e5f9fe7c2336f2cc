/* What stands between the matrix products of a layer's forward and backward pass, in bfloat16: norms, gates, rotation,
 * and the softmax over the vocabulary. Sums are float32. The same formulas as in layer.py and head.py.
 */
#include "lanes.h"

#define EACH_ROW _Pragma("omp parallel for num_threads(threads) if (num_rows * width > WORTH_THREADS)")

static inline float scale_of(const number *row, int64_t width, float eps)
{
    lanes squares = {0};
    for (int64_t i = 0; i < width; i += LANES) squares += load(row + i) * load(row + i);
    return 1.0f / sqrtf(sum_of(squares) / (float)width + eps);
}

void norm(int64_t num_rows, int64_t width, const number *from, const number *weight, float eps, number *out, int threads)
{
    EACH_ROW
    for (int64_t row = 0; row < num_rows; row++) {
        float scale = scale_of(from + row * width, width, eps);
        for (int64_t i = 0; i < width; i += LANES)
            store(out + row * width + i, load(from + row * width + i) * scale * load(weight + i));
    }
}

/* out = added + the gradient of the norm's input. `sums`: room for `threads` x width; what they add up to is added to
 * `weight_gradient`, if there is one. */
void norm_backward(int64_t num_rows, int64_t width, const float *gradient, const number *from, const number *weight,
                   float eps, const number *added, number *out, float *sums, float *weight_gradient, int threads)
{
    memset(sums, 0, threads * width * sizeof(float));
#pragma omp parallel num_threads(threads) if (num_rows * width > WORTH_THREADS)
    {
#ifdef _OPENMP
        float *own = sums + omp_get_thread_num() * width;
#else
        float *own = sums;
#endif
#pragma omp for schedule(static)
        for (int64_t row = 0; row < num_rows; row++) {
            const number *x = from + row * width, *residual = added + row * width;
            const float *g = gradient + row * width;
            float scale = scale_of(x, width, eps);
            lanes products = {0};
            for (int64_t i = 0; i < width; i += LANES) {
                lanes part = load_float(g + i) * load(x + i) * scale;
                store_float(own + i, load_float(own + i) + part);
                products += part * load(weight + i);
            }
            float mean = sum_of(products) / (float)width;
            for (int64_t i = 0; i < width; i += LANES)
                store(out + row * width + i, load(residual + i) + scale * (load_float(g + i) * load(weight + i) -
                                                                           load(x + i) * (scale * mean)));
        }
    }
    if (!weight_gradient) return;
    for (int thread = 0; thread < threads; thread++)
        for (int64_t i = 0; i < width; i += LANES)
            store_float(weight_gradient + i, load_float(weight_gradient + i) + load_float(sums + thread * width + i));
}

/* silu(gate) up, the two side by side. */
void gate(int64_t num_rows, int64_t width, const number *gate_up, number *out, int threads)
{
    EACH_ROW
    for (int64_t row = 0; row < num_rows; row++) {
        const number *gates = gate_up + row * 2 * width, *ups = gates + width;
        for (int64_t i = 0; i < width; i += LANES)
            store(out + row * width + i, load(gates + i) * logistic(load(gates + i)) * load(ups + i));
    }
}

/* What the forward pass gave, and the gradients of gate and up side by side. */
void gate_backward(int64_t num_rows, int64_t width, const number *gate_up, const number *gradient, number *out,
                   number *gate_up_gradient, int threads)
{
    EACH_ROW
    for (int64_t row = 0; row < num_rows; row++) {
        const number *gates = gate_up + row * 2 * width, *ups = gates + width, *g = gradient + row * width;
        number *of_gates = gate_up_gradient + row * 2 * width, *of_ups = of_gates + width;
        for (int64_t i = 0; i < width; i += LANES) {
            lanes x = load(gates + i), share = logistic(x), silu = x * share, up = load(ups + i), grad = load(g + i);
            store(out + row * width + i, silu * up);
            store(of_ups + i, grad * silu);
            store(of_gates + i, grad * up * share * (1.0f + x * (1.0f - share)));
        }
    }
}

/* Rotary embedding in place of the first `num_heads` heads of each row; `sign` is -1 for the backward pass. */
void rotate(int64_t num_rows, int64_t stride, int64_t num_heads, int64_t head_width, number *heads, const number *cosines,
            const number *sines, float sign, int threads)
{
    int64_t width = num_heads * head_width, half = head_width / 2;
    EACH_ROW
    for (int64_t row = 0; row < num_rows; row++) {
        const number *cosine = cosines + row * head_width, *sine = sines + row * head_width;
        for (int64_t head = 0; head < num_heads; head++) {
            number *first = heads + row * stride + head * head_width, *second = first + half;
            for (int64_t i = 0; i < half; i += LANES) {
                lanes a = load(first + i), b = load(second + i), c = load(cosine + i), s = sign * load(sine + i);
                store(first + i, a * c - b * s);
                store(second + i, b * c + a * s);
            }
        }
    }
}

/* One tile of the vocabulary, entries from `start` on: the running maximum, sum of exponentials, their moment (the sum of
 * e^z z, z less the maximum), and the target's logit, of each row. Logits are divided by `temperature`. */
void softmax_tile(int64_t num_rows, int64_t width, float *logits, float temperature, int64_t start, const int64_t *targets,
                  float *highest, float *mass, float *moment, float *chosen, int threads)
{
    float scale = 1.0f / temperature;
    EACH_ROW
    for (int64_t row = 0; row < num_rows; row++) {
        float *z = logits + row * width;
        if (targets[row] >= start && targets[row] < start + width) chosen[row] = z[targets[row] - start] * scale;
        lanes tops = load_float(z);
        for (int64_t i = LANES; i < width; i += LANES) tops = larger(tops, load_float(z + i));
        float top = highest_of(tops) * scale;
        float fall = highest[row] < top ? highest[row] - top : 0.0f;
        top = highest[row] < top ? top : highest[row];
        lanes sums = {0}, moments = {0};
        for (int64_t i = 0; i < width; i += LANES) {
            lanes x = load_float(z + i) * scale - top, e = exp_below_0(x);
            sums += e;
            moments += e * x;
        }
        if (mass[row] > 0) {
            float decay = expf(fall);
            moment[row] = (moment[row] + mass[row] * fall) * decay + sum_of(moments);
            mass[row] = mass[row] * decay + sum_of(sums);
        } else {
            moment[row] = sum_of(moments);
            mass[row] = sum_of(sums);
        }
        highest[row] = top;
    }
}

/* The gradient of one tile's logits, given those of each row's logprob and, if not missing, of its entropy. */
void softmax_tile_backward(int64_t num_rows, int64_t width, const float *logits, float temperature, int64_t start,
                           const int64_t *targets, const float *normaliser, const float *entropy, const float *gradient,
                           const float *entropy_gradient, number *out, int threads)
{
    float scale = 1.0f / temperature;
    EACH_ROW
    for (int64_t row = 0; row < num_rows; row++) {
        const float *z = logits + row * width;
        number *to = out + row * width;
        float g = gradient[row] * scale, h = entropy_gradient ? entropy_gradient[row] * scale : 0.0f;
        float constant = -g - h * (entropy_gradient ? entropy[row] : 0.0f);
        for (int64_t i = 0; i < width; i += LANES) {
            lanes x = load_float(z + i) * scale - normaliser[row];
            store(to + i, exp_below_0(x) * (constant - h * x));
        }
        int64_t place = targets[row] - start;
        if (place >= 0 && place < width) {
            float x = z[place] * scale - normaliser[row];
            lanes own = {0};
            own += expf(x) * (constant - h * x) + g;
            number both[LANES];
            store(both, own);
            to[place] = both[0];
        }
    }
}
