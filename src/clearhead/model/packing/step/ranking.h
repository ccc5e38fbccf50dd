/* What searches ask of logits (rows, vocab), whose rows the threads share. */

#pragma once
#include "team.h"
#include "vectors.h"

static void sums_of_rows(Team team, const float *logits, int64_t rows, int64_t vocab, float *sums) {
    Span mine = share(team, rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++) {
        const float *x = logits + row * vocab;
        float largest = -INFINITY, rest[LANES];
        int64_t at = 0;
        Floats peaks = all(-INFINITY), parts = {0};
        Ints strange = {0}; /* where something is not a number */
        for (; at + LANES <= vocab; at += LANES) {
            Floats now = load(x + at);
            Ints higher = now > peaks;
            strange |= now != now;
            peaks = (Floats)(((Ints)now & higher) | ((Ints)peaks & ~higher));
        }
        for (int i = 0; i < LANES; i++) largest = peaks[i] > largest ? peaks[i] : largest;
        for (int64_t i = at; i < vocab; i++) largest = x[i] > largest ? x[i] : largest;
        for (at = 0; at + LANES <= vocab; at += LANES) parts += exponential(load(x + at) - largest);
        for (int i = 0; i < LANES; i++) {
            rest[i] = at + i < vocab ? x[at + i] : -INFINITY;
            largest = strange[i] || rest[i] != rest[i] ? NAN : largest;
        }
        sums[row] = logf(total(parts + exponential(load(rest) - largest))) + largest;
    }
}

/* The largest of each row, best first; of equal ones the first. Rows are read piece by piece, and a piece is looked
   into only if one of its numbers belongs among the best so far. */
static void largest_of_rows(Team team, const float *logits, int64_t rows, int64_t vocab, int64_t count, float *best,
                            int64_t *places) {
    Span mine = share(team, rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++) {
        const float *x = logits + row * vocab;
        float *values = best + row * count;
        int64_t *found = places + row * count;
        for (int64_t i = 0; i < count; i++) values[i] = -INFINITY, found[i] = i;
        for (int64_t at = 0; at < vocab; at += 4 * LANES) {
            int64_t some = vocab - at < 4 * LANES ? vocab - at : 4 * LANES;
            if (some == 4 * LANES) {
                float bar = values[count - 1];
                Ints over = (load(x + at) > bar) | (load(x + at + LANES) > bar) | (load(x + at + 2 * LANES) > bar) |
                            (load(x + at + 3 * LANES) > bar);
                Floats any = (Floats)(over & (int32_t)0x3f800000);
                if (total(any) == 0.0f) continue;
            }
            for (int64_t i = at; i < at + some; i++) {
                if (!(x[i] > values[count - 1])) continue;
                int64_t to = count - 1;
                for (; to > 0 && x[i] > values[to - 1]; to--) values[to] = values[to - 1], found[to] = found[to - 1];
                values[to] = x[i], found[to] = i;
            }
        }
    }
}
