"""From a config to the parts of a model: the one place that knows which part is wired to which."""

from typing import TypeVar

import torch
from torch import nn

from clearhead.core.registry import Choice
from clearhead.model.attention import ATTENTIONS, INITIALISATIONS, PROJECTIONS, CrossAttention, SelfAttention
from clearhead.model.attention.base import Kernel
from clearhead.model.attention.projections import Projections
from clearhead.model.block import Block
from clearhead.model.config import ModelConfig
from clearhead.model.embedding import EMBEDDING_JOINS, EMBEDDINGS, Embedding, EmbeddingSum
from clearhead.model.embedding.base import new_table, require_rows
from clearhead.model.embedding.sum import NoSegments, Segments
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.head import HEADS, Head, Surroundings
from clearhead.model.norm import NORMS, NoNorm, Norm
from clearhead.model.position import POSITIONS
from clearhead.model.position.base import LayerPosition, Position
from clearhead.model.residual import RESIDUALS, Depth, Residual
from clearhead.model.stack import STACKS, Parts, Side, Stack

Part = TypeVar("Part", bound=nn.Module)


def embedding_of(config: ModelConfig, vocab: int) -> Embedding:
    """A new embedding of so many tokens."""
    return EMBEDDINGS.build(config.embedding, vocab, config.d_model, config.pad)


def _embedding_sum(config: ModelConfig, width: int, position: Position) -> EmbeddingSum:
    segments = Segments(config.segments, width) if config.segments else NoSegments()
    norm = _norm(config, width) if config.embedding_norm else NoNorm(width)
    scale = width**0.5 if config.scale_embedding else 1.0
    return EMBEDDING_JOINS.build(config.embedding_join, width, position, segments, norm, scale, config.dropout)


def stack_of(config: ModelConfig, layers: int, embedding: Embedding, *, causal: bool, cross: bool) -> Stack:
    """A new side of a model; `causal`: it decodes, `cross`: it reads a memory."""
    sizes = config.sizes
    position = POSITIONS.build(config.position, embedding.width, sizes.heads, sizes.d_head, config.length)
    side = Side(
        layers=layers,
        d_model=config.d_model,
        dropout=config.dropout,
        causal=causal,
        crosses=cross,
        groups=min(config.layer_groups or layers, layers),
        shared=config.shared,
    )
    parts = Parts(
        side=side,
        embedding=embedding,
        embedding_sum=_embedding_sum(config, embedding.width, position),
        attention=lambda: _attention(config, position.layer(causal=causal)),
        cross_attention=lambda: _fill_projections(config, _cross_attention(config)),
        block=lambda mixer: _block(config, mixer, cross=cross, causal=causal),
        final=lambda: _residual(config, causal=causal).final(lambda: _norm(config, config.d_model)),
    )
    return STACKS.build(config.stack, parts)


def head_of(config: ModelConfig, embedding: Embedding) -> Head:
    """A new head; `embedding`: that of the last stack, whose table it may share."""

    def matrix() -> nn.Parameter:
        if config.tie != "none":
            return embedding.matrix()
        require_rows(embedding.vocab, config.pad)
        return new_table(embedding.vocab, config.d_model)  # (vocab, d_model)

    around = Surroundings(
        d_model=config.d_model,
        vocab=embedding.vocab,
        matrix=matrix,
        norm=lambda width: _norm(config, width),
        dropout=config.dropout,
    )
    return HEADS.build(config.head, around)


def _norm(config: ModelConfig, width: int) -> Norm:
    return NORMS.build(config.norm, width)


def _residual(config: ModelConfig, *, causal: bool) -> Residual:
    depth = Depth(encoder_layers=config.encoder_layers, decoder_layers=config.decoder_layers, decodes=causal)
    return RESIDUALS.build(config.residual, lambda: _norm(config, config.d_model), config.dropout, depth)


def _kernel(config: ModelConfig, choice: Choice) -> Kernel:
    sizes = config.sizes
    return ATTENTIONS.build(choice, sizes.heads, sizes.d_head, config.attention_dropout)


def _projections(config: ModelConfig) -> Projections:
    bias = config.bias if config.qkv_bias is None else config.qkv_bias
    return PROJECTIONS.build(config.projections, config.sizes, bias)


def _attention(config: ModelConfig, position: LayerPosition) -> SelfAttention:
    return SelfAttention(_projections(config), _kernel(config, config.attention), position, bias=config.bias)


def _cross_attention(config: ModelConfig) -> CrossAttention:
    return CrossAttention(_projections(config), _kernel(config, config.crossing), bias=config.bias)


def _block(config: ModelConfig, mixer: nn.Module, *, cross: bool, causal: bool) -> Block:
    block = Block(
        attention=mixer,
        cross=_cross_attention(config) if cross else None,
        feedforward=FEEDFORWARDS.build(
            config.feedforward, config.d_model, config.d_ff, config.feedforward_dropout, config.bias
        ),
        residual=lambda: _residual(config, causal=causal),
    )
    block.apply(_initialise)
    _fill_projections(config, block).initialise()
    return block


def _initialise(module: nn.Module) -> None:
    """Glorot and Bengio, 2010, for the matrices, zero for the biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def _fill_projections(config: ModelConfig, part: Part) -> Part:
    """Give every W_Q, W_K and W_V inside its values, if the recipe asks for others than the standard ones."""
    fill = INITIALISATIONS.build(config.qkv_initialisation)
    for module in part.modules():
        if isinstance(module, Projections):
            for matrix in module.matrices().values():
                fill(matrix)
    return part
