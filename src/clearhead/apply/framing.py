"""The tokens around a text, as each kind of model was trained to read it."""

import re

from clearhead.apply.completing import beginning, opening
from clearhead.bundle import Bundle
from clearhead.text import Tokenizer


class Framing:
    """From texts to what encoder and decoder read.

    Args:
        bundle: a model with its tokenizers.

    Raises:
        TokenizerError: it came without.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._before, self._after = opening(bundle), _closing(bundle)
        mask = bundle.target.mask
        self.blank = None if mask is None else bundle.target.tokens([mask])[0]  # how a hidden word is written
        added = bundle.target.backend.get_added_tokens_decoder()
        self._gap = " ?" if mask in added and added[mask].lstrip else ""  # a space before it that belongs to it

    def whole(self, text: str) -> list[int]:
        """What an encoder-only model reads; the mask token, written as the vocabulary writes it, is one."""
        tokenizer, blank = self.bundle.target, self.blank
        if blank is None or tokenizer.mask is None:
            inner = tokenizer.encode(text)
        else:
            parts = re.split(f"{self._gap}({re.escape(blank)})", text)
            pieces = [[tokenizer.mask] if part == blank else _encoded(tokenizer, part) for part in parts]
            inner = [index for piece in pieces for index in piece]
        return [*self._before, *inner, *self._after] if inner else []

    def start(self, text: str) -> list[int]:
        """What a decoder-only model reads."""
        return [*self._before, *self.bundle.target.encode(text)]

    def source(self, text: str) -> list[int]:
        """What the encoder of an encoder-decoder reads; no text gives no ids."""
        before, after = self.bundle.source_frame
        inner = self.bundle.source.encode(text)
        return [*before, *inner, *after] if inner else []

    def target(self, text: str) -> list[int]:
        """What its decoder reads."""
        return [*beginning(self.bundle), *self.bundle.target.encode(text)]


def _encoded(tokenizer: Tokenizer, part: str) -> list[int]:
    return tokenizer.encode(part) if part else []


def _closing(bundle: Bundle) -> list[int]:
    """The tokens after a text, by the tokenizer's own template."""
    whole = bundle.target.backend.encode("a", add_special_tokens=True)
    inside = [place for place, added in enumerate(whole.special_tokens_mask) if not added]
    return list(whole.ids[inside[-1] + 1 :]) if inside else []
