/* Vectors of the processor's own width, in one of two precisions: BF16 is 1 where numbers are bfloat16, 0 for float32. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
/* Numbers for which waking other threads takes less time than it saves; torch counts so too. */
#define WORTH_THREADS 32768

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t signs __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));

#if BF16
typedef uint16_t number;
static inline lanes load(const number *from)
{
#ifdef __AVX512F__
    return (lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#else
    return (lanes)(__builtin_convertvector(*(const halves *)from, words) << 16);
#endif
}
/* To the nearest, ties to even; numbers are finite. */
static inline void store(number *to, lanes x)
{
#ifdef __AVX512BF16__
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    words bits = (words)x;
    *(halves *)to = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
#endif
}
#else
typedef float number;
static inline lanes load(const number *from) { return *(const lanes *)from; }
static inline void store(number *to, lanes x) { *(lanes *)to = x; }
#endif

static inline lanes load_float(const float *from) { return *(const lanes *)from; }
static inline void store_float(float *to, lanes x) { *(lanes *)to = x; }

static inline float sum_of(lanes x)
{
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)x);
#else
    float sum = x[0];
    for (int i = 1; i < LANES; i++) sum += x[i];
    return sum;
#endif
}

/* exp(x) for x <= 0, to about 1e-7 of its value: 2^n times a polynomial of the rest (Cephes' expf). */
static inline lanes exp_below_0(lanes x)
{
    signs is_tiny = x < -87.0f;
    x = (lanes)((~is_tiny & (signs)x) | (is_tiny & (signs)(lanes){0}));
    signs n = __builtin_convertvector(x * 1.44269504088896341f - 0.5f, signs);
    lanes whole = __builtin_convertvector(n, lanes);
    lanes r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (lanes)(~is_tiny & (signs)(p * (lanes)((n + 127) << 23)));
}

/* 1 / (1 + exp(-x)), from exp of a number that is not positive. */
static inline lanes logistic(lanes x)
{
    signs is_negative = x < 0;
    lanes e = exp_below_0((lanes)((signs)x | (int32_t)0x80000000));
    lanes one = (lanes){0} + 1.0f;
    return (lanes)((is_negative & (signs)e) | (~is_negative & (signs)one)) / (1.0f + e);
}

static inline lanes larger(lanes x, lanes y)
{
    signs is_higher = y > x;
    return (lanes)((is_higher & (signs)y) | (~is_higher & (signs)x));
}

static inline float highest_of(lanes x)
{
    float top = x[0];
    for (int i = 1; i < LANES; i++) top = x[i] > top ? x[i] : top;
    return top;
}
