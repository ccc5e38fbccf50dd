"""The doorway of the reading family: how a corpus of ids becomes rows of a fixed length."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Registry
from clearhead.data.corpora import Document
from clearhead.data.store import Ids
from clearhead.data.token_corpus import TokenCorpus, Unit, whole_documents

Plan = Any  # where a row is found; small, so that an order can be walked without reading
Row = Any  # what the objectives of this reading collate: for most a list of pieces, each an array of ids


@dataclass(frozen=True)
class Frame:
    """What stands around the tokens of a row."""

    bos: int  # id before the first token of a document
    shift: int = 0  # tokens that a piece holds beyond what the model reads: 1 where labels are the next tokens
    room: int = 0  # tokens that the objective will add to each piece


class Reading:
    """One way to read a corpus in rows. Wiring: the corpus and the frame.

    An order is a function of a generator alone, so a run can go on at any batch of any epoch.
    """

    close: ClassVar[bool] = True  # the eos token stands at the end of each sequence

    def __init__(self, corpus: TokenCorpus, frame: Frame, *, length: PositiveInt = 256) -> None:
        self.corpus, self.frame, self.length = corpus, frame, length
        if length - frame.room < 1:
            raise ConfigError("rows of this length have no room for text", found=f"length {length}")

    @staticmethod
    def units(document: Document) -> list[Unit]:
        """How a document is cut into sequences when it is encoded."""
        return whole_documents(document)

    def epoch(self, random: np.random.Generator) -> Iterator[Plan]:
        """The rows of one epoch in the order of training."""
        raise NotImplementedError

    def once(self) -> Iterator[Plan]:
        """Rows that together hold everything exactly once, the same ones every time: for validation."""
        raise NotImplementedError

    def row(self, plan: Plan) -> Row:
        """Read one row."""
        raise NotImplementedError


READINGS: Registry[Reading] = Registry("reading")

Pieces = list[Ids]  # a row of text: parts of documents, none of which may see another
