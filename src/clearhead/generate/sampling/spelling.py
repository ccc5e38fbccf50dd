"""What tokens spell, for constraints on text: this room knows ids only, so the bytes are handed in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Spelling:
    """The bytes of each token; make it once for a tokenizer and share it among requests.

    Args:
        tokens: the bytes that each id adds to a text, in the order of ids; None for a token that is not text.
        encode: how the tokenizer cuts a text, so that what a constraint forces is cut as in training.
        compiled: what constraints have prepared for this vocabulary, by their own keys.
    """

    tokens: Sequence[bytes | None]
    encode: Callable[[str], list[int]] | None = None
    compiled: dict[object, Any] = field(default_factory=dict, repr=False)

    def cut(self, text: bytes) -> list[int]:
        """Ids that spell the bytes, as far as any do: the tokenizer's own cut, or else the longest token first."""
        if self.encode is not None:
            ids = self.encode(text.decode(errors="replace"))
            if b"".join(self.tokens[each] or b"" for each in ids) == text:
                return ids
        return self._longest_first(text)

    def _longest_first(self, text: bytes) -> list[int]:
        ids, longest = self._ids()
        found: list[int] = []
        while text:
            piece = next((text[:size] for size in range(longest, 0, -1) if text[:size] in ids), None)
            if piece is None:
                break
            found.append(ids[piece])
            text = text[len(piece) :]
        return found

    def _ids(self) -> tuple[dict[bytes, int], int]:
        """The id of each spelling, the lowest of several, and the bytes of the longest."""
        if "ids" not in self.compiled:
            ids = {each: token for token, each in reversed(list(enumerate(self.tokens))) if each}
            self.compiled["ids"] = ids, max(map(len, ids), default=0)
        found: tuple[dict[bytes, int], int] = self.compiled["ids"]
        return found
