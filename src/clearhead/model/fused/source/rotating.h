/* Rotary position embedding (Su et al., 2021) of all rows of a head, and its gradient. */

#pragma once
#include "attention.h"

typedef struct {
    Rows states, out;
    const void *own, *partner; /* (batch or 1, rows, features): what a feature and its partner are multiplied by */
    int64_t table_batch;       /* step in elements, 0 where it is the same for all */
    int64_t batch, heads, rows, features; /* a multiple of 32; i and i + features / 2 are partners */
    int32_t table_half, back;
} Rotation;

static void rotate(const Rotation *r, int64_t batch, int64_t head) {
    int64_t middle = r->features / 2;
    for (int64_t row = 0; row < r->rows; row++) {
        const char *from = row_at(r->states, batch, head, row);
        char *to = row_at(r->out, batch, head, row);
        int64_t table = batch * r->table_batch + row * r->features;
        for (int64_t i = 0; i < middle; i += LANES) {
            Floats left = load_as(from, i, r->states.half), right = load_as(from, middle + i, r->states.half);
            Floats own_left = load_as(r->own, table + i, r->table_half);
            Floats own_right = load_as(r->own, table + middle + i, r->table_half);
            Floats to_left = load_as(r->partner, table + i, r->table_half);
            Floats to_right = load_as(r->partner, table + middle + i, r->table_half);
            Floats swapped = to_left; /* the gradient goes the other way between partners */
            if (r->back) to_left = to_right, to_right = swapped;
            store_as(to, i, left * own_left + right * to_left, r->out.half);
            store_as(to, middle + i, right * own_right + left * to_right, r->out.half);
        }
    }
}
