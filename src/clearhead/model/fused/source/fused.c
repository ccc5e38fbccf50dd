/* What a block does in training besides its matrix products, on a CPU. */

#include <stdlib.h>
#include "../../packing/step/team.h"
#include "attention.h"
#include "joining.h"
#include "rotating.h"
#include "slopes.h"

static void attend_share(const Attention *attention, int64_t back, float *work, int64_t size) {
    Team team = me();
    Span own = share(team, attention->batch * attention->heads, 1);
    for (int64_t each = own.from; each < own.to; each++) {
        int64_t batch = each / attention->heads, head = each % attention->heads;
        if (back) attend_back(attention, batch, head, work + team.index * size);
        else attend(attention, batch, head, work + team.index * size);
    }
}

/* All heads, forward or back; returns 1 if there is no memory, else 0. */
int64_t clearhead_attend(const Attention *attention, int64_t back, int64_t threads) {
    int64_t size = padded(room(attention, back));
    float *work = aligned_alloc(64, size * threads * sizeof(float));
    if (!work) return 1;
    TOGETHER(threads, attend_share(attention, back, work, size));
    free(work);
    return 0;
}

static void rotate_share(const Rotation *rotation) {
    Span own = share(me(), rotation->batch * rotation->heads, 1);
    for (int64_t each = own.from; each < own.to; each++) rotate(rotation, each / rotation->heads, each % rotation->heads);
}

/* All heads. */
void clearhead_rotate(const Rotation *rotation, int64_t threads) {
    TOGETHER(threads, rotate_share(rotation));
}

static void join_share(const Joining *joining) {
    Span own = share(me(), joining->tokens, 1);
    for (int64_t token = own.from; token < own.to; token++) join(joining, token);
}

static void join_back_share(const Joining *joining) {
    Team team = me();
    Span own = share(team, joining->tokens, 1);
    float *slopes = joining->gain ? joining->shares + 2 * team.index * joining->features : NULL;
    for (int64_t token = own.from; token < own.to; token++) join_back(joining, token, slopes);
}

/* All tokens, forward or back. */
void clearhead_join(const Joining *joining, int64_t back, int64_t threads) {
    if (back) {
        TOGETHER(threads, join_back_share(joining));
    } else {
        TOGETHER(threads, join_share(joining));
    }
}

static void slope_share(const Slopes *slopes, float *work, int64_t size) {
    Team team = me();
    Span own = share(team, slopes->rows, 1);
    for (int64_t row = own.from; row < own.to; row++) slope(slopes, row, work + team.index * size);
}

/* All rows; returns 1 if there is no memory, else 0. */
int64_t clearhead_slopes(const Slopes *slopes, int64_t threads) {
    int64_t size = 2 * padded(slopes->words);
    float *work = aligned_alloc(64, size * threads * sizeof(float));
    if (!work) return 1;
    TOGETHER(threads, slope_share(slopes, work, size));
    free(work);
    return 0;
}

void clearhead_fused_sizes(int64_t *sizes) {
    sizes[0] = sizeof(Attention), sizes[1] = sizeof(Joining), sizes[2] = sizeof(Slopes);
    sizes[3] = sizeof(Rotation);
}
