"""Rotary position embedding (Su et al., 2021, arXiv:2104.09864)."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice
from clearhead.model.fused import can_rotate, rotate
from clearhead.model.position.base import POSITIONS, Position
from clearhead.model.position.scaling import SCALINGS

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


@POSITIONS.register("rope")
class Rotary(Position):
    """Rotate pair i of the features of queries and keys by t * base^(-2i/width) radians.

    The angles are never computed in less than float32, whatever the number format of the model: at position 500
    bfloat16 cannot tell neighbours apart.

    Args:
        base: the longest wave is 2 pi times this many tokens.
        layout: which features are a pair: halves = (i, i + width/2) as in Llama; pairs = (2i, 2i + 1) as in RoFormer.
        fraction: share of the features of a head that is rotated, the first ones; their number is the width.
        scaling: how the frequencies are changed for longer texts.
    """

    rotates: ClassVar[bool] = True

    def __init__(
        self,
        d_model: int,
        heads: int,
        d_head: int,
        length: int,
        *,
        base: float = 10_000.0,
        layout: Literal["halves", "pairs"] = "halves",
        fraction: Fraction = 1.0,
        scaling: Annotated[Choice, AfterValidator(SCALINGS.check)] = Choice(kind="none"),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.width = int(d_head * fraction)
        if self.width % 2 or not self.width:
            found = f"d_head {d_head}" + (f", fraction {fraction}" if fraction < 1 else "")
            raise ConfigError("rope turns pairs of features", found=found, remedy="set model.d_head to an even number")
        if base <= 0:
            raise ConfigError("the base of rope is a length", found=f"base {base}", expected="a positive number")
        self.base, self.layout = base, layout
        self.scaling = SCALINGS.build(scaling, base)

    def turns(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What each feature is multiplied by, and its partner: (batch or 1, 1, length, width) each."""
        exact = torch.promote_types(dtype, torch.float32)
        exponent = torch.arange(0, self.width, 2, dtype=exact, device=positions.device) / self.width  # (width / 2,)
        angles = positions[:, None, :, None] * self.scaling(self.base**-exponent)  # (batch or 1, 1, length, width / 2)
        cosine, sine = self.scaling.amplitude * angles.cos(), self.scaling.amplitude * angles.sin()
        join, _ = LAYOUTS[self.layout]
        return join(cosine, cosine).to(dtype), join(-sine, sine).to(dtype)

    def rotate(self, states: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        own, partner = turns
        if self.width == states.shape[-1]:
            return self._turned(states, own, partner)
        first, rest = states[..., : self.width], states[..., self.width :]
        return torch.cat([self._turned(first, own, partner), rest], dim=-1)

    def _turned(self, states: Tensor, own: Tensor, partner: Tensor) -> Tensor:
        """(left, right) -> (left * cosine - right * sine, right * cosine + left * sine) of each pair."""
        if self.training and self.layout == "halves" and can_rotate(states, own, partner):
            return rotate(states, own, partner)
        _, swap = LAYOUTS[self.layout]
        return torch.addcmul(states * own, swap(states), partner)


Join = Callable[[Tensor, Tensor], Tensor]
Swap = Callable[[Tensor], Tensor]
LAYOUTS: dict[str, tuple[Join, Swap]] = {  # how the two members of the pairs make a width, and how they change places
    "halves": (
        lambda left, right: torch.cat([left, right], dim=-1),
        lambda states: states.roll(states.shape[-1] // 2, dims=-1),
    ),
    "pairs": (
        lambda left, right: torch.stack([left, right], dim=-1).flatten(-2),
        lambda states: states.view(*states.shape[:-1], -1, 2).flip(-1).flatten(-2),
    ),
}
