/* softmax(scale q k^T) v of one head, and its gradients. Everything of a head stays in the cache; scores are made once more
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

/* 16 rows, of which there may be fewer, as columns. */
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

/* (count, padded features) -> (padded features, padded count). */
ALWAYS void turn(const float *from, int64_t count, int64_t features, float *to) {
    int64_t width = padded(features), wide = padded(count);
    for (int64_t row = 0; row < count; row += LANES)
        for (int64_t feature = 0; feature < width; feature += LANES)
            turn_square(from + row * width + feature, count - row, width, to + feature * wide + row, wide);
}

typedef uint8_t Bytes __attribute__((vector_size(16)));

/* Which of 16 keys a query sees. */
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

/* Scores (queries, padded keys) times scale; what is not seen, and what is too much, -inf. */
ALWAYS void hide(const Attention *a, int64_t batch, int64_t head, float *scores) {
    int64_t wide = padded(a->keys), open = a->seen ? 0 : a->keys / LANES * LANES;
    const uint8_t *seen = a->seen ? a->seen + batch * a->seen_batch + head * a->seen_head : NULL;
    for (int64_t row = 0; row < a->queries; row++, scores += wide) {
        for (int64_t key = 0; key < wide; key += LANES) {
            Floats vector = a->scale * load(scores + key);
            if (key >= open) {
                Ints kept = shown(a, seen ? seen + row * a->seen_row : NULL, key);
                vector = (Floats)(((Ints)vector & kept) | ((Ints)all(-INFINITY) & ~kept));
            }
            store(scores + key, vector);
        }
    }
}

/* A row of scores as weights; returns the log of the sum, +inf where nothing is seen, whose weights are 0. */
ALWAYS float weigh(float *scores, int64_t wide) {
    Floats peaks = all(-INFINITY);
    for (int64_t key = 0; key < wide; key += LANES) peaks = larger(peaks, load(scores + key));
    float most = largest(peaks);
    if (most == -INFINITY) {
        for (int64_t key = 0; key < wide; key++) scores[key] = 0;
        return INFINITY;
    }
    Floats sums = all(0);
    for (int64_t key = 0; key < wide; key += LANES) {
        Floats vector = power(load(scores + key) - most);
        sums += vector;
        store(scores + key, vector);
    }
    float sum = total(sums);
    Floats scale = all(1.0f / sum);
    for (int64_t key = 0; key < wide; key += LANES) store(scores + key, load(scores + key) * scale);
    return most + logf(sum);
}

/* Floats that a thread needs. */
ALWAYS int64_t room(const Attention *a, int back) {
    int64_t wide = padded(a->keys), width = padded(a->features), longer = most(a->queries, a->keys);
    return (back ? 8 : 4) * longer * width + 2 * width * wide + 2 * a->queries * wide;
}

/* Queries and keys of a head as float32, and their scores, times scale and masked; `turned` is room for the keys. */
ALWAYS void score(const Attention *a, int64_t batch, int64_t head, float *query, float *key, float *turned, float *scores) {
    int64_t wide = padded(a->keys), width = padded(a->features);
    gather(a->query, batch, head, a->queries, a->features, query);
    gather(a->key, batch, head, a->keys, a->features, key);
    turn(key, a->keys, a->features, turned);
    multiply((Left){query, width, 1}, turned, wide, scores, wide, a->queries, a->features, wide);
    hide(a, batch, head, scores);
}

static void attend(const Attention *a, int64_t batch, int64_t head, float *work) {
    int64_t queries = a->queries, keys = a->keys, wide = padded(keys), width = padded(a->features);
    float *query = work, *key = query + queries * width, *value = key + keys * width, *turned = value + keys * width;
    float *scores = turned + width * wide, *out = scores + queries * wide;
    score(a, batch, head, query, key, turned, scores);
    gather(a->value, batch, head, keys, a->features, value);
    float *sums = a->sums + (batch * a->heads + head) * queries;
    for (int64_t row = 0; row < queries; row++) sums[row] = weigh(scores + row * wide, wide);
    multiply((Left){scores, wide, 1}, value, width, out, width, queries, keys, width);
    scatter(a->out, batch, head, queries, a->features, out);
}

static void attend_back(const Attention *a, int64_t batch, int64_t head, float *work) {
    int64_t queries = a->queries, keys = a->keys, wide = padded(keys), width = padded(a->features);
    float *query = work, *key = query + queries * width, *value = key + keys * width, *slope = value + keys * width;
    float *turned = slope + queries * width, *weights = turned + width * wide, *slopes = weights + queries * wide;
    float *made = slopes + queries * wide;
    score(a, batch, head, query, key, turned, weights);
    gather(a->value, batch, head, keys, a->features, value);
    gather(a->slope, batch, head, queries, a->features, slope);
    turn(value, keys, a->features, turned);
    multiply((Left){slope, width, 1}, turned, wide, slopes, wide, queries, a->features, wide);
    const float *sums = a->sums + (batch * a->heads + head) * queries;
    for (int64_t row = 0; row < queries; row++) {
        float *own = weights + row * wide, *other = slopes + row * wide;
        Floats together = all(0);
        for (int64_t column = 0; column < wide; column += LANES) {
            Floats weight = power(load(own + column) - sums[row]);
            store(own + column, weight);
            together += weight * load(other + column);
        }
        float mean = total(together);
        for (int64_t column = 0; column < wide; column += LANES)
            store(other + column, a->scale * load(own + column) * (load(other + column) - mean));
    }
    multiply((Left){weights, 1, wide}, slope, width, made, width, keys, queries, width);
    scatter(a->value_slope, batch, head, keys, a->features, made);
    multiply((Left){slopes, wide, 1}, key, width, made, width, queries, keys, width);
    scatter(a->query_slope, batch, head, queries, a->features, made);
    multiply((Left){slopes, 1, wide}, query, width, made, width, keys, queries, width);
    scatter(a->key_slope, batch, head, keys, a->features, made);
}
