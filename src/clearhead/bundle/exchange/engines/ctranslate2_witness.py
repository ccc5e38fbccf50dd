"""CTranslate2 as the witness: scores of given texts and greedy translations, its and ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange.engines.base import Verdict, library
from clearhead.bundle.exchange.engines.prompts import paced, prompts_of
from clearhead.core.errors import BundleError
from clearhead.core.files import read_json


def translated(bundle: Bundle, folder: Path, quantization: str) -> Verdict:
    """Log-probabilities of given targets, and greedy translations."""
    prompts, words = prompts_of(bundle), _words(folder)
    engine = _opened("Translator", folder, quantization)
    asked, given = words.named(prompts.sources, words.source), words.named(prompts.targets, words.target)
    sources = [[*row, *words.end] for row in prompts.sources]
    pairs = list(zip(sources, prompts.targets, strict=True))
    ours = [_log_probabilities(bundle, source, [words.start, *to], [*to, words.stop]) for source, to in pairs]
    theirs = [torch.tensor(each.log_probs) for each in engine.score_batch(asked, given)]
    same = _same_translations(engine, bundle, sources, words)
    facts: dict[str, Any] = {"same_greedy_translations": f"{same} of {len(sources)}"}
    read = partial(prompts.read, bundle.model, words.end)
    facts |= paced(prompts.tokens, read, lambda: engine.score_batch(asked, given))
    return _verdict("max_abs_log_probability_difference", ours, theirs, facts)


@dataclass(frozen=True)
class Words:
    """The names that ids have there, and the ids round a text."""

    source: list[str]
    target: list[str]
    end: list[int]  # what the engine puts after a source by itself
    start: int
    stop: int

    def named(self, rows: Sequence[Sequence[int]], names: Sequence[str]) -> list[list[str]]:
        """Tokens in place of ids."""
        return [[names[each] for each in row] for row in rows]


def _words(folder: Path) -> Words:
    source, target = _names(folder, "source"), _names(folder, "target")
    known = read_json(folder / "config.json", BundleError)
    end = [source.index(known["eos_token"])] if known["add_source_eos"] else []
    return Words(source, target, end, target.index(known["decoder_start_token"]), target.index(known["eos_token"]))


def _names(folder: Path, side: str) -> list[str]:
    shared = folder / "shared_vocabulary.json"
    names: list[str] = read_json(shared if shared.is_file() else folder / f"{side}_vocabulary.json", BundleError)
    return names


def _same_translations(engine: Any, bundle: Bundle, sources: list[list[int]], words: Words) -> int:
    """How many sources both translate in the same way, padding forbidden as in our searches."""
    length, never = max(map(len, sources)), [[words.target[bundle.model.config.pad]]]
    bare = [row[: len(row) - len(words.end)] for row in sources]
    told = engine.translate_batch(
        words.named(bare, words.source),
        beam_size=1,
        max_decoding_length=length,
        min_decoding_length=0,
        suppress_sequences=never,
    )
    theirs = [[words.target.index(token) for token in each.hypotheses[0]] for each in told]
    ours = [_greedy(bundle, row, words.start, words.stop, length) for row in sources]
    return sum(own == their for own, their in zip(ours, theirs, strict=True))


def continued(bundle: Bundle, folder: Path, quantization: str) -> Verdict:
    """Logits of every token of some texts."""
    prompts, model = prompts_of(bundle), bundle.model
    engine = _opened("Generator", folder, quantization)
    rows = prompts.targets

    def read() -> Any:
        return np.array(engine.forward_batch(rows, return_log_probs=False))

    with torch.inference_mode():
        ours = [model.logits(model.decode(torch.tensor([row])))[0] for row in rows]
    answers = torch.from_numpy(read())
    theirs = [answers[index, : len(row)] for index, row in enumerate(rows)]
    same = torch.cat([own.argmax(-1) == their.argmax(-1) for own, their in zip(ours, theirs, strict=True)])
    facts: dict[str, Any] = {"same_best_tokens": f"{int(same.sum())} of {len(same)}"}
    return _verdict(
        "max_abs_logit_difference", ours, theirs, facts | paced(prompts.tokens, lambda: prompts.read(model, []), read)
    )


def _opened(kind: str, folder: Path, quantization: str) -> Any:
    """On a processor float16 is a way to store; what is computed is float32."""
    computed = "float32" if quantization == "float16" else "default"
    threads = torch.get_num_threads()
    return getattr(library("ctranslate2"), kind)(str(folder), compute_type=computed, intra_threads=threads)


def _verdict(name: str, ours: Sequence[Tensor], theirs: Sequence[Tensor], facts: dict[str, Any]) -> Verdict:
    own, their = torch.cat([each.flatten() for each in ours]), torch.cat([each.flatten() for each in theirs])
    if own.shape != their.shape:
        raise BundleError("the engine gives another number of scores", found=len(their), expected=len(own))
    return Verdict(name, float((own - their).abs().max()), float(own.abs().max()), facts)


@torch.inference_mode()
def _log_probabilities(bundle: Bundle, source: list[int], target: list[int], said: list[int]) -> Tensor:
    """Of what is said after each token of a target, (tokens,)."""
    model = bundle.model
    scores = model.logits(model.decode(torch.tensor([target]), model.encode(torch.tensor([source]))))
    return scores[0].log_softmax(-1).gather(1, torch.tensor(said)[:, None])[:, 0]


@torch.inference_mode()
def _greedy(bundle: Bundle, source: list[int], start: int, stop: int, length: int) -> list[int]:
    """The likeliest token after the others, again and again; padding never."""
    model, said = bundle.model, [start]
    memory = model.encode(torch.tensor([source]))
    while len(said) <= length:
        scores = model.logits(model.decode(torch.tensor([said]), memory))[0, -1]
        scores[model.config.pad] = -torch.inf
        if (best := int(scores.argmax())) == stop:
            break
        said.append(best)
    return said[1:]
