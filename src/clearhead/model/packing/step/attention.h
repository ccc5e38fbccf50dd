/* Norms, residuals and attention of a block. */

#pragma once
#include "products.h"

typedef struct {
    Floats a, b, c, d; /* fields, as compilers keep arrays in memory */
} Four;

ALWAYS Four four_of(const float *from, int64_t apart) {
    return (Four){load(from), load(from + apart), load(from + 2 * apart), load(from + 3 * apart)};
}

ALWAYS Four some_of_four(const float *from, int64_t apart, int64_t count) {
    return (Four){load_some(from, count), load_some(from + apart, count), load_some(from + 2 * apart, count),
                  load_some(from + 3 * apart, count)};
}

ALWAYS Four plus(Four sums, Four with, Floats x) {
    sums.a += with.a * x, sums.b += with.b * x, sums.c += with.c * x, sums.d += with.d * x;
    return sums;
}

/* Products of x with four rows of numbers that are equally far apart. */
ALWAYS Quarter dot(const float *rows, int64_t apart, const float *x, int64_t count) {
    Floats zero = {0};
    Four sums = {zero, zero, zero, zero};
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) sums = plus(sums, four_of(rows + at, apart), load(x + at));
    if (at < count) sums = plus(sums, some_of_four(rows + at, apart, count - at), load_some(x + at, count - at));
    return totals(sums.a, sums.b, sums.c, sums.d);
}

ALWAYS float dot_of_one(const float *row, const float *x, int64_t count) {
    Floats parts = {0};
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) parts += load(row + at) * load(x + at);
    if (at < count) parts += load_some(row + at, count - at) * load_some(x + at, count - at);
    return total(parts);
}

ALWAYS float sum_of(const float *x, int64_t count, float less, int squared) {
    Floats parts = {0};
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) {
        Floats now = load(x + at) - less;
        parts += squared ? now * now : now;
    }
    if (at < count) {
        Floats now = all(less); /* lanes beyond the end add nothing */
        memcpy(&now, x + at, (size_t)(count - at) * sizeof *x);
        now -= less;
        parts += squared ? now * now : now;
    }
    return total(parts);
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
    int64_t to = keys->columns, from = to > keys->window ? to - keys->window : 0;
    int64_t width = attention->d_head, source = row / keys->readers;
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
            Quarter sums = dot(key, apart, query, width);
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
        for (at = 0; at < count; at++) {
            const float *value = state(keys, &keys->value, source, kv, from + at) + feature;
            sums = plus(sums, four_of(value, LANES), all(scores[at]));
        }
        store(out + feature, sums.a * part_of_all), store(out + feature + LANES, sums.b * part_of_all);
        store(out + feature + 2 * LANES, sums.c * part_of_all), store(out + feature + 3 * LANES, sums.d * part_of_all);
    }
    for (; feature + LANES <= width; feature += LANES) {
        Floats sum = {0};
        for (at = 0; at < count; at++)
            sum += scores[at] * load(state(keys, &keys->value, source, kv, from + at) + feature);
        store(out + feature, sum * part_of_all);
    }
    if (feature < width) {
        Floats sum = {0};
        int64_t left = width - feature;
        for (at = 0; at < count; at++)
            sum += scores[at] * load_some(state(keys, &keys->value, source, kv, from + at) + feature, left);
        sum *= part_of_all;
        store_some(out + feature, sum, left);
    }
}

/* Queries, and for self-attention keys and values, are in `work->projected`; the mixed values go to `work->mixed`. */
static void attend(Team team, const Attention *attention, const Keys *keys, const Call *call, const Work *work,
                   int self) {
    int64_t heads = attention->heads, kv_heads = attention->kv_heads, group = heads / kv_heads;
    int64_t width = attention->d_head;
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
