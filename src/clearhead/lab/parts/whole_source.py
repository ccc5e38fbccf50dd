"""A task of pairs as one for an encoder alone: it reads the source and says the whole target at once."""

from dataclasses import replace

import torch

from clearhead.data.synthetic import Samples, Task


class WholeSource(Task):
    """What an encoder-decoder task asks, label by label beside the source."""

    def __init__(self, pairs: Task) -> None:
        self.pairs, self.vocab, self.best = pairs, pairs.vocab, pairs.best

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        samples = self.pairs.draw(count, generator)
        assert samples.source is not None, "a task of pairs has a source"
        return replace(samples, tokens=samples.source, valid=samples.source_valid, source=None, source_valid=None)
