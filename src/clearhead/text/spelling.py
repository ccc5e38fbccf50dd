"""The bytes that each token adds to a text; what constrained generation asks of a vocabulary."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from clearhead.core.errors import TokenizerError
from clearhead.text.alphabet import byte_alphabet
from clearhead.text.tokenizer import Tokenizer

Spell = Callable[[str], bytes]
ENDS = {"Strip", "Fuse"}  # decoders that change nothing inside a text


def spelling(tokenizer: Tokenizer) -> list[bytes | None]:
    """What each id adds inside a text, (vocab_size,); None for special tokens and ids without a token.

    At the ends of a text a tokenizer may take a blank away, for which these bytes have one.

    Raises:
        TokenizerError: what a token adds depends on its neighbours, as in `wordpiece` and `bpe`.
    """
    spell = _speller(json.loads(tokenizer.to_json()).get("decoder"))
    added = set(tokenizer.backend.get_added_tokens_decoder())
    spelled: list[bytes | None] = [None] * tokenizer.vocab_size
    for token, index in tokenizer.vocabulary().items():
        if index not in tokenizer.special_ids:
            spelled[index] = token.encode() if index in added else spell(token)
    return spelled


def _speller(decoder: dict[str, Any] | None) -> Spell:
    """From a token as the vocabulary writes it to its bytes, by the kinds of its decoder."""
    kinds = [each for each in _flat(decoder) if each["type"] not in ENDS]
    names = {each["type"] for each in kinds}
    if names == {"ByteLevel"}:
        values = {character: byte for byte, character in enumerate(byte_alphabet())}
        return lambda token: bytes(values[each] for each in token)
    if names <= {"Metaspace", "Replace", "ByteFallback"}:
        replaced = dict(pair for each in kinds for pair in _replacements(each))
        return lambda token: _plain(token, replaced, bytewise="ByteFallback" in names)
    found = ", ".join(sorted(names))
    remedy = "use a byte_bpe, byte, unigram or char tokenizer"
    raise TokenizerError("tokens without bytes of their own", found=f"a decoder of {found}", remedy=remedy)


def _flat(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is not None and decoder["type"] == "Sequence":
        for each in decoder["decoders"]:
            yield from _flat(each)
    elif decoder is not None:
        yield decoder


def _replacements(decoder: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if decoder["type"] == "Metaspace":
        yield decoder["replacement"], " "
    elif decoder["type"] == "Replace" and "String" in decoder["pattern"]:  # expressions clean the ends of a text
        yield decoder["pattern"]["String"], decoder["content"]


def _plain(token: str, replaced: dict[str, str], *, bytewise: bool) -> bytes:
    if bytewise and re.fullmatch("<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    for old, new in replaced.items():
        token = token.replace(old, new)
    return token.encode()
