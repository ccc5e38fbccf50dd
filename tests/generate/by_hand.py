"""Searches as one would write them first: one source, Python lists, no cache, no batch. Slow and plain."""

from dataclasses import dataclass

import torch

from clearhead.generate import SearchConfig
from clearhead.model import Transformer

PAD, BOS, EOS = 0, 1, 2


@dataclass(frozen=True)
class Result:
    """One target with its score; `tokens` holds the end of sentence if there is one."""

    tokens: tuple[int, ...]
    score: float
    total: float

    @property
    def shown(self) -> list[int]:
        return [each for each in self.tokens if each != EOS]


def penalty(config: SearchConfig, length: int) -> float:
    """What a total is divided by."""
    base = length if config.penalty == "average" else (5 + length) / 6
    return base**config.length_penalty


@torch.inference_mode()
def next_log_probabilities(model: Transformer, source: list[int], prefixes: list[tuple[int, ...]]) -> list[list[float]]:
    """For each prefix, all of one length, log p(token | source, prefix) without padding; the whole model each time."""
    target = torch.tensor([[BOS, *each] for each in prefixes])
    hidden = model(torch.tensor([source]).expand(len(prefixes), -1), target)
    logits = model.logits(hidden[:, -1])
    logits[:, PAD] = -torch.inf
    return logits.log_softmax(dim=-1).tolist()


def log_probability(model: Transformer, source: list[int], tokens: list[int]) -> float:
    """log p(tokens | source), each token given those before it."""
    steps = [next_log_probabilities(model, source, [tuple(tokens[:i])])[0][token] for i, token in enumerate(tokens)]
    return sum(steps)


def exhaustive(model: Transformer, source: list[int], config: SearchConfig) -> list[Result]:
    """Every target that ends within the limit, and every one that the limit cuts off; best first."""
    limit, results, open_ones = config.limit(len(source)), [], {(): 0.0}
    for length in range(1, limit + 1):
        longer = {}
        prefixes = list(open_ones)
        for prefix, row in zip(prefixes, next_log_probabilities(model, source, prefixes), strict=True):
            for token, value in enumerate(row):
                if token == PAD:
                    continue
                tokens, total = (*prefix, token), open_ones[prefix] + value
                if token == EOS or length == limit:
                    results.append(Result(tokens, total / penalty(config, length), total))
                else:
                    longer[tokens] = total
        open_ones = longer
    return sorted(results, key=lambda each: -each.score)


def greedy(model: Transformer, source: list[int], config: SearchConfig) -> list[int]:
    """The most probable token, again and again."""
    tokens: list[int] = []
    while len(tokens) < config.limit(len(source)):
        row = next_log_probabilities(model, source, [tuple(tokens)])[0]
        tokens.append(max(range(len(row)), key=row.__getitem__))
        if tokens[-1] == EOS:
            break
    return tokens


def beam(model: Transformer, source: list[int], config: SearchConfig) -> list[Result]:
    """Beam search over one source, as the docstring of the real one tells it."""
    limit, pool, beams = config.limit(len(source)), [], {(): 0.0}
    for length in range(1, limit + 1):
        prefixes = list(beams)
        grown = [
            ((*prefix, token), beams[prefix] + value)
            for prefix, row in zip(prefixes, next_log_probabilities(model, source, prefixes), strict=True)
            for token, value in enumerate(row)
            if token != PAD
        ]
        best = sorted(grown, key=lambda each: -each[1])[: 2 * config.beams]
        for tokens, total in best[: config.beams]:
            if tokens[-1] == EOS or length == limit:
                pool.append(Result(tokens, total / penalty(config, length), total))
        pool = sorted(pool, key=lambda each: -each.score)[: config.beams]
        beams = dict([each for each in best if each[0][-1] != EOS][: config.beams])
        if not beams:
            break
        if len(pool) == config.beams and max(beams.values()) / penalty(config, length) <= pool[-1].score:
            break
    return pool
