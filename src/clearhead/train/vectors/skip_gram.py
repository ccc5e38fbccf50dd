"""Skip-gram with negative sampling (Mikolov et al., 2013, arXiv:1310.4546, section 2.2)."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor

from clearhead.core.errors import DataError
from clearhead.core.seeds import derive
from clearhead.train.vectors.base import VECTORS, Stream, Vectors


@VECTORS.register("skip_gram")
class SkipGram(Vectors):
    """Words whose vectors tell real neighbours from drawn ones.

    A step draws places in the text and for each a neighbour within the window, all distances alike; the drawn words
    come with their frequency to the power 3/4. Frequent words are not thinned out.

    Args:
        window: tokens to each side that are near.
        negatives: drawn words against each real neighbour.
        steps: updates.
        batch: pairs of an update.
        rate: step size of Adam.
    """

    def __init__(
        self,
        width: int,
        seed: int,
        *,
        window: PositiveInt = 5,
        negatives: PositiveInt = 5,
        steps: PositiveInt = 10_000,
        batch: PositiveInt = 1_024,
        rate: Annotated[float, Field(gt=0.0)] = 0.01,
    ) -> None:
        super().__init__(width, seed)
        self.window, self.negatives, self.steps, self.batch, self.rate = window, negatives, steps, batch, rate

    def learn(self, text: Iterable[Sequence[int]], words: Sequence[str]) -> Tensor:
        stream, generator = Stream.of(text, len(words)), torch.Generator().manual_seed(derive(self.seed, "skip-gram"))
        if not (stream.sequence[1:] == stream.sequence[:-1]).any():
            raise DataError("no two tokens stand together", remedy="give sequences of two tokens and more")
        noise = stream.ids.bincount(minlength=len(words)) ** 0.75
        own = (torch.rand(len(words), self.width, generator=generator) - 0.5) / self.width
        tables = own.requires_grad_(), torch.zeros_like(own).requires_grad_()  # of a word, and of a word as neighbour
        optimizer = torch.optim.SparseAdam(list(tables), lr=self.rate)
        for _ in range(self.steps):
            places, neighbours = self._pairs(stream, generator)
            drawn = noise.multinomial(self.batch * self.negatives, replacement=True, generator=generator)
            optimizer.zero_grad()
            loss(*tables, places, neighbours, drawn.view(self.batch, -1)[: len(places)]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()  # type: ignore[no-untyped-call]
        return tables[0].detach()

    def _pairs(self, stream: Stream, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Words and neighbours, each (pairs,); a place whose drawn neighbour is not of its sequence is left out."""
        tokens = len(stream.ids)
        place = torch.randint(tokens, (self.batch,), generator=generator)
        side = 2 * torch.randint(2, (self.batch,), generator=generator) - 1
        other = place + side * torch.randint(1, self.window + 1, (self.batch,), generator=generator)
        inside = other.clamp(0, tokens - 1)
        near = (inside == other) & (stream.sequence[inside] == stream.sequence[place])
        return stream.ids[place[near]], stream.ids[inside[near]]


def loss(own: Tensor, context: Tensor, words: Tensor, neighbours: Tensor, drawn: Tensor) -> Tensor:
    """-log sigmoid(w . c) - sum over drawn words of log sigmoid(-w . n), in nats per pair.

    Args:
        own, context: (vocab, width).
        words, neighbours: (pairs,) int64.
        drawn: (pairs, negatives) int64.
    """
    word = F.embedding(words, own, sparse=True)  # (pairs, width)
    near = (word * F.embedding(neighbours, context, sparse=True)).sum(dim=-1)  # (pairs,)
    far = (word[:, None] * F.embedding(drawn, context, sparse=True)).sum(dim=-1)  # (pairs, negatives)
    return -(F.logsigmoid(near).sum() + F.logsigmoid(-far).sum()) / max(1, len(words))
