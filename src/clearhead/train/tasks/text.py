"""Documents to a language model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clearhead.core.errors import DataError
from clearhead.core.processes import World
from clearhead.core.registry import Choice
from clearhead.core.seeds import derive, numpy_generator
from clearhead.data.buckets import Place
from clearhead.data.corpora import CORPORA, Corpus
from clearhead.data.readings import READINGS, Frame, Reading
from clearhead.data.token_corpus import TokenCorpus, write_corpus
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives import Collate, TextObjective
from clearhead.train.prepare import prepare_tokenizer
from clearhead.train.recipe import Recipe
from clearhead.train.samples import sampled_text
from clearhead.train.stream import updates
from clearhead.train.tasks.base import TASKS, Scores, Task

SAMPLE = 20_000_000  # characters of a corpus that a dry run reads


def reading_of(objective: TextObjective, choice: Choice | None) -> Choice:
    """The reading of a recipe, or the one that the objective usually has."""
    return choice or Choice(kind=objective.readings[0])


def encode_corpus(corpus: Corpus, reading: Choice, tokenizer: Tokenizer, folder: Path) -> TokenCorpus:
    """Token ids of a corpus, cut as the reading wants it; opened where they are complete already."""
    part: Any = READINGS.get(reading.kind)
    return write_corpus(folder, corpus, tokenizer, units=part.units, close=part.close)


@dataclass(frozen=True)
class Texts:
    """A corpus as rows for one objective."""

    corpus: TokenCorpus
    reading: Reading
    objective: TextObjective
    collate_rows: Collate

    @classmethod
    def open(cls, corpus: TokenCorpus, reading: Choice, objective: TextObjective, tokenizer: Tokenizer) -> "Texts":
        """Lay a reading over a corpus."""
        frame = Frame(tokenizer.need("bos"), objective.shift, objective.room)
        built = READINGS.build(reading, corpus, frame)
        return cls(corpus, built, objective, objective.collator(tokenizer, built.length))

    def batches(self, tokens: int, seed: int, start: Place) -> Iterator[tuple[list[Any], Place]]:
        """Plans of rows, at most `tokens` tokens together, and the place after them, without end."""
        epoch, done = start.epoch, start.batch
        while True:
            number = 0
            for number, plans in enumerate(self._cut(self.reading.epoch(numpy_generator(seed, epoch)), tokens), 1):
                if number > done:
                    yield plans, Place(epoch, number)
            if not number:
                raise DataError("no text to learn from", where="data.train", remedy="check the path")
            epoch, done = epoch + 1, 0

    def collate(self, plans: list[Any], random: np.random.Generator) -> Any:
        """Read rows and make them a batch."""
        return self.collate_rows([self.reading.row(each) for each in plans], random)

    def scores(self, learner: nn.Module, tokens: int = 8_192) -> Scores:
        """Mean loss in nats per predicted token, and what else the objective measures; with the same draws each time.

        Where the loss is the text's likelihood: its exponential, and bits per UTF-8 byte of the text.
        """
        sums: dict[str, float] = {}
        count, device = 0, next(learner.parameters()).device
        with torch.inference_mode(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)  # for objectives that draw while they compute
            for number, plans in enumerate(self._cut(self.reading.once(), tokens)):
                loss = self.objective(learner, self.collate(plans, numpy_generator(0, number)).to(device))
                count += loss.count
                for name, value in {"loss": loss.value, **loss.metrics}.items():
                    sums[name] = sums.get(name, 0.0) + value.item()
        scores: Scores = {name: value / max(1, count) for name, value in sums.items()}
        if self.objective.likelihood:
            scores["perplexity"] = math.exp(min(scores["loss"], 700.0))
            scores["bits_per_byte"] = sums["loss"] / math.log(2) / max(1, self.corpus.bytes)
        return {**scores, "predicted_tokens": count}

    def _cut(self, plans: Iterator[Any], tokens: int) -> Iterator[list[Any]]:
        size = max(1, tokens // self.reading.length)
        while part := list(islice(plans, size)):
            yield part


@TASKS.register("text")
class TextTask(Task):
    """Token corpora in, perplexity and samples out."""

    metrics = ("loss",)
    objective: TextObjective

    def __init__(self, recipe: Recipe, out: Path) -> None:
        super().__init__(recipe, out)
        data, folder = recipe.data, Path(recipe.data.folder)
        sources = {"train": data.train, "valid": data.valid, "test": data.test}
        corpora = {name: CORPORA.build(each, folder) for name, each in sources.items() if each is not None}
        for name in corpora:
            _require_text(corpora[name], f"data.{name}")
        choice, _ = recipe.tokenizer.sides
        texts = (each.text for each in corpora["train"])
        self.source = self.target = prepare_tokenizer("joint", choice, texts, out / "tokenizer.json")
        self.reading = reading_of(self.objective, data.reading)
        self.texts = {name: self._open(name, corpora[name], out / "data") for name in corpora}
        self.has_test = "test" in corpora

    @classmethod
    def sampled(cls, recipe: Recipe) -> Recipe:
        """The first characters of each corpus."""
        sources = {name: getattr(recipe.data, name) for name in ("train", "valid", "test")}
        firsts = {
            name: Choice(kind="first", options={"of": each, "characters": SAMPLE})
            for name, each in sources.items()
            if each is not None
        }
        return recipe.model_copy(update={"data": recipe.data.model_copy(update=firsts)})

    def _open(self, name: str, corpus: Corpus, folder: Path) -> Texts:
        encoded = encode_corpus(corpus, self.reading, self.target, folder / name)
        return Texts.open(encoded, self.reading, self.objective, self.target)

    def require_reach(self, model: Transformer) -> None:
        limit, length = model.config.length, self.texts["train"].reading.length
        if length > limit:
            raise DataError(
                "rows are longer than the model was made for",
                where="data.reading.length",
                found=f"{length:,} tokens",
                expected=f"at most {limit:,}, model.length",
            )

    def batches(self, place: Place, world: World) -> Iterator[tuple[Sequence[Any], Place]]:
        train, plan, seed = self.texts["train"], self.recipe.train, self.recipe.seed

        def collate(plans: list[Any], after: Place) -> Any:  # draws depend on seed and place alone
            return train.collate(plans, numpy_generator(seed, "corruption", after.epoch, after.batch))

        return updates(train.batches(plan.batch_tokens, derive(seed, "data"), place), plan.accumulate, world, collate)

    def validate(self, learner: nn.Module) -> Scores:
        scores = self.texts["valid"].scores(learner)
        if not self.objective.likelihood:
            return scores
        return {**scores, "sample": sampled_text(self.objective.product(learner), self.target)}

    def quality(self, learner: nn.Module, split: str) -> Scores:
        return self.texts[split].scores(learner)

    def history(self) -> Scores:
        kept = {"objective": self.recipe.objective, "reading": self.reading}
        return {name: each.model_dump(mode="json") for name, each in kept.items()}


def _require_text(corpus: Corpus, where: str) -> None:
    """A mistake in the held-out data must not show after hours of training."""
    for _ in corpus:
        return
    raise DataError("no text", where=where, remedy="check the path; an empty file cannot be learned from")
