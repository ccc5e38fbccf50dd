"""The model files of SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226), read without its library.

Such a file is one protocol buffer message: fields, each a number and a kind of value, then the value
(https://protobuf.dev/programming-guides/encoding).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clearhead.core.errors import TokenizerError

Field = tuple[int, int | bytes]  # its number; a whole number, or the bytes of anything else

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # kinds of values
PIECES, TRAINER, NORMALIZER = 1, 2, 3  # fields of the file
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of pieces
UNIGRAM = 1  # a model_type


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float  # log-probability in nats
    type: int


@dataclass(frozen=True)
class PieceModel:
    """What a file says; the defaults are those of SentencePiece for what a file leaves out."""

    pieces: tuple[Piece, ...]
    model_type: int = UNIGRAM
    charsmap: bytes = b""  # rules of normalisation, compiled; empty = none
    dummy_prefix: bool = True  # a blank before each text
    single_blanks: bool = True  # runs of blanks become one, and none is left at the ends


def read_pieces(path: Path) -> PieceModel:
    """Read a model file; a TokenizerError if it is missing, cut off or something else."""
    try:
        fields = list(_fields(path.read_bytes()))
        pieces = tuple(_piece(value) for number, value in fields if number == PIECES)
        trainer, normalizer = ({k: v for n, each in fields if n == part for k, v in _fields(each)} for part in PARTS)
        model = PieceModel(
            pieces=pieces,
            model_type=_whole(trainer.get(3, UNIGRAM)),
            charsmap=_raw(normalizer.get(2, b"")),
            dummy_prefix=bool(normalizer.get(3, 1)),
            single_blanks=bool(normalizer.get(4, 1)),
        )
    except OSError as problem:
        raise TokenizerError("cannot be read", where=path, found=problem.strerror) from None
    except (ValueError, IndexError, struct.error) as problem:
        raise TokenizerError("not a model of SentencePiece, or cut off", where=path, found=str(problem)) from None
    if not pieces:
        raise TokenizerError("a model of SentencePiece without pieces", where=path)
    return model


PARTS = (TRAINER, NORMALIZER)


def _piece(message: int | bytes) -> Piece:
    values = dict(_fields(message))
    (score,) = struct.unpack("<f", _raw(values.get(2, bytes(4))))
    return Piece(_raw(values.get(1, b"")).decode(), score, _whole(values.get(3, NORMAL)))


def _fields(message: int | bytes) -> Iterator[Field]:
    """The fields of a message, in their order."""
    data, place = _raw(message), 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        size, place = _size(data, place, kind)
        if place + size > len(data):
            raise ValueError(f"field {number} reaches beyond the end")
        yield number, data[place : place + size]
        place += size


def _size(data: bytes, place: int, kind: int) -> tuple[int, int]:
    """How many bytes the value takes, and where it begins."""
    if kind == BYTES:
        return _varint(data, place)
    if kind not in (FIXED32, FIXED64):
        raise ValueError(f"a value of kind {kind}")
    return (4 if kind == FIXED32 else 8), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Seven bits in each byte, the lowest first; the eighth says that there are more."""
    value, shift = 0, 0
    while data[place] & 0x80:
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | data[place] << shift, place + 1


def _raw(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return value


def _whole(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number is expected")
    return value
