"""A mixture of experts: each token goes through a few of many networks (Shazeer et al., 2017, arXiv:1701.06538).

with routings(model) as seen:
    hidden = model(source, target)
loss = loss + 0.01 * balance(seen)  # keeps all experts busy
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice
from clearhead.model.feedforward.base import FEEDFORWARDS, FeedForward

Expert = Annotated[Choice, AfterValidator(FEEDFORWARDS.check)]
Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, eq=False)
class Routing:
    """Where the tokens of one batch go in one layer."""

    probabilities: Tensor  # (tokens, experts)
    chosen: Tensor  # (tokens, active) int64
    weights: Tensor  # (tokens, active), sum to 1


class Router(nn.Module):
    """The most probable experts of each token, their probabilities scaled to sum to 1 (Jiang et al., 2024, Mixtral)."""

    def __init__(self, d_model: int, experts: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.scores = nn.Linear(d_model, experts, bias=False)

    def forward(self, tokens: Tensor) -> Routing:
        """(tokens, d_model) -> the routing; probabilities in at least float32."""
        scores = self.scores(tokens)
        probabilities = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=-1)
        weights, chosen = probabilities.topk(self.active, dim=-1)
        return Routing(probabilities, chosen, weights / weights.sum(dim=-1, keepdim=True))


@FEEDFORWARDS.register("mixture")
class Mixture(FeedForward):
    """The weighted sum of a token's chosen experts; each expert is a feed-forward network of width d_ff.

    Args:
        experts: how many there are.
        active: how many each token goes through.
        expert: their kind.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float,
        bias: bool,  # noqa: FBT001 (wiring)
        *,
        experts: Count = 4,
        active: Count = 2,
        expert: Expert = Choice(kind="swiglu"),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(d_model, d_ff, dropout, bias)
        if active > experts:
            found = f"{active} active of {experts} experts"
            raise ConfigError("more active experts than there are", found=found)
        self.router = Router(d_model, experts, active)
        self.experts = nn.ModuleList(FEEDFORWARDS.build(expert, d_model, d_ff, dropout, bias) for _ in range(experts))

    def forward(self, hidden: Tensor) -> Tensor:
        tokens = hidden.reshape(-1, hidden.shape[-1])  # (tokens, d_model)
        routing = self.router(tokens)
        mixed = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            rows, slots = (routing.chosen == index).nonzero(as_tuple=True)  # each (tokens of this expert,)
            share = routing.weights[rows, slots, None] * expert(tokens[rows])
            mixed = mixed.index_add(0, rows, share.to(mixed.dtype))
        return mixed.view_as(hidden)


@contextmanager
def routings(model: nn.Module) -> Iterator[list[Routing]]:
    """Collect the routing of every mixture that runs inside the block, in the order of the calls, with gradients."""
    seen: list[Routing] = []
    routers = [each for each in model.modules() if isinstance(each, Router)]
    hooks = [each.register_forward_hook(lambda module, inputs, routing: seen.append(routing)) for each in routers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def balance(seen: Sequence[Routing], valid: Tensor | None = None) -> Tensor:
    """The loss that keeps experts equally busy (Fedus et al., 2021, arXiv:2101.03961, section 2.2), mean over layers.

    experts * sum_e (share of tokens that choose e) * (mean probability of e); its least value is the number of active
    experts, when all are equally likely.

    Args:
        seen: routings of tokens in the order of `valid`.
        valid: (batch, length) bool, False for padding, which does not count; None = no padding.
    """
    return torch.stack([_imbalance(each, valid) for each in seen]).mean()


def _imbalance(routing: Routing, valid: Tensor | None) -> Tensor:
    count = routing.probabilities.shape[-1]
    kept = torch.ones_like(routing.chosen[:, 0], dtype=torch.bool) if valid is None else valid.flatten()
    chosen = nn.functional.one_hot(routing.chosen[kept], count).sum(dim=1)  # (tokens, experts)
    share = chosen.to(routing.probabilities.dtype).mean(dim=0)
    return count * (share * routing.probabilities[kept].mean(dim=0)).sum()
