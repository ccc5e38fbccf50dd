"""The embedded Chinese-English corpus of the package, character by character."""

from functools import cache
from typing import Literal

import torch
from torch import Tensor

from clearhead.core.errors import DataError
from clearhead.data.grammar import Example, Split, embedded_pairs
from clearhead.data.synthetic.base import TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, uniform, whole
from clearhead.data.synthetic.pairs import Form, rows, shaped

UNKNOWN, FIRST = 3, 4
HELD_OUT = 300  # pairs of valid, and of test: they are found slowly

Language = Literal["en", "zh"]


@cache
def corpus(split: Split, count: int) -> tuple[Example, ...]:
    """The first `count` pairs of train, or the `HELD_OUT` first ones of valid and test."""
    return tuple(embedded_pairs(split, count if split == "train" else HELD_OUT))


@cache
def alphabet(count: int, languages: tuple[Language, ...]) -> tuple[str, ...]:
    """The characters of so many training sentences, a line break among them, by code point."""
    texts = (getattr(pair, language) for pair in corpus("train", count) for language in languages)
    return tuple(sorted({"\n", *(character for text in texts for character in text)}))


class _Characters(Task):
    """Characters as ids. 0 padding, 1 start, 2 end, 3 a character that the training set does not have."""

    def __init__(self, count: int, languages: tuple[Language, ...]) -> None:
        at_least(1, sentences=count)
        self.characters = alphabet(count, languages)
        self.vocab = FIRST + len(self.characters)
        self._numbers = {character: FIRST + place for place, character in enumerate(self.characters)}

    def ids(self, text: str) -> list[int]:
        """One id for each character."""
        return [self._numbers.get(character, UNKNOWN) for character in text]

    def text(self, tokens: Tensor) -> str:
        """The characters of one row of ids; padding, start and end are left out, an unknown one is \ufffd."""
        known = (each for each in tokens.tolist() if each >= UNKNOWN)
        return "".join(self.characters[each - FIRST] if each >= FIRST else "\ufffd" for each in known)


@TASKS.register("text")
class Text(_Characters):
    """Running text, one sentence a line: windows that begin anywhere; each next character is asked for.

    Args:
        length: characters of a window.
        language: en or zh.
        sentences: of train, which also give the alphabet; 1,000 have about 40,000 English characters, or 12,000
            Chinese ones. The corpus is drawn once, in about a second for each 3,000.
        split: of the embedded corpus; valid and test have 300 sentences that put words together as train never does.

    Raises:
        DataError: the text is shorter than a window.
    """

    def __init__(
        self, *, length: int = 64, language: Language = "en", sentences: int = 1_000, split: Split = "train"
    ) -> None:
        super().__init__(sentences, (language,))
        at_least(1, length=length)
        self.length = length
        lines = (f"{getattr(pair, language)}\n" for pair in corpus(split, sentences))
        self.whole = torch.tensor(self.ids("".join(lines)))
        if len(self.whole) <= length:
            found = f"{len(self.whole)} characters"
            raise DataError("the text is shorter than a window", found=found, remedy="ask for more sentences")

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        first = whole(uniform(count, 1, generator), len(self.whole) - self.length)  # (batch, 1)
        window = self.whole[first + torch.arange(self.length + 1)]  # (batch, length + 1)
        return Samples(window[:, :-1], window[:, 1:])


@TASKS.register("text_pairs")
class TextPairs(_Characters):
    """Sentences with their translations, drawn with replacement from a fixed set; one alphabet serves both sides.

    Args:
        languages: from which to which.
        sentences: pairs of train, which also give the alphabet, before long ones are left out.
        longest: characters of either side; a pair with a longer one is left out.
        split: of the embedded corpus; valid and test have 300 pairs before long ones are left out.
        form: source and target for an encoder-decoder, or one sequence for a decoder-only model.

    Raises:
        DataError: no pair is short enough.
    """

    def __init__(
        self,
        *,
        languages: Literal["zh-en", "en-zh"] = "zh-en",
        sentences: int = 1_000,
        longest: int = 48,
        split: Split = "train",
        form: Form = "encoder_decoder",
    ) -> None:
        super().__init__(sentences, ("en", "zh"))
        at_least(1, longest=longest)
        first, second = languages.split("-")
        pairs = ((getattr(pair, first), getattr(pair, second)) for pair in corpus(split, sentences))
        self.pairs = tuple(pair for pair in pairs if max(map(len, pair)) <= longest)
        if not self.pairs:
            raise DataError("no pair is short enough", found=f"longest {longest}", remedy="set it higher")
        sources, targets = ([self.ids(text) for text in side] for side in zip(*self.pairs, strict=True))
        self._all = shaped(sources, targets, (longest, longest + 1), form)

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        return rows(self._all, whole(uniform(count, 1, generator)[:, 0], len(self.pairs)))

    def all(self) -> Samples:
        """Every pair once, in a fixed order."""
        return self._all
