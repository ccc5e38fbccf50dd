/* Products of rows by a matrix of whole numbers. */

#pragma once
#include "team.h"
#include "told.h"
#include "vectors.h"
#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

#define NEAR 32768 /* bytes of weights that stay in the nearest cache, beside what they are multiplied by */

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

/* Four outputs of one to four rows: sums[row][output] = weight[output] . x[row]; x from 0 to 255, weights from -127 to
   127. */
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

/* Rows as whole numbers: x = scale * (whole - 128), the largest of a row 127 (Dettmers et al., 2022). */
typedef struct {
    uint8_t *whole; /* (rows, stride) */
    float *scales;  /* (rows) */
} Rounded;

/* This thread's rows of them. */
static void round_rows(Team team, const float *x, int64_t x_row, int64_t inputs, int64_t rows, const Rounded *rounded,
                       int64_t stride) {
    Span mine = share(team, rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++) {
        const float *from = x + row * x_row;
        uint8_t *to = rounded->whole + row * stride;
        float largest = 1.17549435e-38f;
        for (int64_t at = 0; at < inputs; at++) largest = fabsf(from[at]) > largest ? fabsf(from[at]) : largest;
        float scale = largest / 127.0f, back = 1.0f / scale;
        for (int64_t at = 0; at < inputs; at++) {
            float shifted = from[at] * back + 12582912.0f; /* to the nearest, ties to even */
            to[at] = (uint8_t)((int32_t)(shifted - 12582912.0f) + 128);
        }
        memset(to + inputs, 128, (size_t)(stride - inputs));
        rounded->scales[row] = scale;
    }
}

/* Outputs o to o + 4 of some rows, before the bias. */
ALWAYS void four_outputs(const int rows, const Matrix *matrix, int64_t o, int64_t row, const Rounded *x, Quarter *sums) {
    int64_t stride = matrix->stride;
    QuarterInts whole[4], less;
    Quarter scale;
    whole_dot(rows, matrix->whole + o * stride, x->whole + row * stride, stride, whole);
    memcpy(&less, matrix->sums + o, sizeof less);
    memcpy(&scale, matrix->scale + o, sizeof scale);
    for (int r = 0; r < rows; r++)
        sums[r] = __builtin_convertvector(whole[r] - less, Quarter) * x->scales[row + r] * scale;
}

/* out (rows, outputs) = x (rows, inputs) weight^T + bias, this thread's outputs of it. */
static Span multiply_whole(Team team, const Matrix *matrix, const Rounded *x, int64_t rows, float *out) {
    int64_t outputs = matrix->outputs;
    Span mine = share(team, outputs, 4);
    int64_t block = most(4, NEAR / matrix->stride / 4 * 4); /* outputs whose weights stay near */
    for (int64_t from = mine.from; from < mine.to; from += block) {
        int64_t to = least(from + block, mine.to);
        for (int64_t row = 0; row < rows; row += 4) {
            int few = (int)least(4, rows - row);
            for (int64_t o = from; o < to; o += 4) { /* weights are padded to four outputs */
                int64_t count = outputs - o;
                Quarter bias = {0}, sums[4];
                if (matrix->bias && count >= 4) memcpy(&bias, matrix->bias + o, sizeof bias);
                else if (matrix->bias) memcpy(&bias, matrix->bias + o, (size_t)count * sizeof *out);
                switch (few) {
                case 4: four_outputs(4, matrix, o, row, x, sums); break;
                case 3: four_outputs(3, matrix, o, row, x, sums); break;
                case 2: four_outputs(2, matrix, o, row, x, sums); break;
                default: four_outputs(1, matrix, o, row, x, sums);
                }
                for (int r = 0; r < few; r++) {
                    Quarter sum = sums[r] + bias;
                    float *to = out + (row + r) * outputs + o;
                    if (count >= 4) memcpy(to, &sum, sizeof sum);
                    else memcpy(to, &sum, (size_t)count * sizeof *to);
                }
            }
        }
    }
    return mine;
}
