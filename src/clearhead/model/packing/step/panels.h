/* Products of rows by a matrix in panels: PANEL outputs side by side, input after input, or four inputs after four where
   they are whole numbers. An output is a lane and is summed from the first input to the last, whatever rows and panels are
   computed beside it. A panel is read in lines of 64 bytes. */

#pragma once
#include "team.h"
#include "told.h"
#include "vectors.h"
#include "whole.h"

#define LINE 64
#define PARTS (PANEL / LANES)
#define WIDE 4 /* panels that share a number of a row, at most */
#define TALL (LANES == 16 ? 6 : 4) /* rows that share weights while these are in registers */

typedef struct {
    const float *rows; /* apart by `row` floats */
    int64_t row;
    const Rounded *rounded; /* the same as whole numbers */
} Input;

/* LANES outputs of a row, from `at` on. */
ALWAYS void finish(const Matrix *matrix, int64_t at, Floats sum, float *out) {
    int64_t count = matrix->outputs - at;
    if (count >= LANES)
        store(out + at, matrix->bias ? sum + load(matrix->bias + at) : sum);
    else if (count > 0)
        store_some(out + at, matrix->bias ? sum + load_some(matrix->bias + at, count) : sum, count);
}

/* Outputs o to o + PANEL * wide of `tall` rows; `ahead`: a panel that will be wanted soon, or null. */
ALWAYS void tile(const int wide, const int tall, const Matrix *matrix, int64_t o, const Input *x, int64_t row, float *out,
                 const char *ahead) {
    const int parts = wide * PARTS;
    int64_t inputs = matrix->inputs;
    const float *weight = matrix->weight + o * inputs, *from = x->rows + row * x->row;
    Floats sums[TALL][WIDE * PARTS];
    for (int r = 0; r < tall; r++)
        for (int p = 0; p < parts; p++) sums[r][p] = (Floats){0};
    for (int64_t i = 0; i < inputs; i++) {
        Floats now[WIDE * PARTS];
        for (int p = 0; p < parts; p++) now[p] = load(weight + (p / PARTS * inputs + i) * PANEL + p % PARTS * LANES);
        if (ahead) __builtin_prefetch(ahead + i * LINE, 0, 2);
        for (int r = 0; r < tall; r++)
            for (int p = 0; p < parts; p++) sums[r][p] += now[p] * from[r * x->row + i];
    }
    for (int r = 0; r < tall; r++)
        for (int p = 0; p < parts; p++)
            finish(matrix, o + p * LANES, sums[r][p], out + (row + r) * matrix->outputs);
}

/* The same of whole numbers. */
ALWAYS void whole_tile(const int wide, const int tall, const Matrix *matrix, int64_t o, const Input *x, int64_t row,
                       float *out, const char *ahead) {
    const int parts = wide * PARTS;
    int64_t stride = matrix->stride, lines = stride / 4;
    const int8_t *weight = matrix->whole + o * stride;
    const uint8_t *from = x->rounded->whole + row * stride;
    Ints sums[TALL][WIDE * PARTS];
    for (int r = 0; r < tall; r++)
        for (int p = 0; p < parts; p++) sums[r][p] = (Ints){0};
    for (int64_t i = 0; i < lines; i++) {
        Fours now[WIDE * PARTS];
        for (int p = 0; p < parts; p++) now[p] = fours(weight + (p / PARTS * lines + i) * LINE + p % PARTS * 4 * LANES);
        if (ahead) __builtin_prefetch(ahead + i * LINE, 0, 2);
        for (int r = 0; r < tall; r++) {
            int32_t four;
            memcpy(&four, from + r * stride + 4 * i, sizeof four);
            for (int p = 0; p < parts; p++) sums[r][p] = plus_fours(sums[r][p], now[p], four);
        }
    }
    for (int p = 0; p < parts; p++) {
        int64_t at = o + p * LANES;
        Floats scale = load(matrix->scale + at);
        Ints less;
        memcpy(&less, matrix->sums + at, sizeof less);
        for (int r = 0; r < tall; r++) {
            Floats sum = __builtin_convertvector(sums[r][p] - less, Floats) * x->rounded->scales[row + r] * scale;
            finish(matrix, at, sum, out + (row + r) * matrix->outputs);
        }
    }
}

#define TILE(wide, tall)                                                                                                \
    if (whole) whole_tile(wide, tall, matrix, o, x, row, out, ahead);                                                   \
    else tile(wide, tall, matrix, o, x, row, out, ahead);                                                               \
    return

ALWAYS void tile_of(const int whole, const int wide, int tall, const Matrix *matrix, int64_t o, const Input *x,
                    int64_t row, float *out, const char *ahead) {
    switch (tall) {
#if LANES == 16
    case 6: TILE(wide, 6);
    case 5: TILE(wide, 5);
#endif
    case 4: TILE(wide, 4);
    case 3: TILE(wide, 3);
    case 2: TILE(wide, 2);
    default: TILE(wide, 1);
    }
}

/* How many panels there are registers for: AVX-512 has 32 for 24 sums and 4 weights; AVX2 16 for 8 and 2, or 8 and 8 of a
   single row. */
ALWAYS int64_t widest(int64_t rows) { return LANES == 16 || rows == 1 ? WIDE : rows == 2 ? 2 : 1; }

/* out (rows, outputs) = x (rows, inputs) weight^T + bias, this thread's outputs of it. While rows are multiplied by some
   panels, the next panels are fetched. */
ALWAYS Span multiply_panels(const int whole, Team team, const Matrix *matrix, const Input *x, int64_t rows, float *out) {
    int64_t bytes = whole ? matrix->stride : matrix->inputs * (int64_t)sizeof(float); /* of an output */
    int64_t tiles = (rows + TALL - 1) / TALL, many = widest(rows), wide = many;
    const char *weights = whole ? (const char *)matrix->whole : (const char *)matrix->weight;
    Span mine = share(team, matrix->outputs, PANEL);
    for (int64_t o = mine.from; o < mine.to; o += wide * PANEL) {
        wide = least(many, (mine.to - o + PANEL - 1) / PANEL);
        for (int64_t t = 0; t < tiles; t++) {
            int64_t row = t * rows / tiles, soon = o + (wide + t) * PANEL;
            int tall = (int)((t + 1) * rows / tiles - row);
            const char *ahead = tiles > 1 && t < wide && soon < mine.to ? weights + soon * bytes : 0;
            switch (wide) {
            case 4: tile_of(whole, 4, tall, matrix, o, x, row, out, ahead); break;
            case 3: tile_of(whole, 3, tall, matrix, o, x, row, out, ahead); break;
            case 2: tile_of(whole, 2, tall, matrix, o, x, row, out, ahead); break;
            default: tile_of(whole, 1, tall, matrix, o, x, row, out, ahead);
            }
        }
    }
    return mine;
}
