/* Products of rows by a matrix: float32, or whole numbers. */

#pragma once
#include "panels.h"
#include "whole.h"

typedef struct {
    float *projected, *mixed, *inner, *gate, *joined, *normed, *scores;
    Rounded rounded;
    int64_t scores_row;
} Work;

/* out (rows, outputs) = x (rows, inputs) weight^T + bias, this thread's outputs of it; all have made x before. */
static Span multiply(Team team, const Matrix *matrix, const float *x, int64_t x_row, int64_t rows, float *out,
                     const Work *work) {
    if (!matrix->whole) return multiply_panels(team, matrix, x, x_row, rows, out);
    round_rows(team, x, x_row, matrix->inputs, rows, &work->rounded, matrix->stride);
    meet(team);
    return multiply_whole(team, matrix, &work->rounded, rows, out);
}
