"""Which key each query may see: a small description that composes with `&` and is drawn only when needed.

A query that may see no key at all gets the zero vector as its result, in every kernel.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clearhead.model.once import ANEW, Anew, Once

Slots = range | slice | Tensor  # some of the keys: neighbours, or by index


@dataclass(frozen=True, eq=False)
class AttentionMask:
    """What is visible; every field that is set must allow a pair of query and key.

    Queries are the last slots of the keys: with 3 queries and 10 keys the first query is slot 7. That makes one
    description right with and without a cache, and for left- and right-padded batches.

    Args:
        causal: a query sees its own slot and the slots before it.
        window: a query sees only slots less than this far away; 1 = its own, with `causal` it counts back.
        own: False hides from each query its own slot (the diagonal); one that sees no other slot gets zeros.
        prefix: (batch, keys) bool, keys that the causal rule does not hide from anyone (a prefix language model).
        valid: (batch, keys) bool, False for padding.
        segments: (batch, keys) int; a query sees only keys of its own segment (packed sequences).
        allowed: bool, broadcasts to (batch, heads, queries, keys); any other rule.
        added: finite, broadcasts likewise; added to the scores of visible keys. `adding` makes it from any scores.
        once: remembers what was drawn; by default every drawing is a new one.
    """

    causal: bool = False
    window: int | None = None
    own: bool = True
    prefix: Tensor | None = None
    valid: Tensor | None = None
    segments: Tensor | None = None
    allowed: Tensor | None = None
    added: Tensor | None = None
    once: Anew = ANEW

    @classmethod
    def adding(cls, scores: Tensor) -> "AttentionMask":
        """An additive mask: floats that broadcast to (batch, heads, queries, keys), -inf where a key is hidden.

        The most negative numbers of a format hide too, as is customary where -inf is avoided.
        """
        seen = scores > torch.finfo(scores.dtype).min / 2
        return cls(allowed=seen, added=scores.masked_fill(~seen, 0.0))

    def __and__(self, other: "AttentionMask") -> "AttentionMask":
        """Visible under both; what both add is summed."""
        windows = [each for each in (self.window, other.window) if each is not None]
        return AttentionMask(
            causal=self.causal or other.causal,
            window=min(windows) if windows else None,
            own=self.own and other.own,
            prefix=_both_prefixes(self, other),
            valid=_both(self.valid, other.valid),
            segments=_crossed(self.segments, other.segments),
            allowed=_both(self.allowed, other.allowed),
            added=_sum(self.added, other.added),
        )

    @property
    def only_causal(self) -> bool:
        """True if nothing but the causal rule applies, so that a kernel may use its own."""
        return self.causal and self.only_padding_and_causal and self.valid is None

    @property
    def only_padding_and_causal(self) -> bool:
        """True if no rule but these two applies, perhaps none."""
        rules = (self.window, self.prefix, self.segments, self.allowed, self.added)
        return self.own and all(each is None for each in rules)

    def dense(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """Draw the mask: bool, broadcasts to (batch, heads, queries, keys), True = visible; None = all visible."""
        return self.once(self._all, queries, keys, device)

    def additive(self, queries: int, keys: int, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """Draw the mask for a fused kernel: as `dense`, or where something is added as that, with -inf for hidden."""
        return self.once(self._additive, queries, keys, device, dtype)

    def _all(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        return self.tile(slice(0, queries), slice(0, keys), queries, keys, device)  # a range would fix both numbers

    def _additive(self, queries: int, keys: int, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        return biased(self.dense(queries, keys, device), self.added, dtype)

    def tile(self, rows: range | slice, columns: Slots, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """Draw what the mask says about some of all the queries and keys: (batch, heads, rows, columns) or None."""
        drawn = None if self.allowed is None else cut(self.allowed, rows, columns)
        if (self.causal and queries > 1) or self.window is not None or not self.own:
            drawn = _both(drawn, self._near(rows, columns, keys - queries, device))
        if self.valid is not None:
            drawn = _both(drawn, self.valid[:, None, None, _index(columns)])  # (batch, 1, 1, columns)
        if self.segments is not None:
            of_rows = self.segments[:, keys - queries : keys][:, None, _index(rows), None]  # (batch, 1, rows, 1)
            drawn = _both(drawn, of_rows == self.segments[:, None, None, _index(columns)])
        return drawn

    def _near(self, rows: range | slice, columns: Slots, first: int, device: torch.device) -> Tensor:
        """The rules that look at slots, (rows, columns), or with a prefix (batch, 1, rows, columns)."""
        slot = torch.arange(rows.start + first, rows.stop + first, device=device)[:, None]  # (rows, 1)
        key = columns if isinstance(columns, Tensor) else torch.arange(columns.start, columns.stop, device=device)
        back = slot - key  # (rows, columns), slots back from the query to the key
        near = back >= 0 if self.causal else torch.ones_like(back, dtype=torch.bool)
        if self.prefix is not None:
            near = near | self.prefix[:, None, None, _index(columns)]
        if self.window is not None:
            near = near & (back.abs() < self.window)
        return near if self.own else near & (back != 0)

    def padded(self, valid: Tensor | None) -> "AttentionMask":
        """The same rules and this padding too; `valid`: (batch, keys) bool or None."""
        return self if valid is None else replace(self, valid=_both(self.valid, valid))

    def among(self, keys: int, bias: Tensor | None) -> "AttentionMask":
        """The same rules for so many keys: without a window that hides none of them, with a bias that is added too.

        What it draws it keeps: it is meant for the blocks of one pass.
        """
        hides = self.window is not None and (torch.compiler.is_compiling() or self.window < keys)
        return replace(self, window=self.window if hides else None, added=_sum(self.added, bias), once=Once())


def cut(pairs: Tensor, rows: range | slice, columns: Slots) -> Tensor:
    """Some queries and keys of what broadcasts to (..., queries, keys); a size of 1 is left as it is."""
    pairs = pairs[None] if pairs.dim() == 1 else pairs
    if pairs.shape[-2] > 1:
        pairs = pairs[..., _index(rows), :]
    return pairs[..., _index(columns)] if pairs.shape[-1] > 1 else pairs


def biased(allowed: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What a fused kernel takes: the mask itself, or the bias where a key is visible and -inf where it is hidden."""
    if bias is None:
        return allowed
    return bias.to(dtype) if allowed is None else bias.to(dtype).masked_fill(~allowed, -torch.inf)


def _index(part: Slots) -> slice | Tensor:
    return part if isinstance(part, Tensor) else slice(part.start, part.stop)


def _both(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right


def _sum(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right


def _both_prefixes(left: AttentionMask, right: AttentionMask) -> Tensor | None:
    """Keys that no causal rule hides: those of both prefixes, where both rules are causal."""
    if not (left.causal and right.causal):
        return left.prefix if left.causal else right.prefix
    if left.prefix is None or right.prefix is None:
        return None
    return left.prefix & right.prefix


def _crossed(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    """Segments that are equal where both are equal: one number for each pair of numbers, (batch, keys)."""
    if left is None or right is None:
        return right if left is None else left
    low, high = right.aminmax()
    return left * (high - low + 1) + right


OPEN = AttentionMask()
CAUSAL = AttentionMask(causal=True)
