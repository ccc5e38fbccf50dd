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

ALWAYS int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

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

/* (count, features) -> (features, padded count). */
ALWAYS void turn(const float *from, int64_t count, int64_t features, float *to) {
    int64_t width = padded(features), wide = padded(count);
    for (int64_t feature = 0; feature < features; feature++) {
        for (int64_t row = 0; row < count; row++) to[feature * wide + row] = from[row * width + feature];
        for (int64_t row = count; row < wide; row++) to[feature * wide + row] = 0;
    }
}

/* Scores (queries, padded keys) times scale; what is not seen, and what is too much, -inf. */
ALWAYS void hide(const Attention *a, int64_t batch, int64_t head, float *scores) {
    int64_t wide = padded(a->keys);
    const uint8_t *seen = a->seen ? a->seen + batch * a->seen_batch + head * a->seen_head : NULL;
    for (int64_t row = 0; row < a->queries; row++, scores += wide) {
        for (int64_t key = 0; key < wide; key += LANES) store(scores + key, a->scale * load(scores + key));
        if (seen) {
            const uint8_t *own = seen + row * a->seen_row;
            for (int64_t key = 0; key < a->keys; key++)
                scores[key] = own[key * a->seen_column] ? scores[key] : -INFINITY;
        }
        for (int64_t key = a->keys; key < wide; key++) scores[key] = -INFINITY;
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
    for (int64_t key = 0; key < wide; key += LANES) store(scores + key, load(scores + key) / sum);
    return most + logf(sum);
}

/* Floats that a thread needs. */
ALWAYS int64_t room(const Attention *a, int back) {
    int64_t wide = padded(a->keys), width = padded(a->features), longer = most(a->queries, a->keys);
    return (back ? 8 : 4) * longer * width + 2 * width * wide + 2 * a->queries * wide;
}

static void attend(const Attention *a, int64_t batch, int64_t head, float *work) {
    int64_t queries = a->queries, keys = a->keys, wide = padded(keys), width = padded(a->features);
    float *query = work, *key = query + queries * width, *value = key + keys * width, *turned = value + keys * width;
    float *scores = turned + width * wide, *out = scores + queries * wide;
    gather(a->query, batch, head, queries, a->features, query);
    gather(a->key, batch, head, keys, a->features, key);
    gather(a->value, batch, head, keys, a->features, value);
    turn(key, keys, a->features, turned);
    multiply((Left){query, width, 1}, turned, wide, scores, wide, queries, a->features, wide);
    hide(a, batch, head, scores);
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
    gather(a->query, batch, head, queries, a->features, query);
    gather(a->key, batch, head, keys, a->features, key);
    gather(a->value, batch, head, keys, a->features, value);
    gather(a->slope, batch, head, queries, a->features, slope);
    turn(key, keys, a->features, turned);
    multiply((Left){query, width, 1}, turned, wide, weights, wide, queries, a->features, wide);
    hide(a, batch, head, weights);
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
