"""Digits for plain networks: shuffled by seed and split in three, and perceptrons that read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearhead.core.registry import Choice
from clearhead.core.seeds import derive
from clearhead.data.synthetic.digits import SIDE, digits
from clearhead.model.norm import NORMS

CLASSES = 10
LEARNING, CHOOSING = 1147, 200  # pictures to learn from and to choose by; the other 450 are the test


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures (count, 64) from -1 to 1 and which digit each is (count,)."""

    pixels: Tensor
    labels: Tensor

    def batch(self, size: int, generator: torch.Generator) -> "Pictures":
        """Some of them at random, with repetition."""
        picked = torch.randint(len(self.pixels), (size,), generator=generator)
        return Pictures(self.pixels[picked], self.labels[picked])

    def loss(self, network: nn.Module) -> Tensor:
        """Nats per picture, ()."""
        return F.cross_entropy(network(self.pixels), self.labels)

    @torch.no_grad()
    def accuracy(self, network: nn.Module, size: int | None = None) -> float:
        """Share that is right, in the mode that the network is in; `size`: in batches of so many, the rest left out."""
        parts = range(0, len(self.pixels) - (size or 1) + 1, size) if size else [0]
        said = [network(self.pixels[at : at + (size or len(self.pixels))]).argmax(dim=-1) for at in parts]
        found = torch.cat(said)
        return float((found == self.labels[: len(found)]).float().mean())


def pictures(seed: int) -> tuple[Pictures, Pictures, Pictures]:
    """To learn from, to choose by, and to test on; the seed shuffles."""
    images, labels = digits()
    pixels = images.flatten(1).float() * 2 - 1  # (1797, 64)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(derive(seed, "digits")))
    first, second, third = (order[:LEARNING], order[LEARNING : LEARNING + CHOOSING], order[LEARNING + CHOOSING :])
    return tuple(Pictures(pixels[each], labels[each]) for each in (first, second, third))  # type: ignore[return-value]


def perceptron(norm: Choice, activation: Callable[[], nn.Module], widths: Sequence[int], seed: int) -> nn.Sequential:
    """64 pixels, hidden layers (linear, norm, activation) of these widths, 10 digits; the seed sets the weights."""
    torch.manual_seed(derive(seed, "weights"))
    layers: list[nn.Module] = []
    for before, width in zip((SIDE**2, *widths), widths, strict=False):
        layers += [nn.Linear(before, width), NORMS.build(norm, width), activation()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))
