"""llama.cpp in a process of its own, so that its death is not ours. It runs without the rest of this package.

Question (standard input) and answer are JSON; the logits of all rows, one after another, go to a file of numpy.
"""

import json
import sys
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np


def main() -> None:
    """Read the question, let the engine read every row `rounds` times, write the answer."""
    asked = json.loads(sys.stdin.read())
    engine = _opened(asked)
    texts = [engine.tokenize(each.encode(), add_bos=False, special=False) for each in asked["texts"]]
    seconds, logits = [], []
    for _ in range(asked["rounds"]):
        begin = perf_counter()
        logits = [_read(engine, row) for row in asked["rows"]]
        seconds.append(perf_counter() - begin)
    np.save(asked["logits"], np.concatenate(logits))
    sys.stdout.write(json.dumps({"seconds": seconds, "texts": texts}))


def _opened(asked: dict[str, Any]) -> Any:
    """The model with keys and values in float32, as ours are."""
    package = import_module("llama_cpp")
    if not asked["repacked"]:
        _leave_weights_as_they_are(import_module("llama_cpp.llama_cpp"))
    return package.Llama(
        asked["path"],
        n_ctx=max(map(len, asked["rows"])),
        n_threads=asked["threads"],
        logits_all=True,
        type_k=package.GGML_TYPE_F32,
        type_v=package.GGML_TYPE_F32,
        verbose=False,
    )


def _leave_weights_as_they_are(bindings: Any) -> None:
    """Switch off what llama.cpp does to weights for some processors; its Python class has no word for it."""
    usual = bindings.llama_model_default_params

    def plain() -> Any:
        settings = usual()
        settings.use_extra_bufts = False
        return settings

    bindings.llama_model_default_params = plain


def _read(engine: Any, row: list[int]) -> "np.ndarray[Any, Any]":
    """(length, vocab)."""
    engine.reset()
    engine.eval(row)
    return np.array(engine.scores[: len(row)])


if __name__ == "__main__":
    main()
