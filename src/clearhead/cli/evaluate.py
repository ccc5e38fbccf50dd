"""clearhead evaluate: the scores of a model on pairs it has not seen."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearhead.cli.lines import one_line, relocated, text_number
from clearhead.cli.options import (
    AsJson,
    Beams,
    Device,
    LengthPenalty,
    ModelFolder,
    MoreSearch,
    Weights,
    print_json,
    print_table,
    require_file,
)
from clearhead.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from clearhead.apply import Model
    from clearhead.data.sources import Pair
    from clearhead.generate import SearchConfig


def command(
    model: ModelFolder,
    source: Annotated[Path | None, typer.Option(help="Text file, one sentence a line.")] = None,
    target: Annotated[Path | None, typer.Option(help="Its reference translation, line by line.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Pairs in one file: .tsv (source, target) or .jsonl. Else: text, or texts and classes."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="How to read --data: document=line, header=true, label=0.")
    ] = None,
    language: Annotated[str, typer.Option(help="Code of the target language, for tokenising before BLEU.")] = "",
    output: Annotated[Path | None, typer.Option(help="Write the translations here, one a line.")] = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    more_search: MoreSearch = None,
    device: Device = "cpu",
    weights: Weights = "float32",
    json: AsJson = False,
) -> None:
    """Score a model: of a translator BLEU, chrF and loss; of a language model perplexity and bits per byte; of a
    classifier accuracy and F1.

    Example: clearhead evaluate runs/multi30k --source test.en --target test.de --language de --json

    Example: clearhead evaluate runs/tinystories --data test.jsonl
    """
    from clearhead.apply import load
    from clearhead.cli.searching import adjusted
    from clearhead.core.files import write_atomic
    from clearhead.train.scores import score_translations
    from clearhead.train.validation import Translations

    if data is not None and source is None and target is None and not data.exists():
        require_file(data)
    loaded = load(model, device=device, weights=weights)
    if loaded.bundle.model.config.kind != "encoder-decoder":
        if weights != "float32":
            raise UsageError("weights are chosen for what writes translations", where=f"--weights {weights}")
        if more_search:
            raise UsageError("only a translator searches", where="--search", remedy="leave it out")
        _other(loaded, data, settings or [], as_json=json)
        return
    pairs = _pairs(source, target, data)
    _require_place(output)
    language = language or str(loaded.bundle.history.get("language", "en"))
    search = adjusted(loaded.search, {"beams": beams, "length_penalty": length_penalty}, more_search)
    bundle = loaded.bundle
    held = Translations.read(pairs, bundle.source, bundle.target, language, bundle.source_frame)
    if not held.pairs:
        raise DataError("no pair with a text on both sides", where=data or source, remedy="check the columns")
    held.require_reach(loaded.bundle.model.longest_target)
    started = time.perf_counter()
    outputs = _translated(loaded, pairs, search)
    seconds = time.perf_counter() - started
    if output is not None:
        write_atomic(output, "".join(one_line(each) + "\n" for each in outputs))
    scores: dict[str, Any] = dict(score_translations(outputs, [each.target for each in pairs], language))
    scores |= held.loss(loaded.bundle.model)
    scores |= {"sentences": len(pairs), "sentences_per_second": len(pairs) / seconds, "beams": search.beams}
    print_table(scores)
    if json:
        print_json(scores)


def _other(loaded: "Model", data: Path | None, settings: list[str], *, as_json: bool) -> None:
    """A language model or a classifier."""
    from clearhead.cli.options import setting
    from clearhead.train.evaluation import evaluate

    if data is None:
        raise UsageError("which text is to be scored?", remedy="give --data PATH")
    scores = evaluate(loaded.bundle, data, dict(map(setting, settings)))
    print_table(scores)
    if as_json:
        print_json(scores)


def _translated(loaded: "Model", pairs: "list[Pair]", search: "SearchConfig") -> list[str]:
    from clearhead.core.progress import track

    with track("sentence", len(pairs)) as bar:
        try:
            found = loaded.n_best([each.source for each in pairs], search, progress=bar)
        except DataError as error:
            number = text_number(error)
            raise error if number is None else relocated(error, pairs[number - 1].where) from None
    return [each[0][0] for each in found]


def _require_place(output: Path | None) -> None:
    """Refuse a place that cannot be written before the work is done, not after."""
    from clearhead.core.files import make_folder

    if output is not None and output.is_dir():
        raise UsageError("a folder, not a file", where=output, remedy="name a file in it")
    if output is not None:
        make_folder(output.parent)


def _pairs(source: Path | None, target: Path | None, data: Path | None) -> "list[Pair]":
    from clearhead.data.sources import SOURCES

    for each in (source, target, data):
        require_file(each)
    if data is not None and source is None and target is None:
        kind = "jsonl" if ".jsonl" in data.suffixes else "tsv"
        pairs = list(SOURCES.get(kind)(Path(), file=str(data)))
    elif data is None and source is not None and target is not None:
        pairs = list(SOURCES.get("parallel")(Path(), source=str(source), target=str(target)))
    else:
        raise UsageError(
            "which pairs are to be scored?", remedy="give either --source FILE and --target FILE, or --data FILE"
        )
    if not pairs:
        raise DataError("no sentence pairs: the file is empty", where=data or source, remedy="check the path")
    return pairs
