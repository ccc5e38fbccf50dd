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
from torch import Tensor, nn

from clearhead.bundle.weights import weights_of
from clearhead.core.devices import autocast
from clearhead.core.processes import World
from clearhead.core.progress import track
from clearhead.core.seeds import torch_states
from clearhead.data.buckets import Place
from clearhead.model import Transformer
from clearhead.train.checkpoint import Checkpoints, State, optimizer_tensors
from clearhead.train.guards import refuse_gradients, refuse_loss, refuse_weights, update_ratios
from clearhead.train.machine import Machine
from clearhead.train.metrics import Record
from clearhead.train.objectives import Objective
from clearhead.train.optimizers import OPTIMIZERS, parameter_groups
from clearhead.train.parallel import Lesson, Parallel
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
    validate: Callable[[nn.Module], dict[str, Any]]  # metrics of a learner; `metric` among them, larger is better
    checkpoints: Checkpoints
    record: Callable[[int], Record]  # opens the record of the run at an update
    machine: Machine
    parallel: Parallel

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.parallel.world

    def fit(self) -> State:
        """Train to the end, to early stopping or to a stop request; returns the last state."""
        state = self._begin()
        record = self.record(state.update) if self.world.first else None
        stream = self.batches(Place(state.epoch, state.batch))
        with StopRequest() as stop, track("update", state.updates, start=state.update) as bar:
            stopping = False
            while state.update < state.updates and not state.stopped and not stopping:
                started = time.perf_counter()
                self._update(*next(stream), state)
                stopping = self._together(state, stop, time.perf_counter() - started)
                self._fit_into_budget(state)
                self._milestones(state, record, stopping=stopping)
                bar(state.update, self._note(state), state.updates)
        if record:
            record.close()
        return state

    def rehearse(self, updates: int) -> Iterator[float]:
        """The seconds of a few updates, for a forecast; nothing is written."""
        state = self._begin()
        stream = self.batches(Place())
        for _ in range(updates):
            started = time.perf_counter()
            self._update(*next(stream), state)
            yield time.perf_counter() - started

    def _begin(self) -> State:
        """Model and optimiser as they were left, or new."""
        self.lesson = Lesson(self.model, self.objective)
        self.parallel.spread(self.lesson, self.machine.device)
        self.optimizer = OPTIMIZERS.build(self.recipe.train.optimizer)(parameter_groups(self.model))
        state = self.checkpoints.restore(self.model, self.optimizer, self.parallel)
        self._plan(state, state.updates or self.recipe.train.updates)
        return state

    def _together(self, state: State, stop: StopRequest, seconds: float) -> bool:
        """One clock for all processes, and one will to stop, which is returned.

        A signal may come at any moment, in one process only: what it asks for counts from the next update on, when
        all have heard of it. Whoever acted on it at once would wait for the others for ever.
        """
        time_of_all, wishes = self.world.total(seconds, stop.requested)
        state.seconds += time_of_all / self.world.size
        return wishes > 0

    def _update(self, batches: Sequence[Batch], after: Place, state: State) -> None:
        """One update: gradients of the loss summed over the batches of all processes, divided once by their tokens."""
        state.update += 1
        (total,) = self.world.total(sum(batch.tokens for batch in batches))
        sums: dict[str, float] = {}
        losses = []
        for batch in batches:
            with autocast(self.machine.device, self.machine.dtype):
                value, count, metrics = self.lesson(batch.to(self.machine.device))
            (value / total).backward()
            losses.append(value.item())
            _add(sums, {"loss": losses[-1], "count": count, **{name: each.item() for name, each in metrics.items()}})
        sums = dict(zip(sums, self.world.total(*sums.values()), strict=True))
        if not math.isfinite(sums["loss"]):
            refuse_loss(losses, state.update, after, self.world)
        norm = self._clip()
        refuse_gradients(norm, state.update, len(batches) * self.world.size, after)
        self._step(state)
        _add(state.window, {**sums, "gradient_norm": norm, "updates": 1})
        state.tokens += int(total)
        state.epoch, state.batch = after.epoch, after.batch

    def _clip(self) -> float:
        """Sum the gradients of all processes and shorten them to train.clip; returns their norm before that."""
        gradients = self.parallel.collect()
        norm, limit = self.parallel.norm(gradients), self.recipe.train.clip
        if gradients and limit and norm > limit:
            torch._foreach_mul_(gradients, limit / (norm + 1e-6))
        return norm

    def _step(self, state: State) -> None:
        """Set the learning rate, step, clear; where a log line is due, see how far the step goes."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(state)
        if self._logs(state):
            self.ratios = update_ratios(self.model, self.optimizer.step, self.parallel)
        else:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.parallel.stepped()

    def _logs(self, state: State) -> bool:
        return state.update % self.recipe.train.log_every == 0 or state.update == state.updates

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

    def _milestones(self, state: State, record: Record | None, *, stopping: bool) -> None:
        """What is due after an update; only the first process has a record, validates and writes files."""
        plan, last = self.recipe.train, state.update == state.updates
        if self._logs(state):
            values = self._window(state)
            if record:
                record.write("train", state.update, values)
        if state.update % plan.validate_every == 0 or last:
            weights = self._weights()
            if record:
                self._validate(state, record, weights)
            (stops,) = self.world.total(state.stopped)
            state.stopped = stops > 0
        if state.update % plan.checkpoint_every == 0 or last or state.stopped or stopping:
            self._save(state)

    def _save(self, state: State) -> None:
        """Every process hands over its part, the first one writes."""
        states = self.world.gather(torch_states(self.world.rank))
        kept = self.parallel.bring(optimizer_tensors(self.optimizer))
        weights = self._weights()
        if self.world.first:
            refuse_weights(weights, state.update)
            self.checkpoints.save(weights, kept, state, dict(ChainMap(*states)))

    def _weights(self) -> dict[str, Tensor]:
        return {name: self.parallel.whole(each) for name, each in weights_of(self.model).items()}

    def _window(self, state: State) -> dict[str, Any]:
        """Means since the last log line; empties the window."""
        sums, state.window = state.window, {}
        count, updates = sums.pop("count"), sums.pop("updates")
        norm = sums.pop("gradient_norm") / updates
        means = {name: value / count for name, value in sums.items()}
        speed = state.tokens / state.seconds
        rate = self.learning_rate(state)
        where = {"epoch": state.epoch, "tokens": state.tokens, "tokens_per_second": speed, "seconds": state.seconds}
        ratios = {f"update_ratio/{name}": each for name, each in self.ratios.items()}
        return {**means, "gradient_norm": norm, **ratios, "learning_rate": rate, **where}

    def _validate(self, state: State, record: Record, weights: dict[str, Tensor]) -> None:
        with self.parallel.plain(weights) as learner, torch.random.fork_rng(enabled=True, devices=[]):
            metrics = self.validate(learner.eval())
            learner.train()
        record.tell("valid", state.update, metrics)
        if state.best is None or metrics["metric"] > state.best:
            state.best, state.best_update, state.stale = metrics["metric"], state.update, 0
            self.checkpoints.save_best(weights)
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
