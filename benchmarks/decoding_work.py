"""What benchmarks.decoding measures: works, and the systems that do them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from clearhead.model import Transformer

PRODUCTS = {"float32": "float32", "int8": "int8"}  # precision -> our way to keep matrices
Texts = list[list[int]]  # tokens that were written


class System(ABC):
    """Somebody who can do a work."""

    name: str
    precision: str = "float32"
    note: str = ""  # what must be known of its numbers

    @property
    def label(self) -> str:
        """Name and precision."""
        return f"{self.name} {self.precision}"

    @abstractmethod
    def use(self, threads: int) -> None:
        """Work with so many threads from now on."""

    def wake(self) -> None:  # noqa: B027 (few have anything to do)
        """Make ready what others may have changed."""

    def rest(self) -> None:  # noqa: B027
        """Stop what would go on in the background while others are measured."""

    @abstractmethod
    def run(self) -> Texts:
        """Do the work once."""


class Torch(System):
    """A system that computes with torch in this process."""

    threads = 1

    def use(self, threads: int) -> None:
        self.threads = threads
        self.wake()

    def wake(self) -> None:
        torch.set_num_threads(self.threads)


@dataclass
class Work:
    """What is to be done, and by whom; ours is the first."""

    name: str
    systems: list[System]
    tokens: int  # written in one run
    bytes: float  # that one run must read at least: weights and caches
    step: float  # likewise of one step
    exact: bool = True  # all write the same texts


def step_bytes(model: Transformer, rows: int, length: float, source: float = 0, texts: int = 0) -> float:
    """Bytes of weights and caches that one step of a decoder reads.

    Args:
        rows: that grow by one token in this step.
        length: tokens of each that were read before, on average.
        source: tokens of each source, which all rows of a text share.
        texts: how many sources there are.
    """
    config = model.config
    width = config.sizes.kv_heads * config.sizes.d_head
    weights = sum(each.numel() for each in model.decoder.parameters() if each is not model.output)
    if texts:
        weights -= config.decoder_layers * 2 * width * (config.d_model + 1)  # keys and values of the source
    cache = config.decoder_layers * 2 * width * (rows * length + texts * source)
    return (weights + model.output.numel() + cache) * model.output.element_size()
