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
        window: a query sees only slots less than this far away; 1 = its own, with `causal` it counts back.
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
        """Visible under both."""
        windows = [each for each in (self.window, other.window) if each is not None]
        return AttentionMask(
            causal=self.causal or other.causal,
            window=min(windows) if windows else None,
            valid=_both(self.valid, other.valid),
            segments=_crossed(self.segments, other.segments),
            allowed=_both(self.allowed, other.allowed),
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
        drawn = self.allowed
        if (self.causal and queries > 1) or self.window is not None:
            drawn = _both(drawn, self._near(queries, keys, device))  # (queries, keys)
        if self.valid is not None:
            drawn = _both(drawn, self.valid[:, None, None, :])  # (batch, 1, 1, keys)
        if self.segments is not None:
            own = self.segments[:, None, keys - queries : keys, None]  # (batch, 1, queries, 1)
            drawn = _both(drawn, own == self.segments[:, None, None, :])  # (batch, 1, queries, keys)
        return drawn

    def _near(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """The rules that look only at distance, (queries, keys)."""
        slot = torch.arange(keys - queries, keys, device=device)[:, None]  # (queries, 1)
        back = slot - torch.arange(keys, device=device)  # (queries, keys), slots back from the query to the key
        near = back >= 0 if self.causal else torch.ones_like(back, dtype=torch.bool)
        return near if self.window is None else near & (back.abs() < self.window)

    def padded(self, valid: Tensor | None) -> "AttentionMask":
        """The same rules and this padding too; `valid`: (batch, keys) bool or None."""
        return self if valid is None else replace(self, valid=_both(self.valid, valid))


def _both(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right


def _crossed(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    """Segments that are equal where both are equal: one number for each pair of numbers, (batch, keys)."""
    if left is None or right is None:
        return right if left is None else left
    low, high = right.aminmax()
    return left * (high - low + 1) + right


OPEN = AttentionMask()
CAUSAL = AttentionMask(causal=True)
