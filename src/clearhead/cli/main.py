"""Find the command, run it, and tell a failure in one line on standard error."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import clearhead
from clearhead.cli import (
    chat,
    data,
    demo,
    env,
    evaluate,
    export,
    generate,
    import_hf,
    info,
    lab,
    serve,
    tokenizer,
    train,
    translate,
    verify,
)
from clearhead.cli.failures import failed, interruptible
from clearhead.core.allocator import prefer_fast_allocator

app = typer.Typer(
    name="clearhead",
    help="From raw text to a trained Transformer; add --debug to any command to see the traceback of a failure.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for each in (demo, train, translate, generate, chat, serve, evaluate, verify, info, env):
    app.command(each.__name__.rpartition(".")[2])(each.command)
app.command("import")(import_hf.command)
app.command("export")(export.command)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(data.app, name="data")
app.add_typer(lab.app, name="lab")


def _print_version(value: bool) -> None:
    if value:
        print(f"clearhead {clearhead.__version__}")
        raise typer.Exit


@app.callback()
def _clearhead(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    plugin: Annotated[
        list[Path] | None, typer.Option(help="A Python file with parts of your own; it is run.", metavar="FILE")
    ] = None,
) -> None:
    if plugin:
        from clearhead.core.plugins import load_plugin

        for each in plugin:
            load_plugin(each)


def main() -> None:
    """The entry point of `clearhead` and `python -m clearhead`."""
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as the text that is read, whatever the locale says
    options, dashes, texts = _parted(sys.argv[1:])
    if options[:1] in (["train"], ["demo"]):
        prefer_fast_allocator()
    debug = "--debug" in options
    sys.exit(run([each for each in options if each != "--debug"] + dashes + texts, debug=debug))


def _open_what_is_closed() -> None:
    """A service may start us without standard streams; Python then has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit status: 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    try:
        with interruptible():
            status = app(arguments, prog_name="clearhead", standalone_mode=False)
            sys.stdout.flush()
    except BaseException as error:
        return failed(error, debug=debug)
    return status if isinstance(status, int) else 0


def _parted(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What comes before `--`, the `--`, and what comes after it, which is text whatever it looks like."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place : place + 1], arguments[place + 1 :]
