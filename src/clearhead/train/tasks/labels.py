"""Labelled texts to a classifier."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clearhead.core.batching import cut
from clearhead.core.errors import ConfigError, DataError
from clearhead.core.processes import World
from clearhead.core.seeds import derive
from clearhead.data.buckets import Buckets, Place
from clearhead.data.labelled import LABELLED, Labelled, class_names, class_number, encoded, labelled_batch
from clearhead.data.store import Ids, Store, open_stores, write_stores
from clearhead.data.text_batches import LabelledBatch
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.classification import class_scores
from clearhead.train.prepare import prepare_tokenizer
from clearhead.train.recipe import Recipe
from clearhead.train.scores import score_classes
from clearhead.train.stream import updates
from clearhead.train.tasks.base import TASKS, Scores, Task


@dataclass(frozen=True)
class LabelledTexts:
    """Encoded texts held in memory, with the numbers of their classes."""

    rows: list[Ids]
    labels: list[int]
    tokenizer: Tokenizer
    typed: bool  # the model has token types for the two texts of a pair

    @classmethod
    def read(
        cls, examples: Sequence[Labelled], names: Sequence[str], tokenizer: Tokenizer, model: Any
    ) -> "LabelledTexts":
        """Encode examples for a model of that config."""
        if not examples:
            raise DataError("no labelled text: the file is empty", remedy="check the path")
        labels = [class_number(each, names) for each in examples]
        return cls(encoded(examples, tokenizer, model.length), labels, tokenizer, model.segments > 1)

    def batch(self, indices: Sequence[int]) -> LabelledBatch:
        """The texts of those numbers."""
        rows, labels = [self.rows[index] for index in indices], [self.labels[index] for index in indices]
        return collated(rows, labels, self.tokenizer, typed=self.typed)

    def scores(self, model: Transformer, budget: int = 8_192) -> Scores:
        """Loss in nats per text, accuracy, and F1 as the mean over classes."""
        order = sorted(range(len(self.rows)), key=lambda index: len(self.rows[index]))
        total, found = 0.0, np.zeros(len(self.rows), dtype=np.int64)
        with torch.inference_mode():
            for part in cut([len(self.rows[index]) for index in order], budget):
                batch = self.batch(order[part]).to(model.output.device)
                logits = class_scores(model, batch)
                total += nn.functional.cross_entropy(logits, batch.labels, reduction="sum").item()
                found[order[part]] = logits.argmax(dim=1).cpu().numpy()
        return {"loss": total / len(self.rows), **score_classes(found, np.asarray(self.labels))}


def collated(rows: list[Ids], labels: list[int], tokenizer: Tokenizer, *, typed: bool) -> LabelledBatch:
    """A batch of encoded texts."""
    sep = tokenizer.need("sep") if typed else None
    return labelled_batch(rows, labels, pad=tokenizer.need("pad"), sep=sep)


@TASKS.register("labels")
class LabelsTask(Task):
    """Labelled texts in, accuracy out."""

    metrics = ("accuracy", "macro_f1", "loss")

    def __init__(self, recipe: Recipe, out: Path) -> None:
        super().__init__(recipe, out)
        data, folder = recipe.data, Path(recipe.data.folder)
        sources = {"train": data.train, "valid": data.valid, "test": data.test}
        examples = {name: LABELLED.build(each, folder) for name, each in sources.items() if each is not None}
        held_out = {name: list(examples[name]) for name in examples if name != "train"}
        self.names = class_names(examples["train"])
        _require_labels(recipe, self.names)
        texts = (text for each in examples["train"] for text in (each.text, each.other) if text)
        choice, _ = recipe.tokenizer.sides
        self.source = self.target = prepare_tokenizer("joint", choice, texts, out / "tokenizer.json")
        self.held_out = {
            name: LabelledTexts.read(each, self.names, self.target, recipe.model) for name, each in held_out.items()
        }
        self.stores = self._stores(list(examples["train"]), out / "data")
        self.has_test = "test" in examples

    def _stores(self, examples: Sequence[Labelled], folder: Path) -> list[Store]:
        """Parallel stores of token ids and class numbers."""
        if folder.exists():
            return open_stores(folder, 2)
        train = LabelledTexts.read(examples, self.names, self.target, self.recipe.model)
        rows = (([*map(int, ids)], [label]) for ids, label in zip(train.rows, train.labels, strict=True))
        return write_stores(folder, 2, rows, max(self.target.vocab_size, len(self.names)))

    def batches(self, place: Place, world: World) -> Iterator[tuple[Sequence[Any], Place]]:
        plan, typed = self.recipe.train, self.recipe.model.segments > 1
        order = Buckets(self.stores, budget=plan.batch_tokens, seed=derive(self.recipe.seed, "data"))

        def collate(rows: Ids, after: Place) -> LabelledBatch:
            texts, labels = ([store[int(row)] for row in rows] for store in self.stores)
            return collated(texts, [int(each[0]) for each in labels], self.target, typed=typed)

        return updates(order.batches(place), plan.accumulate, world, collate)

    def validate(self, learner: nn.Module) -> Scores:
        return self.quality(learner, "valid")

    def quality(self, learner: nn.Module, split: str) -> Scores:
        return self.held_out[split].scores(self.objective.product(learner))

    def history(self) -> Scores:
        return {"objective": self.recipe.objective.model_dump(mode="json"), "labels": self.names}


def _require_labels(recipe: Recipe, names: list[str]) -> None:
    planned = recipe.model.head.options["labels"]
    if len(names) != planned:
        raise ConfigError(
            "the head has another number of labels than the training data",
            where="model.head.labels",
            found=planned,
            expected=f"{len(names)} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})",
        )
