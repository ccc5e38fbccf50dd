"""What every kind of tokenizer offers: `train(texts) -> Tokenizer`, and the steps that the kinds share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from clearhead.core.errors import TokenizerError
from clearhead.core.registry import Registry
from clearhead.text.tokenizer import Tokenizer, well_formed


class TokenizerKind(ABC):
    """A way to make a tokenizer; its options are the keyword-only parameters of `__init__`, which only stores."""

    learns: ClassVar[bool] = True  # False: the vocabulary is the same whatever the corpus
    exact: ClassVar[bool] = True  # False: the option `vocab_size` is the largest size, not the size

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn a vocabulary from a corpus, which is read once; the same corpus gives the same tokenizer.

        Raises:
            TokenizerError: an empty corpus, or a vocabulary larger or smaller than the corpus allows.
        """


TOKENIZERS: Registry[TokenizerKind] = Registry("tokenizer")


def corpus(texts: Iterable[str]) -> Iterator[str]:
    """The texts one by one, each fit to be encoded; a TokenizerError for no text, or one in place of many."""
    if isinstance(texts, str):
        raise TokenizerError("one string is not a corpus", expected="an iterable of strings", remedy="pass [text]")
    empty = True
    for text in texts:
        empty = empty and not (isinstance(text, str) and text.strip())
        yield well_formed(text)
    if empty:
        raise empty_corpus()


def empty_corpus() -> TokenizerError:
    return TokenizerError("cannot learn a vocabulary from an empty corpus", remedy="check the path and the columns")


def finished(backend: Backend, special: Sequence[str]) -> Tokenizer:
    """Mark the special tokens and wrap the backend. They are in its vocabulary already, so their ids stay."""
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return Tokenizer(backend)


def require_size(asked: int, reached: int, min_frequency: int = 1) -> None:
    """Refuse a vocabulary that the corpus could not fill."""
    if reached < asked:
        frequent, lower = (
            (f" with min_frequency {min_frequency}", " or lower min_frequency") if min_frequency > 1 else ("", "")
        )
        raise TokenizerError(
            "the corpus is too small for this vocabulary",
            found=f"vocab_size {asked:,}",
            expected=f"at most {reached:,} tokens{frequent}",
            remedy=f"set vocab_size to {reached}{lower}",
        )


def require_room(asked: int, least: int) -> None:
    """Refuse a vocabulary that cannot hold even the special tokens and the single characters."""
    if asked < least:
        raise TokenizerError(
            "this vocabulary cannot hold the special tokens and the single characters",
            found=f"vocab_size {asked:,}",
            expected=f"at least {least:,}",
            remedy=f"set vocab_size to {least} or more",
        )
