"""The tokenizer section of a recipe, and the doorway from it to trained tokenizers."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import model_serializer, model_validator

from clearhead.core.recipe import Section
from clearhead.core.registry import Choice, choice_of
from clearhead.text.base import TOKENIZERS
from clearhead.text.tokenizer import Tokenizer


class TokenizerConfig(Section):
    """Which tokenizer, and whether the two sides of a translation share it.

    In a recipe flat, `{kind: byte_bpe, vocab_size: 8000, joint: true}`, or just `byte_bpe`.
    """

    choice: choice_of(TOKENIZERS) = Choice(kind="byte_bpe")  # type: ignore[valid-type]
    joint: bool = True  # one vocabulary for source and target; without effect where there is one side

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, value: object) -> object:
        if isinstance(value, str):
            return {"choice": value}
        if isinstance(value, dict) and "kind" in value:
            options = {key: each for key, each in value.items() if key != "joint"}
            return {"choice": options, **({"joint": value["joint"]} if "joint" in value else {})}
        return value

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"kind": self.choice.kind, **self.choice.options, "joint": self.joint}


def train_tokenizer(choice: Choice | str, texts: Iterable[str]) -> Tokenizer:
    """Train the chosen kind on a corpus; a TokenizerError where the corpus does not allow it."""
    if isinstance(choice, str):
        choice = Choice(kind=choice)
    return TOKENIZERS.build(choice).train(texts)


def train_tokenizers(config: TokenizerConfig, sides: Sequence[Iterable[str]]) -> list[Tokenizer]:
    """One tokenizer for each side of a corpus: the same one where the config says `joint`."""
    if config.joint:
        return [train_tokenizer(config.choice, itertools.chain.from_iterable(sides))] * len(sides)
    return [train_tokenizer(config.choice, texts) for texts in sides]
