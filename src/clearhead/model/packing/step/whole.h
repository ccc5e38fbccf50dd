/* Whole numbers in the place of float32: rows as numbers from 0 to 255, and what they add to sums of products. */

#pragma once
#include "team.h"
#include "vectors.h"
#if defined(__AVX512VNNI__) || defined(__AVX2__)
#include <immintrin.h>
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

/* Four weights of each of LANES outputs, and sums of their products with four numbers of a row. */
#if LANES == 16 && defined(__AVX512VNNI__)
typedef Ints Fours;

ALWAYS Fours fours(const int8_t *from) { return (Fours)_mm512_loadu_si512(from); }

ALWAYS Ints plus_fours(Ints sums, Fours weights, int32_t x) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(x), (__m512i)weights);
}
#elif LANES == 8 && defined(__AVX2__)
typedef struct {
    __m256i even, odd; /* as numbers of 16 bits: products of 8 bits would not fit into those in pairs */
} Fours;

ALWAYS Fours fours(const int8_t *from) {
    __m256i both = _mm256_loadu_si256((const __m256i *)from);
    return (Fours){_mm256_srai_epi16(_mm256_slli_epi16(both, 8), 8), _mm256_srai_epi16(both, 8)};
}

ALWAYS Ints plus_fours(Ints sums, Fours weights, int32_t x) {
    __m256i both = _mm256_set1_epi32(x), even = _mm256_and_si256(both, _mm256_set1_epi16(255));
    __m256i odd = _mm256_srli_epi16(both, 8);
    return sums + (Ints)_mm256_madd_epi16(weights.even, even) + (Ints)_mm256_madd_epi16(weights.odd, odd);
}
#else
typedef Ints Fours;

ALWAYS Fours fours(const int8_t *from) {
    Fours vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

ALWAYS Ints plus_fours(Ints sums, Fours weights, int32_t x) {
    return sums + (weights << 24 >> 24) * (x & 255) + (weights << 16 >> 24) * (x >> 8 & 255) +
           (weights << 8 >> 24) * (x >> 16 & 255) + (weights >> 24) * (x >> 24 & 255);
}
#endif
