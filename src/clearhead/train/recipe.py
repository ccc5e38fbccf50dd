"""The typed tree of a recipe: tokenizer, data, model, objective, train, search."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from clearhead.core.devices import Precision
from clearhead.core.plugins import load_plugin
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice, choice_of
from clearhead.data.filters import FilterConfig
from clearhead.data.readings import READINGS
from clearhead.generate import SearchConfig
from clearhead.model.config import ModelConfig
from clearhead.text import TokenizerConfig
from clearhead.train.fitting import (
    require_data,
    require_metric,
    require_model,
    require_recomputable,
    require_tokenizer,
    require_whole,
)
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.optimizers import OPTIMIZERS
from clearhead.train.parallel import PARALLELS
from clearhead.train.schedules import SCHEDULES


def _loaded(path: str) -> str:
    """Reading a recipe runs the plugins it names."""
    load_plugin(Path(path))
    return path


Plugin = Annotated[str, AfterValidator(_loaded)]


Metric = Literal["bleu", "bleu_tokenized_lowercased", "loss", "accuracy", "macro_f1"]


Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


class SubwordDropout(Section):
    """BPE-dropout: the share of merges that is left out on each side, anew in each epoch; a number means both."""

    source: Rate = 0.0
    target: Rate = 0.0

    @model_validator(mode="before")
    @classmethod
    def _of_both(cls, value: object) -> object:
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        return {"source": value, "target": value} if plain else value


class DataConfig(Section):
    """Where the data comes from; the objective decides which family of sources is meant (`train/fitting.py`)."""

    folder: str = "."  # where relative paths of the sources begin
    train: Choice
    valid: Choice
    test: Choice | None = None  # scored once, at the end
    reading: choice_of(READINGS) | None = None  # type: ignore[valid-type]  # of texts: how they become rows
    language: str = "en"  # code of the target language, for scores
    filter: FilterConfig = FilterConfig()
    subword_dropout: SubwordDropout = SubwordDropout()


class TrainConfig(Section):
    """How long, how fast and how carefully to learn."""

    updates: PositiveInt = 10_000  # optimiser updates
    minutes: PositiveFloat | None = None  # time budget: fewer updates where the machine is too slow for all
    batch_tokens: PositiveInt = 4_096  # padded tokens of the longer side in one batch
    accumulate: PositiveInt = 1  # batches in one update
    learning_rate: PositiveFloat = 5e-4  # peak
    schedule: choice_of(SCHEDULES) = Choice(kind="inverse_sqrt")  # type: ignore[valid-type]
    optimizer: choice_of(OPTIMIZERS) = Choice(kind="adam")  # type: ignore[valid-type]
    clip: float = Field(1.0, ge=0.0)  # largest gradient norm; 0 = no clipping
    freeze: tuple[str, ...] = ()  # groups of parameters that stay as they are, such as encoder.*.attention
    recompute: bool = False  # compute each block once more in the backward pass: less memory, a third more time
    precision: Precision = "auto"  # of the matrix products
    device: str = "auto"
    processes: NonNegativeInt = 0  # that share the batches of an update; 0 = as many as cores and accumulate allow
    parallel: choice_of(PARALLELS) | None = None  # type: ignore[valid-type]  # how they hold the model; null = fastest
    threads: NonNegativeInt = 0  # CPU threads of each process; 0 = all cores together
    log_every: PositiveInt = 50  # updates
    validate_every: PositiveInt = 500  # updates
    checkpoint_every: PositiveInt = 500  # updates between checkpoints a run can continue from
    keep: PositiveInt = 5  # newest checkpoints that stay, and that are averaged at the end
    metric: Metric | None = None  # what picks the best checkpoint; null = bleu, accuracy, or the loss
    bleu_sentences: NonNegativeInt = 500  # validation sentences translated for BLEU; 0 = all
    patience: NonNegativeInt = 0  # validations without a better metric before the run stops; 0 = never


class Recipe(Section):
    """One training from raw text to a bundle."""

    plugins: tuple[Plugin, ...] = ()  # Python files with parts of one's own; first, as later keys may name these
    seed: NonNegativeInt = 42
    tokenizer: TokenizerConfig
    data: DataConfig
    model: ModelConfig = ModelConfig()
    objective: choice_of(OBJECTIVES) = Choice(kind="translation")  # type: ignore[valid-type]
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig(beams=4)

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        objective = self.objective.kind
        require_data(self.data, objective)
        require_tokenizer(self.tokenizer, objective)
        require_model(self.model, objective)
        require_metric(self.train.metric, objective)
        require_whole(self.train.optimizer, self.train.parallel)
        if self.train.recompute:
            require_recomputable(self.model)
        return self
