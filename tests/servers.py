"""Servers of tiny untrained models, on a loopback port, each in a thread of its own."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import torch

from clearhead.apply import Model
from clearhead.bundle import Bundle
from clearhead.model import ModelConfig, Transformer
from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall
from clearhead.serve.server import Server, listen, settings
from clearhead.text import train_tokenizer

LAYERS = {"writer": (0, 2), "translator": (1, 1), "reader": (2, 0)}


def tiny_model(name: str, **changes: object) -> Model:
    """A model of 12 features that speaks bytes; always the same."""
    torch.manual_seed(11)
    tokenizer = train_tokenizer("byte", ["irrelevant"])
    encoder, decoder = LAYERS[name]
    sizes = {"encoder_layers": encoder, "decoder_layers": decoder, "d_model": 12, "heads": 2, "d_ff": 20}
    vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size}
    config = {**sizes, **vocab, "pad": tokenizer.need("pad"), "length": 300, **changes}
    search = {"beams": 2, "length_extra": 5, "length_factor": 0.5}
    return Model(Bundle(Transformer(ModelConfig(**config)), tokenizer, tokenizer, search), engine=ServeConfig().engine)


@contextlib.contextmanager
def running(hall: Hall, **changes: object) -> Iterator[str]:
    """The address of a server that serves a hall."""
    config = ServeConfig(port=0, **{"grace_seconds": 5.0, **changes})
    with listen(config) as listener:
        listener.listen(64)
        server, started = None, threading.Event()
        server = Server(settings(hall, config), started.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert started.wait(20)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    for _ in range(2_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came true")


def held(hall: Hall) -> int:
    """Blocks that somebody holds, and answers that wait, of all models."""
    loads = [each.engine.statistics.load for each in hall.models.values() if each.engine is not None]
    return sum(each.blocks_held + each.waiting + each.running for each in loads)
