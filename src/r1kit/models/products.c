/* Matrix products in bfloat16 by the processor's matrix unit (AMX), sums in float32.
 *
 *   out (M x N) = left (M x K) times right (K x N)
 *
 * The right factor is laid out beforehand in panels of 32 columns, of which each row holds pairs of neighbours along K,
 * as the unit reads them. The left factor is read as it lies, row after row, or, where it is the transpose of what lies
 * in memory, laid out in blocks of 32 rows. What is missing of K, M and N to whole tiles is filled with zeros.
 */
#include "lanes.h"
#include <stdlib.h>

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

#define TILE 16  /* rows of a tile, and its columns of float32 or of pairs */
#define EDGE 32  /* of a block of 2 x 2 tiles, and the numbers along K that one instruction takes */
#define XTILEDATA 18
#define REQUEST_PERMISSION 0x1023
/* So much of a panel of the right factor (numbers along K) stays in the first cache while it meets the blocks of a group,
 * and so many numbers of a group of blocks of the left factor stay in the second while all panels pass by. */
#define MAX_DEPTH 640
#define MAX_GROUP 393216
#define MOST_BLOCKS 16

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t widths[16];
    uint8_t rows[16];
} __attribute__((packed)) Shape;

/* 1 where the system lets this process use the matrix unit. */
int products_work(void) { return syscall(SYS_arch_prctl, REQUEST_PERMISSION, XTILEDATA) == 0; }

static void begin(void)
{
    Shape shape = {.palette = 1};
    for (int i = 0; i < 8; i++) shape.widths[i] = 64, shape.rows[i] = TILE;
    _tile_loadconfig(&shape);
}

static int64_t whole(int64_t count) { return (count + EDGE - 1) / EDGE; }

static inline void transpose(__m512i x[TILE])
{
    __m512i y[TILE];
    for (int i = 0; i < 8; i++) {
        y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        x[4 * i] = _mm512_unpacklo_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 1] = _mm512_unpackhi_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 2] = _mm512_unpacklo_epi64(y[4 * i + 1], y[4 * i + 3]);
        x[4 * i + 3] = _mm512_unpackhi_epi64(y[4 * i + 1], y[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
        y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
        x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
        x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xdd);
    }
}

static inline __mmask32 first_of(int64_t count) { return count >= 32 ? 0xffffffffu : count <= 0 ? 0 : (1u << count) - 1; }

/* Two rows of 32 numbers as 32 pairs: 16 of them in each result. */
static inline void interleave(const uint16_t *row, const uint16_t *next, __mmask32 mask, __m512i *low, __m512i *high)
{
    const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                           5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    __m512i a = row ? _mm512_maskz_loadu_epi16(mask, row) : _mm512_setzero_si512();
    __m512i b = next ? _mm512_maskz_loadu_epi16(mask, next) : _mm512_setzero_si512();
    *low = _mm512_permutex2var_epi16(a, first, b);
    *high = _mm512_permutex2var_epi16(a, _mm512_add_epi16(first, _mm512_set1_epi16(16)), b);
}

/* The right factor from a matrix that lies as K rows of N numbers, `stride` apart. */
void pack_right(int64_t k, int64_t n, const uint16_t *from, int64_t stride, uint16_t *to, int threads)
{
    int64_t depth = whole(k) * EDGE;
#pragma omp parallel for num_threads(threads) if (k * n > WORTH_THREADS)
    for (int64_t panel = 0; panel < whole(n); panel++) {
        __mmask32 mask = first_of(n - panel * EDGE);
        uint16_t *out = to + panel * depth * EDGE;
        for (int64_t i = 0; i < depth; i += 2) {
            const uint16_t *row = from + i * stride + panel * EDGE;
            __m512i low, high;
            interleave(i < k ? row : NULL, i + 1 < k ? row + stride : NULL, mask, &low, &high);
            _mm512_storeu_si512(out + i * EDGE, low);
            _mm512_storeu_si512(out + i * EDGE + 32, high);
        }
    }
}

/* The right factor from its transpose: N rows of K numbers. K is even. */
void pack_right_transposed(int64_t k, int64_t n, const uint16_t *from, int64_t stride, uint16_t *to, int threads)
{
    int64_t depth = whole(k) * EDGE;
#pragma omp parallel for num_threads(threads) if (k * n > WORTH_THREADS)
    for (int64_t half = 0; half < 2 * whole(n); half++) {
        uint16_t *out = to + half / 2 * depth * EDGE + half % 2 * 32;
        for (int64_t i = 0; i < depth; i += EDGE) {
            __m512i x[TILE];
            for (int r = 0; r < TILE; r++) {
                int64_t row = half * TILE + r;
                x[r] = row < n ? _mm512_maskz_loadu_epi16(first_of(k - i), from + row * stride + i) : _mm512_setzero_si512();
            }
            transpose(x);
            for (int r = 0; r < TILE; r++) _mm512_storeu_si512(out + (i + 2 * r) * EDGE, x[r]);
        }
    }
}

/* The left factor from its transpose: K rows of M numbers. */
void pack_left_transposed(int64_t k, int64_t m, const uint16_t *from, int64_t stride, uint16_t *to, int threads)
{
    int64_t depth = whole(k) * EDGE;
#pragma omp parallel for num_threads(threads) if (k * m > WORTH_THREADS)
    for (int64_t block = 0; block < whole(m); block++) {
        __mmask32 mask = first_of(m - block * EDGE);
        for (int64_t i = 0; i < depth; i += EDGE) {
            __m512i low[TILE], high[TILE];
            for (int r = 0; r < TILE; r++) {
                int64_t place = i + 2 * r;
                const uint16_t *row = from + place * stride + block * EDGE;
                interleave(place < k ? row : NULL, place + 1 < k ? row + stride : NULL, mask, low + r, high + r);
            }
            transpose(low);
            transpose(high);
            uint16_t *out = to + (block * depth + i) * EDGE;
            for (int r = 0; r < TILE; r++) {
                _mm512_storeu_si512(out + r * EDGE, low[r]);
                _mm512_storeu_si512(out + (TILE + r) * EDGE, high[r]);
            }
        }
    }
}

typedef struct {
    void *out;
    int64_t stride; /* of out and of added, in numbers */
    const uint16_t *bias, *added;
    int kind; /* 0: bfloat16, with a bias and something added; 1: float32; 2: added to what is there in float32 */
} Target;

static inline void put(const Target *target, const float *sums, int64_t row, int64_t num_rows, int64_t column, int64_t num)
{
    for (int64_t r = 0; r < num_rows; r++)
        for (int64_t c = 0; c < EDGE && c < num; c += TILE) {
            __mmask16 mask = num - c >= TILE ? 0xffff : (1u << (num - c)) - 1;
            int64_t place = (row + r) * target->stride + column + c;
            __m512 x = _mm512_load_ps(sums + r * EDGE + c);
            if (target->kind == 0) {
                if (target->bias) x += (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, target->bias + column + c)), 16);
                if (target->added) x += (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, target->added + place)), 16);
                _mm256_mask_storeu_epi16((uint16_t *)target->out + place, mask, (__m256i)_mm512_cvtneps_pbh(x));
            } else {
                float *out = (float *)target->out + place;
                if (target->kind == 2) x += _mm512_maskz_loadu_ps(mask, out);
                _mm512_mask_storeu_ps(out, mask, x);
            }
        }
}

/* One block of 2 x 2 tiles: `row_bytes` between rows of the left factor, `step_bytes` between its pieces of 32 along K. */
static inline void block(const char *left, int64_t row_bytes, int64_t step_bytes, const char *right, int64_t steps,
                         float *sums, int goes_on)
{
    if (goes_on) {
        _tile_loadd(0, sums, 128);
        _tile_loadd(1, sums + TILE, 128);
        _tile_loadd(2, sums + TILE * EDGE, 128);
        _tile_loadd(3, sums + TILE * EDGE + TILE, 128);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < steps; i++) {
        _tile_loadd(4, left, row_bytes);
        _tile_loadd(6, right, 128);
        _tile_loadd(7, right + 64, 128);
        _tile_loadd(5, left + TILE * row_bytes, row_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        left += step_bytes;
        right += TILE * 128;
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + TILE, 128);
    _tile_stored(2, sums + TILE * EDGE, 128);
    _tile_stored(3, sums + TILE * EDGE + TILE, 128);
}

/* `left_stride`: numbers between the rows of the left factor; 0: it was laid out. `right`: laid out, for `right_k` numbers
 * along K, of which the first k are read. The share of thread `me` of `all`; returns 1 where memory is missing, else 0. */
static int multiply_share(int64_t m, int64_t n, int64_t k, const uint16_t *left, int64_t left_stride,
                          const uint16_t *right, int64_t right_k, const Target *target, int64_t me, int64_t all)
{
    int64_t depth = whole(k), blocks = whole(m), panels = whole(n), panel_depth = whole(right_k);
    float sums[MOST_BLOCKS * EDGE * EDGE] __attribute__((aligned(64)));
    int64_t first = blocks * me / all, end = blocks * (me + 1) / all;
    /* Rows that are missing to a whole block, and numbers that are missing along K, are read as zeros. */
    int is_cut = left_stride && (m % EDGE || k % EDGE);
    uint16_t *copy = NULL;
    int64_t copied = left_stride && k % EDGE ? first : left_stride && m % EDGE && end == blocks ? blocks - 1 : end;
    if (is_cut && copied < end) {
        copy = aligned_alloc(64, (end - copied) * EDGE * depth * EDGE * 2);
        if (!copy) return 1;
        memset(copy, 0, (end - copied) * EDGE * depth * EDGE * 2);
        for (int64_t row = copied * EDGE; row < m && row < end * EDGE; row++)
            memcpy(copy + (row - copied * EDGE) * depth * EDGE, left + row * left_stride, k * 2);
    }
    begin();
    int64_t chunks = (depth * EDGE + MAX_DEPTH - 1) / MAX_DEPTH;
    int64_t group = MAX_GROUP / (depth * EDGE * EDGE);
    group = group < 1 ? 1 : group > MOST_BLOCKS ? MOST_BLOCKS : group;
    for (int64_t start = first; start < end; start += group)
        for (int64_t panel = 0; panel < panels; panel++) {
            int64_t stop = start + group < end ? start + group : end;
            for (int64_t chunk = 0; chunk < chunks; chunk++) {
                int64_t low = depth * chunk / chunks, high = depth * (chunk + 1) / chunks;
                const uint16_t *piece = right + (panel * panel_depth + low) * EDGE * EDGE;
                for (int64_t b = start; b < stop; b++) {
                    const uint16_t *from;
                    int64_t row_bytes = left_stride * 2, step_bytes = 64;
                    if (!left_stride)
                        from = left + (b * depth + low) * EDGE * EDGE, row_bytes = 64, step_bytes = EDGE * 64;
                    else if (b >= copied)
                        from = copy + ((b - copied) * EDGE * depth + low) * EDGE, row_bytes = depth * 64;
                    else
                        from = left + (b * left_stride + low) * EDGE;
                    block((const char *)from, row_bytes, step_bytes, (const char *)piece, high - low,
                          sums + (b - start) * EDGE * EDGE, chunk > 0);
                }
            }
            for (int64_t b = start; b < stop; b++)
                put(target, sums + (b - start) * EDGE * EDGE, b * EDGE, m - b * EDGE < EDGE ? m - b * EDGE : EDGE,
                    panel * EDGE, n - panel * EDGE);
        }
    _tile_release();
    free(copy);
    return 0;
}

/* Returns 1 where memory for scratch is missing, else 0. */
int product(int64_t m, int64_t n, int64_t k, const uint16_t *left, int64_t left_stride, const uint16_t *right,
            const Target *target, int threads)
{
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed) if (m * n * k > 32 * WORTH_THREADS)
    {
#ifdef _OPENMP
        failed = multiply_share(m, n, k, left, left_stride, right, k, target, omp_get_thread_num(), omp_get_num_threads());
#else
        failed = multiply_share(m, n, k, left, left_stride, right, k, target, 0, 1);
#endif
    }
    return failed;
}

#include "attending.h"
#else
int products_work(void) { return 0; }
#endif
