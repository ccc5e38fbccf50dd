"""Checkpoints: all that a run needs to go on as if nothing had happened, written whole or not at all.

checkpoints/update-00001500/model.safetensors  optimizer.safetensors  random.safetensors  state.json
checkpoints/best.safetensors                    weights of the best validation
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clearhead.bundle.weights import load_weights, read_weights, save_weights, weights_of
from clearhead.core.errors import CheckpointError, ClearheadError, StorageError
from clearhead.core.files import folder_atomic, make_folder, read_json, require_space, write_json
from clearhead.core.seeds import restore_torch_states
from clearhead.train.parallel import Parallel

MARGIN = 1 << 20  # bytes that must stay free beside a checkpoint
Tensors = Mapping[str, torch.Tensor]


@dataclass
class State:
    """Where a run stands; everything in it is plain JSON."""

    update: int = 0  # updates done
    updates: int = 0  # updates planned; 0 = not decided yet
    epoch: int = 0
    batch: int = 0  # batches done in this epoch
    tokens: int = 0  # target tokens learned from
    seconds: float = 0.0  # of training, earlier parts of the run included
    trial: float = 0.0  # seconds at the start of the speed measurement for a time budget
    best: float | None = None  # the best metric so far, larger is better
    best_update: int = 0
    stale: int = 0  # validations since then
    stopped: bool = False  # early stopping has decided
    window: dict[str, float] = field(default_factory=dict)  # sums since the last log line


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int, every: int) -> None:
        self.folder, self.keep, self.every = folder, keep, every

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(each for each in self.folder.glob("update-*") if each.is_dir())

    def save(self, weights: Tensors, optimizer: Tensors, state: State, random: Tensors) -> None:
        """Write one more and delete the oldest beyond `keep`.

        Args:
            weights: of the whole model.
            optimizer: `optimizer_tensors`, whole.
            state: of the run.
            random: states of the generators of every process.

        A checkpoint out of turn, from a stop request, gives way to the next one: a run that was stopped averages the
        same checkpoints as one that was not.
        """
        make_folder(self.folder)
        self._clear()
        self._require_space([*weights.values(), *optimizer.values()])
        path = self.folder / f"update-{state.update:08d}"
        try:
            with folder_atomic(path) as folder:
                save_weights(folder / "model.safetensors", weights)
                save_weights(folder / "optimizer.safetensors", optimizer)
                save_weights(folder / "random.safetensors", random)
                write_json(folder / "state.json", asdict(state))
        except StorageError as error:  # tells the name of a temporary folder
            raise StorageError(error.what, where=path, remedy="make room and continue with --resume") from error
        *earlier, _ = self.all()
        in_turn = [each for each in earlier if _number(each) % self.every == 0]
        for each in set(earlier) - set(in_turn[max(0, len(in_turn) - self.keep + 1) :]):
            leaving = each.with_name(f".{each.name}.0.tmp")  # half a checkpoint must not look like a whole one
            each.replace(leaving)
            shutil.rmtree(leaving)

    def _clear(self) -> None:
        """Remove what a kill has left; only one process at a time works in the folder of a run."""
        for each in self.folder.glob(".*.tmp"):
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink(missing_ok=True)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, parallel: Parallel) -> State:
        """Load this process's part of the newest checkpoint into model, optimiser and generators; else a fresh State.

        Raises:
            CheckpointError: a file of it is missing or damaged.
        """
        if parallel.world.first:
            self._clear()
        found = self.all()
        if not found:
            return State()
        with _remedy(found[-1]):
            return _restored(found[-1], model, optimizer, parallel)

    def save_best(self, weights: Tensors) -> None:
        """Keep these weights as the best so far."""
        make_folder(self.folder)
        self._require_space(weights.values())
        save_weights(self.folder / "best.safetensors", weights)

    def load_best(self, model: nn.Module) -> bool:
        """Load the best weights; False if there are none yet."""
        path = self.folder / "best.safetensors"
        if path.exists():
            load_weights(model, read_weights(path, CheckpointError), path)
        return path.exists()

    def load_average(self, model: nn.Module) -> int:
        """Load the mean of the kept checkpoints' weights (Vaswani et al., 2017, section 6.1); return their number."""
        found = self.all()
        total: dict[str, torch.Tensor] = {}
        for each in found:
            with _remedy(each):
                weights = read_weights(each / "model.safetensors", CheckpointError)
            for name, tensor in weights.items():
                total[name] = total[name] + tensor.double() if name in total else tensor.double()
        if found:
            mean = {name: (tensor / len(found)).float() for name, tensor in total.items()}
            load_weights(model, mean, self.folder)
        return len(found)

    def _require_space(self, tensors: Iterable[torch.Tensor]) -> None:
        needed = MARGIN + sum(each.numel() * each.element_size() for each in tensors)
        require_space(self.folder, needed, "a checkpoint", "free some space and continue with --resume")


# States that have the shape of their parameter; torch checks none.
OF_A_PARAMETER = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


@contextlib.contextmanager
def _remedy(checkpoint: Path) -> Iterator[None]:
    """What helps against any damage to a checkpoint."""
    try:
        yield
    except ClearheadError as error:
        raise CheckpointError(
            error.what,
            where=error.where,
            found=error.found,
            expected=error.expected,
            remedy=f"delete the folder {checkpoint} and --resume: the run goes on from the checkpoint before it",
        ) from error


def _restored(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, parallel: Parallel) -> State:
    path, own = checkpoint / "model.safetensors", weights_of(model)
    weights = read_weights(path, CheckpointError)
    load_weights(model, {name: parallel.part(each, own.get(name, each)) for name, each in weights.items()}, path)
    path = checkpoint / "optimizer.safetensors"
    _restore_optimizer(optimizer, read_weights(path, CheckpointError), parallel, path)
    try:
        restore_torch_states(read_weights(checkpoint / "random.safetensors", CheckpointError), parallel.world.rank)
        return State(**read_json(checkpoint / "state.json", CheckpointError))
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError("the state of the run does not fit", where=checkpoint, found=error) from error


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("update-"))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimiser keeps for each parameter, as `parameter number.name of the state`."""
    states: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    tensors = {f"{i}.{name}": torch.as_tensor(value) for i, each in states.items() for name, value in each.items()}
    return tensors or {"empty": torch.zeros(1)}


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], parallel: Parallel, where: Path
) -> None:
    saved = optimizer.state_dict()
    saved["state"] = {}
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    try:
        for name, tensor in tensors.items():
            number, _, key = name.partition(".")
            if key:
                own = parallel.part(tensor, parameters[int(number)])
                if key in OF_A_PARAMETER and own.shape != parameters[int(number)].shape:
                    raise ValueError(f"{name} has the shape {tuple(tensor.shape)}; is it of an older version?")
                if parallel.owns(parameters[int(number)]):
                    saved["state"].setdefault(int(number), {})[key] = own
        optimizer.load_state_dict(saved)
    except (ValueError, KeyError, IndexError) as error:
        raise CheckpointError(f"the optimiser's state does not fit: {error}", where=where) from None
