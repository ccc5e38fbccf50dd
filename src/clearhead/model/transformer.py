"""The Transformer (Vaswani et al., 2017): encoder-decoder, encoder-only and decoder-only from one block.

encode: source ids ─ embedding ─ block x N ─ last norm ─▶ Memory
decode: target ids ─ embedding ─ block x N (reads Memory) ─ last norm ─▶ hidden
logits: hidden ─ head ─▶ (batch, length, vocab)
"""

import torch
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.model.assembly import embedding_of, head_of, stack_of
from clearhead.model.attention.heads import cut_heads
from clearhead.model.attention.multihead import Memory
from clearhead.model.cache import NO_CACHE, Cache
from clearhead.model.config import ModelConfig
from clearhead.model.mask import CAUSAL, OPEN, AttentionMask


class Transformer(nn.Module):
    """A model of any of the three kinds; a kind is the number of layers on each side."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        target = embedding_of(config, config.target_vocab or config.source_vocab)
        if config.encoder_layers:
            source = target if config.one_table else embedding_of(config, config.source_vocab or config.target_vocab)
            self.encoder = stack_of(config, config.encoder_layers, source, causal=False, cross=False)
        if config.decoder_layers:
            cross = bool(config.encoder_layers)
            self.decoder = stack_of(config, config.decoder_layers, target, causal=True, cross=cross)
        self.head = head_of(config, target)
        self.output = self.head.matrix  # (vocab, d_model); for labels (labels, d_model)
        cut_heads(self, config.removed_heads)

    def encode(
        self,
        source: Tensor,
        valid: Tensor | None = None,
        *,
        mask: AttentionMask = OPEN,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Memory:
        """Read the source.

        Args:
            source: (batch, source) int64 ids, or what else the embedding reads.
            valid: (batch, source) bool, False for padding; None = no padding.
            mask: further rules of visibility; by default every token sees every token.
            positions: (batch or 1, source) int64; None = 0, 1, 2, ... counted over valid tokens.
            segments: (batch, source) int64 token types of a model that has them; None = all 0.
        """
        if not self.config.encoder_layers:
            raise ModelError("a decoder-only model has no encoder", remedy="call decode")
        if positions is None:
            positions = _positions(self.encoder.embedding.length(source), valid, source.device)
        return Memory(self.encoder(source, positions, self.rules(mask, valid), segments=segments), valid)

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
            positions = _positions(target.shape[1], valid, target.device)
        hidden: Tensor = self.decoder(target, positions, self.rules(mask, valid), memory, cache)
        return hidden

    def logits(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """(..., d_model) -> (..., vocab), unnormalised log-probabilities of the next token, or what else the head says.

        A head that pools reads (batch, length, d_model) and `valid`, (batch, length) bool, False for padding.
        """
        scores: Tensor = self.head(hidden, valid)
        return scores

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
        return self.decoder.embedding_sum.position.limit

    def rules(self, mask: AttentionMask, valid: Tensor | None) -> AttentionMask:
        """What is visible in self-attention: the given rules, padding, and the model's own window."""
        padded = mask.padded(valid)
        return padded if self.config.window is None else padded & AttentionMask(window=self.config.window)

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
        rows, sources = target.shape[0], memory.hidden.shape[0]  # len() would fix both numbers in a traced graph
        if rows % sources:
            found = f"{rows} targets, {sources} sources"
            raise ModelError("targets do not divide among sources", found=found, expected="so many targets for each")


def _positions(length: int, valid: Tensor | None, device: torch.device) -> Tensor:
    if valid is None:
        return torch.arange(length, device=device)[None]  # (1, length)
    return (valid.long().cumsum(dim=1) - 1).clamp(min=0)  # (batch, length)
