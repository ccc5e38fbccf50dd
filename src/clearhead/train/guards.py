"""What watches over a training: numbers that are not finite, and how far an update moves the weights."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from clearhead.core.errors import TrainingError
from clearhead.core.processes import World
from clearhead.data.buckets import Place
from clearhead.model.inventory import grouped
from clearhead.train.parallel import Parallel

GENTLER = "lower train.learning_rate or lengthen the warm-up, then continue with --resume"


def refuse_loss(losses: list[float], update: int, after: Place, world: World) -> None:
    """Stop where a loss is not finite, and name the batch; every process calls this with its losses of the update."""
    shares = world.gather(losses)
    wrong = [
        (rank + number * world.size, loss)
        for rank, share in enumerate(shares)
        for number, loss in enumerate(share)
        if not math.isfinite(loss)
    ]
    index, loss = min(wrong, default=(0, math.inf))  # none: finite numbers whose sum is not
    where = batch_name(index, sum(map(len, shares)), after)
    raise TrainingError(f"the loss is not finite at update {update}", found=f"{loss} in {where}", remedy=GENTLER)


def refuse_gradients(norm: float, update: int, batches: int, after: Place) -> None:
    """Stop where the gradients of an update of so many batches are not finite."""
    if not math.isfinite(norm):
        first, last = batch_name(0, batches, after), batch_name(batches - 1, batches, after)
        where = first if first == last else f"{first} to {last}"
        what = f"the gradients are not finite at update {update}"
        raise TrainingError(what, found=f"norm {norm} from {where}", remedy=GENTLER)


def refuse_weights(weights: Mapping[str, Tensor], update: int) -> None:
    """Stop before weights that are not finite take the place of good ones in a checkpoint."""
    for name, each in weights.items():
        if not each.isfinite().all():
            what = f"the weights are not finite after update {update}"
            raise TrainingError(what, found=name, remedy=GENTLER)


def batch_name(index: int, count: int, after: Place) -> str:
    """The name of one of the `count` batches of an update, counted from 0; `after`: the place after the update."""
    number = after.batch - count + 1 + index
    return f"batch {number} of epoch {after.epoch}" if number > 0 else f"the last batches of epoch {after.epoch - 1}"


def update_ratios(model: nn.Module, step: Callable[[], object], parallel: Parallel) -> dict[str, float]:
    """Make a step and tell |update| / |weights| of each group of trained parameters.

    A ratio of about 1e-3 is healthy; one far below does not learn, one far above forgets what it has learned.
    """
    groups = {
        name: [parallel.own(each.detach()) for each in members if each.requires_grad and parallel.owns(each)]
        for name, members in grouped(model).items()
        if any(each.requires_grad for each in members)
    }
    before = {name: [each.clone() for each in members] for name, members in groups.items()}
    step()
    squares: list[float] = []
    for name, old in before.items():
        squares += _square(map(torch.sub, groups[name], old)), _square(old)
    sums = iter(parallel.world.total(*squares))  # of whole models it is the same ratio, both sums being so many times
    return {name: math.sqrt(next(sums) / max(next(sums), math.ulp(0.0))) for name in before}


def _square(tensors: Iterable[Tensor]) -> float:
    return sum(float(torch.linalg.vector_norm(each)) ** 2 for each in tensors)
