"""The memory of Transformer-XL: keys and values carried from one segment of a text to the next."""

from collections.abc import Callable

import torch
from torch import Tensor

from clearhead.model.cache import KeyValue


class SegmentLayer:
    """One block's keys and values of the last tokens, carried from one segment of a text to the next."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.kept: tuple[Tensor, Tensor, Tensor] | None = None

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put what is kept before the new tokens and return both; keep the last tokens of both, without gradients."""
        positions = positions.expand(len(key), -1)  # (rows, new)
        if self.kept is not None:
            key, value = (torch.cat([old, new], dim=2) for old, new in zip(self.kept, (key, value), strict=False))
            positions = torch.cat([self.kept[2], positions], dim=1)
        start = max(key.shape[2] - self.tokens, 0)
        self.kept = (key[:, :, start:].detach(), value[:, :, start:].detach(), positions[:, start:])
        return key, value, positions

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """The encoder's keys and values; each segment has its own source, so nothing is kept."""
        return compute()


class SegmentCache:
    """The memory of Transformer-XL (Dai et al., 2019, arXiv:1901.02860, section 3.2): for training and for reading on.

    Each segment of a text also reads the last `tokens` tokens before it. Positions go on over segments, and rows must
    stay the same texts. The paper keeps hidden states and projects them anew; the keys and values kept here are the
    same numbers until the weights change, and no gradient reaches the projections through them.
    """

    def __init__(self, layers: int, tokens: int) -> None:
        self._layers = [SegmentLayer(tokens) for _ in range(layers)]

    def layer(self, index: int) -> SegmentLayer:
        """The memory of block `index`."""
        return self._layers[index]
