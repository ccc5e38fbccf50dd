"""clearhead chat: a conversation with a model."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from clearhead.cli.lines import standard_input
from clearhead.cli.options import Device, ModelFolder
from clearhead.cli.sampling import (
    CacheKind,
    MaxTokens,
    MinP,
    More,
    RepetitionPenalty,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
    engine_of,
    sampling_of,
)
from clearhead.core.errors import DataError

if TYPE_CHECKING:
    from clearhead.apply import Model
    from clearhead.generate import SamplingConfig

HELP = "/reset begins anew, /quit ends; Ctrl-C stops an answer"


def command(
    model: ModelFolder,
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
    max_tokens: MaxTokens = None,
    stop: Stop = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    more: More = None,
    cache: CacheKind = "paged",
    device: Device = "cpu",
) -> None:
    """Talk with a model; each line is a message. /reset begins anew, /quit ends, Ctrl-C stops an answer.

    Example: clearhead chat runs/assistant --temperature 0.7
    """
    from clearhead.apply import load

    names = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    sampling = sampling_of(more, **names, repetition_penalty=repetition_penalty)
    loaded = load(model, device=device, engine=engine_of(cache))
    loaded.require_chat()
    Conversation(loaded, system, max_tokens, stop or [], sampling).run()


class Conversation:
    """Messages so far, and how to answer the next one."""

    def __init__(
        self, model: "Model", system: str | None, max_tokens: int | None, stop: list[str], sampling: "SamplingConfig"
    ) -> None:
        self.model, self.max_tokens, self.stop, self.sampling = model, max_tokens, stop, sampling
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
        with stoppable() as stopped:
            pieces = self.model.chat(asked, max_tokens=self.max_tokens, stop=self.stop, sampling=self.sampling)
            with contextlib.closing(pieces):
                for piece in pieces:
                    shown = piece if said else piece.lstrip()
                    said += shown
                    print(shown, end="", flush=True)
                    if stopped.is_set():
                        break
        print(flush=True)
        return said.rstrip()


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
