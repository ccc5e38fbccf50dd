"""The doorway of the stack family: everything between ids and last hidden states on one side of a model.

tokens ─ embedding ─ embedding_sum ─ project ─ body ─ last ─▶ hidden
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.core.registry import Registry
from clearhead.model.attention.multihead import CrossAttention, Memory
from clearhead.model.block import Block, newest
from clearhead.model.cache import NO_CACHE, Cache
from clearhead.model.embedding import Embedding, EmbeddingSum
from clearhead.model.forward_pass import Pass
from clearhead.model.mask import AttentionMask
from clearhead.model.norm import Norm


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a model in numbers."""

    layers: int
    d_model: int
    dropout: float  # rate
    causal: bool  # is a decoder
    crosses: bool  # reads a memory
    groups: int  # distinct layers, each used by consecutive ones
    shared: str  # what the layers of a group have in common


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a model offers a stack; a maker gives a new part at every call."""

    side: Side
    embedding: Embedding
    embedding_sum: EmbeddingSum
    attention: Callable[[], nn.Module]  # self-attention
    cross_attention: Callable[[], CrossAttention]
    block: Callable[[nn.Module], Block]  # around self-attention, or what takes its place
    final: Callable[[], Norm]  # what follows the last block


class Stack(nn.Module):
    """One side of a model. Wiring: the parts. A kind of stack is its `body`."""

    decodes: ClassVar[bool] = True  # may serve a decoder
    shares: ClassVar[bool] = False  # knows how to share layers

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.embedding, self.embedding_sum = parts.embedding, parts.embedding_sum

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: AttentionMask,
        memory: Memory | None = None,
        cache: Cache = NO_CACHE,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Ids (batch, length), positions (batch or 1, length) -> hidden states (batch, length, d_model)."""
        embedded = self.embedding(tokens)  # (batch, length, width)
        embedded = self.embedding_sum(embedded, positions, segments, newest(mask.valid, embedded))
        return self.body(self.embedding.project(embedded), positions, mask, memory, cache)

    def body(
        self, hidden: Tensor, positions: Tensor, mask: AttentionMask, memory: Memory | None, cache: Cache
    ) -> Tensor:
        """(batch, length, d_model) -> the same shape."""
        raise NotImplementedError


class Blocks(Stack):
    """Blocks one after another, and the norm that their residuals need at the end."""

    def __init__(self, parts: Parts, blocks: Iterable[Block]) -> None:
        super().__init__(parts)
        self.blocks = nn.ModuleList(blocks)
        self.last = parts.final()

    def body(
        self, hidden: Tensor, positions: Tensor, mask: AttentionMask, memory: Memory | None, cache: Cache
    ) -> Tensor:
        now = Pass(positions, mask)
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, now, memory, cache.layer(index))
        final: Tensor = self.last(hidden, newest(mask.valid, hidden))
        return final


STACKS: Registry[Stack] = Registry("stack")


def require_plain(mask: AttentionMask) -> None:
    """Refuse rules of visibility that only attention can obey; order and padding every stack respects."""
    if not mask.only_padding_and_causal:
        raise ModelError("only attention can obey this mask", expected="no rule but causal and padding")
