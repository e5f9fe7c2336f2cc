/* Attention over a packed row, forward and backward, by the products of products.c. A sequence attends to the tokens of its
 * prompt, if it has one, and to its own up to each query. Scores live for one tile of queries and one block of keys of one
 * head (arXiv:2205.14135), so that they stay in the second cache however long the sequence is.
 *
 * Backward, keys and values of a prompt get the sum over its sequences, which follow one another in one thread, after its
 * own: the order of sums is fixed. Functions return 1 where memory for scratch is missing, else 0.
 */
#define QUERIES 256
#define KEYS 256

typedef struct {
    int64_t first, length;              /* its own tokens */
    int64_t prefix_first, prefix_length; /* its prompt's; length 0: none */
} Sequence;

typedef struct {
    const uint16_t *query, *key, *value; /* rows of heads, `stride` numbers from token to token */
    int64_t stride, num_keys, group, width;
    float scale;
    int64_t window; /* tokens that a query sees, itself included; 0: all */
    /* A key-value head's query heads are shared out among so many tasks: 1, or `group` where there are few sequences. */
    int64_t parts;
    float *normalisers; /* logsumexp of the scores, query heads x tokens */
    int64_t num_tokens;
} Heads;

/* Room of one thread. Rows are filled up with zeros to whole tiles, and are `wide` numbers long. */
typedef struct {
    int64_t wide;
    uint16_t *keys, *values, *laid_keys, *laid_values, *tile;
    uint16_t *laid_queries, *laid_gradients, *query_rows, *gradient_rows;
    uint16_t *weights, *gradients, *left;
    float *scores, *other, *mixed, *tops, *masses, *key_sums, *value_sums, *query_sums, *normalisers, *dots;
} Room;

/* Sizes to whole tiles: of the longest sequence's own tokens, with and without its prompt. */
static void longest_of(int64_t count, const Sequence *sequences, int64_t *keys, int64_t *queries)
{
    *keys = *queries = EDGE;
    for (int64_t i = 0; i < count; i++) {
        int64_t own = whole(sequences[i].length) * EDGE;
        int64_t all = whole(sequences[i].prefix_length + sequences[i].length) * EDGE;
        *keys = all > *keys ? all : *keys;
        *queries = own > *queries ? own : *queries;
    }
}

static char *make_room(Room *room, int64_t count, const Sequence *sequences, int64_t width, int is_backward)
{
    int64_t keys, queries, wide = whole(width) * EDGE, block = QUERIES * KEYS;
    longest_of(count, sequences, &keys, &queries);
    room->wide = wide;
    struct { void *at; int64_t bytes; } pieces[] = {
        {&room->keys, 2 * keys * wide},
        {&room->values, 2 * keys * wide},
        {&room->laid_keys, 2 * keys * wide},
        {&room->laid_values, is_backward ? 0 : 2 * keys * wide},
        {&room->tile, is_backward ? 0 : 2 * QUERIES * wide},
        {&room->mixed, is_backward ? 0 : 4 * QUERIES * wide},
        {&room->tops, 4 * QUERIES},
        {&room->masses, 4 * QUERIES},
        {&room->scores, 4 * block},
        {&room->weights, 2 * block},
        {&room->laid_queries, is_backward ? 2 * queries * wide : 0},
        {&room->laid_gradients, is_backward ? 2 * queries * wide : 0},
        {&room->query_rows, is_backward ? 2 * queries * wide : 0},
        {&room->gradient_rows, is_backward ? 2 * queries * wide : 0},
        {&room->other, is_backward ? 4 * block : 0},
        {&room->gradients, is_backward ? 2 * block : 0},
        {&room->left, is_backward ? 2 * block : 0},
        {&room->key_sums, is_backward ? 4 * keys * wide : 0},
        {&room->value_sums, is_backward ? 4 * keys * wide : 0},
        {&room->query_sums, is_backward ? 4 * queries * wide : 0},
        {&room->normalisers, 4 * queries},
        {&room->dots, 4 * queries},
    };
    int64_t num = sizeof(pieces) / sizeof(pieces[0]), total = 0;
    for (int64_t i = 0; i < num; i++) total += (pieces[i].bytes + 63) / 64 * 64;
    char *memory = aligned_alloc(64, total), *next = memory;
    for (int64_t i = 0; memory && i < num; i++) {
        memcpy(pieces[i].at, &next, sizeof(next));
        next += (pieces[i].bytes + 63) / 64 * 64;
    }
    return memory;
}

static void copy_rows(int64_t num, int64_t width, const uint16_t *from, int64_t stride, uint16_t *to, int64_t wide)
{
    for (int64_t i = 0; i < num; i++) {
        memcpy(to + i * wide, from + i * stride, width * 2);
        if (wide > width) memset(to + i * wide + width, 0, (wide - width) * 2);
    }
}

/* One head's keys or values, the prompt's first. */
static void gather(const Heads *heads, const uint16_t *from, const Sequence *s, int64_t head, int64_t wide, uint16_t *to)
{
    const uint16_t *column = from + head * heads->width;
    int64_t num = s->prefix_length + s->length;
    copy_rows(s->prefix_length, heads->width, column + s->prefix_first * heads->stride, heads->stride, to, wide);
    copy_rows(s->length, heads->width, column + s->first * heads->stride, heads->stride, to + s->prefix_length * wide, wide);
    memset(to + num * wide, 0, (whole(num) * EDGE - num) * wide * 2);
}

/* One block of keys, from `first_key` on: exponentials in bfloat16, zeros where nothing is seen; the highest score and the
 * sum of each query so far, to which what is mixed already is lowered. `position`: the first query's. */
static void softmax_block(const Heads *heads, int64_t num, int64_t position, int64_t first_key, int64_t filled, Room *room)
{
    for (int64_t row = 0; row < num; row++, position++) {
        float *z = room->scores + row * KEYS;
        uint16_t *to = room->weights + row * KEYS;
        int64_t seen = position + 1 - first_key, from = heads->window ? seen - heads->window : 0;
        seen = seen > filled ? filled : seen;
        from = from < 0 ? 0 : from;
        if (from >= seen) {
            memset(to, 0, filled * 2);
            continue;
        }
        for (int64_t i = 0; i < from; i++) z[i] = -INFINITY;
        for (int64_t i = seen; i < filled; i++) z[i] = -INFINITY;
        lanes tops = load_float(z), sums = {0};
        for (int64_t i = LANES; i < filled; i += LANES) tops = larger(tops, load_float(z + i));
        float top = highest_of(tops) * heads->scale, before = room->tops[row];
        top = before > top ? before : top;
        for (int64_t i = 0; i < filled; i += LANES) {
            lanes e = exp_below_0(load_float(z + i) * heads->scale - top);
            sums += e;
            store(to + i, e);
        }
        room->tops[row] = top;
        float decay = room->masses[row] > 0 ? expf(before - top) : 1.0f;
        room->masses[row] = room->masses[row] * decay + sum_of(sums);
        if (decay == 1.0f) continue;
        float *mixed = room->mixed + row * room->wide;
        for (int64_t i = 0; i < room->wide; i += LANES) store_float(mixed + i, load_float(mixed + i) * decay);
    }
}

/* A tile of queries of one query head, from the own token `i` on. */
static int attend_tile(const Heads *heads, const Sequence *s, int64_t r, int64_t i, Room *room, uint16_t *out,
                       int64_t out_stride)
{
    int64_t width = heads->width, wide = room->wide, position = s->prefix_length + i, keys = s->prefix_length + s->length;
    int64_t num = s->length - i < QUERIES ? s->length - i : QUERIES, rows = whole(num) * EDGE, last = position + num;
    int64_t first = heads->window && position >= heads->window ? (position + 1 - heads->window) / EDGE * EDGE : 0;
    int failed = 0;
    copy_rows(num, width, heads->query + (s->first + i) * heads->stride + r * width, heads->stride, room->tile, wide);
    memset(room->tile + num * wide, 0, (rows - num) * wide * 2);
    memset(room->weights + num * KEYS, 0, (rows - num) * KEYS * 2);
    for (int64_t row = 0; row < num; row++) room->tops[row] = -INFINITY, room->masses[row] = 0;
    for (int64_t key = first; key < last; key += KEYS) {
        int64_t filled = whole(last - key < KEYS ? last - key : KEYS) * EDGE;
        Target scores = {room->scores, KEYS, NULL, NULL, 1}, mixed = {room->mixed, wide, NULL, NULL, key > first ? 2 : 1};
        failed |= multiply_share(rows, filled, wide, room->tile, wide, room->laid_keys + key * wide, wide, &scores, 0, 1);
        softmax_block(heads, num, position, key, filled, room);
        failed |= multiply_share(rows, wide, filled, room->weights, KEYS, room->laid_values + key * EDGE, keys, &mixed, 0, 1);
    }
    for (int64_t row = 0; row < num; row++) {
        int64_t token = s->first + i + row;
        float share = 1.0f / room->masses[row];
        for (int64_t j = 0; j < width; j += LANES)
            store(out + token * out_stride + r * width + j, load_float(room->mixed + row * wide + j) * share);
        heads->normalisers[r * heads->num_tokens + token] = room->tops[row] + logf(room->masses[row]);
    }
    return failed;
}

/* A task: of a key-value head, one of `parts` of its query heads. */
static int attend_task(const Heads *heads, const Sequence *s, int64_t task, Room *room, uint16_t *out, int64_t out_stride)
{
    int64_t head = task / heads->parts, keys = s->prefix_length + s->length, failed = 0, num = heads->group / heads->parts;
    gather(heads, heads->key, s, head, room->wide, room->keys);
    gather(heads, heads->value, s, head, room->wide, room->values);
    pack_right_transposed(room->wide, keys, room->keys, room->wide, room->laid_keys, 1);
    pack_right(keys, room->wide, room->values, room->wide, room->laid_values, 1);
    for (int64_t r = task * num; r < (task + 1) * num; r++)
        for (int64_t i = 0; i < s->length; i += QUERIES) failed |= attend_tile(heads, s, r, i, room, out, out_stride);
    return failed;
}

int attend(const Heads *heads, int64_t count, const Sequence *sequences, uint16_t *out, int64_t out_stride, int threads)
{
    int64_t tasks = heads->num_keys * heads->parts;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Room room;
        char *memory = make_room(&room, count, sequences, heads->width, 0);
        failed = memory == NULL;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < count * tasks; task++)
            if (memory) failed |= attend_task(heads, sequences + task / tasks, task % tasks, &room, out, out_stride);
        free(memory);
    }
    return failed;
}

/* Weights P and scale P (dP - sum of P dP) of a block, keys by queries: of the scores' softmax, given its normalisers, and
 * its gradient. `is_cut`: some of these queries don't see some of these keys. */
static inline void softmax_backward(const Heads *heads, int64_t num_keys, int64_t num_queries, int64_t first_key,
                                    int64_t position, int is_cut, const float *normalisers, const float *dots, Room *room)
{
    const signs count = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int64_t k = 0; k < num_keys; k++)
        for (int64_t j = 0; j < num_queries; j += LANES) {
            int64_t place = k * QUERIES + j;
            lanes p = exp_below_0(load_float(room->scores + place) * heads->scale - load_float(normalisers + j));
            if (is_cut) {
                signs back = count + (int32_t)(position + j - first_key - k);
                signs seen = back >= 0;
                if (heads->window) seen &= back < (int32_t)heads->window;
                p = (lanes)((signs)p & seen);
            }
            store(room->weights + place, p);
            store(room->gradients + place, heads->scale * p * (load_float(room->other + place) - load_float(dots + j)));
        }
}

/* A block of keys with a tile of queries, whose own tokens begin at `i`. */
static int block_backward(const Heads *heads, const Sequence *s, int64_t key, int64_t i, Room *room)
{
    int64_t wide = room->wide, keys = s->prefix_length + s->length, position = s->prefix_length + i;
    int64_t num = s->length - i < QUERIES ? s->length - i : QUERIES, queries = whole(num) * EDGE;
    int64_t rows = whole(keys - key < KEYS ? keys - key : KEYS) * EDGE;
    if (position + num <= key) return 0;
    if (heads->window && position - heads->window >= key + rows) return 0;
    int is_cut = key + rows - 1 > position || (heads->window && position + num - 1 - key >= heads->window), failed = 0;
    Target scores = {room->scores, QUERIES, NULL, NULL, 1}, other = {room->other, QUERIES, NULL, NULL, 1};
    Target of_keys = {room->key_sums + key * wide, wide, NULL, NULL, 2}, of_values = {room->value_sums + key * wide, wide, NULL, NULL, 2};
    Target of_queries = {room->query_sums + i * wide, wide, NULL, NULL, 2};
    failed |= multiply_share(rows, queries, wide, room->keys + key * wide, wide, room->laid_queries + i * wide, wide, &scores, 0, 1);
    failed |= multiply_share(rows, queries, wide, room->values + key * wide, wide, room->laid_gradients + i * wide, wide, &other, 0, 1);
    if (is_cut)
        softmax_backward(heads, rows, queries, key, position, 1, room->normalisers + i, room->dots + i, room);
    else
        softmax_backward(heads, rows, queries, key, position, 0, room->normalisers + i, room->dots + i, room);
    failed |= multiply_share(rows, wide, queries, room->weights, QUERIES, room->gradient_rows + i * wide, queries, &of_values, 0, 1);
    failed |= multiply_share(rows, wide, queries, room->gradients, QUERIES, room->query_rows + i * wide, queries, &of_keys, 0, 1);
    pack_left_transposed(rows, queries, room->gradients, QUERIES, room->left, 1);
    failed |= multiply_share(queries, wide, rows, room->left, 0, room->laid_keys + key * EDGE, keys, &of_queries, 0, 1);
    return failed;
}

/* Queries and gradients of one query head as factors, tile by tile, and what its softmax needs. */
static void lay_queries(const Heads *heads, const Sequence *s, int64_t r, const uint16_t *gradient, const uint16_t *attended,
                        int64_t stride, Room *room)
{
    int64_t width = heads->width, wide = room->wide;
    for (int64_t i = 0; i < s->length; i += QUERIES) {
        int64_t num = s->length - i < QUERIES ? s->length - i : QUERIES;
        const uint16_t *query = heads->query + (s->first + i) * heads->stride + r * width;
        const uint16_t *grad = gradient + (s->first + i) * stride + r * width;
        pack_right_transposed(width, num, query, heads->stride, room->laid_queries + i * wide, 1);
        pack_right_transposed(width, num, grad, stride, room->laid_gradients + i * wide, 1);
        pack_right(num, width, query, heads->stride, room->query_rows + i * wide, 1);
        pack_right(num, width, grad, stride, room->gradient_rows + i * wide, 1);
    }
    for (int64_t i = 0; i < whole(s->length) * EDGE; i++) {
        int64_t token = s->first + i;
        lanes sums = {0};
        for (int64_t j = 0; i < s->length && j < width; j += LANES)
            sums += load(gradient + token * stride + r * width + j) * load(attended + token * stride + r * width + j);
        room->dots[i] = sum_of(sums);
        room->normalisers[i] = i < s->length ? heads->normalisers[r * heads->num_tokens + token] : INFINITY;
    }
}

/* The gradient of queries goes to its place; those of keys and values, float32, are left in the room. */
static int task_backward(const Heads *heads, const Sequence *s, int64_t task, Room *room, const uint16_t *gradient,
                         const uint16_t *attended, int64_t stride, uint16_t *query_gradient)
{
    int64_t wide = room->wide, head = task / heads->parts, keys = s->prefix_length + s->length, num = heads->group / heads->parts;
    int failed = 0;
    gather(heads, heads->key, s, head, wide, room->keys);
    gather(heads, heads->value, s, head, wide, room->values);
    pack_right(keys, wide, room->keys, wide, room->laid_keys, 1);
    memset(room->key_sums, 0, whole(keys) * EDGE * wide * 4);
    memset(room->value_sums, 0, whole(keys) * EDGE * wide * 4);
    for (int64_t r = task * num; r < (task + 1) * num; r++) {
        lay_queries(heads, s, r, gradient, attended, stride, room);
        memset(room->query_sums, 0, whole(s->length) * EDGE * wide * 4);
        for (int64_t key = 0; key < keys; key += KEYS)
            for (int64_t i = 0; i < s->length; i += QUERIES) failed |= block_backward(heads, s, key, i, room);
        for (int64_t i = 0; i < s->length; i++)
            for (int64_t j = 0; j < heads->width; j += LANES)
                store(query_gradient + (s->first + i) * heads->stride + r * heads->width + j,
                      load_float(room->query_sums + i * wide + j));
    }
    return failed;
}

/* Adds the sums of one task to those of all tokens: `sums` has rows of num_keys x parts heads of keys, then as many of
 * values. */
static void add_sums(const Heads *heads, const Sequence *s, int64_t task, const Room *room, float *sums)
{
    int64_t width = heads->width, half = heads->num_keys * heads->parts * width;
    for (int64_t i = 0; i < s->prefix_length + s->length; i++) {
        int64_t token = i < s->prefix_length ? s->prefix_first + i : s->first + i - s->prefix_length;
        float *to = sums + token * 2 * half + task * width;
        for (int64_t j = 0; j < width; j += LANES) {
            store_float(to + j, load_float(to + j) + load_float(room->key_sums + i * room->wide + j));
            store_float(to + half + j, load_float(to + half + j) + load_float(room->value_sums + i * room->wide + j));
        }
    }
}

/* The sums of a token, over the parts of each head. */
static void put_sums(const Heads *heads, const float *sums, uint16_t *out)
{
    int64_t width = heads->width;
    for (int64_t head = 0; head < heads->num_keys; head++)
        for (int64_t j = 0; j < width; j += LANES) {
            lanes sum = load_float(sums + head * heads->parts * width + j);
            for (int64_t part = 1; part < heads->parts; part++)
                sum += load_float(sums + (head * heads->parts + part) * width + j);
            store(out + head * width + j, sum);
        }
}

/* `sequences`: those without a prompt, `alone` of them, then the others, family by family; `families`: where each begins,
 * and the end. `sums`: zeros, tokens x 2 num_keys parts width. Gradients of heads have the heads' stride; `gradient` is that
 * of `attended`, and has its stride. */
int attend_backward(const Heads *heads, int64_t alone, int64_t num_families, const int64_t *families,
                    const Sequence *sequences, const uint16_t *gradient, const uint16_t *attended, int64_t stride,
                    uint16_t *query_gradient, uint16_t *key_gradient, uint16_t *value_gradient, float *sums, int threads)
{
    int64_t tasks = heads->num_keys * heads->parts, half = tasks * heads->width;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Room room;
        char *memory = make_room(&room, families[num_families], sequences, heads->width, 1);
        failed = memory == NULL;
#pragma omp for schedule(dynamic)
        for (int64_t n = 0; n < alone * tasks; n++)
            if (memory) {
                const Sequence *s = sequences + n / tasks;
                failed |= task_backward(heads, s, n % tasks, &room, gradient, attended, stride, query_gradient);
                add_sums(heads, s, n % tasks, &room, sums);
            }
#pragma omp for schedule(dynamic)
        for (int64_t n = 0; n < num_families * tasks; n++)
            for (int64_t i = families[n / tasks]; memory && i < families[n / tasks + 1]; i++) {
                failed |= task_backward(heads, sequences + i, n % tasks, &room, gradient, attended, stride, query_gradient);
                add_sums(heads, sequences + i, n % tasks, &room, sums);
            }
#pragma omp for
        for (int64_t token = 0; token < heads->num_tokens; token++) {
            put_sums(heads, sums + token * 2 * half, key_gradient + token * heads->stride);
            put_sums(heads, sums + token * 2 * half + half, value_gradient + token * heads->stride);
        }
        free(memory);
    }
    return failed;
}
