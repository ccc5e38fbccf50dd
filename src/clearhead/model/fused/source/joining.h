/* norm(hidden + dropout(update)) of each token, and its gradients: layer normalisation (Ba et al., 2016), root mean square
   normalisation (Zhang and Sennrich, 2019), or no norm. */

#pragma once
#include "numbers.h"

typedef struct {
    const float *hidden;   /* (tokens, features); NULL = nothing is added to */
    const void *update;    /* (tokens, features) */
    const float *gain, *bias; /* (features,); gain NULL = no norm; bias NULL = by the root mean square, without a mean */
    void *out;             /* (tokens, features): the norm, or without one the sum */
    float *sum;            /* (tokens, features), kept for the backward pass of a norm */
    float *moments;        /* (tokens, 2): mean and 1 / standard deviation */
    const void *slope;     /* d loss / d out */
    float *hidden_slope;   /* what follows from it, or NULL */
    void *update_slope;
    float *shares;         /* (threads, 2, features): of each thread in the slopes of gain and bias, 0 at first */
    int64_t tokens, features; /* a multiple of 16 */
    Drop drop;
    float epsilon;
    int32_t half, half_out, unused; /* update, and out with its slope, are bfloat16 */
} Joining;

ALWAYS void join(const Joining *j, int64_t token) {
    int64_t features = j->features, start = token * features;
    float *sum = j->gain ? j->sum + start : NULL;
    Floats added = all(0);
    for (int64_t i = 0; i < features; i += LANES) {
        Floats vector = load_as(j->update, start + i, j->half);
        if (j->drop.rate) vector *= kept(j->drop, start + i);
        if (j->hidden) vector += load(j->hidden + start + i);
        added += vector;
        if (sum && sum != (const float *)j->update + start) store(sum + i, vector);
        if (!sum) store_as(j->out, start + i, vector, j->half_out);
    }
    if (!sum) return;
    float mean = j->bias ? total(added) / features : 0;
    Floats squares = all(0);
    for (int64_t i = 0; i < features; i += LANES) {
        Floats apart = load(sum + i) - mean;
        squares += apart * apart;
    }
    float sharp = 1.0f / sqrtf(total(squares) / features + j->epsilon);
    for (int64_t i = 0; i < features; i += LANES) {
        Floats vector = (load(sum + i) - mean) * sharp * load(j->gain + i);
        if (j->bias) vector += load(j->bias + i);
        store_as(j->out, start + i, vector, j->half_out);
    }
    j->moments[2 * token] = mean, j->moments[2 * token + 1] = sharp;
}

ALWAYS void join_back(const Joining *j, int64_t token, float *shares) {
    int64_t features = j->features, start = token * features;
    float *gain_slope = shares, *bias_slope = shares + (shares ? features : 0);
    float mean = 0, sharp = 1, even = 0, along = 0;
    const float *sum = j->sum + start;
    if (j->gain) {
        mean = j->moments[2 * token], sharp = j->moments[2 * token + 1];
        Floats evens = all(0), alongs = all(0);
        for (int64_t i = 0; i < features; i += LANES) {
            Floats slope = load_as(j->slope, start + i, j->half_out), normal = (load(sum + i) - mean) * sharp;
            store(gain_slope + i, load(gain_slope + i) + slope * normal);
            store(bias_slope + i, load(bias_slope + i) + slope);
            slope *= load(j->gain + i);
            evens += slope, alongs += slope * normal;
        }
        even = j->bias ? total(evens) / features : 0, along = total(alongs) / features;
    }
    for (int64_t i = 0; i < features; i += LANES) {
        Floats slope = load_as(j->slope, start + i, j->half_out);
        if (j->gain) slope = sharp * (slope * load(j->gain + i) - even - (load(sum + i) - mean) * sharp * along);
        if (j->hidden_slope) store(j->hidden_slope + start + i, slope);
        if (j->drop.rate) slope *= kept(j->drop, start + i);
        store_as(j->update_slope, start + i, slope, j->half);
    }
}
