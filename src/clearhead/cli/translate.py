"""clearhead translate: arguments, or lines of standard input, to standard output."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer

from clearhead.cli.options import Beams, Device, LengthPenalty, ModelFolder
from clearhead.core.errors import DataError

CHUNK = 512  # lines that are translated together


def command(
    model: ModelFolder,
    texts: Annotated[list[str] | None, typer.Argument(help="Sentences; none = lines of standard input.")] = None,
    beams: Beams = None,
    n_best: Annotated[int, typer.Option(min=1, help="Translations of each sentence, tab-separated, best first.")] = 1,
    length_penalty: LengthPenalty = None,
    device: Device = "cpu",
) -> None:
    """Translate sentences; line N of the output is the translation of sentence N.

    Example: clearhead translate runs/demo 我现在爱你

    Example: clearhead translate runs/multi30k < captions.en > captions.de
    """
    from clearhead.apply import load
    from clearhead.cli.searching import adjusted

    loaded = load(model, device=device)
    search = adjusted(loaded.search, beams=beams, n_best=n_best, length_penalty=length_penalty)
    lines, done = iter(texts) if texts else standard_input(), 0
    while chunk := list(islice(lines, CHUNK)):
        try:
            for found in loaded.n_best(chunk, search):
                print("\t".join(one_line(text) for text, _ in found), flush=True)
        except DataError as error:
            raise _renumbered(error, done) from None
        done += len(chunk)


def standard_input() -> Iterator[str]:
    """The lines of standard input; a DataError names a line that is not UTF-8."""
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            yield raw.rstrip(b"\r\n").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise DataError("not UTF-8 text", where=f"standard input, line {number}") from None


def one_line(text: str) -> str:
    """A translation must stay in its line and column."""
    return " ".join(text.split())


def _renumbered(error: DataError, done: int) -> DataError:
    place = str(error.where or "").removeprefix("text ")
    if not place.isdigit():
        return error
    where = f"line {done + int(place)}"
    return DataError(error.what, where=where, found=error.found, expected=error.expected, remedy=error.remedy)
