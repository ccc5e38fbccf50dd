/* Greedy and beam search as long as nothing happens: no row ends, and no number is strange. What happens then is for
   Python, which gets the logits of that step. `branch` and `continue_rows` are `best` and `_continue` of
   generate/searches/beam.py, to the last bit. */

#pragma once
#include "feedforward.h"
#include "ranking.h"

/* Whether the token and the position of every row are known. */
static int known(const Embedding *embedding, const Call *call) {
    for (int64_t row = 0; row < call->rows; row++) {
        int64_t token = call->tokens[row * call->tokens_row], position = call->positions[row * call->positions_row];
        if (token < 0 || token >= embedding->vocab) return 0;
        if (embedding->positions && (position < 0 || position >= embedding->length)) return 0;
    }
    return 1;
}

/* hidden = scale * table[token] + positions[position] */
static void embed(Team team, const Embedding *embedding, const Call *call, int64_t d_model) {
    Span mine = share(team, call->rows, 1);
    for (int64_t row = mine.from; row < mine.to; row++) {
        const float *from = embedding->table + call->tokens[row * call->tokens_row] * d_model;
        const float *added = embedding->positions + call->positions[row * call->positions_row] * d_model;
        float *to = call->hidden + row * d_model;
        for (int64_t at = 0; at < d_model; at++)
            to[at] = embedding->scale * from[at] + (embedding->positions ? added[at] : 0.0f);
    }
}

/* hidden -> logits, and what is best in each row. */
static void score(Team team, Search *search, const Call *call, const Work *work) {
    int64_t vocab = search->head.outputs, width = search->head.inputs;
    Span mine = share(team, call->rows, 1); /* as those whose last norm this thread has made */
    if (search->scale != 1.0f)
        for (int64_t at = mine.from * width; at < mine.to * width; at++) call->hidden[at] *= search->scale;
    meet(team);
    multiply(team, &search->head, call->hidden, width, call->rows, search->logits, work);
    meet(team);
    if (search->forbidden >= 0)
        for (int64_t row = mine.from; row < mine.to; row++) search->logits[row * vocab + search->forbidden] = -INFINITY;
    if (search->steps + 1 == search->most) return; /* the last step is for Python in any case */
    sums_of_rows(team, search->logits, call->rows, vocab, search->sums);
    largest_of_rows(team, search->logits, call->rows, vocab, search->beams, search->best, search->places);
}

/* The best continuations of a text, best first, of equal ones the first; 0 where one of them ends or is strange. */
static int branch(Search *search, int64_t first) {
    int64_t beams = search->beams, *parents = search->parents + first, *tokens = search->newest + first;
    double *totals = search->candidates + first;
    for (int64_t i = 0; i < beams; i++) totals[i] = -INFINITY;
    for (int64_t row = first; row < first + beams; row++)
        for (int64_t i = 0; i < beams; i++) {
            float gain = search->best[row * beams + i] - search->sums[row];
            double total = search->totals[row] + (double)gain;
            if (!(total > totals[beams - 1])) break; /* those that follow are smaller */
            int64_t to = beams - 1;
            for (; to > 0 && total > totals[to - 1]; to--)
                totals[to] = totals[to - 1], tokens[to] = tokens[to - 1], parents[to] = parents[to - 1];
            totals[to] = total, tokens[to] = search->places[row * beams + i], parents[to] = row;
        }
    for (int64_t i = 0; i < beams; i++)
        if (!isfinite(totals[i]) || tokens[i] == search->eos) return 0;
    return 1;
}

/* Rows become what their parents were, and have one token more. */
static void continue_rows(Search *search, Call *call, int64_t layers) {
    int64_t rows = call->rows, most = search->most, columns = call->self[0].columns, old = search->table, new = !old;
    const int64_t *before = search->written + old * rows * most;
    int64_t *after = search->written + new * rows * most;
    const int64_t *from = search->origins + old * rows * search->origins_row;
    int64_t *to = search->origins + new * rows * search->origins_row;
    for (int64_t row = 0; row < rows; row++) {
        int64_t parent = search->parents[row];
        search->totals[row] = search->candidates[row];
        memcpy(after + row * most, before + parent * most, (size_t)(search->steps + 1) * sizeof *after);
        after[row * most + search->steps + 1] = search->newest[row];
        if (!search->origins) continue;
        memcpy(to + row * search->origins_row, from + parent * search->origins_row, (size_t)columns * sizeof *to);
        to[row * search->origins_row + columns] = row;
    }
    search->table = new;
    search->steps++;
    call->positions++;
    if (call->own) call->own += call->turned, call->partner += call->turned;
    for (int64_t i = 0; i < layers; i++) {
        call->self[i].columns++;
        if (search->origins) call->self[i].origins = to;
    }
}

/* One thread decides whether all go on. */
static void decide(Search *search, Call *call, int64_t layers) {
    search->going = search->steps + 1 < search->most;
    for (int64_t row = 0; search->going && row < call->rows; row += search->beams) search->going = branch(search, row);
    if (search->going) continue_rows(search, call, layers);
}
