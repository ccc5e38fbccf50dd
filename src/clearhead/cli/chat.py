"""clearhead chat: a conversation with a model."""

import contextlib
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from clearhead.cli.groups import grouped
from clearhead.cli.lines import standard_input
from clearhead.cli.options import Device, ModelFolder, Weights
from clearhead.cli.sampling import CacheKind, Guessing, Writing, engine_of
from clearhead.core.errors import DataError

if TYPE_CHECKING:
    from clearhead.apply import Model, Speculation, Wish

HELP = "/reset begins anew, /quit ends; Ctrl-C stops an answer"


@grouped
def command(
    model: ModelFolder,
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
    *,
    writing: Writing,
    guessing: Guessing,
    cache: CacheKind = None,
    device: Device = "cpu",
    weights: Weights = "float32",
) -> None:
    """Talk with a model; each line is a message. /reset begins anew, /quit ends, Ctrl-C stops an answer.

    Example: clearhead chat runs/assistant --temperature 0.7
    """
    from clearhead.apply import Wish, load

    wish = Wish(max_tokens=writing.max_tokens, stop=writing.stops, sampling=writing.sampling())
    engine, speculation = engine_of(cache or "paged"), guessing.speculation(cache=cache, device=device)
    loaded = load(model, device=device, engine=engine, weights=weights)
    loaded.require_chat()
    Conversation(loaded, system, wish, speculation).run()


class Conversation:
    """Messages so far, and how to answer the next one."""

    def __init__(
        self, model: "Model", system: str | None, wish: "Wish", speculation: "Speculation | None" = None
    ) -> None:
        self.model, self.wish, self.speculation = model, wish, speculation
        self.start = [] if system is None else [{"role": "system", "content": system}]
        self.messages = list(self.start)

    def run(self) -> None:
        """Answer lines until /quit or their end."""
        person = sys.stdin.isatty()
        if person:
            print(HELP, file=sys.stderr)
        for line in _asked(person=person):
            text = line.strip()
            if text == "/quit":
                break
            if text == "/reset":
                self.messages = list(self.start)
            elif text:
                self.answer(text)

    def answer(self, text: str) -> None:
        """Answer a message; what cannot be answered is told, and forgotten."""
        asked = [*self.messages, {"role": "user", "content": text}]
        try:
            said = self._said(asked)
        except DataError as error:
            print(f"clearhead: {error}; /reset begins anew", file=sys.stderr)
        else:
            self.messages = [*asked, {"role": "assistant", "content": said}]

    def _said(self, asked: list[dict[str, str]]) -> str:
        """The answer, printed as it comes; a part of it after Ctrl-C."""
        said = ""
        with stoppable() as stopped, contextlib.closing(self._pieces(asked)) as pieces:
            for piece in pieces:
                shown = piece if said else piece.lstrip()
                said += shown
                print(shown, end="", flush=True)
                if stopped.is_set():
                    break
        print(flush=True)
        return said.rstrip()

    def _pieces(self, asked: list[dict[str, str]]) -> Generator[str, None, None]:
        wish = self.wish
        return self.model.chat(
            asked,
            max_tokens=wish.max_tokens,
            stop=wish.stop,
            sampling=wish.sampling,
            speculation=self.speculation,
        )


@contextlib.contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Inside the block Ctrl-C only sets the event: the engine is not torn out of a step."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _asked(*, person: bool) -> Iterator[str]:
    """The lines of standard input, each after a prompt where a person types."""
    lines = standard_input()
    while True:
        if person:
            print("> ", end="", file=sys.stderr, flush=True)
        line = next(lines, None)
        if line is None:
            return
        yield line
