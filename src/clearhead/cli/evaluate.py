"""clearhead evaluate: the scores of a model on pairs it has not seen."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from clearhead.cli.options import AsJson, Beams, Device, LengthPenalty, ModelFolder, print_json, print_table
from clearhead.core.errors import UsageError


def command(
    model: ModelFolder,
    source: Annotated[Path | None, typer.Option(help="Text file, one sentence a line.")] = None,
    target: Annotated[Path | None, typer.Option(help="Its reference translation, line by line.")] = None,
    data: Annotated[Path | None, typer.Option(help="Both in one file: .tsv (source, target) or .jsonl.")] = None,
    language: Annotated[str, typer.Option(help="Code of the target language, for tokenising before BLEU.")] = "",
    output: Annotated[Path | None, typer.Option(help="Write the translations here, one a line.")] = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    device: Device = "cpu",
    json: AsJson = False,
) -> None:
    """Score a model: BLEU with its signature, chrF, loss and perplexity.

    Example: clearhead evaluate runs/multi30k --source test.en --target test.de --language de --json
    """
    from clearhead.apply import load
    from clearhead.cli.searching import adjusted
    from clearhead.cli.translate import one_line
    from clearhead.core.files import write_atomic
    from clearhead.train.scores import score_translations
    from clearhead.train.validation import Translations

    pairs = list(_pairs(source, target, data))
    loaded = load(model, device=device)
    language = language or str(loaded.bundle.history.get("language", "en"))
    search = adjusted(loaded.search, beams=beams, length_penalty=length_penalty)
    started = time.perf_counter()
    outputs = loaded.translate([each.source for each in pairs], search)
    seconds = time.perf_counter() - started
    scores: dict[str, Any] = dict(score_translations(outputs, [each.target for each in pairs], language))
    held = Translations.read(pairs, loaded.bundle.source, loaded.bundle.target, language)
    scores |= held.loss(loaded.bundle.model)
    scores |= {"sentences": len(pairs), "sentences_per_second": len(pairs) / seconds, "beams": search.beams}
    if output is not None:
        write_atomic(output, "".join(one_line(each) + "\n" for each in outputs))
    print_table(scores)
    if json:
        print_json(scores)


def _pairs(source: Path | None, target: Path | None, data: Path | None) -> Any:
    from clearhead.data.sources import SOURCES, require_pairs

    if data is not None and source is None and target is None:
        kind = "jsonl" if ".jsonl" in data.suffixes else "tsv"
        pairs, name = SOURCES.get(kind)(Path(), file=str(data)), str(data)
    elif data is None and source is not None and target is not None:
        pairs, name = SOURCES.get("parallel")(Path(), source=str(source), target=str(target)), str(source)
    else:
        raise UsageError("which pairs?", expected="--source FILE and --target FILE, or --data FILE")
    require_pairs(pairs, name)
    return pairs
