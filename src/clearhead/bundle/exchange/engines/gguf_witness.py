"""llama.cpp as the witness: logits of random texts, and ids of some words."""

import json
import subprocess
import sys
from inspect import getsource
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange.engines import gguf_child
from clearhead.bundle.exchange.engines.base import Verdict
from clearhead.bundle.exchange.engines.prompts import ROUNDS, paced, prompts_of
from clearhead.core.errors import BundleError

GELU = 2e-3  # llama.cpp looks the GELU up in a table in float16
TEXTS = ("Hello, world!", "  two  spaces,\nand 12,345 lines.", "don't — 你好 é", "the cat sat on the mat")


@torch.inference_mode()
def verdict(bundle: Bundle, path: Path, *, words: bool) -> Verdict:
    """The largest difference of two logits, how many best tokens are the same, and that texts have the same ids.

    Args:
        bundle: ours.
        path: of the file.
        words: whether the file has the tokenizer.
    """
    model, rows = bundle.model, prompts_of(bundle).targets
    texts = TEXTS if words else ()
    answer, theirs = _asked({"path": str(path), "rows": rows, "texts": texts, "threads": torch.get_num_threads()})
    _refuse_other_ids(bundle, texts, answer["texts"])

    def read() -> torch.Tensor:
        return torch.cat([model.logits(model.decode(torch.tensor([row])))[0] for row in rows])  # (tokens, vocab)

    ours = read()
    same = ours.argmax(-1) == theirs.argmax(-1)
    facts: dict[str, Any] = {"same_best_tokens": f"{int(same.sum())} of {len(same)}"} | answer["notes"]
    speeds = paced(len(same), read, read)["ours_tokens_per_second"], len(same) / median(answer["seconds"][1:])
    facts |= dict(zip(("ours_tokens_per_second", "engine_tokens_per_second"), speeds, strict=True))
    difference, coarse = float((ours - theirs).abs().max()), GELU if "gelu" in model.config.feedforward.kind else 0.0
    return Verdict("max_abs_logit_difference", difference, float(ours.abs().max()), facts, coarse)


def _asked(question: dict[str, Any]) -> tuple[dict[str, Any], torch.Tensor]:
    """The answer and the logits (tokens, vocab); again with the weights as they are, if the engine dies of its own."""
    with TemporaryDirectory() as folder:
        logits = Path(folder) / "logits.npy"
        for repacked in (True, False):
            asked = {**question, "rounds": ROUNDS + 1, "repacked": repacked, "logits": str(logits)}
            done = subprocess.run(
                [sys.executable, "-c", getsource(gguf_child)],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                notes = {} if repacked else {"note": "llama.cpp dies here unless use_extra_bufts is off"}
                return json.loads(done.stdout) | {"notes": notes}, torch.from_numpy(np.load(logits))
            if done.returncode > 0:  # an error that it tells, not a death by a signal
                break
    told = done.stderr.strip().splitlines()
    found = told[-1] if told and done.returncode > 0 else f"exit status {done.returncode}"
    raise BundleError("llama.cpp cannot read this file", where=question["path"], found=found)


def _refuse_other_ids(bundle: Bundle, texts: tuple[str, ...], theirs: list[list[int]]) -> None:
    for text, found in zip(texts, theirs, strict=True):
        if (ours := bundle.target.encode(text)) != found:
            raise BundleError(f"llama.cpp reads {text!r} with other ids", found=found, expected=ours)
