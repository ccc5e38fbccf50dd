"""What single tokens look like: for people, and as bytes."""

from functools import cached_property

from clearhead.core.errors import TokenizerError
from clearhead.text import Tokenizer
from clearhead.text.spelling import spelling


class Pieces:
    """The text and the bytes of each token of a vocabulary.

    Args:
        tokenizer: of the texts.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def text(self, token: int) -> str:
        """What a token writes; a special one as the vocabulary has it, a part of a character as U+FFFD."""
        if not 0 <= token < self._tokenizer.vocab_size:  # a row of the model's matrix that no token has
            return f"<{token}>"
        if token in self._tokenizer.special_ids:
            return self._tokenizer.tokens([token])[0]
        known = self._spelled[token] if self._spelled else None
        return self._tokenizer.decode([token]) if known is None else known.decode(errors="replace")

    def octets(self, token: int) -> list[int]:
        """The bytes that a token adds to a text."""
        known = self._spelled[token] if 0 <= token < len(self._spelled) else None
        return list(self.text(token).encode() if known is None else known)

    @cached_property
    def _spelled(self) -> list[bytes | None]:
        """The bytes of all tokens; none where they depend on their neighbours."""
        try:
            return spelling(self._tokenizer)
        except TokenizerError:
            return []
