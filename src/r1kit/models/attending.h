/* Attention over a packed row, forward and backward, by the products of products.c. A sequence attends to the tokens of its
 * prompt, if it has one, and to its own up to each query. Scores live for one tile of queries of one head.
 *
 * Backward, keys and values of a prompt get the sum over its sequences, which follow one another in one thread, after its
 * own: the order of sums is fixed.
 */
#define QUERIES 128

typedef struct {
    int64_t first, length;              /* its own tokens */
    int64_t prefix_first, prefix_length; /* its prompt's; length 0: none */
} Sequence;

typedef struct {
    const uint16_t *query, *key, *value; /* rows of heads, `stride` numbers from token to token */
    int64_t stride, num_keys, group, width;
    float scale;
    int64_t window; /* tokens that a query sees, itself included; 0: all */
} Heads;

/* Room of one thread, for sequences of up to `keys` keys. */
typedef struct {
    uint16_t *keys, *values, *laid_keys, *laid_values, *laid_other, *laid_rows, *weights, *gradients, *left;
    float *scores, *other, *key_sums, *value_sums;
} Room;

static int64_t longest_of(int64_t count, const Sequence *sequences)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t keys = sequences[i].prefix_length + sequences[i].length;
        longest = keys > longest ? keys : longest;
    }
    return longest;
}

static void *piece(char **from, int64_t bytes)
{
    void *start = *from;
    *from += (bytes + 63) / 64 * 64;
    return start;
}

static char *make_room(Room *room, int64_t keys, int64_t width)
{
    int64_t filled = whole(keys) * EDGE, tile = QUERIES * filled, size = filled * whole(width) * EDGE;
    char *memory = aligned_alloc(64, 2 * (6 * size + 3 * tile) + 4 * (2 * tile + 2 * size) + 1024), *next = memory;
    room->keys = piece(&next, 2 * size);
    room->values = piece(&next, 2 * size);
    room->laid_keys = piece(&next, 2 * size);
    room->laid_values = piece(&next, 2 * size);
    room->laid_other = piece(&next, 2 * size);
    room->laid_rows = piece(&next, 2 * size);
    room->weights = piece(&next, 2 * tile);
    room->gradients = piece(&next, 2 * tile);
    room->left = piece(&next, 2 * tile);
    room->scores = piece(&next, 4 * tile);
    room->other = piece(&next, 4 * tile);
    room->key_sums = piece(&next, 4 * size);
    room->value_sums = piece(&next, 4 * size);
    return memory;
}

static void gather(const Heads *heads, const uint16_t *from, const Sequence *s, int64_t head, uint16_t *to)
{
    const uint16_t *column = from + head * heads->width;
    for (int64_t i = 0; i < s->prefix_length; i++)
        memcpy(to + i * heads->width, column + (s->prefix_first + i) * heads->stride, heads->width * 2);
    to += s->prefix_length * heads->width;
    for (int64_t i = 0; i < s->length; i++)
        memcpy(to + i * heads->width, column + (s->first + i) * heads->stride, heads->width * 2);
}

/* Softmax weights of a tile of queries, in bfloat16, zeros where nothing is seen; `filled` numbers from row to row. */
static void softmax(const Heads *heads, int64_t num, int64_t seen_by_first, int64_t filled, float *scores, uint16_t *out)
{
    for (int64_t row = 0; row < num; row++) {
        float *z = scores + row * filled;
        uint16_t *to = out + row * filled;
        int64_t seen = seen_by_first + row, from = heads->window && seen > heads->window ? seen - heads->window : 0;
        for (int64_t i = 0; i < from; i++) z[i] = -INFINITY;
        for (int64_t i = seen; i < filled; i++) z[i] = -INFINITY;
        lanes tops = load_float(z);
        for (int64_t i = LANES; i < filled; i += LANES) tops = larger(tops, load_float(z + i));
        float top = highest_of(tops) * heads->scale;
        lanes sums = {0};
        for (int64_t i = 0; i < filled; i += LANES) {
            lanes e = exp_below_0(load_float(z + i) * heads->scale - top);
            sums += e;
            store_float(z + i, e);
        }
        float share = 1.0f / sum_of(sums);
        for (int64_t i = 0; i < filled; i += LANES) store(to + i, load_float(z + i) * share);
    }
}

static void attend_head(const Heads *heads, const Sequence *s, int64_t head, Room *room, uint16_t *out, int64_t out_stride)
{
    int64_t width = heads->width, before = s->prefix_length, keys = before + s->length;
    gather(heads, heads->key, s, head, room->keys);
    gather(heads, heads->value, s, head, room->values);
    pack_right_transposed(width, keys, room->keys, width, room->laid_keys, 1);
    pack_right(keys, width, room->values, width, room->laid_values, 1);
    for (int64_t r = head * heads->group; r < (head + 1) * heads->group; r++)
        for (int64_t i = 0; i < s->length; i += QUERIES) {
            int64_t num = s->length - i < QUERIES ? s->length - i : QUERIES, last = before + i + num;
            int64_t filled = whole(last) * EDGE;
            const uint16_t *query = heads->query + (s->first + i) * heads->stride + r * width;
            Target scores = {room->scores, filled, NULL, NULL, 1};
            multiply(num, last, width, query, heads->stride, room->laid_keys, width, &scores, 1);
            softmax(heads, num, before + i + 1, filled, room->scores, room->weights);
            Target target = {out + (s->first + i) * out_stride + r * width, out_stride, NULL, NULL, 0};
            multiply(num, width, filled, room->weights, filled, room->laid_values, keys, &target, 1);
        }
}

void attend(const Heads *heads, int64_t count, const Sequence *sequences, uint16_t *out, int64_t out_stride, int threads)
{
    int64_t longest = longest_of(count, sequences);
#pragma omp parallel num_threads(threads)
    {
        Room room;
        char *memory = make_room(&room, longest, heads->width);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < count * heads->num_keys; task++)
            attend_head(heads, sequences + task / heads->num_keys, task % heads->num_keys, &room, out, out_stride);
        free(memory);
    }
}

/* scale P (dP - sum of P dP), in bfloat16, from weights P and the float32 gradients dP. */
static void softmax_backward(float scale, int64_t num, int64_t filled, int64_t last, const uint16_t *weights,
                             float *gradients, uint16_t *out)
{
    for (int64_t row = 0; row < num; row++) {
        const uint16_t *p = weights + row * filled;
        float *g = gradients + row * filled;
        lanes sums = {0};
        for (int64_t i = last; i < filled; i++) g[i] = 0;
        for (int64_t i = 0; i < filled; i += LANES) sums += load(p + i) * load_float(g + i);
        float mean = sum_of(sums);
        for (int64_t i = 0; i < filled; i += LANES)
            store(out + row * filled + i, scale * load(p + i) * (load_float(g + i) - mean));
    }
}

static void add_transposed_product(int64_t num, int64_t last, int64_t filled, int64_t width, const uint16_t *left,
                                   const uint16_t *right, int64_t right_stride, Room *room, float *sums)
{
    pack_left_transposed(num, last, left, filled, room->left, 1);
    pack_right(num, width, right, right_stride, room->laid_other, 1);
    Target target = {sums, width, NULL, NULL, 2};
    multiply(last, width, num, room->left, 0, room->laid_other, num, &target, 1);
}

/* The gradient of queries goes to its place; those of keys and values, float32, are left in the room. */
static void head_backward(const Heads *heads, const Sequence *s, int64_t head, Room *room, const uint16_t *gradient,
                          int64_t gradient_stride, uint16_t *query_gradient)
{
    int64_t width = heads->width, before = s->prefix_length, keys = before + s->length;
    gather(heads, heads->key, s, head, room->keys);
    gather(heads, heads->value, s, head, room->values);
    pack_right_transposed(width, keys, room->keys, width, room->laid_keys, 1);
    pack_right_transposed(width, keys, room->values, width, room->laid_values, 1);
    pack_right(keys, width, room->keys, width, room->laid_rows, 1);
    memset(room->key_sums, 0, keys * width * 4);
    memset(room->value_sums, 0, keys * width * 4);
    for (int64_t r = head * heads->group; r < (head + 1) * heads->group; r++)
        for (int64_t i = 0; i < s->length; i += QUERIES) {
            int64_t num = s->length - i < QUERIES ? s->length - i : QUERIES, last = before + i + num;
            int64_t filled = whole(last) * EDGE;
            const uint16_t *query = heads->query + (s->first + i) * heads->stride + r * width;
            const uint16_t *grad = gradient + (s->first + i) * gradient_stride + r * width;
            Target scores = {room->scores, filled, NULL, NULL, 1}, other = {room->other, filled, NULL, NULL, 1};
            multiply(num, last, width, query, heads->stride, room->laid_keys, width, &scores, 1);
            softmax(heads, num, before + i + 1, filled, room->scores, room->weights);
            multiply(num, last, width, grad, gradient_stride, room->laid_values, width, &other, 1);
            softmax_backward(heads->scale, num, filled, last, room->weights, room->other, room->gradients);
            Target target = {query_gradient + (s->first + i) * heads->stride + r * width, heads->stride, NULL, NULL, 0};
            multiply(num, width, filled, room->gradients, filled, room->laid_rows, keys, &target, 1);
            add_transposed_product(num, last, filled, width, room->weights, grad, gradient_stride, room, room->value_sums);
            add_transposed_product(num, last, filled, width, room->gradients, query, heads->stride, room, room->key_sums);
        }
}

/* Adds the sums of one head to those of all tokens: `wide` has rows of num_keys heads of keys, then as many of values. */
static void add_sums(const Heads *heads, const Sequence *s, int64_t head, const Room *room, float *wide)
{
    int64_t width = heads->width, row = 2 * heads->num_keys * width;
    for (int64_t i = 0; i < s->prefix_length + s->length; i++) {
        int64_t token = i < s->prefix_length ? s->prefix_first + i : s->first + i - s->prefix_length;
        float *to = wide + token * row + head * width;
        for (int64_t j = 0; j < width; j += LANES) {
            store_float(to + j, load_float(to + j) + load_float(room->key_sums + i * width + j));
            float *value = to + heads->num_keys * width + j;
            store_float(value, load_float(value) + load_float(room->value_sums + i * width + j));
        }
    }
}

/* `sequences`: those without a prompt, `alone` of them, then the others, family by family; `families`: where each begins,
 * and the end. `wide`: zeros, tokens x 2 num_keys width. Gradients have the stride of the heads. */
void attend_backward(const Heads *heads, int64_t num_tokens, int64_t alone, int64_t num_families, const int64_t *families,
                     const Sequence *sequences, const uint16_t *gradient, int64_t gradient_stride,
                     uint16_t *query_gradient, uint16_t *key_gradient, uint16_t *value_gradient, float *wide, int threads)
{
    int64_t longest = longest_of(families[num_families], sequences), size = heads->num_keys * heads->width;
#pragma omp parallel num_threads(threads)
    {
        Room room;
        char *memory = make_room(&room, longest, heads->width);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < alone * heads->num_keys; task++) {
            const Sequence *s = sequences + task / heads->num_keys;
            head_backward(heads, s, task % heads->num_keys, &room, gradient, gradient_stride, query_gradient);
            add_sums(heads, s, task % heads->num_keys, &room, wide);
        }
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < num_families * heads->num_keys; task++) {
            int64_t family = task / heads->num_keys, head = task % heads->num_keys;
            for (int64_t i = families[family]; i < families[family + 1]; i++) {
                head_backward(heads, sequences + i, head, &room, gradient, gradient_stride, query_gradient);
                add_sums(heads, sequences + i, head, &room, wide);
            }
        }
#pragma omp for
        for (int64_t token = 0; token < num_tokens; token++)
            for (int64_t j = 0; j < size; j += LANES) {
                store(key_gradient + token * heads->stride + j, load_float(wide + token * 2 * size + j));
                store(value_gradient + token * heads->stride + j, load_float(wide + token * 2 * size + size + j));
            }
        free(memory);
    }
}
