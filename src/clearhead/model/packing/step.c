/* One token for every row of a decoder, in one call: what `model/block.py` says in Python, for a CPU.

   hidden ─ [self-attention ─ cross-attention ─ feed-forward] x layers ─ last norm ─▶ hidden

   Compiled when it is first used (library.py), told everything by pointers (native.py). Matrices are row-major,
   (outputs, inputs), as PyTorch has them. All threads walk through `walk` together: each takes its share of every
   map, and where one needs what the others made, all meet at a barrier. The sums of a row do not depend on the rows
   beside it, nor on the number of threads, so a text is the same alone and in a batch, bit for bit. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

#define LANES 16
#define NEAR 32768 /* bytes of weights that stay in the nearest cache, beside what they are multiplied by */
#define ALWAYS static inline __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(64)));
typedef float Half __attribute__((vector_size(32)));
typedef float Quarter __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef int32_t QuarterInts __attribute__((vector_size(16)));

/* ---- what Python tells; every struct has its twin in native.py ---- */

typedef struct {
    const float *weight;  /* (outputs, inputs), or null where there are whole numbers */
    const int8_t *whole;  /* (outputs, stride), zeros after the inputs */
    const float *scale;   /* (outputs), of the whole numbers */
    const int32_t *sums;  /* (outputs), 128 times the sum of each row of whole numbers */
    const float *bias;    /* (outputs) or null */
    int64_t outputs, inputs, stride;
} Matrix;

enum { NO_NORM, LAYER_NORM, RMS_NORM };
typedef struct {
    const float *weight, *bias; /* (d_model), or null */
    float epsilon;
    int32_t kind;
} Norm;

enum { POST, PRE, BARE };
typedef struct {
    Norm norm;
    float alpha; /* of the stream, before a sub-layer is added to it */
    int32_t place;
} Residual;

typedef struct {
    Matrix inputs; /* queries, keys and values; for cross-attention queries alone */
    Matrix output;
    Residual residual;
    float scale; /* of the scores */
    int32_t heads, kv_heads, d_head;
} Attention;

enum { NO_ACTIVATION, RELU, GELU, GELU_TANH, SILU };
typedef struct {
    Attention self, cross; /* cross.heads = 0: there is none */
    Matrix gate, inner, outer; /* gate.outputs = 0: there is none */
    Residual residual;
    int32_t activation;
} Block;

typedef struct {
    const float *table;     /* (vocab, d_model) */
    const float *positions; /* (length, d_model), added; or null */
    int64_t vocab, length;
    float scale; /* of the table's rows */
} Embedding;

typedef struct {
    const Block *blocks;
    Norm last;
    int64_t layers, d_model;
} Model;

typedef struct {
    float *data; /* (rows, kv_heads, columns, d_head), the last axis without gaps */
    int64_t row, head, column; /* strides, floats; column = 0: a row has room for one token only */
} Store;

typedef struct {
    Store key, value;
    const int64_t *origins; /* (rows, columns), the row of the stores that each token is in; null = its own */
    int64_t origins_row;
    const float *bias; /* of scores, (rows or 1, heads, columns), or null */
    int64_t bias_row, bias_head, bias_column;
    const uint8_t *valid; /* (rows, columns) or null */
    int64_t valid_row;
    int64_t first, columns;   /* columns that are in use, from the first on */
    int64_t window;           /* the most newest columns that are seen */
    int64_t readers;          /* rows that share one row of the store */
} Keys;

typedef struct {
    const int64_t *tokens, *positions; /* (rows), apart by so many numbers */
    int64_t tokens_row, positions_row;
    float *hidden; /* (rows, d_model), in and out */
    int64_t rows, threads;
    const float *own, *partner; /* of rotary positions, (rows or 1, turned), or null */
    int64_t turn_row, turned, pairs; /* pairs: neighbours turn together; else the two halves */
    const Keys *self, *cross; /* of each layer */
    float *work;
} Call;

/* ---- vectors ---- */

ALWAYS Floats load(const float *from) {
    Floats vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

ALWAYS void store(float *to, Floats vector) { memcpy(to, &vector, sizeof vector); }

ALWAYS Floats all(float value) { return value - (Floats){0}; }

/* Sum of four neighbouring quarters; sums over all lanes are always made in this order. */
ALWAYS Quarter quarter(Floats vector) {
    Half half = __builtin_shufflevector(vector, vector, 0, 1, 2, 3, 4, 5, 6, 7) +
                __builtin_shufflevector(vector, vector, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
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

/* ---- threads ---- */

typedef struct {
    int64_t index, count;
} Team;

ALWAYS void meet(Team team) {
    (void)team;
#ifdef _OPENMP
#pragma omp barrier
#endif
}

typedef struct {
    int64_t from, to;
} Span;

/* The share of a thread in `count` things that are handed out `grain` at a time. */
ALWAYS Span share(Team team, int64_t count, int64_t grain) {
    int64_t grains = (count + grain - 1) / grain;
    int64_t from = team.index * grains / team.count * grain, to = (team.index + 1) * grains / team.count * grain;
    return (Span){from < count ? from : count, to < count ? to : count};
}

/* ---- products ---- */

typedef struct {
    float *projected, *mixed, *inner, *gate, *joined, *normed, *scores, *scales;
    uint8_t *whole;
    int64_t whole_row, scores_row;
} Work;

typedef struct {
    Floats a, b, c, d; /* of four outputs; fields, as compilers keep arrays in memory */
} Four;

ALWAYS Four four_of(const float *weight, int64_t row) {
    return (Four){load(weight), load(weight + row), load(weight + 2 * row), load(weight + 3 * row)};
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
    sums[0] = totals(first.a, first.b, first.c, first.d);
    if (rows > 1) sums[1] = totals(second.a, second.b, second.c, second.d);
    if (rows > 2) sums[2] = totals(third.a, third.b, third.c, third.d);
    if (rows > 3) sums[3] = totals(fourth.a, fourth.b, fourth.c, fourth.d);
    for (; at < inputs; at++)
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < 4; o++) sums[r][o] += weight[o * weight_row + at] * x[r * x_row + at];
}

ALWAYS float dot_of_one(const float *weight, const float *x, int64_t inputs) {
    Floats parts = {0};
    int64_t at = 0;
    for (; at + LANES <= inputs; at += LANES) parts += load(weight + at) * load(x + at);
    float sum = total(parts);
    for (; at < inputs; at++) sum += weight[at] * x[at];
    return sum;
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
    for (int r = 0; r < rows; r++) sums[r] = __builtin_convertvector(whole[r] - less, Quarter) * work->scales[row + r] * scale;
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

/* ---- norms and residuals ---- */

ALWAYS float sum_of(const float *x, int64_t count, float less, int squared) {
    Floats parts = {0};
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) {
        Floats now = load(x + at) - less;
        parts += squared ? now * now : now;
    }
    float sum = total(parts);
    for (; at < count; at++) sum += squared ? (x[at] - less) * (x[at] - less) : x[at] - less;
    return sum;
}

static void normalise(const Norm *norm, const float *x, float *out, int64_t width) {
    if (norm->kind == NO_NORM) {
        memmove(out, x, (size_t)width * sizeof *x);
        return;
    }
    float mean = norm->kind == LAYER_NORM ? sum_of(x, width, 0.0f, 0) / (float)width : 0.0f;
    float factor = 1.0f / sqrtf(sum_of(x, width, mean, 1) / (float)width + norm->epsilon);
    for (int64_t at = 0; at < width; at++) {
        float value = (x[at] - mean) * factor * norm->weight[at];
        out[at] = norm->bias ? value + norm->bias[at] : value;
    }
}

/* What a sub-layer reads: the stream, or its norm. Each thread makes its rows; all meet before they are read. */
static const float *entered(Team team, const Residual *residual, const Call *call, const Work *work, int64_t width) {
    if (residual->place != PRE) return call->hidden;
    Span mine = share(team, call->rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++)
        normalise(&residual->norm, call->hidden + row * width, work->normed + row * width, width);
    meet(team);
    return work->normed;
}

/* The sub-layer's output, `work->joined`, joins the stream. */
static void join(Team team, const Residual *residual, const Call *call, const Work *work, int64_t width) {
    meet(team);
    Span mine = share(team, call->rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++) {
        float *stream = call->hidden + row * width, *added = work->joined + row * width;
        if (residual->place == PRE) {
            for (int64_t at = 0; at < width; at++) stream[at] += added[at];
            continue;
        }
        if (residual->place == POST)
            for (int64_t at = 0; at < width; at++) added[at] += residual->alpha * stream[at];
        normalise(&residual->norm, added, stream, width);
    }
    if (residual->place != PRE) meet(team); /* before a norm each thread goes on with its own rows */
}

/* ---- attention ---- */

static void turn(float *state, int64_t row, const Call *call) {
    const float *own = call->own + row * call->turn_row, *partner = call->partner + row * call->turn_row;
    int64_t half = call->turned / 2;
    for (int64_t i = 0; i < half; i++) {
        int64_t left = call->pairs ? 2 * i : i, right = call->pairs ? 2 * i + 1 : i + half;
        float a = state[left], b = state[right];
        state[left] = a * own[left] + b * partner[left];
        state[right] = b * own[right] + a * partner[right];
    }
}

/* The state of one column of a row. */
ALWAYS float *state(const Keys *keys, const Store *store, int64_t row, int64_t head, int64_t column) {
    int64_t origin = keys->origins ? keys->origins[row * keys->origins_row + column] : row;
    int64_t before = origin * store->row + (keys->first + column) * store->column;
    return store->data + before + head * store->head;
}

/* One query over the visible keys of its row: softmax(scale * q . k + bias) . v. */
static void mix(const float *query, const Keys *keys, const Attention *attention, int64_t row, int64_t head,
                float *scores, float *out) {
    int64_t to = keys->columns, from = to > keys->window ? to - keys->window : 0, width = attention->d_head, source = row / keys->readers;
    const uint8_t *valid = keys->valid ? keys->valid + source * keys->valid_row : 0;
    if (valid) {
        while (from < to && !valid[from]) from++;
        while (to > from && !valid[to - 1]) to--;
    }
    memset(out, 0, (size_t)width * sizeof *out);
    if (from == to) return;
    int64_t kv = head / (attention->heads / attention->kv_heads), count = to - from;
    const float *bias = keys->bias ? keys->bias + row * keys->bias_row + head * keys->bias_head : 0;
    int64_t at = 0, padded = (count + LANES - 1) / LANES * LANES;
    while (at < count) {
        const float *key = state(keys, &keys->key, source, kv, from + at);
        int64_t apart = 0; /* from one key to the next, where four are equally far apart */
        int alike = 0;
        if (at + 4 <= count) {
            apart = state(keys, &keys->key, source, kv, from + at + 1) - key;
            alike = state(keys, &keys->key, source, kv, from + at + 2) == key + 2 * apart &&
                    state(keys, &keys->key, source, kv, from + at + 3) == key + 3 * apart;
        }
        if (alike) {
            Quarter sums;
            dot(1, key, apart, query, width, width, &sums);
            memcpy(scores + at, &sums, sizeof sums);
            at += 4;
        } else
            scores[at++] = dot_of_one(key, query, width);
    }
    for (; at < padded; at++) scores[at] = -INFINITY;
    Floats peaks = all(-INFINITY), parts = {0};
    for (at = 0; at < padded; at += LANES) {
        Floats now = load(scores + at) * attention->scale;
        store(scores + at, now);
        if (bias || valid) { /* few models and few rows: plainly */
            for (int64_t i = at; i < at + LANES && i < count; i++) {
                scores[i] += bias ? bias[(from + i) * keys->bias_column] : 0.0f;
                if (valid && !valid[from + i]) scores[i] = -INFINITY;
            }
            now = load(scores + at);
        }
        Ints higher = now > peaks;
        peaks = (Floats)(((Ints)now & higher) | ((Ints)peaks & ~higher));
    }
    float largest = -INFINITY;
    for (int i = 0; i < LANES; i++) largest = peaks[i] > largest ? peaks[i] : largest;
    for (at = 0; at < padded; at += LANES) {
        Floats weight = exponential(load(scores + at) - largest);
        store(scores + at, weight);
        parts += weight;
    }
    float part_of_all = 1.0f / total(parts);
    int64_t feature = 0;
    for (; feature + 4 * LANES <= width; feature += 4 * LANES) {
        Floats zero = {0};
        Four sums = {zero, zero, zero, zero};
        for (at = 0; at < count; at++)
            sums = plus(sums, four_of(state(keys, &keys->value, source, kv, from + at) + feature, LANES), all(scores[at]));
        store(out + feature, sums.a * part_of_all), store(out + feature + LANES, sums.b * part_of_all);
        store(out + feature + 2 * LANES, sums.c * part_of_all), store(out + feature + 3 * LANES, sums.d * part_of_all);
    }
    for (; feature + LANES <= width; feature += LANES) {
        Floats sum = {0};
        for (at = 0; at < count; at++)
            sum += scores[at] * load(state(keys, &keys->value, source, kv, from + at) + feature);
        store(out + feature, sum * part_of_all);
    }
    for (; feature < width; feature++) {
        float sum = 0.0f;
        for (at = 0; at < count; at++) sum += scores[at] * state(keys, &keys->value, source, kv, from + at)[feature];
        out[feature] = sum * part_of_all;
    }
}

/* Queries, and for self-attention keys and values, are in `work->projected`; the mixed values go to `work->mixed`. */
static void attend(Team team, const Attention *attention, const Keys *keys, const Call *call, const Work *work,
                   int self) {
    int64_t heads = attention->heads, kv_heads = attention->kv_heads, width = attention->d_head, group = heads / kv_heads;
    Span mine = share(team, call->rows * kv_heads, 1);
    for (int64_t unit = mine.from; unit < mine.to; unit++) {
        int64_t row = unit / kv_heads, kv = unit % kv_heads;
        float *projected = work->projected + row * attention->inputs.outputs;
        if (self) {
            float *key = projected + (heads + kv) * width, *value = key + kv_heads * width;
            int64_t newest = keys->columns - 1, bytes = width * (int64_t)sizeof *key;
            if (call->own) turn(key, row, call);
            memcpy(state(keys, &keys->key, row, kv, newest), key, (size_t)bytes);
            memcpy(state(keys, &keys->value, row, kv, newest), value, (size_t)bytes);
        }
        for (int64_t head = kv * group; head < (kv + 1) * group; head++) {
            if (self && call->own) turn(projected + head * width, row, call);
            mix(projected + head * width, keys, attention, row, head, work->scores + team.index * work->scores_row,
                work->mixed + (row * heads + head) * width);
        }
    }
}

static void attention_layer(Team team, const Attention *attention, const Keys *keys, const Call *call,
                            const Work *work, int64_t d_model, int self) {
    const float *x = entered(team, &attention->residual, call, work, d_model);
    multiply(team, &attention->inputs, x, d_model, call->rows, work->projected, work);
    meet(team);
    attend(team, attention, keys, call, work, self);
    meet(team);
    int64_t width = attention->heads * attention->d_head;
    multiply(team, &attention->output, work->mixed, width, call->rows, work->joined, work);
    join(team, &attention->residual, call, work, d_model);
}

/* ---- feed-forward ---- */

/* erf within 2e-7 (Abramowitz and Stegun, 7.1.26). */
ALWAYS Floats error_function(Floats x) {
    Ints sign = (Ints)x & (int32_t)0x80000000;
    Floats size = (Floats)((Ints)x & 0x7fffffff);
    Floats t = 1.0f / (size * 0.3275911f + 1.0f);
    Floats sum = t * 1.061405429f - 1.453152027f;
    sum = sum * t + 1.421413741f;
    sum = sum * t - 0.284496736f;
    sum = sum * t + 0.254829592f;
    Floats value = 1.0f - sum * t * exponential(-(size * size));
    return (Floats)((Ints)value | sign);
}

ALWAYS Floats activated(int32_t kind, Floats x) {
    switch (kind) {
    case RELU: return (Floats)((Ints)x & (x > 0.0f));
    case GELU: return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
    case GELU_TANH: return x / (1.0f + exponential(-1.59576912f * (x + 0.044715f * x * x * x)));
    case SILU: return x / (1.0f + exponential(-x));
    default: return x;
    }
}

static void activate(int32_t kind, float *x, const float *gate, int64_t count) {
    for (int64_t at = 0; at < count; at += LANES) {
        float buffer[LANES] = {0};
        int64_t some = count - at < LANES ? count - at : LANES;
        if (some == LANES && !gate) {
            store(x + at, activated(kind, load(x + at)));
            continue;
        }
        memcpy(buffer, (gate ? gate : x) + at, (size_t)some * sizeof *x);
        store(buffer, activated(kind, load(buffer)));
        for (int64_t i = 0; i < some; i++) x[at + i] = gate ? buffer[i] * x[at + i] : buffer[i];
    }
}

static void feedforward_layer(Team team, const Block *block, const Call *call, const Work *work, int64_t d_model) {
    const float *x = entered(team, &block->residual, call, work, d_model);
    int64_t width = block->inner.outputs, gated = block->gate.outputs;
    if (gated) {
        multiply(team, &block->gate, x, d_model, call->rows, work->gate, work);
        if (block->gate.whole) meet(team); /* before x is rounded into the same place again */
    }
    Span mine = multiply(team, &block->inner, x, d_model, call->rows, work->inner, work);
    for (int64_t row = 0; row < call->rows; row++) {
        int64_t at = row * width + mine.from;
        activate(block->activation, work->inner + at, gated ? work->gate + at : 0, mine.to - mine.from);
    }
    meet(team);
    multiply(team, &block->outer, work->inner, width, call->rows, work->joined, work);
    join(team, &block->residual, call, work, d_model);
}

/* ---- all of it ---- */

/* Places in the scratch memory for a call; returns how many floats it has. */
static int64_t arrange(const Model *model, const Call *call, Work *work) {
    int64_t projected = 0, mixed = 0, inner = 0, stride = 0, columns = 0;
    for (int64_t i = 0; i < model->layers; i++) {
        const Block *block = model->blocks + i;
        const Matrix *matrices[] = {&block->self.inputs, &block->self.output, &block->cross.inputs, &block->cross.output,
                                    &block->gate, &block->inner, &block->outer};
        for (int m = 0; m < 7; m++) stride = most(stride, matrices[m]->whole ? matrices[m]->stride : 0);
        projected = most(projected, most(block->self.inputs.outputs, block->cross.inputs.outputs));
        mixed = most(mixed, most(block->self.heads * block->self.d_head, block->cross.heads * block->cross.d_head));
        inner = most(inner, block->inner.outputs);
        columns = most(columns, most(call->self[i].columns, block->cross.heads ? call->cross[i].columns : 0));
    }
    int64_t rows = call->rows, at = 0;
    work->whole_row = stride;
    work->scores_row = (columns + 2 * LANES - 1) / LANES * LANES;
    float **places[] = {&work->projected, &work->mixed, &work->inner, &work->gate, &work->joined, &work->normed,
                        &work->scales};
    int64_t sizes[] = {projected, mixed, inner, inner, model->d_model, model->d_model, 1};
    for (int i = 0; i < 7; i++) {
        *places[i] = call->work + at;
        at += (rows * sizes[i] + LANES - 1) / LANES * LANES;
    }
    work->scores = call->work + at;
    at += call->threads * work->scores_row;
    work->whole = (uint8_t *)(call->work + at);
    return at + (rows * stride + 3) / 4;
}

static void walk(Team team, const Model *model, const Call *call, const Work *work) {
    int64_t width = model->d_model;
    for (int64_t i = 0; i < model->layers; i++) {
        const Block *block = model->blocks + i;
        attention_layer(team, &block->self, call->self + i, call, work, width, 1);
        if (block->cross.heads) attention_layer(team, &block->cross, call->cross + i, call, work, width, 0);
        feedforward_layer(team, block, call, work, width);
    }
    Span mine = share(team, call->rows, 1); /* join() left each thread with its own rows */
    for (int64_t row = mine.from; row < mine.to; row++)
        normalise(&model->last, call->hidden + row * width, call->hidden + row * width, width);
}

/* Floats of scratch memory that `clearhead_step` needs. */
int64_t clearhead_work(const Model *model, const Call *call) {
    Work work;
    Call empty = *call;
    empty.work = 0;
    return arrange(model, &empty, &work);
}

/* hidden = scale * table[token] + positions[position]; false, and nothing done, where a token or a position is unknown. */
int64_t clearhead_embed(const Embedding *embedding, const Call *call, int64_t d_model) {
    for (int64_t row = 0; row < call->rows; row++) {
        int64_t token = call->tokens[row * call->tokens_row], position = call->positions[row * call->positions_row];
        if (token < 0 || token >= embedding->vocab) return 0;
        if (embedding->positions && (position < 0 || position >= embedding->length)) return 0;
    }
    for (int64_t row = 0; row < call->rows; row++) {
        const float *from = embedding->table + call->tokens[row * call->tokens_row] * d_model;
        const float *added = embedding->positions + call->positions[row * call->positions_row] * d_model;
        float *to = call->hidden + row * d_model;
        for (int64_t at = 0; at < d_model; at++)
            to[at] = embedding->scale * from[at] + (embedding->positions ? added[at] : 0.0f);
    }
    return 1;
}

/* One token for every row. */
void clearhead_step(const Model *model, const Call *call) {
    Work work;
    arrange(model, call, &work);
#ifdef _OPENMP
#pragma omp parallel num_threads((int)call->threads)
    walk((Team){omp_get_thread_num(), omp_get_num_threads()}, model, call, &work);
#else
    walk((Team){0, 1}, model, call, &work);
#endif
}

/* out (rows, outputs) = x (rows, inputs) times the matrix; scratch: rows * (1 + stride / 4) floats for whole numbers. */
void clearhead_multiply(const Matrix *matrix, const float *x, int64_t rows, float *out, float *scratch, int64_t threads) {
    Work work = {.scales = scratch, .whole = (uint8_t *)(scratch + rows)};
#ifdef _OPENMP
#pragma omp parallel num_threads((int)threads)
    multiply((Team){omp_get_thread_num(), omp_get_num_threads()}, matrix, x, matrix->inputs, rows, out, &work);
#else
    multiply((Team){0, 1}, matrix, x, matrix->inputs, rows, out, &work);
#endif
}

/* ---- what searches ask of logits (rows, vocab), whose rows the threads share ---- */

static void sums_of_rows(Team team, const float *logits, int64_t rows, int64_t vocab, float *sums) {
    Span mine = share(team, rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++) {
        const float *x = logits + row * vocab;
        float largest = -INFINITY, rest[LANES];
        int64_t at = 0;
        Floats peaks = all(-INFINITY), parts = {0};
        Ints strange = {0}; /* where something is not a number */
        for (; at + LANES <= vocab; at += LANES) {
            Floats now = load(x + at);
            Ints higher = now > peaks;
            strange |= now != now;
            peaks = (Floats)(((Ints)now & higher) | ((Ints)peaks & ~higher));
        }
        for (int i = 0; i < LANES; i++) largest = peaks[i] > largest ? peaks[i] : largest;
        for (int64_t i = at; i < vocab; i++) largest = x[i] > largest ? x[i] : largest;
        for (at = 0; at + LANES <= vocab; at += LANES) parts += exponential(load(x + at) - largest);
        for (int i = 0; i < LANES; i++) {
            rest[i] = at + i < vocab ? x[at + i] : -INFINITY;
            largest = strange[i] || rest[i] != rest[i] ? NAN : largest;
        }
        sums[row] = logf(total(parts + exponential(load(rest) - largest))) + largest;
    }
}

/* The largest of each row, best first; of equal ones the first. Rows are read piece by piece, and a piece is looked
   into only if one of its numbers belongs among the best so far. */
static void largest_of_rows(Team team, const float *logits, int64_t rows, int64_t vocab, int64_t count, float *best,
                            int64_t *places) {
    Span mine = share(team, rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++) {
        const float *x = logits + row * vocab;
        float *values = best + row * count;
        int64_t *found = places + row * count;
        for (int64_t i = 0; i < count; i++) values[i] = -INFINITY, found[i] = i;
        for (int64_t at = 0; at < vocab; at += 4 * LANES) {
            int64_t some = vocab - at < 4 * LANES ? vocab - at : 4 * LANES;
            if (some == 4 * LANES) {
                float bar = values[count - 1];
                Ints over = (load(x + at) > bar) | (load(x + at + 16) > bar) | (load(x + at + 32) > bar) |
                            (load(x + at + 48) > bar);
                Floats any = (Floats)(over & (int32_t)0x3f800000);
                if (total(any) == 0.0f) continue;
            }
            for (int64_t i = at; i < at + some; i++) {
                if (!(x[i] > values[count - 1])) continue;
                int64_t to = count - 1;
                for (; to > 0 && x[i] > values[to - 1]; to--) values[to] = values[to - 1], found[to] = found[to - 1];
                values[to] = x[i], found[to] = i;
            }
        }
    }
}

/* sums (rows): the logarithm of the sum of exponentials of each row. */
void clearhead_log_sums(const float *logits, int64_t rows, int64_t vocab, float *sums, int64_t threads) {
#ifdef _OPENMP
#pragma omp parallel num_threads((int)threads)
    sums_of_rows((Team){omp_get_thread_num(), omp_get_num_threads()}, logits, rows, vocab, sums);
#else
    sums_of_rows((Team){0, 1}, logits, rows, vocab, sums);
#endif
}

/* best and places (rows, count). */
void clearhead_largest(const float *logits, int64_t rows, int64_t vocab, int64_t count, float *best, int64_t *places,
                       int64_t threads) {
#ifdef _OPENMP
#pragma omp parallel num_threads((int)threads)
    largest_of_rows((Team){omp_get_thread_num(), omp_get_num_threads()}, logits, rows, vocab, count, best, places);
#else
    largest_of_rows((Team){0, 1}, logits, rows, vocab, count, best, places);
#endif
}
