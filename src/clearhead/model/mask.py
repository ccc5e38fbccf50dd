"""Which key each query may see: a small description that composes with `&` and is drawn only when needed.

A query that may see no key at all gets the zero vector as its result, in every kernel.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AttentionMask:
    """What is visible; every field that is set must allow a pair of query and key.

    Queries are the last slots of the keys: with 3 queries and 10 keys the first query is slot 7. That makes one
    description right with and without a cache, and for left- and right-padded batches.

    Args:
        causal: a query sees its own slot and the slots before it.
        window: a query sees at most this many slots back, its own included.
        valid: (batch, keys) bool, False for padding.
        segments: (batch, keys) int; a query sees only keys of its own segment (packed sequences).
        allowed: bool, broadcasts to (batch, heads, queries, keys); any other rule.
    """

    causal: bool = False
    window: int | None = None
    valid: Tensor | None = None
    segments: Tensor | None = None
    allowed: Tensor | None = None

    def __and__(self, other: "AttentionMask") -> "AttentionMask":
        """Visible under both; a second window, padding or segment rule becomes part of `allowed` or narrows it."""
        windows = [each for each in (self.window, other.window) if each is not None]
        allowed = _both(self.allowed, other.allowed)
        segments = self.segments
        if segments is None:
            segments = other.segments
        elif other.segments is not None:
            allowed = _both(allowed, (other.segments[:, None, :, None] == other.segments[:, None, None, :]))
        return AttentionMask(
            causal=self.causal or other.causal,
            window=min(windows) if windows else None,
            valid=_both(self.valid, other.valid),
            segments=segments,
            allowed=allowed,
        )

    @property
    def only_causal(self) -> bool:
        """True if nothing but the causal rule applies, so that a kernel may use its own."""
        return self.causal and self.open_but_causal

    @property
    def open_but_causal(self) -> bool:
        """True if no rule but perhaps the causal one applies."""
        return all(each is None for each in (self.window, self.valid, self.segments, self.allowed))

    def dense(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """Draw the mask: bool, broadcasts to (batch, heads, queries, keys), True = visible; None = all visible."""
        slot = torch.arange(keys - queries, keys, device=device)[:, None]  # (queries, 1)
        key = torch.arange(keys, device=device)  # (keys,)
        drawn = self.allowed
        if self.causal and queries > 1:
            drawn = _both(drawn, key <= slot)  # (queries, keys)
        if self.window is not None:
            drawn = _both(drawn, (key - slot).abs() < self.window)
        if self.valid is not None:
            drawn = _both(drawn, self.valid[:, None, None, :])  # (batch, 1, 1, keys)
        if self.segments is not None:
            own = self.segments[:, None, keys - queries : keys, None]  # (batch, 1, queries, 1)
            drawn = _both(drawn, own == self.segments[:, None, None, :])  # (batch, 1, queries, keys)
        return drawn

    def padded(self, valid: Tensor | None) -> "AttentionMask":
        """The same rules and this padding too; `valid`: (batch, keys) bool or None."""
        return self if valid is None else replace(self, valid=_both(self.valid, valid))


def _both(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right


OPEN = AttentionMask()
CAUSAL = AttentionMask(causal=True)
