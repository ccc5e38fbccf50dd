"""What an engine and our model are both given: random ids, the same every time; and how fast each reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from clearhead.bundle.bundle import Bundle
from clearhead.model import Transformer

ROWS, LENGTH, ROUNDS = 8, 24, 5


@dataclass(frozen=True)
class Prompts:
    """Texts as ids, of different lengths."""

    sources: list[list[int]]  # empty without an encoder
    targets: list[list[int]]  # empty without a decoder

    @property
    def tokens(self) -> int:
        """How many are read."""
        return sum(map(len, (*self.sources, *self.targets)))

    @torch.inference_mode()
    def read(self, model: Transformer, end: list[int]) -> None:
        """Our model reads them in one batch; `end` stands after each source."""
        memory = None
        if self.sources:
            memory = model.encode(*_padded([[*row, *end] for row in self.sources], model.config.pad))
        if self.targets:
            target, valid = _padded(self.targets, model.config.pad)
            model.logits(model.decode(target, memory, valid=valid)).log_softmax(-1)


def prompts_of(bundle: Bundle) -> Prompts:
    """Ids that stand for text: no special token, unless there is nothing else."""
    config = bundle.model.config
    random = torch.Generator().manual_seed(7)
    longest = max(1, min(LENGTH, config.length - 2))

    def texts(vocab: int, special: frozenset[int]) -> list[list[int]]:
        ids = [each for each in range(vocab) if each not in special and each != config.pad] or [config.pad]
        lengths = torch.randint(max(1, longest // 2), longest + 1, (ROWS,), generator=random).tolist()
        lengths[0] = longest
        chosen = [torch.randint(len(ids), (length,), generator=random).tolist() for length in lengths]
        return [[ids[each] for each in row] for row in chosen]

    source, target = (_special(bundle, side) for side in ("source", "target"))
    return Prompts(
        texts(config.source_vocab or config.target_vocab, source) if config.encoder_layers else [],
        texts(config.target_vocab or config.source_vocab, target) if config.decoder_layers else [],
    )


def _special(bundle: Bundle, side: str) -> frozenset[int]:
    if not bundle.tokenizers:
        return frozenset(bundle.history.get("token_ids", {}).values())
    return bundle.source.special_ids if side == "source" else bundle.target.special_ids


def paced(tokens: int, ours: Callable[[], object], theirs: Callable[[], object]) -> dict[str, Any]:
    """Tokens per second of both: medians of alternating rounds after one that does not count."""
    took: dict[str, list[float]] = {"ours": [], "engine": []}
    for each in range(ROUNDS + 1):
        for name, read in (("ours", ours), ("engine", theirs)):
            begin = perf_counter()
            read()
            took[name] += [perf_counter() - begin] if each else []
    return {f"{name}_tokens_per_second": tokens / median(times) for name, times in took.items()}


def _padded(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (batch, length), padded on the right, and which are no padding."""
    length = max(map(len, rows))
    valid = torch.tensor([[place < len(row) for place in range(length)] for row in rows])
    return torch.tensor([row + [pad] * (length - len(row)) for row in rows]), valid
