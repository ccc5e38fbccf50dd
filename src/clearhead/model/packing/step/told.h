/* What Python tells. Every struct has its twin in structs.py. */

#pragma once
#include <stdint.h>

#define PANEL 16 /* outputs of a matrix that lie side by side */

typedef struct {
    const float *weight;  /* (panels, inputs, PANEL), zeros after the outputs; null: whole numbers */
    const int8_t *whole;  /* (panels, stride / 4, PANEL, 4), zeros after the outputs and after the inputs */
    const float *scale;   /* (panels, PANEL), of the whole numbers */
    const int32_t *sums;  /* (panels, PANEL), 128 times the sum of the whole numbers of an output */
    const float *bias;    /* (outputs) or null */
    int64_t outputs, inputs;
    int64_t stride; /* of whole numbers: inputs, made up to fours */
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
    Keys *self, *cross; /* of each layer */
    float *work;
} Call;

/* A search that writes by itself: what it is told, and what it finds. A row is one of `beams` beams of a text; they
   stand side by side. */
typedef struct {
    const Embedding *embedding;
    Matrix head;           /* (vocab, d_model) */
    float scale;           /* of what the head reads */
    int64_t beams, eos, forbidden; /* forbidden: a token that is never chosen; -1: none */
    int64_t most;          /* steps */
    int64_t *newest;       /* (rows), the tokens that are read next */
    double *totals;        /* (rows), log-probability of each, nats */
    int64_t *written;      /* two tables (rows, most): the row that each one was at first, and what it has written */
    int64_t *origins;      /* two tables (rows, origins_row) as in Keys; null: rows do not change places */
    int64_t origins_row;
    float *logits;         /* (rows, vocab) of the last step */
    float *best, *sums;    /* (rows, beams) the largest logits; (rows) the logarithms of the sums of exponentials */
    int64_t *places;       /* (rows, beams) the tokens of the largest */
    int64_t *parents;      /* (rows) the row that each continues */
    double *candidates;    /* (rows) */
    int64_t steps;         /* found: steps whose tokens are in `written` */
    int64_t table;         /* found: which of two tables is the right one */
    int64_t going;
} Search;
