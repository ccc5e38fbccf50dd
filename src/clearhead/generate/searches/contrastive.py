"""Contrastive search: probable, but unlike what was said before (Su et al., 2022, arXiv:2202.06417, section 3.2)."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, FiniteFloat, PositiveInt
from torch import Tensor

from clearhead.generate.searches.base import SEARCHES, Hypothesis, Search
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.scores import log_sums
from clearhead.generate.searches.single import Texts
from clearhead.generate.searches.writer import Writer


@SEARCHES.register("contrastive")
class Contrastive(Search):
    """Of the most probable tokens, the one with the largest (1 - alpha) * probability - alpha * likeness.

    Likeness is the largest cosine between the last hidden state of the candidate and that of any token that the
    decoder has read, the prompt included; so every step runs the model on all candidates.

    Args:
        candidates: tokens compared in each step, the paper's k.
        alpha: weight of the likeness, the degeneration penalty; 0 is greedy search.
    """

    ahead = 1

    def __init__(
        self,
        config: SearchConfig,
        *,
        candidates: PositiveInt = 4,
        alpha: Annotated[FiniteFloat, Field(ge=0.0, le=1.0)] = 0.6,
    ) -> None:
        super().__init__(config)
        self.refuse("beams", unless=1)
        self.refuse("coverage_penalty", unless=0.0)
        self.candidates, self.alpha = candidates, alpha

    def run(self, writer: Writer, limits: Sequence[int]) -> list[list[Hypothesis]]:
        texts = Texts(self.config, limits, writer)
        hidden = writer.begin()  # (texts, prompt, d_model)
        seen, logits = F.normalize(hidden, dim=2), writer.logits(hidden[:, -1])
        while True:
            tokens, values = self._candidates(logits)  # (texts, k)
            hidden = self._tried(writer, tokens)  # (texts, k, d_model)
            best = self._best(values, self._likeness(writer, hidden, seen))  # (texts, 1)
            writer.select(best)
            kept = texts.write(tokens.gather(1, best)[:, 0], values.gather(1, best)[:, 0])
            if not kept:
                return texts.results
            going = torch.tensor(kept, device=tokens.device)  # (kept,)
            writer.keep(going, torch.zeros_like(best[going]))
            hidden = hidden[going[:, None], best[going]]  # (texts, 1, d_model)
            seen, logits = torch.cat([seen[going], F.normalize(hidden, dim=2)], dim=1), writer.logits(hidden[:, 0])

    def _candidates(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable tokens and their log-probabilities, each (texts, k)."""
        best, tokens = logits.topk(min(self.candidates, logits.shape[1]), dim=1)
        return tokens, best - log_sums(logits)

    def _tried(self, writer: Writer, tokens: Tensor) -> Tensor:
        """Write each candidate in a row of its own: (texts, k) -> hidden states (texts, k, d_model)."""
        writer.select(torch.zeros_like(tokens))
        return writer.advance(tokens.flatten()).view(*tokens.shape, -1)

    def _likeness(self, writer: Writer, hidden: Tensor, seen: Tensor) -> Tensor:
        """The largest cosine of each candidate with what was read, (texts, k)."""
        cosines = F.normalize(hidden, dim=2) @ seen.mT  # (texts, k, read)
        if writer.valid is not None:
            cosines[:, :, : writer.valid.shape[1]].masked_fill_(~writer.valid[:, None], -torch.inf)
        return cosines.amax(dim=2)

    def _best(self, values: Tensor, likeness: Tensor) -> Tensor:
        """The place of the best candidate, (texts, 1); one that is impossible is never the best."""
        scores = (1 - self.alpha) * values.exp() - self.alpha * likeness  # (texts, k)
        return scores.masked_fill(values == -torch.inf, -torch.inf).argmax(dim=1, keepdim=True)
