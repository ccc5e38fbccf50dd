/* Vectors as wide as the processor's registers, written with the vector extensions of GCC and Clang. Wider ones would be
   kept in memory by some compilers. */

#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4 /* SSE, NEON */
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef float Quarter __attribute__((vector_size(16))); /* four numbers */

ALWAYS Floats load(const float *from) {
    Floats vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

/* The first few numbers, and zeros: what is left at the end of a row goes the way of the rest, to the last bit. */
ALWAYS Floats load_some(const float *from, int64_t count) {
    Floats vector = {0};
    memcpy(&vector, from, (size_t)count * sizeof *from);
    return vector;
}

ALWAYS void store(float *to, Floats vector) { memcpy(to, &vector, sizeof vector); }

ALWAYS void store_some(float *to, Floats vector, int64_t count) { memcpy(to, &vector, (size_t)count * sizeof *to); }

ALWAYS Floats all(float value) { return value - (Floats){0}; }

/* Sum of neighbouring fours; sums over all lanes are always made in this order. */
ALWAYS Quarter quarter(Floats vector) {
#if LANES == 16
    typedef float Half __attribute__((vector_size(32)));
    Half half = __builtin_shufflevector(vector, vector, 0, 1, 2, 3, 4, 5, 6, 7) +
                __builtin_shufflevector(vector, vector, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif LANES == 8
    return __builtin_shufflevector(vector, vector, 0, 1, 2, 3) + __builtin_shufflevector(vector, vector, 4, 5, 6, 7);
#else
    return vector;
#endif
}

ALWAYS float total(Floats vector) {
    Quarter four = quarter(vector);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

ALWAYS Quarter totals(Floats first, Floats second, Floats third, Floats fourth) {
    Quarter a = quarter(first), b = quarter(second), c = quarter(third), d = quarter(fourth);
    Quarter left = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    Quarter right = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);
    return __builtin_shufflevector(left, right, 0, 2, 4, 6) + __builtin_shufflevector(left, right, 1, 3, 5, 7);
}

/* e^x within 2e-7 of it, 0 below -87: 2^n times a polynomial for the rest (Cephes, expf). */
ALWAYS Floats exponential(Floats x) {
    Ints alive = x > -87.0f;
    x = (Floats)(((Ints)x & alive)); /* dead lanes count as 0 and are cleared at the end */
    x = (Floats)(((Ints)x & (x < 88.0f)) | ((Ints)all(88.0f) & (x >= 88.0f)));
    Floats shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to whole numbers */
    Floats whole = shifted - 12582912.0f;
    Floats rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    Ints power = (__builtin_convertvector(whole, Ints) + 127) << 23;
    return (Floats)((Ints)(sum * (Floats)power) & alive);
}

ALWAYS int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
ALWAYS int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
