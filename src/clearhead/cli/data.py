"""clearhead data: corpora with licence and checksum, and what is in a file."""

from pathlib import Path
from typing import Annotated

import typer

from clearhead.cli.options import AsJson, print_json, print_table

app = typer.Typer(help="List, fetch and describe corpora.", no_args_is_help=True)


@app.command("list")
def list_(json: AsJson = False) -> None:
    """Show the corpora that Clearhead knows."""
    from clearhead.data.catalog import catalog

    records = catalog()
    for each in records:
        print(f"{each.name:<16} {each.task:<14} {each.title}")
    if json:
        print_json({"datasets": [each.model_dump(mode="json") for each in records]})


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A name from clearhead data list.", metavar="NAME")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; data/NAME if not given.")] = None,
    base_url: Annotated[str | None, typer.Option(help="A mirror: file names are looked up beneath it.")] = None,
) -> None:
    """Download a corpus and check every file against its checksum.

    Example: clearhead data get multi30k --out data/multi30k
    """
    from clearhead.core.progress import say
    from clearhead.data.catalog import get as fetch

    for path in fetch(name, out or Path("data") / name, base_url=base_url, progress=say):
        print(path)


@app.command()
def describe(
    what: Annotated[
        str, typer.Argument(help="A name from clearhead data list, a file or a folder.", metavar="NAME|PATH")
    ],
    json: AsJson = False,
) -> None:
    """Show licence and origin of a corpus, or lines, lengths and duplicates of a file."""
    from clearhead.data.catalog import describe as facts

    found = facts(what)
    print_table(found)
    if json:
        print_json(found)
