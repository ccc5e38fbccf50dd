"""Translation pairs: sentences of the small English and their exact translations into an invented language.

Ids: 0 padding, 1 start, 2 end, then the English words, then the invented ones; one vocabulary serves both sides.
"""

from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from clearhead.core.seeds import derive
from clearhead.data.synthetic import pcfg
from clearhead.data.synthetic import small_english as english
from clearhead.data.synthetic.base import TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, at_most, uniform, whole
from clearhead.data.synthetic.invented import invented_words, translate
from clearhead.data.synthetic.pairs import Form, rows, shaped

Split = Literal["train", "valid", "test"]
Pair = tuple[tuple[str, ...], tuple[str, ...]]  # English words, invented words

FIRST = 3
SHORTEST, LONGEST = 5, 15  # tokens of either side, full stop and end included
HELD_OUT = 1_000  # pairs of valid, and of test
CHUNK = 4_096  # sentences drawn at a time


@TASKS.register("toy_mt")
class ToyMT(Task):
    """A fixed set of pairs of 5 to 15 tokens, all different; examples are drawn from it with replacement.

        form encoder_decoder  source  the cow rests .   tokens  <start> cow rest   labels  cow rest <end>
        form decoder          tokens  the cow rests . <start> cow rest             labels  - - - - cow rest <end>

    Test and valid have 1,000 pairs each, the same for every number of training pairs; a smaller training set is the
    beginning of a larger one; no English sentence is in two splits. The translation is certain, so the best loss is 0.

    Args:
        pairs: of the training set.
        split: which set to draw from.
        form: source and target for an encoder-decoder, or one sequence for a decoder-only model.
        seed: of the sets.
    """

    best = 0.0

    def __init__(
        self, *, pairs: int = 4_000, split: Split = "train", form: Form = "encoder_decoder", seed: int = 0
    ) -> None:
        at_least(1, pairs=pairs)
        at_most(100_000, "or drawing takes too long", pairs=pairs)
        self.form, self.words = form, vocabulary()
        self.vocab = FIRST + len(self.words)
        self.pairs = split_pairs(split, pairs, seed)
        self._all = shaped(*_ids(self.pairs), (LONGEST, LONGEST), form)

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        return rows(self._all, whole(uniform(count, 1, generator)[:, 0], len(self.pairs)))

    def all(self) -> Samples:
        """Every pair of the split once, in a fixed order."""
        return self._all

    def text(self, tokens: Tensor) -> str:
        """The words of one row of ids, of either language; padding, start and end are left out."""
        return " ".join(self.words[each - FIRST] for each in tokens.tolist() if each >= FIRST)


@cache
def vocabulary() -> tuple[str, ...]:
    """The words of both languages; an invented word that looks like an English one is a word of its own."""
    return english.words() + tuple(dict.fromkeys(invented_words()))


def split_pairs(split: Split, pairs: int, seed: int) -> tuple[Pair, ...]:
    """The pairs of a split."""
    if split == "train":
        return _corpus(2 * HELD_OUT + pairs, seed)[2 * HELD_OUT :]
    start = {"test": 0, "valid": HELD_OUT}[split]
    return _corpus(2 * HELD_OUT, seed)[start : start + HELD_OUT]


@cache
def _corpus(count: int, seed: int) -> tuple[Pair, ...]:
    return tuple(islice(_pairs(seed), count))


def _pairs(seed: int) -> Iterator[Pair]:
    """Different sentences with their translations, in the order of the grammar's draws."""
    seen = set[tuple[str, ...]]()
    for sentence in _sentences(seed):
        if sentence not in seen and len(sentence) >= SHORTEST:
            seen.add(sentence)
            pair = sentence, _translation(sentence)
            if all(SHORTEST <= each <= LONGEST for each in (len(sentence), len(pair[1]) + 1)):
                yield pair


def _sentences(seed: int) -> Iterator[tuple[str, ...]]:
    generator = torch.Generator().manual_seed(derive(seed, "toy_mt"))
    words, automaton = english.words(), pcfg.automaton()
    longest = automaton.longest()
    while True:
        for row in automaton.draw(uniform(CHUNK, longest, generator), restart=False).tolist():
            yield tuple(words[each - pcfg.FIRST] for each in row if each)


def _translation(sentence: tuple[str, ...]) -> tuple[str, ...]:
    tree = english.parse(sentence)
    assert tree is not None, sentence
    return tuple(translate(tree))


def _ids(pairs: tuple[Pair, ...]) -> tuple[list[list[int]], list[list[int]]]:
    """Sources and targets."""
    count = len(english.words())
    english_ids, invented_ids = (
        {word: first + place for place, word in enumerate(words)}
        for first, words in ((FIRST, vocabulary()[:count]), (FIRST + count, vocabulary()[count:]))
    )
    sources = [[english_ids[word] for word in source] for source, _ in pairs]
    return sources, [[invented_ids[word] for word in target] for _, target in pairs]
