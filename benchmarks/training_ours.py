"""What a run of `clearhead train` begins with, prepared once for benchmarks.training, and its batches for the peers.

FOLDER/run                  recipe, tokenizer and token files; `clearhead train --resume` goes on from there
FOLDER/batches.safetensors  the batches of the first updates, as the run will draw them
FOLDER/model.json           sizes of the model, and what else the peers and the floor must know
"""

import sys
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from clearhead.core.files import write_json
from clearhead.core.processes import ALONE
from clearhead.core.recipe import read_recipe
from clearhead.data.buckets import Place
from clearhead.train import Recipe
from clearhead.train.folder import open_folder
from clearhead.train.learner import build_learner
from clearhead.train.tasks import task_of


def main() -> None:
    """Arguments: folder, updates, recipe, overrides."""
    folder, count, path, *settings = sys.argv[1:]
    recipe, out = read_recipe(Path(path), settings, Recipe), Path(folder)
    with open_folder(recipe, out / "run", resume=False):
        task = task_of(recipe, out / "run")
    model = build_learner(recipe, task)
    updates = [batches for batches, _ in islice(task.batches(Place(), ALONE), int(count))]
    save_file(dict(tensors(updates)), out / "batches.safetensors")
    more = {
        "activation": model.config.feedforward.kind,
        "smoothing": recipe.objective.options.get("label_smoothing", 0.0),
        "parameters": sum(each.numel() for each in model.parameters()),
        "sources": sources(updates),
    }
    write_json(out / "model.json", {**model.config.model_dump(mode="json"), **more})


def tensors(updates: Sequence[Sequence[Any]]) -> list[tuple[str, Tensor]]:
    """Every tensor of every batch with its name, `update.batch.field`."""
    found = []
    for update, batches in enumerate(updates):
        for number, batch in enumerate(batches):
            values = ((each.name, getattr(batch, each.name)) for each in fields(batch))
            found += [
                (f"{update}.{number}.{name}", each.contiguous()) for name, each in values if isinstance(each, Tensor)
            ]
    return found


def sources(updates: Sequence[Sequence[Any]]) -> float:
    """Source tokens for each target token; 0 where a text has no source."""
    batches = [each for update in updates for each in update if hasattr(each, "source")]
    read = sum(each.source.numel() if each.source_valid is None else int(each.source_valid.sum()) for each in batches)
    return float(read / max(1, sum(each.tokens for each in batches)))


if __name__ == "__main__":
    main()
