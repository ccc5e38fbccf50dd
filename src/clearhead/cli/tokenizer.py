"""clearhead tokenizer: train, encode and decode by themselves."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clearhead.cli.lines import one_line, standard_input
from clearhead.cli.options import require_file, setting
from clearhead.core.errors import DataError, TokenizerError, UsageError

app = typer.Typer(help="Train a tokenizer, or use one.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="A tokenizer.json, or the folder of one.", metavar="TOKENIZER")]


@app.command()
def train(
    files: Annotated[list[Path], typer.Argument(help="Text files, one sentence a line; also .gz.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="The tokenizer.json to write.")],
    kind: Annotated[str, typer.Option(help="byte_bpe, bpe, wordpiece, unigram, char or byte.")] = "byte_bpe",
    option: Annotated[list[str] | None, typer.Option("--set", help="An option of the kind: vocab_size=8000.")] = None,
) -> None:
    """Learn a vocabulary from text.

    Example: clearhead tokenizer train train.en train.de --out tokenizer.json --kind wordpiece --set vocab_size=4000
    """
    from clearhead.core.progress import say
    from clearhead.core.registry import Choice
    from clearhead.data.sources import read_lines
    from clearhead.text import TOKENIZERS

    for each in files:
        require_file(each)
    learner = TOKENIZERS.build(Choice(kind=kind, options=dict(map(setting, option or []))))
    try:
        tokenizer = learner.train(line for file in files for _, line in read_lines(file))
    except TokenizerError as error:
        where = error.where or ", ".join(map(str, files))
        raise TokenizerError(
            error.what, where=where, found=error.found, expected=error.expected, remedy=error.remedy
        ) from error
    tokenizer.save(out)
    say(f"{tokenizer.vocab_size:,} tokens written to {out}")


@app.command()
def encode(
    tokenizer: File,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; none = lines of standard input.", metavar="TEXT")
    ] = None,
    pieces: Annotated[bool, typer.Option("--pieces", help="Print the tokens instead of their ids.")] = False,
) -> None:
    """Print the token ids of each text, one text a line.

    Example: clearhead tokenizer encode runs/demo/target_tokenizer.json "I love you." --pieces
    """
    loaded = _loaded(tokenizer)
    for text in texts or standard_input():
        ids = loaded.encode(text)
        print(" ".join(loaded.tokens(ids) if pieces else map(str, ids)))


@app.command()
def decode(
    tokenizer: File,
    ids: Annotated[
        list[int] | None, typer.Argument(help="Ids; none = lines of ids on standard input.", metavar="ID")
    ] = None,
) -> None:
    """Print the text of token ids, one text a line.

    Example: clearhead tokenizer encode tokenizer.json < text | clearhead tokenizer decode tokenizer.json
    """
    loaded = _loaded(tokenizer)
    if ids:
        print(one_line(loaded.decode(ids)))
        return
    for number, line in enumerate(standard_input(), start=1):
        where = f"standard input, line {number}"
        try:
            print(one_line(loaded.decode([int(each) for each in line.split()])))
        except ValueError:
            raise DataError("not token ids", where=where, found=line, expected="whole numbers") from None
        except TokenizerError as error:
            raise DataError(error.what, where=where, found=error.found, expected=error.expected) from None


def _loaded(path: Path) -> Any:
    from clearhead.text import Tokenizer

    if (path / "source_tokenizer.json").exists() and not (path / "tokenizer.json").exists():
        names = f"{path / 'source_tokenizer.json'} or {path / 'target_tokenizer.json'}"
        raise UsageError("this model has two tokenizers", where=path, remedy=f"give {names}")
    if not path.is_dir():
        require_file(path)
    return Tokenizer.load(path)
