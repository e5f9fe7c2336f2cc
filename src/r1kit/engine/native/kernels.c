/* What stands between the matrix products of a decoding step, for one shape of heads and one precision:
 *   WIDTH  head width, a multiple of 32      GROUP  query heads that share a key-value head
 *   BF16   1 where numbers are bfloat16, 0 where they are float32
 * The same functions as in kernels.py, which says what they compute. All sums are float32. Rows never meet, and each is
 * summed in one order, so results depend neither on the other rows nor on the number of threads.
 */
#include "lanes.h"

#define PARTS (WIDTH / LANES)
/* Own rows of a prompt that follow one another read its keys from the processor's cache. */
#define TASKS_AT_ONCE 8
/* Keys are read so many positions ahead: a row's own are too short a stretch for the processor to foresee. */
#define AHEAD 24

void add_and_norm(int64_t num_rows, int64_t width, float *residual, const number *delta, const float *weight, float eps,
                  number *out, int threads)
{
#pragma omp parallel for num_threads(threads) if (num_rows * width > WORTH_THREADS)
    for (int64_t row = 0; row < num_rows; row++) {
        float *stream = residual + row * width;
        lanes squares = {0};
        for (int64_t i = 0; i < width; i += LANES) {
            lanes x = load_float(stream + i);
            if (delta) {
                x += load(delta + row * width + i);
                store_float(stream + i, x);
            }
            squares += x * x;
        }
        float scale = 1.0f / sqrtf(sum_of(squares) / (float)width + eps);
        for (int64_t i = 0; i < width; i += LANES)
            store(out + row * width + i, load_float(stream + i) * scale * load_float(weight + i));
    }
}

void gate(int64_t num_rows, int64_t width, const number *gate_up, number *out, int threads)
{
#pragma omp parallel for num_threads(threads) if (num_rows * width > WORTH_THREADS)
    for (int64_t row = 0; row < num_rows; row++) {
        const number *gates = gate_up + row * 2 * width, *ups = gates + width;
        for (int64_t i = 0; i < width; i += LANES) {
            lanes x = load(gates + i);
            store(out + row * width + i, x * logistic(x) * load(ups + i));
        }
    }
}

static inline void rotate(const number *head, const float *norm, float eps, const float *cosines, const float *sines,
                          number *out)
{
    lanes x[PARTS];
    for (int i = 0; i < PARTS; i++) x[i] = load(head + i * LANES);
    if (norm) {
        lanes squares = x[0] * x[0];
        for (int i = 1; i < PARTS; i++) squares += x[i] * x[i];
        float scale = 1.0f / sqrtf(sum_of(squares) / WIDTH + eps);
        for (int i = 0; i < PARTS; i++) x[i] = x[i] * scale * load_float(norm + i * LANES);
    }
    for (int i = 0; i < PARTS; i++)
        store(out + i * LANES,
              x[i] * load_float(cosines + i * LANES) + x[(i + PARTS / 2) % PARTS] * load_float(sines + i * LANES));
}

static inline void foresee(const number *from)
{
    for (unsigned long i = 0; i < WIDTH * sizeof(number); i += 64) __builtin_prefetch((const char *)from + i);
}

/* scores[g * stride + s] = scale * query g . key s */
static inline void score(const number *queries, const number *keys, int64_t length, float scale, float *scores,
                         int64_t stride)
{
#if defined(__AVX512BF16__) && BF16
    __m512bh q[GROUP][WIDTH / 32];
    for (int g = 0; g < GROUP; g++)
        for (int i = 0; i < WIDTH / 32; i++) q[g][i] = (__m512bh)_mm512_loadu_si512(queries + g * WIDTH + i * 32);
    for (int64_t s = 0; s < length; s++) {
        __m512bh k[WIDTH / 32];
        foresee(keys + (s + AHEAD) * WIDTH);
        for (int i = 0; i < WIDTH / 32; i++) k[i] = (__m512bh)_mm512_loadu_si512(keys + s * WIDTH + i * 32);
        for (int g = 0; g < GROUP; g++) {
            __m512 sum = _mm512_setzero_ps();
            for (int i = 0; i < WIDTH / 32; i++) sum = _mm512_dpbf16_ps(sum, k[i], q[g][i]);
            scores[g * stride + s] = scale * _mm512_reduce_add_ps(sum);
        }
    }
#else
    lanes q[GROUP][PARTS];
    for (int g = 0; g < GROUP; g++)
        for (int i = 0; i < PARTS; i++) q[g][i] = load(queries + g * WIDTH + i * LANES);
    for (int64_t s = 0; s < length; s++) {
        lanes k[PARTS];
        foresee(keys + (s + AHEAD) * WIDTH);
        for (int i = 0; i < PARTS; i++) k[i] = load(keys + s * WIDTH + i * LANES);
        for (int g = 0; g < GROUP; g++) {
            lanes sum = k[0] * q[g][0];
            for (int i = 1; i < PARTS; i++) sum += k[i] * q[g][i];
            scores[g * stride + s] = scale * sum_of(sum);
        }
    }
#endif
}

/* sums[g] += the values weighted by weights[g * stride + s] */
static inline void mix(const float *weights, int64_t stride, const number *values, int64_t length,
                       lanes sums[GROUP][PARTS])
{
    lanes own[GROUP][PARTS];
    memcpy(own, sums, sizeof(own));
    for (int64_t s = 0; s < length; s++) {
        lanes v[PARTS];
        foresee(values + (s + AHEAD) * WIDTH);
        for (int i = 0; i < PARTS; i++) v[i] = load(values + s * WIDTH + i * LANES);
        for (int g = 0; g < GROUP; g++)
            for (int i = 0; i < PARTS; i++) own[g][i] += weights[g * stride + s] * v[i];
    }
    memcpy(sums, own, sizeof(own));
}

/* Weights from scores, in place; returns their sum. There is room for up to LANES - 1 more. */
static inline float exponentials(float *scores, int64_t length)
{
    for (int64_t s = length; s % LANES; s++) scores[s] = -1e30f;
    lanes tops = load_float(scores), sums = {0};
    for (int64_t s = LANES; s < length; s += LANES) tops = larger(tops, load_float(scores + s));
    float top = highest_of(tops);
    for (int64_t s = 0; s < length; s += LANES) {
        lanes e = exp_below_0(load_float(scores + s) - top);
        store_float(scores + s, e);
        sums += e;
    }
    return sum_of(sums);
}

typedef struct {
    int64_t num_heads; /* key-value heads */
    /* A row's own keys and values: one more is written, at its place. Then those of its prompt. */
    number *own_keys, *own_values;
    int64_t own_capacity;
    const int64_t *places;
    const number *prompt_keys, *prompt_values;
    int64_t prompt_capacity;
    const int64_t *prompts, *prompt_lengths;
    /* Rotation by positions, and the norms before it, which may be missing. */
    const float *cosines, *sines;
    const int64_t *positions;
    const float *query_norm, *key_norm;
    float eps, scale;
} Step;

static void attend_head(const Step *step, int64_t row, int64_t head, const number *projected, float *scores,
                        int64_t stride, number *out)
{
    int64_t heads = step->num_heads, place = step->places[row], prompt = step->prompts[row];
    int64_t prompt_length = step->prompt_lengths[prompt];
    const float *cosines = step->cosines + step->positions[row] * WIDTH;
    const float *sines = step->sines + step->positions[row] * WIDTH;
    const number *from = projected + row * heads * (GROUP + 2) * WIDTH;
    number *keys = step->own_keys + (row * heads + head) * step->own_capacity * WIDTH;
    number *values = step->own_values + (row * heads + head) * step->own_capacity * WIDTH;
    for (int s = 0; s < AHEAD; s++) foresee(keys + s * WIDTH);
    number queries[GROUP * WIDTH];
    for (int g = 0; g < GROUP; g++)
        rotate(from + (head * GROUP + g) * WIDTH, step->query_norm, step->eps, cosines, sines, queries + g * WIDTH);
    rotate(from + (heads * GROUP + head) * WIDTH, step->key_norm, step->eps, cosines, sines, keys + place * WIDTH);
    memcpy(values + place * WIDTH, from + (heads * (GROUP + 1) + head) * WIDTH, WIDTH * sizeof(number));

    int64_t first = (prompt * heads + head) * step->prompt_capacity * WIDTH;
    lanes sums[GROUP][PARTS];
    float totals[GROUP];
    memset(sums, 0, sizeof(sums));
    score(queries, step->prompt_keys + first, prompt_length, step->scale, scores, stride);
    score(queries, keys, place + 1, step->scale, scores + prompt_length, stride);
    for (int s = 0; s < AHEAD; s++) foresee(values + s * WIDTH);
    for (int g = 0; g < GROUP; g++) totals[g] = exponentials(scores + g * stride, prompt_length + place + 1);
    mix(scores, stride, step->prompt_values + first, prompt_length, sums);
    mix(scores + prompt_length, stride, values, place + 1, sums);
    number *to = out + (row * heads + head) * GROUP * WIDTH;
    for (int g = 0; g < GROUP; g++)
        for (int i = 0; i < PARTS; i++) store(to + g * WIDTH + i * LANES, sums[g][i] / totals[g]);
}

/* Each task is a row times num_heads plus a head; `scores` has GROUP * stride floats for each thread. */
void attend(const Step *step, int64_t num_tasks, const int64_t *tasks, const number *projected, float *scores,
            int64_t stride, number *out, int threads)
{
#pragma omp parallel num_threads(threads) if (num_tasks * stride * WIDTH > WORTH_THREADS)
    {
#ifdef _OPENMP
        float *own_scores = scores + omp_get_thread_num() * GROUP * stride;
#else
        float *own_scores = scores;
#endif
#pragma omp for schedule(dynamic, TASKS_AT_ONCE)
        for (int64_t task = 0; task < num_tasks; task++)
            attend_head(step, tasks[task] / step->num_heads, tasks[task] % step->num_heads, projected, own_scores,
                        stride, out);
    }
}
