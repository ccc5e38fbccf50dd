"""A share of a corpus: where no files of their own are set aside for validation, or for a trial."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from clearhead.core.errors import ConfigError
from clearhead.core.registry import choice_of
from clearhead.data.corpora.base import CORPORA, Document

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Inner = choice_of(CORPORA)


@CORPORA.register("part")
class Part:
    """A stretch of a corpus by position, counted in characters: `{kind: part, of: ..., stop: 0.9}` is the first 90 %.

    A document that a border cuts has a part on each side. The corpus is read once more, to count its characters.
    """

    def __init__(self, folder: Path, *, of: Inner, start: Share = 0.0, stop: Share = 1.0) -> None:  # type: ignore[valid-type]
        require_order(start, stop)
        self.corpus, self.start, self.stop = CORPORA.build(of, folder), start, stop

    def __iter__(self) -> Iterator[Document]:
        total = sum(len(each.text) for each in self.corpus)
        first, last, place = int(total * self.start), int(total * self.stop), 0
        for each in self.corpus:
            text = each.text[max(0, first - place) : max(0, last - place)]
            if text:
                yield Document(text, each.where, last=each.last or place + len(each.text) >= last)
            place += len(each.text)
            if place >= last:
                return


@CORPORA.register("first")
class First:
    """The first so many characters of a corpus, up to the end of a document or of a piece of one; no more is read."""

    def __init__(self, folder: Path, *, of: Inner, characters: PositiveInt) -> None:  # type: ignore[valid-type]
        self.corpus, self.characters = CORPORA.build(of, folder), characters

    def __iter__(self) -> Iterator[Document]:
        left = self.characters
        for each in self.corpus:
            left -= len(each.text)
            yield each if left > 0 else replace(each, last=True)
            if left <= 0:
                return


@CORPORA.register("share")
class ShareOf:
    """Documents whose hash falls between two shares: `start: 0.9` holds back a tenth, whatever the order.

    Equal texts are always on the same side; of a document in several pieces the first piece decides.
    """

    def __init__(self, folder: Path, *, of: Inner, start: Share = 0.0, stop: Share = 1.0) -> None:  # type: ignore[valid-type]
        require_order(start, stop)
        self.corpus, self.start, self.stop = CORPORA.build(of, folder), start, stop

    def __iter__(self) -> Iterator[Document]:
        inside = False
        begins = True
        for each in self.corpus:
            if begins:
                inside = self.start <= _place(each.text) < self.stop
            if inside:
                yield each
            begins = each.last


def _place(text: str) -> float:
    """A number from 0 up to 1 that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def require_order(start: float, stop: float) -> None:
    if start >= stop:
        raise ConfigError(
            "this share of a corpus is empty", found=f"start {start}, stop {stop}", expected="start < stop"
        )
