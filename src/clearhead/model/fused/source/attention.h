/* softmax(scale q k^T) v of one head, and its gradients. With few queries and keys everything of a head stays in the cache; scores are made once more
   for the gradients, from the logarithm of their sums. */

#pragma once
#include "products.h"

typedef struct {
    void *at;
    int64_t batch, head, row; /* steps in elements; features lie side by side */
    int32_t half, unused;
} Rows; /* (batch, heads, rows, features) in float32 or bfloat16 */

typedef struct {
    Rows query, key, value, out;                              /* of a forward pass, */
    Rows slope, query_slope, key_slope, value_slope;          /* and of a backward pass: d loss / d out given, the others made */
    const uint8_t *seen;                                      /* bool, 1 = visible; NULL = all are */
    int64_t seen_batch, seen_head, seen_row, seen_column;     /* steps, 0 where it is the same for all */
    float *sums;                                              /* (batch, heads, queries): log of the sum of e^score */
    int64_t batch, heads, queries, keys, features;
    float scale;
    int32_t unused;
} Attention;

ALWAYS char *row_at(Rows rows, int64_t batch, int64_t head, int64_t row) {
    int64_t index = batch * rows.batch + head * rows.head + row * rows.row;
    return (char *)rows.at + index * (rows.half ? sizeof(uint16_t) : sizeof(float));
}

/* Rows of one head as float32, (count, padded features), what is too much being 0. */
ALWAYS void gather(Rows rows, int64_t batch, int64_t head, int64_t count, int64_t features, float *to) {
    int64_t width = padded(features), whole = features / LANES * LANES;
    for (int64_t row = 0; row < count; row++, to += width) {
        const char *from = row_at(rows, batch, head, row);
        for (int64_t column = 0; column < whole; column += LANES) store(to + column, load_as(from, column, rows.half));
        if (whole < features) store(to + whole, load_part(from, whole, features - whole, rows.half));
    }
}

ALWAYS void scatter(Rows rows, int64_t batch, int64_t head, int64_t count, int64_t features, const float *from) {
    int64_t width = padded(features), whole = features / LANES * LANES;
    for (int64_t row = 0; row < count; row++, from += width) {
        char *to = row_at(rows, batch, head, row);
        for (int64_t column = 0; column < whole; column += LANES)
            store_as(to, column, load(from + column), rows.half);
        if (whole < features) store_part(to, whole, load(from + whole), features - whole, rows.half);
    }
}

#if LANES == 16
/* Every second number from a and from b: of their first halves, of their second halves. Four times over 16 vectors, each
   with the one eight further, columns have become rows. */
#define FIRST(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define SECOND(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define ROUND(to, of)                                                                            \
    Floats to##0 = FIRST(of##0, of##8), to##1 = SECOND(of##0, of##8), to##2 = FIRST(of##1, of##9), \
           to##3 = SECOND(of##1, of##9), to##4 = FIRST(of##2, of##10), to##5 = SECOND(of##2, of##10), \
           to##6 = FIRST(of##3, of##11), to##7 = SECOND(of##3, of##11), to##8 = FIRST(of##4, of##12), \
           to##9 = SECOND(of##4, of##12), to##10 = FIRST(of##5, of##13), to##11 = SECOND(of##5, of##13), \
           to##12 = FIRST(of##6, of##14), to##13 = SECOND(of##6, of##14), to##14 = FIRST(of##7, of##15), \
           to##15 = SECOND(of##7, of##15)

ALWAYS Floats row_of(const float *from, int64_t row, int64_t rows, int64_t stride) {
    return row < rows ? load(from + row * stride) : all(0);
}

/* Rows of a square, of which there may be fewer, as columns. */
static void turn_square(const float *from, int64_t rows, int64_t stride, float *to, int64_t wide) {
#define ROW(n) a##n = row_of(from, n, rows, stride)
    Floats ROW(0), ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7);
    Floats ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15);
    ROUND(b, a);
    ROUND(c, b);
    ROUND(d, c);
    ROUND(e, d);
#define PUT(n) store(to + n * wide, e##n)
    PUT(0), PUT(1), PUT(2), PUT(3), PUT(4), PUT(5), PUT(6), PUT(7);
    PUT(8), PUT(9), PUT(10), PUT(11), PUT(12), PUT(13), PUT(14), PUT(15);
#undef ROW
#undef PUT
}
#else
static void turn_square(const float *from, int64_t rows, int64_t stride, float *to, int64_t wide) {
    for (int64_t row = 0; row < LANES; row++)
        for (int64_t column = 0; column < LANES; column++)
            to[column * wide + row] = row < rows ? from[row * stride + column] : 0;
}
#endif

/* (count, padded features) -> (padded features, padded count). */
ALWAYS void turn(const float *from, int64_t count, int64_t features, float *to) {
    int64_t width = padded(features), wide = padded(count);
    for (int64_t row = 0; row < count; row += LANES)
        for (int64_t feature = 0; feature < width; feature += LANES)
            turn_square(from + row * width + feature, count - row, width, to + feature * wide + row, wide);
}

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

/* Which keys of a vector a query sees. */
ALWAYS Ints shown(const Attention *a, const uint8_t *seen, int64_t key) {
    uint8_t flags[LANES] = {0};
    int64_t count = a->keys - key < LANES ? a->keys - key : LANES;
    if (!seen) memset(flags, 1, count);
    else if (a->seen_column == 1 && count == LANES) memcpy(flags, seen + key, LANES);
    else for (int64_t i = 0; i < count; i++) flags[i] = seen[(key + i) * a->seen_column];
    Bytes bytes;
    memcpy(&bytes, flags, sizeof bytes);
    return __builtin_convertvector(bytes, Ints) != 0;
}

/* One more than the last key that a query sees; 0 = none. */
ALWAYS int64_t reach(const Attention *a, const uint8_t *seen) {
    int64_t keys = a->keys;
    if (!seen) return keys;
    if (a->seen_column == 1) {
        for (uint64_t eight = 0; keys >= 8; keys -= 8) {
            memcpy(&eight, seen + keys - 8, sizeof eight);
            if (eight) break;
        }
    }
    while (keys && !seen[(keys - 1) * a->seen_column]) keys--;
    return keys;
}

/* Scores (rows, padded keys), times scale, of some queries from `row` on; what is not seen is -inf. Returns how many keys
   they see at most, made up to whole vectors; what lies beyond is not written. */
ALWAYS int64_t score(
    const Attention *a, int64_t batch, int64_t head, int64_t row, int64_t rows, const float *query, const float *turned,
    float *scores
) {
    int64_t wide = padded(a->keys), width = padded(a->features), open = a->seen ? 0 : a->keys / LANES * LANES, last = 0;
    const uint8_t *seen = a->seen ? a->seen + batch * a->seen_batch + head * a->seen_head + row * a->seen_row : NULL;
    for (int64_t i = 0; i < rows && last < a->keys; i++) last = most(last, reach(a, seen ? seen + i * a->seen_row : NULL));
    last = padded(last);
    multiply((Left){query + row * width, width, 1}, turned, wide, scores, wide, rows, a->features, last);
    for (int64_t i = 0; i < rows; i++, scores += wide) {
        for (int64_t key = 0; key < last; key += LANES) {
            Floats vector = a->scale * load(scores + key);
            if (key >= open) {
                Ints kept = shown(a, seen ? seen + i * a->seen_row : NULL, key);
                vector = (Floats)(((Ints)vector & kept) | ((Ints)all(-INFINITY) & ~kept));
            }
            store(scores + key, vector);
        }
    }
    return last;
}

/* A row of scores as weights; returns the log of the sum, +inf where nothing is seen, whose weights are 0. */
ALWAYS float weigh(float *scores, int64_t wide) {
    Scale own = soften(scores, wide);
    if (own.most == -INFINITY) {
        for (int64_t key = 0; key < wide; key++) scores[key] = 0;
        return INFINITY;
    }
    Floats scale = all(1.0f / own.sum);
    for (int64_t key = 0; key < wide; key += LANES) store(scores + key, load(scores + key) * scale);
    return own.most + logf(own.sum);
}

/* Floats that a thread needs. */
ALWAYS int64_t room(const Attention *a, int back) {
    int64_t wide = padded(a->keys), width = padded(a->features), longer = most(a->queries, a->keys);
    if (!back) return 4 * longer * width + width * wide + LANES * wide;
    return 5 * longer * width + 2 * width * wide + 2 * a->queries * wide + a->queries;
}

/* Some queries at a time: no product reaches beyond the last key that one of them sees. */
static void attend(const Attention *a, int64_t batch, int64_t head, float *work) {
    int64_t queries = a->queries, keys = a->keys, wide = padded(keys), width = padded(a->features);
    float *query = work, *key = query + queries * width, *value = key + keys * width, *turned = value + keys * width;
    float *scores = turned + width * wide, *out = scores + LANES * wide;
    gather(a->query, batch, head, queries, a->features, query);
    gather(a->key, batch, head, keys, a->features, key);
    gather(a->value, batch, head, keys, a->features, value);
    turn(key, keys, a->features, turned);
    float *sums = a->sums + (batch * a->heads + head) * queries;
    for (int64_t row = 0; row < queries; row += LANES) {
        int64_t rows = least(LANES, queries - row);
        int64_t last = score(a, batch, head, row, rows, query, turned, scores);
        for (int64_t i = 0; i < rows; i++) sums[row + i] = weigh(scores + i * wide, last);
        multiply((Left){scores, wide, 1}, value, width, out + row * width, width, rows, least(last, keys), width);
    }
    scatter(a->out, batch, head, queries, a->features, out);
}

/* Weights of a row from its scores, and from slopes of the weights those of the scores; both are 0 beyond `last`. */
ALWAYS void back(const Attention *a, float sum, float *weights, float *slopes, int64_t last) {
    Floats together = all(0);
    for (int64_t column = 0; column < last; column += LANES) {
        Floats weight = power(load(weights + column) - sum);
        store(weights + column, weight);
        together += weight * load(slopes + column);
    }
    float mean = total(together);
    for (int64_t column = 0; column < last; column += LANES)
        store(slopes + column, a->scale * load(weights + column) * (load(slopes + column) - mean));
    int64_t left = (padded(a->keys) - last) * sizeof(float);
    memset(weights + last, 0, left), memset(slopes + last, 0, left);
}

static void attend_back(const Attention *a, int64_t batch, int64_t head, float *work) {
    int64_t queries = a->queries, keys = a->keys, wide = padded(keys), width = padded(a->features);
    float *query = work, *slope = query + queries * width, *key = slope + queries * width, *value = key + keys * width;
    float *made = value + keys * width, *turned_key = made + most(queries, keys) * width;
    float *turned_value = turned_key + width * wide, *weights = turned_value + width * wide;
    float *slopes = weights + queries * wide, *lasts = slopes + queries * wide; /* lasts: what `score` returned */
    gather(a->query, batch, head, queries, a->features, query);
    gather(a->slope, batch, head, queries, a->features, slope);
    gather(a->key, batch, head, keys, a->features, key);
    gather(a->value, batch, head, keys, a->features, value);
    turn(key, keys, a->features, turned_key);
    turn(value, keys, a->features, turned_value);
    const float *sums = a->sums + (batch * a->heads + head) * queries;
    for (int64_t row = 0; row < queries; row += LANES) {
        int64_t rows = least(LANES, queries - row);
        float *own = weights + row * wide, *other = slopes + row * wide;
        int64_t last = score(a, batch, head, row, rows, query, turned_key, own);
        multiply((Left){slope + row * width, width, 1}, turned_value, wide, other, wide, rows, a->features, last);
        for (int64_t i = 0; i < rows; i++) back(a, sums[row + i], own + i * wide, other + i * wide, last);
        multiply((Left){other, wide, 1}, key, width, made + row * width, width, rows, least(last, keys), width);
        lasts[row / LANES] = last;
    }
    scatter(a->query_slope, batch, head, queries, a->features, made);
    for (int from_value = 0; from_value < 2; from_value++) {
        const float *left = from_value ? weights : slopes, *right = from_value ? slope : query;
        for (int64_t column = 0; column < keys; column += LANES) {
            int64_t first = 0; /* the first queries that see one of these keys */
            while (first < queries && lasts[first / LANES] <= column) first += LANES;
            first = least(first, queries);
            Left here = {left + first * wide + column, 1, wide};
            float *to = made + column * width;
            multiply(here, right + first * width, width, to, width, least(LANES, keys - column), queries - first, width);
        }
        scatter(from_value ? a->value_slope : a->key_slope, batch, head, keys, a->features, made);
    }
}
