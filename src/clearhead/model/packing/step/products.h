/* Products of a few rows by a matrix: float32, or whole numbers. */

#pragma once
#include "team.h"
#include "told.h"
#include "vectors.h"
#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

#define NEAR 32768 /* bytes of weights that stay in the nearest cache, beside what they are multiplied by */

typedef struct {
    float *projected, *mixed, *inner, *gate, *joined, *normed, *scores, *scales;
    uint8_t *whole;
    int64_t scores_row;
} Work;

typedef struct {
    Floats a, b, c, d; /* of four outputs; fields, as compilers keep arrays in memory */
} Four;

ALWAYS Four four_of(const float *weight, int64_t row) {
    return (Four){load(weight), load(weight + row), load(weight + 2 * row), load(weight + 3 * row)};
}

ALWAYS Four some_of_four(const float *weight, int64_t row, int64_t count) {
    return (Four){load_some(weight, count), load_some(weight + row, count), load_some(weight + 2 * row, count),
                  load_some(weight + 3 * row, count)};
}

ALWAYS Four plus(Four sums, Four weights, Floats x) {
    sums.a += weights.a * x, sums.b += weights.b * x, sums.c += weights.c * x, sums.d += weights.d * x;
    return sums;
}

/* Four outputs of one to four rows: sums[row][output] = weight[output] . x[row]. */
ALWAYS void dot(const int rows, const float *weight, int64_t weight_row, const float *x, int64_t x_row, int64_t inputs,
                Quarter *sums) {
    Floats zero = {0};
    Four nothing = {zero, zero, zero, zero}, first = nothing, second = nothing, third = nothing, fourth = nothing;
    int64_t at = 0;
    for (; at + LANES <= inputs; at += LANES) {
        Four now = four_of(weight + at, weight_row);
        first = plus(first, now, load(x + at));
        if (rows > 1) second = plus(second, now, load(x + x_row + at));
        if (rows > 2) third = plus(third, now, load(x + 2 * x_row + at));
        if (rows > 3) fourth = plus(fourth, now, load(x + 3 * x_row + at));
    }
    if (at < inputs) {
        int64_t left = inputs - at;
        Four now = some_of_four(weight + at, weight_row, left);
        first = plus(first, now, load_some(x + at, left));
        if (rows > 1) second = plus(second, now, load_some(x + x_row + at, left));
        if (rows > 2) third = plus(third, now, load_some(x + 2 * x_row + at, left));
        if (rows > 3) fourth = plus(fourth, now, load_some(x + 3 * x_row + at, left));
    }
    sums[0] = totals(first.a, first.b, first.c, first.d);
    if (rows > 1) sums[1] = totals(second.a, second.b, second.c, second.d);
    if (rows > 2) sums[2] = totals(third.a, third.b, third.c, third.d);
    if (rows > 3) sums[3] = totals(fourth.a, fourth.b, fourth.c, fourth.d);
}

ALWAYS float dot_of_one(const float *weight, const float *x, int64_t inputs) {
    Floats parts = {0};
    int64_t at = 0;
    for (; at + LANES <= inputs; at += LANES) parts += load(weight + at) * load(x + at);
    if (at < inputs) parts += load_some(weight + at, inputs - at) * load_some(x + at, inputs - at);
    return total(parts);
}

#ifdef __AVX512VNNI__
typedef struct {
    __m512i a, b, c, d;
} FourWhole;

ALWAYS FourWhole plus_whole(FourWhole sums, FourWhole weights, const uint8_t *from) {
    __m512i x = _mm512_loadu_si512(from);
    return (FourWhole){_mm512_dpbusd_epi32(sums.a, x, weights.a), _mm512_dpbusd_epi32(sums.b, x, weights.b),
                       _mm512_dpbusd_epi32(sums.c, x, weights.c), _mm512_dpbusd_epi32(sums.d, x, weights.d)};
}

/* As `totals`; two vectors are halved at a time. */
ALWAYS QuarterInts whole_totals(FourWhole parts) {
    Ints a = (Ints)parts.a, b = (Ints)parts.b, c = (Ints)parts.c, d = (Ints)parts.d;
    Ints left = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    Ints right = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                 __builtin_shufflevector(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    Ints both = __builtin_shufflevector(left, right, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                __builtin_shufflevector(left, right, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    both += __builtin_shufflevector(both, both, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    both += __builtin_shufflevector(both, both, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return __builtin_shufflevector(both, both, 0, 4, 8, 12);
}

/* The same of whole numbers: x from 0 to 255, weights from -127 to 127. */
ALWAYS void whole_dot(const int rows, const int8_t *weight, const uint8_t *x, int64_t row, QuarterInts *sums) {
    __m512i zero = _mm512_setzero_si512();
    FourWhole nothing = {zero, zero, zero, zero}, first = nothing, second = nothing, third = nothing, fourth = nothing;
    for (int64_t at = 0; at < row; at += 64) {
        FourWhole now = {_mm512_loadu_si512(weight + at), _mm512_loadu_si512(weight + row + at),
                         _mm512_loadu_si512(weight + 2 * row + at), _mm512_loadu_si512(weight + 3 * row + at)};
        first = plus_whole(first, now, x + at);
        if (rows > 1) second = plus_whole(second, now, x + row + at);
        if (rows > 2) third = plus_whole(third, now, x + 2 * row + at);
        if (rows > 3) fourth = plus_whole(fourth, now, x + 3 * row + at);
    }
    sums[0] = whole_totals(first);
    if (rows > 1) sums[1] = whole_totals(second);
    if (rows > 2) sums[2] = whole_totals(third);
    if (rows > 3) sums[3] = whole_totals(fourth);
}
#else
ALWAYS void whole_dot(const int rows, const int8_t *weight, const uint8_t *x, int64_t row, QuarterInts *sums) {
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < 4; o++) {
            int32_t sum = 0;
            for (int64_t at = 0; at < row; at++) sum += (int32_t)x[r * row + at] * weight[o * row + at];
            sums[r][o] = sum;
        }
}
#endif

/* Whole numbers of this thread's rows: x = scale * (whole - 128), the largest of a row 127 (Dettmers et al., 2022). */
static void round_rows(Team team, const float *x, int64_t x_row, int64_t inputs, int64_t rows, const Work *work,
                       int64_t stride) {
    Span mine = share(team, rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++) {
        const float *from = x + row * x_row;
        uint8_t *to = work->whole + row * stride;
        float largest = 1.17549435e-38f;
        for (int64_t at = 0; at < inputs; at++) largest = fabsf(from[at]) > largest ? fabsf(from[at]) : largest;
        float scale = largest / 127.0f, back = 1.0f / scale;
        for (int64_t at = 0; at < inputs; at++) {
            float rounded = from[at] * back + 12582912.0f; /* to the nearest, ties to even */
            to[at] = (uint8_t)((int32_t)(rounded - 12582912.0f) + 128);
        }
        memset(to + inputs, 128, (size_t)(stride - inputs));
        work->scales[row] = scale;
    }
}

/* Outputs o to o + 4 of some rows, before the bias. */
ALWAYS void four_outputs(const int rows, const Matrix *matrix, int64_t o, const float *x, int64_t x_row, int64_t row,
                         const Work *work, Quarter *sums) {
    int64_t stride = matrix->stride;
    if (!matrix->whole) {
        dot(rows, matrix->weight + o * stride, stride, x + row * x_row, x_row, matrix->inputs, sums);
        return;
    }
    QuarterInts whole[4], less;
    Quarter scale;
    whole_dot(rows, matrix->whole + o * stride, work->whole + row * stride, stride, whole);
    memcpy(&less, matrix->sums + o, sizeof less);
    memcpy(&scale, matrix->scale + o, sizeof scale);
    for (int r = 0; r < rows; r++)
        sums[r] = __builtin_convertvector(whole[r] - less, Quarter) * work->scales[row + r] * scale;
}

/* out (rows, outputs) = x (rows, inputs) weight^T + bias, this thread's outputs of it; all have made x before. */
static Span multiply(Team team, const Matrix *matrix, const float *x, int64_t x_row, int64_t rows, float *out,
                     const Work *work) {
    int64_t outputs = matrix->outputs;
    if (matrix->whole) {
        round_rows(team, x, x_row, matrix->inputs, rows, work, matrix->stride);
        meet(team);
    }
    Span mine = share(team, outputs, 4);
    int64_t whole = mine.from + (mine.to - mine.from) / 4 * 4, size = matrix->whole ? 1 : (int64_t)sizeof(float);
    int64_t block = most(4, NEAR / (matrix->stride * size) / 4 * 4); /* outputs whose weights stay near */
    for (int64_t from = mine.from; from < whole; from += block) {
        int64_t to = from + block < whole ? from + block : whole;
        for (int64_t row = 0; row < rows; row += 4) {
            int few = rows - row < 4 ? (int)(rows - row) : 4;
            for (int64_t o = from; o < to; o += 4) {
                Quarter bias = {0}, sums[4];
                if (matrix->bias) memcpy(&bias, matrix->bias + o, sizeof bias);
                switch (few) {
                case 4: four_outputs(4, matrix, o, x, x_row, row, work, sums); break;
                case 3: four_outputs(3, matrix, o, x, x_row, row, work, sums); break;
                case 2: four_outputs(2, matrix, o, x, x_row, row, work, sums); break;
                default: four_outputs(1, matrix, o, x, x_row, row, work, sums);
                }
                for (int r = 0; r < few; r++) {
                    Quarter sum = sums[r] + bias;
                    memcpy(out + (row + r) * outputs + o, &sum, sizeof sum);
                }
            }
        }
    }
    int64_t o = whole;
    for (; o < mine.to; o++) /* fewer than four are left; whole numbers are padded to four */
        for (int64_t row = 0; row < rows; row++) {
            Quarter sum;
            if (matrix->whole)
                four_outputs(1, matrix, o / 4 * 4, x, x_row, row, work, &sum);
            else
                sum[o % 4] = dot_of_one(matrix->weight + o * matrix->stride, x + row * x_row, matrix->inputs);
            out[row * outputs + o] = sum[o % 4] + (matrix->bias ? matrix->bias[o] : 0.0f);
        }
    return mine;
}
