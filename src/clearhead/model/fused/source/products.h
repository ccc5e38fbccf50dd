/* Products of small matrices that lie in a processor's cache. */

#pragma once
#include "numbers.h"

typedef struct {
    const float *at;
    int64_t row, column; /* steps */
} Left;

typedef struct {
    Floats a, b, c, d;
} Four;

ALWAYS void four_rows(Left left, const float *right, int64_t stride, float *out, int64_t out_stride, int64_t inner) {
    Four sum = {all(0), all(0), all(0), all(0)};
    const float *a = left.at, *b = a + left.row, *c = b + left.row, *d = c + left.row;
    for (int64_t k = 0; k < inner; k++) {
        Floats vector = load(right + k * stride);
        int64_t step = k * left.column;
        sum.a += a[step] * vector, sum.b += b[step] * vector, sum.c += c[step] * vector, sum.d += d[step] * vector;
    }
    store(out, sum.a), store(out + out_stride, sum.b);
    store(out + 2 * out_stride, sum.c), store(out + 3 * out_stride, sum.d);
}

/* The same for two vectors of columns. */
ALWAYS void four_rows_wide(Left left, const float *right, int64_t stride, float *out, int64_t out_stride, int64_t inner) {
    Four sum = {all(0), all(0), all(0), all(0)}, more = sum;
    const float *a = left.at, *b = a + left.row, *c = b + left.row, *d = c + left.row;
    for (int64_t k = 0; k < inner; k++) {
        Floats vector = load(right + k * stride), next = load(right + k * stride + LANES);
        int64_t step = k * left.column;
        sum.a += a[step] * vector, sum.b += b[step] * vector, sum.c += c[step] * vector, sum.d += d[step] * vector;
        more.a += a[step] * next, more.b += b[step] * next, more.c += c[step] * next, more.d += d[step] * next;
    }
    store(out, sum.a), store(out + out_stride, sum.b);
    store(out + 2 * out_stride, sum.c), store(out + 3 * out_stride, sum.d);
    out += LANES;
    store(out, more.a), store(out + out_stride, more.b);
    store(out + 2 * out_stride, more.c), store(out + 3 * out_stride, more.d);
}

ALWAYS void one_row(Left left, const float *right, int64_t stride, float *out, int64_t inner) {
    Floats sum = all(0);
    for (int64_t k = 0; k < inner; k++) sum += left.at[k * left.column] * load(right + k * stride);
    store(out, sum);
}

/* out (rows, columns) = left (rows, inner) right (inner, columns); columns and the steps of right and out are multiples of
   LANES, so there is room for as many. */
static void multiply(
    Left left, const float *right, int64_t stride, float *out, int64_t out_stride, int64_t rows, int64_t inner,
    int64_t columns
) {
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) {
        Left here = {left.at + row * left.row, left.row, left.column};
        int64_t column = 0;
        for (; column + 2 * LANES <= columns; column += 2 * LANES)
            four_rows_wide(here, right + column, stride, out + row * out_stride + column, out_stride, inner);
        for (; column < columns; column += LANES)
            four_rows(here, right + column, stride, out + row * out_stride + column, out_stride, inner);
    }
    for (; row < rows; row++)
        for (int64_t column = 0; column < columns; column += LANES)
            one_row((Left){left.at + row * left.row, left.row, left.column}, right + column, stride,
                    out + row * out_stride + column, inner);
}
