"""Scores of a finished language model or classifier on text that it has not seen."""

import tempfile
from pathlib import Path
from typing import Any

from clearhead.bundle import Bundle
from clearhead.core.errors import DataError, ModelError
from clearhead.core.registry import Choice
from clearhead.data.corpora import CORPORA, Corpus
from clearhead.data.labelled import LABELLED
from clearhead.train.objectives import OBJECTIVES, TextObjective
from clearhead.train.tasks import LabelledTexts, Scores, Texts
from clearhead.train.tasks.text import encode_corpus, reading_of

USUAL = {"lm": "causal", "mlm": "masked", "pretraining": "next_sentence", "classify": "classification"}  # by head


def evaluate(bundle: Bundle, path: Path, options: dict[str, Any]) -> Scores:
    """The scores of the bundle's own objective on a file or folder.

    Args:
        bundle: a language model or a classifier.
        path: text, .jsonl or .parquet, or a folder of them; for a classifier .tsv or .jsonl.
        options: of the corpus or the labelled source, such as `document: line`, `header: true`.

    Raises:
        DataError: the data cannot be read, or has a class that the model does not know.
        ModelError: the model has no scores of this kind.
    """
    choice = _objective(bundle)
    objective = OBJECTIVES.build(choice)
    if isinstance(objective, TextObjective):
        return _text(bundle, objective, path, options)
    return _labels(bundle, path, options)


def _objective(bundle: Bundle) -> Choice:
    """What the model was trained for, as its history or else its head tells."""
    told = bundle.history.get("objective")
    head = bundle.model.config.head.kind
    if told is None and head not in USUAL:
        remedy = "evaluate it in the program that uses it"
        raise ModelError("this model has no scores on text", found=f"head {head}", remedy=remedy)
    choice = Choice.model_validate(told or USUAL[head])
    if choice.kind == "replaced_token":
        remedy = "it is meant to be trained further, for instance as a classifier"
        raise ModelError("a discriminator without its generator has no scores", remedy=remedy)
    return choice


def _text(bundle: Bundle, objective: TextObjective, path: Path, options: dict[str, Any]) -> Scores:
    told = bundle.history.get("reading")
    usual = Choice(kind="windows", options={"length": bundle.model.config.length})
    reading = Choice.model_validate(told) if told else usual
    if reading.kind not in objective.readings:
        reading = reading_of(objective, None)
    with tempfile.TemporaryDirectory() as folder:
        encoded = encode_corpus(_corpus(path, options), reading, bundle.target, Path(folder))
        scores = Texts.open(encoded, reading, objective, bundle.target).scores(bundle.model)
    return {**scores, "bytes": encoded.bytes, "tokens": encoded.tokens}


def _corpus(path: Path, options: dict[str, Any]) -> Corpus:
    if path.is_dir():
        return CORPORA.build(Choice(kind="folder", options=options), path)
    kind = {".jsonl": "jsonl", ".parquet": "parquet"}.get(_suffix(path), "text")
    return CORPORA.build(Choice(kind=kind, options={"file": path.name, **options}), path.parent)


def _labels(bundle: Bundle, path: Path, options: dict[str, Any]) -> Scores:
    names = bundle.history.get("labels")
    if not isinstance(names, list):
        remedy = "evaluate a model that was trained here"
        raise ModelError("this classifier does not tell the names of its classes", remedy=remedy)
    if path.is_dir():
        raise DataError("a folder, not a file", where=path, remedy="name a .tsv or .jsonl file in it")
    kind = "jsonl" if _suffix(path) == ".jsonl" else "tsv"
    examples = list(LABELLED.build(Choice(kind=kind, options={"file": path.name, **options}), path.parent))
    texts = LabelledTexts.read(examples, names, bundle.target, bundle.model.config)
    return {**texts.scores(bundle.model), "texts": len(examples)}


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
