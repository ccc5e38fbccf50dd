/* One token for every row of a decoder in one call, or many (search.h): what `model/block.py` says in Python, for a CPU.

   hidden ─ [self-attention ─ cross-attention ─ feed-forward] x layers ─ last norm ─▶ hidden

   Compiled when it is first used (library.py), told everything by pointers (structs.py). Matrices lie
   in panels (panels.h), float32 or whole numbers. All threads walk through `walk` together: each takes its share of every
   map, and where one needs what the others made, all meet at a barrier. The sums of a row do not depend on the rows
   beside it, nor on the number of threads, so a text is the same alone and in a batch, bit for bit. */

#include "search.h"

/* Places in the scratch memory for a call and a head, if there is one; returns how many floats it has. */
static int64_t arrange(const Model *model, const Call *call, const Matrix *head, Work *work) {
    int64_t projected = 0, mixed = 0, inner = 0, columns = 0, stride = head && head->whole ? head->stride : 0;
    for (int64_t i = 0; i < model->layers; i++) {
        const Block *block = model->blocks + i;
        const Matrix *matrices[] = {&block->self.inputs, &block->self.output, &block->cross.inputs,
                                    &block->cross.output, &block->gate, &block->inner, &block->outer};
        for (int m = 0; m < 7; m++) stride = most(stride, matrices[m]->whole ? matrices[m]->stride : 0);
        projected = most(projected, most(block->self.inputs.outputs, block->cross.inputs.outputs));
        mixed = most(mixed, most(block->self.heads * block->self.d_head, block->cross.heads * block->cross.d_head));
        inner = most(inner, block->inner.outputs);
        columns = most(columns, most(call->self[i].columns, block->cross.heads ? call->cross[i].columns : 0));
    }
    int64_t rows = call->rows, at = 0;
    work->scores_row = (columns + 2 * LANES - 1) / LANES * LANES;
    float **places[] = {&work->projected, &work->mixed, &work->inner, &work->gate, &work->joined, &work->normed,
                        &work->rounded.scales};
    int64_t sizes[] = {projected, mixed, inner, inner, model->d_model, model->d_model, 1};
    for (int i = 0; i < 7; i++) {
        *places[i] = call->work + at;
        at += (rows * sizes[i] + LANES - 1) / LANES * LANES;
    }
    work->scores = call->work + at;
    at += call->threads * work->scores_row;
    work->rounded.whole = (uint8_t *)(call->work + at);
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

/* Floats of scratch memory that a call needs; head: null, or what a search reads. */
int64_t clearhead_work(const Model *model, const Call *call, const Matrix *head) {
    Work work;
    Call empty = *call;
    empty.work = 0;
    return arrange(model, &empty, head, &work);
}

/* The first hidden states; 0, and nothing done, where a token or position is unknown. */
int64_t clearhead_embed(const Embedding *embedding, const Call *call, int64_t d_model) {
    if (!known(embedding, call)) return 0;
    embed((Team){0, 1}, embedding, call, d_model);
    return 1;
}

/* One token for every row. */
void clearhead_step(const Model *model, const Call *call) {
    Work work;
    arrange(model, call, 0, &work);
    TOGETHER(call->threads, walk(me(), model, call, &work));
}

static void go_on(Team team, const Model *model, Call *call, Search *search, const Work *work) {
    do {
        embed(team, search->embedding, call, model->d_model);
        meet(team);
        walk(team, model, call, work);
        score(team, search, call, work);
        meet(team);
        if (team.index == 0) decide(search, call, model->layers);
        meet(team);
    } while (search->going);
}

/* Token after token, until something happens; `columns` is what there may be at the end. 0, and nothing done, where a
   token is unknown. */
int64_t clearhead_search(const Model *model, Call *call, Search *search) {
    Work work;
    if (search->forbidden >= search->head.outputs || !known(search->embedding, call)) return 0;
    arrange(model, call, &search->head, &work);
    for (int64_t i = 0; i < model->layers; i++) {
        call->self[i].columns -= search->most - 1;
        if (search->origins) call->self[i].origins = search->origins, call->self[i].origins_row = search->origins_row;
    }
    TOGETHER(call->threads, go_on(me(), model, call, search, &work));
    return 1;
}

/* Bytes of the structs that Python has twins of, in the order of told.h. */
void clearhead_sizes(int64_t *sizes) {
    const int64_t found[] = {sizeof(Matrix), sizeof(Norm), sizeof(Residual), sizeof(Attention), sizeof(Block),
                             sizeof(Embedding), sizeof(Model), sizeof(Store), sizeof(Keys), sizeof(Call),
                             sizeof(Search)};
    memcpy(sizes, found, sizeof found);
}

/* out (rows, outputs) = x (rows, inputs) times the matrix; scratch: rows * (1 + stride / 4) floats for whole numbers */
void clearhead_multiply(const Matrix *matrix, const float *x, int64_t rows, float *out, float *scratch,
                        int64_t threads) {
    Work work = {.rounded = {.scales = scratch, .whole = (uint8_t *)(scratch + rows)}};
    TOGETHER(threads, multiply(me(), matrix, x, matrix->inputs, rows, out, &work));
}

/* sums (rows): the logarithm of the sum of exponentials of each row. */
void clearhead_log_sums(const float *logits, int64_t rows, int64_t vocab, float *sums, int64_t threads) {
    TOGETHER(threads, sums_of_rows(me(), logits, rows, vocab, sums));
}

/* best and places (rows, count). */
void clearhead_largest(const float *logits, int64_t rows, int64_t vocab, int64_t count, float *best, int64_t *places,
                       int64_t threads) {
    TOGETHER(threads, largest_of_rows(me(), logits, rows, vocab, count, best, places));
}
