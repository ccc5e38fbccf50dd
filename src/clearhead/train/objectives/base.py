"""The doorway of the objective family: a model and a batch in, a summed loss out."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from clearhead.core.registry import Registry
from clearhead.model import Transformer


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss summed over what counts, so that parts of a batch can be added up and divided once."""

    value: Tensor  # scalar, nats summed over `count`; has the gradients
    count: int  # tokens or sentences that the sum runs over
    metrics: dict[str, Tensor] = field(default_factory=dict)  # further sums over the same `count`, without gradients


class Objective(Protocol):
    """One training objective."""

    def __call__(self, model: Transformer, batch: Any) -> Loss:
        """The loss of one batch."""


OBJECTIVES: Registry[Objective] = Registry("objective")
