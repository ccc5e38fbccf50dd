"""Greedy search: the most probable token, again and again."""

from collections.abc import Sequence

import torch

from clearhead.generate.searches.base import SEARCHES, Hypothesis, Search
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.scores import largest, log_sums
from clearhead.generate.searches.single import Texts
from clearhead.generate.searches.writer import Writer


@SEARCHES.register("greedy")
class Greedy(Search):
    """One beam; the same tokens as `beam` with one, with less work."""

    def __init__(self, config: SearchConfig) -> None:
        super().__init__(config)
        self.refuse("beams", unless=1)
        self.refuse("coverage_penalty", unless=0.0)

    def run(self, writer: Writer, limits: Sequence[int]) -> list[list[Hypothesis]]:
        texts = Texts(self.config, limits, writer)
        logits = writer.logits(writer.begin()[:, -1])  # (texts, vocab)
        while True:
            best, tokens = (each[:, 0] for each in largest(logits, 1))
            going = texts.write(tokens, best - log_sums(logits)[:, 0])
            if not going:
                return texts.results
            if len(going) < tokens.shape[0]:
                kept = torch.tensor(going, device=tokens.device)  # (kept,)
                writer.keep(kept, torch.zeros_like(kept)[:, None])
                tokens = tokens[kept]
            _, more, totals, logits = writer.write_on(tokens, texts.totals, texts.room)
            texts.write_more(more, totals)
