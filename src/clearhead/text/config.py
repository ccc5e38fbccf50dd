"""The tokenizer section of a recipe, and the doorway from it to trained tokenizers."""

from collections.abc import Iterable

from pydantic import model_validator

from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice, choice_of
from clearhead.text.base import TOKENIZERS
from clearhead.text.tokenizer import Tokenizer


class TokenizerConfig(Section):
    """Either `joint`, one vocabulary for both languages, or one each: `source` and `target`.

    In a recipe `joint: {kind: byte_bpe, vocab_size: 8000}`, or `source: char` and `target: byte_bpe`.
    """

    joint: choice_of(TOKENIZERS) | None = None  # type: ignore[valid-type]
    source: choice_of(TOKENIZERS) | None = None  # type: ignore[valid-type]
    target: choice_of(TOKENIZERS) | None = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _one_way(self) -> "TokenizerConfig":
        given = [name for name in ("joint", "source", "target") if getattr(self, name) is not None]
        if given not in (["joint"], ["source", "target"]):
            found = " and ".join(given) or "neither"
            raise ConfigError("one vocabulary or two", found=found, expected="joint, or source and target")
        return self

    @property
    def sides(self) -> tuple[Choice, Choice]:
        """The choice for the source and the one for the target; the same object where they share a vocabulary."""
        return self.source or self.joint, self.target or self.joint  # type: ignore[return-value]


def train_tokenizer(choice: Choice | str, texts: Iterable[str]) -> Tokenizer:
    """Train the chosen kind on a corpus; a TokenizerError where the corpus does not allow it."""
    if isinstance(choice, str):
        choice = Choice(kind=choice)
    return TOKENIZERS.build(choice).train(texts)
