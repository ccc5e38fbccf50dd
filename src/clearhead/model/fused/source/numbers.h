/* Numbers in float32 or bfloat16, read and written as float32, and random bits that can be drawn again. */

#pragma once
#include "../../packing/step/vectors.h"

typedef uint16_t Shorts __attribute__((vector_size(2 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

/* Made up to whole vectors. */
ALWAYS int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

ALWAYS Floats widened(Shorts bits) { return (Floats)(__builtin_convertvector(bits, Words) << 16); }

/* To the nearest, ties to even; no-numbers stay no-numbers. */
ALWAYS Shorts narrowed(Floats vector) {
    Words bits = (Words)vector;
    Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    Words broken = (Words)(vector != vector);
    return __builtin_convertvector((rounded & ~broken) | (broken & 0x7fc0), Shorts);
}

/* e^x where a number that is none stays none: a training has to notice it. */
ALWAYS Floats power(Floats x) { return (Floats)((Ints)exponential(x) | (x != x)); }

/* The larger ones of both; what is no number wins. */
ALWAYS Floats larger(Floats a, Floats b) {
    Ints take = (b > a) | (b != b);
    return (Floats)(((Ints)b & take) | ((Ints)a & ~take));
}

ALWAYS float largest(Floats vector) {
#if LANES == 16
    vector = larger(vector, __builtin_shufflevector(vector, vector, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    vector = larger(vector, __builtin_shufflevector(vector, vector, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3));
    vector = larger(vector, __builtin_shufflevector(vector, vector, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1));
    return larger(vector, __builtin_shufflevector(vector, vector, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0))[0];
#else
    float most = vector[0];
    for (int i = 1; i < LANES; i++) most = vector[i] > most || vector[i] != vector[i] ? vector[i] : most;
    return most;
#endif
}

/* The largest of some numbers, which become e^(number - largest), and the sum of these. */
typedef struct {
    float most, sum;
} Scale;

ALWAYS Scale soften(float *row, int64_t wide) {
    Floats peaks = all(-INFINITY), sums = all(0);
    for (int64_t i = 0; i < wide; i += LANES) peaks = larger(peaks, load(row + i));
    float most = largest(peaks);
    for (int64_t i = 0; i < wide; i += LANES) {
        Floats vector = power(load(row + i) - most);
        sums += vector;
        store(row + i, vector);
    }
    return (Scale){most, total(sums)};
}

ALWAYS Floats load_as(const void *from, int64_t index, int half) {
    if (!half) return load((const float *)from + index);
    Shorts bits;
    memcpy(&bits, (const uint16_t *)from + index, sizeof bits);
    return widened(bits);
}

ALWAYS void store_as(void *to, int64_t index, Floats vector, int half) {
    if (!half) {
        store((float *)to + index, vector);
        return;
    }
    Shorts bits = narrowed(vector);
    memcpy((uint16_t *)to + index, &bits, sizeof bits);
}

/* The first `count` numbers of a vector, the others 0. */
ALWAYS Floats load_part(const void *from, int64_t index, int64_t count, int half) {
    if (half) {
        uint16_t bits[LANES] = {0};
        memcpy(bits, (const uint16_t *)from + index, count * sizeof *bits);
        return load_as(bits, 0, 1);
    }
    float numbers[LANES] = {0};
    memcpy(numbers, (const float *)from + index, count * sizeof *numbers);
    return load(numbers);
}

ALWAYS void store_part(void *to, int64_t index, Floats vector, int64_t count, int half) {
    uint8_t numbers[LANES * sizeof(float)];
    int64_t size = half ? sizeof(uint16_t) : sizeof(float);
    store_as(numbers, 0, vector, half);
    memcpy((uint8_t *)to + index * size, numbers, count * size);
}

#if LANES == 16
#define FIRST_PLACES ((Words){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#elif LANES == 8
#define FIRST_PLACES ((Words){0, 1, 2, 3, 4, 5, 6, 7})
#else
#define FIRST_PLACES ((Words){0, 1, 2, 3})
#endif

typedef struct {
    uint64_t seed;
    float rate;
} Drop;

/* Factors of a dropout mask: 0 with probability `rate`, else 1 / (1 - rate). They depend on the seed and on the place of
   an element alone, so a backward pass makes them again. The mixing of bits is that of C. Wellons, "Prospecting for hash
   functions" (2018), with the other half of the seed in its middle. */
ALWAYS Floats kept(Drop drop, uint64_t place) {
    Words word = FIRST_PLACES + (uint32_t)place;
    word ^= (uint32_t)drop.seed;
    word ^= word >> 16;
    word *= 0x7feb352du;
    word += (uint32_t)(drop.seed >> 32) ^ (uint32_t)(place >> 32);
    word ^= word >> 15;
    word *= 0x846ca68bu;
    word ^= word >> 16;
    Ints stays = (Ints)(word >> 1) >= (int32_t)(drop.rate * 2147483648.0f);
    return (Floats)((Ints)all(1.0f / (1.0f - drop.rate)) & stays);
}
