"""The doorway of the family of caches that serve many samples at once, each row with a length of its own.

A step of the engine makes at most a few calls of the model. For each it opens a call, which is the cache that the
model reads and writes through, and closes it:

    read     some tokens of new samples, side by side; those whose tokens are all read then join the rows
    advance  one token for every sample that has joined
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.core.registry import Registry
from clearhead.model import LayerCache, ModelConfig
from clearhead.model.cache import KeyValue
from clearhead.model.stack import STACKS
from clearhead.model.stack.base import Blocks


@dataclass(eq=False)
class Tokens:
    """What a cache knows of a sample: its tokens, how many the cache holds, and in which blocks."""

    tokens: list[int]  # all so far
    computed: int = 0  # tokens whose keys and values the cache holds
    blocks: list[int] = field(default_factory=list)  # where; only a paged cache looks at them
    source: tuple[int, ...] | None = None  # what an encoder-decoder reads

    @property
    def remaining(self) -> int:
        """Tokens that are not computed."""
        return len(self.tokens) - self.computed


Held_co = TypeVar("Held_co", bound=Tokens, covariant=True)


@dataclass(frozen=True, eq=False)
class Part(Generic[Held_co]):
    """Tokens start to stop of a sample, to be read in one call."""

    sample: Held_co
    start: int
    stop: int

    @property
    def last(self) -> bool:
        """Whether these are the last tokens of the sample, so that it joins the rows."""
        return self.stop == len(self.sample.tokens)


MemoryOf = Callable[[int, Callable[[], KeyValue]], KeyValue]  # block, how to compute -> keys and values of the sources


def no_memory(index: int, compute: Callable[[], KeyValue]) -> KeyValue:
    """For models without an encoder."""
    return compute()


class Call(Protocol):
    """What one call of the model reads and writes through; `layer` makes it a Cache of the model."""

    positions: Tensor  # (rows, new) int64, of the new tokens
    valid: Tensor | None  # (rows, keys) bool, what belongs to its row; None = all

    def layer(self, index: int) -> LayerCache:
        """The cache of block `index`."""

    def close(self) -> None:
        """Keep what was written."""


class Cache(ABC):
    """Keys and values of many samples. Wiring: the config of the model, blocks there may be, tokens of a block."""

    exact: ClassVar[bool] = True  # gives back the numbers it was given
    shares: ClassVar[bool] = False  # samples may begin with blocks that another sample has filled

    def __init__(self, config: ModelConfig, blocks: int, size: int) -> None:
        self.config = config

    @abstractmethod
    def read(self, parts: Sequence[Part[Tokens]], device: torch.device, memory: MemoryOf = no_memory) -> Call:
        """Open a call for these tokens: all from the start of their samples, or one part alone."""

    @abstractmethod
    def advance(self, device: torch.device, memory: MemoryOf = no_memory) -> Call:
        """Open a call for the newest token of every sample in `order`."""

    @property
    @abstractmethod
    def order(self) -> list[Tokens]:
        """The samples that have joined, in the order of the rows."""

    @abstractmethod
    def fork(self, sample: Tokens, child: Tokens) -> None:
        """A new sample with the tokens of one that has joined."""

    @abstractmethod
    def drop(self, sample: Tokens) -> None:
        """Forget a sample, wherever it is."""

    def copy(self, sample: Tokens, index: int, old: int) -> None:  # noqa: B027 (only a paged cache has anything to do)
        """Block `index` of a sample is a new one: fill it with what the block `old` holds."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Bytes of keys and values, the room not in use included."""


CACHES: Registry[Cache] = Registry("cache")


def require_tokens(name: str, config: ModelConfig) -> None:
    """Refuse a model that keeps something else than one state for each token."""
    if not issubclass(cast(type, STACKS.get(config.stack.kind)), Blocks):
        found, remedy = f"stack {config.stack.kind}", "use the dense cache"
        raise ModelError(f"a {name} cache holds one key for each token", found=found, remedy=remedy)
