"""clearhead generate: prompts, or lines of standard input, to their continuations on standard output."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearhead.cli.lines import one_line, relocated, standard_input, text_number
from clearhead.cli.options import AsJson, Device, ModelFolder, print_json
from clearhead.cli.sampling import (
    CacheKind,
    MaxTokens,
    MinP,
    More,
    RepetitionPenalty,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
    engine_of,
    sampling_of,
)
from clearhead.core.errors import DataError, ModelError

if TYPE_CHECKING:
    from clearhead.apply import Answer, Model, Wish

CHUNK = 512  # lines that are continued together


def command(
    model: ModelFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(help="What to go on from; none = lines of standard input.", metavar="PROMPT")
    ] = None,
    max_tokens: MaxTokens = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Answers to each prompt, tab-separated.")] = 1,
    stop: Stop = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    more: More = None,
    log_probabilities: Annotated[
        int | None, typer.Option(min=0, help="With --json: of each token, and of so many most probable ones.")
    ] = None,
    cache: CacheKind = "dense",
    stats: Annotated[bool, typer.Option("--stats", help="Tell times and memory on standard error.")] = False,
    as_json: AsJson = False,
    device: Device = "cpu",
) -> None:
    """Continue texts; what an encoder-decoder makes of them.

    One prompt is answered word by word as it comes; line N of the output answers line N of standard input.

    Example: clearhead generate runs/stories "Once upon a time" --max-tokens 80 --temperature 0.8

    Example: clearhead generate runs/stories -n 3 --seed 7 < prompts.txt
    """
    from clearhead.apply import Wish, load

    names = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    sampling = sampling_of(more, **names, repetition_penalty=repetition_penalty)
    wish = Wish(max_tokens=max_tokens, stop=stop or [], sampling=sampling, n=n, log_probabilities=log_probabilities)
    loaded = load(model, device=device, engine=engine_of(cache))
    if texts and len(texts) == n == 1 and not as_json:
        _stream(loaded, texts[0], wish)
    else:
        answers = _lines(loaded, texts, wish, as_json=as_json)
        if as_json:
            print_json({"prompts": list(answers), "statistics": _statistics(loaded)})
        else:
            for _ in answers:
                pass
    if stats:
        for name, value in _statistics(loaded).items():
            print(f"{name.replace('_', ' ')}: {value:,.6g}", file=sys.stderr)


def _stream(model: "Model", text: str, wish: "Wish") -> None:
    """One answer as it comes."""
    for piece in model.stream(text, max_tokens=wish.max_tokens, stop=wish.stop, sampling=wish.sampling):
        print(piece, end="", flush=True)
    print(flush=True)


def _lines(model: "Model", texts: list[str] | None, wish: "Wish", *, as_json: bool) -> Iterator[dict[str, Any]]:
    """Answers to many prompts, in their order; printed unless they go into a document."""
    name, lines = ("prompt", iter(texts)) if texts else ("standard input, line", standard_input())
    size = 1 if not texts and sys.stdin.isatty() else CHUNK  # a person waits for an answer to each line
    done = 0
    while chunk := list(islice(lines, size)):
        try:
            found = model.complete(chunk, wish)
        except DataError as error:
            number = text_number(error)
            raise error if number is None else relocated(error, f"{name} {done + number}") from None
        for place, (text, answers) in enumerate(zip(chunk, found, strict=True), start=done + 1):
            _require_whole(answers, f"{name} {place}")
            if not as_json:
                print("\t".join(one_line(each.text) for each in answers), flush=True)
            yield {"prompt": text, "answers": [_document(each) for each in answers]}
        done += len(chunk)


def _require_whole(answers: "list[Answer]", where: str) -> None:
    for each in answers:
        if each.finish == "failed":
            raise ModelError("the answer failed", where=where, found=each.completion.error)


def _document(answer: "Answer") -> dict[str, Any]:
    """An answer with its tokens, as JSON has it."""
    told = {name: value for name, value in asdict(answer.completion).items() if value not in ([], None)}
    return {"text": answer.text, **told}


def _statistics(model: "Model") -> dict[str, Any]:
    """What the engine has done."""
    done = model.completer.engine.statistics
    rates = {"tokens_per_second": done.tokens_per_second, "mean_first_token_seconds": done.mean_first_token_seconds}
    counts = asdict(done)
    load = counts.pop("load")
    return {**counts, **load, **rates}
