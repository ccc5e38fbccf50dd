"""Text of a small probabilistic grammar of English: about 200 words, agreement, affixes, five topics.

Ids: 0 padding, 1 start, 2 is never drawn (free for a mask), then the words. See `small_english` for the grammar and
`automaton` for why the entropies are exact.
"""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from clearhead.data.synthetic import small_english as english
from clearhead.data.synthetic.automaton import Automaton
from clearhead.data.synthetic.base import IGNORED, TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, uniform, whole

START, MASK, FIRST = 1, 2, 3


@cache
def ids() -> dict[str, int]:
    """Word → id."""
    return {word: FIRST + place for place, word in enumerate(english.words())}


@cache
def automaton() -> Automaton:
    """The grammar, compiled once."""
    return Automaton(english.rules(), "S", ids(), FIRST + len(ids()))


class Grammatical(Task):
    """What the tasks with this grammar share."""

    def __init__(self) -> None:
        self.vocab = FIRST + len(ids())

    def text(self, tokens: Tensor) -> str:
        """The words of one row of ids; start, mask and padding are left out."""
        return " ".join(english.words()[each - FIRST] for each in tokens.tolist() if each >= FIRST)

    def derivations(self, tokens: Tensor) -> list[english.Tree]:
        """The trees of the whole sentences in one row of ids, in their order."""
        sentences = self.text(tokens).split(" .")[:-1]
        trees = (english.parse((*sentence.split(), ".")) for sentence in sentences)
        return [tree for tree in trees if tree is not None]


@TASKS.register("pcfg")
class Pcfg(Grammatical):
    """Running text for language models: windows that begin with a sentence and may end within one.

        tokens  <start> the cows milked a hen . many     labels  the cows milked a hen . many boats

    `best` is exact: the entropy of such a window for each of its tokens.

    Args:
        length: tokens of a window.
    """

    def __init__(self, *, length: int = 32) -> None:
        super().__init__()
        at_least(1, length=length)
        self.length = length
        self.best = automaton().nats_of_text(length)

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        labels = automaton().draw(uniform(count, self.length, generator), restart=True)
        return Samples(_started(labels)[:, :-1], labels)

    def log_probabilities(self, samples: Samples) -> Tensor:
        """(batch, length) float64: what the grammar says of each label, given all words before it."""
        return automaton().log_probabilities(samples.labels, restart=True)


class _Sentences(Grammatical):
    def __init__(self) -> None:
        super().__init__()
        self.length = 1 + automaton().longest()

    def _words(self, uniforms: Tensor) -> Tensor:
        """(batch, length - 1): a sentence in each row, padded."""
        return automaton().draw(uniforms, restart=False)


@TASKS.register("pcfg_sentences")
class PcfgSentences(_Sentences):
    """Single sentences with padding; each next word is asked for, the full stop is the last one.

        tokens  <start> the hen rests . 0 0     labels  the hen rests . - - -

    `best` is exact: the entropy of a sentence by its mean number of words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.best = automaton().nats_of_sentences()

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        words = self._words(uniform(count, self.length - 1, generator))
        tokens = _started(words)
        labels = functional.pad(words.where(words != 0, IGNORED), (0, 1), value=IGNORED)
        return Samples(tokens, labels, tokens != 0)

    def log_probabilities(self, samples: Samples) -> Tensor:
        """(batch, length) float64: what the grammar says of each label given all words before it, 0 where not asked."""
        words = samples.labels.where(samples.labels != IGNORED, 0)
        return automaton().log_probabilities(words, restart=False)


@TASKS.register("pcfg_topics")
class PcfgTopics(_Sentences):
    """Single sentences with padding; the topic of each is its label.

    A sentence that has no word of a topic leaves all topics equally likely, so `best` is the share of such
    sentences times the logarithm of the number of topics, which is exact.
    """

    def __init__(self) -> None:
        super().__init__()
        self.classes = len(english.TOPICS)
        topics = [None, *english.TOPICS]
        self._topic = torch.tensor([-1] * FIRST + [topics.index(english.topic_of(word)) - 1 for word in ids()])
        neutral = [number for word, number in ids().items() if english.topic_of(word) is None]
        self.best = automaton().share_within(neutral) * math.log(self.classes)

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        numbers = uniform(count, self.length, generator)
        tokens = _started(self._words(numbers[:, 1:]))
        told = self._topic[tokens].amax(dim=1)  # (batch,)
        labels = told.where(told >= 0, whole(numbers[:, 0], len(english.TOPICS)))
        return Samples(tokens, labels, tokens != 0)


def _started(words: Tensor) -> Tensor:
    return functional.pad(words, (1, 0), value=START)
