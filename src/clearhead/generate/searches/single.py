"""What searches share that write one row for each text: what was written, and which texts are done."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.searches.base import Hypothesis
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.scores import divisor


class Texts:
    """The texts that are being written, and the results of those that are done.

    Args:
        limits: the most tokens of each text, end of sentence included.
        eos: the token that ends a text.
    """

    def __init__(self, config: SearchConfig, limits: Sequence[int], eos: int) -> None:
        self.config, self.eos = config, eos
        self.results: list[list[Hypothesis]] = [[] for _ in limits]
        self.places, self.limits = torch.arange(len(limits)), torch.tensor(limits)  # of those that go on, on the CPU
        self.written = self.places.new_empty(len(limits), 0)  # (texts, tokens)
        self.totals = torch.zeros(len(limits), dtype=torch.float64)  # (texts,) nats

    def write(self, tokens: Tensor, log_probabilities: Tensor) -> Tensor:
        """Write a token in each text, both (texts,); returns which texts go on, (kept,), on the device of the tokens.

        Raises:
            ModelError: a log-probability is not a number.
        """
        self.totals = self.totals + log_probabilities.cpu()
        if not bool(self.totals.isfinite().all()):
            raise ModelError("the model's logits are not numbers", remedy="look where training diverged")
        self.written = torch.cat([self.written, tokens.cpu()[:, None]], dim=1)
        ended = (self.written[:, -1] == self.eos) | (self.limits <= self.written.shape[1])
        for index in ended.nonzero()[:, 0].tolist():
            self.results[int(self.places[index])] = [self._hypothesis(index)]
        going = (~ended).nonzero()[:, 0]
        self.places, self.limits = self.places[going], self.limits[going]
        self.written, self.totals = self.written[going], self.totals[going]
        return going.to(tokens.device)

    def _hypothesis(self, index: int) -> Hypothesis:
        tokens, total = self.written[index].tolist(), float(self.totals[index])
        score = total / divisor(self.config, len(tokens))
        return Hypothesis(tokens[:-1] if tokens[-1] == self.eos else tokens, score, total)
