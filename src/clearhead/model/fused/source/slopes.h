/* From logits to the slope of the cross-entropy, a row at a time. */

#pragma once
#include "numbers.h"

typedef struct {
    void *logits; /* (rows, words), overwritten by softmax - own_share at the label - their_share * softmax(theirs) */
    const int64_t *labels;
    float *lost; /* (rows,): -log p of the label */
    const void *theirs; /* (rows, words): logits of a teacher, in the format of `logits`; NULL without one */
    float *apart; /* (rows,): the label's logit minus the mean logit under the teacher's probabilities */
    int64_t rows, words;
    float own_share, their_share;
    int32_t half; /* logits are bfloat16 */
    int32_t unused;
} Slopes;

/* A row of logits as float32, made up to whole vectors by what has no probability. */
ALWAYS void read_row(const Slopes *s, const void *from, int64_t row, float *to) {
    int64_t whole = s->words / LANES * LANES, start = row * s->words;
    for (int64_t i = 0; i < whole; i += LANES) store(to + i, load_as(from, start + i, s->half));
    if (whole == s->words) return;
    store(to + whole, load_part(from, start + whole, s->words - whole, s->half));
    for (int64_t i = s->words; i < whole + LANES; i++) to[i] = -INFINITY;
}

/* `work` has room for two rows, each made up to whole vectors. */
ALWAYS void slope(const Slopes *s, int64_t row, float *work) {
    int64_t words = s->words, start = row * words, whole = words / LANES * LANES, left = words - whole;
    int64_t wide = padded(words), label = s->labels[row];
    float *theirs = work + wide, taught = 0;
    read_row(s, s->logits, row, work);
    float right = work[label];
    if (s->theirs) {
        read_row(s, s->theirs, row, theirs);
        float sum = soften(theirs, wide).sum;
        Floats expected = all(0);
        for (int64_t i = 0; i < whole; i += LANES) expected += load(theirs + i) * load(work + i);
        if (left) expected += load(theirs + whole) * load_part(work, whole, left, 0);
        s->apart[row] = right - total(expected) / sum;
        taught = s->their_share / sum;
    }
    Scale own = soften(work, wide);
    float scale = 1.0f / own.sum;
    s->lost[row] = logf(own.sum) - (right - own.most);
    work[label] -= s->own_share * own.sum;
    if (s->theirs)
        for (int64_t i = 0; i < wide; i += LANES) store(work + i, scale * load(work + i) - taught * load(theirs + i));
    else
        for (int64_t i = 0; i < wide; i += LANES) store(work + i, scale * load(work + i));
    for (int64_t i = 0; i < whole; i += LANES) store_as(s->logits, start + i, load(work + i), s->half);
    if (left) store_part(s->logits, start + whole, load(work + whole), left, s->half);
}
