"""What a question of the lab is: claims on trial, a prediction, measurements, a picture and a verdict for each claim.

A question is one file in `questions/<shelf>/` with one registration. Its constants are written before it runs; `judge`,
`answer` and `draw` see nothing but the rows, so that no number is ever typed by hand.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from matplotlib.figure import Figure

from clearhead.core.registry import Registry
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale

TOPICS = ("attention", "masks", "positions", "norm-residual", "numerics")


@dataclass(frozen=True)
class Text:
    """The same words for English and for Chinese readers."""

    en: str
    zh: str


@dataclass(frozen=True)
class Source:
    """A numbered item of a document in which a question is asked or a claim made; see `documents.py`."""

    document: str  # "000" to "004"
    item: str  # as it is numbered there, e.g. "1.3(2)1)"


@dataclass(frozen=True)
class Claim:
    """One statement on trial, in our own words."""

    key: str  # short name, e.g. "vanishing"; `judge` answers by it
    text: Text
    source: Source
    note: Text | None = None  # what is imprecise about it before anything is measured


class Verdict(str, Enum):
    """What the criterion says of a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    DEPENDS = "depends"  # it changes with a condition, which the evidence names
    INCONCLUSIVE = "inconclusive"  # the criterion could not decide with the seeds that ran


@dataclass(frozen=True)
class Judgement:
    """A verdict and the numbers it rests on, computed from the rows."""

    verdict: Verdict
    evidence: Text


@dataclass(frozen=True)
class Answer:
    """What a reader takes home; numbers are computed from the rows."""

    short: Text  # a few plain sentences
    imprecise: Text  # what was wrong or imprecise in the claims
    limits: Text  # how far the evidence reaches: sizes, seeds, what was not tried
    caption: Text  # of the picture


class Question(ABC):
    """One question, put to the package's own parts."""

    topic: ClassVar[str]
    title: ClassVar[Text]
    sources: ClassVar[tuple[Source, ...]]  # every item that asks this
    claims: ClassVar[tuple[Claim, ...]]
    prediction: ClassVar[Text]  # written before the first run, with its reason
    criterion: ClassVar[Text]  # fixed in advance: which numbers make which verdict
    parts: ClassVar[tuple[str, ...]]  # the code on trial, e.g. "clearhead.model.attention.dot:Dot"
    references: ClassVar[tuple[str, ...]]  # papers with sections
    timed: ClassVar[tuple[str, ...]] = ()  # values of `part` whose cells measure time: nothing may run beside them

    @abstractmethod
    def cells(self, scale: Scale) -> Iterable[Cell]:
        """The independent pieces of the experiment: conditions and seeds, plain values only."""

    @abstractmethod
    def measure(self, cell: Cell) -> Iterable[Row]:
        """Measure one piece; the conditions of the cell are added to each row by the runner."""

    @abstractmethod
    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        """A judgement for each claim, by its key."""

    @abstractmethod
    def answer(self, rows: Rows) -> Answer:
        """The answer in words."""

    @abstractmethod
    def draw(self, rows: Rows) -> Figure:
        """One picture that makes the point without the text."""


QUESTIONS: Registry[Question] = Registry("question")
