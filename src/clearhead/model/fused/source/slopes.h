/* From logits to the slope of the cross-entropy, a row at a time. */

#pragma once
#include "numbers.h"

typedef struct {
    void *logits; /* (rows, words), overwritten by softmax - own_share at the label */
    const int64_t *labels;
    float *lost; /* (rows,): -log p of the label */
    int64_t rows, words;
    float own_share;
    int32_t half; /* logits are bfloat16 */
} Slopes;

/* `work` has room for a row, made up to whole vectors. */
ALWAYS void slope(const Slopes *s, int64_t row, float *work) {
    int64_t words = s->words, start = row * words, whole = words / LANES * LANES, left = words - whole;
    Floats peaks = all(-INFINITY), sums = all(0);
    for (int64_t i = 0; i < whole; i += LANES) store(work + i, load_as(s->logits, start + i, s->half));
    if (left) {
        store(work + whole, load_part(s->logits, start + whole, left, s->half));
        for (int64_t i = words; i < whole + LANES; i++) work[i] = -INFINITY;
    }
    int64_t wide = whole + (left ? LANES : 0), label = s->labels[row];
    float right = work[label];
    for (int64_t i = 0; i < wide; i += LANES) peaks = larger(peaks, load(work + i));
    float most = largest(peaks);
    for (int64_t i = 0; i < wide; i += LANES) {
        Floats vector = power(load(work + i) - most);
        sums += vector;
        store(work + i, vector);
    }
    float sum = total(sums), scale = 1.0f / sum;
    s->lost[row] = logf(sum) - (right - most);
    work[label] -= s->own_share * sum;
    for (int64_t i = 0; i < whole; i += LANES) store_as(s->logits, start + i, scale * load(work + i), s->half);
    if (left) store_part(s->logits, start + whole, scale * load(work + whole), left, s->half);
}
