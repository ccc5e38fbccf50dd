"""Find the command, run it, and tell a failure in one line on standard error."""

import os
import sys
import traceback

import typer

from clearhead.cli import data, demo, env, evaluate, info, tokenizer, train, translate
from clearhead.core.errors import ClearheadError

app = typer.Typer(
    name="clearhead",
    help="From raw text to a trained Transformer; add --debug to any command to see the traceback of a failure.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for each in (demo, train, translate, evaluate, info, env):
    app.command(each.__name__.rpartition(".")[2])(each.command)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(data.app, name="data")


def main() -> None:
    """The entry point of `clearhead` and `python -m clearhead`."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    sys.exit(run([each for each in arguments if each != "--debug"], debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit status: 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    try:
        app(arguments, prog_name="clearhead")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except ClearheadError as error:
        return _failed(error, str(error), error.exit_code, debug=debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: say nothing more
        return 1
    except MemoryError as error:
        return _failed(error, "out of memory; use a smaller train.batch_tokens or model", 1, debug=debug)
    return 0


def _failed(error: BaseException, message: str, status: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    sys.stdout.flush()
    print(f"clearhead: {message}", file=sys.stderr)
    return status
