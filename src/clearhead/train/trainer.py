"""The loop: batches in, updates, and now and then a log line, a validation and a checkpoint.

A run is a function of recipe and seed: everything that changes on the way lives in State, in the optimiser and in
torch's generator, and all three are in a checkpoint.
"""

import math
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from clearhead.core.devices import autocast
from clearhead.core.errors import TrainingError
from clearhead.core.processes import ALONE, World
from clearhead.core.progress import track
from clearhead.core.seeds import torch_states
from clearhead.data.buckets import Place
from clearhead.model import Transformer
from clearhead.train.checkpoint import Checkpoints, State
from clearhead.train.metrics import Record
from clearhead.train.objectives import Objective
from clearhead.train.optimizers import OPTIMIZERS, parameter_groups
from clearhead.train.recipe import Recipe
from clearhead.train.schedules import SCHEDULES
from clearhead.train.signals import StopRequest

TRIAL = (10, 30)  # updates between which the speed is measured for a time budget


class Batch(Protocol):
    """What the loop asks of a batch."""

    @property
    def tokens(self) -> int:
        """What the loss is summed over."""

    def to(self, device: torch.device) -> Any:
        """The batch on a device."""


@dataclass
class Trainer:
    """One training of one model."""

    recipe: Recipe
    model: Transformer
    objective: Objective
    batches: Callable[[Place], Iterator[tuple[Sequence[Batch], Place]]]  # this process's share of each update
    validate: Callable[[], dict[str, Any]]  # metrics of the model as it is; `metric` among them, larger is better
    checkpoints: Checkpoints
    record: Callable[[int], Record]  # opens the record of the run at an update
    device: torch.device
    dtype: torch.dtype
    world: World = ALONE

    def fit(self) -> State:
        """Train to the end, to early stopping or to a stop request; returns the last state."""
        plan = self.recipe.train
        self.optimizer = OPTIMIZERS.build(plan.optimizer)(parameter_groups(self.model))
        state = self.checkpoints.restore(self.model, self.optimizer, self.world.rank)
        self.world.agree(self.model)
        self._plan(state, state.updates or plan.updates)
        record = self.record(state.update) if self.world.first else None
        stream = self.batches(Place(state.epoch, state.batch))
        with StopRequest() as stop, track("update", state.updates, start=state.update) as bar:
            while state.update < state.updates and not state.stopped and not stop.requested:
                started = time.perf_counter()
                self._update(*next(stream), state)
                self._together(state, stop, time.perf_counter() - started)
                self._fit_into_budget(state)
                self._milestones(state, record, stop)
                bar(state.update, self._note(state), state.updates)
        if record:
            record.close()
        return state

    def _together(self, state: State, stop: StopRequest, seconds: float) -> None:
        """One clock for all processes, and one will to stop."""
        time_of_all, wishes = self.world.total(seconds, stop.requested)
        state.seconds += time_of_all / self.world.size
        stop.requested = wishes > 0

    def _update(self, batches: Sequence[Batch], after: Place, state: State) -> None:
        """One update: gradients of the loss summed over the batches of all processes, divided once by their tokens."""
        state.update += 1
        (total,) = self.world.total(sum(batch.tokens for batch in batches))
        sums: dict[str, float] = {}
        for batch in batches:
            with autocast(self.device, self.dtype):
                loss = self.objective(self.model, batch.to(self.device))
            (loss.value / total).backward()  # type: ignore[no-untyped-call]
            _add(sums, {"loss": loss.value.item(), "count": loss.count})
            _add(sums, {name: each.item() for name, each in loss.metrics.items()})
        sums = dict(zip(sums, self.world.total(*sums.values()), strict=True))
        if not math.isfinite(sums["loss"]):
            raise TrainingError(
                f"the loss is not finite at update {state.update}",
                found=sums["loss"],
                remedy="lower train.learning_rate or lengthen the warm-up, then continue with --resume",
            )
        self.world.add([each.grad for each in self.model.parameters() if each.grad is not None])
        _add(state.window, {**sums, "gradient_norm": self._step(state), "updates": 1})
        state.tokens += int(total)
        state.epoch, state.batch = after.epoch, after.batch

    def _step(self, state: State) -> float:
        """Clip, set the learning rate, step, clear; returns the gradient norm before clipping."""
        plan = self.recipe.train
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip or math.inf)
        if not math.isfinite(float(norm)):
            raise TrainingError(
                f"the gradients are not finite at update {state.update}",
                found=f"norm {float(norm)}",
                remedy="lower train.learning_rate, then continue with --resume",
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(state)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def learning_rate(self, state: State) -> float:
        """The learning rate of the update that the state stands at."""
        return self.schedule(state.update)

    def _plan(self, state: State, updates: int) -> None:
        """Aim at so many updates; the schedule follows."""
        plan, state.updates = self.recipe.train, updates
        self.schedule = SCHEDULES.build(plan.schedule, plan.learning_rate, updates, self.model.config.d_model)

    def _fit_into_budget(self, state: State) -> None:
        """With a time budget: plan only as many updates as the measured speed allows, once."""
        budget = self.recipe.train.minutes
        if budget is None:
            return
        if state.update == TRIAL[0]:
            state.trial = state.seconds
        if state.update == TRIAL[1]:
            pace = (state.seconds - state.trial) / (TRIAL[1] - TRIAL[0])
            self._plan(state, max(TRIAL[1] + 1, min(state.updates, int(60 * budget / pace))))

    def _milestones(self, state: State, record: Record | None, stop: StopRequest) -> None:
        """What is due after an update; only the first process has a record, validates and writes files."""
        plan, last = self.recipe.train, state.update == state.updates
        if state.update % plan.log_every == 0 or last:
            values = self._window(state)
            if record:
                record.write("train", state.update, values)
        if state.update % plan.validate_every == 0 or last:
            if record:
                self._validate(state, record)
            (stops,) = self.world.total(state.stopped)
            state.stopped = stops > 0
        if state.update % plan.checkpoint_every == 0 or last or state.stopped or stop.requested:
            states = self.world.gather(torch_states(self.world.rank))
            if record:
                self.checkpoints.save(self.model, self.optimizer, state, dict(ChainMap(*states)))

    def _window(self, state: State) -> dict[str, Any]:
        """Means since the last log line; empties the window."""
        sums, state.window = state.window, {}
        count, updates = sums.pop("count"), sums.pop("updates")
        norm = sums.pop("gradient_norm") / updates
        means = {name: value / count for name, value in sums.items()}
        speed = state.tokens / state.seconds
        rate = self.learning_rate(state)
        where = {"epoch": state.epoch, "tokens": state.tokens, "tokens_per_second": speed, "seconds": state.seconds}
        return {**means, "gradient_norm": norm, "learning_rate": rate, **where}

    def _validate(self, state: State, record: Record) -> None:
        self.model.eval()
        with torch.random.fork_rng(enabled=True, devices=[]):
            metrics = self.validate()
        self.model.train()
        record.tell("valid", state.update, metrics)
        if state.best is None or metrics["metric"] > state.best:
            state.best, state.best_update, state.stale = metrics["metric"], state.update, 0
            self.checkpoints.save_best(self.model)
        else:
            state.stale += 1
        state.stopped = bool(self.recipe.train.patience) and state.stale >= self.recipe.train.patience

    def _note(self, state: State) -> str:
        sums = state.window
        loss = f"loss {sums['loss'] / sums['count']:.3f}" if sums.get("count") else ""
        speed = f"{state.tokens / state.seconds:,.0f} target tokens/s"
        return f"{loss}  lr {self.learning_rate(state):.2e}  {speed}"


def _add(sums: dict[str, float], values: dict[str, float]) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0) + value
