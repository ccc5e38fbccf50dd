"""Find the command, run it, and tell a failure in one line on standard error."""

import os
import sys
import traceback

import click
import typer

from clearhead.cli import data, demo, env, evaluate, info, tokenizer, train, translate
from clearhead.core.errors import ClearheadError

app = typer.Typer(
    name="clearhead",
    help="From raw text to a trained, served Transformer; add --debug to any command to see a traceback.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for each in (demo, train, translate, evaluate, info, env):
    app.command()(each.command)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(data.app, name="data")
for group in (app, tokenizer.app, data.app):
    for entry in group.registered_commands:
        entry.name = entry.name or entry.callback.__module__.rpartition(".")[2] if entry.callback else entry.name


def main() -> None:
    """The entry point of `clearhead` and `python -m clearhead`."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    sys.exit(run([each for each in arguments if each != "--debug"], debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit status: 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    try:
        status = typer.main.get_command(app)(arguments, prog_name="clearhead", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except ClearheadError as error:
        return _failed(error, str(error), error.exit_code, debug=debug)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _failed(error, error.format_message(), error.exit_code, debug=debug)
    except (click.Abort, KeyboardInterrupt) as error:
        return _failed(error, "interrupted", 130, debug=debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; say nothing more
        return 1
    except MemoryError as error:
        return _failed(error, "out of memory; use a smaller train.batch_tokens or model", 1, debug=debug)


def _failed(error: BaseException, message: str, status: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    sys.stdout.flush()
    print(f"clearhead: {message}", file=sys.stderr)
    return status
