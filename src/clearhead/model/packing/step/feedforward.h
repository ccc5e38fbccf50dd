/* The feed-forward network of a block. */

#pragma once
#include "attention.h"

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
