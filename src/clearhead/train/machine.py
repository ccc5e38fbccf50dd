"""What a run chooses by itself, and how it tells: number format, threads, processes, kernels."""

from dataclasses import dataclass
from pathlib import Path

import torch

from clearhead.core.allocator import allocator
from clearhead.core.devices import Shape, bfloat16_gain, cores, pick_dtype
from clearhead.core.errors import CheckpointError
from clearhead.core.files import read_json, write_json
from clearhead.model import ModelConfig, Transformer
from clearhead.model.fused import LONGEST
from clearhead.model.fused.library import why_not
from clearhead.train.parallel import PARALLELS, Parallel
from clearhead.train.recipe import Recipe

IN_C = "attention, rotary positions, dropout, sum and norm, slopes of the loss"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes."""

    device: torch.device
    dtype: torch.dtype
    threads: int  # CPU threads of each process

    def told(self, recipe: Recipe, config: ModelConfig, parallel: Parallel) -> str:
        """All of it in one line; `(auto)` stands where the recipe leaves the choice to the machine."""
        plan, world = recipe.train, parallel.world
        precision = f"{name_of(self.dtype)}{' (auto)' if plan.precision == 'auto' else ''}"
        processes = f"{world.size} process{'es' if world.size > 1 else ''} x {self.threads} threads"
        ways = f" ({PARALLELS.name_of(parallel)})" if world.size > 1 else ""
        parts = [str(self.device), precision, processes + ways, f"attention {attention_kernel(config, self.device)}"]
        memory = [f"memory from {allocator()}"] if self.device.type == "cpu" else []
        return ", ".join([*parts, f"{plan.optimizer.kind}", *memory, *["recomputing blocks"] * plan.recompute])


def run_dtype(recipe: Recipe, out: Path, device: torch.device) -> torch.dtype:
    """The number format of the run: measured once and kept, so that a resumed run computes with the same one."""
    path = out / "machine.json"
    if not path.exists():
        dtype = pick_dtype(recipe.train.precision, device, shape_of(recipe))
        write_json(path, {"precision": name_of(dtype), "device": str(device), "threads": torch.get_num_threads()})
    try:
        return DTYPES[read_json(path, CheckpointError)["precision"]]
    except (KeyError, TypeError) as error:
        remedy = "delete the file and --resume: the format is measured again"
        raise CheckpointError("not the record of a machine", where=path, found=error, remedy=remedy) from None


def shape_of(recipe: Recipe) -> Shape:
    """The largest matrix product inside a block, of so many rows that measuring takes no time."""
    return min(recipe.train.batch_tokens, 4096), recipe.model.d_model, recipe.model.d_ff


def describe(model: Transformer) -> str:
    """Kind, parameters and vocabularies in a few words."""
    config, parameters = model.config, sum(each.numel() for each in model.parameters())
    return f"{config.kind}, {parameters:,} parameters, vocabulary {config.source_vocab:,} and {config.target_vocab:,}"


def attention_kernel(config: ModelConfig, device: torch.device) -> str:
    """The attention of a model and, for the usual kind, what it runs on in training."""
    kind = config.attention.kind
    return f"{kind} ({dot_kernels(device)})" if kind == "dot" else kind


def dot_kernels(device: torch.device) -> str:
    """What scaled dot-product attention runs on in training."""
    if device.type == "cpu":
        own = "in C, with biases by an own kernel," if why_not() is None else "own kernel"
        return f"{own} up to {LONGEST} keys, torch's fused one beyond"
    return "torch's fused kernels"


def automatic(device: torch.device) -> dict[str, object]:
    """What a run on this device would choose by itself, for `clearhead env`."""
    at_most = cores() if device.type == "cpu" else 1
    return {
        "bfloat16_gain": bfloat16_gain(device),  # times the speed of float32
        "training_precision": name_of(pick_dtype("auto", device)),
        "training_processes": f"up to {at_most}, as many as divide train.accumulate" if at_most > 1 else "1",
        "training_attention": dot_kernels(device),
        "training_in_c": why_not() or IN_C,  # on a CPU
        "memory": allocator(),  # `clearhead train` takes a faster one where the system has it
    }


def name_of(dtype: torch.dtype) -> str:
    """`bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")
