"""The doorway of the objective family: a model and a batch in, a summed loss out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from clearhead.core.registry import Registry
from clearhead.data.store import Store
from clearhead.model import Transformer
from clearhead.text import Tokenizer


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss summed over what counts, so that parts of a batch can be added up and divided once."""

    value: Tensor  # scalar, nats summed over `count`; has the gradients
    count: int  # tokens or sentences that the sum runs over
    metrics: dict[str, Tensor] = field(default_factory=dict)  # further sums over the same `count`, without gradients


class Objective:
    """One training objective.

    Attributes:
        task: what it works on, a name of the family of tasks.
        kinds: of the models that it can train.
        heads: that it can train.
        keeps_targets: whether each target must be read as it lies in the store, epoch after epoch.
    """

    task: ClassVar[str] = "translation"
    kinds: ClassVar[tuple[str, ...]] = ("encoder-decoder",)
    heads: ClassVar[tuple[str, ...]] = ("lm",)
    keeps_targets: ClassVar[bool] = False

    def fetch(self, out: Path) -> None:
        """Get what training needs besides model and data, before anything is written to the run folder `out`."""

    def settle(self, source: Tokenizer, target: Tokenizer) -> None:
        """Refuse tokenizers that do not go with it."""

    def prepare(self, stores: Sequence[Store], device: torch.device, *, rehearsal: bool) -> None:
        """Write to the run folder what can be known of sentence pairs before the training, or find it there.

        Called for objectives of translation alone. In a rehearsal anything will do that takes the same room.
        """

    def history(self) -> dict[str, Any]:
        """What a bundle should remember of it."""
        return {}

    def __call__(self, model: Any, batch: Any) -> Loss:
        """The loss of one batch."""
        raise NotImplementedError

    def learner(self, model: Transformer) -> Any:
        """What is trained: the model, or the model with a helper; `product` is the model again."""
        return model

    def product(self, learner: Any) -> Transformer:
        """The model in what is trained."""
        model: Transformer = learner
        return model


Collate = Callable[[Sequence[Any], np.random.Generator], Any]  # rows of a reading, draws -> batch


class TextObjective(Objective):
    """An objective on rows of text: what becomes of a row before the model reads it, and the loss.

    Attributes:
        readings: whose rows it understands; the first is taken where a recipe names none.
        shift, room: see `Frame`.
    """

    task = "text"
    kinds = ("decoder-only",)
    readings: ClassVar[tuple[str, ...]] = ("packed", "windows")
    shift: ClassVar[int] = 0
    room: ClassVar[int] = 0
    likelihood: ClassVar[bool] = False  # the loss over a text is -log p(text), so bits per byte can be told

    def collator(self, tokenizer: Tokenizer, width: int) -> Collate:
        """A function from rows and a generator to a batch of `width` tokens a row; all draws come from the generator.

        Raises:
            TokenizerError: the vocabulary lacks a special token that this objective needs.
        """
        raise NotImplementedError


OBJECTIVES: Registry[Objective] = Registry("objective")
