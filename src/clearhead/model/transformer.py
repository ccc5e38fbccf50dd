"""The Transformer (Vaswani et al., 2017): encoder-decoder, encoder-only and decoder-only from one block.

encode: source ids ─ embedding ─ block x N ─ last norm ─▶ Memory
decode: target ids ─ embedding ─ block x N (reads Memory) ─ last norm ─▶ hidden
logits: hidden ─ output matrix ─▶ (batch, length, vocab)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.errors import ConfigError, ModelError
from clearhead.model.attention import ATTENTIONS, CrossAttention, SelfAttention
from clearhead.model.attention.base import Kernel
from clearhead.model.attention.multihead import Memory
from clearhead.model.block import Block
from clearhead.model.cache import NO_CACHE, Cache
from clearhead.model.config import ModelConfig
from clearhead.model.embedding import Embedding
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.mask import CAUSAL, OPEN, AttentionMask
from clearhead.model.norm import NORMS
from clearhead.model.position import POSITIONS
from clearhead.model.position.base import Position
from clearhead.model.residual import RESIDUALS, Residual


class Stack(nn.Module):
    """Embedding, blocks and the norm after the last one."""

    def __init__(self, config: ModelConfig, layers: int, table: nn.Parameter, *, cross: bool) -> None:
        super().__init__()
        sizes = config.sizes
        position = POSITIONS.build(config.position, sizes.d_model, sizes.heads, sizes.d_head, config.length)
        scale = config.d_model**0.5 if config.scale_embedding else 1.0
        self.embedding = Embedding(table, position, pad=config.pad, scale=scale, dropout=config.dropout)
        self.blocks = nn.ModuleList(_block(config, position, cross=cross) for _ in range(layers))
        self.last = _residual(config).final(lambda: _norm(config))

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: AttentionMask,
        memory: Memory | None = None,
        cache: Cache = NO_CACHE,
    ) -> Tensor:
        """Ids (batch, length), positions (batch or 1, length) -> hidden states (batch, length, d_model)."""
        hidden = self.embedding(tokens, positions)
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, positions, mask, memory, cache.layer(index))
        final: Tensor = self.last(hidden)
        return final


class Transformer(nn.Module):
    """A model of any of the three kinds; a kind is the number of layers on each side."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        target = _table(config, config.target_vocab or config.source_vocab)
        if config.encoder_layers:
            source = target if config.one_table else _table(config, config.source_vocab or config.target_vocab)
            self.encoder = Stack(config, config.encoder_layers, source, cross=False)
        if config.decoder_layers:
            self.decoder = Stack(config, config.decoder_layers, target, cross=bool(config.encoder_layers))
        self.output = target if config.tie != "none" else _table(config, len(target))  # (vocab, d_model)

    def encode(
        self,
        source: Tensor,
        valid: Tensor | None = None,
        *,
        mask: AttentionMask = OPEN,
        positions: Tensor | None = None,
    ) -> Memory:
        """Read the source.

        Args:
            source: (batch, source) int64 ids.
            valid: (batch, source) bool, False for padding; None = no padding.
            mask: further rules of visibility; by default every token sees every token.
            positions: (batch or 1, source) int64; None = 0, 1, 2, ... counted over valid tokens.
        """
        if not self.config.encoder_layers:
            raise ModelError("a decoder-only model has no encoder", remedy="call decode")
        if positions is None:
            positions = _positions(source, valid)
        return Memory(self.encoder(source, positions, mask.padded(valid)), valid)

    def decode(
        self,
        target: Tensor,
        memory: Memory | None = None,
        *,
        valid: Tensor | None = None,
        mask: AttentionMask = CAUSAL,
        positions: Tensor | None = None,
        cache: Cache = NO_CACHE,
    ) -> Tensor:
        """Hidden states of the target, (batch, target, d_model).

        Args:
            target: (batch, target) int64 ids; with a cache only the new ones.
            memory: what `encode` returned, for an encoder-decoder; its batch divides that of the target, and so
                many rows in a sequence read the same source (the beams of a search).
            valid: (batch, keys) bool over all tokens so far, False for padding; None = no padding.
            mask: by default each token sees itself and what came before it.
            positions: (batch or 1, target) int64 of the given ids; needed with a cache.
            cache: keeps keys and values between calls.
        """
        self._check_decoding(target, memory)
        if positions is None:
            if cache is not NO_CACHE:
                raise ModelError("a cache does not know positions", remedy="pass positions= of the new tokens")
            positions = _positions(target, valid)
        hidden: Tensor = self.decoder(target, positions, mask.padded(valid), memory, cache)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., d_model) -> (..., vocab), unnormalised log-probabilities of the next token."""
        return F.linear(hidden, self.output)

    def forward(
        self,
        source: Tensor | None,
        target: Tensor | None,
        *,
        source_valid: Tensor | None = None,
        target_valid: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the last stack: (batch, target or source, d_model); None for the side that is absent."""
        memory = None if source is None else self.encode(source, source_valid)
        if target is not None:
            return self.decode(target, memory, valid=target_valid)
        if memory is None:
            raise ModelError("there is nothing to read", remedy="pass source, target or both")
        return memory.hidden

    @property
    def longest_target(self) -> int | None:
        """The most tokens that the decoder can read; None = no limit."""
        if not self.config.decoder_layers:
            return None
        return self.decoder.embedding.position.limit

    def _check_decoding(self, target: Tensor, memory: Memory | None) -> None:
        """Refuse what would be an error deep inside, or a wrong result without one."""
        if not self.config.decoder_layers:
            raise ModelError("an encoder-only model has no decoder", remedy="call encode")
        if memory is None:
            if self.config.encoder_layers:
                raise ModelError("an encoder-decoder decodes from a source", remedy="pass memory=model.encode(source)")
            return
        if not self.config.encoder_layers:
            raise ModelError("a decoder-only model reads no memory", remedy="leave memory out")
        rows, sources = len(target), len(memory.hidden)
        if rows % sources:
            found = f"{rows} targets, {sources} sources"
            raise ModelError("targets do not divide among sources", found=found, expected="so many targets for each")


def _positions(tokens: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, length)
    return (valid.long().cumsum(dim=1) - 1).clamp(min=0)  # (batch, length)


def _table(config: ModelConfig, vocab: int) -> nn.Parameter:
    if config.pad >= vocab:
        found, remedy = f"{vocab} tokens, pad {config.pad}", "set source_vocab and target_vocab from the tokenizers"
        raise ConfigError("the vocabulary has no row for padding", found=found, remedy=remedy)
    return nn.Parameter(torch.randn(vocab, config.d_model) * config.d_model**-0.5)  # (vocab, d_model)


def _norm(config: ModelConfig) -> nn.Module:
    return NORMS.build(config.norm, config.d_model)


def _residual(config: ModelConfig) -> Residual:
    return RESIDUALS.build(config.residual, lambda: _norm(config), config.dropout)


def _kernel(config: ModelConfig) -> Kernel:
    sizes = config.sizes
    return ATTENTIONS.build(config.attention, sizes.heads, sizes.d_head, config.attention_dropout)


def _block(config: ModelConfig, position: Position, *, cross: bool) -> Block:
    bias = config.bias
    block = Block(
        attention=SelfAttention(config.sizes, _kernel(config), position, bias=bias),
        cross=CrossAttention(config.sizes, _kernel(config), bias=bias) if cross else None,
        feedforward=FEEDFORWARDS.build(
            config.feedforward, config.d_model, config.d_ff, config.feedforward_dropout, bias
        ),
        residual=lambda: _residual(config),
    )
    block.apply(_initialise)
    return block


def _initialise(module: nn.Module) -> None:
    """Glorot and Bengio, 2010, for the matrices, zero for the biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
