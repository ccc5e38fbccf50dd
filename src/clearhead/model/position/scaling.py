"""How rotary positions are stretched, so that a model reads longer texts than it was trained on.

A scaling changes the frequencies of the pairs, fast ones first, and perhaps the length of what is rotated.
"""

import math

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from clearhead.core.registry import Registry


class Scaling:
    """Wiring: base of the frequencies. Called with them, (pairs,) in radians per token, it returns others."""

    amplitude = 1.0  # factor of rotated queries and keys

    def __init__(self, base: float) -> None:
        self.base = base

    def __call__(self, frequencies: Tensor) -> Tensor:
        """(pairs,) -> (pairs,)."""
        return frequencies


SCALINGS: Registry[Scaling] = Registry("rope scaling")
SCALINGS.register("none")(Scaling)


@SCALINGS.register("linear")
class Linear(Scaling):
    """Position interpolation: `factor` tokens turn as far as one did (Chen et al., 2023, arXiv:2306.15595)."""

    def __init__(self, base: float, *, factor: PositiveFloat) -> None:
        super().__init__(base)
        self.factor = factor

    def __call__(self, frequencies: Tensor) -> Tensor:
        return frequencies / self.factor


@SCALINGS.register("ntk")
class NTK(Linear):
    """The fastest pair keeps its frequency, the slowest is divided by `factor`: a larger base (bloc97, 2023)."""

    def __call__(self, frequencies: Tensor) -> Tensor:
        pairs = len(frequencies)
        place = torch.arange(pairs, dtype=frequencies.dtype, device=frequencies.device) / max(pairs - 1, 1)  # 0 ... 1
        return frequencies * self.factor**-place


@SCALINGS.register("llama3")
class Llama3(Linear):
    """Divide only waves longer than original/low by `factor`, keep those shorter than original/high, blend between.

    Source: Llama 3.1 (Meta, 2024, arXiv:2407.21783, and its published code).
    """

    def __init__(
        self,
        base: float,
        *,
        factor: PositiveFloat = 8.0,
        low: PositiveFloat = 1.0,
        high: PositiveFloat = 4.0,
        original: PositiveInt = 8_192,
    ) -> None:
        super().__init__(base, factor=factor)
        self.low, self.high, self.original = low, high, original

    def __call__(self, frequencies: Tensor) -> Tensor:
        turns = self.original * frequencies / (2 * math.pi)  # within the length of the training
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return frequencies * (kept + (1 - kept) / self.factor)


@SCALINGS.register("yarn")
class YaRN(Linear):
    """Pairs that turn more than `fast` times in the training length keep their frequency; below `slow` it is divided.

    Between them the pair's index blends; queries and keys grow by 0.1 ln(factor) + 1 (Peng et al., 2023,
    arXiv:2309.00071, sections 3.2 and 3.4).
    """

    def __init__(
        self,
        base: float,
        *,
        factor: PositiveFloat,
        original: PositiveInt,
        fast: PositiveFloat = 32.0,
        slow: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(base, factor=factor)
        self.original, self.fast, self.slow = original, fast, slow
        self.amplitude = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0

    def __call__(self, frequencies: Tensor) -> Tensor:
        pairs = len(frequencies)
        first = max(math.floor(self._pair(self.fast, pairs)), 0)
        last = min(math.ceil(self._pair(self.slow, pairs)), 2 * pairs - 1)
        index = torch.arange(pairs, dtype=frequencies.dtype, device=frequencies.device)
        divided = ((index - first) / max(last - first, 0.001)).clamp(0, 1)
        return frequencies * (1 - divided + divided / self.factor)

    def _pair(self, turns: float, pairs: int) -> float:
        """The index of the pair that turns so often within the training length."""
        return pairs * math.log(self.original / (turns * 2 * math.pi)) / math.log(self.base)
