"""Blocks of cache slots: who holds which, and which begin a known text. No tensors: tested in microseconds.

A block holds the keys and values of `size` neighbouring tokens of a text. Texts that begin alike may hold the same
blocks, each counted once for every holder; a block that several hold is copied before one of them writes into it.
Source: Kwon et al., 2023, arXiv:2309.06180, section 4 ("PagedAttention").
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

Key = tuple[Hashable, tuple[int, ...]]  # name of the block before (or the root of the text), tokens of the block


@dataclass(frozen=True)
class Name:
    """A beginning of a text that ends with a full block; never used again once it is forgotten."""

    number: int


class Blocks:
    """Hands out blocks, counts their holders, and finds blocks that begin a known text.

    Args:
        count: blocks there are.
        size: tokens of a block.
        shares: texts that begin alike hold the same blocks.
    """

    def __init__(self, count: int, size: int, *, shares: bool) -> None:
        self.count, self.size, self.shares = count, size, shares
        self._empty = list(range(count - 1, -1, -1))  # hold nothing; the next one is the last
        self._idle: OrderedDict[int, None] = OrderedDict()  # nobody's, but of a known text; the oldest first
        self._holders = [0] * count
        self._known: dict[Key, tuple[Name, int]] = {}  # text -> its name and block
        self._keys: dict[int, Key] = {}  # the other way round
        self._names = 0

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._empty) + len(self._idle)

    @property
    def held(self) -> int:
        """Blocks that somebody holds."""
        return self.count - self.free

    def holders(self, block: int) -> int:
        """How many hold a block."""
        return self._holders[block]

    def needed(self, tokens: int) -> int:
        """Blocks for so many tokens."""
        return -(-tokens // self.size)

    def take(self, count: int) -> list[int]:
        """So many blocks for one holder; the caller has looked at `free`. The longest idle text is forgotten first."""
        return [self._take() for _ in range(count)]

    def _take(self) -> int:
        if self._empty:
            block = self._empty.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            del self._known[self._keys.pop(block)]
        self._holders[block] = 1
        return block

    def hold(self, blocks: Sequence[int]) -> list[int]:
        """One more holder for each of these blocks."""
        for block in blocks:
            self._holders[block] += 1
            self._idle.pop(block, None)
        return list(blocks)

    def release(self, blocks: Sequence[int]) -> None:
        """One holder less for each; the end of a text is forgotten before its begin."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._keys:
                self._idle[block] = None
            else:
                self._empty.append(block)

    def replace(self, block: int) -> int:
        """A block of one's own in place of one that others hold too; the caller copies what it holds."""
        (own,) = self.take(1)
        self.release([block])
        return own

    def find(self, tokens: Sequence[int], root: Hashable = None) -> list[int]:
        """The known blocks that `tokens` begin with; at least one token is left over, to be computed."""
        if not self.shares:
            return []
        found, before = [], root
        for part in self._parts(tokens[: len(tokens) - 1]):
            entry = self._known.get((before, part))
            if entry is None:
                break
            before, block = entry
            found.append(block)
        return found

    def remember(self, tokens: Sequence[int], blocks: Sequence[int], root: Hashable = None) -> None:
        """Make known what the full blocks of `tokens` hold, so that `find` finds them.

        Args:
            tokens: of one text from its first on; those whose keys and values are computed.
            blocks: of the text, in order.
            root: what the keys and values depend on besides the tokens, such as a source.
        """
        if not self.shares:
            return
        before = root
        for part, block in zip(self._parts(tokens), blocks, strict=False):
            key = (before, part)
            if key not in self._known and block not in self._keys:
                self._names += 1
                self._known[key], self._keys[block] = (Name(self._names), block), key
            if key not in self._known:
                return
            before, _ = self._known[key]

    def _parts(self, tokens: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The full blocks of a text."""
        ends = range(self.size, len(tokens) + 1, self.size)
        return (tuple(tokens[end - self.size : end]) for end in ends)
