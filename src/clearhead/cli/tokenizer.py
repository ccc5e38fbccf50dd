"""clearhead tokenizer: train, encode and decode by themselves."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from clearhead.cli.translate import standard_input
from clearhead.core.errors import DataError

app = typer.Typer(help="Train a tokenizer, or use one.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="A tokenizer.json.", metavar="TOKENIZER")]


@app.command()
def train(
    files: Annotated[list[Path], typer.Argument(help="Text files, one sentence a line; also .gz.")],
    out: Annotated[Path, typer.Option(help="The tokenizer.json to write.")],
    kind: Annotated[str, typer.Option(help="byte_bpe, bpe, wordpiece, unigram, char or byte.")] = "byte_bpe",
    option: Annotated[list[str] | None, typer.Option("--set", help="An option of the kind: vocab_size=8000.")] = None,
) -> None:
    """Learn a vocabulary from text.

    Example: clearhead tokenizer train train.en train.de --out tokenizer.json --kind wordpiece --set vocab_size=4000
    """
    import yaml

    from clearhead.core.errors import UsageError
    from clearhead.core.progress import say
    from clearhead.core.registry import Choice
    from clearhead.data.sources import read_lines
    from clearhead.text import TOKENIZERS

    pairs = [each.partition("=") for each in option or []]
    if not all(equals for _, equals, _ in pairs):
        raise UsageError("an option is written name=value", found=option, expected="e.g. --set vocab_size=8000")
    options = {name: yaml.safe_load(value) for name, _, value in pairs}
    learner = TOKENIZERS.build(Choice(kind=kind, options=options))
    tokenizer = learner.train(line for file in files for _, line in read_lines(file))
    tokenizer.save(out)
    say(f"{tokenizer.vocab_size:,} tokens written to {out}")


@app.command()
def encode(
    tokenizer: File,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; none = lines of standard input.")] = None,
    pieces: Annotated[bool, typer.Option("--pieces", help="Print the tokens instead of their ids.")] = False,
) -> None:
    """Print the token ids of each text, one text a line.

    Example: clearhead tokenizer encode runs/demo/target_tokenizer.json "I love you." --pieces
    """
    from clearhead.text import Tokenizer

    loaded = Tokenizer.load(tokenizer)
    for text in texts or standard_input():
        ids = loaded.encode(text)
        print(" ".join(loaded.tokens(ids) if pieces else map(str, ids)))


@app.command()
def decode(
    tokenizer: File,
    ids: Annotated[list[int] | None, typer.Argument(help="Ids; none = lines of ids on standard input.")] = None,
) -> None:
    """Print the text of token ids."""
    from clearhead.text import Tokenizer

    loaded = Tokenizer.load(tokenizer)
    if ids:
        print(loaded.decode(ids))
        return
    for number, line in enumerate(sys.stdin, start=1):
        try:
            row = [int(each) for each in line.split()]
        except ValueError:
            raise DataError("not a token id", where=f"standard input, line {number}", found=line.strip()) from None
        print(loaded.decode(row))
