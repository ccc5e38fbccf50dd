"""Entries between the tensors of another library and ours. One entry says both directions.

A name may hold `{layer}`, theirs `{group}` for the distinct layers of a model that shares them. An entry counts in a
model that has the tensor of our name, and not in others; where two entries name one tied tensor, the first counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clearhead.model import ModelConfig


class Form:
    """How one of our tensors is made of theirs, and taken apart again without a loss."""

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        """Their tensors -> ours."""
        return parts[0]

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        """Ours -> theirs."""
        return [tensor]

    def of_bias(self) -> "Form":
        """The form of the bias that goes with a weight of this form."""
        return self


class Transposed(Form):
    """Theirs is (input, output) features, ours (output, input)."""

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return parts[0].T

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        return [tensor.T]


class Heads(Form):
    """W_Q, W_K and W_V (or their biases) as row blocks of one matrix."""

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return torch.cat(list(parts))

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        return list(torch.split(tensor, config.sizes.rows))


class Row(Form):
    """Theirs has one more axis of length 1 at the front."""

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return parts[0][0]

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        return [tensor[None]]


SAME, TRANSPOSED, HEADS, ROW = Form(), Transposed(), Heads(), Row()


@dataclass(frozen=True)
class Entry:
    """Their tensors, ours, and the form between them."""

    theirs: tuple[str, ...]
    ours: str
    form: Form = SAME

    def at(self, layer: int, group: int) -> "Entry":
        """The same entry for one layer."""
        names = tuple(each.format(layer=layer, group=group) for each in self.theirs)
        return Entry(names, self.ours.format(layer=layer), self.form)


def one(theirs: str, ours: str, form: Form = SAME) -> Entry:
    """One tensor for one tensor."""
    return Entry((theirs,), ours, form)


def linear(theirs: str, ours: str, form: Form = SAME, bias: Form = SAME) -> Iterator[Entry]:
    """Weight and bias of a linear map or a norm."""
    yield one(f"{theirs}.weight", f"{ours}.weight", form)
    yield one(f"{theirs}.bias", f"{ours}.bias", bias)


def projections(theirs: str, names: Sequence[str], ours: str, form: Form = HEADS) -> Iterator[Entry]:
    """Weights and biases of their three maps, `theirs` with each of the names for `*`, and of our one."""
    maps = [theirs.replace("*", each) for each in names]
    yield Entry(tuple(f"{each}.weight" for each in maps), f"{ours}.weight", form)
    yield Entry(tuple(f"{each}.bias" for each in maps), f"{ours}.bias", form.of_bias())
