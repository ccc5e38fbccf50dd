"""clearhead translate: arguments, or lines of standard input, to standard output."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from clearhead.cli.chunks import chunks
from clearhead.cli.lines import one_line, unbroken
from clearhead.cli.options import AsJson, Beams, Device, LengthPenalty, ModelFolder, MoreSearch, Weights, print_json
from clearhead.cli.telling import LogProbabilities, Stats, of_engine, require_json, tell
from clearhead.core.errors import UsageError

if TYPE_CHECKING:
    from clearhead.apply import Model
    from clearhead.generate import Hypothesis, SearchConfig

    Found = list[tuple[str, Hypothesis]]

Item = TypeVar("Item")
CHUNK = 512  # lines that are sorted by length, to be translated in batches


def command(
    model: ModelFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Sentences; none = lines of standard input.", metavar="TEXT")
    ] = None,
    beams: Beams = None,
    n_best: Annotated[
        int, typer.Option("-n", "--n-best", min=1, help="Translations of each sentence, tab-separated, best first.")
    ] = 1,
    length_penalty: LengthPenalty = None,
    more_search: MoreSearch = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a translation; default: by the length of the sentence.")
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(help="Token that translations begin with, e.g. of a language: de_DE.", metavar="TOKEN"),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Write word by word, as it comes; greedy: always the most probable token.")
    ] = False,
    log_probabilities: LogProbabilities = None,
    stats: Stats = False,
    as_json: AsJson = False,
    device: Device = "cpu",
    weights: Weights = "float32",
) -> None:
    """Translate sentences; line N of the output is the translation of sentence N, printed as soon as it is known.

    Example: clearhead translate runs/demo 我现在爱你

    Example: clearhead translate runs/multi30k < captions.en > captions.de

    Example: clearhead translate runs/demo 我现在爱你 -n 3 --json --log-probabilities 2
    """
    from clearhead.apply import load
    from clearhead.cli.searching import adjusted

    require_json(log_probabilities, as_json=as_json)
    if stream:
        many = {"--beams": beams not in (None, 1), "--n-best": n_best > 1}
        settings = {"--length-penalty": length_penalty is not None, "--search": bool(more_search)}
        _require_plain({**many, **settings, "--json": as_json})
    loaded, done = load(model, device=device, weights=weights), Done()
    if begin is not None:
        loaded.begin_with(begin)
    named = {"beams": beams, "n_best": n_best, "length_penalty": length_penalty, "max_tokens": max_tokens}
    search = adjusted(loaded.search, named, more_search)
    found = done.counted(_found(loaded, texts, search))
    if stream:
        _stream(loaded, texts, search)
    elif as_json:
        sentences = [_document(loaded, text, each, log_probabilities) for text, each in found]
        print_json({"sentences": sentences, "statistics": done.statistics()})
    else:
        for _, each in found:
            print("\t".join(one_line(text) for text, _ in each), flush=True)
    if stats:
        tell(of_engine(loaded) if stream else done.statistics())


def _require_plain(given: dict[str, bool]) -> None:
    """Refuse options that have no meaning for a translation that is told while it is written."""
    for name, used in given.items():
        if used:
            remedy = f"leave --stream or {name} out"
            raise UsageError("a stream is one translation by greedy search", where=name, remedy=remedy)


def _stream(model: "Model", texts: list[str] | None, search: "SearchConfig") -> None:
    """One translation after the other, each as it comes."""
    for chunk in chunks(texts, "sentence", most=1):
        with chunk.placed():
            for piece in model.stream_translation(chunk.texts[0], search):
                print(unbroken(piece), end="", flush=True)
        print(flush=True)


def _found(model: "Model", texts: list[str] | None, search: "SearchConfig") -> "Iterator[tuple[str, Found]]":
    """Sentences and their translations, in the order of the sentences."""
    for chunk in chunks(texts, "sentence", most=CHUNK):
        with chunk.placed():
            found = model.translations(chunk.texts, search)
        yield from zip(chunk.texts, in_order(found), strict=True)


def in_order(found: Iterable[tuple[int, Item]]) -> Iterator[Item]:
    """What comes with its place, from 0, in the order of the places; each as soon as those before it are there."""
    waiting: dict[int, Item] = {}
    told = 0
    for place, each in found:
        waiting[place] = each
        while told in waiting:
            yield waiting.pop(told)
            told += 1


def _document(model: "Model", text: str, found: "Found", log_probabilities: int | None) -> dict[str, Any]:
    """A sentence and its translations, as JSON has them."""
    translations = [{"text": one, **asdict(each)} for one, each in found]
    if log_probabilities is not None:
        for told, (_, each) in zip(translations, found, strict=True):
            told |= asdict(model.token_scores(text, each.tokens, top=log_probabilities))
    return {"sentence": text, "translations": translations}


@dataclass
class Done:
    """What was translated, and how long it took."""

    sentences: int = 0
    chosen_tokens: int = 0  # of the best translations
    seconds: float = 0.0  # from the start to the last sentence
    first_sentence_seconds: float = 0.0

    def counted(self, found: "Iterable[tuple[str, Found]]") -> "Iterator[tuple[str, Found]]":
        """The same, counted while it comes."""
        started = time.perf_counter()
        for text, each in found:
            self.seconds = time.perf_counter() - started
            self.first_sentence_seconds = self.first_sentence_seconds or self.seconds
            self.sentences += 1
            self.chosen_tokens += len(each[0][1].tokens)
            yield text, each

    def statistics(self) -> dict[str, Any]:
        """All of it, and rates."""
        seconds = self.seconds or float("inf")
        rates = {"sentences_per_second": self.sentences / seconds, "tokens_per_second": self.chosen_tokens / seconds}
        return {**asdict(self), **rates}
