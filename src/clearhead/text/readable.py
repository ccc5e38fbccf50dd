"""Tokens as a reader should see them: blanks visible, bytes that are no character as numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from unicodedata import east_asian_width

from clearhead.text.alphabet import byte_alphabet
from clearhead.text.tokenizer import Tokenizer

BLANK = "␣"
VISIBLE = {" ": BLANK, "\n": "⏎", "\t": "⇥", "▁": BLANK}
BYTES = {character: value for value, character in enumerate(byte_alphabet())}


@dataclass(frozen=True)
class Piece:
    """One token as a reader should see it."""

    text: str
    kind: Literal["text", "bytes", "special"] = "text"

    @property
    def wide(self) -> bool:
        """True if it holds Chinese, Japanese or Korean letters, which stand upright above a narrow column."""
        return any(east_asian_width(each) in "WF" for each in self.text)


def readable(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Piece]:
    """Each token as text, blanks as ␣; bytes that are no whole character as hexadecimal numbers."""
    in_bytes = "ByteLevel" in repr(tokenizer.backend.decoder)
    return [
        Piece(token, "special") if index in tokenizer.special_ids else _from_bytes(token) if in_bytes else _plain(token)
        for index, token in zip(ids, tokenizer.tokens(ids), strict=True)
    ]


def _from_bytes(token: str) -> Piece:
    if not all(character in BYTES for character in token):
        return _plain(token)  # an added token is written as it is
    raw = bytes(BYTES[character] for character in token)
    try:
        return Piece(_visible(raw.decode()))
    except UnicodeDecodeError:
        return Piece(raw.hex(" ").upper(), "bytes")


def _plain(token: str) -> Piece:
    single = re.fullmatch(r"<0x([0-9A-F]{2})>", token)  # how a vocabulary with byte fallback writes a byte
    return Piece(single[1], "bytes") if single else Piece(_visible(token.replace("</w>", BLANK)))


def _visible(text: str) -> str:
    shown = (VISIBLE.get(each) or (each if each.isprintable() else f"U+{ord(each):04X}") for each in text)
    return "".join(shown)
