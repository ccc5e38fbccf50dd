"""Searches over any model as one would write them first: one text, Python lists, no cache, no batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from clearhead.generate import SearchConfig
from clearhead.model import Transformer
from clearhead.model.recorder import recording

PAD, BOS, EOS = 0, 1, 2


@dataclass(frozen=True)
class Result:
    """One text with its score; `tokens` holds the end if there is one."""

    tokens: tuple[int, ...]
    score: float
    total: float

    @property
    def shown(self) -> list[int]:
        return [each for each in self.tokens if each != EOS]


@dataclass(frozen=True)
class Look:
    """What the whole model says after a beginning."""

    values: list[float]  # log-probabilities of the next token
    hidden: np.ndarray  # (length, d_model), of all that the decoder has read
    attention: np.ndarray | None  # (target, source), the last cross-attention, its heads averaged


@torch.inference_mode()
def look(model: Transformer, text: list[int], written: tuple[int, ...]) -> Look:
    """Run the whole model on a text and what was written after it."""
    reads = bool(model.config.encoder_layers)
    begun = [BOS] if reads else text
    with recording(model) as record:
        memory = model.encode(torch.tensor([text])) if reads else None
        hidden = model.decode(torch.tensor([[*begun, *written]]), memory)
    logits = model.logits(hidden[:, -1])[0]
    if reads:
        logits[PAD] = -torch.inf
    crossed = [name for name in record if name.endswith("cross")]
    attention = record[crossed[-1]][0].mean(dim=0).numpy() if crossed else None
    return Look(logits.log_softmax(-1).tolist(), hidden[0].numpy(), attention)


def score(config: SearchConfig, seen: Look, total: float, length: int) -> float:
    """What a finished text is ranked by: `seen` is what its last token was chosen from."""
    base = length if config.penalty == "average" else (5 + length) / 6
    found = total / base**config.length_penalty
    if config.coverage_penalty:
        read = np.minimum(seen.attention.sum(axis=0), 1.0)
        found += config.coverage_penalty * float(np.log(np.maximum(read, 1e-9)).sum())
    return found


def every_text(model: Transformer, text: list[int], config: SearchConfig, limit: int) -> list[Result]:
    """Every text that ends within the limit, and every one that the limit cuts off; best first."""
    results, going = [], {(): 0.0}
    for length in range(1, limit + 1):
        longer = {}
        for written, total in going.items():
            seen = look(model, text, written)
            for token, value in enumerate(seen.values):
                if value == -math.inf:
                    continue
                if token == EOS or length == limit:
                    results.append(Result((*written, token), score(config, seen, total + value, length), total + value))
                else:
                    longer[(*written, token)] = total + value
        going = longer
    return sorted(results, key=lambda each: -each.score)


def beams(model: Transformer, text: list[int], config: SearchConfig, limit: int) -> list[Result]:
    """Groups of beams, each held back from what earlier ones took in the same step; one group is plain beam search."""
    options = config.method.options if config.method else {}
    groups = options.get("groups", 2 if config.chosen.kind == "diverse" else 1)
    diversity = options.get("diversity", 0.5)
    width = config.beams // groups
    pools: list[list[Result]] = [[] for _ in range(groups)]
    going: list[dict[tuple[int, ...], float]] = [{(): 0.0} for _ in range(groups)]
    for length in range(1, limit + 1):
        taken: list[int] = []
        for group in range(groups):
            seen = {written: look(model, text, written) for written in going[group]}
            grown = [
                ((*written, token), total + value, total + value - diversity * taken.count(token))
                for written, total in going[group].items()
                for token, value in enumerate(seen[written].values)
                if value > -math.inf
            ]
            best = sorted(grown, key=lambda each: -each[2])[: 2 * width]
            for tokens, total, _ in best[:width]:
                if tokens[-1] == EOS or length == limit:
                    pools[group].append(Result(tokens, score(config, seen[tokens[:-1]], total, length), total))
            pools[group] = sorted(pools[group], key=lambda each: -each.score)[:width]
            going[group] = dict([(tokens, total) for tokens, total, _ in best if tokens[-1] != EOS][:width])
            taken += [tokens[-1] for tokens in going[group]]
        if all(_done(config, pool, beams, width, length) for pool, beams in zip(pools, going, strict=True)):
            break
    return sorted([each for pool in pools for each in pool], key=lambda each: -each.score)


def _done(config: SearchConfig, pool: list[Result], going: dict, width: int, length: int) -> bool:
    if not going:
        return True
    base = length if config.penalty == "average" else (5 + length) / 6
    return len(pool) == width and max(going.values()) / base**config.length_penalty <= pool[-1].score


def contrastive(
    model: Transformer, text: list[int], limit: int, candidates: int, alpha: float
) -> tuple[tuple[int, ...], float]:
    """The tokens, and their log-probability."""
    written, total = (), 0.0
    while len(written) < limit:
        seen = look(model, text, written)
        likely = sorted(range(len(seen.values)), key=lambda token: -seen.values[token])[:candidates]
        before = seen.hidden / np.linalg.norm(seen.hidden, axis=1, keepdims=True)
        worth: Callable[[int], float] = lambda token: (  # noqa: E731
            (1 - alpha) * math.exp(seen.values[token])  # noqa: B023
            - alpha * max(before @ unit(look(model, text, (*written, token)).hidden[-1]))  # noqa: B023
        )
        best = max([token for token in likely if seen.values[token] > -math.inf], key=worth)
        written, total = (*written, best), total + seen.values[best]
        if best == EOS:
            break
    return written, total


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length 1."""
    return vector / np.linalg.norm(vector)
