"""clearhead generate: prompts, or lines of standard input, to their continuations on standard output."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearhead.cli.chunks import chunks
from clearhead.cli.groups import grouped
from clearhead.cli.lines import one_line
from clearhead.cli.options import AsJson, Device, ModelFolder, Weights, print_json
from clearhead.cli.sampling import CacheKind, Guessing, Writing, engine_of
from clearhead.cli.telling import LogProbabilities, Stats, of_engine, require_json, tell
from clearhead.core.errors import ModelError

if TYPE_CHECKING:
    from clearhead.apply import Answer, Model, Speculation, Wish

CHUNK = 512  # lines that are continued together


@grouped
def command(
    model: ModelFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(help="What to go on from; none = lines of standard input.", metavar="PROMPT")
    ] = None,
    *,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Answers to each prompt, tab-separated.")] = 1,
    writing: Writing,
    guessing: Guessing,
    cache: CacheKind = None,
    log_probabilities: LogProbabilities = None,
    stats: Stats = False,
    as_json: AsJson = False,
    device: Device = "cpu",
    weights: Weights = "float32",
) -> None:
    """Continue texts; what an encoder-decoder makes of them.

    One prompt is answered word by word as it comes; line N of the output answers line N of standard input.

    Example: clearhead generate runs/stories "Once upon a time" --max-tokens 80 --temperature 0.8

    Example: clearhead generate runs/stories -n 3 --seed 7 < prompts.txt

    Example: clearhead generate runs/large "Once upon" --speculate draft --draft runs/small --stats
    """
    from clearhead.apply import Wish, load

    require_json(log_probabilities, as_json=as_json)
    wish = Wish(
        max_tokens=writing.max_tokens,
        stop=writing.stops,
        sampling=writing.sampling(),
        n=n,
        log_probabilities=log_probabilities,
    )
    engine, speculation = engine_of(cache or "dense"), guessing.speculation(cache=cache, device=device)
    loaded = load(model, device=device, engine=engine, weights=weights)
    if texts and len(texts) == n == 1 and not as_json:
        _stream(loaded, texts[0], wish, speculation)
    elif as_json:
        prompts = [document for document, _ in _answered(loaded, texts, wish, speculation)]
        print_json({"prompts": prompts, "statistics": _statistics(loaded, speculation)})
    else:
        for _, line in _answered(loaded, texts, wish, speculation):
            print(line, flush=True)
    if stats:
        tell(_statistics(loaded, speculation))


def _stream(model: "Model", text: str, wish: "Wish", speculation: "Speculation | None") -> None:
    """One answer as it comes."""
    pieces = model.stream(
        text, max_tokens=wish.max_tokens, stop=wish.stop, sampling=wish.sampling, speculation=speculation
    )
    for piece in pieces:
        print(piece, end="", flush=True)
    print(flush=True)


def _answered(
    model: "Model", texts: list[str] | None, wish: "Wish", speculation: "Speculation | None"
) -> Iterator[tuple[dict[str, Any], str]]:
    """Answers to many prompts in their order, each as JSON has them and as a line."""
    for chunk in chunks(texts, "prompt", most=CHUNK):
        with chunk.placed():
            found = model.complete(chunk.texts, wish, speculation=speculation)
        for index, (text, answers) in enumerate(zip(chunk.texts, found, strict=True)):
            _require_whole(answers, chunk.place(index))
            line = "\t".join(one_line(each.text) for each in answers)
            yield {"prompt": text, "answers": [_document(each) for each in answers]}, line


def _require_whole(answers: "list[Answer]", where: str) -> None:
    for each in answers:
        if each.finish == "failed":
            raise ModelError("the answer failed", where=where, found=each.completion.error)


def _document(answer: "Answer") -> dict[str, Any]:
    """An answer with its tokens, as JSON has it."""
    told = {name: value for name, value in asdict(answer.completion).items() if value not in ([], None)}
    return {"text": answer.text, **told}


def _statistics(model: "Model", speculation: "Speculation | None") -> dict[str, Any]:
    """What was done, by the engine or by guessing ahead."""
    if speculation is None:
        return of_engine(model)
    done = speculation.statistics
    rates = {"acceptance_rate": done.acceptance_rate, "tokens_per_pass": done.tokens_per_pass}
    rates |= {"tokens_per_second": done.tokens_per_second, "mean_first_token_seconds": done.mean_first_token_seconds}
    return {**asdict(done), **rates}
