"""clearhead translate: arguments, or lines of standard input, to standard output."""

import sys
from itertools import islice
from typing import Annotated

import typer

from clearhead.cli.lines import one_line, relocated, standard_input, text_number
from clearhead.cli.options import Beams, Device, LengthPenalty, ModelFolder
from clearhead.core.errors import DataError

CHUNK = 512  # lines that are translated together


def command(
    model: ModelFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Sentences; none = lines of standard input.", metavar="TEXT")
    ] = None,
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
    name, lines = ("sentence", iter(texts)) if texts else ("standard input, line", standard_input())
    size = 1 if not texts and sys.stdin.isatty() else CHUNK  # a person waits for an answer to each line
    done = 0
    while chunk := list(islice(lines, size)):
        try:
            found = loaded.n_best(chunk, search)
        except DataError as error:
            number = text_number(error)
            raise error if number is None else relocated(error, f"{name} {done + number}") from None
        for each in found:
            print("\t".join(one_line(text) for text, _ in each), flush=True)
        done += len(chunk)
