"""Moving tokens: copy, reverse, rotate, delay, retrieve at a distance. The answer is certain, so the best loss is 0.

Ids: 0 padding, 1 separator, which also starts the target, 2 to `symbols` + 1 the symbols.
"""

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from clearhead.data.synthetic.base import IGNORED, TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, at_most, uniform, whole
from clearhead.data.synthetic.pairs import Form

SEPARATOR, FIRST = 1, 2


class Moving(Task):
    """A random source and a target made of its tokens.

        form decoder           tokens  a b c | x y         labels  - - - x y z
        form encoder_decoder   source  a b c      tokens  | x y      labels  x y z

    Args:
        length: tokens of the source (and of the target), or the largest number of them.
        shortest: the least number; all from it to `length` are equally likely. None = `length`, so no padding.
        symbols: different symbols there are.
        form: one sequence for a decoder-only model, or source and target for an encoder-decoder.
    """

    best = 0.0

    def __init__(
        self, *, length: int = 8, shortest: int | None = None, symbols: int = 16, form: Form = "decoder"
    ) -> None:
        at_least(1, length=length, shortest=shortest, symbols=symbols)
        at_most(length, "the length", shortest=shortest)
        self.length, self.shortest = length, length if shortest is None else shortest
        self.symbols, self.form = symbols, form
        self.vocab = FIRST + symbols

    @abstractmethod
    def read(self, places: Tensor, lengths: Tensor) -> Tensor:
        """Which token of the source, from 0, each place of the target holds.

        Args:
            places: (1, length) int64, 0 to length - 1.
            lengths: (batch, 1) int64, tokens of each source; places from there on do not matter.
        """

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        numbers = uniform(count, self.length + 1, generator)
        lengths = self.shortest + whole(numbers[:, :1], self.length - self.shortest + 1)  # (batch, 1)
        places = torch.arange(self.length)[None]
        source = (FIRST + whole(numbers[:, 1:], self.symbols)).where(places < lengths, 0)  # (batch, length)
        read = self.read(places, lengths).expand(count, -1).clamp(0, self.length - 1)
        target = source.gather(1, read).where(places < lengths, 0)
        return self._shaped(source, target, lengths)

    def _shaped(self, source: Tensor, target: Tensor, lengths: Tensor) -> Samples:
        shaped = in_one if self.form == "decoder" else in_two
        samples = shaped(source, target, lengths)
        return samples if self.shortest < self.length else replace(samples, valid=None, source_valid=None)


def in_one(source: Tensor, target: Tensor, lengths: Tensor) -> Samples:
    """Source, separator and target in one sequence, (batch, 2 * length); only the target is asked for."""
    places = torch.arange(source.shape[1] + target.shape[1] + 1)[None]
    after = places - lengths - 1  # places of the target
    joined = functional.pad(source, (0, target.shape[1] + 1))  # (batch, 2 * length + 1)
    joined = torch.where(places == lengths, SEPARATOR, joined)
    moved = target.gather(1, after.clamp(0, target.shape[1] - 1))
    inside = (after >= 0) & (after < lengths)
    joined = torch.where(inside, moved, joined)
    labels = joined.where(inside, IGNORED)[:, 1:]
    valid = (places < 2 * lengths)[:, :-1]  # the last token of the target is never read
    return Samples(joined[:, :-1].where(valid, 0), labels, valid)


def in_two(source: Tensor, target: Tensor, lengths: Tensor) -> Samples:
    """The source for the encoder; separator and target for the decoder, (batch, length)."""
    valid = torch.arange(source.shape[1])[None] < lengths  # (batch, length)
    tokens = functional.pad(target, (1, 0), value=SEPARATOR)[:, :-1].where(valid, 0)
    return Samples(tokens, target.where(valid, IGNORED), valid, source, valid)


@TASKS.register("copy")
class Copy(Moving):
    """The source again."""

    def read(self, places: Tensor, lengths: Tensor) -> Tensor:
        return places


@TASKS.register("reverse")
class Reverse(Moving):
    """The source from its end to its beginning."""

    def read(self, places: Tensor, lengths: Tensor) -> Tensor:
        return lengths - 1 - places


@TASKS.register("offset")
class Offset(Moving):
    """The source from its token k on, and then its beginning: target i is source (i + k) modulo the length.

    Args:
        offset: k.
        length, shortest, symbols, form: see `Moving`.
    """

    def __init__(
        self,
        *,
        offset: int = 3,
        length: int = 8,
        shortest: int | None = None,
        symbols: int = 16,
        form: Form = "decoder",
    ) -> None:
        super().__init__(length=length, shortest=shortest, symbols=symbols, form=form)
        at_least(0, offset=offset)
        self.offset = offset

    def read(self, places: Tensor, lengths: Tensor) -> Tensor:
        return (places + self.offset) % lengths


@TASKS.register("delay")
class Delay(Task):
    """A running copy at an offset: at each token, the one `delay` before it is asked for; no separator.

        delay 2   tokens  a b c d e     labels  - - a b c

    Args:
        delay: how far back; 0 = the token itself.
        length: tokens.
        symbols: different symbols there are.
    """

    best = 0.0

    def __init__(self, *, delay: int = 3, length: int = 32, symbols: int = 16) -> None:
        at_least(1, length=length, symbols=symbols)
        at_least(0, delay=delay)
        at_most(length - 1, "less than the length", delay=delay)
        self.delay, self.length, self.symbols = delay, length, symbols
        self.vocab = FIRST + symbols

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        tokens = FIRST + whole(uniform(count, self.length, generator), self.symbols)
        labels = torch.full_like(tokens, IGNORED)
        labels[:, self.delay :] = tokens[:, : self.length - self.delay]
        return Samples(tokens, labels)


@TASKS.register("retrieve")
class Retrieve(Task):
    """The token at a distance: after the source comes a number d, and the d-th token from its end is asked for.

        form decoder           tokens  a b c d <2>      labels  - - - - c
        form encoder_decoder   source  a b c d     tokens  <2>     labels  c

    Ids: 0 padding, 1 not used, 2 to `symbols` + 1 the symbols, then the distances 1 to `length`.

    Args:
        length: tokens of the source.
        symbols: different symbols there are.
        distance: always this one, 1 = the last token; None = any, equally likely.
        form: one sequence for a decoder-only model, or source and target for an encoder-decoder.
    """

    best = 0.0

    def __init__(
        self, *, length: int = 16, symbols: int = 16, distance: int | None = None, form: Form = "decoder"
    ) -> None:
        at_least(1, length=length, symbols=symbols, distance=distance)
        at_most(length, "the length", distance=distance)
        self.length, self.symbols, self.distance, self.form = length, symbols, distance, form
        self.vocab = FIRST + symbols + length

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        numbers = uniform(count, self.length + 1, generator)
        source = FIRST + whole(numbers[:, 1:], self.symbols)  # (batch, length)
        back = 1 + whole(numbers[:, :1], self.length)  # (batch, 1)
        if self.distance is not None:
            back = torch.full_like(back, self.distance)
        asked, question = source.gather(1, self.length - back), FIRST + self.symbols - 1 + back
        if self.form == "encoder_decoder":
            return Samples(question, asked, source=source)
        tokens = torch.cat((source, question), dim=1)  # (batch, length + 1)
        return Samples(tokens, functional.pad(asked, (self.length, 0), value=IGNORED))
