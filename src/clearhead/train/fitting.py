"""Which parts of a recipe go together: an objective has its kind of data, of model and of head."""

from dataclasses import dataclass
from typing import Any

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice, OptionError, Registry
from clearhead.data.corpora import CORPORA
from clearhead.data.labelled import LABELLED
from clearhead.data.sources import SOURCES
from clearhead.model import ModelConfig
from clearhead.model.stack import STACKS
from clearhead.model.stack.base import Blocks
from clearhead.text import TokenizerConfig
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.optimizers import OPTIMIZERS
from clearhead.train.parallel import PARALLELS


@dataclass(frozen=True)
class Fit:
    """What a task reads."""

    sources: Registry[Any]  # family of data.train, data.valid and data.test
    keys: tuple[str, ...]  # further keys of `data` that mean something
    metrics: tuple[str, ...]  # that may choose the best weights
    joint: bool  # one vocabulary


BLEUS = ("bleu", "bleu_tokenized_lowercased")  # of translations; the second for text without capitals
FITS = {
    "translation": Fit(SOURCES, ("language", "filter", "subword_dropout"), (*BLEUS, "loss"), joint=False),
    "text": Fit(CORPORA, ("reading",), ("loss",), joint=True),
    "labels": Fit(LABELLED, (), ("accuracy", "macro_f1", "loss"), joint=True),
}
NAMES = {
    "encoder-decoder": "an encoder-decoder",
    "encoder-only": "an encoder-only model",
    "decoder-only": "a decoder-only model",
}
COMMON = ("folder", "train", "valid", "test")


def require_data(data: Any, objective: str) -> None:
    """Refuse a data source that the objective cannot read, and keys that would do nothing."""
    part: Any = OBJECTIVES.get(objective)
    fit = FITS[part.task]
    for name in ("train", "valid", "test"):
        choice = getattr(data, name)
        if choice is not None:
            _checked(fit.sources, choice, f"data.{name}")
    for name, field in type(data).model_fields.items():
        if name not in (*COMMON, *fit.keys) and getattr(data, name) != field.default:
            raise _about(f"data.{name}", f"this key does nothing for the objective {objective}", remedy="leave it out")
    if part.keeps_targets and data.subword_dropout.target:
        remedy = "set data.subword_dropout to {source: ..., target: 0}"
        raise _about("data.subword_dropout", f"{objective} reads each target as it is stored", remedy=remedy)
    if "reading" in fit.keys:
        _require_reading(data, objective)


def _require_reading(data: Any, objective: str) -> None:
    part: Any = OBJECTIVES.get(objective)
    if data.reading is not None and data.reading.kind not in part.readings:
        raise _about(
            "data.reading",
            f"the objective {objective} does not read {data.reading.kind}",
            expected=f"one of {', '.join(part.readings)}",
        )


def require_model(model: ModelConfig, objective: str) -> None:
    """Refuse a model that the objective cannot train."""
    part: Any = OBJECTIVES.get(objective)
    if model.kind not in part.kinds:
        needed = f"{objective} needs {' or '.join(NAMES[each] for each in part.kinds)}"
        remedy = "set model.encoder_layers and model.decoder_layers; 0 = absent"
        raise _about("model", needed, found=model.kind, remedy=remedy)
    if model.head.kind not in part.heads:
        expected = f"{' or '.join(part.heads)} for the objective {objective}"
        raise _about("model.head", "another head is needed", found=model.head.kind, expected=expected)


def require_tokenizer(tokenizer: TokenizerConfig, objective: str) -> None:
    """Refuse two vocabularies where there is one text."""
    part: Any = OBJECTIVES.get(objective)
    source, target = tokenizer.sides
    if FITS[part.task].joint and source is not target:
        remedy = "set tokenizer.joint"
        raise _about("tokenizer", f"the objective {objective} reads one kind of text", remedy=remedy)


def require_metric(metric: str | None, objective: str) -> None:
    """Refuse a metric that the task does not measure."""
    part: Any = OBJECTIVES.get(objective)
    metrics = FITS[part.task].metrics
    if metric is not None and metric not in metrics:
        expected = f"one of {', '.join(metrics)}"
        raise _about("train.metric", f"not measured for the objective {objective}", found=metric, expected=expected)


def require_recomputable(model: ModelConfig) -> None:
    """Refuse to recompute blocks that there are none of, or that change when they run once more."""
    key, stack = "train.recompute", STACKS.get(model.stack.kind)
    if not (isinstance(stack, type) and issubclass(stack, Blocks)):
        raise _about(key, f"a stack of kind {model.stack.kind} has no blocks to recompute", remedy="leave it out")
    if model.norm_across_tokens:
        what = f"norm {model.norm.kind} would count every batch twice in its running averages"
        raise _about(key, what, remedy="leave it out, or choose another norm")


def require_whole(optimizer: Choice, parallel: Choice | None) -> None:
    """Refuse an optimiser of whole matrices, or of all together, where each process holds a share of them."""
    if parallel is None:  # the fastest ways hold whole matrices
        return
    part: Any = OPTIMIZERS.get(optimizer.kind)
    way: Any = PARALLELS.get(parallel.kind)
    if not getattr(part, "each_alone", False) and "states" in way.divides:
        what = f"{optimizer.kind} does not say that it steps each parameter alone"
        remedy = "give its class each_alone = True if it does, or choose train.parallel replicate"
        raise _about("train.optimizer", what, found=parallel.kind, remedy=remedy)
    if getattr(part, "needs_whole", False) and "gradients" in way.divides:
        remedy = "choose adamw, or train.parallel replicate"
        raise _about("train.optimizer", f"{optimizer.kind} needs whole matrices", found=parallel.kind, remedy=remedy)


def _checked(family: Registry[Any], choice: Choice, key: str) -> None:
    try:
        family.check(choice)
    except OptionError as error:
        error.option = f"{key}.{error.option}"
        raise
    except ConfigError as error:
        raise _about(key, error.what, found=error.found, expected=error.expected, remedy=error.remedy) from None


def _about(key: str, what: str, **details: Any) -> OptionError:
    """An error with its place in the recipe as a dotted key."""
    error = OptionError(what, **details)
    error.option = key
    return error
