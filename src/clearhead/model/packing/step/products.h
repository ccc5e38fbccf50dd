/* Products of rows by a matrix: float32, or whole numbers. */

#pragma once
#include "panels.h"

typedef struct {
    float *projected, *mixed, *inner, *gate, *joined, *normed, *scores;
    Rounded rounded;
    int64_t scores_row;
} Work;

/* out (rows, outputs) = x (rows, inputs) weight^T + bias, this thread's outputs of it; all have made x before. */
static Span multiply(Team team, const Matrix *matrix, const float *x, int64_t x_row, int64_t rows, float *out,
                     const Work *work) {
    Input input = {x, x_row, &work->rounded};
    if (!matrix->whole) return multiply_panels(0, team, matrix, &input, rows, out);
    round_rows(team, x, x_row, matrix->inputs, rows, &work->rounded, matrix->stride);
    meet(team);
    return multiply_panels(1, team, matrix, &input, rows, out);
}
