/* Products of rows by a float32 matrix in panels: outputs side by side, input after input. An output is a lane and is summed
   from the first input to the last, whatever rows and panels are computed beside it. */

#pragma once
#include "team.h"
#include "told.h"
#include "vectors.h"

#define TALL 6 /* rows that share weights while these are in registers */
#define PARTS (PANEL / LANES)
#define WIDE 4 /* panels that share a number of a row, at most */

/* Outputs o to o + PANEL * wide of `tall` rows; `ahead`: a panel that will be wanted soon, or null. */
ALWAYS void tile(const int wide, const int tall, const Matrix *matrix, int64_t o, const float *x, int64_t x_row,
                 float *out, const float *ahead) {
    int64_t inputs = matrix->inputs, outputs = matrix->outputs;
    const int parts = wide * PARTS;
    const float *weight = matrix->weight + o * inputs;
    Floats sums[TALL][WIDE * PARTS];
    for (int r = 0; r < tall; r++)
        for (int p = 0; p < parts; p++) sums[r][p] = (Floats){0};
    for (int64_t i = 0; i < inputs; i++) {
        Floats now[WIDE * PARTS];
        for (int p = 0; p < parts; p++) now[p] = load(weight + (p / PARTS * inputs + i) * PANEL + p % PARTS * LANES);
        if (ahead) __builtin_prefetch(ahead + i * PANEL, 0, 2);
        for (int r = 0; r < tall; r++)
            for (int p = 0; p < parts; p++) sums[r][p] += now[p] * x[r * x_row + i];
    }
    for (int p = 0; p < parts; p++) {
        int64_t at = o + p * LANES, count = outputs - at;
        if (count >= LANES) {
            Floats bias = matrix->bias ? load(matrix->bias + at) : (Floats){0};
            for (int r = 0; r < tall; r++) store(out + r * outputs + at, sums[r][p] + bias);
        } else if (count > 0) {
            Floats bias = matrix->bias ? load_some(matrix->bias + at, count) : (Floats){0};
            for (int r = 0; r < tall; r++) store_some(out + r * outputs + at, sums[r][p] + bias, count);
        }
    }
}

ALWAYS void tile_of(const int wide, int tall, const Matrix *matrix, int64_t o, const float *x, int64_t x_row,
                    float *out, const float *ahead) {
    switch (tall) {
    case 6: tile(wide, 6, matrix, o, x, x_row, out, ahead); break;
    case 5: tile(wide, 5, matrix, o, x, x_row, out, ahead); break;
    case 4: tile(wide, 4, matrix, o, x, x_row, out, ahead); break;
    case 3: tile(wide, 3, matrix, o, x, x_row, out, ahead); break;
    case 2: tile(wide, 2, matrix, o, x, x_row, out, ahead); break;
    default: tile(wide, 1, matrix, o, x, x_row, out, ahead);
    }
}

/* How many panels there are registers for: AVX-512 has 32 for 24 sums and 4 weights; AVX2 16 for 12 and 2, or 8 and 8 of a
   single row. */
ALWAYS int64_t widest(int64_t rows) { return LANES == 16 || rows == 1 ? WIDE : rows < 4 ? 2 : 1; }

/* out (rows, outputs) = x (rows, inputs) weight^T + bias, this thread's outputs of it. While rows are multiplied by some
   panels, the next panels are fetched. */
static Span multiply_panels(Team team, const Matrix *matrix, const float *x, int64_t x_row, int64_t rows, float *out) {
    int64_t outputs = matrix->outputs, tiles = (rows + TALL - 1) / TALL;
    int64_t many = widest(rows), wide = many;
    Span mine = share(team, outputs, PANEL);
    for (int64_t o = mine.from; o < mine.to; o += wide * PANEL) {
        wide = least(many, (mine.to - o + PANEL - 1) / PANEL);
        for (int64_t t = 0; t < tiles; t++) {
            int64_t row = t * rows / tiles, soon = o + (wide + t) * PANEL;
            const float *from = x + row * x_row, *ahead = 0;
            float *to = out + row * outputs;
            int tall = (int)((t + 1) * rows / tiles - row);
            if (tiles > 1 && t < wide && soon < mine.to) ahead = matrix->weight + soon * matrix->inputs;
            switch (wide) {
            case 4: tile_of(4, tall, matrix, o, from, x_row, to, ahead); break;
            case 3: tile_of(3, tall, matrix, o, from, x_row, to, ahead); break;
            case 2: tile_of(2, tall, matrix, o, from, x_row, to, ahead); break;
            default: tile_of(1, tall, matrix, o, from, x_row, to, ahead);
            }
        }
    }
    return mine;
}
